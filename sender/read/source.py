"""The way in: paths become the volumes of one study.

    paths -> files -> what can be sent (headers only) -> the chosen series -> volumes

Headers are looked at first, so that a choice or a refusal costs no pixels. Folders are searched to
their bottom, in the order of names; what is in a folder by accident is left out with a line, what
is named on the command line is sent or refused. pydicom is imported only where a file needs it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from protocol import limits
from sender.read.magic import START_BYTES, has_preamble, may_be_bare
from sender.read.nifti import (
    PAIR_SUFFIXES,
    SUFFIXES,
    NiftiFile,
    is_nifti,
    open_nifti,
    pick_volume,
    read_nifti,
)
from sender.read.nifti_header import UnsupportedKind
from sender.read.streams import open_file
from shared.errors import InputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sender.read.dicom_series import Stack
    from shared.volume import Volume

_STRANGER = "neither DICOM nor NIfTI"
_PAIR = "half of a .hdr/.img pair; single .nii files are sent"


@dataclass(frozen=True, slots=True)
class Study:
    """What is sent in one go."""

    volumes: tuple[Volume, ...]
    """DICOM series by series number and UID, then NIfTI files in the order of the arguments."""
    left_out: tuple[str, ...]
    """What is not sent and why, a sentence each."""


def read_study(paths: Sequence[Path], *, series: int | None, volume: int | None) -> Study:
    """Read files and folders as one study.

    Args:
        paths: DICOM files, NIfTI files, folders of them.
        series: which one to read, counted from 1 in the order they would be listed; None for all.
        volume: which volume of a 4-D NIfTI file, counted from 0.

    Raises:
        InputError: a file is damaged or not sent, or nothing that can be sent remains.
        SettingsError: there is no such series or volume, or too many for one session.
    """
    files = _files(paths)
    left_out: list[InputError] = []
    stacks, nifti = _find_dicom(files, left_out)
    offers: list[Stack | NiftiFile] = [*stacks, *_open_nifti(files, nifti, left_out)]
    if not offers:
        raise _nothing(paths, left_out)
    chosen = _choose(offers, series)
    for offer in chosen:
        _check_volume(offer, volume)
    if any(not isinstance(offer, NiftiFile) for offer in chosen):
        _refuse_other_patients([offer for offer in chosen if not isinstance(offer, NiftiFile)])
    lines = [str(error) for error in left_out]
    lines += [
        f"{offer.label}: not chosen"
        for at, offer in enumerate(offers, start=1)
        if series is not None and at != series
    ]
    return Study(tuple(_read(offer, volume) for offer in chosen), tuple(lines))


def _files(paths: Sequence[Path]) -> dict[Path, bool]:
    """All files to look at, in order; True for those the user named."""
    files: dict[Path, bool] = {}
    for path in paths:
        if path.is_dir():
            for inside in _walk(path):
                files.setdefault(inside, False)
        elif path.is_file():
            files[path] = True
        else:
            raise InputError(path, "no such file or folder")
    return files


def _walk(folder: Path) -> Iterator[Path]:
    """All files under a folder by name, those of a folder before its folders; hidden ones not."""
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = (Path(where, name) for name in sorted(names) if not name.startswith("."))
        yield from (path for path in inside if path.is_file())  # not sockets, pipes, dead links


def _find_dicom(
    files: dict[Path, bool], left_out: list[InputError]
) -> tuple[tuple[Stack, ...], set[Path]]:
    """The DICOM stacks, and which files are NIfTI.

    Raises:
        InputError: a DICOM file is damaged, or a file that was named is neither.
    """
    nifti = {path for path in files if path.name.lower().endswith(SUFFIXES)}
    others = [path for path in files if path not in nifti]
    stacks: tuple[Stack, ...] = ()
    strangers: Sequence[Path] = others
    if any(map(_begins_like_dicom, others)):
        from sender.read.dicom import find_series

        found = find_series(others)
        stacks, strangers = found.stacks, found.strangers
        left_out += found.left_out
    for path in strangers:
        if is_nifti(path):
            nifti.add(path)
            continue
        pair = path.name.lower().endswith(PAIR_SUFFIXES)
        error = InputError(path, _PAIR if pair else _STRANGER)
        if files[path]:
            raise error
        left_out.append(error)
    return stacks, nifti


def _begins_like_dicom(path: Path) -> bool:
    """Whether it is worth importing pydicom."""
    with open_file(path) as file:
        start = file.read(START_BYTES)
    return has_preamble(start) or may_be_bare(start)


def _open_nifti(
    files: dict[Path, bool], nifti: set[Path], left_out: list[InputError]
) -> list[NiftiFile]:
    """The headers of NIfTI files; kinds that are not sent are left out if found in a folder."""
    opened = []
    for path, named in files.items():
        if path not in nifti:
            continue
        try:
            opened.append(open_nifti(path))
        except UnsupportedKind as error:
            if named:
                raise
            left_out.append(error)
    return opened


def _nothing(paths: Sequence[Path], left_out: list[InputError]) -> InputError:
    """Why there is nothing to send."""
    if not left_out:
        return InputError(paths[0] if paths else "no path", "holds no files")
    if len(left_out) == 1:
        return left_out[0]
    reasons = "; ".join(dict.fromkeys(error.why for error in left_out))
    return InputError(paths[0], f"nothing in it can be sent ({len(left_out)} files: {reasons})")


def _choose(offers: list[Stack | NiftiFile], series: int | None) -> list[Stack | NiftiFile]:
    if series is None:
        if len(offers) > limits.MAX_SERIES:
            raise SettingsError(
                f"{len(offers)} series, {limits.MAX_SERIES} at most go in one session: choose one"
                " with --series"
            )
        return offers
    if not 1 <= series <= len(offers):
        names = "; ".join(f"{at} {offer.label}" for at, offer in enumerate(offers, start=1))
        raise SettingsError(f"--series {series}: the choices are {names}")
    return [offers[series - 1]]


def _check_volume(offer: Stack | NiftiFile, volume: int | None) -> None:
    if isinstance(offer, NiftiFile):
        pick_volume(offer, volume)
    elif volume not in (None, 0):
        raise SettingsError(f"--volume {volume}: {offer.label} is 3-D, it has only volume 0")


def _refuse_other_patients(stacks: list[Stack]) -> None:
    from sender.read.dicom import refuse_other_patients

    refuse_other_patients(stacks)


def _read(offer: Stack | NiftiFile, volume: int | None) -> Volume:
    if isinstance(offer, NiftiFile):
        return read_nifti(offer, volume=volume)
    from sender.read.dicom import read_series

    return read_series(offer)
