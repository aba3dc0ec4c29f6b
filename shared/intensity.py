"""Stored values <-> what codecs code: exact sample maps, and the 12-bit window of previews.

    stored values --SampleMap--> samples (uint8, uint16 or raw) --exact codec--> bytes
    stored values --PreviewWindow--> 12-bit samples --HEVC--> bytes

A sample map is exact by construction and checked on every distinct value before it is chosen. A
preview window clips outliers and rounds; what that costs is part of the preview's measured error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import nextafter
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.errors import CodecError
from shared.steps import at_step, find_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREVIEW_BITS = 12
PREVIEW_DTYPE = np.dtype(np.uint16)
PREVIEW_MAX = (1 << PREVIEW_BITS) - 1
"""The top of a preview's 12-bit samples: HEVC's deepest gray format in PyAV is gray12le."""
MAX_SAMPLE_BITS = 16
"""What every image codec of the registry takes."""
MAX_LEVELS = 4096
"""A level table longer than this would cost more in the manifest than it saves."""
_TAIL = 1e-4
"""Share of voxels at either end that a preview window may clip where the range is too wide."""
_FLOAT_MAX = float(np.finfo(np.float64).max)
_FARTHEST = _FLOAT_MAX / 4
"""A window ends there at the latest, so that its width is a number too."""


class SampleKind(StrEnum):
    """How samples stand for stored values."""

    INTEGER = "integer"
    """value = offset + sample."""
    STEP = "step"
    """value = float((offset + sample) * step), rounded once to the stored type."""
    LEVELS = "levels"
    """value = levels[sample]: few distinct values, whatever they are (NaN and -0.0 included)."""
    RAW = "raw"
    """sample = value: too many distinct values for 16 bits."""


@dataclass(frozen=True, slots=True)
class SampleMap:
    """How the stored values of one series become samples, and exactly back."""

    kind: SampleKind
    bits: int
    """Samples are below ``2 ** bits``; for raw samples, the bits of the stored type."""
    offset: int = 0
    step: float = 0.0
    levels: bytes = b""
    """The stored values of each level, ascending, little-endian."""

    def sample_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The type of the samples of stored values of type ``dtype``."""
        if self.kind is SampleKind.RAW:
            return dtype.newbyteorder("=")
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16)

    def to_samples(self, values: NDArray[Any]) -> NDArray[Any]:
        """Samples of a block of stored values, a new C-contiguous array of the same shape."""
        native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
        sample = self.sample_dtype(native.dtype)
        match self.kind:
            case SampleKind.INTEGER:
                # Modular arithmetic on the unsigned view: right for every integer type.
                unsigned = _unsigned(native.dtype)
                offset = _wrap(self.offset, unsigned)
                samples: NDArray[Any] = (native.view(unsigned) - offset).astype(sample)
                return samples
            case SampleKind.STEP:
                index = np.rint(native.astype(np.float64) / self.step) - self.offset
                return index.astype(sample)
            case SampleKind.LEVELS:
                keys = _sort_keys(self._level_values(native.dtype))
                return np.searchsorted(keys, _sort_keys(native)).astype(sample)
            case SampleKind.RAW:
                # A copy always: whoever gets samples may fill what is not owned in place.
                return np.array(values, dtype=sample, order="C")

    def from_samples(self, samples: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Stored values (native byte order) of a block of samples.

        Raises:
            CodecError: a sample has no stored value, so these are not the samples that were coded.
        """
        native = dtype.newbyteorder("=")
        match self.kind:
            case SampleKind.INTEGER:
                unsigned = _unsigned(native)
                values = samples.astype(unsigned) + _wrap(self.offset, unsigned)
                restored: NDArray[Any] = values.view(native)
                return restored
            case SampleKind.STEP:
                return at_step(samples.astype(np.int64) + self.offset, self.step, native)
            case SampleKind.LEVELS:
                table = self._level_values(native)
                if samples.size and int(samples.max()) >= table.size:
                    raise CodecError(f"sample {samples.max()} of only {table.size} levels")
                chosen: NDArray[Any] = table[samples]
                return chosen
            case SampleKind.RAW:
                return samples.astype(native, copy=False)

    def _level_values(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        little = np.frombuffer(self.levels, dtype=dtype.newbyteorder("<"))
        return little.astype(dtype.newbyteorder("="))


def fit_sample_map(voxels: NDArray[Any]) -> SampleMap:
    """The map with the fewest bits that brings every voxel back bitwise.

    Args:
        voxels: (z, y, x), any integer or floating type.
    """
    dtype = voxels.dtype
    if dtype.kind in "iu":
        low, high = int(voxels.min()), int(voxels.max())
        if (bits := max(1, (high - low).bit_length())) <= MAX_SAMPLE_BITS:
            return SampleMap(SampleKind.INTEGER, bits, offset=low)
    values = _distinct(voxels, limit=1 << MAX_SAMPLE_BITS)
    if values is not None:
        if dtype.kind == "f" and (found := find_step(values)) is not None:
            bits = max(1, (found.last - found.first).bit_length())
            return SampleMap(SampleKind.STEP, bits, offset=found.first, step=found.size)
        if values.size <= MAX_LEVELS:
            little = values.astype(dtype.newbyteorder("<"))
            bits = max(1, (values.size - 1).bit_length())
            return SampleMap(SampleKind.LEVELS, bits, levels=little.tobytes())
    return SampleMap(SampleKind.RAW, dtype.itemsize * 8)


@dataclass(frozen=True, slots=True)
class PreviewWindow:
    """The stored values that a preview's 12 bits span; values beyond are clipped to it."""

    low: float
    high: float
    """Above ``low``. Whole numbers for integer voxels."""

    def to_preview(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """12-bit samples of a block of stored values; what is not a number becomes 0."""
        native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
        if native.dtype.kind in "iu" and native.itemsize <= 2:
            # Every value there can be, mapped once, is far less work than every voxel.
            unsigned = _unsigned(native.dtype)
            every = np.arange(1 << (8 * native.itemsize)).astype(unsigned).view(native.dtype)
            return np.take(self._scale(every), native.view(unsigned))
        return self._scale(native)

    def _scale(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        with np.errstate(invalid="ignore"):  # signalling NaNs
            real = np.clip(values.astype(np.float64), self.low, self.high)
            scaled = np.rint((real - self.low) / (self.high - self.low) * PREVIEW_MAX)
        return np.nan_to_num(scaled, nan=0.0).astype(np.uint16)

    def from_preview(self, samples: NDArray[np.uint16], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Stored values (native byte order) of a block of 12-bit samples.

        The table has 4096 entries in float64, the same IEEE operations each, so both ends agree.
        What the stored type cannot hold, in a window that reaches beyond it, is its nearest value.
        """
        span = min(self.high - self.low, _FLOAT_MAX)
        table = self.low + np.arange(PREVIEW_MAX + 1) / PREVIEW_MAX * span
        native = dtype.newbyteorder("=")
        lowest, highest = _finite_ends(native)
        table = np.clip(np.rint(table) if native.kind in "iu" else table, lowest, highest)
        values: NDArray[Any] = table.astype(native)
        return values[np.minimum(samples, PREVIEW_MAX)]


def value_range(voxels: NDArray[Any]) -> tuple[float, float]:
    """Smallest and largest finite stored value; (0, 0) where there is none."""
    if voxels.dtype.kind in "iu":
        return float(voxels.min()), float(voxels.max())
    low, high = np.inf, -np.inf
    for plane in voxels:
        finite = plane[np.isfinite(plane)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def fit_window(voxels: NDArray[Any]) -> PreviewWindow:
    """The whole range where 12 bits hold it, else the range without its outliers.

    Only 1 in 10,000 voxels may be clipped at either end: one hot voxel at 32767 must not leave the
    rest of a brain in twenty gray levels.
    """
    low, high = value_range(voxels)
    if voxels.dtype.kind not in "iu" or high - low > PREVIEW_MAX:
        stride = max(1, voxels.size >> 20)  # a million voxels settle a 1e-4 quantile
        some = voxels.reshape(-1)[::stride]
        some = some[np.isfinite(some)].astype(np.float64)
        if some.size:
            tails = np.quantile(some, (_TAIL, 1 - _TAIL), method="nearest")
            low, high = float(tails[0]), float(tails[1])
    low, high = (min(max(end, -_FARTHEST), _FARTHEST) for end in (low, high))
    if not high > low:
        high = low + max(1.0, abs(low) * 1e-6)
    return PreviewWindow(low, high)


def _finite_ends(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The lowest and the highest float64 that a type can hold."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    limits = np.iinfo(dtype)
    highest = float(limits.max)  # of 64 bits: rounded up, out of the type
    return float(limits.min), highest if highest <= limits.max else nextafter(highest, 0.0)


def _unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"=u{dtype.itemsize}")


def _wrap(value: int, unsigned: np.dtype[Any]) -> Any:  # noqa: ANN401 - a numpy scalar
    return unsigned.type(value % (1 << (8 * unsigned.itemsize)))


def _sort_keys(values: NDArray[Any]) -> NDArray[Any]:
    """Integers that order as the values do, one per bit pattern: -0.0 below 0.0, NaNs outermost."""
    if values.dtype.kind != "f":
        return values
    bits = values.view(f"i{values.itemsize}")
    return np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)


def _distinct(voxels: NDArray[Any], limit: int) -> NDArray[Any] | None:
    """The distinct bit patterns of a volume as values, ascending; None past the ``limit``."""
    dtype = voxels.dtype.newbyteorder("=")
    found = np.empty(0, dtype=_sort_keys(np.empty(0, dtype)).dtype)
    for plane in voxels:
        keys = np.unique(_sort_keys(np.ascontiguousarray(plane, dtype=dtype)))
        found = np.union1d(found, keys)
        if found.size > limit:
            return None
    if dtype.kind != "f":
        return found
    bits = np.where(found < 0, found ^ np.iinfo(found.dtype).max, found)
    return bits.astype(found.dtype).view(dtype)
