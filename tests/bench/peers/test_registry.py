"""Every peer for real, over a quick link: what arrives is the scan, and is judged exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.peers.course import judge
from tests.bench.peers.registry import PEERS, RAW
from tests.bench.peers.scans import small_scan
from tests.bench.peers.tools import PeerMissing, tool
from tests.emulator.relayed import RelayLink, best_link

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.peers.base import Peer

LINK = "rate=20M,rtt=10ms"


@pytest.mark.parametrize("peer", PEERS, ids=[peer.name for peer in PEERS])
@pytest.mark.parametrize("kind", [best_link, RelayLink], ids=["best link", "relay"])
def test_a_peer_delivers_the_scan(tmp_path: Path, peer: Peer, kind: type[RelayLink]) -> None:
    scan = small_scan(tmp_path, least=-40)
    folder = tmp_path / "peer"
    folder.mkdir()
    try:
        peer.prepare(scan, folder)
        with kind(LINK) as link:
            pieces = peer.transfer(link, scan, folder, limit_s=60.0)
    except PeerMissing as missing:
        pytest.skip(str(missing))
    outcome = judge(peer.name, scan, pieces)
    assert outcome.whole_exact_s is not None, outcome
    assert outcome.roi_exact_s is not None
    assert 0 < outcome.roi_exact_s <= outcome.whole_exact_s < 30
    assert outcome.size_bytes > 1000


def test_what_has_not_come_within_the_limit_does_not_count(tmp_path: Path) -> None:
    scan = small_scan(tmp_path)
    (peer,) = (peer for peer in PEERS if peer.name == RAW)
    folder = tmp_path / "peer"
    folder.mkdir()
    try:
        peer.prepare(scan, folder)
        with best_link("rate=64k,rtt=10ms") as link:
            pieces = peer.transfer(link, scan, folder, limit_s=4.0)
    except PeerMissing as missing:
        pytest.skip(str(missing))
    assert 0 < len(pieces) < 12
    assert judge(peer.name, scan, pieces).whole_exact_s is None


def test_a_tool_that_is_missing_is_named() -> None:
    with pytest.raises(PeerMissing, match="no-such-tool is not on this machine"):
        tool("no-such-tool")
