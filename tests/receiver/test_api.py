"""What a viewer may ask, what it is told, and who is no viewer."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from protocol import messages as m
from receiver.api import serving
from receiver.store import TOKEN_NAME
from shared.errors import SettingsError
from shared.geometry import Box
from tests.receiver.studies import study

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from receiver.session import ReceivingSession


class Session:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.manifest = study().manifest
        self.volumes: list[Any] = []
        self.folder = None
        self.exact = None
        self.is_waiting = False
        self.asked: list[object] = []

    def focus(self, focus: m.Focus) -> None:
        self.asked.append(focus)

    def pause(self, *, paused: bool) -> None:
        self.asked.append(paused)


class Rooms:
    def __init__(self) -> None:
        self.session = Session()

    def sessions(self) -> list[ReceivingSession]:
        return [cast("ReceivingSession", self.session)]


@asynccontextmanager
async def viewer(rooms: Rooms, out: Path) -> AsyncIterator[ClientConnection]:
    async with serving(rooms, "127.0.0.1", 0, out) as url, connect(url) as connection:
        await connection.send(json.dumps({"token": (out / TOKEN_NAME).read_text()}))
        assert json.loads(await connection.recv()) == {"ok": True}
        yield connection


def asked(out: Path, *questions: object) -> tuple[Rooms, list[dict[str, Any]]]:
    """What a viewer is answered."""
    rooms = Rooms()

    async def run() -> list[dict[str, Any]]:
        answers = []
        async with viewer(rooms, out) as connection:
            for question in questions:
                text = question if isinstance(question, str) else json.dumps(question)
                await connection.send(text)
                answers.append(json.loads(await connection.recv()))
        return answers

    return rooms, asyncio.run(run())


def test_what_a_viewer_has_paused_goes_on_when_it_is_gone(tmp_path: Path) -> None:
    seen: list[str] = []
    pause, resume = (json.dumps({"do": do, "study": STUDY}) for do in ("pause", "resume"))

    async def ask(connection: ClientConnection, question: str) -> None:
        await connection.send(question)
        assert json.loads(await connection.recv()) == {"ok": True}

    async def join(url: str) -> ClientConnection:
        connection = await connect(url)
        await ask(connection, json.dumps({"token": (tmp_path / TOKEN_NAME).read_text()}))
        return connection

    async def gone(connection: ClientConnection) -> None:
        connection.transport.abort()
        await asyncio.sleep(0.1)

    async def run() -> None:
        rooms = Rooms()
        heard = rooms.session.asked
        note = lambda what, *_: seen.append(what)  # noqa: E731
        async with serving(rooms, "127.0.0.1", 0, tmp_path, note) as url:
            one, another, third = [await join(url) for _ in range(3)]
            await ask(one, pause)
            await ask(another, pause)
            await gone(one)
            assert heard == [True, True]  # the other one still wants it so
            await gone(another)
            assert heard == [True, True, False]
            await ask(third, pause)
            await ask(third, resume)
            await gone(third)
            assert heard == [True, True, False, True, False]

    asyncio.run(run())
    assert seen == ["pause", "pause", "resume", "pause", "resume"]


STUDY = study().manifest.study.hex()
SHAPE = study().manifest.series[0].header.shape
BOX = [[0, 1], [1, 2], [0, SHAPE[2]]]


def test_the_token_is_for_its_owner_alone_and_goes_with_the_receiver(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(Rooms(), "127.0.0.1", 0, tmp_path) as url:
            assert url.startswith("ws://127.0.0.1:")
            path = tmp_path / TOKEN_NAME
            assert path.stat().st_mode & 0o777 == 0o600
            assert len(path.read_text()) == 32

    asyncio.run(run())
    assert not (tmp_path / TOKEN_NAME).exists()


def test_a_viewer_hears_what_there_is(tmp_path: Path) -> None:
    _, (answer,) = asked(tmp_path, {"do": "studies"})
    (found,) = answer["studies"]
    assert found["study"] == STUDY
    assert found["connected"] is True
    assert found["exact"] is None


def test_a_focus_on_a_box_and_one_on_slices_reach_the_session(tmp_path: Path) -> None:
    rooms, answers = asked(
        tmp_path,
        {"do": "focus", "study": STUDY, "series": 0, "rank": 3, "box": BOX},
        {"do": "focus", "study": STUDY, "slices": [1, 2]},
        {"do": "pause", "study": STUDY},
        {"do": "resume", "study": STUDY},
    )
    assert answers == [{"ok": True}] * 4
    assert rooms.session.asked == [
        m.Focus(0, Box((0, 1, 0), (1, 2, SHAPE[2])), 3),
        m.Focus(0, Box((1, 0, 0), (2, *SHAPE[1:])), 0),
        True,
        False,
    ]


@pytest.mark.parametrize(
    "question",
    [
        "",
        "[]",
        "[" * 20_000,
        {"do": "delete"},
        {"do": "focus"},
        {"do": "focus", "study": "00", "box": BOX},
        {"do": "focus", "study": STUDY},
        {"do": "focus", "study": STUDY, "box": BOX, "slices": [0, 1]},
        {"do": "focus", "study": STUDY, "box": BOX, "series": 7},
        {"do": "focus", "study": STUDY, "box": BOX, "series": True},
        {"do": "focus", "study": STUDY, "box": BOX, "rank": 256},
        {"do": "focus", "study": STUDY, "box": BOX[:2]},
        {"do": "focus", "study": STUDY, "box": [[0, 1], [0, 1], [0, 10**9]]},
        {"do": "focus", "study": STUDY, "box": [[0, 1], [0, 1], [-1, 1]]},
        {"do": "focus", "study": STUDY, "box": [[0, 1], [0, 1], [0.5, 1]]},
        {"do": "focus", "study": STUDY, "slices": [1, 1]},
        {"do": "focus", "study": STUDY, "slices": "all"},
    ],
)
def test_what_cannot_be_done_is_answered_by_a_sentence(tmp_path: Path, question: object) -> None:
    rooms, answers = asked(tmp_path, question, {"do": "studies"})
    assert list(answers[0]) == ["error"]
    assert "ok" in answers[1]
    assert rooms.session.asked == []


@pytest.mark.parametrize(
    "first", ["{}", "x", '{"token": "0"}', '{"token": 5}', '{"do": "studies"}']
)
def test_nothing_is_answered_without_the_token(tmp_path: Path, first: str) -> None:
    async def run() -> None:
        async with (
            serving(Rooms(), "127.0.0.1", 0, tmp_path) as url,
            connect(url) as connection,
        ):
            await connection.send(first)
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008

    asyncio.run(run())


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}]
)
def test_a_page_from_elsewhere_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    async def run() -> None:
        async with serving(Rooms(), "127.0.0.1", 0, tmp_path) as url:
            port = int(url.rpartition(":")[2])
            if "Host" in headers:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(
                    b"GET / HTTP/1.1\r\nHost: evil.example\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
                )
                assert b" 403 " in await reader.readline()
                writer.close()
            else:
                with pytest.raises(InvalidStatus, match="403"):
                    await connect(url, additional_headers=headers)

    asyncio.run(run())


def test_only_this_machine_can_be_served(tmp_path: Path) -> None:
    async def run(host: str) -> None:
        async with serving(Rooms(), host, 0, tmp_path):
            pass

    for host in ("0.0.0.0", "192.0.2.1", "example.org"):
        with pytest.raises(SettingsError, match="only loopback"):
            asyncio.run(run(host))


def test_too_many_viewers_are_sent_away(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(Rooms(), "127.0.0.1", 0, tmp_path) as url:
            there = [await connect(url) for _ in range(8)]
            await asyncio.sleep(0.1)
            late = await connect(url)
            with pytest.raises(ConnectionClosed, match="too many viewers"):
                await late.recv()
            for each in there:
                await each.close()

    asyncio.run(run())
