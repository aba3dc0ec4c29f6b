"""A description of one end as a line of text that only holders of the shared key can read or make.

    medroi: base64url of    version | salt  | sealed                             | CRC-32
                            u8        32      AES-256-GCM, its tag of 16 bytes      u32
    sealed, inside:         role | made_s | answers | description, deflated
                            u8     u64      32        an SDP of `sdp`

in network byte order. The key of a line is HKDF-SHA256 (RFC 5869) of the shared key, salted with
the line's 32 random bytes: it seals one message, so its nonce is zero (NIST SP 800-38D, section 8:
a key and a nonce never twice). Version and salt are authenticated with it. The salt is the line's
name as well: an answer says which offer it answers, and an offer is taken once. ``made_s`` is Unix
time, for a line is good for ten minutes. The CRC (RFC 1952's) proves nothing; it tells a line that
was torn on its way from one that somebody else's key has sealed.

Whoever carries lines sees their number, length and time. Of the certificates' fingerprints only
the one by SHA-256 is kept: a line has some 500 characters, and a terminal takes 4,095 in one.

Pure: salts and times are arguments.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
import zlib
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.errors import ExitCode, MedroiError, RemoteProtocolError
from shared.role import Role
from shared.transports.webrtc.binding import ChannelKey
from shared.transports.webrtc.sdp import MAX_SDP_BYTES, Description, Kind, read_description
from shared.trust.proof import derive_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.trust.keys import SharedKey

VERSION = 1
SALT_BYTES = 32
LIFE_S = 600
"""A line is carried by a person, who may have to make a call about it."""
SKEW_S = 300
"""By how much the two ends' clocks may differ where the maker's is ahead."""
MAX_LINE_CHARS = 4000
"""A terminal gives a program 4,095 of a line and drops the rest (termios(3), canonical mode)."""
PREFIX = "medroi:"
NO_OFFER = bytes(SALT_BYTES)
"""What an offer says that it answers."""

_BASE64 = re.compile(r"[A-Za-z0-9_-]+")
_OUTER = struct.Struct(f"!B{SALT_BYTES}s")
_INNER = struct.Struct(f"!BQ{SALT_BYTES}s")
_CRC = struct.Struct("!I")
_TAG_BYTES = 16
_NONCE = bytes(12)
_LEAST_BYTES = _OUTER.size + _INNER.size + _TAG_BYTES + _CRC.size
_LINE_INFO = b"medroi signal line v1"
_CHANNEL_INFO = b"medroi signal channel v1"
_CODES = {Role.SENDER: 1, Role.RECEIVER: 2}
_ROLES = {code: role for role, code in _CODES.items()}
_KINDS: dict[Role, Kind] = {Role.SENDER: "offer", Role.RECEIVER: "answer"}
_USUAL = (
    b"v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n"
    b"a=sctp-port:5000\r\na=max-message-size:16384\r\na=candidate: 1 udp 2130706431 192.168. "
    b" typ srflx raddr 0.0.0.0 rport 9\r\na=candidate: 1 udp 2130706431 10. typ host\r\n"
    b"a=end-of-candidates\r\na=ice-ufrag:\r\na=ice-pwd:\r\na=fingerprint:sha-256 "
)
"""What descriptions are made of, so that deflate (RFC 1950's dictionary) need not say it."""


class Fault(StrEnum):
    """What is wrong with a line."""

    STRANGE = f"this is no line of medroi's: expected one that begins with {PREFIX}"
    LONG = f"this line is too long: one of medroi's has at most {MAX_LINE_CHARS} characters"
    TORN = "this line is torn: it must be copied whole, without a break, from medroi: on"
    VERSION = "this line is of another version: both ends need the same medroi"
    KEY = "this line was not sealed with a key of this end: both ends need the same --key file"
    OWN = "this line is of this end's own kind: what the other end printed belongs here"
    OLD = "this line is too old: have the other end print a new one"
    EARLY = "this line is from the future: the clocks of the two ends differ too much"
    USED = "this line has been used: each is good once, have the other end print a new one"
    OTHER = "this line answers another offer than this end's last one"
    EMPTY = "this line says nothing of use"


class BadLine(MedroiError):
    """A line that cannot be used: ``fault`` is which of the reasons, ``detail`` adds to it."""

    exit_code = ExitCode.PEER_REFUSED

    def __init__(self, fault: Fault, detail: str = "") -> None:
        super().__init__(fault, detail)
        self.fault = fault
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.fault} ({self.detail})" if self.detail else str(self.fault)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was opened: it is whole, in time, and of a holder of the key."""

    key: SharedKey
    salt: bytes
    answers: bytes
    """The salt of the offer that this is the answer to; `NO_OFFER` in an offer."""
    sdp: str
    sealed: str = field(repr=False, default="")
    """The text itself, in what `seal` gives."""


def seal(
    description: str, key: SharedKey, role: Role, salt: bytes, made_s: int, answers: bytes
) -> Line:
    """The line of an end with this role; a sender's is an offer, a receiver's an answer.

    Args:
        description: what `connect` describes this end with.
        salt: 32 random bytes, never used before.
        made_s: the time now, in Unix seconds.

    Raises:
        RemoteProtocolError: the description is none.
    """
    sdp = _shortened(read_description(description, _KINDS[role])).to_sdp()
    deflating = zlib.compressobj(9, zdict=_USUAL)
    deflated = deflating.compress(sdp.encode("ascii")) + deflating.flush()
    outer = _OUTER.pack(VERSION, salt)
    inner = _INNER.pack(_CODES[role], made_s, answers) + deflated
    content = outer + _cipher(key, salt).encrypt(_NONCE, inner, outer)
    content += _CRC.pack(zlib.crc32(content))
    text = PREFIX + base64.urlsafe_b64encode(content).decode("ascii").rstrip("=")
    assert len(text) <= MAX_LINE_CHARS  # `sdp` bounds what may be in it
    return Line(key, salt, answers, sdp, text)


def unseal(text: str, keys: Sequence[SharedKey], role: Role, now_s: int) -> Line:
    """What a line says that an end with the other ``role`` made.

    Raises:
        BadLine: it cannot be used; the line itself is never repeated.
    """
    outer, sealed = _parts(text)
    _, salt = _OUTER.unpack(outer)
    for key in keys:
        try:
            inner = _cipher(key, salt).decrypt(_NONCE, sealed, outer)
        except InvalidTag:
            continue
        return _checked(inner, key, salt, role, now_s)
    raise BadLine(Fault.KEY)


def channel_key(offer: Line, answer: Line, role: Role) -> ChannelKey:
    """What both ends prove to each other on the channel that two lines lead to."""
    salt = offer.salt + answer.salt
    return ChannelKey(derive_key(offer.key.secret, salt=salt, info=_CHANNEL_INFO), role, offer.salt)


def _parts(text: str) -> tuple[bytes, bytes]:
    """What is in the clear, and what is sealed."""
    text = text.strip()
    if len(text) > MAX_LINE_CHARS:
        raise BadLine(Fault.LONG)
    if not text.startswith(PREFIX):
        raise BadLine(Fault.STRANGE)
    body = text.removeprefix(PREFIX)
    if not _BASE64.fullmatch(body):
        raise BadLine(Fault.TORN)
    try:
        content = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except binascii.Error:
        raise BadLine(Fault.TORN) from None
    if len(content) < _CRC.size + 1 or _CRC.pack(zlib.crc32(content[:-4])) != content[-4:]:
        raise BadLine(Fault.TORN)
    if content[0] != VERSION:  # before its length: another version's may be anything
        raise BadLine(Fault.VERSION, f"that one is {content[0]}, this one {VERSION}")
    if len(content) < _LEAST_BYTES:
        raise BadLine(Fault.TORN)
    return content[: _OUTER.size], content[_OUTER.size : -_CRC.size]


def _checked(inner: bytes, key: SharedKey, salt: bytes, role: Role, now_s: int) -> Line:
    code, made_s, answers = _INNER.unpack_from(inner)
    if _ROLES.get(code) is not role:
        raise BadLine(Fault.OWN)
    if now_s - made_s > LIFE_S:
        age_min = round((now_s - made_s) / 60)
        raise BadLine(Fault.OLD, f"made {age_min} minutes ago, good for {LIFE_S // 60}")
    if made_s - now_s > SKEW_S:
        raise BadLine(Fault.EARLY, f"by {round((made_s - now_s) / 60)} minutes")
    inflating = zlib.decompressobj(zdict=_USUAL)
    try:
        sdp = inflating.decompress(inner[_INNER.size :], MAX_SDP_BYTES).decode("ascii")
        read_description(sdp, _KINDS[role])
    except (zlib.error, UnicodeDecodeError) as error:
        raise BadLine(Fault.EMPTY) from error
    except RemoteProtocolError as error:
        raise BadLine(Fault.EMPTY, str(error)) from error
    return Line(key, salt, answers, sdp)


def _cipher(key: SharedKey, salt: bytes) -> AESGCM:
    return AESGCM(derive_key(key.secret, salt=salt, info=_LINE_INFO))


def _shortened(description: Description) -> Description:
    kept = tuple(each for each in description.fingerprints if each[0] == "sha-256")
    return replace(description, fingerprints=kept)
