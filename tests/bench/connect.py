"""How long it takes until a dialler's first frame may leave, over the relay at 100 ms.

python -m tests.bench.connect
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from typing import TYPE_CHECKING

import uvloop

from shared.link import parse_link
from shared.transports.relay import Relay
from shared.transports.websocket import dial, listen
from tests.bench.table import Row, publish
from tests.shared.transports.trusted import LIMIT, dialling, echo, listening

if TYPE_CHECKING:
    from shared.trust.credentials import Credentials

RTT_S = 0.1
TRIES = 9


async def dial_times_s(listens: Credentials | None, dials: Credentials | None) -> list[float]:
    """Of each try: from the dial's start until the session may send."""
    loop = asyncio.get_running_loop()
    times_s = []
    async with (
        listen("127.0.0.1", 0, echo, max_frame_bytes=LIMIT, credentials=listens) as listener,
        Relay("127.0.0.1", listener.port, parse_link(f"rate=1M,rtt={RTT_S * 1e3:g}ms")) as relay,
    ):
        url = listener.url.replace(f":{listener.port}", f":{relay.port}")
        for _ in range(TRIES):
            started_s = loop.time()
            transport = await dial(url, max_frame_bytes=LIMIT, credentials=dials)
            times_s.append(loop.time() - started_s)
            await transport.close()
    return times_s


def main() -> int:
    """Measure; 1 where a figure is missed."""
    rows = []
    for name, listens, dials, round_trips in (
        ("plaintext, no key (loopback only): TCP, request", None, None, 2),
        ("plaintext, key (loopback only)", listening(tls=False), dialling(), 2),
        ("TLS 1.3, pin and proof: TCP, TLS, request", listening(), dialling(), 3),
    ):
        times_s = uvloop.run(dial_times_s(listens, dials))
        median_s, most_s = statistics.median(times_s), (round_trips + 0.3) * RTT_S
        rows.append(
            Row(
                name,
                f"{round_trips} round trips, 0.3 more at most",
                f"{median_s * 1e3:.0f} ms median of {TRIES}, {max(times_s) * 1e3:.0f} ms worst",
                median_s < most_s,
            )
        )
    return 0 if publish("connect", "Dial to first frame, 1 Mbit/s and 100 ms", rows) else 1


if __name__ == "__main__":
    sys.exit(main())
