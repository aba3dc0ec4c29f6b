from __future__ import annotations

import errno
import os
import shutil
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from receiver.files import SeriesFiles, fill_value, remove_series
from shared.folders import own_folder
from shared.layer import Quality
from tests.receiver.studies import AFFINE, SHAPE, series_header, some_voxels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shared.header import SeriesHeader

DTYPES = ("|u1", "|i1", "<i2", ">i2", "<u2", ">u4", "<f4", ">f8", "<i8")
PARTIAL, QUALITY = "series-1.partial.nii", "series-1.partial.quality.nii"


@pytest.fixture
def private_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def opened(folder: Path, header: SeriesHeader) -> SeriesFiles:
    return SeriesFiles.open(folder, "series-1", header)[0]


def load(path: Path) -> Any:
    return nibabel.load(path, mmap=False)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_new_file_is_a_partial_nifti_with_a_quality_map_of_the_same_place(
    tmp_path: Path, dtype: str, version: int
) -> None:
    header = series_header(dtype=dtype, version=version)
    opened(tmp_path, header)
    partial, quality = load(tmp_path / PARTIAL), load(tmp_path / QUALITY)
    assert bytes(partial.header["descrip"]).startswith(b"PARTIAL: see the quality map")
    assert partial.header.get_data_dtype() == np.dtype(dtype)
    assert partial.shape == quality.shape == SHAPE[::-1]
    assert np.array_equal(partial.affine, np.reshape(AFFINE, (4, 4)))
    assert np.array_equal(quality.affine, partial.affine)
    stored = np.asanyarray(partial.dataobj)
    fill = fill_value(np.dtype(dtype))
    assert np.all(np.isnan(stored) if np.isnan(fill) else stored == fill)
    assert not np.asanyarray(quality.dataobj).any()
    for level in Quality:
        assert f"{int(level)} {level.word}".encode() in bytes(quality.header["descrip"])


def test_all_but_the_description_is_the_sources_own_header(tmp_path: Path) -> None:
    for version, (start, room) in ((1, (148, 80)), (2, (240, 80))):
        header = series_header(version=version)
        opened(tmp_path, header)
        begin = (tmp_path / PARTIAL).read_bytes()[: len(header.file_header)]
        assert begin[:start] + begin[start + room :] == (
            header.file_header[:start] + header.file_header[start + room :]
        )
        (tmp_path / PARTIAL).unlink()


def test_the_fill_value_is_what_no_scanner_writes() -> None:
    assert [fill_value(np.dtype(name)) for name in ("u1", "i1", ">u2", "<i2")] == [
        255,
        -128,
        65535,
        -32768,
    ]
    assert np.isnan(fill_value(np.dtype(">f4")))


@pytest.mark.parametrize(("dtype", "version"), [("<i2", 1), (">f4", 1), (">u2", 2), ("|u1", 2)])
def test_a_finished_file_is_the_source_byte_for_byte(
    tmp_path: Path, dtype: str, version: int
) -> None:
    gap = bytes(4) + b"whatever else the file had there"
    offset = {1: 348, 2: 540}[version] + len(gap)
    header = series_header(dtype=dtype, version=version, offset=offset)
    voxels = some_voxels(dtype=dtype)
    files = opened(tmp_path, header)
    files.voxels[...] = voxels
    files.journal.write_text("{}\n")
    final = files.finish(gap)
    assert final.read_bytes() == header.file_header + gap + voxels.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["series-1.nii"]
    assert np.array_equal(np.asanyarray(load(final).dataobj).T, voxels)


def test_what_the_source_had_nothing_in_is_zero_and_what_is_too_long_is_cut(tmp_path: Path) -> None:
    header = series_header(offset=400)
    for attachment, gap in ((b"", bytes(52)), (b"x" * 99, b"x" * 52), (b"ab", b"ab" + bytes(50))):
        final = opened(tmp_path, header).finish(attachment)
        assert final.read_bytes()[348:400] == gap
        assert final.stat().st_size == 400 + 2 * 480


def test_a_finished_file_replaces_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "series-1.nii").write_bytes(b"older")
    header = series_header()
    assert opened(tmp_path, header).finish(b"").stat().st_size == 352 + 2 * 480


def test_what_is_painted_is_there_when_the_files_are_opened_again(tmp_path: Path) -> None:
    header = series_header()
    files = opened(tmp_path, header)
    files.voxels[2, 3, 4], files.quality[2, 3, 4] = 77, Quality.VERIFIED
    files.sync()
    again, resumed = SeriesFiles.open(tmp_path, "series-1", header)
    assert resumed
    assert (again.voxels[2, 3, 4], again.quality[2, 3, 4]) == (77, Quality.VERIFIED)
    assert np.count_nonzero(again.quality) == 1


def test_clear_leaves_no_value_where_nothing_has_come(tmp_path: Path) -> None:
    files = opened(tmp_path, series_header())
    files.voxels[...] = 5
    files.quality[...] = np.arange(480).reshape(SHAPE) % 6
    files.clear()
    known = np.arange(480).reshape(SHAPE) % 6
    there = known >= Quality.PREVIEW
    assert np.array_equal(files.quality, np.where(there, known, Quality.MISSING))
    assert np.array_equal(files.voxels, np.where(there, 5, -32768))


@pytest.mark.parametrize("name", [PARTIAL, QUALITY])
@pytest.mark.parametrize("size", [0, 352, 2000])
def test_a_leftover_of_another_size_is_made_anew_and_its_journal_forgotten(
    tmp_path: Path, name: str, size: int
) -> None:
    header = series_header()
    files = opened(tmp_path, header)
    files.voxels[...], files.quality[...] = 5, Quality.VERIFIED
    files.journal.write_text("{}\n")
    (tmp_path / name).write_bytes(b"m" * size)
    again, resumed = SeriesFiles.open(tmp_path, "series-1", header)
    assert not resumed
    assert not again.quality.any()
    assert np.all(again.voxels == -32768)
    assert not again.journal.exists()
    assert load(tmp_path / QUALITY).shape == load(tmp_path / PARTIAL).shape == SHAPE[::-1]


def test_a_leftover_in_another_byte_order_gets_the_header_of_what_is_written_now(
    tmp_path: Path,
) -> None:
    """Both orders have one digest, so a study begun in the one may go on in the other."""
    opened(tmp_path, series_header(dtype="<i2"))
    files, resumed = SeriesFiles.open(tmp_path, "series-1", series_header(dtype=">i2"))
    files.voxels[...] = 3
    assert resumed
    assert np.all(np.asanyarray(load(tmp_path / PARTIAL).dataobj) == 3)


@pytest.mark.usefixtures("private_umask")
def test_nobody_else_may_read_or_write_anything(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    own_folder(folder)
    files = opened(folder, series_header())
    files.attach(b"zip")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    final = files.finish(b"")
    assert stat.S_IMODE(final.stat().st_mode) == 0o600


def test_a_study_whose_folder_is_a_link_or_open_to_others_is_not_taken(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link, dangling, shared, file = (tmp_path / name for name in ("a", "b", "c", "d"))
    link.symlink_to(elsewhere)
    dangling.symlink_to(tmp_path / "nothing")
    shared.mkdir()
    shared.chmod(0o777)
    file.write_text("")
    for folder in (link, dangling, shared, file):
        with pytest.raises(OSError, match=r"ours alone|exists"):
            own_folder(folder)
    assert not list(elsewhere.iterdir())
    own_folder(tmp_path / "new" / "study")
    own_folder(tmp_path / "new" / "study")


def test_a_study_that_would_take_the_last_room_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=256 << 20))
    folder = tmp_path / "study"
    own_folder(folder)
    with pytest.raises(OSError, match="No space"):
        opened(folder, series_header())
    assert not list(folder.iterdir())


def test_a_disk_that_fails_half_way_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int, offset: int, size: int) -> None:
        os.ftruncate(handle, size // 2)  # as ext4 leaves it
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match="No space"):
        opened(tmp_path, series_header())
    assert not tmp_path.exists()


def test_a_volume_that_no_disk_holds_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    huge = (8192, 16384, 16384)
    header = replace(series_header(), shape=huge, dtype="<i2")
    with pytest.raises(OSError, match="No space"):
        opened(tmp_path, header)
    assert not list(tmp_path.iterdir())


def test_remove_takes_away_a_growing_series_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    own_folder(folder)
    opened(folder, series_header()).journal.write_text("x")
    (folder / "series-1.nii").write_text("an older one")
    remove_series(folder, "series-1")
    assert [path.name for path in folder.iterdir()] == ["series-1.nii"]
    (folder / "series-1.nii").unlink()
    remove_series(folder, "series-1")
    assert not folder.exists()
