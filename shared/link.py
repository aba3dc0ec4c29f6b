"""A link as it is asked for: rate, delay, loss, and what befalls it; and how people write it.

`shared.line` makes a model of it, which the virtual transport, the relays for TCP and UDP and the
emulator between two network namespaces all use. Only `parse_link` opens a file, when it is told to
use a trace.

The same figures, and the same trace, hold for both directions: they are those of an uplink, since a
site sends and its peer only acknowledges.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import SettingsError
from shared.trace import read_trace

if TYPE_CHECKING:
    from shared.trace import Trace

SEGMENT_BYTES = 1460
"""Of the stream in one packet: an Ethernet MTU without the headers of IP and TCP."""
QUEUE_S = 0.2
"""Depth of the default queue, in seconds of the rate."""
MIN_QUEUE_BYTES = 30_000
"""The default queue is never smaller: twenty packets."""
MAX_EVENTS = 64
"""Outages, and resets, of one link."""


@dataclass(frozen=True, slots=True, order=True)
class Outage:
    """Nothing passes, either way, from ``start_s`` until ``stop_s`` after the line came up."""

    start_s: float
    stop_s: float


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
    jitter_s: float = 0.0
    """A packet takes up to so much longer than half the round trip, each by its own chance."""
    reorder: float = 0.0
    """Probability that a packet is overtaken by some of those behind it."""
    duplicate: float = 0.0
    """Probability that a packet arrives twice."""
    outages: tuple[Outage, ...] = ()
    """In order, apart from each other."""
    resets_s: tuple[float, ...] = ()
    """When every open connection is broken, in order."""

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


@dataclass(frozen=True, slots=True)
class _Quantity:
    """How one figure of a link is written: the units it may have, its bounds, an example."""

    units: dict[str, float]
    least: float
    most: float
    bounds: str
    example: str


_TIME = {"ms": 1e-3, "s": 1.0}
_SHARE = {"%": 1e-2}
_QUANTITIES = {
    "rate": _Quantity(
        {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}, 1e3, 1e11, "1k to 100G bit/s", "rate=1M"
    ),
    "rtt": _Quantity(_TIME, 0, 60, "0ms to 60s", "rtt=100ms"),
    "loss": _Quantity(_SHARE, 0, 0.9, "0% to 90%", "loss=1%"),
    "jitter": _Quantity(_TIME, 0, 60, "0ms to 60s", "jitter=20ms"),
    "queue": _Quantity({"B": 1, "kB": 1e3, "MB": 1e6}, 1500, 1e9, "1500B to 1000MB", "queue=60kB"),
    "reorder": _Quantity(_SHARE, 0, 0.5, "0% to 50%", "reorder=1%"),
    "duplicate": _Quantity(_SHARE, 0, 0.5, "0% to 50%", "duplicate=1%"),
}
_OUTAGE, _RESET = "outage=5s@10s", "reset@20s"
_LENGTH = _Quantity(_TIME, 1e-3, 86_400, "1ms to 86400s", _OUTAGE)
_MOMENT = _Quantity(_TIME, 0, 604_800, "0s to 604800s", _OUTAGE)
_OPTIONS = (
    f"each of {', '.join(quantity.example for quantity in _QUANTITIES.values())} at most once, "
    f"{_OUTAGE} or {_RESET}"
)


def parse_link(text: str) -> LinkProfile:
    """The link that a text asks for; what it does not name is 0, or does not happen.

    ``rate=1M,rtt=100ms,loss=1%,queue=60kB``, a preset such as ``3g``, a preset with changes such as
    ``3g,loss=2%``, or ``trace:FILE`` with options such as ``rtt=80ms`` behind it. Further options
    are ``jitter=20ms``, ``reorder=1%``, ``duplicate=1%``, and, as often as wanted,
    ``outage=5s@10s`` (for 5 s from the 10th second on) and ``reset@20s``; seconds count from when
    the line is first used.

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
    events = [option for option in options if option.startswith(("outage=", "reset@"))]
    given = _parse_options([option for option in options if option not in events])
    if "rate" in given and profile.trace:
        raise SettingsError(f"link: expected no rate beside a trace, which has its own: {text!r}")
    if "rate" not in given and profile.rate_bps == 0:
        raise SettingsError(f"link: expected a rate, such as rate=1M, got {text!r}")
    outages, resets_s = _parse_events(events)
    return replace(
        profile,
        rate_bps=given.get("rate", profile.rate_bps),
        rtt_s=given.get("rtt", profile.rtt_s),
        loss=given.get("loss", profile.loss),
        queue_bytes=round(given["queue"]) if "queue" in given else None,
        jitter_s=given.get("jitter", 0.0),
        reorder=given.get("reorder", 0.0),
        duplicate=given.get("duplicate", 0.0),
        outages=outages,
        resets_s=resets_s,
    )


def _parse_options(options: list[str]) -> dict[str, float]:
    """Values in SI units by option, each given once."""
    given: dict[str, float] = {}
    for option in options:
        name, _, value = option.partition("=")
        if name not in _QUANTITIES or name in given:
            raise SettingsError(f"link: expected {_OPTIONS}, got {option!r}")
        given[name] = _parse_value(value, name, _QUANTITIES[name], option)
    return given


def _parse_events(events: list[str]) -> tuple[tuple[Outage, ...], tuple[float, ...]]:
    """Outages, those that touch made one, and resets; both in order."""
    if len(events) > MAX_EVENTS:
        raise SettingsError(f"link: expected at most {MAX_EVENTS} outages and resets")
    outages: list[Outage] = []
    resets_s: list[float] = []
    for event in events:
        what, _, moment = event.partition("@")
        start_s = _parse_value(moment, "the moment", _MOMENT, event)
        if what == "reset":
            resets_s.append(start_s)
        else:
            length = what.removeprefix("outage=")
            stop_s = start_s + _parse_value(length, "an outage", _LENGTH, event)
            outages.append(Outage(start_s, stop_s))
    merged: list[Outage] = []
    for outage in sorted(outages):
        if merged and outage.start_s <= merged[-1].stop_s:
            longer_s = max(merged[-1].stop_s, outage.stop_s)
            merged[-1] = Outage(merged[-1].start_s, longer_s)
        else:
            merged.append(outage)
    return tuple(merged), tuple(sorted(resets_s))


def _parse_value(value: str, name: str, quantity: _Quantity, option: str) -> float:
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)([A-Za-z%]*)", value)
    if match is None or match[2] not in quantity.units:
        raise SettingsError(f"link: expected a value as in {quantity.example}, got {option!r}")
    number = float(match[1]) * quantity.units[match[2]]
    if not quantity.least <= number <= quantity.most:
        raise SettingsError(f"link: expected {name} from {quantity.bounds}, got {option!r}")
    return number
