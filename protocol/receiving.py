"""The receiving end of one connection: frames in, checked messages and encodings out to its owner.

Sans-I/O. The owner calls `receive_frame` with what its transport delivered, `next_frame` until it
returns None, and `next_frame` again no later than `next_timer_s` says: acknowledgements wait a
little for company, never longer than 20 ms. What has come stands in the session's `Inbox`, which
outlives this connection; the owner finds it when it hears `messages.Attach`.

    (Hello) greet -> (Attach) join -> (Manifest) accept | refuse -> (Plan, layers) verdict, mark ...
                                                                 -> (End) finish
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from protocol import limits
from protocol import messages as m
from protocol.checks import require
from protocol.frames import FrameKind, decode_frame, encode_frame, unpack_fragment
from protocol.payloads import pack_message, unpack_message
from protocol.states import RECEIVER, Act, State, advance

if TYPE_CHECKING:
    from protocol.events import Event
    from protocol.frames import Frame
    from protocol.inbox import Inbox

_US = 1_000_000
_WRAP_US = 1 << 32
_ACK_FRAMES = 2
_ACK_DELAY_S = 0.020
_SILENT = (State.NEW, State.GREETING, State.CLOSED)
"""In these nothing is acknowledged."""


class ReceivingConnection:
    """The receiver's end of one connection of a session.

    Every method that takes ``now_s`` wants seconds on one clock that never goes back.
    """

    def __init__(self, *, software: str) -> None:
        self._software = software
        self._state = State.NEW
        self._inbox: Inbox | None = None
        self._control: deque[bytes] = deque()
        self._received_bytes = 0
        self._unacknowledged = 0
        self._newest_us = 0
        self._newest_s = 0.0

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._state

    @property
    def received_bytes(self) -> int:
        """All frame bytes received."""
        return self._received_bytes

    # -- calls --------------------------------------------------------------------------------

    def greet(self) -> None:
        """Answer the peer's hello."""
        hello = m.Hello(limits.PROTOCOL_VERSION, m.Role.RECEIVER, self._software)
        self._act(Act.GREET, hello)

    def join(self, inbox: Inbox, attach: m.Attach) -> bool:
        """Take part in a session and say where it stands.

        Returns:
            False for a generation that is not the largest any more; the peer hears which one is.
        """
        standing = inbox.standing()
        self._act(Act.STAND, standing)
        if not inbox.on_attach(attach):
            return False
        self._inbox = inbox
        if standing.known:
            self._state = advance(RECEIVER, self._state, Act.GO_ON)
            for message in inbox.to_repeat(accepted=attach.accepted):
                self._say(message)
        return True

    def accept(self, held: tuple[bytes, ...]) -> None:
        """Take the study; ``held`` are the voxel digests of layers that need not come."""
        self._act(Act.ACCEPT, m.Accept(held))

    def refuse(self, reason: str) -> None:
        """Do not take the study."""
        self._act(Act.REFUSE, m.Refuse(reason))

    def say(self, message: m.Answer) -> None:
        """Tell the sender something; nothing where it does not listen any more."""
        if self._state is not State.DONE:
            self._act(Act.ANSWER, message)

    def finish(self, *, exact: bool) -> None:
        """Give the receipt: the study is rebuilt, synced and hashed from disk."""
        manifest = self._inbox.manifest if self._inbox else None
        self._act(Act.FINISH, m.Done(manifest.study if manifest else b"", exact))

    def leave(self, why: m.Why, reason: str) -> None:
        """Say farewell; the caller closes the transport once `next_frame` returns None."""
        if self._state is not State.DONE:
            self._act(Act.LEAVE, m.Farewell(why, reason))

    def retire(self) -> None:
        """A newer connection has the session: this one says and hears nothing more."""
        self._state = State.CLOSED
        self._control.clear()

    # -- frames -------------------------------------------------------------------------------

    def receive_frame(self, raw: bytes, now_s: float) -> list[Event]:
        """Take a frame from the transport and say what its owner must know.

        Raises:
            RemoteProtocolError: the peer broke the protocol or its limits; the owner says farewell
                and closes.
        """
        if self._state is State.CLOSED:
            return []
        frame = decode_frame(raw)
        self._received_bytes += len(raw)
        self._unacknowledged += 1
        self._newest_us, self._newest_s = frame.sent_us, now_s
        if frame.kind is FrameKind.FRAGMENT:
            return self._on_fragment(frame)
        message = unpack_message(frame.payload)
        self._state = advance(RECEIVER, self._state, type(message))
        return [message] if self._on_message(message) else []

    def next_frame(self, now_s: float) -> bytes | None:
        """The frame to hand to the transport now, or None until something changes."""
        if not self._control and self._ack_due(now_s):
            held_us = int((now_s - self._newest_s) * _US)
            self._say(m.Ack(self._received_bytes, self._newest_us, min(held_us, _WRAP_US - 1)))
            self._unacknowledged = 0
        if not self._control:
            return None
        return encode_frame(FrameKind.CONTROL, int(now_s * _US) % _WRAP_US, self._control.popleft())

    def next_timer_s(self) -> float | None:
        """When an acknowledgement falls due that nothing else will send."""
        return self._newest_s + _ACK_DELAY_S if self._owes_ack() else None

    # -- inside -------------------------------------------------------------------------------

    def _say(self, message: m.Message) -> None:
        self._control.append(pack_message(message))

    def _act(self, act: Act, message: m.Message) -> None:
        if self._state is State.CLOSED:
            return  # whoever has left need not be told
        self._state = advance(RECEIVER, self._state, act)
        self._say(message)

    def _owes_ack(self) -> bool:
        return self._unacknowledged > 0 and self._state not in _SILENT

    def _ack_due(self, now_s: float) -> bool:
        waited = self._unacknowledged >= _ACK_FRAMES or now_s >= self._newest_s + _ACK_DELAY_S
        return self._owes_ack() and waited

    def _on_message(self, message: m.Message) -> bool:
        """Whether our owner has to hear of it; what is repeated on a new connection is no news."""
        match message:
            case m.Hello(version=version, role=role):
                require(
                    version == limits.PROTOCOL_VERSION and role is m.Role.SENDER,
                    f"the peer is a {role.value} of protocol version {version}; "
                    f"a sender of version {limits.PROTOCOL_VERSION} is needed",
                )
            case m.Manifest():
                self._session().on_manifest(message)
            case m.Plan():
                return self._session().on_plan(message)
            case m.LayerOffer(number=number) if self._session().is_settled(number):
                self.say(m.LayerVerdict(number, m.Verdict.HELD))  # our word of it was lost
                return False
            case m.LayerOffer():
                return self._session().on_offer(message)
            case m.Withdraw(number=number):
                self._session().on_withdraw(number)
            case m.End(study=study):
                self._session().on_end(study)
            case _:
                pass
        return True

    def _session(self) -> Inbox:
        inbox = self._inbox
        require(inbox is not None, "a session that this connection has not attached to")
        assert inbox is not None  # required above
        return inbox

    def _on_fragment(self, frame: Frame) -> list[Event]:
        events, again = self._session().on_fragment(unpack_fragment(frame.payload))
        if again is not None:
            self.say(again)
        return events
