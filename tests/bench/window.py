"""The send window in virtual time: how full it keeps a link, and what a change of mind costs.

python -m tests.bench.window
"""

from __future__ import annotations

import statistics
import sys

from tests.bench.table import Row, publish
from tests.protocol.test_connections import focus_delays, payload_share

LINKS = ((64e3, 0.6), (384e3, 0.715), (1e6, 0.1), (5e6, 0.1), (20e6, 0.05), (100e6, 0.02))


def main() -> int:
    """Measure; 1 where a figure is missed."""
    delays = focus_delays(phases=100)
    worst = max(delays)
    rows = [
        Row(
            "1 Mbit/s, 100 ms: a focus, from the reader's request to the layer's first bytes",
            "under 150 ms",
            f"{worst * 1e3:.0f} ms worst, {statistics.median(delays) * 1e3:.0f} ms median of 100",
            worst < 0.150,
        )
    ]
    for rate_bps, rtt_s in LINKS:
        name = f"{rate_bps / 1e6:g} Mbit/s, {rtt_s * 1e3:g} ms: payload over what the line holds"
        rows.append(Row(name, "", f"{payload_share(rate_bps, rtt_s):.1%}"))
    return 0 if publish("window", "The send window, start-up included", rows) else 1


if __name__ == "__main__":
    sys.exit(main())
