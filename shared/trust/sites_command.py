"""``medroi-recv sites`` and ``medroi-send sites``: who this end is paired with, and who no more."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from shared.audit import AuditLog
from shared.audit_command import RECEIVED, SENT
from shared.errors import ExitCode, MedroiError
from shared.folders import state_folder
from shared.trust.identity import default_folder
from shared.trust.sites import forget_site, read_sites, site_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.audit import Fact
    from shared.trust.sites import Site


def receiver_sites(words: Sequence[str]) -> ExitCode:
    """Run ``medroi-recv sites``."""
    return _sites("medroi-recv sites", RECEIVED, words)


def sender_sites(words: Sequence[str]) -> ExitCode:
    """Run ``medroi-send sites``."""
    return _sites("medroi-send sites", SENT, words)


def add_folder_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names the folder of identity and sites."""
    parser.add_argument(
        "--identity",
        type=Path,
        metavar="DIR",
        help="where the certificate and the paired sites are (default: the state folder)",
    )


def folder_named(options: argparse.Namespace) -> Path:
    """The folder that it names.

    Raises:
        SettingsError: the user has no home to have one in.
    """
    named: Path | None = options.identity
    return named or default_folder()


def note_pairing(log: AuditLog, site: Site) -> None:
    """Write down that there is one more who may come, or be gone to; a full disk is told."""
    where = site.url.partition("#")[0]
    _note(log, "paired", {"site": site.name, "invitation": site.invitation, "where": where})


def _note(log: AuditLog, what: str, facts: dict[str, Fact]) -> None:
    try:
        log.note(what, facts)
    except (OSError, MedroiError) as error:
        print(f"nothing is written down in {log.path}: {error}", file=sys.stderr)


def _sites(command: str, log: str, words: Sequence[str]) -> ExitCode:
    parser = argparse.ArgumentParser(prog=command, description="The sites that this one knows.")
    parser.add_argument("--forget", metavar="NAME", help="this one is a stranger from now on")
    add_folder_flag(parser)
    options = parser.parse_args(words)
    folder = site_folder(folder_named(options))
    if options.forget:
        forget_site(folder, options.forget)
        _note(AuditLog(state_folder() / log), "forgotten", {"site": options.forget})
        print(f"{options.forget} is forgotten; its key is of no use any more")
        return ExitCode.OK
    sites = read_sites(folder)
    for site in sites:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(site.paired_s))
        print(f"{site.name:20} paired {since}  {site.url.partition('#')[0] or 'dials here'}")
    if not sites:
        print("no sites yet; medroi-recv pair and medroi-send pair make one known to the other")
    return ExitCode.OK
