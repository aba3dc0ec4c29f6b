"""Folders that hold patients' data are ours alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from shared.folders import make_folders, own_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_folders_in_between_are_private_too_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_folders(tmp_path / "a" / "b" / "c")
        own_folder(tmp_path / "d" / "e")
    finally:
        os.umask(before)
    for name in ("a", "a/b", "a/b/c", "d", "d/e"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_into_is_not_taken(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(OSError, match="not ours alone"):
        own_folder(shared)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match="not ours alone"):
        own_folder(tmp_path / "link")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folders(tmp_path / "file")
