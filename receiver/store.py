"""A study's folder: volumes opened in it, and taken away again where nothing has come of them."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from receiver.compose import GrowingVolume
from receiver.files import remove_series
from receiver.log import NAME, session_of
from shared.errors import DiskError
from shared.folders import own_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from protocol.messages import Manifest

_NAME_DIGITS = 16

REPORT_NAME = "report.json"
"""In a study's folder: how the last session that brought it has ended; none while one does."""
TOKEN_NAME = "api.token"
"""Beside the studies' folders: what a viewer shows to be answered (`receiver.api`)."""


def study_folder(out: Path, manifest: Manifest) -> Path:
    """Where a study is put, named by its own digest."""
    return out / manifest.study.hex()[:_NAME_DIGITS]


def folder_of(out: Path, session: bytes) -> Path | None:
    """Where the log of a session lies; None where there is none. Blocking."""
    for path in out.glob(f"*/{NAME}"):
        if session_of(path) == session:
            return path.parent
    return None


def open_volumes(folder: Path, manifest: Manifest) -> list[GrowingVolume]:
    """Every series of a study, as far as an earlier session has brought it. Blocking.

    Raises:
        OSError: the disk does not take it; it is left as it was.
    """
    own_folder(folder)
    volumes: list[GrowingVolume] = []
    try:
        for number, entry in enumerate(manifest.series, start=1):
            volumes.append(GrowingVolume(folder, f"series-{number}", entry))
    except OSError:
        forget_empty(volumes)
        with suppress(OSError):  # it is not empty
            folder.rmdir()
        raise
    # Of a session before this one: what it says of the study need not hold any more.
    (folder / REPORT_NAME).unlink(missing_ok=True)
    return volumes


def forget_empty(volumes: Sequence[GrowingVolume]) -> None:
    """Give back the room of series of which nothing has come, or peers could fill a disk with them.

    Blocking; the volumes are not used after this.
    """
    for volume in volumes:
        if volume.empty:
            remove_series(volume.files.folder, volume.files.stem)


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """What the clinic's disk does not take ends one session and no other.

    Raises:
        DiskError: instead of an `OSError` inside.
    """
    try:
        yield
    except OSError as error:
        raise DiskError(out, error.strerror or str(error)) from error
