from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from shared.errors import SettingsError
from shared.trust.private_files import private_folder, read_private, write_private

if TYPE_CHECKING:
    from pathlib import Path

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="takes root to give a file away")


def written(path: Path, mode: int = 0o600) -> Path:
    path.write_bytes(b"secret")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read(tmp_path: Path, mode: int) -> None:
    assert read_private(written(tmp_path / "key", mode), most_bytes=6) == b"secret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_one_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SettingsError, match="key: others may use it; chmod 600 makes it private"):
        read_private(written(tmp_path / "key", mode), most_bytes=6)


def test_one_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected a file of up to 5 bytes, this is larger"):
        read_private(written(tmp_path / "key"), most_bytes=5)


def test_a_link_is_refused_wherever_it_leads(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(written(tmp_path / "key"))
    with pytest.raises(SettingsError, match="link: it is a link"):
        read_private(link, most_bytes=6)


def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)  # to open one usually waits for who writes it
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(SettingsError, match=f"{name}: expected a plain file"):
            read_private(tmp_path / name, most_bytes=6)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        with pytest.raises(SettingsError, match="socket: "):
            read_private(tmp_path / "socket", most_bytes=6)


def test_one_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nothing: No such file or directory"):
        read_private(tmp_path / "nothing", most_bytes=6)


@AS_ROOT
def test_anothers_file_or_folder_is_refused(tmp_path: Path) -> None:
    path, folder = written(tmp_path / "key"), tmp_path / "folder"
    folder.mkdir(0o700)
    for made in (path, folder):
        os.chown(made, 12345, 12345)
    with pytest.raises(SettingsError, match="key: it belongs to another user"):
        read_private(path, most_bytes=6)
    with pytest.raises(SettingsError, match="folder: it belongs to another user"):
        private_folder(folder)


def test_a_written_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "key", b"secret")
        private_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert read_private(tmp_path / "key", most_bytes=100) == b"secret"


def test_nothing_is_overwritten_not_even_through_a_link(tmp_path: Path) -> None:
    written(tmp_path / "key")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("key", "link"):
        with pytest.raises(SettingsError, match="it is there already, and is not overwritten"):
            write_private(tmp_path / name, b"other")
    assert (tmp_path / "key").read_bytes() == b"secret"
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="key: No such file or directory"):
        write_private(tmp_path / "nowhere" / "key", b"secret")


def test_half_a_file_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match="key: No space left on device"):
        write_private(tmp_path / "key", b"secret")
    assert not list(tmp_path.iterdir())


def test_a_private_folder_is_used_again(tmp_path: Path) -> None:
    for _ in range(2):
        private_folder(tmp_path / "state")


def test_a_folder_that_others_may_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o750)
    with pytest.raises(SettingsError, match="state: others may use it; chmod 700"):
        private_folder(tmp_path / "state")


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "file")
    with pytest.raises(SettingsError, match="file: expected a folder"):
        private_folder(tmp_path / "file")
    with pytest.raises(SettingsError, match="Not a directory"):
        private_folder(tmp_path / "file" / "below")
    (tmp_path / "state").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "state")
    with pytest.raises(SettingsError, match="link: it is a link"):
        private_folder(tmp_path / "link")
