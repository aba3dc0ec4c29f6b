"""DICOM segmentations and structure sets, made element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from sender.segment.dicom_seg import SEG_CLASS
from sender.segment.rtstruct import RTSTRUCT_CLASS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FRAME = "1.2.3.4"


def _saved(data_set: Dataset, path: Path, sop_class: str) -> Path:
    data_set.SOPClassUID, data_set.SOPInstanceUID = UID(sop_class), generate_uid(None)
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    data_set.save_as(path, enforce_file_format=True)
    return path


def write_seg(
    path: Path,
    segments: Mapping[int, NDArray[np.bool_]],
    affine: NDArray[np.float64],
    *,
    frame: str = FRAME,
    empty: bool = False,
) -> Path:
    """Segments (z, y, x) on one grid, RAS affine; planes of a segment that are empty left out."""
    lps = affine.copy()
    lps[:2] *= -1
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    data_set = Dataset()
    data_set.FrameOfReferenceUID = frame
    data_set.Modality = "SEG"
    data_set.SegmentationType = "BINARY"
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.BitsAllocated = data_set.BitsStored = 1
    data_set.HighBit = data_set.PixelRepresentation = 0
    first = next(iter(segments.values()))
    _, data_set.Rows, data_set.Columns = first.shape
    data_set.SegmentSequence = []
    for number in segments:
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, f"segment {number}"
        data_set.SegmentSequence.append(segment)
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing = [float(sizes[1]), float(sizes[0])]
    measures.SpacingBetweenSlices = float(sizes[2])
    orientation.ImageOrientationPatient = [
        *(lps[:3, 0] / sizes[0]).tolist(),
        *(lps[:3, 1] / sizes[1]).tolist(),
    ]
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    data_set.SharedFunctionalGroupsSequence = [shared]
    frames, bits = [], []
    for number, marked in segments.items():
        for z, plane in enumerate(marked):
            if not plane.any() and not empty:
                continue
            place, which, group = Dataset(), Dataset(), Dataset()
            place.ImagePositionPatient = (lps[:3, 3] + z * lps[:3, 2]).tolist()
            which.ReferencedSegmentNumber = number
            group.PlanePositionSequence = [place]
            group.SegmentIdentificationSequence = [which]
            frames.append(group)
            bits.append(plane.reshape(-1))
    data_set.PerFrameFunctionalGroupsSequence = frames
    data_set.NumberOfFrames = len(frames)
    packed = np.packbits(np.concatenate(bits), bitorder="little").tobytes()
    data_set.PixelData = packed + bytes(len(packed) % 2)
    return _saved(data_set, path, SEG_CLASS)


def write_rtstruct(
    path: Path,
    rois: Mapping[str, Iterable[Sequence[tuple[float, float, float]]]],
    *,
    frame: str = FRAME,
) -> Path:
    """Contours as lists of LPS points, by the name of their ROI; numbers from 1."""
    data_set = Dataset()
    data_set.Modality = "RTSTRUCT"
    data_set.StructureSetROISequence, data_set.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [round(value, 4) for point in points for value in point]
            drawn.ContourSequence.append(contour)
        data_set.StructureSetROISequence.append(roi)
        data_set.ROIContourSequence.append(drawn)
    return _saved(data_set, path, RTSTRUCT_CLASS)
