"""medroi-recv: flags become settings, settings a reception, its end an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from receiver.commands import subcommand
from shared.audit_command import RECEIVED, add_audit_flag
from shared.edge import run_command
from shared.errors import ExitCode, SettingsError
from shared.metrics_server import add_metrics_flag
from shared.software import SOFTWARE
from shared.transports.webrtc.flags import add_transport_flags, ways_of
from shared.trust.flags import add_trust_flags, credentials_of, name_site

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.shelf import Rules

_PRIVATE = 0o077
"""What others may not do with the files of a study: anything."""

_EXIT_CODES = """
exit codes: 0 stored and verified, 2 usage, 3 study not taken, 4 peer refused,
            5 interrupted and resumable, 6 integrity
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    os.umask(_PRIVATE)

    def run() -> ExitCode:
        other = subcommand(words[0]) if words else None
        return other(words[1:]) if other else _run(_parser().parse_args(words))

    return run_command("medroi-recv", run, stopped="stopped; what has arrived is kept")


def _run(options: argparse.Namespace) -> ExitCode:
    from protocol.limits import PROTOCOL_VERSION
    from receiver.reception import Reception, receive
    from shared.loop import run_on_loop
    from shared.role import Role
    from shared.transports.address import parse_place
    from shared.trust.proof import Claim

    name_site(options, "dial")
    ways = ways_of(options)
    if bool(options.listen) == bool(options.dial) and not ways.signal:
        raise SettingsError("either --listen HOST:PORT or --dial URL says where the sender is met")
    host, port = parse_place(options.listen) if options.listen else ("", 0)
    claim = Claim(Role.RECEIVER, PROTOCOL_VERSION)
    reception = Reception(
        host=host,
        port=port,
        out=options.out,
        once=options.once,
        report=options.report,
        pictures=options.pictures,
        quiet=options.quiet,
        credentials=credentials_of(options, claim, listens=bool(options.listen)),
        ways=ways,
        dial=options.dial or "",
        api=parse_place(options.api, "--api") if options.api else None,
        audit=options.audit,
        rules=_rules(options),
        metrics=options.metrics,
    )
    return run_on_loop(receive(reception))


def _rules(options: argparse.Namespace) -> Rules:
    from receiver.shelf import Rules, parse_age, parse_size

    unfinished = options.keep_unfinished
    return Rules(
        parse_age(options.keep, "--keep") if options.keep else None,
        parse_age(unfinished, "--keep-unfinished") if unfinished else None,
        parse_size(options.quota, "--quota") if options.quota else None,
    )


def _add_disk_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep",
        metavar="AGE",
        help="delete finished studies after that: 30d, 12h (default: never)",
    )
    parser.add_argument(
        "--keep-unfinished",
        metavar="AGE",
        help="delete what never became whole, once nothing has come for that long (default: never)",
    )
    parser.add_argument(
        "--quota",
        metavar="SIZE",
        help="refuse studies beyond that: 50G, 500M (default: what the disk has, less 256 MB)",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medroi-recv",
        description="Receive studies, their regions of interest first, down to the last bit. "
        "Also: medroi-recv ls, pair, sites, audit (each has --help).",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--listen", metavar="HOST:PORT", help="port 0 picks one that is free")
    parser.add_argument("--dial", metavar="URL", help="instead: what medroi-send --listen printed")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument("--once", action="store_true", help="end after one study")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="leave a report")
    parser.add_argument(
        "--pictures", action="store_true", help="leave a PNG of three planes at each stage"
    )
    parser.add_argument(
        "--api",
        metavar="HOST:PORT",
        help="answer viewers of this machine there: where studies stand, and what they look at",
    )
    _add_disk_flags(parser)
    add_audit_flag(parser, RECEIVED)
    add_metrics_flag(parser)
    add_trust_flags(parser)
    add_transport_flags(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="only errors")
    parser.add_argument("--version", action="version", version=SOFTWARE)
    return parser


if __name__ == "__main__":
    sys.exit(main())
