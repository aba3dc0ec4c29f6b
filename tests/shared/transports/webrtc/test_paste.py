from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.errors import MedroiError, SettingsError
from shared.transports.webrtc.paste import Paste
from shared.transports.webrtc.sealed import MAX_LINE_CHARS, BadLine, Fault

if TYPE_CHECKING:
    from collections.abc import Callable


def reading(*blocks: bytes) -> Callable[[], bytes]:
    """Gives these, then the end."""
    left = iter((*blocks, b""))
    return lambda: next(left)


async def heard(*blocks: bytes) -> list[str]:
    """Lines until the end of input."""
    paste = Paste(lambda _: None, "", read=reading(*blocks))
    lines: list[str] = []
    while True:
        try:
            lines.append(await paste.hear())
        except SettingsError:
            return lines


def test_lines_come_whole_however_they_are_cut_and_empty_ones_do_not() -> None:
    lines = asyncio.run(heard(b"medr", b"oi:a\r\n\n  \nmedroi:b\nmed", b"roi:c"))
    assert lines == ["medroi:a", "medroi:b", "medroi:c"]


def test_of_an_endless_line_no_more_is_kept_than_says_so() -> None:
    lines = asyncio.run(heard(*[b"x" * 4096] * 50, b"\nnext\n"))
    assert [len(line) for line in lines] == [MAX_LINE_CHARS + 1, 4]


def test_a_line_and_its_advice_go_different_ways() -> None:
    async def said() -> tuple[list[str], list[str]]:
        shown: list[str] = []
        told: list[str] = []
        paste = Paste(told.append, "paste it there:", read=reading(), show=shown.append)
        await paste.say("medroi:x")
        return shown, told

    assert asyncio.run(said()) == (["medroi:x"], ["paste it there:"])


def test_what_was_wrong_with_the_last_line_is_how_it_ends() -> None:
    async def refused() -> None:
        paste = Paste(told.append, "", read=reading(b"medroi:x"))
        await paste.hear()
        paste.refuse(BadLine(Fault.TORN))
        await paste.hear()

    told: list[str] = []
    with pytest.raises(BadLine, match="torn"):
        asyncio.run(refused())
    assert told == [str(Fault.TORN)]


def test_no_line_is_shown_to_which_no_answer_can_come() -> None:
    async def over() -> None:
        paste = Paste(lambda _: None, "", read=reading(), show=shown.append)
        with pytest.raises(MedroiError):
            await paste.hear()
        await paste.say("medroi:x")

    shown: list[str] = []
    with pytest.raises(SettingsError, match="ended"):
        asyncio.run(over())
    assert shown == []
