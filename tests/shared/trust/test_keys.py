from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.errors import SettingsError
from shared.trust.keys import SharedKey, make_key, read_key

if TYPE_CHECKING:
    from pathlib import Path

HEX = "0123456789abcdef" * 4


def kept(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_a_new_key_is_read_as_it_was_made_and_no_two_are_alike(tmp_path: Path) -> None:
    keys = []
    for name in ("site-a.key", "site-b.key"):
        make_key(tmp_path / name)
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert len((tmp_path / name).read_text()) == 65
        keys.append(read_key(tmp_path / name))
    assert [key.name for key in keys] == ["site-a", "site-b"]
    assert keys[0].secret.hex() + "\n" == (tmp_path / "site-a.key").read_text()
    assert keys[0].secret != keys[1].secret


@pytest.mark.parametrize("text", [HEX, HEX + "\n", HEX.upper() + "\n"])
def test_a_key_written_by_hand_is_read(tmp_path: Path, text: str) -> None:
    assert read_key(kept(tmp_path / "key", text.encode())).secret == bytes.fromhex(HEX)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        HEX[:-1].encode(),
        HEX[:-1].encode() + b"g",
        HEX.encode() + b"0",
        HEX.encode() + b"\n\n",
        b" " + HEX[1:].encode(),
        b"0x" + HEX[2:].encode(),
        b"\xff" * 64,
        bytes(32),
        bytes(65),
        "٣".encode() * 32,  # a digit, but not of ours
        HEX.encode() * 100,
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SettingsError, match="key: expected a ") as caught:
        read_key(kept(tmp_path / "key", content))
    assert HEX[:8] not in str(caught.value)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = kept(tmp_path / "key", HEX.encode())
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="others may use it"):
        read_key(path)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = kept(tmp_path / "key", HEX.encode())
    with pytest.raises(SettingsError, match="it is there already, and is not overwritten"):
        make_key(path)
    assert path.read_text() == HEX


def test_a_key_is_not_shown_with_its_name() -> None:
    assert repr(SharedKey("site-a", b"k" * 32)) == "SharedKey(name='site-a')"


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_has_its_length(size: int) -> None:
    with pytest.raises(ValueError, match=f"expected a key of 32 bytes, got {size}"):
        SharedKey("k", bytes(size))
