"""Decoding of a peer's bytes: in child processes, under limits, killed on the clock.

"It decoded" proves nothing: most mutated bitstreams decode to something. What comes back from here
is only a candidate; `receiver.compose` compares its digest before anyone hears "exact".
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgpack
import numpy as np

from receiver.decode_child import ANSWER, LENGTH
from shared.codecs.causal.compiled import is_compiled
from shared.codecs.given import Given, decode_with
from shared.codecs.registry import SLOW_TO_LOAD, codec_named
from shared.errors import CodecError, SettingsError
from shared.workers import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from shared.geometry import Triple

_BASE_S, _S_PER_MEGAVOXEL = 10.0, 5.0
"""Time for one encoding: the slowest codec takes 0.1 s per million voxels; this machine may be a
hundred times slower than the ones it was measured on, but not more."""
_PIPE_BYTES = 1 << 20
_LOADS_S = 180.0
"""For a codec to be loaded: where nothing is compiled, a minute of a core."""
_IDLE_S = 0.5
"""Behind its start a receiver has time to load what takes long, whoever may need it."""
_ROOT = str(Path(__file__).resolve().parent.parent)


@dataclass(frozen=True, slots=True)
class DecodeTask:
    """One encoding and what it must decode to."""

    codec: str
    settings: tuple[tuple[str, int], ...]
    shape: Triple
    dtype: np.dtype[Any]
    payload: bytes
    owned: NDArray[np.bool_] | None = None
    """(z, y, x): what is coded at all; None for all of it."""
    base: DecodeTask | None = None
    """What it builds on: of the same shape, type and owned voxels."""

    def rungs(self) -> list[DecodeTask]:
        """The tasks of all encodings that are needed, the lowest first."""
        return [*(self.base.rungs() if self.base else ()), self]


class Decoder(Protocol):
    """Turns encodings into samples."""

    @property
    def count(self) -> int:
        """How many it decodes at once."""
        ...

    async def decode(self, task: DecodeTask) -> NDArray[Any]:
        """(z, y, x) samples of the task's shape and dtype; read-only.

        Raises:
            CodecError: the bytes do not decode to that, or not within the limits.
        """
        ...

    def expect(self, codec: str) -> None:
        """Encodings of a codec are coming: what takes time to load is loaded meanwhile."""
        ...


class InlineDecoder:
    """Decodes here and now, without protection: for virtual time and our own bytes."""

    count = 2

    async def decode(self, task: DecodeTask) -> NDArray[Any]:
        """See `Decoder`."""
        await asyncio.sleep(0)
        given = Given(task.owned, await self.decode(task.base) if task.base else None)
        try:
            codec = codec_named(task.codec)
        except SettingsError as error:  # the peer's, here
            raise CodecError(str(error)) from error
        settings = dict(task.settings)
        return decode_with(codec, task.payload, task.shape, task.dtype, settings, given)

    def expect(self, codec: str) -> None:
        """See `Decoder`."""


class ChildDecoders:
    """A few decoding processes; a broken or slow one is killed and replaced.

    Use as an async context manager.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or usable_cores()
        self._idle: asyncio.Queue[_Child] = asyncio.Queue()
        self._expected: set[str] = set()
        self._loading: asyncio.TimerHandle | None = None
        self._compiling: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> ChildDecoders:
        for _ in range(self.count):
            self._idle.put_nowait(await _Child.start())
        if is_compiled():
            loop = asyncio.get_running_loop()
            self._loading = loop.call_later(_IDLE_S, lambda: list(map(self.expect, SLOW_TO_LOAD)))
        else:  # a minute's work, which must not stand before anybody's first layer
            self._compiling = await _start("shared.codecs.causal.warm")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._loading is not None:
            self._loading.cancel()
        if self._compiling is not None:
            await _stop(self._compiling)
        while not self._idle.empty():
            await self._idle.get_nowait().stop()

    async def decode(self, task: DecodeTask) -> NDArray[Any]:
        """See `Decoder`."""
        child = await self._idle.get()
        try:
            if not child.can_load(task):
                await child.stop()
                child = await _Child.start()
                child.expect(self._expected)
            samples = await child.decode(task)
        except BaseException as error:
            # Cancelled, dead or out of step with its answers: this child is of no more use.
            if not isinstance(error, _Refused):
                await child.stop()
                child = await _Child.start()
                child.expect(self._expected)
            raise
        finally:
            self._idle.put_nowait(child)
        return samples

    def expect(self, codec: str) -> None:
        """See `Decoder`."""
        if codec in self._expected or codec not in SLOW_TO_LOAD:
            return
        self._expected.add(codec)
        for _ in range(self._idle.qsize()):
            child = self._idle.get_nowait()
            child.expect([codec])
            self._idle.put_nowait(child)


class _Refused(CodecError):
    """The child answered that the bytes do not decode; it lives on."""


class _Child:
    """One decoding process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._loading = 0
        """How many answers will come before the next samples."""
        self._loaded: set[str] = set()
        self._confined = False
        """It has been given bytes of a peer, and can load nothing any more."""

    @classmethod
    async def start(cls) -> _Child:
        return cls(await _start("receiver.decode_child"))

    def expect(self, codecs: Iterable[str]) -> None:
        """Have it load these while it has nothing else to do, if it still can."""
        if self._confined:
            return
        assert self._process.stdin is not None  # it is a pipe
        for codec in codecs:
            request = msgpack.packb(codec)
            self._process.stdin.write(LENGTH.pack(len(request)) + request)
            self._loading += 1
            self._loaded.add(codec)

    def can_load(self, task: DecodeTask) -> bool:
        """Whether what is slow to load of a task's codecs is there, or will be."""
        return not self._confined or _slow(task) <= self._loaded

    async def decode(self, task: DecodeTask) -> NDArray[Any]:
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None  # both are pipes
        assert source is not None
        voxels = task.shape[0] * task.shape[1] * task.shape[2]
        limit_s = _BASE_S + _S_PER_MEGAVOXEL * voxels / 1e6
        core_s = limit_s * usable_cores()
        self.expect(_slow(task) - self._loaded)
        self._confined = True
        try:
            await self._have_loaded(source)
            async with asyncio.timeout(limit_s):
                rungs = task.rungs()
                owned = None if task.owned is None else np.packbits(task.owned).tobytes()
                codings = [(rung.codec, rung.settings) for rung in rungs]
                request = msgpack.packb([task.shape, task.dtype.str, owned, codings, core_s])
                sink.write(LENGTH.pack(len(request)) + request)
                for rung in rungs:
                    sink.write(LENGTH.pack(len(rung.payload)) + rung.payload)
                await sink.drain()
                status, size = ANSWER.unpack(await source.readexactly(ANSWER.size))
                expected = voxels * task.dtype.itemsize if status == 0 else 1024
                if size > expected or (status == 0 and size != expected):
                    raise CodecError(f"{task.codec}: {size} bytes decoded, {expected} expected")
                answer = await source.readexactly(size)
        except TimeoutError:
            raise CodecError(f"{task.codec}: decoding took too long and was stopped") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise CodecError(f"{task.codec}: the decoder died of these bytes") from None
        if status != 0:
            raise _Refused(answer.decode(errors="replace"))
        return np.frombuffer(answer, dtype=task.dtype).reshape(task.shape)

    async def _have_loaded(self, source: asyncio.StreamReader) -> None:
        """Wait for what it loads: that says nothing of the bytes that come after."""
        async with asyncio.timeout(_LOADS_S):
            while self._loading:
                await source.readexactly(ANSWER.size)
                self._loading -= 1

    async def stop(self) -> None:
        await _stop(self._process)


async def _start(module: str) -> asyncio.subprocess.Process:
    """A process of our own, without our settings and terminal."""
    environment = {"PYTHONPATH": _ROOT, "PATH": os.defpath, "OMP_NUM_THREADS": "1"}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # or it would import whatever lies in the folder that we were started in
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        limit=_PIPE_BYTES,
        start_new_session=True,  # a Ctrl-C is for the parent, which then stops its children
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _slow(task: DecodeTask) -> set[str]:
    return {rung.codec for rung in task.rungs()} & SLOW_TO_LOAD
