"""ROIs as a DICOM Segmentation (PS3.3 A.51), with pydicom alone.

A binary segmentation, a segment for each ROI, a frame for each slice that has some of it. Where the
series came from DICOM, patient, study and frame of reference are its own and every frame says from
which image it derives; where it came from NIfTI, patient and study are empty.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from sender.segment.dicom_seg import SEG_CLASS
from sender.segment.onto import slice_matrix
from shared.header import Source
from shared.mask import unpack_mask
from shared.software import SOFTWARE
from shared.volume import volume_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sender.segment.base import Segmentation
    from shared.roi import Roi
    from shared.volume import Volume

_MANUFACTURER = "medroi"
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
    "StudyID", "StudyDescription",
)  # fmt: skip
_SEXES = ("", "M", "F", "O")
"""PS3.3 C.7.1.1; old systems wrote other things."""
_TISSUE = ("85756007", "SCT", "Tissue")
_LESION = ("49755003", "SCT", "Morphologically Abnormal Structure")
"""Category and type of a segment (PS3.16 CID 7150, 7151): what an ROI is, as far as is known."""


def seg_of(segmentation: Segmentation, volume: Volume) -> bytes:
    """The bytes of a DICOM file.

    Raises:
        InputError: a source file has gone or changed since it was read.
    """
    sources = _sources(volume)
    data_set = _head(segmentation, volume, sources)
    frames: list[Dataset] = []
    bits = []
    for roi in segmentation.rois:
        for z, plane in _planes(roi, volume):
            frames.append(_frame(roi, z, len(frames), volume, sources))
            bits.append(plane.reshape(-1))
    if not frames:  # the standard knows no segmentation without a frame
        frames.append(_frame(None, 0, 0, volume, sources))
        bits.append(np.zeros(volume.voxels[0].size, dtype=np.bool_))
        data_set.SegmentSequence = [_segment(None, segmentation)]
    data_set.PerFrameFunctionalGroupsSequence = frames
    data_set.NumberOfFrames = len(frames)
    packed = np.packbits(np.concatenate(bits), bitorder="little").tobytes()
    data_set.PixelData = packed + bytes(len(packed) % 2)
    target = BytesIO()
    data_set.save_as(target, enforce_file_format=True)
    return target.getvalue()


def _planes(roi: Roi, volume: Volume) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The slices that have some of an ROI, each whole."""
    mask = unpack_mask(roi.mask, roi.box.shape)
    _, rows, columns = roi.box.slices
    for z, part in enumerate(mask, start=roi.box.start[0]):
        if part.any():
            plane = np.zeros(volume.header.shape[1:], dtype=np.bool_)
            plane[rows, columns] = part
            yield z, plane


def _sources(volume: Volume) -> list[Dataset]:
    """The headers of the images of the series, by slice; none for NIfTI, or for files of several
    slices, whose frames this does not name one by one."""
    if volume.header.source is not Source.DICOM:
        return []
    with ZipFile(BytesIO(volume.attachment() or _empty_zip())) as archive:
        names = sorted(archive.namelist())
        found: list[Dataset] = [dcmread(BytesIO(archive.read(name)), force=True) for name in names]
    return found if len(found) in (1, volume.header.shape[0]) else found[:1]


def _empty_zip() -> bytes:
    target = BytesIO()
    with ZipFile(target, "w"):
        pass
    return target.getvalue()


def _head(segmentation: Segmentation, volume: Volume, sources: list[Dataset]) -> Dataset:
    header = volume.header
    digest = volume_digest(header, volume.voxels).hex()
    made_of = [digest, segmentation.source, segmentation.reason]
    data_set = Dataset()
    if sources and "SpecificCharacterSet" in sources[0]:
        data_set.SpecificCharacterSet = sources[0].SpecificCharacterSet
    for keyword in (*_PATIENT, *_STUDY):
        value = sources[0].get(keyword, "") if sources else ""
        setattr(data_set, keyword, value)
    if data_set.PatientSex not in _SEXES:
        data_set.PatientSex = ""
    if not data_set.StudyInstanceUID:
        data_set.StudyInstanceUID = generate_uid(entropy_srcs=[digest, "study"])
    data_set.SOPClassUID = UID(SEG_CLASS)
    data_set.SOPInstanceUID = generate_uid(entropy_srcs=[*made_of, "instance"])
    data_set.SeriesInstanceUID = generate_uid(entropy_srcs=[*made_of, "series"])
    frame = header.frame_of_reference or generate_uid(entropy_srcs=[digest, "frame"])
    data_set.FrameOfReferenceUID, data_set.PositionReferenceIndicator = frame, ""
    data_set.Modality, data_set.SeriesNumber, data_set.InstanceNumber = "SEG", 9000, 1
    data_set.SeriesDescription = "ROI-first: what was exact first"
    data_set.Manufacturer, data_set.ManufacturerModelName = _MANUFACTURER, _MANUFACTURER
    data_set.DeviceSerialNumber, data_set.SoftwareVersions = "0", SOFTWARE
    data_set.ContentLabel, data_set.ContentDescription = "ROI", "Regions of interest by rank"
    data_set.ContentCreatorName = ""
    data_set.ContentDate = data_set.SeriesDate = data_set.StudyDate or "19000101"
    data_set.ContentTime = data_set.SeriesTime = "000000"
    data_set.ImageType = ["DERIVED", "PRIMARY"]
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.BitsAllocated = data_set.BitsStored = 1
    data_set.HighBit = data_set.PixelRepresentation = 0
    _, data_set.Rows, data_set.Columns = header.shape
    data_set.LossyImageCompression = "00"
    data_set.SegmentationType = "BINARY"
    data_set.SegmentsOverlap = "NO"
    data_set.SegmentSequence = [_segment(roi, segmentation) for roi in segmentation.rois]
    data_set.SharedFunctionalGroupsSequence = [_shared(volume)]
    _add_dimensions(data_set, [*made_of, "dimensions"])
    if sources:
        data_set.ReferencedSeriesSequence = [_referenced_series(sources)]
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    return data_set


def _segment(roi: Roi | None, segmentation: Segmentation) -> Dataset:
    segment = Dataset()
    segment.SegmentNumber = 1 if roi is None else roi.rank + 1
    segment.SegmentLabel = "nothing" if roi is None else roi.label[:64] or "ROI"
    drawn = segmentation.source in ("mask", "box")
    segment.SegmentAlgorithmType = "SEMIAUTOMATIC" if drawn else "AUTOMATIC"
    segment.SegmentAlgorithmName = f"medroi {segmentation.source}"
    code = _TISSUE if roi is not None and roi.label == "tissue" else _LESION
    segment.SegmentedPropertyCategoryCodeSequence = [_code(*code)]
    segment.SegmentedPropertyTypeCodeSequence = [_code(*code)]
    return segment


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _shared(volume: Volume) -> Dataset:
    """Pixel measures and orientation, which all frames share."""
    place = _lps(slice_matrix(volume.header, 0))
    across, down = place[:, 0], place[:, 1]
    sizes = np.linalg.norm(across), np.linalg.norm(down)
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    depth = volume.header.shape[0]
    step = _lps(slice_matrix(volume.header, depth - 1))[:, 2] - place[:, 2]
    thickness = float(np.linalg.norm(step)) / (depth - 1) if depth > 1 else 1.0
    measures.PixelSpacing = [_short(sizes[1]), _short(sizes[0])]
    measures.SliceThickness = measures.SpacingBetweenSlices = _short(thickness)
    cosines = (*(across / sizes[0]), *(down / sizes[1]))
    orientation.ImageOrientationPatient = [_short(cosine) for cosine in cosines]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    return shared


def _frame(roi: Roi | None, z: int, number: int, volume: Volume, sources: list[Dataset]) -> Dataset:
    segment = 1 if roi is None else roi.rank + 1
    content, place, which, frame = Dataset(), Dataset(), Dataset(), Dataset()
    content.DimensionIndexValues = [segment, z + 1]
    place.ImagePositionPatient = [
        _short(value) for value in _lps(slice_matrix(volume.header, z))[:, 2]
    ]
    which.ReferencedSegmentNumber = segment
    frame.FrameContentSequence, frame.PlanePositionSequence = [content], [place]
    frame.SegmentIdentificationSequence = [which]
    frame.DerivationImageSequence = []
    if len(sources) == volume.header.shape[0]:
        source, derivation = _reference(sources[z]), Dataset()
        source.PurposeOfReferenceCodeSequence = [
            _code("121322", "DCM", "Source image for image processing operation")
        ]
        derivation.SourceImageSequence = [source]
        derivation.DerivationCodeSequence = [_code("113076", "DCM", "Segmentation")]
        frame.DerivationImageSequence = [derivation]
    return frame


def _add_dimensions(data_set: Dataset, made_of: list[str]) -> None:
    """Frames are ordered by segment, then by slice (PS3.3 C.7.6.17)."""
    uid = generate_uid(entropy_srcs=made_of)
    organization = Dataset()
    organization.DimensionOrganizationUID = uid
    data_set.DimensionOrganizationSequence = [organization]
    data_set.DimensionIndexSequence = []
    for pointer, group in (
        (0x0062000B, 0x0062000A),  # Referenced Segment Number, Segment Identification Sequence
        (0x00200032, 0x00209113),  # Image Position (Patient), Plane Position Sequence
    ):
        index = Dataset()
        index.DimensionOrganizationUID = uid
        index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, group
        data_set.DimensionIndexSequence.append(index)


def _referenced_series(sources: list[Dataset]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = sources[0].get("SeriesInstanceUID", "")
    series.ReferencedInstanceSequence = [_reference(source) for source in sources]
    return series


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.get("SOPClassUID", "")
    item.ReferencedSOPInstanceUID = source.get("SOPInstanceUID", "")
    return item


def _lps(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """(x, y, 1) of a slice -> LPS millimetres: 3 x 3."""
    return place[:3] * [[-1], [-1], [1]]


def _short(value: float | np.floating[Any]) -> str:
    """A number as DS has it: 16 characters at most (PS3.5 6.2)."""
    for digits in range(10, 4, -1):
        text = f"{float(value):.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{float(value):.4e}"
