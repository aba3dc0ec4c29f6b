"""Work in real processes of their own."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared.apart import Apart
from shared.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterator


def where(_: object = None) -> int:
    return os.getpid()


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def refuse(why: str) -> None:
    raise CodecError(why)


def say(words: str) -> str:
    print(words)
    return words


def die_of(parent: int) -> int:
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@pytest.fixture
def apart() -> Iterator[Apart]:
    made = Apart(1)
    yield made
    made.close()


def test_a_function_is_run_elsewhere_by_the_same_process_each_time(apart: Apart) -> None:
    first = apart.call(where, (None,))
    assert first != os.getpid()
    assert apart.call(where, (None,)) == first


def test_it_gives_way(apart: Apart) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no niceness")
    assert apart.call(niceness, ()) > niceness()


def test_arrays_go_there_and_back(apart: Apart) -> None:
    many = np.arange(1 << 18, dtype=np.uint16).reshape(64, 64, 64)
    assert np.array_equal(apart.call(np.flip, (many,)), np.flip(many))


def test_an_error_comes_through_and_the_process_lives_on(apart: Apart) -> None:
    first = apart.call(where, (None,))
    with pytest.raises(CodecError, match="no good"):
        apart.call(refuse, ("no good",))
    assert apart.call(where, (None,)) == first


def test_what_prints_does_not_write_into_the_answers(apart: Apart) -> None:
    assert apart.call(say, ("words",)) == "words"
    assert apart.call(say, ("more",)) == "more"


def test_work_of_which_the_process_dies_is_done_here(apart: Apart) -> None:
    assert apart.call(die_of, (os.getpid(),)) == os.getpid()
    assert apart.call(where, (None,)) != os.getpid()


def test_closing_ends_the_processes() -> None:
    made = Apart(1)
    child = made.call(where, (None,))
    made.close()  # waits for their end, so that none is left for anybody to wait for
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
