from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np
import pytest

from receiver import previews
from receiver.compose import GrowingVolume
from receiver.store import disk_errors, forget_empty, open_volumes, study_folder
from shared.errors import ExitCode, InputError, RemoteProtocolError
from shared.layer import Quality
from tests.receiver.studies import manifest_of, study

if TYPE_CHECKING:
    from pathlib import Path

FIRST, SECOND = study(), study(dtype="<f4", seed=2)
MANIFEST = manifest_of(FIRST.entry, SECOND.entry)


def test_a_study_has_a_folder_of_its_own_named_by_its_digest(tmp_path: Path) -> None:
    folder = study_folder(tmp_path, MANIFEST)
    assert folder.parent == tmp_path
    assert MANIFEST.study.hex().startswith(folder.name)
    assert len(folder.name) == 16


def test_every_series_has_files_of_its_own(tmp_path: Path) -> None:
    volumes = open_volumes(tmp_path / "study", MANIFEST)
    assert [volume.files.path.name for volume in volumes] == [
        "series-1.partial.nii",
        "series-2.partial.nii",
    ]
    assert [volume.entry for volume in volumes] == [FIRST.entry, SECOND.entry]
    assert all(volume.empty for volume in volumes)


def test_what_an_earlier_session_reported_does_not_stand_while_another_is_at_work(
    tmp_path: Path,
) -> None:
    """Or a study sent anew and broken off would pass for a finished one."""
    (volume,) = open_volumes(tmp_path / "study", FIRST.manifest)
    (volume.files.folder / "report.json").write_text('{"exit_code": 0}')
    open_volumes(tmp_path / "study", FIRST.manifest)
    assert not (volume.files.folder / "report.json").exists()


def test_what_is_empty_is_forgotten_and_what_is_not_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study"
    first, second = open_volumes(folder, MANIFEST)
    first.set_plan(FIRST.plan)
    offer, _ = FIRST.layer(0, "roi0", Quality.PREVIEW)
    first.paint_lossy(offer, np.zeros((2, 4, 4), np.uint16))
    forget_empty([first, second])
    assert sorted(path.name for path in folder.iterdir()) == [
        "series-1.partial.nii",
        "series-1.partial.previews",
        "series-1.partial.quality.nii",
    ]
    forget_empty(open_volumes(folder, MANIFEST)[1:])
    assert (folder / "series-1.partial.nii").exists()  # what was shown is still shown
    monkeypatch.setattr(previews, "boot_name", lambda: "another boot")
    forget_empty(open_volumes(folder, MANIFEST))
    assert not folder.exists()


def test_what_an_earlier_session_proved_is_not_forgotten(tmp_path: Path) -> None:
    (volume,) = open_volumes(tmp_path / "study", FIRST.manifest)
    volume.set_plan(FIRST.plan)
    offer, _ = FIRST.layer(0, "roi0")
    part = np.ascontiguousarray(FIRST.voxels[2:4, 3:7, 2:6])
    assert volume.paint_exact(offer, FIRST.entry.samples.to_samples(part))
    forget_empty(open_volumes(tmp_path / "study", FIRST.manifest))
    assert len(open_volumes(tmp_path / "study", FIRST.manifest)[0].held) == 1


def test_a_disk_that_takes_the_first_series_only_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_second(folder: Path, stem: str, entry: object) -> object:
        if stem == "series-2":
            raise OSError(errno.ENOSPC, "No space left on device")
        return GrowingVolume(folder, stem, FIRST.entry)

    monkeypatch.setattr("receiver.store.GrowingVolume", fails_second)
    with pytest.raises(OSError, match="No space"):
        open_volumes(tmp_path / "study", MANIFEST)
    assert not list(tmp_path.iterdir())


def test_errors_of_the_disk_have_the_exit_code_of_a_study_not_taken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not taken: No space") as caught, disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_code is ExitCode.INPUT_REFUSED
    with pytest.raises(InputError, match="something odd"), disk_errors(tmp_path):
        raise OSError("something odd")
    with pytest.raises(RemoteProtocolError), disk_errors(tmp_path):
        raise RemoteProtocolError("a lie")
