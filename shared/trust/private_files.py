"""Files that are nobody else's: made so, and refused when they are not.

A secret that others can read, replace or redirect is none, so nothing here is repaired or merely
warned about. What is checked is the open file, not its name, which may mean another file by then.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from shared.errors import SettingsError
from shared.folders import make_folders

if TYPE_CHECKING:
    from pathlib import Path

_OTHERS = 0o077
"""What group and world may do with a private file: nothing."""


def read_private(path: Path, *, most_bytes: int) -> bytes:
    """What a private file holds.

    Raises:
        SettingsError: it is not there, a link, no plain file, not ours, open to group or world, or
            larger than ``most_bytes``.
    """
    try:
        # Not blocking: a named pipe would be waited for.
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        why = "it is a link" if path.is_symlink() else error.strerror
        raise SettingsError(f"{path}: {why}") from error
    try:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise SettingsError(f"{path}: expected a plain file")
        _check_owner(path, status, wanted="600")
        with open(number, "rb", closefd=False) as file:
            content = file.read(most_bytes + 1)
    finally:
        os.close(number)
    if len(content) > most_bytes:
        raise SettingsError(f"{path}: expected a file of up to {most_bytes} bytes, this is larger")
    return content


def write_private(path: Path, content: bytes) -> None:
    """Make a private file, on disk when this returns; it must not be there yet.

    Raises:
        SettingsError: there is something of that name, or it cannot be written.
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        number = os.open(path, flags, 0o600)
    except FileExistsError as error:
        raise SettingsError(f"{path}: it is there already, and is not overwritten") from error
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    try:
        with open(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(number)
    except OSError as error:
        path.unlink(missing_ok=True)  # half of a secret is of no use to anybody
        raise SettingsError(f"{path}: {error.strerror}") from error


def private_folder(path: Path) -> None:
    """Make a folder that is nobody else's, unless it is there and is just that.

    Raises:
        SettingsError: it is a link, no folder, not ours, open to group or world, or cannot be made.
    """
    try:
        make_folders(path)
        status = os.lstat(path)
    except FileExistsError as error:
        raise SettingsError(f"{path}: expected a folder") from error
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    if stat.S_ISLNK(status.st_mode):
        raise SettingsError(f"{path}: it is a link")
    _check_owner(path, status, wanted="700")


def _check_owner(path: Path, status: os.stat_result, *, wanted: str) -> None:
    if status.st_uid != os.geteuid():
        raise SettingsError(f"{path}: it belongs to another user")
    if status.st_mode & _OTHERS:
        raise SettingsError(f"{path}: others may use it; chmod {wanted} makes it private")
