"""aiortc's SCTP with medroi's congestion control (`path`) and loss repair in place of its own.

aiortc is changed one association at a time, by its class, and only if it is the version that this
was written against (`adopt`). What is replaced is when packets leave; what they hold is not.

- A packet is lost when one that left later has arrived and the path's round trip is over for it
  (RACK, RFC 8985), not when three acknowledgements miss it: aiortc strikes the same packet again
  and again, and sends it several times in a round trip.
- A timer that runs out sends one packet and marks none as lost (RFC 8985, section 7). On a radio
  link that went quiet everything may still arrive; so after such a probe is acknowledged, the
  others have a moment to prove that they were only late.
- The timer backs off to half a second and no further: an outage's end is seen within that.
- Every second packet is acknowledged, a single one after `ACK_DELAY_S`, a new gap and the first
  ones at once (RFC 9260, section 6.2): at 1 Mbit/s the others took 3 % of what the sender has.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiortc.rtcsctptransport import (
    SCTP_TSN_MODULO,
    USERDATA_MAX_LENGTH,
    DataChunk,
    SackChunk,
)
from aiortc.utils import uint32_gt, uint32_gte
from OpenSSL import SSL

from shared.transports.webrtc.guard import GuardedSctp
from shared.transports.webrtc.path import Departure, PathModel
from shared.transports.webrtc.received import Received

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ACK_PACKETS = 2
QUICK_PACKETS = 16
"""The first ones are acknowledged one by one, as Linux's TCP does: who waits for a second one to
come makes the path seem longer, and what seems to be on its way stands in its queue."""
ACK_DELAY_S = 0.04
MESSAGE_S = 0.008
FIRST_TIMER_S = 1.0
LEAST_TIMER_S = 0.2
QUIET_TIMER_S = 0.5
_TIMER_SLACK_S = 0.05
_BURST_S = 0.025
"""Timers come late, on a busy machine by so much; what should have left by then leaves at once."""
_EARLY_S = 0.0005
_DRY_S = 0.01
"""Without anything to send for so long, it is the session that is slow, not the machine."""
_REORDER_SHARE, _MOST_REORDER_SHARE = 1 / 16, 1.0
_JUDGE_PACKETS = 4
NEEDED = (
    "_data_channel_flush",
    "_flight_size",
    "_flight_size_decrease",
    "_flight_size_increase",
    "_last_received_tsn",
    "_loop",
    "_mark_received",
    "_outbound_queue",
    "_receive_sack_chunk",
    "_rto",
    "_rttvar",
    "_sack_duplicates",
    "_sack_needed",
    "_send_chunk",
    "_send_sack",
    "_sent_queue",
    "_srtt",
    "_t3_cancel",
    "_t3_expired",
    "_t3_handle",
    "_t3_restart",
    "_t3_start",
    "_transmit",
    "_update_rto",
)
"""Private names of aiortc that this stands on, beside those of `guard`."""


@dataclass(slots=True)
class _Trip:
    """A chunk that has left and is not known to have arrived."""

    chunk: DataChunk
    number: int
    departure: Departure
    tries: int = 1
    is_probe: bool = False
    """Its last try was the timer's."""


class ModelledSctp(GuardedSctp):
    """An association whose sender goes by a `PathModel`."""

    _path: PathModel
    _trips: dict[int, _Trip]

    def begin(self) -> None:
        """Take over; called once, before the association is established."""
        self._path = PathModel(packet_bytes=USERDATA_MAX_LENGTH)
        self._trips = {}
        self._lost: list[tuple[int, int]] = []  # (number, tsn), a heap
        self._numbers = 0
        self._rto = FIRST_TIMER_S
        self._timer_s = FIRST_TIMER_S
        self._expiries = 0
        self._newest_s = self._newest_rtt_s = 0.0
        self._reorder_share = _REORDER_SHARE
        self._silence_s, self._shortest_s = -math.inf, math.inf
        self._probed_s: float | None = None
        self._judge: tuple[float, float] | None = None  # at which time, of what sent until when
        self._loss_handle: asyncio.TimerHandle | None = None
        self._pace_handle: asyncio.TimerHandle | None = None
        self._next_s = 0.0
        self._dry_s: float | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self.on_room: Callable[[], None] = _nothing
        self.retransmissions = 0
        self._received: Received | None = None
        self._unacked = 0
        self._quick_left = QUICK_PACKETS
        self._has_news = False  # a new gap, the end of one, or what had come already
        self._ack_handle: asyncio.TimerHandle | None = None

    # -- what comes ------------------------------------------------------------------------------

    def _mark_received(self, tsn: int) -> bool:
        last_tsn = self._last_received_tsn
        assert last_tsn is not None  # told by the peer before its first packet
        received = self._received
        if received is None or received.last_tsn != last_tsn:
            received = self._received = Received(last_tsn)
        before = len(received)
        is_new = received.add(tsn)
        if is_new:
            self._sack_misordered.add(tsn)
            for passed in received.passed_since(last_tsn):
                self._sack_misordered.discard(passed)
            self._last_received_tsn = received.last_tsn
        else:
            self._sack_duplicates.append(tsn)
        self._has_news |= len(received) != before or not is_new
        self._unacked += 1
        return not is_new

    async def _send_sack(self) -> None:
        if self._has_news or self._unacked >= ACK_PACKETS or self._quick_left > 0:
            self._quick_left -= 1
            await self._acknowledge()
        elif self._ack_handle is None:
            self._sack_needed = False
            self._ack_handle = self._clock_loop.call_later(ACK_DELAY_S, self._ack_due)

    def _ack_due(self) -> None:
        self._ack_handle = None
        self._run(self._acknowledge)

    async def _acknowledge(self) -> None:
        if self._ack_handle is not None:
            self._ack_handle.cancel()
            self._ack_handle = None
        if self._received is None:
            return
        sack = SackChunk()
        sack.cumulative_tsn = self._received.last_tsn
        sack.advertised_rwnd = max(0, self._advertised_rwnd)
        sack.duplicates, self._sack_duplicates = self._sack_duplicates, []
        sack.gaps = self._received.gaps()
        self._unacked, self._has_news, self._sack_needed = 0, False, False
        await self._send_chunk(sack)

    # -- what arrives -----------------------------------------------------------------------------

    async def _receive_sack_chunk(self, chunk: SackChunk) -> None:
        if uint32_gt(self._last_sacked_tsn, chunk.cumulative_tsn):
            return
        now_s = self._clock_loop.time()
        self._last_sacked_tsn = chunk.cumulative_tsn
        if chunk.duplicates:
            self._reorder_share = min(2 * self._reorder_share, _MOST_REORDER_SHARE)
        self._forget_round()
        arrived = 0
        while self._sent_queue and uint32_gte(chunk.cumulative_tsn, self._sent_queue[0].tsn):
            arrived += self._on_arrival(self._sent_queue.popleft(), now_s)
        if chunk.gaps:
            arrived += self._read_gaps(chunk, now_s)
        if arrived:
            if self._shortest_s < math.inf:
                self._update_rto(self._shortest_s)
            if self._probed_s is not None:
                self._judge = (now_s + self._judging_s(), self._probed_s)
            self._find_losses(now_s)
            self._path.settle(now_s, self._flight_size)
            self._expiries = 0
            if self._sent_queue:
                self._t3_restart()
        if not self._sent_queue:
            self._t3_cancel()
        await self._go_on()

    def _forget_round(self) -> None:
        """What the last acknowledgement told is over."""
        self._shortest_s, self._probed_s = math.inf, None

    def _read_gaps(self, sack: SackChunk, now_s: float) -> int:
        arrived = 0
        blocks = iter(sack.gaps)
        first, last = next(blocks)
        # In the order of their numbers; only what is not known to have arrived.
        for trip in list(self._trips.values()):
            place = (trip.chunk.tsn - sack.cumulative_tsn) % SCTP_TSN_MODULO
            while place > last:
                try:
                    first, last = next(blocks)
                except StopIteration:
                    return arrived
            if place >= first:
                arrived += self._on_arrival(trip.chunk, now_s)
        return arrived

    def _on_arrival(self, chunk: DataChunk, now_s: float) -> int:
        trip = self._trips.pop(chunk.tsn, None)
        chunk._acked, chunk._retransmit = True, False
        self._flight_size_decrease(chunk)
        if trip is None:
            return 0
        departure, again = trip.departure, trip.tries > 1
        took_s = now_s - departure.sent_s
        self._path.on_arrival(departure, now_s, again=again)
        if not again and departure.sent_s > self._silence_s:
            self._shortest_s = min(self._shortest_s, took_s)
        if again and took_s < 0.9 * self._path.rtt_s:
            return 1  # an earlier try of it has arrived
        if trip.is_probe:
            self._probed_s = departure.sent_s
            return 1
        if self._judge and not again and departure.sent_s < self._judge[1]:
            self._judge = None  # they were late, not lost
        if departure.sent_s > self._newest_s:
            self._newest_s, self._newest_rtt_s = departure.sent_s, took_s
        return 1

    def _reorder_s(self) -> float:
        return self._reorder_share * self._path.rtt_s

    def _judging_s(self) -> float:
        """How long packets sent before a probe may take to prove that they were only late."""
        wait_s = self._reorder_s()
        if self._path.rate:
            wait_s = max(wait_s, _JUDGE_PACKETS * USERDATA_MAX_LENGTH / self._path.rate)
        return min(wait_s, LEAST_TIMER_S)

    def _find_losses(self, now_s: float) -> None:
        """Mark what must be sent again, and come back for what may have to be."""
        if self._judge and now_s >= self._judge[0]:
            if self._judge[1] > self._newest_s:
                self._newest_s, self._newest_rtt_s = self._judge[1], self._path.rtt_s
            self._judge = None
        check_s = self._judge[0] if self._judge else None
        wait_s = self._newest_rtt_s + self._reorder_s()
        for trip in self._trips.values():
            chunk, sent_s = trip.chunk, trip.departure.sent_s
            if sent_s >= self._newest_s:
                if trip.tries == 1:
                    break
                continue
            if chunk._retransmit:
                continue
            if now_s >= sent_s + wait_s:
                chunk._retransmit = True
                self._flight_size_decrease(chunk)
                heapq.heappush(self._lost, (trip.number, chunk.tsn))
            elif check_s is None or sent_s + wait_s < check_s:
                check_s = sent_s + wait_s
        if self._loss_handle is not None:
            self._loss_handle.cancel()
            self._loss_handle = None
        if check_s is not None:
            self._loss_handle = self._clock_loop.call_at(check_s + 0.001, self._losses_due)

    def _losses_due(self) -> None:
        self._loss_handle = None
        self._find_losses(self._clock_loop.time())
        self._run(self._go_on)

    # -- what leaves ------------------------------------------------------------------------------

    async def _go_on(self) -> None:
        await self._transmit()
        await self._data_channel_flush()

    async def _transmit(self) -> None:
        now_s = self._clock_loop.time()
        while (chunk := self._next_chunk()) is not None:
            self._note_work(now_s)
            if not self._may_leave(now_s):
                self._pace_on()
                return
            again = chunk._retransmit
            if again:
                heapq.heappop(self._lost)
            else:
                self._outbound_queue.popleft()
            if pace := self._path.pace:
                self._next_s = max(self._next_s, now_s - _BURST_S) + chunk._book_size / pace
            self._depart(chunk, now_s)
            await self._send_chunk(chunk)
            if self._t3_handle is None or (again and chunk is self._sent_queue[0]):
                self._t3_restart()
        if self._may_leave(now_s):
            self._note_dry(now_s)
            self.on_room()
        else:
            self._dry_s = None
            self._pace_on()

    def _may_leave(self, now_s: float) -> bool:
        """Whether the path takes a packet now."""
        if self._flight_size >= self._path.window_bytes:
            return False  # an acknowledgement will call
        return not self._path.pace or self._next_s <= now_s + _EARLY_S

    @property
    def waits(self) -> bool:
        """Whether the path takes nothing now: what there is should stay with the session, which
        may think of something more urgent."""
        return bool(self._outbound_queue) or not self._may_leave(self._clock_loop.time())

    @property
    def message_bytes(self) -> int:
        """How long a message should be: of some milliseconds of what the path delivers."""
        return int(self._path.rate * MESSAGE_S)

    def _next_chunk(self) -> DataChunk | None:
        while self._lost:
            trip = self._trips.get(self._lost[0][1])
            if trip is not None and trip.chunk._retransmit:
                return trip.chunk
            heapq.heappop(self._lost)
        return self._outbound_queue[0] if self._outbound_queue else None

    def _depart(self, chunk: DataChunk, now_s: float, *, is_probe: bool = False) -> None:
        departure = self._path.depart(chunk._book_size, now_s, self._flight_size)
        trip = self._trips.get(chunk.tsn)
        if trip is None:
            self._numbers += 1
            self._trips[chunk.tsn] = _Trip(chunk, self._numbers, departure)
            self._sent_queue.append(chunk)
        else:
            trip.departure, trip.is_probe = departure, is_probe
            trip.tries += 1
            self.retransmissions += 1
        chunk._retransmit = False
        chunk._sent_count += 1
        self._flight_size_increase(chunk)

    def _note_work(self, now_s: float) -> None:
        """There is something to send; was there nothing for a while?"""
        if self._dry_s is not None and now_s - self._dry_s > _DRY_S:
            self._path.on_idle(self._flight_size)
        self._dry_s = None

    def _note_dry(self, now_s: float) -> None:
        """There is nothing to send, though there may be room for it."""
        if self._dry_s is None:
            self._dry_s = now_s
        elif now_s - self._dry_s > _DRY_S:
            self._path.on_idle(self._flight_size)

    def _pace_on(self) -> None:
        """Come back when the next packet may leave, if it is only early."""
        if self._pace_handle is None and self._flight_size < self._path.window_bytes:
            self._pace_handle = self._clock_loop.call_at(self._next_s, self._paced)

    def _paced(self) -> None:
        self._pace_handle = None
        self._run(self._go_on)

    # -- the timer --------------------------------------------------------------------------------

    def _update_rto(self, R: float) -> None:
        super()._update_rto(R)
        assert self._srtt is not None
        assert self._rttvar is not None
        self._timer_s = max(self._srtt + 4 * self._rttvar + _TIMER_SLACK_S, LEAST_TIMER_S)

    def _t3_start(self) -> None:
        self._t3_restart()

    def _t3_restart(self) -> None:
        if self._t3_handle is not None:
            self._t3_handle.cancel()
        wait_s = min(self._timer_s * 2**self._expiries, max(self._timer_s, QUIET_TIMER_S))
        self._t3_handle = self._clock_loop.call_later(wait_s, self._t3_expired)

    def _t3_expired(self) -> None:
        self._t3_handle = None
        self._expiries = min(self._expiries + 1, 8)
        self._silence_s = self._clock_loop.time()
        self._path.on_silence(self._silence_s)
        self._run(self._probe)

    async def _probe(self) -> None:
        if self._sent_queue:
            chunk = self._sent_queue[0]
            self._depart(chunk, self._clock_loop.time(), is_probe=True)
            await self._send_chunk(chunk)
            self._t3_restart()

    @property
    def _clock_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        assert loop is not None  # set when the association starts, before anything moves
        return loop

    def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _nothing() -> None:
    return


async def _quietly(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except (ConnectionError, SSL.Error):
        return  # the connection is gone, or going
