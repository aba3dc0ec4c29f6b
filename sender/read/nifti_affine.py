"""Sform and qform, the two ways in which a NIfTI header says where voxels lie (nifti1.h).

``fields`` is a header as a numpy record, see `sender.read.nifti_header`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from shared.geometry import Affine

_MM_PER_UNIT = {1: 1000.0, 3: 0.001}
"""xyzt_units, lowest three bits: metres and micrometres; everything else counts as millimetres."""
_KNOWN_FORMS = range(1, 6)
"""qform_code and sform_code that say where voxels lie (nifti1.h: scanner .. template)."""
_FARTHEST = 1e30
"""No affine that means anything holds a larger value; NaN and infinity do not pass either."""
_QUATERNION_SLACK = 1e-3
_SHEAR_SLACK = 1e-4
"""Cosine between two axes from which a qform, which has no shear, would be wrong."""


def read_affine(fields: NDArray[np.void], path: Path) -> tuple[Affine, bool, tuple[str, ...]]:
    """Voxel to RAS millimetres: the sform, else the qform, else nothing but voxel sizes."""
    remarks: tuple[str, ...] = ()
    matrix = np.eye(4)
    if int(fields["sform_code"]) in _KNOWN_FORMS:
        matrix[:3] = fields["srow"]
    elif int(fields["qform_code"]) in _KNOWN_FORMS:
        matrix = _qform(fields, path)
    else:
        return _sizes_only(fields), False, ("orientation unknown",)
    if not np.abs(matrix).max() < _FARTHEST:
        raise InputError(path, "damaged: its affine holds values that are no numbers")
    if abs(np.linalg.det(matrix)) < np.finfo(np.float64).tiny:
        return _sizes_only(fields), False, ("orientation unknown: the affine is singular",)
    if scale := _MM_PER_UNIT.get(int(fields["xyzt_units"]) & 7):
        matrix[:3] *= scale
        remarks = ("the header counts in metres or micrometres; the affine here in millimetres",)
    return tuple(map(float, matrix.ravel())), True, remarks


def _sizes_only(fields: NDArray[np.void]) -> Affine:
    sizes = np.abs(fields["pixdim"][1:4].astype(np.float64))
    sizes[~np.isfinite(sizes) | (sizes == 0)] = 1
    return tuple(map(float, np.diag([*sizes, 1.0]).ravel()))


def _qform(fields: NDArray[np.void], path: Path) -> NDArray[np.float64]:
    """nifti1.h, method 2: a unit quaternion (a, b, c, d), voxel sizes, an offset, and qfac."""
    b, c, d = (float(part) for part in fields["quatern"])
    rest = 1 - (b * b + c * c + d * d)
    if not rest >= -_QUATERNION_SLACK:
        raise InputError(path, "damaged: the quaternion of its qform is no rotation")
    a = math.sqrt(max(rest, 0.0))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    pixdim = fields["pixdim"].astype(np.float64)
    sizes = np.abs(pixdim[1:4])
    sizes[sizes == 0] = 1
    if pixdim[0] < 0:
        sizes[2] = -sizes[2]
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * sizes
    matrix[:3, 3] = fields["qoffset"]
    return matrix


def write_forms(fields: NDArray[np.void], matrix: NDArray[np.float64]) -> None:
    """Say a scanner affine in a header: as its sform, and as its qform unless it has a shear, which
    a quaternion cannot say."""
    fields["sform_code"] = 1  # NIFTI_XFORM_SCANNER_ANAT
    fields["srow"] = matrix[:3]
    sizes = np.linalg.norm(matrix[:3, :3], axis=0)
    rotation = matrix[:3, :3] / sizes
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > _SHEAR_SLACK:
        return
    if np.linalg.det(rotation) < 0:
        rotation[:, 2] *= -1
        fields["pixdim"][0] = -1
    fields["qform_code"] = 1
    fields["quatern"] = _quaternion(rotation)[1:]
    fields["qoffset"] = matrix[:3, 3]


def _quaternion(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """(a, b, c, d) with a >= 0: the squares of all four first, then signs from the largest
    (Shepperd 1978)."""
    (m00, m01, m02), (m10, m11, m12), (m20, m21, m22) = rotation.tolist()
    fours = (1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22)
    largest = fours.index(max(fours))
    rows = (
        (fours[0], m21 - m12, m02 - m20, m10 - m01),
        (m21 - m12, fours[1], m01 + m10, m02 + m20),
        (m02 - m20, m01 + m10, fours[2], m12 + m21),
        (m10 - m01, m02 + m20, m12 + m21, fours[3]),
    )
    length = math.copysign(2 * math.sqrt(fours[largest]), rows[largest][0])
    a, b, c, d = (part / length for part in rows[largest])
    return a, b, c, d
