"""Files of a study into series and volumes."""

from __future__ import annotations

import shutil
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from sender.read.dicom import Found, find_series, read_series, refuse_other_patients
from shared.errors import InputError
from shared.header import Source
from shared.volume import volume_digest
from tests.sender.read.files import nibabel, pixels, save, series, slice_of

if TYPE_CHECKING:
    from pathlib import Path

    from shared.volume import Volume


def found_in(folder: Path) -> Found:
    return find_series(sorted(folder.iterdir()))


def only(folder: Path) -> Volume:
    (stack,) = found_in(folder).stacks
    return read_series(stack)


def test_a_series_becomes_a_volume_with_all_that_goes_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    written = series(
        folder, [5, 0, 10], PhotometricInterpretation="MONOCHROME1", RescaleSlope="2.5"
    )
    for path in folder.iterdir():
        path.rename(path.with_suffix(".IMA"))
    volume = only(folder)
    header = volume.header
    assert np.array_equal(volume.voxels, np.stack([written[z] for z in (0, 5, 10)]))
    assert header.source is Source.DICOM
    assert (header.label, header.modality) == ("CT Abdomen 5mm, series 3", "CT")
    assert (header.shape, header.dtype) == ((3, 6, 5), "<i2")
    assert (header.slope, header.intercept) == (2.5, -1024)
    assert list(header.affine) == [-0.75, 0, 0, 10, 0, -0.5, 0, 20, 0, 0, 5, 0, 0, 0, 0, 1]
    assert header.affine_known
    assert header.remarks == ()
    assert dict(header.identity)["PatientName"] == "Doe^Jane"
    assert volume.inverted
    assert volume.padding is None
    assert len(volume_digest(header, volume.voxels)) == 32


def test_the_rebuilt_file_is_the_series_for_nibabel(tmp_path: Path) -> None:
    written = series(tmp_path / "s", [0, 5, 10], RescaleSlope="2")
    volume = only(tmp_path / "s")
    header = volume.header
    content = header.file_header + bytes(header.voxel_offset - 348) + volume.voxels.tobytes()
    image = nibabel.Nifti1Image.from_bytes(content)
    values = np.stack([written[z] for z in (0, 5, 10)]).T * 2.0 - 1024
    assert np.array_equal(image.get_fdata(), values)
    assert image.affine.ravel() == pytest.approx(header.affine)
    assert image.header.get_qform().ravel() == pytest.approx(header.affine)
    assert bytes(image.header["descrip"]).startswith(b"CT Abdomen 5mm, series 3")


def test_pet_keeps_the_slope_of_every_slice(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    for k in range(3):
        data_set = slice_of(
            pixels(k), z_mm=5 * k, instance=k, RescaleSlope=f"{k + 1}.5", RescaleIntercept=0
        )
        save(data_set, folder / f"{k}.dcm")
    header = only(folder).header
    assert header.frames is not None
    assert header.frames.rescale == ((1.5, 0.0), (2.5, 0.0), (3.5, 0.0))
    assert (header.slope, header.intercept) == (1, 0)
    assert header.remarks == ("each slice has its own rescale slope and intercept",)


def test_the_same_file_twice_is_left_out_once(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    series(folder, [0, 5])
    shutil.copy(folder / "1.dcm", folder / "1 copy.dcm")
    found = found_in(folder)
    assert [len(stack.frames) for stack in found.stacks] == [2]
    (line,) = found.left_out
    assert line.where.endswith("1.dcm")
    assert "the same file as" in line.why


def test_another_image_under_the_same_uid_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    for k in range(2):
        save(slice_of(pixels(k), SOPInstanceUID="1.9"), folder / f"{k}.dcm")
    found = found_in(folder)
    assert found.left_out == ()
    assert [stack.label[-12:] for stack in found.stacks] == ["stack 1 of 2", "stack 2 of 2"]


def test_localizers_go_only_where_nothing_else_is(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    scout = slice_of(pixels(9), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesNumber=1)
    save(scout, folder / "scout.dcm")
    assert len(found_in(folder).stacks) == 1
    series(folder, [0, 5])
    found = found_in(folder)
    assert [len(stack.frames) for stack in found.stacks] == [2]
    assert [error.why for error in found.left_out] == [
        "a localizer, sent only when nothing else is there"
    ]


def test_what_is_no_image_is_left_out_beside_images(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    series(folder, [0, 5])
    report = slice_of(pixels(1), Modality="SR", Rows=None, Columns=None, PixelData=None)
    save(report, folder / "report.dcm")
    save(slice_of(pixels(1), PhotometricInterpretation="RGB"), folder / "shot.dcm")
    (folder / "notes.txt").write_text("not DICOM")
    found = found_in(folder)
    assert [error.why for error in found.left_out] == [
        "holds no image (SR)",
        "colour images are not sent",
    ]
    assert [path.name for path in found.strangers] == ["notes.txt"]


def test_a_damaged_file_refuses_the_study(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    series(folder, [0, 5])
    path = folder / "2.dcm"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="its pixel data ends 1 bytes too early"):
        found_in(folder)


def test_time_points_of_an_enhanced_file_are_volumes(tmp_path: Path) -> None:
    values = pixels(1, (6, 6, 5))
    data_set = slice_of(values, ImagePositionPatient=None, ImageOrientationPatient=None)
    items = []
    for k in range(6):
        item, plane, content = Dataset(), Dataset(), Dataset()
        plane.ImagePositionPatient = [0, 0, 5 * (2 - k // 2)]
        content.TemporalPositionIndex = 1 + k % 2
        item.PlanePositionSequence = Sequence([plane])
        item.FrameContentSequence = Sequence([content])
        items.append(item)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [1, 1]
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    data_set.PerFrameFunctionalGroupsSequence = Sequence(items)
    data_set.SharedFunctionalGroupsSequence = Sequence([shared])
    folder = tmp_path / "s"
    folder.mkdir()
    save(data_set, folder / "a.dcm")
    first, second = (read_series(stack) for stack in found_in(folder).stacks)
    assert np.array_equal(first.voxels, values[[4, 2, 0]])
    assert np.array_equal(second.voxels, values[[5, 3, 1]])
    assert first.header.affine_known
    assert first.header.label.endswith("stack 1 of 2")


def test_one_patient_goes_in_a_study(tmp_path: Path) -> None:
    for name, patient in (("a", "4711"), ("b", "4711"), ("c", "0815")):
        data_set = slice_of(
            pixels(1), SeriesInstanceUID=f"1.{ord(name)}", PatientID=patient, PatientName=name
        )
        save(data_set, tmp_path / f"{name}.dcm")
    stacks = found_in(tmp_path).stacks
    refuse_other_patients(stacks[:2])
    with pytest.raises(InputError, match=r"c\.dcm: of another patient than .*a\.dcm") as caught:
        refuse_other_patients(stacks)
    assert "0815" not in str(caught.value)


def test_labels_and_remarks_are_cut_and_clean(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = slice_of(pixels(1), SeriesDescription="evil\r\n\x1b[2J" + "x" * 1000)
    folder = tmp_path / "s"
    folder.mkdir()
    save(data_set, folder / "a.dcm")
    label = only(folder).header.label
    assert label.startswith("CT evil [2Jxxx")
    assert len(label) < 300
    assert label.isprintable()
