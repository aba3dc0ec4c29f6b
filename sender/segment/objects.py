"""DICOM objects that are no images, read whole: segmentations and structure sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sender.read.dicom_values import refusing_damage
from shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

_MAX_BYTES = 512 << 20
"""Of a file: a segmentation of a thin-slice CT has some 40 MiB."""


def read_object(path: Path) -> Dataset:
    """All elements of a file.

    Raises:
        InputError: it is too large, or damaged.
    """
    from pydicom import dcmread

    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise InputError(path, f"{size} bytes, more than the {_MAX_BYTES} that are read")
    with refusing_damage(path):
        return dcmread(path, force=True)


def sop_class_of(data_set: Dataset) -> str:
    """SOP Class UID, or empty."""
    return str(data_set.get("SOPClassUID", ""))
