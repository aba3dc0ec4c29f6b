"""Lines carried by a person: printed here, pasted there, and the other way round.

    medroi-send --signal paste                            medroi-recv --signal paste
    stdout: medroi:...          -- copied, pasted -->     stdin
    stdin                       <-- copied, pasted --     stdout: medroi:...

What a person is told goes elsewhere (`on_remark`), so that standard output has lines alone.
Standard input is read in a thread, since it may be a file or a terminal that others write to, which
an event loop cannot wait for or must not change; by block and only when a line is wanted, so that
whatever is poured into it costs one block of memory.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.errors import MedroiError, SettingsError
from shared.transports.webrtc.sealed import LIFE_S, MAX_LINE_CHARS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.transports.webrtc.sealed import BadLine

_BLOCK_BYTES = 4096
_STDIN = 0


class Paste:
    """A `signals.Carrier` of one process."""

    patience_s = float(LIFE_S)
    pause_s = 10.0

    def __init__(
        self,
        on_remark: Callable[[str], None],
        advice: str,
        *,
        read: Callable[[], bytes] = lambda: os.read(_STDIN, _BLOCK_BYTES),
        show: Callable[[str], None] = lambda line: print(line, flush=True),
    ) -> None:
        """``advice`` says what to do with a line that is shown; ``read`` blocks for the next bytes
        and gives none at the end.
        """
        self._on_remark = on_remark
        self._advice = advice
        self._read = read
        self._show = show
        self._lines: deque[str] = deque()
        self._rest = b""
        self._came = asyncio.Event()
        self._wanted = threading.Semaphore(0)
        self._is_reading = False
        self._is_over = False
        self._thread: threading.Thread | None = None
        self._refused: MedroiError | None = None

    @asynccontextmanager
    async def carried(self) -> AsyncIterator[Paste]:
        """Itself, which nobody has to close."""
        yield self

    async def say(self, line: str) -> None:
        """Show a line.

        Raises:
            SettingsError: standard input has ended, so that no other can come back.
        """
        if self._is_over and not self._lines:
            raise _ended()
        self._on_remark(self._advice)
        self._show(line)

    async def hear(self) -> str:
        """The next line that is pasted.

        Raises:
            MedroiError: standard input has ended; where a line was refused before, that reason.
        """
        while not self._lines:
            if self._is_over:
                refused, self._refused = self._refused, None
                raise refused or _ended()
            self._want()
            self._came.clear()
            await self._came.wait()
        return self._lines.popleft()

    def refuse(self, why: BadLine) -> None:
        """Say what is wrong with a line; another may be pasted."""
        self._refused = why
        self._on_remark(str(why))

    def _want(self) -> None:
        if self._is_reading:
            return
        self._is_reading = True
        if self._thread is None:
            # A daemon: nothing ends a read that has begun, and the process does not wait for it.
            self._thread = threading.Thread(
                target=self._pass_on, args=(asyncio.get_running_loop(),), daemon=True
            )
            self._thread.start()
        self._wanted.release()

    def _pass_on(self, loop: asyncio.AbstractEventLoop) -> None:
        block = b"-"
        while block:
            self._wanted.acquire()
            try:
                block = self._read()
            except OSError:  # such as a terminal that is gone
                block = b""
            try:
                loop.call_soon_threadsafe(self._take, block)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _take(self, block: bytes) -> None:
        self._is_reading = False
        self._is_over = not block
        *whole, rest = (self._rest + (block or b"\n")).split(b"\n")
        # Of a line that is too long enough is kept to say so.
        self._rest = rest[: MAX_LINE_CHARS + 1]
        lines = [line[: MAX_LINE_CHARS + 1].decode("ascii", "replace").strip() for line in whole]
        self._lines.extend(line for line in lines if line)
        self._came.set()


def _ended() -> SettingsError:
    return SettingsError("standard input has ended, so no line can be pasted there any more")
