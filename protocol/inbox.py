"""What a receiver has of a session: manifest, plans, encodings on their way in, their verdicts.

It outlives connections, and, fed once more with what was stored, processes. Several connections of
one session may bring it fragments at the same time: every one of them says what is true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol import limits
from protocol import messages as m
from protocol.checks import check_manifest, check_offer, check_plan, require
from protocol.chunks import Assembly
from protocol.events import ChunkRejected, EncodingArrived, FragmentArrived
from protocol.ranges import RangeSet
from shared.errors import RemoteProtocolError

if TYPE_CHECKING:
    from protocol.events import Event
    from protocol.frames import Fragment

_MAX_BAD_CHUNKS = 16
"""Of one session: a peer whose chunks keep failing their hashes is broken or hostile."""


class Inbox:
    """Of one session. Every method may raise `RemoteProtocolError`: the peer broke the protocol."""

    def __init__(self, session: bytes) -> None:
        self.session = session
        self.generation = 0
        """The largest that has been attached."""
        self.manifest: m.Manifest | None = None
        self.held: tuple[bytes, ...] | None = None
        """What our `Accept` says; None until the study is accepted."""
        self.paused = self.finished = False
        self._plans: dict[int, m.Plan] = {}
        self._offers: dict[int, m.LayerOffer] = {}
        """Of encodings that are not settled."""
        self._open: dict[int, Assembly] = {}
        """Of those, the ones that are not whole yet."""
        self._settled = RangeSet()
        self._wanted: set[int] = set()
        self._next_number = 0
        self._headers_bytes: dict[int, int] = {}
        """Of the headers layer of each series, decoded."""
        self._bad_chunks = 0
        self._marks: dict[tuple[int, m.Mark], None] = {}
        self._foci: dict[int, m.Focus] = {}

    # -- what the peer says -------------------------------------------------------------------

    def on_manifest(self, manifest: m.Manifest) -> None:
        """The study, once more only if it is the same."""
        require(self.manifest in (None, manifest), "another manifest in the same session")
        check_manifest(manifest)
        self.manifest = manifest

    def on_plan(self, plan: m.Plan) -> bool:
        """The regions of a series; False for a plan that is known already."""
        before = self._plans.get(plan.series)
        if plan == before:
            return False
        check_plan(plan, self._series(plan.series).header, before)
        self._plans[plan.series] = plan
        return True

    def on_offer(self, offer: m.LayerOffer) -> bool:
        """An encoding that is about to come; False for one that is known already."""
        number = offer.number
        known = self._offers.get(number)
        require(known in (None, offer), f"encoding {number} offered as two different ones")
        if known is not None:
            return False
        require(number not in self._wanted, f"encoding {number} once more, in the same form")
        require(len(self._open) < limits.MAX_OPEN_LAYERS, "too many encodings under way")
        check_offer(offer, self._plans.get(offer.key.series), self._series(offer.key.series).header)
        under_way = sum(self._offers[each].size_bytes for each in self._open)
        require(under_way + offer.size_bytes <= limits.MAX_OPEN_BYTES, "too many bytes under way")
        if offer.box is None:
            size = self._headers_bytes.get(offer.key.series, 0) + offer.decoded_bytes
            require(size <= limits.MAX_ATTACHMENT_BYTES, f"a headers layer of {size} bytes")
            self._headers_bytes[offer.key.series] = size
        self._offers[number] = offer
        self._open[number] = Assembly(offer.size_bytes, offer.chunk_digests)
        self._next_number = max(self._next_number, number + 1)
        return True

    def is_settled(self, number: int) -> bool:
        """Whether an encoding need not be sent any further."""
        return self.finished or number in self._settled

    def on_withdraw(self, number: int) -> None:
        """The rest of an encoding will not come."""
        require(number < self._next_number, f"encoding {number} was never offered")
        if self._open.pop(number, None) is not None:
            del self._offers[number]
            self._settled.add(number, number + 1)

    def on_fragment(self, fragment: Fragment) -> tuple[list[Event], m.Again | None]:
        """A piece of an encoding.

        Returns:
            The events that it makes; and a chunk that turned out wrong and must come again.
        """
        number = fragment.number
        require(number < self._next_number, f"a fragment of encoding {number}, never offered")
        assembly = self._open.get(number)
        if assembly is None:
            return [], None  # of a layer that we have already: it crossed our word on the way
        events: list[Event] = []
        new, bad = assembly.add(fragment.offset, fragment.content)
        if bad is not None:
            self._bad_chunks += 1
            require(self._bad_chunks <= _MAX_BAD_CHUNKS, "chunks keep failing their hashes")
            rejected = ChunkRejected(number, bad.offset, bad.content)
            return [rejected], m.Again(number, bad.offset, bad.size_bytes)
        if new:
            events.append(FragmentArrived(fragment))
        if assembly.complete:
            del self._open[number]
            events.append(EncodingArrived(self._offers[number], assembly.payload()))
        return events, None

    def on_attach(self, attach: m.Attach) -> bool:
        """A connection wants to be the current one; False if it is not newer than all before."""
        require(attach.generation > 0, "a connection of generation 0")
        if attach.generation <= self.generation:
            return False
        self.generation = attach.generation
        return True

    def on_end(self, study: bytes) -> None:
        """Everything has been sent."""
        require(
            self.manifest is not None and study == self.manifest.study and not self._open,
            "an end that is not the manifest's, or with encodings under way",
        )

    # -- what our owner says ------------------------------------------------------------------

    def settle(self, number: int) -> None:
        """An encoding is dealt with: the rest of it, if any, need not come."""
        self._open.pop(number, None)
        self._offers.pop(number, None)
        self._settled.add(number, number + 1)

    def finish(self) -> None:
        """The study is whole: nothing more need come, whatever it is."""
        self.finished = True
        self._open.clear()
        self._offers.clear()

    def want(self, number: int) -> None:
        """An encoding did not prove right, or its voxels do not any more: it has to come in another
        form."""
        self._open.pop(number, None)
        self._offers.pop(number, None)
        self._settled.remove(number, number + 1)
        self._wanted.add(number)

    def reach(self, series: int, mark: m.Mark) -> None:
        """The volume has reached a mark."""
        self._marks[series, mark] = None

    def focus(self, focus: m.Focus) -> None:
        """The reader looks somewhere; the newest focus of a rank counts."""
        self._foci[focus.rank] = focus

    # -- where the session stands -------------------------------------------------------------

    def standing(self) -> m.Standing:
        """All that a sender may have missed, but for what `to_repeat` says."""
        count = len(self.manifest.series) if self.manifest else 0
        return m.Standing(
            known=self.held is not None,
            finished=self.finished,
            generation=self.generation,
            next_number=self._next_number,
            plans=tuple(
                self._plans[each].version if each in self._plans else 0 for each in range(count)
            ),
            settled=tuple(self._settled)[: limits.MAX_SPANS],
            wanted=tuple(sorted(self._wanted))[-limits.MAX_OPEN_LAYERS :],
            under_way=tuple(
                m.Received(number, self._has(number))
                for number in list(self._offers)[: 2 * limits.MAX_OPEN_LAYERS]
            ),
        )

    def to_repeat(self, *, accepted: bool) -> list[m.Message]:
        """What is said again to a sender that comes back: marks, foci, a pause, our answer."""
        messages: list[m.Message] = [] if accepted else [m.Accept(self.held or ())]
        messages += [m.StageReached(series, mark) for series, mark in self._marks]
        messages += self._foci.values()
        if self.paused:
            messages.append(m.Pause())
        return messages

    def _has(self, number: int) -> tuple[tuple[int, int], ...]:
        assembly = self._open.get(number)
        if assembly is None:
            return ((0, self._offers[number].size_bytes),)
        return tuple(assembly.arrived)[: limits.MAX_STATED_PIECES]

    def _series(self, index: int) -> m.SeriesManifest:
        series = self.manifest.series if self.manifest else ()
        if index >= len(series):
            raise RemoteProtocolError(f"series {index} of {len(series)}")
        return series[index]
