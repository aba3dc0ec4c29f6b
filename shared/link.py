"""A link as a model: what a line of a given rate, delay and loss does to a stream of bytes.

Nothing here tells time, draws from a shared source of chance or touches a socket: time is an
argument, chance is a seed, and the same calls give the same answers. `shared.transports.relay` runs
real TCP over this model, `shared.transports.simulated` a transfer inside one process. Only
`parse_link` opens a file, when it is told to use a trace.

What is modelled, per direction:

- a bottleneck that sends at a fixed rate, or at the opportunities of a recorded trace;
- a queue in front of it, of bounded size, first in first out;
- half the round trip as delay, then delivery in order;
- loss, as the stalls that it causes on a reliable ordered stream.

What is not: TCP's response to congestion. A real sender slows down after a loss (CUBIC was
measured at 19 % of a 5 Mbit/s link with 100 ms RTT and 1 % loss, BBR at 93 %); here it never does,
so on a lossy link this is a sender that keeps the line full. Nor are bursts of loss, a
retransmission that waits for a timer because nothing followed it, or headers: the rate counts the
bytes of the stream itself. The same figures, and the same trace, hold for both directions: they
are those of an uplink, since a site sends and its peer only acknowledges.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass, replace
from pathlib import Path

from shared.errors import SettingsError
from shared.trace import Trace, TracedBottleneck, read_trace

SEGMENT_BYTES = 1460
"""Of the stream in one packet: an Ethernet MTU without the headers of IP and TCP."""
QUEUE_S = 0.2
"""Depth of the default queue, in seconds of the rate."""
MIN_QUEUE_BYTES = 30_000
"""The default queue is never smaller: twenty packets."""


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """What is asked of a link; `parse_link` makes one from text, within sane bounds."""

    name: str
    """The text that it was made from."""
    rate_bps: float
    """The mean rate where there is a trace."""
    rtt_s: float = 0.0
    loss: float = 0.0
    """Probability of losing one packet, 0 <= loss < 1."""
    queue_bytes: int | None = None
    """Room in front of the bottleneck; None for the default."""
    trace: Trace | None = None

    @property
    def queue_limit_bytes(self) -> int:
        """The queue's room: as given, or 200 ms of the rate and at least 30 kB."""
        if self.queue_bytes is not None:
            return self.queue_bytes
        return max(int(self.rate_bps / 8 * QUEUE_S), MIN_QUEUE_BYTES)

    def __str__(self) -> str:
        return (
            f"{self.name} ({'traced, mean ' if self.trace else ''}{self.rate_bps / 1e6:.4g} "
            f"Mbit/s, {self.rtt_s * 1000:.4g} ms RTT, {self.loss * 100:.3g} % loss)"
        )


PRESETS: dict[str, LinkProfile] = {
    profile.name: profile
    for profile in (
        # Malawi-Michigan MR research link: symmetrical 384 kbit/s, "effective network latency
        # averaged 715 ms" (PMC NIHMS233268; Latourette et al., J Digit Imaging 2011).
        LinkProfile("vsat-384k", rate_bps=384e3, rtt_s=0.715, loss=0),
        # WebPageTest, www/settings/connectivity.ini.sample: bwOut and latency of the same name.
        LinkProfile("2g", rate_bps=256e3, rtt_s=0.8, loss=0),
        LinkProfile("3g", rate_bps=768e3, rtt_s=0.3, loss=0),
        LinkProfile("lte", rate_bps=12e6, rtt_s=0.07, loss=0),
        LinkProfile("dsl", rate_bps=384e3, rtt_s=0.05, loss=0),
        # Starlink in the US, median upload and latency, Ookla, third quarter of 2021.
        LinkProfile("leo", rate_bps=13.54e6, rtt_s=0.044, loss=0),
        # Gigabit Ethernet (IEEE 802.3ab); the delay is a round figure of ours.
        LinkProfile("lan", rate_bps=1e9, rtt_s=0.001, loss=0),
    )
}
"""Links with a name: uplink figures, and where each is from. No source gives a loss rate to go with
them, so all are without; ``3g,loss=1%`` adds some."""


class LinkModel:
    """One direction of a link.

        deliver ->  queue  ->  bottleneck  -> delay of rtt / 2 -> in order ->
                  (bounded)  (rate or trace)
                                  ^ a lost packet: once more, an RTT later,
                                    and everything behind it waits

    The model refuses nothing: the queue has its bound because a caller asks `ready_s`, and waits.
    The times given to the methods never go back.
    """

    def __init__(self, profile: LinkProfile, seed: int, *, start_s: float = 0.0) -> None:
        """A trace, if there is one, starts at ``start_s``."""
        self.profile = profile
        self._bottleneck = (
            TracedBottleneck(profile.trace, start_s)
            if profile.trace
            else _SteadyBottleneck(profile.rate_bps)
        )
        self._chance = random.Random(seed)
        self._packets_to_loss = self._draw_packets_to_loss()
        self._delivered_s = -math.inf

    def deliver(self, now_s: float, size_bytes: int) -> float:
        """When the last of these bytes, handed over now, arrives at the other end.

        They fill packets of their own: one byte is one packet, and as easily lost.
        """
        sent_s = self._bottleneck.send(now_s, size_bytes)
        packets: float = max(1, math.ceil(size_bytes / SEGMENT_BYTES))
        stall_s = run_s = 0.0
        while self._packets_to_loss < packets:
            # The packets before the lost one are through. It is sent again, and may be lost again;
            # losses of different packets recover side by side.
            packets -= self._packets_to_loss
            lost_again = self._packets_to_loss == 0
            run_s = self.profile.rtt_s + (run_s if lost_again else 0.0)
            stall_s = max(stall_s, run_s)
            sent_s = self._bottleneck.send(now_s, min(size_bytes, SEGMENT_BYTES))
            self._packets_to_loss = self._draw_packets_to_loss()
        self._packets_to_loss -= packets
        self._delivered_s = max(self._delivered_s, sent_s + self.profile.rtt_s / 2 + stall_s)
        return self._delivered_s

    def backlog_bytes(self, now_s: float) -> int:
        """Bytes that have not passed the bottleneck yet."""
        return self._bottleneck.backlog_bytes(now_s)

    def ready_s(self, now_s: float, size_bytes: int = SEGMENT_BYTES) -> float:
        """The earliest time, now or later, at which the queue has room for so many bytes more.

        For what is larger than the whole queue there is room when the queue is empty.
        """
        behind_bytes = max(0, self.profile.queue_limit_bytes - size_bytes)
        return max(now_s, self._bottleneck.drained_s(behind_bytes))

    def _draw_packets_to_loss(self) -> float:
        """How many packets get through before the next loss: geometric, so one draw a loss."""
        if self.profile.loss == 0:
            return math.inf
        unit = 1.0 - self._chance.random()  # above zero, for the logarithm
        return math.floor(math.log(unit) / math.log1p(-self.profile.loss))


class _SteadyBottleneck:
    """Sends bytes at a fixed rate; its methods are those of `TracedBottleneck`."""

    def __init__(self, rate_bps: float) -> None:
        self._bytes_per_s = rate_bps / 8
        self._idle_s = -math.inf

    def send(self, now_s: float, size_bytes: int) -> float:
        self._idle_s = max(self._idle_s, now_s) + size_bytes / self._bytes_per_s
        return self._idle_s

    def backlog_bytes(self, now_s: float) -> int:
        return round(max(0.0, self._idle_s - now_s) * self._bytes_per_s)

    def drained_s(self, behind_bytes: int) -> float:
        return self._idle_s - behind_bytes / self._bytes_per_s


@dataclass(frozen=True, slots=True)
class _Quantity:
    """How one option of a link is written: the units it may have, its bounds, an example."""

    units: dict[str, float]
    least: float
    most: float
    bounds: str
    example: str


_QUANTITIES = {
    "rate": _Quantity(
        {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}, 1e3, 1e11, "1k to 100G bit/s", "rate=1M"
    ),
    "rtt": _Quantity({"ms": 1e-3, "s": 1}, 0, 60, "0ms to 60s", "rtt=100ms"),
    "loss": _Quantity({"%": 1e-2}, 0, 0.9, "0% to 90%", "loss=1%"),
    "queue": _Quantity({"B": 1, "kB": 1e3, "MB": 1e6}, 1500, 1e9, "1500B to 1000MB", "queue=60kB"),
}
_OPTIONS = ", ".join(quantity.example for quantity in _QUANTITIES.values())


def parse_link(text: str) -> LinkProfile:
    """The link that a text asks for; RTT and loss are 0 unless said.

    ``rate=1M,rtt=100ms,loss=1%,queue=60kB``, a preset such as ``3g``, a preset with changes such as
    ``3g,loss=2%``, or ``trace:FILE`` with options such as ``rtt=80ms`` behind it.

    Raises:
        SettingsError: says what was expected.
    """
    name = text.strip()
    head, *options = (part.strip() for part in text.split(","))
    if head.startswith("trace:"):
        trace = read_trace(Path(head.removeprefix("trace:")))
        profile = LinkProfile(name, trace.mean_bps, trace=trace)
    elif head in PRESETS:
        profile = replace(PRESETS[head], name=name)
    elif "=" in head:
        profile, options = LinkProfile(name, rate_bps=0.0), [head, *options]
    else:
        raise SettingsError(
            f"link: expected rate=1M,rtt=100ms,loss=1%, trace:FILE or one of {', '.join(PRESETS)}, "
            f"got {text!r}"
        )
    given = _parse_options(options)
    if "rate" in given and profile.trace:
        raise SettingsError(f"link: expected no rate beside a trace, which has its own: {text!r}")
    if "rate" not in given and profile.rate_bps == 0:
        raise SettingsError(f"link: expected a rate, such as rate=1M, got {text!r}")
    return replace(
        profile,
        rate_bps=given.get("rate", profile.rate_bps),
        rtt_s=given.get("rtt", profile.rtt_s),
        loss=given.get("loss", profile.loss),
        queue_bytes=round(given["queue"]) if "queue" in given else None,
    )


def _parse_options(options: list[str]) -> dict[str, float]:
    """Values in SI units by option, each given once."""
    given: dict[str, float] = {}
    for option in options:
        name, _, value = option.partition("=")
        if name not in _QUANTITIES or name in given:
            raise SettingsError(f"link: expected each of {_OPTIONS} at most once, got {option!r}")
        quantity = _QUANTITIES[name]
        match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)([A-Za-z%]*)", value)
        if match is None or match[2] not in quantity.units:
            raise SettingsError(f"link: expected a value as in {quantity.example}, got {option!r}")
        given[name] = float(match[1]) * quantity.units[match[2]]
        if not quantity.least <= given[name] <= quantity.most:
            raise SettingsError(f"link: expected {name} from {quantity.bounds}, got {option!r}")
    return given
