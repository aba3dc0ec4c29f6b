"""The key that two ends share: 32 random bytes, as hex in a private file at each of them."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.errors import SettingsError
from shared.trust.private_files import read_private, write_private

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 32
"""256 bits: no guess at it is worth trying, so nothing has to slow guesses down."""
_HEX = re.compile(rb"[0-9a-fA-F]{64}\n?")
_MOST_BYTES = 2 * KEY_BYTES + 1


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A key, and what it is called here. The name is for people and never travels."""

    name: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"expected a key of {KEY_BYTES} bytes, got {len(self.secret)}")


def make_key(path: Path) -> None:
    """Write a new key to a file that is not there yet.

    Raises:
        SettingsError: there is a file, or it cannot be written.
    """
    write_private(path, secrets.token_hex(KEY_BYTES).encode() + b"\n")


def read_key(path: Path) -> SharedKey:
    """The key in a file, called by the file's name.

    Raises:
        SettingsError: the file is not private (`private_files`), or holds no key. What it does hold
            is never repeated.
    """
    content = read_private(path, most_bytes=_MOST_BYTES)
    if not _HEX.fullmatch(content):
        raise SettingsError(
            f"{path}: expected a key, {2 * KEY_BYTES} hex digits as --make-key writes them"
        )
    return SharedKey(path.stem, bytes.fromhex(content.decode("ascii")))
