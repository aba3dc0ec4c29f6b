"""What is put on the disk in groups, in virtual time, and what is said of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from protocol import limits
from protocol import messages as m
from protocol.frames import Fragment
from receiver import keeper as keeper_module
from receiver.keeper import Keeper
from receiver.log import fragment_record, message_record
from shared.clock import LoopClock
from tests.protocol import examples
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from receiver.log import SessionLog
    from shared.recordlog import Record

LARGE = bytes(64 << 10)


class Disk:
    """A log, and the worker that writes it: a write takes a while, and may fail."""

    def __init__(self) -> None:
        self.groups: list[list[Record]] = []
        self.times_s: list[float] = []
        self.takes_s = 0.01
        self.error: OSError | None = None

    def append(self, records: Sequence[Record]) -> None:
        if self.error is not None:
            raise self.error
        self.groups.append(list(records))

    async def run(self, function: Callable[..., object], *arguments: object) -> object:
        await asyncio.sleep(self.takes_s)
        self.times_s.append(asyncio.get_running_loop().time())
        return function(*arguments)

    @property
    def records(self) -> list[Record]:
        return [record for group in self.groups for record in group]


class Bench:
    def __init__(self) -> None:
        self.disk = Disk()
        self.said: list[m.Stored] = []
        self.keeper = Keeper(cast("Any", self.disk), LoopClock(), self._say)

    def _say(self, stored: m.Stored) -> None:
        self.said.append(stored)

    async def put(self, number: int, offset: int, content: bytes = b"x" * 100) -> None:
        await self.keeper.put_fragment(Fragment(number, offset, content))


def play(script: Callable[[Bench], Coroutine[Any, Any, None]], *, runs: bool = True) -> None:
    async def main() -> None:
        bench = Bench()
        async with asyncio.TaskGroup() as group:
            if runs:
                bench.keeper.open(cast("SessionLog", bench.disk))
            running = group.create_task(bench.keeper.run()) if runs else None
            await script(bench)
            if running is not None:
                running.cancel()

    run_virtual(main(), limit_s=3600)


def test_records_wait_a_tenth_of_a_second_for_company_and_go_in_one_group_in_order() -> None:
    async def script(bench: Bench) -> None:
        for offset in (0, 100, 300):
            await bench.put(0, offset)
            await asyncio.sleep(0.02)
        assert bench.disk.groups == []
        assert bench.said == []
        await asyncio.sleep(0.1)
        assert [len(group) for group in bench.disk.groups] == [3]
        assert bench.said == [m.Stored((m.Received(0, ((0, 200), (300, 400))),))]

    play(script)


def test_nothing_is_said_to_be_stored_before_the_disk_has_it() -> None:
    async def script(bench: Bench) -> None:
        bench.disk.takes_s = 5.0
        await bench.put(0, 0)
        await asyncio.sleep(4.9)
        assert bench.said == []
        await asyncio.sleep(0.3)
        assert len(bench.said) == 1

    play(script)


def test_a_mebibyte_does_not_wait_for_more() -> None:
    async def script(bench: Bench) -> None:
        for number in range(17):
            await bench.put(0, number * len(LARGE), LARGE)
        await asyncio.sleep(0.03)
        assert len(bench.disk.records) == 17

    play(script)


def test_who_waits_for_a_record_does_not_wait_for_company_and_has_all_that_was_put_before() -> None:
    async def script(bench: Bench) -> None:
        await bench.put(0, 0)
        await bench.keeper.put_message(examples.MANIFEST)
        began_s = asyncio.get_running_loop().time()
        await bench.keeper.until_kept()
        assert asyncio.get_running_loop().time() - began_s < 0.02
        fragment = fragment_record(Fragment(0, 0, b"x" * 100))
        assert bench.disk.records == [fragment, message_record(examples.MANIFEST)]
        await bench.keeper.until_kept()  # at once: nothing has been put since

    play(script)


def test_what_is_put_while_the_disk_is_at_work_is_waited_for_too() -> None:
    async def script(bench: Bench) -> None:
        bench.disk.takes_s = 1.0
        await bench.put(0, 0)
        await asyncio.sleep(0.5)
        await bench.put(0, 100)
        await bench.keeper.until_kept()
        assert len(bench.disk.records) == 2

    play(script)


def test_messages_are_kept_and_not_told_as_stored() -> None:
    async def script(bench: Bench) -> None:
        await bench.keeper.put_message(examples.MANIFEST)
        await bench.keeper.until_kept()
        assert bench.disk.records == [message_record(examples.MANIFEST)]
        assert bench.said == []

    play(script)


def test_a_disk_slower_than_the_link_holds_up_the_link() -> None:
    async def script(bench: Bench) -> None:
        bench.disk.takes_s = 60.0
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        most = keeper_module._UNSAVED_BYTES // len(LARGE)
        for number in range(3 * most):
            await bench.put(0, number * len(LARGE), LARGE)
        assert loop.time() - began_s >= 60
        assert bench.keeper._unsaved_bytes <= keeper_module._UNSAVED_BYTES + 2 * len(LARGE)
        await bench.keeper.until_kept()
        assert len(bench.disk.records) == 3 * most

    play(script)


def test_what_is_put_before_there_is_a_log_goes_into_it_first() -> None:
    async def script(bench: Bench) -> None:
        await bench.put(0, 0)
        await asyncio.sleep(10)
        assert bench.disk.groups == []
        async with asyncio.TaskGroup() as group:
            running = group.create_task(bench.keeper.run())
            await asyncio.sleep(10)
            assert bench.disk.groups == []
            bench.keeper.open(cast("SessionLog", bench.disk))
            await bench.keeper.until_kept()
            running.cancel()
        assert len(bench.disk.records) == 1

    play(script, runs=False)


def test_a_disk_that_takes_no_more_is_the_callers_error_and_nothing_is_told() -> None:
    told: list[m.Stored] = []

    async def script(bench: Bench) -> None:
        bench.disk.error = OSError(28, "No space left on device")
        await bench.put(0, 0)
        try:
            await asyncio.sleep(5)
        finally:
            told.extend(bench.said)

    with pytest.raises(ExceptionGroup) as caught:
        play(script)
    assert caught.group_contains(OSError, match="No space left")
    assert told == []


def test_no_word_is_larger_than_a_sender_takes() -> None:
    async def script(bench: Bench) -> None:
        for number in range(limits.MAX_OPEN_LAYERS + 3):
            await bench.put(number, 0, b"x")
        for piece in range(limits.MAX_STATED_PIECES + 3):
            await bench.put(0, 2 * piece, b"x")
        await bench.keeper.until_kept()
        (stored,) = bench.said
        assert len(stored.parts) == limits.MAX_OPEN_LAYERS
        assert max(len(part.ranges) for part in stored.parts) == limits.MAX_STATED_PIECES

    play(script)
