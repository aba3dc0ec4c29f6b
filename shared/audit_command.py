"""``medroi-recv audit``, ``medroi-send audit``: show the log, or prove that nobody changed it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shared.audit import verify
from shared.errors import ExitCode, SettingsError
from shared.folders import state_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

RECEIVED, SENT = "audit-received.jsonl", "audit-sent.jsonl"
"""In the state folder."""


def receiver_audit(words: Sequence[str]) -> ExitCode:
    """Run ``medroi-recv audit``."""
    return _audit("medroi-recv audit", RECEIVED, words)


def sender_audit(words: Sequence[str]) -> ExitCode:
    """Run ``medroi-send audit``."""
    return _audit("medroi-send audit", SENT, words)


def add_audit_flag(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the flag that says where the log is."""
    parser.add_argument(
        "--audit",
        type=Path,
        metavar="FILE",
        help=f"the log of who sent, received and saw what (default: {name} in the state folder)",
    )


def audit_path(options: argparse.Namespace, name: str) -> Path:
    """Where it is."""
    named: Path | None = options.audit
    return named or state_folder() / name


def _audit(command: str, name: str, words: Sequence[str]) -> ExitCode:
    parser = argparse.ArgumentParser(
        prog=command, description="The log of who sent, received and saw what, at which quality."
    )
    parser.add_argument(
        "--verify", action="store_true", help="go through the chain of hashes, and say how it ends"
    )
    parser.add_argument(
        "--expect",
        metavar="N:HASH",
        help="with --verify: what it said earlier, and must still be so",
    )
    add_audit_flag(parser, name)
    options = parser.parse_args(words)
    path = audit_path(options, name)
    if options.verify:
        chain = verify(path, upto=_expected(options.expect))
        print(f"{path}: {chain.count} records, none was changed; keep {chain.count}:{chain.last}")
        return ExitCode.OK
    try:
        with path.open(errors="replace") as file:
            for line in file:
                print(line, end="")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    return ExitCode.OK


def _expected(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    count, _, last = text.partition(":")
    if not count.isdecimal() or not last:
        raise SettingsError(f"--expect {text[:80]}: N:HASH expected, as --verify prints it")
    return int(count), last
