"""What the other end says of itself before there is a connection: read, checked, and written anew.

A description is a text from outside, and aiortc's parser is an open one: it looks names up, takes
any number of lines, hangs where there is no fingerprint. So what is needed is taken out of the text
here, each of it within its bounds, and aiortc is given a text made of that and nothing else.

    v=0 ...  a=group:BUNDLE 0                  (RFC 8866, RFC 9143)
    m=application 9 UDP/DTLS/SCTP ...          one, and no other (RFC 8841)
    a=ice-ufrag, a=ice-pwd, a=candidate        where it can be reached (RFC 8839)
    a=fingerprint:sha-256, a=setup             the certificate it will show (RFC 8122, RFC 8842)
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from shared.errors import RemoteProtocolError
from shared.transports.webrtc.pieces import MESSAGE_BYTES

MAX_SDP_BYTES = 32_000
MAX_LINES = 512
MAX_CANDIDATES = 32
SCTP_PORT = 5000
_DIGESTS = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
"""Hash functions that are good enough, with their bytes."""
_SETUPS = {"offer": ("actpass",), "answer": ("active", "passive")}
"""RFC 8842, section 5.2: "the offerer MUST [...] use the value actpass" for a new association."""
_MEDIA = re.compile(r"application [0-9]{1,5} (?:UDP|TCP)/DTLS/SCTP webrtc-datachannel")
_UFRAG, _PWD = re.compile(r"[A-Za-z0-9+/]{4,256}"), re.compile(r"[A-Za-z0-9+/]{22,256}")
_FINGERPRINT = re.compile(r"([A-Za-z0-9-]{1,16}) ([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*)")
_MID = re.compile(r"[A-Za-z0-9._-]{1,32}")
_CANDIDATE = re.compile(
    r"([A-Za-z0-9+/]{1,32}) ([0-9]{1,3}) ([A-Za-z]{3}) ([0-9]{1,10}) ([^ ]{1,64}) ([0-9]{1,5})"
    r" typ (host|srflx|relay|prflx)(?: .*)?"
)

Kind = Literal["offer", "answer"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One address where an end may be reached."""

    foundation: str
    priority: int
    address: str
    """A literal: a name would be looked up, and so somebody else asked."""
    port: int
    type: str

    def __str__(self) -> str:
        # Of other types than host the origin must be named; ours does not matter to anybody.
        origin = "" if self.type == "host" else f" raddr {_nowhere(self.address)} rport 9"
        return (
            f"{self.foundation} 1 udp {self.priority} {self.address} {self.port}"
            f" typ {self.type}{origin}"
        )


@dataclass(frozen=True, slots=True)
class Description:
    """An offer or an answer, as far as it matters."""

    kind: Kind
    setup: str
    mid: str
    ufrag: str
    password: str
    fingerprints: tuple[tuple[str, str], ...]
    """Hash function and value."""
    candidates: tuple[Candidate, ...]

    def to_sdp(self) -> str:
        """The text for aiortc."""
        lines = [
            "v=0",
            "o=- 0 0 IN IP4 0.0.0.0",
            "s=-",
            "t=0 0",
            f"a=group:BUNDLE {self.mid}",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 0.0.0.0",
            f"a=mid:{self.mid}",
            f"a=sctp-port:{SCTP_PORT}",
            f"a=max-message-size:{MESSAGE_BYTES}",
            *(f"a=candidate:{candidate}" for candidate in self.candidates),
            "a=end-of-candidates",
            f"a=ice-ufrag:{self.ufrag}",
            f"a=ice-pwd:{self.password}",
            *(f"a=fingerprint:{name} {value}" for name, value in self.fingerprints),
            f"a=setup:{self.setup}",
        ]
        return "\r\n".join(lines) + "\r\n"


def read_description(text: str, kind: Kind) -> Description:
    """What a peer's offer or answer says.

    Raises:
        RemoteProtocolError: it is too large, not for one data channel, names no certificate, or
            nothing that it can be reached at.
    """
    lines = _lines(text)
    media = [line[2:] for line in lines if line.startswith("m=")]
    if len(media) != 1 or not _MEDIA.fullmatch(media[0]):
        raise _bad(f"one data channel and nothing else, got {len(media)} media: {media[:3]}")
    attributes: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("a="):
            name, _, value = line[2:].partition(":")
            attributes.setdefault(name, []).append(value)
    _check_sctp(attributes)
    setup = _once(attributes, "setup", None)
    if setup not in _SETUPS[kind]:
        raise _bad(f"a=setup:{' or '.join(_SETUPS[kind])} in an {kind}, got {setup[:16]!r}")
    return Description(
        kind,
        setup,
        _once(attributes, "mid", _MID),
        _once(attributes, "ice-ufrag", _UFRAG),
        _once(attributes, "ice-pwd", _PWD),
        _fingerprints(attributes.get("fingerprint", [])),
        _candidates(attributes.get("candidate", [])),
    )


def _lines(text: str) -> list[str]:
    if len(text) > MAX_SDP_BYTES or not text.isascii():
        raise _bad(f"up to {MAX_SDP_BYTES} bytes of ASCII, got {len(text)} characters")
    lines = text.replace("\r\n", "\n").split("\n")
    if len(lines) > MAX_LINES:
        raise _bad(f"up to {MAX_LINES} lines, got {len(lines)}")
    if lines[0] != "v=0":
        raise _bad(f"v=0 in its first line, got {lines[0][:32]!r}")
    return lines


def _once(attributes: dict[str, list[str]], name: str, pattern: re.Pattern[str] | None) -> str:
    values = attributes.get(name, [])
    if len(values) != 1 or (pattern is not None and not pattern.fullmatch(values[0])):
        shown = [value[:32] for value in values[:3]]
        raise _bad(f"one good a={name}, got {len(values)}: {shown}")
    return values[0]


def _check_sctp(attributes: dict[str, list[str]]) -> None:
    if _number(attributes.get("sctp-port", []), 5) != SCTP_PORT:
        raise _bad(f"a=sctp-port:{SCTP_PORT}")
    # "If the SDP 'max-message-size' attribute is not present, the default value is 64K"; 0 means
    # any (RFC 8841, section 6).
    most = _number(attributes.get("max-message-size", ["65536"]), 20)
    if most is None or 0 < most < MESSAGE_BYTES:
        raise _bad(f"a=max-message-size of at least {MESSAGE_BYTES}")


def _number(values: list[str], digits: int) -> int | None:
    if len(values) != 1 or not values[0].isdigit() or len(values[0]) > digits:
        return None
    return int(values[0])


def _fingerprints(values: list[str]) -> tuple[tuple[str, str], ...]:
    """Those of good hash functions; one of SHA-256 must be there."""
    found, named = [], []
    for value in values[:16]:
        match = _FINGERPRINT.fullmatch(value)
        name = match[1].lower() if match else "?"
        named.append(name)
        if match is None or (name in _DIGESTS and len(match[2]) != 3 * _DIGESTS[name] - 1):
            raise _bad(f"fingerprints, got {value[:40]!r}")
        if name in _DIGESTS:
            found.append((name, match[2].upper()))
    if not any(name == "sha-256" for name, _ in found):
        got = ", ".join(named) or "none"
        raise _bad(f"the fingerprint of a certificate by sha-256, got {got}")
    return tuple(found)


def _candidates(values: list[str]) -> tuple[Candidate, ...]:
    if len(values) > MAX_CANDIDATES:
        raise _bad(f"up to {MAX_CANDIDATES} candidates, got {len(values)}")
    found = [_candidate(value) for value in values]
    usable = tuple(candidate for candidate in found if candidate is not None)
    if not usable:
        raise _bad(f"an address to reach it at over UDP, got {len(values)} that are none")
    return usable


def _candidate(value: str) -> Candidate | None:
    """None for one that is of no use here: of TCP, or of another component."""
    match = _CANDIDATE.fullmatch(value)
    if match is None:
        raise _bad(f"candidates, got {value[:60]!r}")
    foundation, component, protocol, priority, address, port, kind = match.groups()
    try:
        literal = ipaddress.ip_address(address)
    except ValueError:
        raise _bad(f"candidates with addresses, not names, got {address[:60]!r}") from None
    if literal.is_multicast or literal.is_unspecified or not 0 < int(port) < 1 << 16:
        raise _bad(f"candidates that can be reached, got {address} port {port}")
    if protocol.lower() != "udp" or component != "1" or kind == "prflx":
        return None
    return Candidate(foundation, int(priority) % (1 << 32), str(literal), int(port), kind)


def _nowhere(address: str) -> str:
    return "::" if ":" in address else "0.0.0.0"


def _bad(expected: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"the peer's description (SDP): expected {expected}")
