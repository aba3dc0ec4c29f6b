"""The way in: what is named, what is found, what is chosen."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from protocol import limits
from sender.read.source import Study, read_study
from shared.errors import InputError, SettingsError
from tests.sender.read.files import nifti, packed, pixels, save, series, slice_of

if TYPE_CHECKING:
    from pathlib import Path


def study(*paths: Path, series: int | None = None, volume: int | None = None) -> Study:
    return read_study(paths, series=series, volume=volume)


def labels(found: Study) -> list[str]:
    return [volume.header.label for volume in found.volumes]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with two series, two NIfTI files, and what lies beside them."""
    folder = tmp_path / "study"
    series(folder, [0, 5, 10])
    (folder / "deeper").mkdir()
    save(slice_of(pixels(1), SeriesInstanceUID="1.9", SeriesNumber=1), folder / "deeper" / "other")
    (folder / "zz.nii.gz").write_bytes(packed(nifti(pixels(1, (2, 3, 4)))))
    (folder / "deeper" / "aa").write_bytes(nifti(pixels(1, (2, 3, 4))))
    (folder / "notes.txt").write_text("hello")
    (folder / "analyze.hdr").write_bytes(nifti(pixels(1, (2, 3, 4)), magic=b"ni1\0")[:348])
    (folder / "colour.nii").write_bytes(nifti(pixels(1, (2, 3, 4), "<u1"), datatype=128, bitpix=24))
    (folder / ".hidden").write_text("secret")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    return folder


def test_a_folder_is_searched_to_its_bottom(mixed: Path) -> None:
    found = study(mixed)
    assert labels(found) == ["CT Abdomen 5mm, series 1", "CT Abdomen 5mm, series 3", "zz", "aa"]
    assert {line.removeprefix(str(mixed)) for line in found.left_out} == {
        "/notes.txt: neither DICOM nor NIfTI",
        "/analyze.hdr: half of a .hdr/.img pair; single .nii files are sent",
        "/colour.nii: its voxels are RGB colours, which are not sent",
    }


@pytest.mark.parametrize(("number", "label"), [(1, "series 1"), (2, "series 3"), (3, "zz")])
def test_one_series_is_chosen_by_its_place(mixed: Path, number: int, label: str) -> None:
    found = study(mixed, series=number)
    assert len(found.volumes) == 1
    assert labels(found)[0].endswith(label)
    assert sum(line.endswith(": not chosen") for line in found.left_out) == 3


@pytest.mark.parametrize("number", [0, 5, -1])
def test_a_choice_out_of_range_names_the_choices(mixed: Path, number: int) -> None:
    with pytest.raises(SettingsError) as caught:
        study(mixed, series=number)
    assert str(caught.value) == (
        f"--series {number}: the choices are 1 CT Abdomen 5mm, series 1; "
        "2 CT Abdomen 5mm, series 3; 3 zz; 4 aa"
    )


def test_only_the_chosen_series_must_decode(mixed: Path) -> None:
    for path in mixed.glob("*.dcm"):
        old, new = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"
        path.write_bytes(path.read_bytes().replace(old, new))
    assert len(study(mixed, series=1).volumes) == 1
    with pytest.raises(InputError, match="its pixels are not as its transfer syntax says"):
        study(mixed, series=2)


def test_files_named_one_by_one_are_one_study(mixed: Path) -> None:
    paths = sorted(mixed.glob("*.dcm"))
    found = study(*paths, paths[0])
    assert [volume.header.shape for volume in found.volumes] == [(3, 6, 5)]
    assert found.left_out == ()


def test_nifti_files_keep_the_order_of_the_arguments(mixed: Path) -> None:
    assert labels(study(mixed / "zz.nii.gz", mixed / "deeper" / "aa")) == ["zz", "aa"]
    assert labels(study(mixed / "deeper" / "aa", mixed / "zz.nii.gz")) == ["aa", "zz"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("notes.txt", "neither DICOM nor NIfTI"),
        ("analyze.hdr", "half of a .hdr/.img pair"),
        ("colour.nii", "RGB colours"),
        ("none.dcm", "no such file or folder"),
    ],
)
def test_what_is_named_and_not_ours_is_refused(mixed: Path, name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        study(mixed / name)
    with pytest.raises(InputError, match=sentence):
        study(mixed / "zz.nii.gz", mixed / name)


def test_nothing_to_send_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no files"):
        study(tmp_path)
    report = slice_of(pixels(1), Modality="SR", Rows=None, PixelData=None)
    save(report, tmp_path / "a.dcm")
    for where in (tmp_path, tmp_path / "a.dcm"):
        with pytest.raises(InputError, match=r"a\.dcm: holds no image \(SR\)"):
            study(where)
    (tmp_path / "b.txt").write_text("x")
    sentence = r"nothing in it can be sent \(2 files: holds no image \(SR\); neither DICOM"
    with pytest.raises(InputError, match=sentence):
        study(tmp_path)
    with pytest.raises(InputError, match="holds no files"):
        study()


def test_a_volume_is_picked_from_4d_files_only(mixed: Path, tmp_path: Path) -> None:
    values = pixels(1, (5, 2, 3, 4))
    path = tmp_path / "bold.nii"
    path.write_bytes(nifti(values))
    assert np.array_equal(study(path, volume=4).volumes[0].voxels, values[4])
    with pytest.raises(InputError, match=r"name one with --volume 0\.\.4"):
        study(path)
    with pytest.raises(SettingsError, match=r"--volume 5"):
        study(path, volume=5)
    dicom = mixed / "1.dcm"
    assert len(study(dicom, volume=0).volumes) == 1
    with pytest.raises(SettingsError, match="is 3-D, it has only volume 0"):
        study(dicom, volume=1)


def test_a_wrong_volume_is_found_before_anything_is_read(mixed: Path, tmp_path: Path) -> None:
    path = tmp_path / "bold.nii"
    path.write_bytes(nifti(pixels(1, (5, 2, 3, 4))))
    (mixed / "1.dcm").write_bytes((mixed / "1.dcm").read_bytes())
    with pytest.raises(SettingsError, match="--volume 9"):
        study(mixed, path, volume=9)


def test_more_series_than_a_session_holds_must_be_chosen_from(tmp_path: Path) -> None:
    for number in range(limits.MAX_SERIES + 1):
        data_set = slice_of(pixels(1, (2, 2)), SeriesInstanceUID=f"1.{number}", SeriesNumber=number)
        save(data_set, tmp_path / f"{number}.dcm")
    with pytest.raises(SettingsError, match="65 series, 64 at most go in one session"):
        study(tmp_path)
    assert len(study(tmp_path, series=65).volumes) == 1


def test_two_patients_are_refused_unless_one_is_chosen(mixed: Path) -> None:
    data_set = slice_of(pixels(1), SeriesInstanceUID="1.8", PatientID="0815")
    save(data_set, mixed / "wrong.dcm")
    with pytest.raises(InputError, match="of another patient"):
        study(mixed)
    assert len(study(mixed, series=1).volumes) == 1


def test_pipes_and_dead_links_in_a_folder_are_passed_over(mixed: Path) -> None:
    (mixed / "dead").symlink_to(mixed / "nowhere")
    os.mkfifo(mixed / "pipe")
    assert len(study(mixed).volumes) == 4


def test_reading_dicom_imports_no_nibabel(mixed: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sender.read.source import read_study;"
        f"read_study([Path({str(mixed / '1.dcm')!r})], series=None, volume=None);"
        "print('nibabel' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
