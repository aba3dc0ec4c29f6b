"""The one-time string of a pairing: where the listening end is, its certificate, and a secret.

    medroi-pair:<base64url>        of, in network byte order:

    0         1            5             21           53       55
    +---------+------------+-------------+------------+--------+------+----------------+
    | version | until (s)  | secret (16) | pin (32)   | port   | host | checksum (4)   |
    +---------+------------+-------------+------------+--------+------+----------------+

``until`` is Unix time, ``host`` a name or an address, the checksum the first bytes of SHA-256 over
all before it: it tells a torn string from a wrong one and protects nothing. The secret is good
once, for `LIFETIME_S`, and for `MAX_WRONG_TRIES` (`OneTime`); who has the string can pair in the
place of who was meant to, so it goes to that person only, and never onto a command line, which
every user of a machine can read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from dataclasses import dataclass, field
from enum import Enum

from shared.errors import PeerRefused, SettingsError
from shared.trust.identity import PIN_BYTES
from shared.trust.keys import SharedKey
from shared.trust.proof import derive_key

SECRET_BYTES = 16
"""128 bits: found out within no lifetime, and guessed in five tries by nobody."""
LIFETIME_S = 15 * 60
MAX_WRONG_TRIES = 5
CLOCKS_DIFFER_S = 5 * 60
"""By which the two ends' clocks may; the listening end's own counts."""
MAX_TEXT = 600
"""Characters of a string with the longest host."""
ASK_AGAIN = "medroi-recv pair prints a new one"

_PREFIX = "medroi-pair:"
_VERSION = 1
_FIXED = struct.Struct(f"!BI{SECRET_BYTES}s{PIN_BYTES}sH")
_CHECKSUM_BYTES = 4
_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,255}")
_BODY = re.compile(r"[A-Za-z0-9_-]+")
_ONE_TIME = b"medroi pairing v1: the one-time key"


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the string says."""

    host: str
    port: int
    pin: bytes
    """The hash of the listening end's certificate."""
    secret: bytes = field(repr=False)
    until_s: int
    """Unix time."""

    @property
    def url(self) -> str:
        """Where to dial, pin included."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"wss://{host}:{self.port}/#{self.pin.hex()}"

    @property
    def key(self) -> SharedKey:
        """What both ends prove to each other before they agree on a key that lasts."""
        return one_time_key(self.secret, self.pin)

    @property
    def name(self) -> str:
        """What it may be called in a file or log; says nothing of the secret."""
        return hashlib.sha256(b"medroi pairing v1: its name" + self.secret).hexdigest()[:16]

    def to_text(self) -> str:
        """The string."""
        content = _FIXED.pack(_VERSION, self.until_s, self.secret, self.pin, self.port)
        content += self.host.encode("ascii")
        content += _checksum(content)
        return _PREFIX + base64.urlsafe_b64encode(content).decode().rstrip("=")

    def check_age(self, now_s: float) -> None:
        """Is it, as far as this end's clock says, still worth a try?

        Raises:
            SettingsError: it has expired.
        """
        if now_s > self.until_s + CLOCKS_DIFFER_S:
            raise SettingsError(f"this pairing string has expired; {ASK_AGAIN}")


def one_time_key(secret: bytes, pin: bytes) -> SharedKey:
    """The key that a secret stands for, at the end with this certificate and no other."""
    return SharedKey("pairing", derive_key(secret, salt=pin, info=_ONE_TIME))


def read_invitation(text: str) -> Invitation:
    """What a string says.

    Raises:
        SettingsError: it is none, torn, or of another version. It is never repeated: it is secret.
    """
    text = "".join(text.split())
    if not text.startswith(_PREFIX) or len(text) > MAX_TEXT:
        raise SettingsError(f"expected a pairing string, {_PREFIX}..., as medroi-recv pair prints")
    body = text.removeprefix(_PREFIX)
    torn = SettingsError("this pairing string is torn: copy the whole line")
    if not _BODY.fullmatch(body):
        raise torn
    try:
        content = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except binascii.Error:
        raise torn from None
    content, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if len(content) <= _FIXED.size or checksum != _checksum(content):
        raise torn
    version, until_s, secret, pin, port = _FIXED.unpack_from(content)
    host = content[_FIXED.size :].decode("ascii", "replace")
    if version != _VERSION:
        raise SettingsError(f"this pairing string is of version {version}, expected {_VERSION}")
    if not _HOST.fullmatch(host) or not port:
        raise SettingsError("this pairing string names no place to dial")
    return Invitation(host, port, pin, secret, until_s)


def check_host(host: str) -> None:
    """Can a string carry this host?

    Raises:
        SettingsError: it cannot.
    """
    if not _HOST.fullmatch(host):
        raise SettingsError(f"{host[:80]!r} is no name or address that a pairing string can carry")


class Fate(Enum):
    """What has become of a string, in the words that the other end hears."""

    OPEN = "is good"
    USED = "was used already"
    EXPIRED = "has expired"
    VOID = "is void, after five wrong tries"


class OneTime:
    """Whether a string is still good, as its listening end sees it. Time is an argument."""

    def __init__(self, until_s: float) -> None:
        """``until_s``: of the clock that gives ``now_s``."""
        self._until_s = until_s
        self._used = False
        self.wrong_tries = 0

    def note_wrong_try(self) -> None:
        """Somebody has tried another secret."""
        self.wrong_tries += 1

    def fate(self, now_s: float) -> Fate:
        """What has become of it."""
        if self._used:
            return Fate.USED
        if self.wrong_tries >= MAX_WRONG_TRIES:
            return Fate.VOID
        return Fate.OPEN if now_s < self._until_s else Fate.EXPIRED

    def check(self, now_s: float) -> None:
        """Is it good?

        Raises:
            PeerRefused: it is not, and why.
        """
        fate = self.fate(now_s)
        if fate is not Fate.OPEN:
            raise PeerRefused(f"this pairing string {fate.value}; {ASK_AGAIN}")

    def use(self, now_s: float) -> None:
        """It is good now, and never again.

        Raises:
            PeerRefused: it is not, and why.
        """
        self.check(now_s)
        self._used = True


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_CHECKSUM_BYTES]
