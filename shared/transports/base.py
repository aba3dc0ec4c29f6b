"""What a transport promises: it carries frames, and knows nothing of what is in them.

Identity, order of importance, window, acknowledgement, hash and resume belong to the session above
(`protocol`). Every implementation inherits the tests of ``tests/contracts/transport.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True)
class TransportStats:
    """What a transport can say of itself; shown in reports."""

    name: str
    """Such as ``websocket``."""
    congestion: str
    """Congestion control in use below it, such as ``bbr`` or ``cubic``; empty where unknown."""
    frames_sent: int
    bytes_sent: int
    """Frame bytes, without the transport's own framing."""
    frames_received: int
    bytes_received: int
    holds_back: bool = False
    """It lets out no more than the path takes, and hardly queues: nobody above it has to."""


class Transport(Protocol):
    """A two-way pipe of whole frames, reliable and in order."""

    async def send(self, frame: bytes) -> None:
        """Hand over one frame; returns when the transport is ready for the next.

        What has been handed over cannot be recalled, so a transport keeps its own buffer small.

        Raises:
            TransportClosed: the pipe is gone.
        """
        ...

    def frames(self) -> AsyncIterator[bytes]:
        """Frames as they arrive; ends when the peer closes in order. One reader at a time.

        Raises:
            TransportClosed: the pipe broke.
            RemoteProtocolError: the peer sent what is not a frame, or one over the size limit.
        """
        ...

    async def close(self) -> None:
        """Close in order; safe to call twice."""
        ...

    def abort(self) -> None:
        """Drop the pipe at once, without a word; safe to call twice."""
        ...

    def losses(self) -> int | None:
        """Packets that had to be sent again so far; None where the transport cannot tell."""
        ...

    def stats(self) -> TransportStats:
        """Counts so far."""
        ...
