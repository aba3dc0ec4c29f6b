"""Files to read: small DICOM and NIfTI files, made here, sound unless a test breaks them."""

from __future__ import annotations

import gzip
import struct
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

nibabel: Any = import_module("nibabel")
"""Not typed, so as Any."""
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def pixels(seed: int, shape: tuple[int, ...] = (6, 5), dtype: str = "<i2") -> NDArray[Any]:
    """Distinct noise over the whole range of a type."""
    kind = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if kind.kind == "f":
        return rng.normal(size=shape).astype(kind)
    limits = np.iinfo(kind)
    native = kind.newbyteorder("=")
    return rng.integers(limits.min, limits.max, shape, native, endpoint=True).astype(kind)


def slice_of(
    values: NDArray[Any],
    *,
    z_mm: float = 0.0,
    instance: int = 1,
    elements: Mapping[str, object] | None = None,
    **more: object,
) -> Dataset:
    """A CT slice; ``elements`` and ``more`` set elements by keyword, None takes one away."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    data_set = Dataset()
    data_set.file_meta = meta
    data_set.SOPClassUID = CTImageStorage
    data_set.SOPInstanceUID = f"1.2.3.{instance}.{int(z_mm * 1000) + 1_000_000}"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    data_set.Modality, data_set.SeriesNumber, data_set.InstanceNumber = "CT", 3, instance
    data_set.SeriesDescription = "Abdomen 5mm"
    data_set.PatientName, data_set.PatientID = "Doe^Jane", "4711"
    data_set.ImagePositionPatient = [-10.0, -20.0, z_mm]
    data_set.ImageOrientationPatient, data_set.PixelSpacing = list(AXIAL), [0.5, 0.75]
    data_set.SliceThickness = 5
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.Rows, data_set.Columns = values.shape[-2:]
    bits = values.dtype.itemsize * 8
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = bits, bits, bits - 1
    data_set.PixelRepresentation = int(values.dtype.kind == "i")
    data_set.RescaleSlope, data_set.RescaleIntercept = 1, -1024
    if values.ndim == 3:
        data_set.NumberOfFrames = values.shape[0]
    data_set.PixelData = _even(values.tobytes())
    data_set["PixelData"].VR = "OW" if bits > 8 else "OB"
    for keyword, value in {**(elements or {}), **more}.items():
        if value is None:
            delattr(data_set, keyword)
        else:
            setattr(data_set, keyword, value)
    return data_set


def compressed(
    data_set: Dataset,
    syntax: str,
    frames: Sequence[bytes],
    *,
    fragments: int = 1,
    table: bool = True,
) -> Dataset:
    """The slice with its pixels in another transfer syntax."""
    data_set.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    data_set.PixelData = encapsulate(list(frames), fragments_per_frame=fragments, has_bot=table)
    data_set["PixelData"].VR = "OB"
    return data_set


def big_endian(data_set: Dataset, values: NDArray[Any]) -> Dataset:
    """The slice in Explicit VR Big Endian."""
    data_set.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    data_set.PixelData = values.astype(values.dtype.newbyteorder(">")).tobytes()
    return data_set


def save(data_set: Dataset, path: Path) -> Path:
    """Write a DICOM file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set.save_as(path, enforce_file_format=True)
    return path


def series(folder: Path, depths_mm: Sequence[float], **more: object) -> dict[float, NDArray[Any]]:
    """Write a series, file names and instance numbers against the order of its slices.

    Returns:
        The pixels of each slice by its depth.
    """
    folder.mkdir(exist_ok=True)
    written = {}
    for at, z_mm in enumerate(depths_mm):
        written[z_mm] = pixels(at)
        number = len(depths_mm) - at
        save(
            slice_of(written[z_mm], z_mm=z_mm, instance=number, elements=more),
            folder / f"{number}.dcm",
        )
    return written


def pydicom_pixels(path: Path) -> NDArray[Any]:
    """What pydicom makes of a file: (frames, rows, columns)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = pydicom.dcmread(path, force=True)
        array: NDArray[Any] = data_set.pixel_array
    return array.reshape(-1, *array.shape[-2:])


def nifti(values: NDArray[Any], *, version: int = 1, **fields: object) -> bytes:
    """An uncompressed NIfTI file of (..., z, y, x) values, in their byte order, by struct alone."""
    order = ">" if values.dtype.str[0] == ">" else "<"
    codes = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768,
             "i8": 1024, "u8": 1280}  # fmt: skip
    has: dict[str, Any] = {
        "dim": [values.ndim, *values.shape[::-1], *[1] * (7 - values.ndim)],
        "datatype": codes[values.dtype.str[1:]],
        "bitpix": values.dtype.itemsize * 8,
        "pixdim": [1.0, 0.5, 0.75, 3.0, 0, 0, 0, 0],
        "vox_offset": 352 if version == 1 else 544,
        "scl_slope": 1.0,
        "scl_inter": 0.0,
        "xyzt_units": 2,
        "qform_code": 0,
        "sform_code": 1,
        "quatern": [0.0, 0.0, 0.0],
        "qoffset": [0.0, 0.0, 0.0],
        "srow": [0.5, 0, 0, -10, 0, 0.75, 0, -20, 0, 0, 3, 5],
        "magic": b"n+1\0" if version == 1 else b"n+2\0\r\n\x1a\n",
        "extension": b"\0\0\0\0",
        **fields,
    }
    raw = bytearray(348 if version == 1 else 540)

    struct.pack_into(order + "i", raw, 0, len(raw))
    for name, (at, code) in (_PLACES_1 if version == 1 else _PLACES_2).items():
        value = has[name]
        struct.pack_into(order + code, raw, at, *(value if isinstance(value, list) else [value]))
    extension: bytes = has["extension"]
    return bytes(raw) + extension + values.tobytes()


def nibabel_header(raw: bytes) -> Any:
    """What nibabel reads from the bytes of a header."""
    kind = nibabel.Nifti1Header if len(raw) == 348 else nibabel.Nifti2Header
    return kind(raw, check=False)


def packed(content: bytes) -> bytes:
    """A gzip member."""
    return gzip.compress(content, compresslevel=1)


_PLACES_1 = {
    "dim": (40, "8h"), "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim": (76, "8f"),
    "vox_offset": (108, "f"), "scl_slope": (112, "f"), "scl_inter": (116, "f"),
    "xyzt_units": (123, "B"), "qform_code": (252, "h"), "sform_code": (254, "h"),
    "quatern": (256, "3f"), "qoffset": (268, "3f"), "srow": (280, "12f"), "magic": (344, "4s"),
}  # fmt: skip
_PLACES_2 = {
    "magic": (4, "8s"), "datatype": (12, "h"), "bitpix": (14, "h"), "dim": (16, "8q"),
    "pixdim": (104, "8d"), "vox_offset": (168, "q"), "scl_slope": (176, "d"),
    "scl_inter": (184, "d"), "qform_code": (344, "i"), "sform_code": (348, "i"),
    "quatern": (352, "3d"), "qoffset": (376, "3d"), "srow": (400, "12d"), "xyzt_units": (500, "i"),
}  # fmt: skip


def _even(content: bytes) -> bytes:
    return content + b"\0" * (len(content) % 2)
