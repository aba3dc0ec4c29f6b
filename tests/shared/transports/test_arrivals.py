from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.errors import TransportClosed
from shared.transports import arrivals
from shared.transports.arrivals import Arrivals
from shared.transports.websocket import dial, listen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LIMIT_BYTES = 1 << 16


def run(scenario: Callable[[Arrivals, str], Awaitable[None]]) -> None:
    async def main() -> None:
        waiting = Arrivals("receiver")
        async with (
            asyncio.timeout(10),
            listen("127.0.0.1", 0, waiting.meet, max_frame_bytes=_LIMIT_BYTES) as listener,
        ):
            await scenario(waiting, listener.url)

    asyncio.run(main())


def test_the_newest_line_is_taken_first_and_each_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "WAIT_S", 0.2)

    async def scenario(waiting: Arrivals, url: str) -> None:
        dialled = []
        for name in (b"first", b"second"):
            dialled.append(await dial(url, max_frame_bytes=_LIMIT_BYTES))
            await dialled[-1].send(name)
            await asyncio.sleep(0.05)
        for name in (b"second", b"first"):
            async for frame in (await waiting.take()).frames():
                assert frame == name
                break
        with pytest.raises(TransportClosed, match="no receiver has dialled in yet"):
            await waiting.take()
        for each in dialled:
            await each.close()

    run(scenario)


def test_a_line_that_has_gone_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "WAIT_S", 0.5)

    async def scenario(waiting: Arrivals, url: str) -> None:
        line = await dial(url, max_frame_bytes=_LIMIT_BYTES)
        await line.close()
        await asyncio.sleep(0.05)
        with pytest.raises(TransportClosed):
            await waiting.take()

    run(scenario)


def test_who_waits_gets_the_line_that_comes() -> None:
    async def scenario(waiting: Arrivals, url: str) -> None:
        taking = asyncio.ensure_future(waiting.take())
        line = await dial(url, max_frame_bytes=_LIMIT_BYTES)
        await line.send(b"here")
        async for frame in (await taking).frames():
            assert frame == b"here"
            break
        await line.close()

    run(scenario)
