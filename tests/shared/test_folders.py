from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from shared import folders
from shared.errors import SettingsError
from shared.folders import (
    SPARE_BYTES,
    make_folders,
    own_folder,
    require_room,
    state_folder,
    sync_folder,
)


def test_state_lies_where_the_environment_says_and_else_in_the_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert state_folder() == Path("/somewhere/medroi")
    monkeypatch.setenv("HOME", "/home/doe")
    for ignored in ("", "relative/path"):  # "should consider the path invalid and ignore it"
        monkeypatch.setenv("XDG_STATE_HOME", ignored)
        assert state_folder() == Path("/home/doe/.local/state/medroi")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(SettingsError, match="XDG_STATE_HOME names a folder"):
        state_folder()


def test_a_new_folder_is_ours_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        own_folder(tmp_path / "new" / "inner")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "inner").stat().st_mode) == 0o700


def test_folders_in_between_are_private_too(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_folders(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    for name in ("a", "a/b", "a/b/c"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700


def test_the_names_of_folders_that_were_made_survive_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(folders, "sync_folder", synced.append)
    own_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    own_folder(tmp_path / "a" / "b")
    assert len(synced) == 2
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folders(tmp_path / "file")


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_one_that_is_there_is_taken_if_only_we_can_write(mode: int, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(mode)
    own_folder(tmp_path / "there")
    assert stat.S_IMODE((tmp_path / "there").stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_one_that_others_can_write_is_refused(mode: int, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(mode)
    with pytest.raises(OSError, match="not ours alone"):
        own_folder(tmp_path / "there")


def test_one_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(OSError, match="not ours alone"):
        own_folder(tmp_path / "there")


def test_a_link_could_lead_anywhere_and_is_refused_and_so_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OSError, match="not ours alone"):
        own_folder(tmp_path / "link")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        own_folder(tmp_path / "file")


def test_a_disk_must_hold_what_comes_and_some_to_spare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000 + SPARE_BYTES

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage)
    require_room(tmp_path, 1000)
    with pytest.raises(OSError, match="No space left") as caught:
        require_room(tmp_path, 1001)
    assert caught.value.errno == errno.ENOSPC


def test_a_folder_is_synced_and_its_handle_not_kept(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    sync_folder(tmp_path)
    after = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    assert after == before
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "nowhere")
