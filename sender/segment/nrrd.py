"""A NRRD label map (teem.sourceforge.net/nrrd/format.html), 3-D, or 4-D as 3D Slicer writes it.

    NRRD0004 | field: value, key:=value ... | empty line | voxels, raw or gzip

Voxels lie x fastest. Slicer's ``.seg.nrrd`` has a first axis more, without direction: layers of
segments that overlap.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from protocol import limits
from sender.read.streams import open_file
from sender.segment.grid import Grid
from sender.segment.supplied import GridLabels
from shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sender.segment.supplied import Wanted
    from shared.geometry import Affine

_MAX_HEADER_BYTES = 1 << 20
_MAX_LAYERS = 64
_TYPES = {
    "signed char": "i1", "int8": "i1", "int8_t": "i1",
    "uchar": "u1", "unsigned char": "u1", "uint8": "u1", "uint8_t": "u1",
    "short": "i2", "short int": "i2", "signed short": "i2", "int16": "i2", "int16_t": "i2",
    "ushort": "u2", "unsigned short": "u2", "uint16": "u2", "uint16_t": "u2",
    "int": "i4", "signed int": "i4", "int32": "i4", "int32_t": "i4",
    "uint": "u4", "unsigned int": "u4", "uint32": "u4", "uint32_t": "u4",
}  # fmt: skip
_TO_RAS = {
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
}  # fmt: skip
_NUMBER = r"[-+0-9.eE]+|nan|inf"
_VECTOR = re.compile(r"none|\(([^)]*)\)")
_SEGMENT = re.compile(r"Segment(\d+)_(Name|LabelValue)")


@dataclass(frozen=True, slots=True)
class _Nrrd:
    path: Path
    shape: tuple[int, int, int]
    layers: int
    dtype: np.dtype[Any]
    gzip: bool
    data_start: int

    def marked(self, wanted: Wanted | None) -> NDArray[np.bool_]:
        """Which voxels carry a label, or one of these, in any layer: (z, y, x)."""
        size = prod(self.shape) * self.layers * self.dtype.itemsize
        with open_file(self.path) as file:
            file.seek(self.data_start)
            packed = file.read(size + 1 if not self.gzip else limits.MAX_VOLUME_BYTES)
        content = _inflate(self.path, packed, size) if self.gzip else packed[:size]
        if len(content) < size:
            raise InputError(self.path, f"damaged: {len(content)} bytes of voxels, not {size}")
        labels = np.frombuffer(content, self.dtype).reshape(*self.shape, self.layers)
        hit = labels != 0 if wanted is None else np.isin(labels, sorted(wanted))
        found: NDArray[np.bool_] = np.logical_or.reduce(hit, axis=-1)
        return found


def open_nrrd(path: Path) -> GridLabels:
    """The header of a label map, checked.

    Raises:
        InputError: it is damaged, too large, or of a kind that is not read.
    """
    with open_file(path) as file:
        start = file.read(_MAX_HEADER_BYTES)
    header, gap, _ = start.partition(b"\n\n")
    if not gap:
        header, gap, _ = start.partition(b"\r\n\r\n")
    if not gap:
        raise InputError(path, "damaged: a NRRD header without its end")
    fields, keys = _fields(header.decode("latin-1"))
    for absent in ("data file", "datafile", "line skip", "byte skip"):
        if absent in fields:
            raise InputError(path, f"a NRRD with a field '{absent}' is not read: save it attached")
    dtype = _dtype(path, fields)
    sizes = _sizes(path, fields)
    directions = _directions(path, fields, len(sizes))
    layers = sizes[0] if len(sizes) == 4 else 1
    x, y, z = sizes[-3:]
    if layers > _MAX_LAYERS or prod(sizes) > limits.MAX_VOXELS:
        raise InputError(path, f"{prod(sizes)} voxels in {layers} layers are too many")
    encoding = fields.get("encoding", "")
    if encoding not in ("raw", "gzip", "gz"):
        raise InputError(path, f"a NRRD in encoding {encoding!r} is not read: raw or gzip expected")
    nrrd = _Nrrd(path, (z, y, x), layers, dtype, encoding != "raw", len(header) + len(gap))
    affine = _affine(path, fields, directions)
    return GridLabels(path, Grid((z, y, x), affine), "", "", nrrd.marked, _names(keys))


def _fields(header: str) -> tuple[dict[str, str], dict[str, str]]:
    """(fields, key/value pairs); comments and the magic left out."""
    fields, keys = {}, {}
    for line in header.splitlines()[1:]:
        if line.startswith("#"):
            continue
        if ":=" in line:
            key, _, value = line.partition(":=")
            keys[key.strip()] = value.strip()
        else:
            field, _, value = line.partition(":")
            fields[field.strip().lower()] = value.strip()
    return fields, keys


def _dtype(path: Path, fields: dict[str, str]) -> np.dtype[Any]:
    kind = fields.get("type", "").lower()
    if kind not in _TYPES:
        raise InputError(path, f"not a label map: voxels of type {kind!r}, whole numbers expected")
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "little").lower())
    if order is None:
        raise InputError(path, f"damaged: endian {fields['endian']!r}")
    return np.dtype(_TYPES[kind]).newbyteorder(order)  # type: ignore[arg-type]


def _sizes(path: Path, fields: dict[str, str]) -> list[int]:
    text = fields.get("sizes", "").split()
    if len(text) not in (3, 4) or not all(part.isascii() and part.isdigit() for part in text):
        raise InputError(path, f"a label map has three axes, this has sizes {' '.join(text)!r}")
    sizes = [int(part[:9]) for part in text]
    if min(sizes) < 1 or max(sizes) > limits.MAX_AXIS:
        raise InputError(path, f"an axis of {max(sizes)} voxels is not read")
    return sizes


def _directions(path: Path, fields: dict[str, str], axes: int) -> list[tuple[float, ...]] | None:
    """Of x, y and z; None where the file does not say."""
    text = fields.get("space directions")
    if text is None:
        return None
    found = [match.group(1) for match in _VECTOR.finditer(text)]
    if len(found) != axes or (axes == 4 and found[0] is not None):
        raise InputError(path, f"damaged: space directions {text[:60]!r} for {axes} axes")
    return [_vector(path, part or "") for part in found[-3:]]


def _vector(path: Path, text: str) -> tuple[float, ...]:
    parts = re.findall(_NUMBER, text)
    try:
        vector = tuple(float(part) for part in parts)
    except ValueError:
        vector = ()
    if len(vector) != 3 or not all(map(isfinite, vector)):
        raise InputError(path, f"damaged: ({text[:60]}) is no vector of three numbers")
    return vector


def _affine(
    path: Path, fields: dict[str, str], directions: list[tuple[float, ...]] | None
) -> Affine | None:
    signs = _TO_RAS.get(fields.get("space", "").lower())
    if directions is None or signs is None or "space origin" not in fields:
        return None
    origin = _vector(path, fields["space origin"].strip("() "))
    columns = [*directions, origin]
    rows = [[sign * column[row] for column in columns] for row, sign in enumerate(signs)]
    affine = (*rows[0], *rows[1], *rows[2], 0.0, 0.0, 0.0, 1.0)
    if abs(np.linalg.det(np.reshape(affine, (4, 4)))) < np.finfo(np.float64).tiny:
        raise InputError(path, "damaged: its space directions lie in a plane")
    return affine


def _names(keys: dict[str, str]) -> dict[int, str]:
    """Slicer's segments by label value."""
    segments: dict[str, dict[str, str]] = {}
    for key, value in keys.items():
        if match := _SEGMENT.fullmatch(key):
            segments.setdefault(match.group(1), {})[match.group(2)] = value
    return {
        int(words["LabelValue"]): words.get("Name", "")
        for words in segments.values()
        if words.get("LabelValue", "").isdigit()
    }


def _inflate(path: Path, packed: bytes, size: int) -> bytes:
    """A gzip member, no further than the voxels reach."""
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(packed, size)
    except zlib.error as error:
        raise InputError(path, f"damaged: {error}") from None
