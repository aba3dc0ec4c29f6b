"""DICOM files into volumes.

    find_series   headers of all files -> stacks that can be sent, and what is left out
    read_series   one stack            -> Volume

Nothing is lost silently: a file is in a stack, or a line says why it is left out, or the study is
refused. A damaged file refuses the study, because nobody can say which slice it would have been.
"""

from __future__ import annotations

import filecmp
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol import limits
from sender.read.dicom_file import open_dicom
from sender.read.dicom_frames import Frame, frames_of
from sender.read.dicom_geometry import geometry_of
from sender.read.dicom_headers import INFLATED, TOO_LARGE, headers_of
from sender.read.dicom_image import DicomImage, identity_of, image_of, why_not_sent
from sender.read.dicom_pixels import read_voxels, refuse_undecodable
from sender.read.dicom_series import SeriesWords, Stack, stacks_of
from sender.read.dicom_values import printable, refusing_damage, shown
from sender.read.nifti_header import SERIES_VOXEL_OFFSET, series_header
from shared.errors import InputError
from shared.header import SeriesHeader, Source
from shared.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pydicom.dataset import Dataset

    from sender.read.dicom_geometry import Geometry

_MOST_REMARKS = 32
"""Ours are fewer; the rest is what pydicom says of odd files."""
_LABEL_CHARACTERS = 256
"""Of a series description: four times what the standard allows (LO, PS3.5 6.2)."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a set of files holds."""

    stacks: tuple[Stack, ...]
    left_out: tuple[InputError, ...]
    """DICOM files that are not sent, and why."""
    strangers: tuple[Path, ...]
    """Files that are not DICOM."""


def find_series(paths: Iterable[Path]) -> Found:
    """Read the headers of files and sort their frames into stacks.

    Raises:
        InputError: a DICOM file is damaged, or of a pixel format that is not sent.
    """
    frames: dict[DicomImage, tuple[Frame, ...]] = {}
    words: dict[str, SeriesWords] = {}
    left_out: list[InputError] = []
    strangers: list[Path] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters of them is a remark of its file by now
        for path in paths:
            opened = open_dicom(path)
            if opened is None:
                strangers.append(path)
            elif why := why_not_sent(*opened):
                left_out.append(InputError(path, why))
            else:
                file, data_set = opened
                image = image_of(file, data_set)
                frames[image] = frames_of(image, data_set)
                if image.series_uid not in words:
                    words[image.series_uid] = _words(path, data_set)
    kept = _without_localizers(_without_duplicates(frames, left_out), left_out)
    stacks = stacks_of((frame for image in kept for frame in frames[image]), words)
    return Found(stacks, tuple(left_out), tuple(strangers))


def read_series(stack: Stack) -> Volume:
    """The voxels of a stack and all that goes with them.

    Raises:
        InputError: nothing decodes its transfer syntax, or a file is damaged or has changed.
    """
    refuse_undecodable(stack.frames)
    geometry = geometry_of(stack.frames)
    voxels, remarks = read_voxels(stack.frames)
    headers = headers_of(stack.frames)
    if any(file.deflated for file in headers.files):
        remarks += (INFLATED,)
    keep_headers = headers.size_bytes <= limits.MAX_ATTACHMENT_BYTES
    if not keep_headers:
        remarks += (TOO_LARGE,)
    paddings = {frame.image.padding for frame in stack.frames}
    return Volume(
        _header(stack, geometry, remarks),
        voxels,
        padding=paddings.pop() if len(paddings) == 1 else None,
        inverted=stack.frames[0].image.format.photometric == "MONOCHROME1",
        attachment=headers if keep_headers else bytes,
    )


def _header(stack: Stack, geometry: Geometry, remarks: tuple[str, ...]) -> SeriesHeader:
    image = stack.frames[0].image
    dtype = image.format.dtype
    shape = (len(stack.frames), image.format.rows, image.format.columns)
    of_files = (remark for frame in stack.frames for remark in frame.image.remarks)
    remarks = tuple(dict.fromkeys((*geometry.remarks, *stack.remarks, *of_files, *remarks)))
    return SeriesHeader(
        source=Source.DICOM,
        label=stack.label,
        modality=image.modality,
        shape=shape,
        dtype=dtype.str,
        affine=geometry.affine,
        affine_known=geometry.affine_known,
        slope=geometry.slope,
        intercept=geometry.intercept,
        file_header=series_header(
            shape,
            dtype,
            geometry.affine,
            affine_known=geometry.affine_known,
            slope=geometry.slope,
            intercept=geometry.intercept,
            description=stack.label,
        ),
        voxel_offset=SERIES_VOXEL_OFFSET,
        frames=geometry.frames,
        remarks=tuple(printable(remark) for remark in remarks[:_MOST_REMARKS]),
        identity=stack.identity,
    )


def _words(path: Path, data_set: Dataset) -> SeriesWords:
    with refusing_damage(path):
        description = shown(data_set, "SeriesDescription")[:_LABEL_CHARACTERS]
        return SeriesWords(description, identity_of(data_set))


def _without_duplicates(
    images: Iterable[DicomImage], left_out: list[InputError]
) -> list[DicomImage]:
    """Files that are byte for byte another file, out; files that only claim to be, kept."""
    first: dict[str, Path] = {}
    kept = []
    for image in images:
        path = image.file.path
        other = first.setdefault(image.sop_uid, path) if image.sop_uid else path
        if other != path and filecmp.cmp(path, other, shallow=False):
            left_out.append(InputError(path, f"the same file as {other}"))
        else:
            kept.append(image)
    return kept


def _without_localizers(images: list[DicomImage], left_out: list[InputError]) -> list[DicomImage]:
    """Scout images, out where anything else remains."""
    others = [image for image in images if not image.localizer]
    if not others:
        return images
    left_out += [
        InputError(image.file.path, "a localizer, sent only when nothing else is there")
        for image in images
        if image.localizer
    ]
    return others


def refuse_other_patients(stacks: Iterable[Stack]) -> None:
    """Refuse to send more than one patient as one study.

    Raises:
        InputError: two of the stacks name different patients.
    """
    patients: dict[str, Path] = {}
    for stack in stacks:
        names = dict(stack.identity)
        patient = names.get("PatientID") or names.get("PatientName", "")
        patients.setdefault(patient, stack.frames[0].image.file.path)
    if len(patients) > 1:
        one, other, *_ = patients.values()
        raise InputError(other, f"of another patient than {one}; one patient goes in a study")
