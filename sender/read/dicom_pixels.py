"""The voxels of a stack: every frame straight into its slice of one preallocated array.

    native       seek, read into the slice, fix byte order and unused bits in place
    compressed   read a frame's bytes -> decode in a thread -> its slice, a few frames under way

No file is held whole, and none is read twice. Values are stored values, exactly those of pydicom's
``pixel_array``, little-endian.
"""

from __future__ import annotations

import math
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from pydicom.config import IGNORE
from pydicom.uid import UID, ExplicitVRBigEndian

from protocol import limits
from sender.read.dicom_codestreams import (
    NATIVE_SYNTAXES,
    OWN_PRECISION,
    cut_unused_bits,
    decoder_for,
)
from sender.read.dicom_file import reopen
from sender.read.dicom_fragments import frame_fragments, read_exactly
from sender.read.dicom_values import printable, refusing_damage
from shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from sender.read.dicom_file import DicomFile
    from sender.read.dicom_fragments import Fragment
    from sender.read.dicom_frames import Frame
    from sender.read.dicom_image import DicomImage, PixelFormat

_MOST_THREADS = 8
_AHEAD = 2
"""Frames read and waiting for each thread."""
_UNUSED_BITS = "bits above those that are stored held something else, which is not sent as voxels"


def refuse_undecodable(frames: Sequence[Frame]) -> None:
    """Refuse a stack that nothing here decodes, before any of its pixels are read.

    Raises:
        InputError: names the transfer syntax, or the limit that the stack breaks.
    """
    for frame in frames:
        file = frame.image.file
        packed = file.pixels is not None and file.pixels.fragments is not None
        if (file.syntax in NATIVE_SYNTAXES) == packed:
            raise InputError(file.path, "damaged: its pixels are not as its transfer syntax says")
        if packed and decoder_for(file.syntax) is None:
            name = printable(UID(file.syntax, validation_mode=IGNORE).name)
            raise InputError(file.path, f"its transfer syntax is not decoded: {name}")
    form, path = frames[0].image.format, frames[0].image.file.path
    if len(frames) > limits.MAX_FRAMES:
        raise InputError(path, f"{len(frames)} slices in its series, {limits.MAX_FRAMES} at most")
    voxels = len(frames) * form.rows * form.columns
    if voxels > limits.MAX_VOXELS or len(frames) * form.frame_bytes > limits.MAX_VOLUME_BYTES:
        raise InputError(path, f"{voxels} voxels in its series, which is more than is sent")


def read_voxels(frames: Sequence[Frame]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The voxels of a stack that `refuse_undecodable` has passed, and remarks on them.

    Returns:
        (z, y, x) stored values, C-contiguous.

    Raises:
        InputError: a file is damaged, or changed since its header was read.
    """
    form = frames[0].image.format
    shape = (len(frames), form.rows, form.columns)
    path = frames[0].image.file.path
    try:
        voxels: NDArray[Any] = np.empty(shape, dtype=form.dtype)
    except MemoryError:
        size = math.prod(shape) * form.dtype.itemsize >> 20
        raise InputError(path, f"needs {size} MiB of memory, more than there is") from None
    with _Slices(voxels) as slices:
        for z, frame in enumerate(frames):
            slices.fill(z, frame)
        held = slices.finish()
    return voxels, (_UNUSED_BITS,) if held else ()


class _Slices:
    """Fills the slices of a volume, one file open at a time."""

    def __init__(self, voxels: NDArray[Any]) -> None:
        self._voxels = voxels
        self._image: DicomImage | None = None
        self._file: BinaryIO | None = None
        self._frames: tuple[tuple[Fragment, ...], ...] = ()
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[bool]] = deque()
        self._threads = min(_MOST_THREADS, os.cpu_count() or 1)
        self._held = False

    def __enter__(self) -> _Slices:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._file is not None:
            self._file.close()

    def fill(self, z: int, frame: Frame) -> None:
        """Read a frame into slice z, now or in a thread."""
        image, path = frame.image, frame.image.file.path
        with refusing_damage(path):
            file = self._open(image)
            if not self._frames:
                self._held |= _read_native(file, frame, self._voxels[z])
                return
            fragments = self._frames[frame.index]
            packed = b"".join(read_exactly(file, part.start, part.size_bytes) for part in fragments)
        decode = decoder_for(image.file.syntax)
        assert decode is not None, "refuse_undecodable has looked"
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads)
        while len(self._waiting) >= _AHEAD * self._threads:
            self._held |= self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(_decode, decode, packed, image, self._voxels[z]))

    def finish(self) -> bool:
        """Wait for every slice; whether any had something in its unused bits."""
        for job in self._waiting:
            self._held |= job.result()
        return self._held

    def _open(self, image: DicomImage) -> BinaryIO:
        if self._file is not None and self._image is image:
            return self._file
        if self._file is not None:
            self._file.close()
        pixels = image.file.pixels
        assert pixels is not None
        self._image = image
        self._file = reopen(image.file)
        self._frames = ()
        if pixels.fragments is not None:
            self._frames = frame_fragments(
                pixels.fragments, pixels.offsets, image.frame_count, self._file
            )
        return self._file


def _decode(
    decode: Callable[[bytes, PixelFormat], NDArray[Any]],
    packed: bytes,
    image: DicomImage,
    target: NDArray[Any],
) -> bool:
    """Decode a frame into its slice; whether its unused bits held something."""
    with refusing_damage(image.file.path):
        target[:] = decode(packed, image.format)
        if image.file.syntax in OWN_PRECISION:
            return False
        return cut_unused_bits(target, image.format)


def _read_native(file: BinaryIO, frame: Frame, target: NDArray[Any]) -> bool:
    """Read a frame that is not compressed; whether its unused bits held something."""
    known, form = frame.image.file, frame.image.format
    assert known.pixels is not None
    start = known.pixels.value + frame.index * form.frame_bytes
    swapped = known.syntax == ExplicitVRBigEndian
    if swapped and form.bits_allocated == 8 and known.pixels.vr == "OW":
        _read_swapped_bytes(file, known, start, target)
    else:
        file.seek(start)
        _read_into(file, target.reshape(-1).view(np.uint8).data)
        if swapped:
            target.byteswap(inplace=True)
    return cut_unused_bits(target, form)


def _read_swapped_bytes(file: BinaryIO, known: DicomFile, start: int, target: NDArray[Any]) -> None:
    """Bytes that were written as big-endian words (PS3.5 annex A.3): every two change places, and
    a frame may begin or end in the middle of a word."""
    assert known.pixels is not None
    lead = (start - known.pixels.value) % 2
    size = lead + target.size + (lead + target.size) % 2
    words = np.frombuffer(read_exactly(file, start - lead, size), dtype=np.uint16).byteswap()
    values = words.view(target.dtype)[lead : lead + target.size]
    target[:] = values.reshape(target.shape)


def _read_into(file: BinaryIO, target: memoryview) -> None:
    while target:
        count = file.readinto(target)  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"it ends {len(target)} bytes too early")
        target = target[count:]
