"""``--roi-csv``: MedROI's tissue boxes of a file or a folder, as a table, and nothing sent.

A row for each series and rule, in the order in which a study would list them. Boxes are half-open
voxel indices of the stored order; the last column is MedROI's 54-byte record in hex, empty where an
axis is longer than it can say. What cannot be read has a row with the reason and no box.
"""

from __future__ import annotations

import csv
import os
from io import StringIO
from typing import TYPE_CHECKING

from sender.read.nifti import SUFFIXES
from sender.read.source import read_study
from sender.segment.tissue import TissueRule, find_tissue
from shared.errors import InputError
from shared.geometry import Box
from shared.roi import RoiRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from shared.volume import Volume

COLUMNS = (
    "source", "series", "rule", "slices", "rows", "columns",
    "z0", "z1", "y0", "y1", "x0", "x1", "share", "threshold", "record", "remark",
)  # fmt: skip


def list_boxes(paths: Sequence[Path], rules: Sequence[TissueRule], target: Path) -> int:
    """Write the table; how many boxes it has.

    Every file that is named or lies in a folder is looked at, DICOM files of one series together,
    so that a damaged one does not hide the others and patients are not mixed.
    """
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    boxes = 0
    for path, files in _series(paths):
        try:
            volumes = read_study(files, series=None, volume=None).volumes
        except InputError as error:
            writer.writerow([str(path), *[""] * (len(COLUMNS) - 2), error.why])
            continue
        for volume in volumes:
            for rule in rules:
                writer.writerow(_row(path, volume, rule))
                boxes += 1
    part = target.with_name(target.name + ".part")
    part.write_text(text.getvalue())
    os.replace(part, target)
    return boxes


def _series(paths: Sequence[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """What to call a series, and its files: a file's own name, or that of its folder."""
    for path in paths:
        if not path.is_dir():
            yield path, [path]
            continue
        inside = sorted(each for each in path.iterdir() if not each.name.startswith("."))
        dicom: dict[str, list[Path]] = {}
        for file in (each for each in inside if each.is_file()):
            if (uid := _series_uid(file)) is not None:
                dicom.setdefault(uid or str(file), []).append(file)
            elif file.name.lower().endswith(SUFFIXES):
                yield file, [file]
        for files in dicom.values():
            yield (path if len(files) > 1 else files[0]), files
        yield from _series([each for each in inside if each.is_dir()])


def _series_uid(file: Path) -> str | None:
    """Of a DICOM file, empty where it has none or is damaged; None for every other file."""
    from sender.read.dicom_file import open_dicom
    from sender.read.dicom_values import text

    try:
        opened = open_dicom(file)
    except InputError:
        return ""
    return None if opened is None else text(opened[1], "SeriesInstanceUID")


def _row(path: Path, volume: Volume, rule: TissueRule) -> list[object]:
    tissue = find_tissue(volume, rule)
    header, box = volume.header, tissue.box
    try:
        record = RoiRecord.of(box, header.shape, header.affine).pack().hex()
    except InputError:
        record = ""
    share = box.voxels / Box.whole(header.shape).voxels
    corners = [end for pair in zip(box.start, box.stop, strict=True) for end in pair]
    remark = "" if tissue.found else "nothing stands out from the background: the whole volume"
    threshold = f"{tissue.threshold:.6g}" if tissue.found else ""
    return [
        str(path), header.label, rule.value, *header.shape, *corners,
        f"{share:.6f}", threshold, record, remark,
    ]  # fmt: skip
