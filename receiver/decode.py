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
from shared.codecs.given import NOTHING, Given, decode_with, packed_given
from shared.codecs.registry import GIVEN_CODECS, codec_named
from shared.errors import CodecError, SettingsError
from shared.workers import usable_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.geometry import Triple

_BASE_S, _S_PER_MEGAVOXEL = 10.0, 5.0
"""Time for one encoding: the slowest codec takes 0.1 s per million voxels; this machine may be a
hundred times slower than the ones it was measured on, but not more."""
_PIPE_BYTES = 1 << 20
_ROOT = str(Path(__file__).resolve().parent.parent)


@dataclass(frozen=True, slots=True)
class DecodeTask:
    """One encoding and what it must decode to."""

    codec: str
    settings: tuple[tuple[str, int], ...]
    shape: Triple
    dtype: np.dtype[Any]
    payload: bytes
    given: Given = NOTHING
    """What is known of the box beforehand; codecs that make no use of it are decoded without."""


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


class InlineDecoder:
    """Decodes here and now, without protection: for virtual time and our own bytes."""

    count = 2

    async def decode(self, task: DecodeTask) -> NDArray[Any]:
        """See `Decoder`."""
        await asyncio.sleep(0)
        try:
            codec = codec_named(task.codec)
        except SettingsError as error:  # the peer's, here
            raise CodecError(str(error)) from error
        return decode_with(
            codec, task.payload, task.shape, task.dtype, dict(task.settings), task.given
        )


class ChildDecoders:
    """A few decoding processes; a broken or slow one is killed and replaced.

    Use as an async context manager.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or usable_cores()
        self._idle: asyncio.Queue[_Child] = asyncio.Queue()

    async def __aenter__(self) -> ChildDecoders:
        for _ in range(self.count):
            self._idle.put_nowait(await _Child.start())
        return self

    async def __aexit__(self, *_: object) -> None:
        while not self._idle.empty():
            await self._idle.get_nowait().stop()

    async def decode(self, task: DecodeTask) -> NDArray[Any]:
        """See `Decoder`."""
        child = await self._idle.get()
        try:
            samples = await child.decode(task)
        except BaseException as error:
            # Cancelled, dead or out of step with its answers: this child is of no more use.
            if not isinstance(error, _Refused):
                await child.stop()
                child = await _Child.start()
            raise
        finally:
            self._idle.put_nowait(child)
        return samples


class _Refused(CodecError):
    """The child answered that the bytes do not decode; it lives on."""


class _Child:
    """One decoding process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> _Child:
        environment = {"PYTHONPATH": _ROOT, "PATH": os.defpath, "OMP_NUM_THREADS": "1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # or it would import whatever lies in the folder that we were started in
            "-m",
            "receiver.decode_child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            limit=_PIPE_BYTES,
            start_new_session=True,  # a Ctrl-C is for the parent, which then stops its children
        )
        return cls(process)

    async def decode(self, task: DecodeTask) -> NDArray[Any]:
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None  # both are pipes
        assert source is not None
        voxels = task.shape[0] * task.shape[1] * task.shape[2]
        try:
            async with asyncio.timeout(_BASE_S + _S_PER_MEGAVOXEL * voxels / 1e6):
                known = packed_given(task.given) if task.codec in GIVEN_CODECS else []
                request = msgpack.packb(
                    [task.codec, task.shape, task.dtype.str, task.settings, known]
                )
                sink.write(LENGTH.pack(len(request)) + request)
                sink.write(LENGTH.pack(len(task.payload)) + task.payload)
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

    async def stop(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
