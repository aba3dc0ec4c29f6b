"""The flags of transports, the same for both commands, and what they choose.

Only what the command line says: nothing of aiortc is loaded by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import SettingsError
from shared.transports.webrtc.servers import IceSettings, parse_stun, parse_turn

if TYPE_CHECKING:
    import argparse

PASTE = "paste"
_MAX_PASSWORD_FILE = 1024


class Choice(StrEnum):
    """Over which transport a study goes."""

    AUTO = "auto"
    """Over a WebSocket, with a data channel beside it for when that fails."""
    WS = "ws"
    WEBRTC = "webrtc"
    """Over a data channel; a WebSocket only carries what is needed to get one."""


@dataclass(frozen=True, slots=True)
class Ways:
    """What a user chose."""

    choice: Choice = Choice.AUTO
    ice: IceSettings = field(default_factory=IceSettings)
    signal: str = ""
    """`PASTE` or a rendezvous' address, for where neither end listens; empty where one does."""

    @property
    def is_pasted(self) -> bool:
        """Whether a person carries the lines."""
        return self.signal == PASTE


def add_transport_flags(parser: argparse.ArgumentParser) -> None:
    """Add them to a command's."""
    group = parser.add_argument_group("transport", "nobody but the other end is asked by default")
    group.add_argument(
        "--transport",
        choices=[choice.value for choice in Choice],
        default=Choice.AUTO.value,
        help="a WebSocket with a WebRTC data channel in reserve, or one of them (default: auto)",
    )
    group.add_argument(
        "--signal",
        metavar="HOW",
        help="where neither end can listen, for a WebRTC data channel: paste, one line each way, "
        "or what medroi-rendezvous printed, wss://HOST:PORT/#...",
    )
    group.add_argument(
        "--ice-server",
        action="append",
        default=[],
        metavar="URL",
        help="stun:HOST[:PORT] | turn:USER@HOST[:PORT][?transport=tcp] | turns:USER@HOST[:PORT]",
    )
    group.add_argument(
        "--ice-password", type=Path, metavar="FILE", help="of the user at the TURN server"
    )


def ways_of(options: argparse.Namespace) -> Ways:
    """What the flags choose.

    Raises:
        SettingsError: a server that is none, a second of its kind, or a password without one.
    """
    choice = Choice(options.transport)
    if options.ice_server and choice is Choice.WS:
        raise SettingsError("--ice-server is for WebRTC, which --transport ws leaves out")
    stun = [parse_stun(text) for text in options.ice_server if text.startswith("stun:")]
    turns = [text for text in options.ice_server if not text.startswith("stun:")]
    if len(stun) > 1 or len(turns) > 1:
        raise SettingsError("--ice-server takes one STUN server and one TURN server at most")
    if options.ice_password is not None and not turns:
        raise SettingsError("--ice-password goes with --ice-server turn:USER@HOST")
    turn = parse_turn(turns[0], _password(turns[0], options.ice_password)) if turns else None
    return Ways(choice, IceSettings(stun[0] if stun else None, turn), _signal(options, choice))


def _signal(options: argparse.Namespace, choice: Choice) -> str:
    if options.signal is None:
        return ""
    if options.signal != PASTE:
        _check_rendezvous(options.signal)
    if choice is Choice.WS:
        raise SettingsError("--signal is for WebRTC, which --transport ws leaves out")
    person = ("each",) if options.signal == PASTE else ()  # who would have to paste for each study
    for flag in ("to", "listen", "dial", "link", "pin", "identity", *person):
        if getattr(options, flag, None):
            raise SettingsError(f"--signal does not go with --{flag}")
    if not getattr(options, "key", None) and not getattr(options, "site", None):
        raise SettingsError("--signal goes with a shared key: --key FILE names it, or --site NAME")
    signal: str = options.signal
    return signal


def _check_rendezvous(url: str) -> None:
    from shared.transports.address import parse_address
    from shared.transports.loopback import is_loopback

    if not url.startswith(("ws://", "wss://")):
        raise SettingsError(
            f"--signal {url}: expected {PASTE}, or the address that medroi-rendezvous printed"
        )
    address = parse_address(url)
    if address.secure and address.pin is None:
        raise SettingsError(
            f"--signal {address.shown}: its certificate's hash is missing; take the whole address "
            f"that medroi-rendezvous printed, {address.shown.rstrip('/')}/#<64 hex digits>"
        )
    if not address.secure and address.host != "localhost" and not is_loopback(address.host):
        raise SettingsError(
            f"--signal {address.shown}: plaintext stays on this machine; a rendezvous elsewhere is "
            "wss://HOST:PORT/#<64 hex digits>, as it prints it"
        )


def _password(server: str, path: Path | None) -> str:
    parse_turn(server, "any")  # what is wrong with the server is told first
    if path is None:
        raise SettingsError(f"{server}: --ice-password FILE names the file with the password")
    try:
        with path.open("rb") as file:
            return file.read(_MAX_PASSWORD_FILE).decode()
    except OSError as error:
        raise SettingsError(f"--ice-password {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"--ice-password {path}: expected a line of text") from None
