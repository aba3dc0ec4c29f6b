"""One transfer, from the study to the receipt, however many connections it takes.

prepare ─> spool, offering ─> outbox ─> call (a connection) ─> transport
                ^                           │
                └── verdict, want, focus <──┘

`sender.caller` brings the connections; here it is decided what they say of the session: that it is
new, with its manifest, or where it goes on.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from protocol import messages as m
from protocol.pace import Pace
from protocol.rate import TELLING_BYTES
from protocol.states import State
from sender.call import Call
from sender.caller import Caller
from sender.growth import Growth
from sender.offering import Offering
from sender.progress import progress_of
from shared.display import Progress
from shared.errors import (
    IntegrityError,
    MedroiError,
    PeerRefused,
    RemoteProtocolError,
    TransportClosed,
)
from shared.tasks import one_error

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from protocol.events import Event
    from sender.prepare import Series, Study
    from sender.settings import SendSettings
    from sender.spool import Spool
    from shared.clock import Clock
    from shared.timeline import Timeline
    from shared.transports.base import Transport
    from shared.workers import Workers


_TELLING_S, _TELLING_RTTS = 0.25, 2.0
"""Beyond so much, what a line has not delivered yet says that it is slow."""


class SendingSession:
    """Sends one study. `run` it once; ask `progress` and `offering` meanwhile."""

    def __init__(
        self,
        dial: Callable[[], Awaitable[Transport]],
        workers: Workers,
        clock: Clock,
        settings: SendSettings,
        timeline: Timeline,
        chance: random.Random,
        *,
        open_spool: Callable[[Study, bytes], Spool | None] = lambda study, fresh: None,
        on_mark: Callable[[m.Mark], None] = lambda mark: None,
        on_trouble: Callable[[MedroiError | None], None] = lambda error: None,
        on_answer: Callable[[Series], None] = lambda series: None,
        on_spool_lost: Callable[[OSError], None] = lambda why: None,
        give_up_s: float | None = None,
        try_s: float | None = None,
    ) -> None:
        """
        Args:
            dial: opens a transport to the receiver; `TransportClosed` where that may work later.
            open_spool: of a study; the second argument names its session if it is a new one.
            on_trouble: there is no line, and why; None once there is one again.
            on_answer: a slow segmenter has found ROIs of a series, or has found its last.
            on_spool_lost: the spool's disk has failed: if this process ends, layers are encoded
                anew.
            give_up_s: without any line for so long the session ends; None for never.
            try_s: for one ``dial`` and what follows; None for what a WebSocket takes.
        """
        self._workers = workers
        self._clock = clock
        self._settings = settings
        self._timeline = timeline
        self._chance = chance
        self._open_spool = open_spool
        self._on_mark = on_mark
        self._on_trouble = on_trouble
        self._on_answer = on_answer
        self._on_spool_lost = on_spool_lost
        self._in_trouble = False
        self._caller = Caller(dial, self, clock, chance, give_up_s=give_up_s, try_s=try_s)
        self._prepared = asyncio.Event()
        self._begun = asyncio.Event()
        self._done = asyncio.Event()
        self._study: Study | None = None
        self._spool: Spool | None = None
        self._session = chance.randbytes(16)
        self._generation = 0
        self._known = False
        """The receiver may know the session: its manifest has been sent, now or by an earlier
        process."""
        self._accepted = False
        self._taking = asyncio.Lock()
        """What several lines have heard of the session, one after the other acts upon."""
        self._began_s = self._line_s = 0.0
        self._reached: dict[m.Mark, set[int]] = {mark: set() for mark in m.Mark}
        self._left_bytes = 0
        self.pace = Pace()
        """What the site allows itself; may be set at any time, and `wake` called."""
        self.call: Call | None = None
        """The connection that has the session."""
        self.offering: Offering | None = None
        """None until the study is prepared."""
        self.exact: bool | None = None
        """What the receipt said; None until it has come."""

    # -- the way of a transfer ----------------------------------------------------------------

    async def run(self, preparing: Awaitable[Study]) -> None:
        """Wait for the study to be prepared, send it, and wait for the receipt.

        Raises:
            MedroiError: whatever ended the session before the receipt.
        """
        try:
            with one_error():
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._caller.run())
                    growing = group.create_task(self._grow())
                    await self._direct(preparing)
                    growing.cancel()
        finally:
            if self._spool is not None:
                self._spool.close()

    async def _direct(self, preparing: Awaitable[Study]) -> None:
        self._study = study = await preparing
        await self._open(study)
        self._prepared.set()
        await self._begun.wait()
        assert self.offering is not None  # it has been opened
        while not self.is_done:
            await self.offering.run()
            self._end()
            # What the receiver has lost after all has to be made again.
            await self.offering.until_more(self._done.is_set)
        if self.call is not None:
            self.call.pump.close_when_idle()

    async def _open(self, study: Study) -> None:
        self._spool = await self._workers.run(self._open_spool, study, self._session)
        self.offering = Offering(
            study,
            self._settings,
            self._workers,
            self._spool,
            self._rate_bps,
            self.wake,
            self._on_plan,
            self._on_withdraw,
            self._on_spool_lost,
        )
        spool = self._spool
        if spool is not None and spool.resumed and await self.offering.restore():
            self._session, self._known, self._generation = spool.session, True, 1
        self._began_s = self._clock.now_s()

    async def _grow(self) -> None:
        """Let plans grow with what a slow segmenter finds."""
        await self._prepared.wait()
        assert self.offering is not None  # opened with the study
        await Growth(self.offering, self._workers, self._settings, self._on_answer).run()

    def _on_plan(self, plan: m.Plan) -> None:
        """Send it, if there is a line; the next one is sent the newest anyway."""
        if self.call is None:
            return
        if self.call.connection.state in (State.OFFERED, State.STREAMING):
            self.call.connection.plan(plan)
            self.call.pump.wake()

    def _on_withdraw(self, number: int) -> None:
        """Send no more of an encoding; another line hears of it by what is offered there."""
        assert self.offering is not None  # who says it
        if self.call is not None and self.call.connection.state is State.STREAMING:
            self.call.connection.withdraw(number)
        else:
            self.offering.outbox.drop(number)

    # -- connections --------------------------------------------------------------------------

    @property
    def is_prepared(self) -> bool:
        """See `sender.caller.Callee`."""
        return self._prepared.is_set()

    async def until_prepared(self) -> None:
        """See `sender.caller.Callee`."""
        await self._prepared.wait()

    @property
    def is_done(self) -> bool:
        """See `sender.caller.Callee`."""
        return self._done.is_set()

    def new_call(self, transport: Transport) -> Call:
        """See `sender.caller.Callee`."""
        return Call(transport, self._clock, self.pace, self._on_event, self._on_sent)

    def on_failed_try(self, why: MedroiError) -> None:
        """See `sender.caller.Callee`."""
        if not self._in_trouble:
            self._in_trouble = True
            self._on_trouble(why)

    async def take_over(self, call: Call) -> None:
        """See `sender.caller.Callee`."""
        self._generation += 1
        before, session = self._caller.lines, self._session
        if not self._known:
            call.introduce(self._session, self._generation, accepted=False)
            await call.until_greeted()
            self._require_still(before, session)
            self._begin(call)
            return
        standing = await call.attach(self._session, self._generation, accepted=self._accepted)
        if standing.known and standing.generation >= self._generation:  # an earlier process's
            self._require_still(before, session)
            self._generation = standing.generation + 1
            standing = await call.attach(session, self._generation, accepted=self._accepted)
        async with self._taking:
            self._require_still(before, session)
            if standing.known:
                await self._go_on(call, standing)
                return
            assert self.offering is not None  # it has been opened
            is_lost = self._accepted or self.offering.has_settled
            if is_lost:
                session = await self._begin_another()
        if is_lost:  # a line that dies over this holds up no other
            await call.attach(session, self._generation, accepted=False)
            self._require_still(before, session)
        self._begin(call)

    def _require_still(self, lines: int, session: bytes) -> None:
        """No other line has got the session while this one was finding out where it stands, nor
        begun another one in its place."""
        if self._caller.lines != lines or self._session != session:
            raise TransportClosed("another line was faster")

    def _begin(self, call: Call) -> None:
        assert self._study is not None  # a call waits for it
        assert self.offering is not None
        self._known = True
        call.connection.offer(self._study.manifest, self.offering.outbox)
        for series in self.offering.series:
            call.connection.plan(series.plan)
        self._become(call)

    async def _begin_another(self) -> bytes:
        """Another session: the receiver has lost this one. Its name, which holds from when the
        offering has started over."""
        assert self.offering is not None  # it has been opened
        session = self._chance.randbytes(16)
        await self.offering.forget(session)
        self._session, self._generation, self._accepted = session, 1, False
        return session

    async def _go_on(self, call: Call, standing: m.Standing) -> None:
        assert self._study is not None  # a call waits for it
        assert self.offering is not None
        if standing.finished:
            self.offering.finish()
        heard = call.connection.go_on(standing, self.offering.outbox)
        for series, version in zip(self.offering.series, standing.plans, strict=False):
            if series.plan.version > version:
                call.connection.plan(series.plan)
        self._become(call)
        for event in heard:
            await self._on_event(call, event)
        self._end()

    def _become(self, call: Call) -> None:
        if self.call is not None and self.call is not call:
            self._left_bytes += self.call.connection.sent_bytes
            self.call.retire()
        self.call, self._line_s = call, self._clock.now_s()
        if self._in_trouble:
            self._in_trouble = False
            self._on_trouble(None)
        self._begun.set()
        call.proceed()

    def _end(self) -> None:
        """Say that everything has been sent, if that is so and the line is ready to hear it."""
        if self.call is None or self._study is None or self.offering is None:
            return
        streaming = self.call.connection.state is State.STREAMING
        if streaming and not self.offering.has_work:
            self.call.connection.end(self._study.manifest.study)
            self.call.pump.wake()

    # -- what the receiver says ---------------------------------------------------------------

    async def _on_event(self, call: Call, event: Event) -> None:
        if isinstance(event, m.Hello):
            self._mark(m.Mark.CONNECTED)
        if call is not self.call or self.offering is None:
            return
        match event:
            case m.Accept(held=held):
                self._accepted = True
                for number in await self.offering.on_held(held):
                    call.connection.withdraw(number)
                self._end()
            case m.Refuse(reason=reason):
                raise PeerRefused(f"the receiver refuses the study: {reason}")
            case m.LayerVerdict():
                await self.offering.on_verdict(event)
            case m.Want(number=number):
                await self.offering.on_want(number)
            case m.Focus():
                self.offering.on_focus(event)
            case m.StageReached(series=series, mark=mark):
                self._on_stage(series, mark)
            case m.Done(exact=exact):
                settled = not self.offering.has_work
                self.offering.stop()
                await self.offering.forget_kept()  # before the receiver hears that we have heard
                if not settled:  # a new session sends it: this one is over for the receiver
                    raise IntegrityError("the receipt has come before everything was settled")
                self.exact = exact
                self._done.set()
                self.offering.look_again()
            case _:
                pass

    def _on_stage(self, series: int, mark: m.Mark) -> None:
        count = len(self._study.series) if self._study else 0
        if series >= count:
            raise RemoteProtocolError(f"series {series} of {count}")
        self._reached[mark].add(series)
        of_roi = mark in (m.Mark.ROI_PREVIEW, m.Mark.ROI_EXACT)
        if series == 0 if of_roi else len(self._reached[mark]) == count:
            self._mark(mark)

    def _mark(self, mark: m.Mark) -> None:
        if self._timeline.mark(mark.value):
            self._on_mark(mark)

    # -- what others may ask ------------------------------------------------------------------

    @property
    def sent_bytes(self) -> int:
        """Frame bytes of all connections that have had the session."""
        return self._left_bytes + (self.call.connection.sent_bytes if self.call else 0)

    @property
    def lines(self) -> int:
        """How many connections have had the session."""
        return self._caller.lines

    def progress(self) -> Progress:
        """Where the transfer stands, for the screen."""
        if self.offering is None:
            return Progress("reading", 0.0, 0.0, 0.0, None, None)
        window = self.call.connection.window if self.call and not self._in_trouble else None
        progress = progress_of(self.offering, window, self._clock.now_s() - self._began_s)
        if self._in_trouble:
            return replace(progress, stage="no line")
        return replace(progress, stage="others first") if self.pace.held else progress

    @property
    def is_ready(self) -> bool:
        """Whether there is a line, and something to say over it."""
        return self.call is not None and not self._in_trouble and not self.is_done

    def wake(self) -> None:
        """There may be something to send, or leave to send it."""
        if self.call is not None:
            self.call.pump.wake()

    # -- inside -------------------------------------------------------------------------------

    def _rate_bps(self) -> float:
        """As measured; an upper bound while a line takes long to show more; 0 while all is open."""
        if self.call is None:
            return 0.0
        window = self.call.connection.window
        if window.is_telling:
            return window.rate_bps
        spent_s = self._clock.now_s() - self._line_s - _TELLING_RTTS * window.rtt_s
        is_slow = window.in_flight_bytes > 0 and spent_s > _TELLING_S
        return TELLING_BYTES * 8 / spent_s if is_slow else 0.0

    def _on_sent(self) -> None:
        if self.offering is not None:
            self.offering.on_sent()
