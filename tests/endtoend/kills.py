"""Both commands as real processes, killed with -9, and their line cut, in the middle of a transfer.

medroi-send ─> a relay that is slow and cuts ─> medroi-recv

Whoever is killed is started again at once, by the same command. When enough has happened the line
is let go, and the study has to end exact.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.commands import command, environment
from tests.sender.read.files import nifti
from tests.sender.studies import brain

if TYPE_CHECKING:
    from typing import Self

SHAPE = (48, 128, 128)
_RATE_BYTES = 40_000
"""A second, until the line is let go: the study is about a megabyte."""
_STEP_S = 0.02
_KILL_S = (0.3, 2.5)
"""Between two kills: some hit a process that is starting."""
_CUT_S = (0.1, 0.5)
_END_S = 90.0


class Cutter:
    """A TCP relay in a thread of its own. Use as a context manager."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.held = True
        """The line is slow."""
        self.carried_bytes = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.1), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def cut(self) -> bool:
        """Break every connection there is; whether there was one."""
        there = bool(self._writers)

        def abort() -> None:
            for writer in list(self._writers):
                writer.transport.abort()

        self._loop.call_soon_threadsafe(abort)
        return there

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        with suppress(OSError, ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, back))
                group.create_task(self._carry(onward, writer))
        self._writers -= {writer, back}

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while content := await source.read(int(_RATE_BYTES * _STEP_S) if self.held else 65536):
                sink.write(content)
                self.carried_bytes += len(content)
                await sink.drain()
                if self.held:
                    await asyncio.sleep(_STEP_S)
        finally:
            sink.transport.abort()


class Pair:
    """A clinic and a site that are started as often as it takes. Use as a context manager."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self.study = folder / "study.nii"
        self.study.write_bytes(nifti(brain(SHAPE, seed=seed)))
        self._port = _free_port()
        self.cutter = Cutter(self._port)
        self._log = (folder / "said.txt").open("wb")

    def __enter__(self) -> Self:
        self.cutter.__enter__()
        self.receiver = self.start_receiver()
        self.sender = self.start_sender()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.sender, self.receiver):
            process.kill()
            process.wait()
        self.cutter.__exit__()
        self._log.close()

    def start_receiver(self) -> subprocess.Popen[bytes]:
        """As a service manager would."""
        listening = ("--listen", f"127.0.0.1:{self._port}", "--out", self._folder / "clinic")
        return self._start("receiver.cli", *listening)

    def start_sender(self) -> subprocess.Popen[bytes]:
        """As a user would who has seen it die."""
        url = f"ws://127.0.0.1:{self.cutter.port}"
        spool = self._folder / "spool"
        roi = ("--roi", "box:20:28,40:80,40:80", "--exact-codec", "zstd")
        return self._start("sender.cli", self.study, "--to", url, "--spool", spool, *roi)

    def _start(self, *arguments: object) -> subprocess.Popen[bytes]:
        module, *rest = arguments
        return subprocess.Popen(
            command(str(module), *rest, "--quiet"),
            env=environment(),
            stdout=self._log,
            stderr=self._log,
        )

    def kill_one(self, chance: random.Random) -> None:
        """kill -9, and start it again."""
        if chance.random() < 0.5:
            self.sender.send_signal(signal.SIGKILL)
            self.sender.wait()
            self.sender = self.start_sender()
        else:
            self.receiver.send_signal(signal.SIGKILL)
            self.receiver.wait()
            self.receiver = self.start_receiver()

    def is_over(self) -> bool:
        """Whether the sender has ended, as it must with 0."""
        code = self.sender.poll()
        assert code in (None, 0), f"medroi-send ended with {code}: {self.said()}"
        assert self.receiver.poll() is None, f"medroi-recv ended: {self.said()}"
        return code == 0

    def said(self) -> str:
        """The end of what both have printed."""
        return (self._folder / "said.txt").read_text(errors="replace")[-1500:]

    def wait(self) -> None:
        """Until the study is at the clinic, byte for byte."""
        self.cutter.held = False
        end_s = time.monotonic() + _END_S
        while not self.is_over():
            assert time.monotonic() < end_s, f"it never ends: {self.said()}"
            time.sleep(0.05)
        (stored,) = (self._folder / "clinic").glob("*/series-1.nii")
        assert stored.read_bytes() == self.study.read_bytes(), "it is not exact"


def suffer(folder: Path, seed: int, *, kills: int, cuts: int) -> tuple[int, int]:
    """One transfer with so many kills and cuts, or as many as it takes to its end.

    Raises:
        AssertionError: it did not end, or not exact.
    """
    chance = random.Random(seed)
    killed = cut = 0
    with Pair(folder, seed) as pair:
        while killed < kills or cut < cuts:
            if killed < kills and (cut >= cuts or chance.random() < 0.5):
                time.sleep(chance.uniform(*_KILL_S))
                if pair.is_over():
                    break
                pair.kill_one(chance)
                killed += 1
            else:
                time.sleep(chance.uniform(*_CUT_S))
                if pair.is_over():
                    break
                cut += pair.cutter.cut()
        pair.wait()
    return killed, cut


def suffer_all(first: int, *, kills: int, cuts: int) -> tuple[int, int, int]:
    """Transfers, one after the other, until so much has happened: how many, kills and cuts."""
    transfers = killed = cut = 0
    while killed < kills or cut < cuts:
        with TemporaryDirectory() as folder:
            more = suffer(Path(folder), first + transfers, kills=kills - killed, cuts=cuts - cut)
        transfers, killed, cut = transfers + 1, killed + more[0], cut + more[1]
    return transfers, killed, cut


def main() -> int:
    """``python -m tests.endtoend.kills FIRST KILLS CUTS``."""
    first, kills, cuts = (int(argument) for argument in sys.argv[1:4])
    transfers, killed, cut = suffer_all(first, kills=kills, cuts=cuts)
    print(
        f"{transfers} transfers with {killed} kills and {cut} disconnects ended exact", flush=True
    )
    return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
