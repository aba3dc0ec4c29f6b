"""aiortc's SCTP with medroi's congestion control, both ends in virtual time over a line."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

import aiortc
import pytest
from aiortc.rtcsctptransport import RTCSctpTransport, SackChunk, parse_packet

from shared.transports.webrtc import guard, peer, sctp
from tests.shared.transports.webrtc.wired import Wire, WiredEnds, wired
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.errors import MedroiError

FRAME = 4096


def over(link: str, scenario: Callable[[WiredEnds], Awaitable[None]], *, seed: int = 0) -> None:
    async def main() -> None:
        async with wired(link, seed=seed) as ends:
            await scenario(ends)

    run_virtual(main(), limit_s=600)


async def carry(ends: WiredEnds, frames: int) -> tuple[float, list[bytes]]:
    """Send so many frames: the seconds until the last has arrived, and what came."""
    noise = random.Random(0)
    start_s = asyncio.get_running_loop().time()
    came: list[bytes] = []

    async def receive() -> None:
        async for frame in ends.far.frames():
            came.append(frame)
            if len(came) == frames:
                return

    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(receive())
        for _ in range(frames):
            await ends.near.send(noise.randbytes(FRAME))
    return asyncio.get_running_loop().time() - start_s, came


def sacks(wire: Wire) -> list[SackChunk]:
    chunks = [chunk for packet in wire.packets for chunk in parse_packet(packet)[3]]
    return [chunk for chunk in chunks if isinstance(chunk, SackChunk)]


@pytest.mark.parametrize(
    ("link", "least"),
    [
        ("rate=1M,rtt=100ms,loss=0%", 0.88),
        ("rate=1M,rtt=100ms,loss=3%", 0.82),
        ("rate=5M,rtt=100ms,loss=3%", 0.85),
        ("rate=20M,rtt=100ms,loss=3%", 0.80),
        ("rate=384k,rtt=715ms,loss=0%", 0.80),
    ],
)
def test_it_fills_the_line_though_packets_are_lost(link: str, least: float) -> None:
    async def scenario(ends: WiredEnds) -> None:
        rate_bps = ends.there.line._line.profile.rate_bps
        frames = int(rate_bps * 12 / 8 / FRAME)
        took_s, came = await carry(ends, frames)
        assert len(came) * FRAME * 8 / took_s / rate_bps > least

    over(link, scenario)


@pytest.mark.parametrize("seed", range(6))
def test_everything_arrives_whole_and_in_order_whatever_the_line_does(seed: int) -> None:
    async def scenario(ends: WiredEnds) -> None:
        noise = random.Random(0)
        _, came = await carry(ends, 200)
        assert came == [noise.randbytes(FRAME) for _ in range(200)]
        assert not ends.near_pipe.offences
        assert not ends.far_pipe.offences

    link = "rate=4M,rtt=60ms,loss=8%,jitter=20ms,reorder=5%,duplicate=5%"
    over(link, scenario, seed=seed)


def test_a_lost_packet_is_sent_again_once() -> None:
    async def scenario(ends: WiredEnds) -> None:
        await carry(ends, 1000)
        lost = ends.there.line.fates.lost
        again = ends.near_pipe.association.retransmissions
        assert lost > 20
        assert again <= 1.1 * lost + 5

    over("rate=5M,rtt=100ms,loss=3%", scenario)


def test_nothing_is_sent_again_where_nothing_is_lost() -> None:
    async def scenario(ends: WiredEnds) -> None:
        await carry(ends, 500)
        assert ends.near_pipe.association.retransmissions <= 2

    over("rate=5M,rtt=100ms,queue=400kB,loss=0%", scenario)


def test_after_an_outage_data_flows_within_a_second() -> None:
    async def scenario(ends: WiredEnds) -> None:
        came_s: list[float] = []

        async def receive() -> None:
            async for _ in ends.far.frames():
                came_s.append(asyncio.get_running_loop().time())

        async def send() -> None:
            while True:
                await ends.near.send(bytes(FRAME))

        up_s = asyncio.get_running_loop().time()
        tasks = [asyncio.ensure_future(work()) for work in (receive, send)]
        await asyncio.sleep(30)
        for task in tasks:
            task.cancel()
        behind = [at_s for at_s in came_s if at_s > up_s + 8]
        silence_s = max(b - a for a, b in itertools.pairwise(came_s))
        assert 5.0 <= silence_s < 6.0
        assert sum(at_s < up_s + 12 for at_s in behind) * FRAME * 8 / 2 > 0.4 * 5e6

    over("rate=5M,rtt=100ms,outage=5s@5s", scenario)


def test_every_second_packet_is_acknowledged_and_a_new_gap_at_once() -> None:
    async def scenario(ends: WiredEnds) -> None:
        before = len(ends.there.packets)
        await carry(ends, 400)
        packets = len(ends.there.packets) - before
        assert len(sacks(ends.back)) < 0.6 * packets

    over("rate=2M,rtt=50ms,loss=0%", scenario)

    async def lossy(ends: WiredEnds) -> None:
        await carry(ends, 400)
        told = sacks(ends.back)
        gaps = [len(sack.gaps) for sack in told]
        assert max(gaps) > 0
        assert all(first <= last for sack in told for first, last in sack.gaps)

    over("rate=2M,rtt=50ms,loss=3%", lossy)


def test_a_single_packet_is_acknowledged_within_the_delay() -> None:
    async def scenario(ends: WiredEnds) -> None:
        for _ in range(sctp.QUICK_PACKETS + 1):
            await ends.near.send(b"short")
            await asyncio.sleep(0.3)
        await ends.near.send(b"alone")
        await asyncio.sleep(0.05 + 0.01)
        assert ends.near_pipe.association._sent_queue
        await asyncio.sleep(sctp.ACK_DELAY_S + 0.05)
        assert not ends.near_pipe.association._sent_queue
        assert ends.near_pipe.association.retransmissions == 0

    over("rate=1M,rtt=100ms,loss=0%", scenario)


def test_the_first_packets_are_acknowledged_one_by_one() -> None:
    async def scenario(ends: WiredEnds) -> None:
        before = len(sacks(ends.back))
        for _ in range(5):
            await ends.near.send(b"short")
            await asyncio.sleep(0.15)
        assert len(sacks(ends.back)) - before == 5
        assert ends.near_pipe.association._path.rtt_s < 0.1 + 0.005

    over("rate=1M,rtt=100ms,loss=0%", scenario)


def test_frames_stay_with_the_session_until_the_path_takes_them() -> None:
    """What was handed over cannot be recalled, so hardly anything is."""

    async def scenario(ends: WiredEnds) -> None:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                await asyncio.sleep(0.003)
                held = sum(c._book_size for c in ends.near_pipe.association._outbound_queue)
                most = max(most, held + ends.near_pipe.channel.bufferedAmount)

        watching = asyncio.ensure_future(watch())
        await carry(ends, 300)
        watching.cancel()
        assert most <= 2 * 1160

    over("rate=1M,rtt=100ms,loss=0%", scenario)


def test_packets_are_full_while_there_is_more_to_send() -> None:
    async def scenario(ends: WiredEnds) -> None:
        before = len(ends.there.packets)
        await carry(ends, 300)
        sizes = [len(packet) for packet in ends.there.packets[before:]]
        assert sum(size > 1160 for size in sizes) > 0.95 * len(sizes)

    over("rate=2M,rtt=50ms,loss=0%", scenario)


def test_a_connection_that_is_gone_ends_what_was_due_without_a_word() -> None:
    async def scenario(ends: WiredEnds) -> None:
        await ends.near.send(bytes(FRAME))
        ends.there.is_cut = True
        await asyncio.sleep(3.0)  # timers run out and find nobody to send by

    over("rate=1M,rtt=100ms,loss=0%", scenario)


# -- where aiortc is not the one that was read ----------------------------------------------------


def taken_over(monkeypatch: pytest.MonkeyPatch, *, lacking: str = "", version: str = "") -> str:
    """What congestion control is called where a name is missing or the version another one."""
    called: list[str] = []
    offences: list[MedroiError] = []

    async def main() -> None:
        class Other(RTCSctpTransport):
            if lacking:

                def __getattribute__(self, name: str) -> object:
                    if name == lacking:
                        raise AttributeError(name)
                    return super().__getattribute__(name)

        wire = object.__new__(Wire)
        called.append(peer._take_over(Other(wire), offences.append, use_model=True))  # type: ignore[arg-type]

    if version:
        monkeypatch.setattr(aiortc, "__version__", version)
    run_virtual(main())
    return called[0]


def test_the_model_is_used_where_every_name_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken_over(monkeypatch) == "model"


@pytest.mark.parametrize("name", sorted(set(sctp.NEEDED) - set(guard.NEEDED)))
def test_it_switches_itself_off_where_a_private_name_is_missing(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert taken_over(monkeypatch, lacking=name).startswith("reno")


def test_it_switches_itself_off_with_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken_over(monkeypatch, version="1.17.0") == "reno (aiortc 1.17.0)"
