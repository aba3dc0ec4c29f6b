"""ROIs that someone drew, whatever the file: what a segmenter asks of them, and who reads them.

    .nii .nii.gz        label map          sender.segment.labelmap
    .nrrd               label map          sender.segment.nrrd
    DICOM SEG           segments           sender.segment.dicom_seg
    DICOM RTSTRUCT      contours           sender.segment.rtstruct

The content decides, not the name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sender.read.magic import START_BYTES, has_preamble, may_be_bare
from sender.read.streams import open_file
from sender.segment.grid import Grid, turn_between
from sender.segment.onto import bring
from shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from shared.header import SeriesHeader

_MOST_OUTSIDE = 0.01
"""Share of the marks that may lie outside a series: more, and the mask belongs to another one."""
Wanted = frozenset[int]
"""Label values, or segment or ROI numbers."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Marks on the voxels of a series."""

    marked: NDArray[np.bool_]
    """(z, y, x)."""
    resampled: bool
    """They were drawn on another grid."""


class LabelSource(Protocol):
    """A file of labels. Its header has been read and checked; voxels are read when asked for."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def names(self) -> Mapping[int, str]:
        """What the file calls its labels, where it does."""
        ...

    def misfit(self, header: SeriesHeader) -> InputError | None:
        """Why it does not belong to a series; None where it may."""
        ...

    def native(self, header: SeriesHeader) -> bool:
        """Whether it was drawn on the very grid of a series."""
        ...

    def drawn_on(self, header: SeriesHeader, wanted: Wanted | None) -> Drawn:
        """What carries one of these labels, or any at all.

        Raises:
            InputError: it does not belong to the series, or is damaged behind its header.
        """
        ...


@dataclass(frozen=True, slots=True)
class GridLabels:
    """Labels on a grid of their own, which may be that of the series or lie in its frame."""

    path: Path
    grid: Grid
    frame: str
    """DICOM Frame of Reference UID; empty where the file has none."""
    space: str
    """What a NIfTI file says its millimetres are measured in, see `space_of`; empty if unknown."""
    load: Callable[[Wanted | None], NDArray[np.bool_]]
    """Reads the voxels: which are marked, (z, y, x) of the grid."""
    names: Mapping[int, str] = field(default_factory=dict)

    def misfit(self, header: SeriesHeader) -> InputError | None:
        """Another frame of reference, or a grid that cannot be found in the series' millimetres."""
        if (error := other_frame(self.path, self.frame, header)) is not None:
            return error
        turn = turn_between(self.grid, Grid.of(header))
        if not isinstance(turn, str):
            return None
        if self.grid.affine is None or not header.affine_known:
            return self._elsewhere(header, turn)
        own, theirs = self.space, space_of(header.file_header)
        if own and theirs and own != theirs:
            return self._elsewhere(
                header, f"its millimetres are {own} coordinates, those of the series {theirs}"
            )
        return None

    def native(self, header: SeriesHeader) -> bool:
        """Whether every voxel is one of the series'."""
        return not isinstance(turn_between(self.grid, Grid.of(header)), str)

    def drawn_on(self, header: SeriesHeader, wanted: Wanted | None) -> Drawn:
        """The marks, turned or resampled by nearest neighbour."""
        if (error := self.misfit(header)) is not None:
            raise error
        turn = turn_between(self.grid, Grid.of(header))
        marked = self.load(wanted)
        if not isinstance(turn, str):
            return Drawn(turn.voxels(marked), resampled=False)
        assert self.grid.affine is not None  # misfit has looked
        brought = bring(marked, self.grid.affine, header)
        if brought.outside > _MOST_OUTSIDE:
            raise self._elsewhere(
                header, f"{turn}, and {brought.outside:.0%} of its marks lie outside the series"
            )
        return Drawn(brought.marked, resampled=True)

    def _elsewhere(self, header: SeriesHeader, why: str) -> InputError:
        return InputError(self.path, f"not on the grid of {header.label or 'the series'}: {why}")


def other_frame(path: Path, frame: str, header: SeriesHeader) -> InputError | None:
    """The refusal of a mask in another DICOM frame of reference than the series."""
    theirs = header.frame_of_reference
    if not frame or not theirs or frame == theirs:
        return None
    label = header.label or "the series"
    return InputError(path, f"in frame of reference {frame}, {label} is in {theirs}")


def space_of(raw: bytes) -> str:
    """What the millimetres of a NIfTI header are: ``scanner`` or ``template``; empty if unknown.

    Codes 1 and 2 (scanner, aligned to another scan) are a patient's own millimetres, 3 to 5 those
    of Talairach, MNI and other templates (nifti1.h, qform_code).
    """
    for size, qform, sform in ((348, 252, 254), (540, 344, 348)):
        for order in ("little", "big"):
            if int.from_bytes(raw[:4], order) != size:
                continue
            width = 2 if size == 348 else 4
            codes = [int.from_bytes(raw[at : at + width], order) for at in (sform, qform)]
            code = next((code for code in codes if code), 0)
            return {1: "scanner", 2: "scanner", 3: "template", 4: "template", 5: "template"}.get(
                code, ""
            )
    return ""


def open_supplied(path: Path) -> LabelSource:
    """The labels of a file, by what it is; no voxel is read.

    Raises:
        InputError: it is none that we read.
    """
    with open_file(path) as file:
        start = file.read(START_BYTES)
    if has_preamble(start) or may_be_bare(start):
        return _open_dicom(path)
    if start.startswith(b"NRRD"):
        from sender.segment.nrrd import open_nrrd

        return open_nrrd(path)
    from sender.segment.labelmap import open_labels

    return open_labels(path)


def _open_dicom(path: Path) -> LabelSource:
    from sender.segment.dicom_seg import SEG_CLASS, open_seg
    from sender.segment.objects import read_object, sop_class_of
    from sender.segment.rtstruct import RTSTRUCT_CLASS, open_rtstruct

    data_set = read_object(path)
    match sop_class_of(data_set):
        case str(found) if found == SEG_CLASS:
            return open_seg(path, data_set)
        case str(found) if found == RTSTRUCT_CLASS:
            return open_rtstruct(path, data_set)
        case found:
            raise InputError(
                path,
                f"DICOM of class {found or 'unknown'}: a Segmentation or an RT Structure Set "
                "expected",
            )
