"""The sending connection: frames in, messages out to its owner, and the next frame to send.

Sans-I/O. The owner calls `receive_frame` with what its transport delivered, and `next_frame` until
it returns None; whenever either may have changed something it asks `next_frame` again. There is no
timer: a closed window opens with an acknowledgement.

    greet -> offer -> plan, offer_layer ... -> end
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protocol import limits
from protocol import messages as m
from protocol.frames import (
    Fragment,
    FrameKind,
    decode_frame,
    encode_frame,
    pack_fragment,
)
from protocol.payloads import pack_message, unpack_message
from protocol.rate import Window
from protocol.states import SENDER, Act, State, advance
from shared.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from protocol.events import Event
    from protocol.stages import Priority

_US = 1_000_000
_WRAP_US = 1 << 32
_MAX_AGAIN = 64
"""Chunks of one session: a receiver that asks more often is broken, or has us send for ever."""
_HEAP_SLACK = 1024
"""Entries that no longer hold, beside one a layer, before the heap is made anew."""


@dataclass(slots=True)
class _Outgoing:
    """One encoding on its way out."""

    offer: m.LayerOffer
    encoding: bytes
    priority: Priority
    sent_bytes: int = 0
    announced: bool = False
    again: deque[m.Again] = field(default_factory=deque)

    @property
    def handed_out(self) -> bool:
        """Whether nothing of it waits to be sent."""
        return self.sent_bytes == len(self.encoding) and not self.again


class SendingConnection:
    """The sender's half of one session over one transport.

    Every method that takes ``now_s`` wants seconds on one clock that never goes back.
    """

    def __init__(
        self, *, software: str, max_fragment_bytes: int = limits.MAX_FRAGMENT_BYTES
    ) -> None:
        self._software = software
        self._state = State.NEW
        self._window = Window(max_fragment_bytes=max_fragment_bytes)
        self._control: deque[bytes] = deque()
        self._layers: dict[int, _Outgoing] = {}
        self._heap: list[tuple[Priority, int]] = []
        self._numbers = 0
        self._sent_bytes = 0
        self._again = 0
        self._study = b""
        self._paused = False

    # -- what the owner may ask ---------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._state

    @property
    def window(self) -> Window:
        """The send window: its rate and round trip are the report's."""
        return self._window

    @property
    def sent_bytes(self) -> int:
        """All frame bytes handed out."""
        return self._sent_bytes

    @property
    def unsettled(self) -> dict[int, int]:
        """Encodings that the receiver has not judged yet: number -> bytes not handed out yet."""
        return {n: len(out.encoding) - out.sent_bytes for n, out in self._layers.items()}

    # -- calls --------------------------------------------------------------------------------

    def greet(self) -> None:
        """Send our hello; `messages.Hello` comes back as an event."""
        self._state = advance(SENDER, self._state, Act.GREET)
        self._say(m.Hello(limits.PROTOCOL_VERSION, m.Role.SENDER, self._software))

    def offer(self, manifest: m.Manifest) -> None:
        """Send the manifest; `Accept` or `Refuse` follows. Layers need not wait for it."""
        self._state = advance(SENDER, self._state, Act.OFFER)
        self._say(manifest)

    def plan(self, plan: m.Plan) -> None:
        """Send the regions of a series, before its first layer."""
        self._state = advance(SENDER, self._state, Act.PLAN)
        self._say(plan)

    def next_number(self) -> int:
        """The number of the next encoding to be offered."""
        return self._numbers

    def offer_layer(self, offer: m.LayerOffer, encoding: bytes, priority: Priority) -> None:
        """Queue an encoding. Its offer goes out just before its first fragment.

        Raises:
            LocalProtocolError: its number is not `next_number`, or it is not of the offered size.
        """
        self._state = advance(SENDER, self._state, Act.SEND)
        if offer.number != self._numbers or len(encoding) != offer.size_bytes:
            raise LocalProtocolError(f"encoding {offer.number} of {len(encoding)} bytes")
        self._numbers += 1
        self._layers[offer.number] = _Outgoing(offer, encoding, priority)
        heapq.heappush(self._heap, (priority, offer.number))

    def reprioritise(self, number: int, priority: Priority) -> None:
        """Move what is unsent of an encoding to another place; nothing if it is gone already."""
        out = self._layers.get(number)
        if out is None or out.handed_out or out.priority == priority:
            return
        out.priority = priority
        heapq.heappush(self._heap, (priority, number))
        if len(self._heap) > len(self._layers) + _HEAP_SLACK:  # a focus that moves to and fro
            waiting = (item for item in self._layers.items() if not item[1].handed_out)
            self._heap = [(other.priority, each) for each, other in waiting]
            heapq.heapify(self._heap)

    def withdraw(self, number: int) -> None:
        """Send no more of an encoding; nothing if it is gone already."""
        if (out := self._layers.pop(number, None)) is not None and out.announced:
            self._say(m.Withdraw(number))

    def end(self, study: bytes) -> None:
        """Say that everything has been sent, once every layer is settled; `Done` follows.

        Raises:
            LocalProtocolError: a layer is still under way.
        """
        if self._layers:
            raise LocalProtocolError(f"cannot end: {len(self._layers)} layers are not settled")
        self._state = advance(SENDER, self._state, Act.END)
        self._study = study
        self._say(m.End(study))

    def leave(self, why: m.Why, reason: str) -> None:
        """Say farewell; the caller closes the transport once `next_frame` returns None."""
        if self._state not in (State.DONE, State.CLOSED):
            self._state = advance(SENDER, self._state, Act.LEAVE)
            self._layers.clear()
            self._say(m.Farewell(why, reason))

    # -- frames -------------------------------------------------------------------------------

    def receive_frame(self, raw: bytes, now_s: float) -> list[Event]:
        """Take a frame from the transport and say what its owner must know.

        Raises:
            RemoteProtocolError: the peer broke the protocol; the owner says farewell and closes.
        """
        if self._state is State.CLOSED:
            return []
        frame = decode_frame(raw)
        if frame.kind is not FrameKind.CONTROL:
            raise RemoteProtocolError("a receiver sent a fragment")
        message = unpack_message(frame.payload)
        self._state = advance(SENDER, self._state, type(message))
        match message:
            case m.Ack():
                self._on_ack(message, now_s)
                return []
            case m.Hello(version=version, role=role):
                if version != limits.PROTOCOL_VERSION or role is not m.Role.RECEIVER:
                    raise RemoteProtocolError(
                        f"the peer is a {role.value} of protocol version {version}; "
                        f"a receiver of version {limits.PROTOCOL_VERSION} is needed"
                    )
            case m.LayerVerdict(number=number) | m.Want(number=number):
                self._known(number)
                self._layers.pop(number, None)
            case m.Again(number=number):
                self._on_again(message)
                return []
            case m.Done(study=study):
                if study != self._study:
                    raise RemoteProtocolError("a receipt for another study")
            case m.Pause():
                self._paused = True
            case m.Resume():
                self._paused = False
            case _:
                pass
        return [message]

    def next_frame(self, now_s: float) -> bytes | None:
        """The frame to hand to the transport now, or None until something changes.

        Control frames go at once; fragments as the window allows, most urgent layer first.
        """
        if not self._control:
            if self._paused or self._state not in (State.OFFERED, State.STREAMING):
                return None
            out = self._most_urgent()
            if out is None:
                self._window.on_idle()
                return None
            if not self._window.has_room(now_s):
                return None
            if out.announced:
                return self._frame(FrameKind.FRAGMENT, self._cut(out), now_s)
            out.announced = True
            self._say(out.offer)
        return self._frame(FrameKind.CONTROL, self._control.popleft(), now_s)

    def next_timer_s(self) -> float | None:
        """None: a closed window opens with an acknowledgement, not with time."""
        return None

    # -- inside -------------------------------------------------------------------------------

    def _say(self, message: m.Message) -> None:
        self._control.append(pack_message(message))

    def _frame(self, kind: FrameKind, payload: bytes, now_s: float) -> bytes:
        frame = encode_frame(kind, int(now_s * _US) % _WRAP_US, payload)
        self._sent_bytes += len(frame)
        self._window.on_sent(len(frame), now_s)
        return frame

    def _most_urgent(self) -> _Outgoing | None:
        """The layer whose turn it is; entries that no longer hold are dropped on the way."""
        while self._heap:
            priority, number = self._heap[0]
            out = self._layers.get(number)
            if out is None or out.handed_out or out.priority != priority:
                heapq.heappop(self._heap)
                continue
            if not out.announced:
                opened = [o for o in self._layers.values() if o.announced and not o.handed_out]
                if len(opened) >= limits.MAX_OPEN_LAYERS:
                    return min(opened, key=lambda o: o.priority)
            return out
        return None

    def _cut(self, out: _Outgoing) -> bytes:
        """The next fragment of a layer; it never crosses from one chunk into the next."""
        wanted = self._window.fragment_bytes
        if out.again:
            ask = out.again.popleft()
            size = min(wanted, ask.size_bytes)
            if size < ask.size_bytes:
                out.again.appendleft(m.Again(ask.number, ask.offset + size, ask.size_bytes - size))
            offset = ask.offset
        else:
            offset = out.sent_bytes
            chunk_end = offset - offset % limits.CHUNK_BYTES + limits.CHUNK_BYTES
            size = min(wanted, chunk_end - offset, len(out.encoding) - offset)
            out.sent_bytes += size
        content = out.encoding[offset : offset + size]
        return pack_fragment(Fragment(out.offer.number, offset, content))

    def _known(self, number: int) -> None:
        if number >= self._numbers:
            raise RemoteProtocolError(f"a message about encoding {number}, which was never offered")

    def _on_ack(self, ack: m.Ack, now_s: float) -> None:
        if ack.received_bytes > self._sent_bytes:
            raise RemoteProtocolError(
                f"{ack.received_bytes} bytes acknowledged of {self._sent_bytes} sent"
            )
        elapsed_us = (int(now_s * _US) - ack.echo_us) % _WRAP_US
        rtt_us = elapsed_us - ack.held_us
        if rtt_us >= 0:
            self._window.on_ack(ack.received_bytes, rtt_us / _US, now_s)

    def _on_again(self, ask: m.Again) -> None:
        self._known(ask.number)
        self._again += 1
        if self._again > _MAX_AGAIN:
            raise RemoteProtocolError("chunks keep being asked for again")
        out = self._layers.get(ask.number)
        if out is None:
            return
        start, step = ask.offset, limits.CHUNK_BYTES
        end = min(start + step, len(out.encoding))
        if start % step or start >= end or ask.size_bytes != end - start:
            raise RemoteProtocolError(
                f"bytes {start}+{ask.size_bytes} are not a chunk of {ask.number}"
            )
        out.again.append(ask)
        heapq.heappush(self._heap, (out.priority, ask.number))
