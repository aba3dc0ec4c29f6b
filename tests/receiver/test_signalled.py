"""A receiver at a rendezvous, over loopback: its answers, and how it ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from receiver.signalled import answer_lines
from sender.signalled import signalled
from shared.clock import SystemClock
from shared.errors import SettingsError, TransportClosed
from shared.rendezvous.server import serving
from shared.transports.webrtc.flags import PASTE, Choice, Ways
from shared.transports.webrtc.servers import IceSettings
from shared.trust.keys import SharedKey

if TYPE_CHECKING:
    from shared.transports.base import Transport

KEY, OTHER = SharedKey("ours", bytes(range(32))), SharedKey("theirs", bytes(32))


def ways(signal: str) -> Ways:
    return Ways(Choice.AUTO, IceSettings(addresses=("127.0.0.1",)), signal)


async def unused(_transport: Transport) -> None:
    raise AssertionError("a channel came of it")


def test_each_key_of_a_receiver_leads_to_a_channel_and_a_broken_one_to_another() -> None:
    taken: list[Transport] = []

    async def take(transport: Transport) -> None:
        taken.append(transport)
        with suppress(TransportClosed):
            async for frame in transport.frames():
                await transport.send(frame)

    async def talk() -> list[bytes]:
        echoes = []
        async with (
            asyncio.timeout(60),
            serving("127.0.0.1", 0, None, SystemClock()) as url,
            asyncio.TaskGroup() as group,
        ):
            said: list[str] = []
            receiving = group.create_task(answer_lines(ways(url), [KEY, OTHER], take, said.append))
            for key in (KEY, OTHER, KEY):
                channel = await signalled(ways(url), key, said.append)()
                await channel.send(key.name.encode())
                async for frame in channel.frames():
                    echoes.append(frame)
                    break
                channel.abort()
            receiving.cancel()
            assert said == [f"waiting at the rendezvous {url}"]
        return echoes

    assert asyncio.run(talk()) == [b"ours", b"theirs", b"ours"]
    assert len(taken) == 3


def test_what_no_waiting_would_mend_is_raised() -> None:
    keys = [SharedKey(str(number), bytes([number] * 32)) for number in range(33)]
    with pytest.raises(SettingsError, match="up to 32 keys"):
        asyncio.run(answer_lines(ways("ws://127.0.0.1:1"), keys, unused, lambda _: None))
    with pytest.raises(SettingsError, match="expected an address on this machine"):
        asyncio.run(answer_lines(ways("ws://192.0.2.1:1"), [KEY], unused, lambda _: None))


def test_a_person_is_asked_for_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("os.read", lambda *_: b"")  # standard input ends at once
    monkeypatch.setattr("shared.transports.webrtc.signals._LAST_S", 0.0)
    with pytest.raises(SettingsError, match="standard input has ended"):
        asyncio.run(answer_lines(ways(PASTE), [KEY], unused, said.append))
    assert said == ["paste the line that medroi-send --signal paste prints in here"]
