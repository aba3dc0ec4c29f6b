from __future__ import annotations

import shutil
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from receiver.attachment import Attachment

if TYPE_CHECKING:
    from pathlib import Path

PIECES = {0: b"header", 3: b"", 7: b"extension" * 100, 65_535: b"end"}


@pytest.mark.parametrize("order", list(permutations(PIECES)), ids=str)
def test_pieces_in_any_order_make_the_layer(tmp_path: Path, order: tuple[int, ...]) -> None:
    attachment = Attachment(tmp_path / "headers")
    for block in order:
        attachment.put(block, PIECES[block])
    assert attachment.take() == b"".join(PIECES.values())
    assert not list(tmp_path.iterdir())


def test_the_newest_of_a_number_counts(tmp_path: Path) -> None:
    attachment = Attachment(tmp_path / "headers")
    for piece in (b"first", b"second and longer", b"3rd"):
        attachment.put(1, piece)
    attachment.put(0, b">")
    assert attachment.take() == b">3rd"


def test_without_pieces_there_is_no_file(tmp_path: Path) -> None:
    assert Attachment(tmp_path / "headers").take() == b""
    assert not list(tmp_path.iterdir())


def test_what_an_earlier_session_left_is_not_taken_for_ours(tmp_path: Path) -> None:
    Attachment(tmp_path / "headers").put(0, b"of a session that broke")
    attachment = Attachment(tmp_path / "headers")
    assert attachment.take() == b""
    attachment.put(0, b"ours")
    assert attachment.take() == b"ours"


def test_it_does_not_take_the_last_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attachment = Attachment(tmp_path / "headers")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=256 << 20))
    with pytest.raises(OSError, match="No space"):
        attachment.put(0, b"x")
    assert attachment.take() == b""
