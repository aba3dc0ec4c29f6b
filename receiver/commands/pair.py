"""``medroi-recv pair``: print a one-time string, and wait for the sender that has it."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from shared.errors import ExitCode
from shared.trust.sites_command import add_folder_flag, folder_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.transports.websocket import Listener
    from shared.trust.invitation import Invitation
    from shared.trust.sites import Site

_LISTEN = "0.0.0.0:8765"


def pair(words: Sequence[str]) -> ExitCode:
    """Run it.

    Raises:
        MedroiError: nobody has paired.
    """
    from shared.audit import AuditLog
    from shared.audit_command import RECEIVED
    from shared.folders import state_folder
    from shared.loop import run_on_loop
    from shared.trust.sites_command import note_pairing

    options = _parser().parse_args(words)
    site = run_on_loop(_pair(options))
    note_pairing(AuditLog(state_folder() / RECEIVED), site)
    print(
        f"paired with {site.name}: medroi-recv --listen takes its studies from now on", flush=True
    )
    return ExitCode.OK


async def _pair(options: argparse.Namespace) -> Site:
    from protocol.limits import PROTOCOL_VERSION
    from shared.role import Role
    from shared.transports.address import parse_place
    from shared.transports.pairing import Naming, invite
    from shared.trust.identity import open_identity
    from shared.trust.invitation import check_host
    from shared.trust.proof import Claim
    from shared.trust.sites import check_name, site_folder

    folder = folder_named(options)
    host, port = parse_place(options.listen)
    address = parse_place(options.address, "--address") if options.address else None
    serve = parse_place(options.serve, "--serve") if options.serve else None
    for given in (address, serve):
        if given is not None:
            check_host(given[0])

    def place(listener: Listener) -> tuple[str, int]:
        return address or _place(listener)

    def url(listener: Listener) -> str:
        pin = listener.url.partition("#")[2]
        at, number = serve or place(listener)
        return f"wss://{f'[{at}]' if ':' in at else at}:{number}/#{pin}"

    return await invite(
        host,
        port,
        Naming(site_folder(folder), check_name(options.name), options.replace),
        open_identity(folder),
        Claim(Role.RECEIVER, PROTOCOL_VERSION),
        now_s=time.time(),
        place=place,
        url=url,
        show=_show,
        tell=lambda sentence: print(sentence, file=sys.stderr, flush=True),
    )


def _place(listener: Listener) -> tuple[str, int]:
    from shared.transports.address import parse_address

    address = parse_address(listener.url)
    return address.host, address.port


def _show(invitation: Invitation) -> None:
    """The string alone goes to standard output, so that it can be piped to where it belongs."""
    until = time.strftime("%H:%M", time.localtime(invitation.until_s))
    print(
        f"good once, until {until}; give it to the sender's user only, who runs: medroi-send pair",
        file=sys.stderr,
        flush=True,
    )
    print(invitation.to_text(), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medroi-recv pair",
        description="Make one sender known here, and this end known to it, by a one-time string "
        "that is good for 15 minutes and five tries.",
    )
    parser.add_argument("--name", required=True, metavar="SITE", help="what the pair is called")
    parser.add_argument(
        "--listen",
        default=_LISTEN,
        metavar="HOST:PORT",
        help=f"where the pairing is waited for (default: {_LISTEN}); while medroi-recv listens "
        "there, another port, and --serve names that one",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="what the sender dials to get there, where that is another name or address",
    )
    parser.add_argument(
        "--serve",
        metavar="HOST:PORT",
        help="what it dials from then on, where medroi-recv listens elsewhere than the pairing",
    )
    parser.add_argument("--replace", action="store_true", help="pair a known site anew")
    add_folder_flag(parser)
    return parser
