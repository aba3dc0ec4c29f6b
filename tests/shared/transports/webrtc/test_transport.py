from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import uvloop

from tests.contracts.transport import Breakable, TransportContract
from tests.shared.transports.webrtc.ends import connected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from shared.transports.base import TransportStats


class TestWebRtc(TransportContract):
    patience_s = 1.0
    use_model = True

    def run(self, scenario: Callable[[Breakable], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(60), connected(use_model=self.use_model) as ends:
                await scenario(ends)

        self.run_loop(main())

    def run_loop(self, main: Coroutine[Any, Any, None]) -> None:
        asyncio.run(main)

    def check_stats(self, stats: TransportStats) -> None:
        assert stats.name == "webrtc"
        assert stats.congestion == ("model" if self.use_model else "reno")
        assert stats.holds_back is self.use_model


class TestWebRtcOnUvloop(TestWebRtc):
    def run_loop(self, main: Coroutine[Any, Any, None]) -> None:
        uvloop.run(main)


class TestWebRtcWithCongestionControlOfAiortc(TestWebRtc):
    use_model = False
