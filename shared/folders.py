"""Folders that hold patients' data: ours alone, with room to spare, and durable names."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from shared.errors import SettingsError

SPARE_BYTES = 256 << 20
"""Left free on the disk: a study that took the last byte would stop every other one, and us."""


def state_folder() -> Path:
    """Where medroi keeps what outlives a process (XDG Base Directory Specification).

    Raises:
        SettingsError: there is no such folder, as the user has no home.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    if state.startswith("/"):
        return Path(state) / "medroi"
    try:
        return Path.home() / ".local" / "state" / "medroi"
    except RuntimeError as error:
        raise SettingsError(
            "this user has no home; XDG_STATE_HOME names a folder for what must outlive a process"
        ) from error


def make_folders(folder: Path) -> None:
    """Make a folder and those it lies in, as far as they are missing, each for us alone.

    ``mkdir(parents=True)`` would leave those in between open to everybody, and what is private is
    refused in a folder that is not (XDG Base Directory Specification: "created with permission
    0700"). The name of one that was made is on the disk when this returns: POSIX promises nothing
    of files in a folder that a power cut may take.

    Raises:
        OSError: one of them cannot be made.
    """
    if not folder.parent.exists():
        make_folders(folder.parent)
    try:
        folder.mkdir(mode=stat.S_IRWXU)
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        sync_folder(folder.parent)


def own_folder(folder: Path) -> None:
    """Make a folder, or take the one that is there if only we can put files into it.

    Raises:
        OSError: it cannot be made, or is a link or another user's, who could make us write
            anywhere.
    """
    make_folders(folder)
    state = folder.lstat()
    ours = not hasattr(os, "geteuid") or state.st_uid == os.geteuid()
    shared = state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(state.st_mode) or not ours or shared:
        raise OSError(errno.EPERM, "the folder is not ours alone")


def require_room(folder: Path, size: int) -> None:
    """Does the disk hold so many bytes more, and still have some to spare?

    Raises:
        OSError: it does not.
    """
    if shutil.disk_usage(folder).free < size + SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable, new ones and those that files were given."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
