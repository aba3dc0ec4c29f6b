"""A real loop and real signals, sent to this process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from shared.errors import TransportClosed
from shared.loop import run_on_loop

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no signals that a loop can handle"
)
_PATIENCE_S = 10.0


async def signalled(number: int, cleaned: list[str]) -> None:
    """Send this process a signal and wait to be cancelled for it."""
    try:
        os.kill(os.getpid(), number)
        await asyncio.sleep(_PATIENCE_S)
    finally:
        await asyncio.sleep(0)  # clean-up may wait
        cleaned.append("in order")


def test_a_command_gives_its_result() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert run_on_loop(work()) == 7


def test_its_error_comes_through() -> None:
    async def work() -> None:
        raise TransportClosed("the line was cut")

    with pytest.raises(TransportClosed, match="the line was cut"):
        run_on_loop(work())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_command_which_cleans_up(number: int) -> None:
    cleaned: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_on_loop(signalled(number, cleaned))
    assert cleaned == ["in order"]


def test_a_second_signal_does_not_break_into_the_clean_up() -> None:
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await signalled(signal.SIGTERM, cleaned)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.01)
            cleaned.append("twice")

    with pytest.raises(KeyboardInterrupt):
        run_on_loop(work())
    assert cleaned == ["in order", "twice"]


def test_a_cancel_of_its_own_is_no_signal() -> None:
    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(_PATIENCE_S)

    with pytest.raises(asyncio.CancelledError):
        run_on_loop(work())


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        run_on_loop(signalled(signal.SIGTERM, []))
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert after == before
