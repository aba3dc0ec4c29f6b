"""Which addresses and servers a data channel may use: none outside unless somebody says so.

stun:HOST[:PORT]                               tells us our address as the world sees it
turn:USER@HOST[:PORT][?transport=tcp]          carries everything where nothing else gets through
turns:USER@HOST[:PORT]                         the same over TLS

A relay sees the addresses of both ends and how much they send; what they send is sealed by DTLS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from shared.errors import SettingsError

STUN_PORT, TURNS_PORT = 3478, 5349
_HOST = r"(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])"
_STUN = re.compile(rf"stun:{_HOST}(?::(?P<port>[0-9]{{1,5}}))?")
_TURN = re.compile(
    rf"(?P<scheme>turns?):(?P<user>[^@\s]{{1,128}})@{_HOST}(?::(?P<port>[0-9]{{1,5}}))?"
    r"(?:\?transport=(?P<transport>udp|tcp))?"
)
_MAX_PASSWORD = 512


@dataclass(frozen=True, slots=True)
class StunServer:
    """A server that is asked for our own address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"the STUN server {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TurnServer:
    """A relay."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    transport: str = "udp"
    """``udp``, ``tcp`` or ``tls``, from us to the relay."""

    def __str__(self) -> str:
        return f"the TURN server {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class IceSettings:
    """Where a connection may look for a way; by default, between the two machines themselves."""

    stun: StunServer | None = None
    turn: TurnServer | None = None
    addresses: tuple[str, ...] | None = None
    """Local addresses to use and to tell the peer; None for all of this machine, but loopback."""
    relay_only: bool = False
    """Over the relay or not at all: the peer is told no address of this machine."""
    patience_s: float = 0.0
    """For the other end to begin, where a person carries the answer to it; then checks that nobody
    answers are made again."""

    def __post_init__(self) -> None:
        if self.relay_only and self.turn is None:
            raise SettingsError("to use a relay only, name one: turn:USER@HOST")


def parse_stun(text: str) -> StunServer:
    """The server that a setting names.

    Raises:
        SettingsError: it names none.
    """
    match = _STUN.fullmatch(text)
    if match is None:
        raise SettingsError(f"expected a STUN server such as stun:HOST:3478, got {text!r}")
    return StunServer(match["host"].strip("[]"), _port(match["port"], STUN_PORT))


def parse_turn(text: str, password: str) -> TurnServer:
    """The relay that a setting names. The password comes from a file: a setting may be seen.

    Raises:
        SettingsError: it names none, or the password cannot be one.
    """
    match = _TURN.fullmatch(text)
    if match is None:
        shown = re.sub(r":[^:@/]*@", ":***@", text)
        raise SettingsError(f"expected a TURN server such as turn:USER@HOST:3478, got {shown!r}")
    if ":" in match["user"]:
        raise SettingsError("the password of the TURN server belongs into a file, not here")
    password = password.rstrip("\r\n")
    if not 0 < len(password) <= _MAX_PASSWORD or "\n" in password:
        raise SettingsError(f"expected a password for TURN, one line of up to {_MAX_PASSWORD}")
    is_tls = match["scheme"] == "turns"
    transport = "tls" if is_tls else match["transport"] or "udp"
    port = _port(match["port"], TURNS_PORT if is_tls else STUN_PORT)
    return TurnServer(match["host"].strip("[]"), port, match["user"], password, transport)


def _port(text: str | None, usual: int) -> int:
    port = int(text) if text else usual
    if not 0 < port < 1 << 16:
        raise SettingsError(f"expected a port from 1 to 65535, got {port}")
    return port
