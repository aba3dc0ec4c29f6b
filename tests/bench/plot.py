"""A comparison as a picture: bytes, and PSNR of ROI and whole, against time."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from shared.link import parse_link
from tests.bench.peers import medroi

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.compare import Compared
    from tests.bench.peers.course import Outcome

_EXACT_DB = 75.0
"""Where "exact" is drawn: above every PSNR of a preview."""
_FIRST_S = 0.2


def plot(compared: Compared, path: Path) -> None:
    """Draw it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (sent, roi, whole) = pyplot.subplots(
        3, 1, figsize=(9, 10), sharex=True, layout="constrained"
    )
    drawn = [outcome for outcome in compared.outcomes if outcome.points]
    for place, outcome in enumerate(drawn):
        own = outcome.name == medroi.NAME
        style: dict[str, Any] = {
            "color": "black" if own else f"C{place % 10}",
            "linewidth": 2.4 if own else 1.2,
            "drawstyle": "steps-post",
            "zorder": 3 if own else 2,
        }
        at_s = [max(_FIRST_S, point.at_s) for point in outcome.points]
        sent.plot(at_s, _megabytes(outcome), label=outcome.name, **style)
        roi.plot(at_s, [_drawn(point.roi_db) for point in outcome.points], **style)
        whole.plot(at_s, [_drawn(point.whole_db) for point in outcome.points], **style)
    for axes, what in ((roi, "ROI"), (whole, "whole")):
        axes.set(ylabel=f"PSNR of the {what}, dB", ylim=(0, _EXACT_DB + 5))
        axes.axhline(_EXACT_DB, color="grey", linewidth=0.6, linestyle=":")
        beside = axes.get_yaxis_transform()
        axes.text(0.005, _EXACT_DB + 0.7, "exact", color="grey", fontsize=8, transform=beside)
        axes.grid(alpha=0.3)
    sent.set(ylabel="MB over the line", xscale="log")
    sent.grid(alpha=0.3)
    whole.set(xlabel="seconds since the sending command was started")
    sent.set_title(f"{parse_link(compared.link)}, over {compared.carried_by}", fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _megabytes(outcome: Outcome) -> list[float]:
    """Over the line where that was counted: rsync, for one, packs on the way."""
    scale = (outcome.line_bytes or outcome.size_bytes) / max(1, outcome.size_bytes)
    return [scale * point.size_bytes / 1e6 for point in outcome.points]


def _drawn(decibels: float) -> float:
    return min(decibels, _EXACT_DB - 3) if isfinite(decibels) else _EXACT_DB
