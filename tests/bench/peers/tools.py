"""Where a peer's programs are, and what is missing of them."""

from __future__ import annotations

import shutil

_PATH = "/usr/bin:/usr/sbin:/bin:/sbin"
"""Not the environment's: pynetdicom, for one, brings tools of the same names as dcmtk's."""


class PeerMissing(Exception):
    """A peer cannot be measured on this machine; says why."""


def tool(name: str) -> str:
    """The system's program of that name.

    Raises:
        PeerMissing: there is none.
    """
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise PeerMissing(f"{name} is not on this machine")
    return found
