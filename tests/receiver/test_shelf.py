"""What is on the clinic's disk, what has had its time, and what has room."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from receiver.commands.ls import ls
from receiver.files import SeriesFiles, series_bytes
from receiver.shelf import Rules, Shelf, Shelved, parse_age, parse_size
from receiver.store import study_folder
from shared.errors import ExitCode, IntegrityError, SettingsError
from shared.layer import Quality
from tests.receiver.studies import study as some_study
from tests.receiver.test_compose import grown, paint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DAY_S = 86400
FIRST = some_study()


def study(out: Path, name: str, *, levels: Sequence[int] = (), age_s: float = 0.0) -> Path:
    """A folder: exact without levels, else with a quality map of them."""
    folder = out / name
    folder.mkdir(parents=True)
    if levels:
        (folder / "series-1.partial.nii").write_bytes(bytes(100))
        (folder / "series-1.partial.quality.nii").write_bytes(bytes(352) + bytes(levels))
    else:
        (folder / "series-1.nii").write_bytes(bytes(1000))
        (folder / "series-1.json").write_text(json.dumps({"voxels": {"total": 24}}))
    aged(folder, age_s)
    return folder


def aged(folder: Path, age_s: float) -> None:
    for path in folder.iterdir():
        os.utime(path, (time.time() - age_s,) * 2)


def test_a_study_is_as_good_as_its_files(tmp_path: Path) -> None:
    study(tmp_path, "0" * 16, age_s=20)
    growing = study(tmp_path, "1" * 16, levels=[0, 0, 2, 5], age_s=10)
    (growing / "session.log").write_bytes(b"log")
    aged(growing, 10)
    stored = study(tmp_path, "2" * 16, levels=[1, 5, 5, 5])
    (stored / "report.json").write_text(json.dumps({"exit_code": 0}))
    torn = study(tmp_path, "3" * 16, levels=[5], age_s=30)
    (torn / "series-1.partial.quality.nii").write_bytes(bytes(10))
    (torn / "report.json").write_text("{")
    aged(torn, 30)
    study(tmp_path, "4" * 16, levels=[5, 9], age_s=40)
    (tmp_path / "notes").mkdir()
    (tmp_path / "api.token").write_text("x")
    found = Shelf(tmp_path).studies()
    assert [(each.name[0], each.state, each.resumable, each.series) for each in found] == [
        ("2", "finished", False, 1),
        ("1", "unfinished", True, 1),
        ("0", "exact", False, 1),
        ("3", "unfinished", False, 1),
        ("4", "unfinished", False, 1),
    ]
    assert found[0].voxels == {"discarded": 0.25, "verified": 0.75}
    assert found[1].voxels == {"missing": 0.5, "preview": 0.25, "verified": 0.25}
    assert found[2].voxels == {"verified": 1.0}
    assert found[3].voxels == {}
    assert found[4].voxels == {"missing": 0.5, "verified": 0.5}
    assert found[2].bytes == 1000 + len('{"voxels": {"total": 24}}')
    assert 19 < found[2].age_s < 40
    assert Shelf(tmp_path / "none").studies() == []


def test_nothing_of_a_volume_whose_digest_is_wrong_is_called_exact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = replace(FIRST, entry=replace(FIRST.entry, digest=bytes(32)))
    folder = tmp_path / ("a" * 16)
    folder.mkdir()
    volume = grown(folder, sent)
    for region in ("roi0", "tissue", "background"):
        assert paint(volume, sent, sent.layer(0, region)[0])
    with pytest.raises(IntegrityError):
        volume.prove()
    volume.files.sync()
    assert Shelf(tmp_path).studies()[0].voxels == {"unproven": 1.0}
    ls([str(tmp_path)])
    assert "exact" not in capsys.readouterr().out
    assert b"4 unproven" in volume.files.quality_path.read_bytes()[:352]


def test_a_growing_volume_is_read_as_it_is_written(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 16)
    folder.mkdir()
    files, _ = SeriesFiles.open(folder, "series-1", FIRST.entry.header)
    files.quality.reshape(-1)[:3] = Quality.VERIFIED
    files.sync()
    (found,) = Shelf(tmp_path).studies()
    total = int(np.prod(FIRST.entry.header.shape))
    assert found.voxels == {"missing": (total - 3) / total, "verified": 3 / total}
    assert found.bytes == series_bytes(FIRST.entry.header)


def test_a_large_map_is_counted_without_room_for_it(tmp_path: Path) -> None:
    size = 20 << 20
    folder = study(tmp_path, "0" * 16, levels=[5])
    with (folder / "series-1.partial.quality.nii").open("r+b") as file:
        file.truncate(352 + size)
        file.seek(-3, os.SEEK_END)
        file.write(bytes((5, 5, 200)))
    tracemalloc.start()
    try:
        (found,) = Shelf(tmp_path).studies()
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.voxels == {"missing": (size - 3) / size, "verified": 3 / size}
    assert most_bytes < 16 << 20


def test_what_is_finished_goes_in_its_time_and_nothing_else_does(tmp_path: Path) -> None:
    old, young = study(tmp_path, "0" * 16, age_s=31 * DAY_S), study(tmp_path, "1" * 16)
    unfinished = study(tmp_path, "2" * 16, levels=[0], age_s=400 * DAY_S)
    busy = study(tmp_path, "3" * 16, age_s=400 * DAY_S)
    other = tmp_path / "x"
    other.mkdir()
    left = tmp_path / ".0123456789abcdef.gone"
    left.mkdir()
    told: list[tuple[str, str]] = []
    Shelf(tmp_path).tidy(lambda *what: told.append(what))
    assert told == []
    shelf = Shelf(tmp_path, Rules(keep_s=30 * DAY_S))
    assert shelf.hold(b"session", busy)
    assert shelf.tidy(lambda *what: told.append(what)) == told
    assert told == [("0" * 16, "exact, unchanged for 31.0 days")]
    assert not old.exists()
    assert not left.exists()
    assert all(path.exists() for path in (young, unfinished, busy, other))


def test_what_a_sender_comes_back_to_while_the_others_are_looked_at_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, changed, gone, old = (
        study(tmp_path, digit * 16, age_s=31 * DAY_S) for digit in ("0", "1", "2", "3")
    )
    shelf = Shelf(tmp_path, Rules(keep_s=30 * DAY_S))
    look = Shelf.studies

    def meanwhile(shelf: Shelf) -> list[Shelved]:
        found = look(shelf)
        assert shelf.hold(b"session", held)
        os.utime(changed / "series-1.nii")
        shutil.rmtree(gone)
        return found

    monkeypatch.setattr(Shelf, "studies", meanwhile)
    assert [name for name, _ in shelf.tidy(lambda *_: None)] == [old.name]
    assert held.exists()
    assert changed.exists()
    assert not shelf.hold(b"late", old)  # whoever comes after that hears that it is gone
    shelf.release(b"session")
    monkeypatch.setattr(Shelf, "studies", look)
    assert [name for name, _ in shelf.tidy(lambda *_: None)] == [held.name]


def test_what_is_unfinished_goes_only_if_the_site_says_so(tmp_path: Path) -> None:
    unfinished = study(tmp_path, "2" * 16, levels=[0], age_s=100 * DAY_S)
    finished = study(tmp_path, "3" * 16, age_s=100 * DAY_S)
    told: list[tuple[str, str]] = []
    Shelf(tmp_path, Rules(keep_unfinished_s=90 * DAY_S)).tidy(lambda *each: told.append(each))
    assert told == [("2" * 16, "unfinished, unchanged for 100.0 days")]
    assert not unfinished.exists()
    assert finished.exists()


def test_beyond_the_quota_no_study_is_taken_and_the_sentence_says_why(tmp_path: Path) -> None:
    needed = series_bytes(FIRST.entry.header)
    folder = study_folder(tmp_path, FIRST.manifest)
    study(tmp_path, "0" * 16)
    (tmp_path / ("0" * 16) / "series-2.nii").write_bytes(bytes(2 * 10**6))
    room = sum(path.stat().st_size for path in (tmp_path / ("0" * 16)).iterdir())
    Shelf(tmp_path).require(folder, FIRST.manifest)
    Shelf(tmp_path, Rules(quota_bytes=room + needed)).require(folder, FIRST.manifest)
    shelf = Shelf(tmp_path, Rules(quota_bytes=room + needed - 1))
    with pytest.raises(OSError, match=r"quota of \d+\.\d\d MB is used up: 2\.00 MB") as caught:
        shelf.require(folder, FIRST.manifest)
    assert caught.value.errno == errno.EDQUOT


def test_what_was_promised_is_not_promised_twice(tmp_path: Path) -> None:
    needed = series_bytes(FIRST.entry.header)
    shelf = Shelf(tmp_path, Rules(quota_bytes=2 * needed))
    first, second, third = (tmp_path / (each * 16) for each in "abc")
    shelf.require(first, FIRST.manifest)
    first.mkdir()  # and nothing in it yet
    shelf.require(second, FIRST.manifest)
    with pytest.raises(OSError, match="is used up"):
        shelf.require(third, FIRST.manifest)
    shelf.require(first, FIRST.manifest)  # it comes again: its own place counts once
    shelf.hold(b"second", second)
    shelf.release(b"third")  # which has never held anything
    with pytest.raises(OSError, match="is used up"):
        shelf.require(third, FIRST.manifest)
    shelf.release(b"second")
    shelf.require(third, FIRST.manifest)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("12h", 43200), ("30d", 30 * DAY_S), ("2w", 14 * DAY_S)]
)
def test_ages_are_written_with_their_unit(text: str, seconds: int) -> None:
    assert parse_age(text, "--keep") == seconds


def test_so_are_sizes_and_anything_else_is_a_setting_to_mend() -> None:
    assert [parse_size(text, "--quota") for text in ("500M", "50G", "2T")] == [
        500 * 10**6,
        50 * 10**9,
        2 * 10**12,
    ]
    for text in ("", "50", "0G", "-1G", "50g", "1.5G", "9999999999G", "50GB"):
        with pytest.raises(SettingsError, match=r"--quota .*: expected such as"):
            parse_size(text, "--quota")
    with pytest.raises(SettingsError, match="--keep 30: expected such as 30d"):
        parse_age("30", "--keep")


def test_the_command_lists_for_people_and_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--out", str(tmp_path)]
    assert ls(where) is ExitCode.OK
    assert capsys.readouterr().out == f"no studies in {tmp_path}\n"
    study(tmp_path, "0" * 16, age_s=2 * DAY_S + 5)
    levels = [0, *[5] * 9999]
    study(tmp_path, "1" * 16, levels=levels, age_s=7205)
    study(tmp_path, "2" * 16, levels=[0], age_s=65)
    study(tmp_path, "3" * 16, levels=[0])
    assert ls(where) is ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["0s", "1m", "2h", "2d"]
    assert lines[2].endswith("1 series  0.1 % missing, 99.9 % verified")  # 99.99 is not all
    assert lines[3].endswith("1 series  100.0 % verified")
    assert ls([*where, "--json"]) is ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert [each["state"] for each in found] == ["unfinished"] * 3 + ["exact"]
    with pytest.raises(SettingsError, match="there is no such folder"):
        ls(["--out", str(tmp_path / "none")])
    assert ls([str(tmp_path)]) is ExitCode.OK
    for words in ([], [*where, str(tmp_path)]):
        with pytest.raises(SettingsError, match="which folder"):
            ls(words)
