"""The sending end of one connection: frames in, messages to its owner, and the next frame to send.

Sans-I/O. The owner calls `receive_frame` with what its transport delivered, and `next_frame` until
it returns None; whenever either may have changed something it asks `next_frame` again, and no later
than `next_timer_s` says. What is on offer stands in the session's `Outbox`, which outlives this
connection.

    greet, attach -> offer, plan ...  (a new session, or one that the receiver does not know)
                  -> go_on, plan ...  (behind its `Standing`)
                                      -> end

A peer's hello is not waited for: greeting and attaching take one round trip together.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from protocol import limits
from protocol import messages as m
from protocol.frames import FrameKind, decode_frame, encode_frame, pack_fragment
from protocol.outbox import Outbox
from protocol.pace import Pace
from protocol.payloads import pack_message, unpack_message
from protocol.rate import Window
from protocol.states import SENDER, Act, State, advance
from shared.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from protocol.events import Event

_US = 1_000_000
_WRAP_US = 1 << 32


class SendingConnection:
    """The sender's end of one connection of a session.

    Every method that takes ``now_s`` wants seconds on one clock that never goes back.
    """

    def __init__(
        self,
        *,
        software: str,
        max_fragment_bytes: int = limits.MAX_FRAGMENT_BYTES,
        pace: Pace | None = None,
    ) -> None:
        self._outbox = Outbox()
        """The session's, once it is begun or gone on with over this connection."""
        self._software = software
        self._state = State.NEW
        self._window = Window(max_fragment_bytes=max_fragment_bytes)
        self._pace = pace or Pace()
        self._control: deque[bytes] = deque()
        self._sent_bytes = 0
        self._study = b""
        self._paused = False

    # -- what the owner may ask ---------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._state

    @property
    def window(self) -> Window:
        """The send window: its rate and round trip are the report's."""
        return self._window

    @property
    def sent_bytes(self) -> int:
        """All frame bytes handed out."""
        return self._sent_bytes

    # -- calls --------------------------------------------------------------------------------

    def greet(self) -> None:
        """Send our hello; `messages.Hello` comes back as an event."""
        self._state = advance(SENDER, self._state, Act.GREET)
        self._say(m.Hello(limits.PROTOCOL_VERSION, m.Role.SENDER, self._software))

    def attach(self, session: bytes, generation: int, *, accepted: bool) -> None:
        """Say of which session this is; `messages.Standing` comes back as an event."""
        self._state = advance(SENDER, self._state, Act.ATTACH)
        self._say(m.Attach(session, generation, accepted))

    def offer(self, manifest: m.Manifest, outbox: Outbox) -> None:
        """Begin the session: `Accept` or `Refuse` follows. Layers need not wait for it."""
        self._state = advance(SENDER, self._state, Act.OFFER)
        outbox.from_the_start()
        self._outbox = outbox
        self._say(manifest)

    def go_on(self, standing: m.Standing, outbox: Outbox) -> list[Event]:
        """Go on with the session where the receiver stands; from here on fragments flow.

        Returns:
            What the receiver has said of encodings in the meantime.

        Raises:
            RemoteProtocolError: the statement does not fit what has been offered.
        """
        self._state = advance(SENDER, self._state, Act.GO_ON)
        heard, told = outbox.rewind(standing)
        self._outbox = outbox
        for message in told:
            self._say(message)
        return list(heard)

    def plan(self, plan: m.Plan) -> None:
        """Send the regions of a series, before its first layer."""
        self._state = advance(SENDER, self._state, Act.PLAN)
        self._say(plan)

    def withdraw(self, number: int) -> None:
        """Send no more of an encoding; nothing if it is gone already."""
        out = self._outbox.drop(number)
        if out is not None and out.announced:
            self._say(m.Withdraw(number))

    def signal(self, offer: m.ChannelOffer) -> None:
        """Offer a data channel; `ChannelAnswer` follows, unless the connection ends before."""
        self._state = advance(SENDER, self._state, Act.SIGNAL)
        self._say(offer)

    def end(self, study: bytes) -> None:
        """Say that everything has been sent, once every layer is settled; `Done` follows.

        Raises:
            LocalProtocolError: a layer is still under way.
        """
        if self._outbox.count:
            raise LocalProtocolError(f"cannot end: {self._outbox.count} layers are not settled")
        self._state = advance(SENDER, self._state, Act.END)
        self._study = study
        self._say(m.End(study))

    def leave(self, why: m.Why, reason: str) -> None:
        """Say farewell; the caller closes the transport once `next_frame` returns None."""
        if self._state not in (State.DONE, State.CLOSED):
            self._state = advance(SENDER, self._state, Act.LEAVE)
            self._say(m.Farewell(why, reason))

    def retire(self) -> None:
        """Another connection goes on with the session: this one says and hears nothing more."""
        self._state = State.CLOSED
        self._control.clear()

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
                self._outbox.require_offered(number)
                self._outbox.drop(number)
            case m.Again():
                self._outbox.repeat(message)
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

        Control frames go at once; fragments as window and pace allow, most urgent layer first.
        """
        if not self._control:
            if self._paused or self._state not in (State.OFFERED, State.STREAMING):
                return None
            out = self._outbox.most_urgent()
            if out is None:
                self._window.on_idle()
                return None
            if not self._pace.has_room(now_s):
                self._window.on_idle()  # it is not the link that holds us up
                return None
            if not self._window.has_room(now_s):
                return None
            if out.announced:
                fragment = self._outbox.cut(out, self._fragment_bytes())
                return self._frame(FrameKind.FRAGMENT, pack_fragment(fragment), now_s)
            out.announced = True
            self._say(out.offer)
        return self._frame(FrameKind.CONTROL, self._control.popleft(), now_s)

    def next_timer_s(self) -> float | None:
        """When the pace lets the next fragment out; a closed window opens with an
        acknowledgement, not with time."""
        return self._pace.opens_s()

    # -- inside -------------------------------------------------------------------------------

    def _say(self, message: m.Message) -> None:
        self._control.append(pack_message(message))

    def _frame(self, kind: FrameKind, payload: bytes, now_s: float) -> bytes:
        frame = encode_frame(kind, int(now_s * _US) % _WRAP_US, payload)
        self._sent_bytes += len(frame)
        self._window.on_sent(len(frame), now_s)
        self._pace.on_sent(len(frame), now_s)
        return frame

    def _fragment_bytes(self) -> int:
        return min(self._window.fragment_bytes, self._pace.fragment_bytes)

    def _on_ack(self, ack: m.Ack, now_s: float) -> None:
        if ack.received_bytes > self._sent_bytes:
            raise RemoteProtocolError(
                f"{ack.received_bytes} bytes acknowledged of {self._sent_bytes} sent"
            )
        elapsed_us = (int(now_s * _US) - ack.echo_us) % _WRAP_US
        rtt_us = elapsed_us - ack.held_us
        if rtt_us >= 0:
            self._window.on_ack(ack.received_bytes, rtt_us / _US, now_s)
