"""The receiving connection: frames in, checked messages and whole encodings out to its owner.

Sans-I/O. The owner calls `receive_frame` with what its transport delivered, `next_frame` until it
returns None, and `next_frame` again no later than `next_timer_s` says: acknowledgements wait a
little for company, never longer than 20 ms.

    (Hello) greet -> (Manifest) accept | refuse -> (Plan, layers) verdict, stage ... -> (End) finish
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from protocol import limits
from protocol import messages as m
from protocol.checks import check_manifest, check_offer, check_plan, require
from protocol.chunks import Assembly
from protocol.events import EncodingArrived
from protocol.frames import FrameKind, decode_frame, encode_frame, unpack_fragment
from protocol.payloads import pack_message, unpack_message
from protocol.states import RECEIVER, Act, State, advance
from shared.errors import RemoteProtocolError

if TYPE_CHECKING:
    from protocol.events import Event
    from protocol.frames import Frame
    from shared.geometry import Box

_US = 1_000_000
_WRAP_US = 1 << 32
_ACK_FRAMES = 2
_ACK_DELAY_S = 0.020
_SILENT = (State.NEW, State.GREETING, State.CLOSED)
"""In these nothing is acknowledged."""
_MAX_BAD_CHUNKS = 16
"""Of one session: a peer whose chunks keep failing their hashes is broken or hostile."""


class ReceivingConnection:
    """The receiver's half of one session over one transport.

    Every method that takes ``now_s`` wants seconds on one clock that never goes back.
    """

    def __init__(self, *, software: str) -> None:
        self._software = software
        self._state = State.NEW
        self._control: deque[bytes] = deque()
        self._manifest: m.Manifest | None = None
        self._plans: dict[int, m.Plan] = {}
        self._numbers: set[int] = set()
        """Of every encoding offered so far."""
        self._open: dict[int, tuple[m.LayerOffer, Assembly]] = {}
        self._headers_bytes: dict[int, int] = {}
        """Of the headers layer of each series, decoded."""
        self._bad_chunks = 0
        self._received_bytes = 0
        self._unacknowledged = 0
        self._newest_us = 0
        self._newest_s = 0.0

    @property
    def state(self) -> State:
        """Where the session stands."""
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

    def accept(self, held: tuple[bytes, ...]) -> None:
        """Take the study; ``held`` are the voxel digests of layers that need not come."""
        self._act(Act.ACCEPT, m.Accept(held))

    def refuse(self, reason: str) -> None:
        """Do not take the study."""
        self._act(Act.REFUSE, m.Refuse(reason))

    def judge(self, number: int, verdict: m.Verdict) -> None:
        """Say what became of an encoding. HELD also stops the rest of it."""
        self._answer(m.LayerVerdict(number, verdict))
        if verdict is m.Verdict.HELD:
            self._open.pop(number, None)

    def want(self, number: int) -> None:
        """Ask for another encoding of this layer."""
        self._answer(m.Want(number))

    def reach(self, series: int, mark: m.Mark) -> None:
        """Say that the volume has reached a mark."""
        self._answer(m.StageReached(series, mark))

    def focus(self, series: int, box: Box, rank: int) -> None:
        """Ask for what meets the box before everything else."""
        self._answer(m.Focus(series, box, rank))

    def pause(self) -> None:
        """Ask for no more fragments."""
        self._answer(m.Pause())

    def resume(self) -> None:
        """Take fragments again."""
        self._answer(m.Resume())

    def finish(self, *, exact: bool) -> None:
        """Give the receipt: the study is rebuilt, synced and hashed from disk."""
        study = self._manifest.study if self._manifest else b""
        self._act(Act.FINISH, m.Done(study, exact))

    def leave(self, why: m.Why, reason: str) -> None:
        """Say farewell; the caller closes the transport once `next_frame` returns None."""
        if self._state is not State.DONE:
            self._act(Act.LEAVE, m.Farewell(why, reason))

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
        match message:
            case m.Hello(version=version, role=role):
                require(
                    version == limits.PROTOCOL_VERSION and role is m.Role.SENDER,
                    f"the peer is a {role.value} of protocol version {version}; "
                    f"a sender of version {limits.PROTOCOL_VERSION} is needed",
                )
            case m.Manifest():
                check_manifest(message)
                self._manifest = message
            case m.Plan():
                self._on_plan(message)
            case m.LayerOffer():
                self._on_offer(message)
            case m.Withdraw(number=number):
                require(number in self._numbers, f"encoding {number} was never offered")
                self._open.pop(number, None)
            case m.End(study=study):
                require(
                    self._manifest is not None and study == self._manifest.study and not self._open,
                    "an end that is not the manifest's, or with encodings under way",
                )
            case _:
                pass
        return [message]

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

    def _answer(self, message: m.Message) -> None:
        self._act(Act.ANSWER, message)

    def _owes_ack(self) -> bool:
        return self._unacknowledged > 0 and self._state not in _SILENT

    def _ack_due(self, now_s: float) -> bool:
        waited = self._unacknowledged >= _ACK_FRAMES or now_s >= self._newest_s + _ACK_DELAY_S
        return self._owes_ack() and waited

    def _series(self, index: int) -> m.SeriesManifest:
        series = self._manifest.series if self._manifest else ()
        if index >= len(series):
            raise RemoteProtocolError(f"series {index} of {len(series)}")
        return series[index]

    def _on_plan(self, plan: m.Plan) -> None:
        check_plan(plan, self._series(plan.series).header, self._plans.get(plan.series))
        self._plans[plan.series] = plan

    def _on_offer(self, offer: m.LayerOffer) -> None:
        require(offer.number not in self._numbers, f"encoding {offer.number} for a second time")
        require(len(self._open) < limits.MAX_OPEN_LAYERS, "too many encodings under way")
        header = self._series(offer.key.series).header
        check_offer(offer, self._plans.get(offer.key.series), header)
        under_way = sum(other.size_bytes for other, _ in self._open.values())
        require(under_way + offer.size_bytes <= limits.MAX_OPEN_BYTES, "too many bytes under way")
        if offer.box is None:
            size = self._headers_bytes.get(offer.key.series, 0) + offer.decoded_bytes
            require(size <= limits.MAX_ATTACHMENT_BYTES, f"a headers layer of {size} bytes")
            self._headers_bytes[offer.key.series] = size
        self._numbers.add(offer.number)
        self._open[offer.number] = offer, Assembly(offer.size_bytes, offer.chunk_digests)

    def _on_fragment(self, frame: Frame) -> list[Event]:
        fragment = unpack_fragment(frame.payload)
        number = fragment.number
        require(number in self._numbers, f"a fragment of encoding {number}, never offered")
        if number not in self._open:
            return []  # of a layer that we hold already: it crossed our word on the way
        offer, assembly = self._open[number]
        bad = assembly.add(fragment.offset, fragment.content)
        if bad is not None:
            self._bad_chunks += 1
            require(self._bad_chunks <= _MAX_BAD_CHUNKS, "chunks keep failing their hashes")
            self._answer(m.Again(number, bad.offset, bad.size_bytes))
        if not assembly.complete:
            return []
        del self._open[number]
        return [EncodingArrived(offer, assembly.payload())]
