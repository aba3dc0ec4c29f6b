"""Work in processes of their own: for libraries that hold the interpreter while they load.

    pool thread ── pickled function and arguments ──> python -m shared.apart
                <── pickled result, or exception ───

Our own functions on our own voxels, never a peer's bytes: those are decoded by `receiver.decode`,
and nothing that comes from there is unpickled. A child gives way to everything else on the machine.
It ends with its parent, however that ends: its input does.
"""

from __future__ import annotations

import os
import pickle
import queue
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_LENGTH = struct.Struct("!Q")
_ROOT = str(Path(__file__).resolve().parent.parent)
_NICENESS = 10


class Apart:
    """A few such processes, each started when it is first needed. `close` must follow."""

    def __init__(self, count: int) -> None:
        self._idle: queue.Queue[subprocess.Popen[bytes] | None] = queue.Queue()
        for _ in range(count):
            self._idle.put(None)

    def call(self, work: Callable[[*Ts], T], arguments: tuple[*Ts]) -> T:
        """The function's result; its exceptions come through. Blocking: call it in a thread.

        Where the process dies of it the work is done here.
        """
        child = self._idle.get()
        try:
            child = child or _start()
            result, error = _ask(child, work, arguments)
        except (OSError, EOFError, pickle.PickleError):
            if child is not None:
                _stop(child)
            child = None
            return work(*arguments)
        finally:
            self._idle.put(child)
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """End those that are idle; one at work ends with its input."""
        with suppress(queue.Empty):
            while True:
                child = self._idle.get_nowait()
                if child is not None:
                    _stop(child)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "shared.apart"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": _ROOT},
        start_new_session=True,  # a Ctrl-C is for the parent
    )


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()


def _ask(
    child: subprocess.Popen[bytes], work: Callable[[*Ts], T], arguments: tuple[*Ts]
) -> tuple[T, Exception | None]:
    assert child.stdin is not None  # both are pipes
    assert child.stdout is not None
    _write(child.stdin, (work, arguments))
    answer: tuple[T, Exception | None] = pickle.loads(_read(child.stdout))
    return answer


def _write(sink: IO[bytes], content: object) -> None:
    packed = pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)
    sink.write(_LENGTH.pack(len(packed)))
    sink.write(packed)
    sink.flush()


def _read(source: IO[bytes]) -> bytes:
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(head)
    packed = source.read(size)
    if len(packed) < size:
        raise EOFError
    return packed


def main() -> None:
    """Serve until the input ends."""
    if sys.platform != "win32":
        os.nice(_NICENESS)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what prints must not write into the answers
    with suppress(EOFError, BrokenPipeError):
        while True:
            work, arguments = pickle.loads(_read(source))
            answer: tuple[Any, Exception | None]
            try:
                answer = work(*arguments), None
            except Exception as error:  # it is the caller's
                answer = None, error
            _write(sink, answer)


if __name__ == "__main__":
    main()
