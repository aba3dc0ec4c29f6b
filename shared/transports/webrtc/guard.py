"""aiortc's SCTP, kept from taking whatever a peer sends.

aiortc 1.16 announces a receive window and does not hold to it: fragments of a message that never
ends are kept without bound, and joined in quadratic time (measured: 23 MB in 30 s of CPU). It
counts through ranges that an acknowledgement names, 300 of 65,535 each in one packet. So every
chunk is looked at first: a peer that has proven the key may still be broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiortc.rtcsctptransport import (
    SCTP_DATA_UNORDERED,
    SCTP_TSN_MODULO,
    WEBRTC_BINARY,
    WEBRTC_BINARY_EMPTY,
    WEBRTC_STRING,
    WEBRTC_STRING_EMPTY,
    Chunk,
    DataChunk,
    ForwardTsnChunk,
    RTCSctpTransport,
    SackChunk,
    tsn_minus_one,
)

from shared.errors import RemoteProtocolError
from shared.transports.webrtc.pieces import (
    LEAST_CHARGE_BYTES,
    MESSAGE_BYTES,
    WINDOW_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Callable

STREAM = 0
"""The one channel's; both ends know it, so nobody has to open it."""
MAX_WAITING_CHUNKS = 2 * WINDOW_BYTES // LEAST_CHARGE_BYTES
"""That have arrived behind a gap: what the window holds, in packets and in short messages."""
MAX_MESSAGE_CHUNKS = MESSAGE_BYTES // 256
"""Of one message. Ends of our kind make 15 of the largest."""
NEEDED = (
    "_advanced_peer_ack_tsn",
    "_advertised_rwnd",
    "_inbound_streams",
    "_local_partial_reliability",
    "_last_sacked_tsn",
    "_local_tsn",
    "_receive_chunk",
    "_reconfig_request_seq",
    "_sack_misordered",
)
"""Private names of aiortc that this stands on."""
_CONTENTS = (WEBRTC_BINARY, WEBRTC_BINARY_EMPTY, WEBRTC_STRING, WEBRTC_STRING_EMPTY)


class GuardedSctp(RTCSctpTransport):
    """An association that ends when the peer takes what it is not given."""

    _on_offence: Callable[[RemoteProtocolError], None]
    _offence: RemoteProtocolError | None

    def guard(self, on_offence: Callable[[RemoteProtocolError], None]) -> None:
        """Begin to; called once, before the association is established."""
        self._on_offence, self._offence = on_offence, None
        self._advertised_rwnd = WINDOW_BYTES + MESSAGE_BYTES
        self._local_partial_reliability = False  # nothing may be skipped
        # aiortc sorts packets' numbers as if they did not wrap: a loss at that moment would stop
        # the peer for ever. Half of the space is left before they do, 2.5 TB.
        self._local_tsn %= SCTP_TSN_MODULO // 2
        self._last_sacked_tsn = self._advanced_peer_ack_tsn = tsn_minus_one(self._local_tsn)
        self._reconfig_request_seq = self._local_tsn

    async def _receive_chunk(self, chunk: Chunk) -> None:
        if self._offence is not None:
            return
        what = self._find_offence(chunk)
        if what is None:
            await super()._receive_chunk(chunk)
            what = self._find_excess() if isinstance(chunk, DataChunk) else None
        if what is not None:
            self._offence = RemoteProtocolError(f"the peer broke SCTP: {what}")
            self._on_offence(self._offence)

    def _find_offence(self, chunk: Chunk) -> str | None:
        match chunk:
            case DataChunk():
                if chunk.stream_id != STREAM or chunk.flags & SCTP_DATA_UNORDERED:
                    return f"data outside its channel, on stream {chunk.stream_id}"
                if chunk.protocol not in _CONTENTS:
                    return f"data of kind {chunk.protocol}"
            case SackChunk():
                return self._find_false_sack(chunk)
            case ForwardTsnChunk():
                return "data that was to be skipped"
        return None

    def _find_false_sack(self, sack: SackChunk) -> str | None:
        """An acknowledgement names only what has left, and each of it once."""
        sent = (self._local_tsn - 1 - sack.cumulative_tsn) % SCTP_TSN_MODULO
        if sent >= SCTP_TSN_MODULO // 2:
            return "an acknowledgement of what was not sent"
        last = 0
        for first, end in sack.gaps:
            if not last < first <= end <= sent:
                return "an acknowledgement of what was not sent"
            last = end
        return None

    def _find_excess(self) -> str | None:
        if self._advertised_rwnd < 0:
            return "more data than its window"
        stream = self._inbound_streams.get(STREAM)
        waiting = len(stream.reassembly) if stream else 0
        if waiting > MAX_WAITING_CHUNKS:
            return "more packets than its window"
        if waiting > MAX_MESSAGE_CHUNKS and not self._sack_misordered:
            return "a message that does not end"
        return None
