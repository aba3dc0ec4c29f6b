from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from protocol import messages as m
from protocol.limits import CHUNK_BYTES
from receiver import quarantine
from receiver.quarantine import NAME, Quarantine
from tests.receiver.studies import attended, study

if TYPE_CHECKING:
    from pathlib import Path

    from tests.receiver.studies import Peer


def index(folder: Path) -> list[dict[str, object]]:
    lines = (folder / NAME / "index.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_what_is_kept_aside_is_there_as_it_came_with_the_reason(tmp_path: Path) -> None:
    kept = Quarantine(tmp_path)
    kept.put(b"not what was said", why="it has not its hash", encoding=7, offset=65536)
    kept.put(b"nor this", why="jpegls: no end", encoding=8)
    assert kept.count == 2
    assert (tmp_path / NAME / "0001.bin").read_bytes() == b"not what was said"
    first, second = index(tmp_path)
    assert (first["encoding"], first["offset"], first["why"]) == (7, 65536, "it has not its hash")
    assert second["file"] == "0002.bin"
    for path in (tmp_path / NAME).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_process_goes_on_where_the_first_has_left(tmp_path: Path) -> None:
    Quarantine(tmp_path).put(b"one", why="x", encoding=0)
    Quarantine(tmp_path).put(b"two", why="x", encoding=0)
    assert (tmp_path / NAME / "0002.bin").read_bytes() == b"two"


def test_a_peer_cannot_fill_the_disk_with_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Quarantine(tmp_path)
    monkeypatch.setattr(quarantine, "_MOST_BYTES", 1000)
    for number in range(100):
        kept.put(bytes(300), why="x", encoding=number)
    assert kept.count == 100
    assert len(list((tmp_path / NAME).glob("*.bin"))) == 3
    assert len(index(tmp_path)) == 32
    monkeypatch.setattr(quarantine, "_MOST_BYTES", 1 << 30)
    for number in range(100):
        kept.put(bytes(300), why="x", encoding=number)
    assert len(list((tmp_path / NAME).glob("*.bin"))) == 32


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(tmp_path)
    with pytest.raises(OSError):  # noqa: PT011
        Quarantine(tmp_path).put(b"x", why="x", encoding=0)


def test_a_chunk_without_its_hash_is_kept_aside_and_the_study_goes_on(tmp_path: Path) -> None:
    sent = study()
    offer, payload = sent.layer(0, "background")
    wrong = bytearray(payload[:CHUNK_BYTES])
    wrong[100] ^= 4

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.say(offer)
        await peer.send(0, bytes(wrong))
        again = await peer.hear(m.Again)
        assert again == m.Again(0, 0, len(wrong))
        await peer.send(0, payload)
        await peer.offer(*sent.layer(1, "roi0"))
        await peer.offer(*sent.layer(2, "tissue"))
        await peer.end(sent.manifest)

    ended = attended(tmp_path, script)
    assert ended.session.exact
    assert ended.session.quarantine is not None
    assert ended.session.quarantine.count == 1
    assert ended.session.folder is not None
    (line,) = index(ended.session.folder)
    assert line["why"] == "it has not its hash"
    assert (ended.session.folder / NAME / "0001.bin").read_bytes() == bytes(wrong)
