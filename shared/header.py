"""What a series is, apart from its voxels: shape, type, place in the patient, scaling, remarks.

Everything here is plain numbers and text, so that the manifest can carry it as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.geometry import Affine, Triple

Vector = tuple[float, float, float]


class Source(StrEnum):
    """Where a series was read from; it says what its headers layer holds."""

    NIFTI = "nifti"
    """The bytes between the header and the first voxel."""
    DICOM = "dicom"
    """A zip of the series' files without their pixels, 0001.dcm for slice 0 and so on."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Where each slice lies and how its values scale, as the scanner wrote it, slice 0 first.

    Real series differ in this from slice to slice, and one affine cannot say it: spacing varies,
    slices are missing, the gantry is tilted, PET scales every slice by its own slope
    (DICOM PS3.3 C.7.6.2, C.11.1).
    """

    row_cosines: Vector
    """Image Orientation (Patient), first three values: along a row, LPS."""
    column_cosines: Vector
    """Image Orientation (Patient), last three values: down a column, LPS."""
    pixel_spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    positions_mm: tuple[Vector, ...]
    """Image Position (Patient) of each slice, LPS; empty where the files say none."""
    rescale: tuple[tuple[float, float], ...]
    """(slope, intercept) of each slice; a single pair where all slices share it."""


@dataclass(frozen=True, slots=True)
class SeriesHeader:
    """What both ends know of a series before its first voxel."""

    label: str
    """What people call it, such as ``MR FLAIR``; shown, never used as a path."""
    modality: str
    """DICOM Modality (0008,0060), or empty where the file does not say."""
    shape: Triple
    """(z, y, x)."""
    dtype: str
    """numpy's name for the stored values, byte order as in the source, such as ``<i2``."""
    affine: Affine
    """Voxel (x, y, z) -> RAS millimetres; where slices are uneven, their mean step."""
    affine_known: bool
    """False where the source does not say where it lies: orientation is then unknown."""
    slope: float
    intercept: float
    """real value = stored value * slope + intercept; 1 and 0 where the source has no scaling or a
    scaling per slice (then ``frames`` has it)."""
    file_header: bytes
    """The NIfTI header with which the rebuilt file begins, byte for byte: 348 bytes (NIfTI-1) or
    540 (NIfTI-2). Sform, qform, units and scaling come back with it."""
    voxel_offset: int
    """Where voxels begin in that file; the bytes between belong to the headers layer."""
    frames: Frames | None = None
    """Geometry of each slice, for DICOM."""
    remarks: tuple[str, ...] = ()
    """What a reader must know, in sentences: missing slices, uneven spacing, gantry tilt."""
    identity: tuple[tuple[str, str], ...] = ()
    """(DICOM keyword, value) pairs that say whose study this is; PHI, never logged."""
    source: Source = Source.NIFTI
    """What kind of file it came from."""

    @property
    def frame_of_reference(self) -> str:
        """DICOM Frame of Reference UID (0020,0052): series that share it share their millimetres;
        empty where the source has none."""
        return dict(self.identity).get("FrameOfReferenceUID", "")
