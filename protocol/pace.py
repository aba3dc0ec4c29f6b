"""A rate that a site sets for what it sends, such as 256 kbit/s while the clinic works.

Frames leave as if over a line of that rate; what is sent too early is waited for by the next. The
window below (`rate`) still answers for the real link.
"""

from __future__ import annotations

from protocol import limits

_FRAGMENT_S = 0.016
_FRAGMENT_MIN_BYTES = 1 << 10


class Pace:
    """Of a session: its connections share it, so that a reconnect buys no bandwidth."""

    def __init__(self, rate_bps: float | None = None) -> None:
        self.rate_bps = rate_bps
        """Bits per second, frame headers included; None for no limit. May be set at any time."""
        self.held = False
        """Others go first: no fragment may leave for now. May be set at any time."""
        self._free_s = 0.0
        self._waiting = False

    @property
    def fragment_bytes(self) -> int:
        """How large the next fragment's content may be: 16 ms of the rate."""
        if self.rate_bps is None:
            return limits.MAX_FRAGMENT_BYTES
        return max(_FRAGMENT_MIN_BYTES, int(self.rate_bps / 8 * _FRAGMENT_S))

    def has_room(self, now_s: float) -> bool:
        """Whether another fragment may leave."""
        self._waiting = self.rate_bps is not None and now_s < self._free_s
        return not self._waiting and not self.held

    def on_sent(self, size_bytes: int, now_s: float) -> None:
        """A frame of this size leaves."""
        if self.rate_bps is not None:
            self._free_s = max(self._free_s, now_s) + size_bytes * 8 / self.rate_bps

    def opens_s(self) -> float | None:
        """When the fragment that was refused may leave; None where time alone does not tell."""
        return self._free_s if self._waiting and not self.held else None
