"""The first message each way of a data channel: it proves the key, for this channel and no other.

    HMAC-SHA256(session key, "medroi channel v1" NUL | role | generation | session | exporter)
                                                       u8     u64          32        32

The exporter is keying material of the DTLS connection (RFC 5705), equal at its two ends and at no
others: whoever sits in between has two connections, and no message that is good in both. The SDP
that named the DTLS certificates was authenticated as well; this holds even if that was not. Each
end proves its own role, so a message sent back proves nothing.

Pure: the exporter is an argument.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

from shared.errors import AuthenticationError
from shared.role import Role

KEY_BYTES = 32
SESSION_BYTES = 32
EXPORTER_LABEL = b"EXPORTER-medroi-channel-v1"
EXPORTER_BYTES = 32
_LABEL = b"medroi channel v1\0"
_CONTEXT = struct.Struct("!BQ")
_CODES = {Role.SENDER: 1, Role.RECEIVER: 2}
_OTHERS = {Role.SENDER: Role.RECEIVER, Role.RECEIVER: Role.SENDER}


@dataclass(frozen=True, slots=True)
class ChannelKey:
    """What both ends of a channel know before it opens; of `Role` each has its own."""

    key: bytes = field(repr=False)
    """32 bytes, of this session only."""
    role: Role
    """This end's."""
    session: bytes = bytes(SESSION_BYTES)
    """32 bytes that name the session."""
    generation: int = 0
    """Which of the session's connections this is; a peer with another one is refused."""

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES or len(self.session) != SESSION_BYTES:
            raise ValueError(
                f"expected a key and a session of {KEY_BYTES} bytes each, "
                f"got {len(self.key)} and {len(self.session)}"
            )
        if not 0 <= self.generation < 1 << 64:
            raise ValueError(f"expected a generation in 64 bits, got {self.generation}")


class ChannelProof:
    """Both proofs of one channel: the one to send, and the one to expect."""

    def __init__(self, channel: ChannelKey, exporter: bytes) -> None:
        if len(exporter) != EXPORTER_BYTES:  # or fields could slide into each other
            raise ValueError(f"expected {EXPORTER_BYTES} bytes exported, got {len(exporter)}")
        self.own = _mac(channel, channel.role, exporter)
        """For the peer."""
        self._wanted = _mac(channel, _OTHERS[channel.role], exporter)

    def check(self, theirs: bytes) -> None:
        """Compare what the peer sent, in constant time.

        Raises:
            AuthenticationError: it does not know the key, or is the other end of another channel.
        """
        if not hmac.compare_digest(theirs, self._wanted):
            raise AuthenticationError(
                "the other end of the data channel did not prove the session's key"
            )


def _mac(channel: ChannelKey, role: Role, exporter: bytes) -> bytes:
    context = _CONTEXT.pack(_CODES[role], channel.generation)
    return hmac.digest(channel.key, _LABEL + context + channel.session + exporter, hashlib.sha256)
