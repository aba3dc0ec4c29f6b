"""``medroi-send pair``: take the string that medroi-recv pair printed, and know that end.

The string is read from standard input or a file, never from the command line, which every user of
the machine can read.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ExitCode, SettingsError
from shared.trust.sites_command import add_folder_flag, folder_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.trust.invitation import Invitation


def pair(words: Sequence[str]) -> ExitCode:
    """Run it.

    Raises:
        MedroiError: the two have not paired.
    """
    from protocol.limits import PROTOCOL_VERSION
    from shared.audit import AuditLog
    from shared.audit_command import SENT
    from shared.folders import state_folder
    from shared.loop import run_on_loop
    from shared.role import Role
    from shared.transports.pairing import Naming, accept
    from shared.trust.proof import Claim
    from shared.trust.sites import read_sites, site_folder
    from shared.trust.sites_command import note_pairing

    options = _parser().parse_args(words)
    folder = site_folder(folder_named(options))
    invitation = _invitation(options.file)
    for site in read_sites(folder):
        if site.invitation == invitation.name:
            raise SettingsError(f"this pairing string was used here already, for {site.name}")
    site = run_on_loop(
        accept(
            invitation,
            Naming(folder, options.name or "", options.replace),
            Claim(Role.SENDER, PROTOCOL_VERSION),
            now_s=time.time(),
        )
    )
    note_pairing(AuditLog(state_folder() / SENT), site)
    print(f"paired with {site.name}: medroi-send STUDY --to {site.name}")
    return ExitCode.OK


def _invitation(path: Path | None) -> Invitation:
    from shared.trust.invitation import MAX_TEXT, read_invitation
    from shared.trust.private_files import read_private

    if path is not None and str(path).startswith("medroi-pair:"):
        raise SettingsError(
            "a pairing string does not go on the command line, where others can read it: pipe it "
            "in, or name a file; this one is to be given up"
        )
    if path is not None and str(path) != "-":
        return read_invitation(read_private(path, most_bytes=MAX_TEXT).decode("ascii", "replace"))
    if sys.stdin.isatty():
        print("paste the line that medroi-recv pair printed:", file=sys.stderr, flush=True)
    return read_invitation(sys.stdin.readline(MAX_TEXT))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medroi-send pair",
        description="Make a receiver known here by the one-time string that medroi-recv pair "
        "printed there.",
    )
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="a private file that holds the string (default: standard input)",
    )
    parser.add_argument("--name", metavar="SITE", help="another name for it than the other end's")
    parser.add_argument("--replace", action="store_true", help="pair a known site anew")
    add_folder_flag(parser)
    return parser
