"""A peer that breaks SCTP ends its own connection, and takes no memory with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiortc.rtcsctptransport import (
    SCTP_DATA_FIRST_FRAG,
    SCTP_DATA_LAST_FRAG,
    SCTP_DATA_UNORDERED,
    SCTP_TSN_MODULO,
    WEBRTC_BINARY,
    Chunk,
    DataChunk,
    ForwardTsnChunk,
    SackChunk,
    tsn_plus_one,
)

from shared.errors import RemoteProtocolError, SettingsError
from shared.transports.webrtc import guard, peer
from shared.transports.webrtc.pieces import WINDOW_BYTES
from tests.shared.transports.webrtc.wired import WiredEnds, wired
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WHOLE = SCTP_DATA_FIRST_FRAG | SCTP_DATA_LAST_FRAG


def data(ahead: int, ends: WiredEnds, content: bytes = b"x", *, flags: int = WHOLE) -> DataChunk:
    """A chunk so far behind the last that the far end has."""
    last_tsn = ends.far_pipe.association._last_received_tsn
    assert last_tsn is not None
    chunk = DataChunk()
    chunk.flags, chunk.stream_id, chunk.stream_seq = flags, guard.STREAM, 1000
    chunk.protocol, chunk.user_data = WEBRTC_BINARY, content
    chunk.tsn = (last_tsn + ahead) % SCTP_TSN_MODULO
    return chunk


def offence(made: Callable[[WiredEnds], Iterator[Chunk]]) -> str:
    """What the far end says of a peer that sends these; empty if nothing."""

    async def main() -> str:
        async with wired("rate=10M,rtt=20ms") as ends:
            await asyncio.sleep(0.5)
            association, offences = ends.far_pipe.association, ends.far_pipe.offences
            for chunk in made(ends):
                await association._receive_chunk(chunk)
                if offences:
                    await association._receive_chunk(chunk)  # no more is taken, nor told
                    break
            assert len(offences) <= 1
            assert all(isinstance(fault, RemoteProtocolError) for fault in offences)
            return str(offences[0]) if offences else ""

    return run_virtual(main())


def test_what_an_honest_peer_sends_is_taken() -> None:
    def chunks(ends: WiredEnds) -> Iterator[Chunk]:
        sack = SackChunk()
        association = ends.far_pipe.association
        sack.cumulative_tsn = (association._local_tsn - 1) % SCTP_TSN_MODULO
        yield sack

    assert offence(chunks) == ""


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"stream_id": 7}, "data outside its channel, on stream 7"),
        ({"flags": WHOLE | SCTP_DATA_UNORDERED}, "data outside its channel"),
        ({"protocol": 50}, "data of kind 50"),
    ],
)
def test_data_that_has_no_place_is_an_offence(changed: dict[str, int], says: str) -> None:
    def chunks(ends: WiredEnds) -> Iterator[Chunk]:
        chunk = data(1, ends)
        for name, value in changed.items():
            setattr(chunk, name, value)
        yield chunk

    assert says in offence(chunks)


def test_nothing_may_be_skipped() -> None:
    assert "skipped" in offence(lambda ends: iter([ForwardTsnChunk()]))


@pytest.mark.parametrize(
    ("ahead", "gaps"),
    [
        (0, []),  # the next to leave has not left
        (-3, [(1, 65_535)]),
        (-3, [(2, 1)]),
        (-3, [(1, 1), (1, 2)]),
        (-3, [(0, 1)]),
    ],
)
def test_an_acknowledgement_names_what_was_sent_and_each_of_it_once(
    ahead: int, gaps: list[tuple[int, int]]
) -> None:
    def chunks(ends: WiredEnds) -> Iterator[Chunk]:
        sack = SackChunk()
        association = ends.far_pipe.association
        sack.cumulative_tsn = (association._local_tsn + ahead) % SCTP_TSN_MODULO
        sack.gaps = gaps
        yield sack

    assert "an acknowledgement of what was not sent" in offence(chunks)


def test_a_message_that_does_not_end_is_cut_short() -> None:
    def chunks(ends: WiredEnds) -> Iterator[Chunk]:
        chunk = data(1, ends, flags=SCTP_DATA_FIRST_FRAG)
        chunk.stream_seq = ends.far_pipe.association._inbound_streams[guard.STREAM].sequence_number
        for _ in range(guard.MAX_MESSAGE_CHUNKS + 2):
            yield chunk
            follows = data(1, ends, flags=0)
            follows.stream_seq, follows.tsn = chunk.stream_seq, tsn_plus_one(chunk.tsn)
            chunk = follows

    assert "a message that does not end" in offence(chunks)


def test_no_more_may_wait_behind_a_gap_than_the_window_holds() -> None:
    def many(ends: WiredEnds) -> Iterator[Chunk]:
        yield from (data(2 * n, ends) for n in range(1, guard.MAX_WAITING_CHUNKS + 2))

    def large(ends: WiredEnds) -> Iterator[Chunk]:
        content = bytes(60_000)
        yield from (data(n, ends, content) for n in range(2, WINDOW_BYTES // len(content) + 5))

    assert "more packets than its window" in offence(many)
    assert "more data than its window" in offence(large)


def test_numbers_begin_where_they_will_not_wrap() -> None:
    async def main() -> None:
        for seed in range(8):
            async with wired("rate=10M,rtt=2ms", seed=seed) as ends:
                assert ends.near_pipe.association._local_tsn < SCTP_TSN_MODULO * 3 // 4

    run_virtual(main())


@pytest.mark.parametrize("name", guard.NEEDED)
def test_an_aiortc_that_cannot_be_guarded_is_refused_by_name(name: str) -> None:
    class Lacking:
        def __getattr__(self, asked: str) -> object:
            if asked == name:
                raise AttributeError(asked)
            return None

    with pytest.raises(SettingsError, match=f"cannot be guarded, as it has no {name}"):
        peer._take_over(Lacking(), lambda _: None, use_model=True)  # type: ignore[arg-type]
