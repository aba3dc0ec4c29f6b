"""medroi-rendezvous: where two ends that cannot listen leave each other sealed lines.

It needs no key of any site, writes no file but its own identity, and says nothing about who comes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from shared.clock import SystemClock
from shared.edge import run_command
from shared.errors import ExitCode
from shared.software import SOFTWARE

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRIVATE = 0o077
_EXIT_CODES = """
exit codes: 0 stopped, 2 usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = _parser().parse_args(arguments)
    os.umask(_PRIVATE)
    return run_command(
        "medroi-rendezvous", partial(_run, options), stopped="stopped", stopped_code=ExitCode.OK
    )


def _run(options: argparse.Namespace) -> ExitCode:
    from shared.loop import run_on_loop
    from shared.transports.address import parse_place

    host, port = parse_place(options.listen)
    return run_on_loop(_serve(host, port, options.identity))


async def _serve(host: str, port: int, folder: Path | None) -> ExitCode:
    from shared.rendezvous.server import serving
    from shared.transports.loopback import is_loopback
    from shared.trust.identity import default_folder, open_identity

    identity = None
    if folder is not None or not (host == "localhost" or is_loopback(host)):
        # Not the folder of `medroi-recv`: whoever dials both need not see that they are one site.
        identity = open_identity(folder or default_folder() / "rendezvous")
    async with serving(host, port, identity, SystemClock()) as url:
        print(f"listening on {url}", flush=True)
        await asyncio.Event().wait()
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medroi-rendezvous",
        description="Pass sealed lines between medroi-send and medroi-recv --signal URL, where "
        "neither can listen. It cannot read them, and keeps nothing.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--listen", required=True, metavar="HOST:PORT", help="port 0 picks one that is free"
    )
    parser.add_argument(
        "--identity",
        type=Path,
        metavar="DIR",
        help="its certificate, made on first use (default: the state folder's, and none on "
        "loopback, which is plaintext then)",
    )
    parser.add_argument("--version", action="version", version=SOFTWARE)
    return parser


if __name__ == "__main__":
    sys.exit(main())
