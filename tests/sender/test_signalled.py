from __future__ import annotations

import asyncio

import pytest

from sender.signalled import signalled
from shared.errors import SettingsError, TransportClosed
from shared.transports.webrtc.flags import PASTE, Choice, Ways
from shared.transports.webrtc.servers import IceSettings
from shared.trust.keys import SharedKey

KEY = SharedKey("ours", bytes(range(32)))
LOOPBACK = IceSettings(addresses=("127.0.0.1",))


def ways(signal: str) -> Ways:
    return Ways(Choice.AUTO, LOOPBACK, signal)


def test_at_a_rendezvous_that_is_away_no_channel_is_even_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def make_offer(*_: object, **__: object) -> None:
        raise AssertionError("an offer was made")

    monkeypatch.setattr("shared.transports.webrtc.signals.make_offer", make_offer)

    async def dial() -> None:
        await signalled(ways("ws://127.0.0.1:1"), KEY, lambda _: None)()

    with pytest.raises(TransportClosed, match="no rendezvous: nobody answers at ws://127"):
        asyncio.run(dial())


def test_a_person_is_shown_a_line_and_told_what_to_do_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    async def dial() -> None:
        async with asyncio.timeout(5):
            await signalled(ways(PASTE), KEY, said.append)()

    monkeypatch.setattr("os.read", lambda *_: b"")  # standard input ends at once
    with pytest.raises(SettingsError, match="standard input has ended"):
        asyncio.run(dial())
    assert capsys.readouterr().out.startswith("medroi:")
    assert said == [
        "paste the next line into medroi-recv --signal paste, and what that prints in here:"
    ]
