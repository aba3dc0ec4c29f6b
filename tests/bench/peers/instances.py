"""A volume as a series of single-frame DICOM instances, as a scanner or a PACS would hold it.

MR Image Storage (PS3.3 A.4), one instance a plane, explicit VR little endian; the same voxels also
as JPEG 2000 lossless and JPEG-LS lossless. Nothing in them is from a patient.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    generate_uid,
)

from tests.bench.peers.tools import tool

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.bench.peers.scan import Scan

_SALT = "medroi bench"


def write_raw(scan: Scan, folder: Path) -> list[Path]:
    """One file a plane, in the order of the planes."""
    folder.mkdir()
    return [_save(instance, folder, z) for z, instance in enumerate(_instances(scan))]


def write_jpeg2000(scan: Scan, folder: Path) -> list[Path]:
    """The same, each plane as a JPEG 2000 lossless codestream (PS3.5 A.4.4)."""
    folder.mkdir()
    paths = []
    for z, instance in enumerate(_instances(scan)):
        plane = _stored(scan)[z]
        stream = imagecodecs.jpeg2k_encode(
            plane, level=0, codecformat="j2k", bitspersample=instance.BitsStored, reversible=True
        )
        instance.PixelData = encapsulate([bytes(stream)])
        instance["PixelData"].is_undefined_length = True
        instance["PixelData"].VR = "OB"
        instance.file_meta.TransferSyntaxUID = JPEG2000Lossless
        paths.append(_save(instance, folder, z))
    return paths


def write_jpegls(raw: list[Path], folder: Path) -> list[Path]:
    """The raw ones as JPEG-LS lossless, by dcmtk."""
    folder.mkdir()
    paths = [folder / path.name for path in raw]
    for path, to in zip(raw, paths, strict=True):
        subprocess.run([tool("dcmcjpls"), path, to], check=True, timeout=60)
    return paths


def _stored(scan: Scan) -> NDArray[np.generic]:
    """(z, y, x) as PS3.5 8.1.1 wants them: unsigned where they can be."""
    return scan.voxels.astype(np.int16 if scan.voxels.min() < 0 else np.uint16)


def _instances(scan: Scan) -> list[Dataset]:
    stored = _stored(scan)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine
    found = []
    for z, plane in enumerate(stored):
        instance = _identified(z)
        _place(instance, lps, z)
        signed = stored.dtype.kind == "i"
        bits = max(8, int(np.abs(scan.voxels).max()).bit_length() + signed)
        instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
        instance.Rows, instance.Columns = plane.shape
        instance.BitsAllocated, instance.BitsStored, instance.HighBit = 16, bits, bits - 1
        instance.PixelRepresentation = int(signed)
        instance.PixelData = plane.astype(stored.dtype.newbyteorder("<")).tobytes()
        instance["PixelData"].VR = "OW"
        found.append(instance)
    return found


def _identified(z: int) -> Dataset:
    """Whose instance it is, of which series, and what kind of image."""
    uid, study, series, frame_of_reference = (
        generate_uid(entropy_srcs=[_SALT, name]) for name in (str(z), "study", "series", "frame")
    )
    instance = Dataset()
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance.file_meta.MediaStorageSOPClassUID = MRImageStorage
    instance.file_meta.MediaStorageSOPInstanceUID = uid
    instance.SOPClassUID, instance.SOPInstanceUID = MRImageStorage, uid
    instance.StudyInstanceUID, instance.SeriesInstanceUID = study, series
    instance.FrameOfReferenceUID = frame_of_reference
    instance.PatientName, instance.PatientID = "Bench^Mark", "BENCH"
    instance.PatientBirthDate = instance.PatientSex = ""
    instance.StudyDate, instance.StudyTime, instance.StudyID = "20200101", "000000", "1"
    instance.AccessionNumber = instance.ReferringPhysicianName = ""
    instance.Modality, instance.SeriesNumber, instance.InstanceNumber = "MR", 1, z + 1
    instance.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    instance.ScanningSequence, instance.SequenceVariant = "RM", "NONE"
    instance.MRAcquisitionType, instance.ScanOptions = "3D", ""
    instance.EchoTime = instance.RepetitionTime = instance.EchoTrainLength = None
    return instance


def _place(instance: Dataset, lps: NDArray[np.float64], z: int) -> None:
    """Where its pixels are (PS3.3 C.7.6.2): from the affine, voxel (x, y, z) to mm, LPS."""
    along_x, along_y, along_z = lps[:3, 0], lps[:3, 1], lps[:3, 2]
    step_x, step_y, step_z = (float(np.linalg.norm(way)) for way in (along_x, along_y, along_z))
    instance.ImagePositionPatient = [f"{mm:.6g}" for mm in lps[:3, 3] + z * along_z]
    cosines = [*(along_x / step_x), *(along_y / step_y)]
    instance.ImageOrientationPatient = [f"{cosine:.8g}" for cosine in cosines]
    instance.PixelSpacing = [f"{step_y:.8g}", f"{step_x:.8g}"]
    instance.SliceThickness = f"{step_z:.8g}"


def _save(instance: Dataset, folder: Path, z: int) -> Path:
    path = folder / f"{z + 1:04}.dcm"
    instance.save_as(path, enforce_file_format=True)
    return path
