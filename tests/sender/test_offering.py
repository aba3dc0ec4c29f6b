"""What a study has on offer: encoded for real, taken out by hand, judged by a receiver of words."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import pytest

from protocol import messages as m
from sender.growing import take_answer
from sender.offering import Offering
from sender.prepare import with_plan
from sender.settings import SendSettings
from sender.spool import Spool
from shared import recordlog
from shared.errors import IntegrityError, RemoteProtocolError
from shared.geometry import Box
from shared.layer import Quality
from shared.workers import InlineWorkers
from tests.sender.studies import TwoLooks, brain, not_thought_over, series_of, study_of
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from sender.prepare import Study

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
SHAPE = (8, 48, 48)
ROI = Box((2, 10, 10), (5, 24, 24))
SESSION = bytes(range(16))


@pytest.fixture(scope="module")
def study() -> Study:
    return study_of(series_of(brain(SHAPE), [ROI], Box((0, 4, 4), (8, 44, 44))))


class Desk:
    """An offering, and a receiver that takes what is foremost, whole, and judges it."""

    def __init__(
        self, study: Study, spool: Spool | None = None, workers: InlineWorkers | None = None
    ) -> None:
        self._news = asyncio.Event()
        self.rate_bps = 1e6
        self.offering = Offering(
            study,
            SendSettings(),
            workers or InlineWorkers(),
            spool,
            lambda: self.rate_bps,
            self._news.set,
        )
        self.taken: list[tuple[m.LayerOffer, bytes]] = []
        self.most = 10_000
        """After so many encodings the link goes away."""

    async def judge(self, offer: m.LayerOffer) -> None:
        verdict = m.Verdict.VERIFIED if offer.voxel_digest else m.Verdict.SHOWN
        self.offering.outbox.drop(offer.number)
        await self.offering.on_verdict(m.LayerVerdict(offer.number, verdict))

    async def want(self, offer: m.LayerOffer) -> None:
        self.offering.outbox.drop(offer.number)
        await self.offering.on_want(offer.number)

    async def receive(self, judge: Callable[[m.LayerOffer], Coroutine[Any, Any, None]]) -> None:
        """Until everything is settled, or the link goes away."""
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self.offering.run())
            running.add_done_callback(lambda _: self._news.set())
            while not running.done() and len(self.taken) < self.most:
                out = self.offering.outbox.most_urgent()
                if out is None:
                    self._news.clear()
                    if not running.done():
                        await self._news.wait()
                    continue
                parts = []
                while not out.handed_out:
                    parts.append(self.offering.outbox.cut(out, 16384).content)
                out.announced = True
                self.taken.append((out.offer, b"".join(parts)))
                self.offering.on_sent()
                await judge(out.offer)
            running.cancel()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until something new on offer makes it true."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    @property
    def offers(self) -> list[m.LayerOffer]:
        return [offer for offer, _ in self.taken]


def play(script: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(script(), limit_s=3600)


def test_every_layer_is_offered_once_under_a_number_of_its_own_the_roi_foremost(
    study: Study,
) -> None:
    async def script() -> None:
        desk = Desk(study)
        await desk.receive(desk.judge)
        keys = [offer.key for offer in desk.offers]
        assert len(set(keys)) == len(keys)
        assert len({offer.number for offer in desk.offers}) == len(keys)
        exact = [offer for offer in desk.offers if offer.key.quality is Quality.EXACT and offer.box]
        assert sum(offer.owned_voxels for offer in exact) == SHAPE[0] * SHAPE[1] * SHAPE[2]
        regions = [offer.key.region for offer in exact]
        (roi,) = (region for region in set(regions) if region.startswith("roi"))
        of_roi = regions.count(roi)
        assert set(regions[:of_roi]) == {roi}
        assert len(desk.offering.schedule) == desk.offering.outbox.count == 0

    play(script)


def test_another_process_offers_the_same_bytes_under_the_same_numbers_and_nothing_settled(
    study: Study, tmp_path: Path
) -> None:
    async def script() -> None:
        spool = _spool(tmp_path, study)
        first = Desk(study, spool)
        first.most = 3

        async def judge_two(offer: m.LayerOffer) -> None:
            if len(first.taken) < 3:
                await first.judge(offer)

        await first.receive(judge_two)
        spool.close()
        spool = _spool(tmp_path, study)
        assert spool.resumed
        second = Desk(study, spool)
        await second.offering.restore()
        left = second.offering.outbox.unsettled
        assert [offer.number in left for offer in first.offers] == [False, False, True]
        assert second.offering.has_settled
        await second.receive(second.judge)
        again = dict(second.taken)
        for offer, payload in first.taken[:2]:
            assert offer not in again
            assert payload
        offer, payload = first.taken[2]
        assert again[offer] == payload
        numbers = [each.number for each in (*first.offers[:2], *second.offers)]
        assert len(set(numbers)) == len(numbers)
        spool.close()

    play(script)


def test_what_the_receiver_holds_is_not_encoded_or_no_further(study: Study) -> None:
    async def script() -> None:
        whole = Desk(study)
        await whole.receive(whole.judge)
        held = tuple(offer.voxel_digest for offer in whole.offers if offer.voxel_digest)
        desk = Desk(study)
        assert await desk.offering.on_held(()) == []
        await desk.offering.on_held(held)
        await desk.receive(desk.judge)
        assert not any(offer.box and offer.voxel_digest for offer in desk.offers)

    play(script)


def test_a_layer_that_is_wanted_comes_in_another_form_under_another_number(study: Study) -> None:
    async def script() -> None:
        desk = Desk(study)
        wanted: list[m.LayerOffer] = []

        async def refuse_one(offer: m.LayerOffer) -> None:
            if offer.box is not None and offer.voxel_digest and not wanted:
                wanted.append(offer)
                await desk.want(offer)
            else:
                await desk.judge(offer)

        await desk.receive(refuse_one)
        (first,) = wanted
        (second,) = (offer for offer in desk.offers if offer.key == first.key and offer != first)
        assert second.number != first.number
        assert second.codec != first.codec
        assert second.voxel_digest == first.voxel_digest

    play(script)


def test_a_layer_that_is_wanted_in_whichever_form_it_comes_ends_the_session(study: Study) -> None:
    async def script() -> None:
        desk = Desk(study)
        with pytest.raises(ExceptionGroup) as caught:
            await desk.receive(
                lambda offer: (
                    desk.want(offer) if offer.box and offer.voxel_digest else desk.judge(offer)
                )
            )
        assert caught.group_contains(IntegrityError)

    play(script)


def test_what_waits_for_a_link_that_proves_thin_is_made_smaller_and_withdrawn() -> None:
    study = study_of(series_of(brain((16, 96, 96))))

    async def script() -> None:
        desk = Desk(study)
        desk.rate_bps = 0.0  # not known yet
        async with asyncio.TaskGroup() as group:
            running = group.create_task(desk.offering.run())
            await desk.until(lambda: bool(exact_of(desk)))
            before = exact_of(desk)
            size = sum(desk.offering.outbox.unsettled.values())
            desk.rate_bps = 2_000.0
            desk.offering.on_sent()
            await desk.until(lambda: exact_of(desk) != before)
            running.cancel()
        assert set(before.values()) == {"jpegls"}
        assert set(exact_of(desk).values()) == {"causal3d"}
        assert not set(exact_of(desk)) & set(before)
        assert sum(desk.offering.outbox.unsettled.values()) < size
        for number in before:  # whatever the receiver still says of them
            await desk.offering.on_want(number)
        assert not len(desk.offering.schedule)

    play(script)


def test_on_a_fast_link_nothing_is_made_twice(study: Study) -> None:
    async def script() -> None:
        desk = Desk(study)
        desk.rate_bps = 50e6
        await desk.receive(desk.judge)
        assert "causal3d" not in {offer.codec for offer in desk.offers}

    play(script)


class Slow(InlineWorkers):
    """Takes a second over work of these names, and notes what an offering says meanwhile."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.offering: Offering | None = None
        self.said: list[bool] = []

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        name = getattr(work, "__qualname__", "")
        if self.offering is not None and any(each in name for each in self.names):
            await asyncio.sleep(0.5)
            self.said.append(self.offering.has_work)
            await asyncio.sleep(0.5)
        return await super().run(work, *arguments)


@pytest.mark.parametrize("name", ["attachment", "encode_bytes", "Keeping.put."])
def test_there_is_work_while_something_is_made_or_kept_and_nothing_waits(
    name: str, tmp_path: Path
) -> None:
    def attachment() -> bytes:
        return b"what stands beside"

    series = series_of(brain(SHAPE), [ROI])
    sent = study_of(replace(series, volume=replace(series.volume, attachment=attachment)))

    async def script() -> None:
        workers, spool = Slow(name), _spool(tmp_path, sent)
        desk = Desk(sent, spool, workers)
        workers.offering = desk.offering
        await desk.receive(desk.judge)
        assert workers.said
        assert all(workers.said)
        assert not desk.offering.has_work
        spool.close()

    play(script)


def test_there_is_work_while_a_smaller_encoding_is_kept_in_the_place_of_another(
    tmp_path: Path,
) -> None:
    sent = study_of(series_of(brain((16, 96, 96))))

    async def script() -> None:
        workers, spool = Slow("Keeping.put."), _spool(tmp_path, sent)
        desk = Desk(sent, spool, workers)
        desk.rate_bps = 0.0
        async with asyncio.TaskGroup() as group:
            running = group.create_task(desk.offering.run())
            await asyncio.sleep(1.0)
            (kept, *others) = sorted(
                desk.offering.outbox.unsettled, key=lambda number: number not in exact_of(desk)
            )
            for number in others:
                desk.offering.outbox.drop(number)
                await desk.offering.on_verdict(m.LayerVerdict(number, m.Verdict.SHOWN))
            assert kept in exact_of(desk)
            workers.offering, desk.rate_bps = desk.offering, 2_000.0
            desk.offering.on_sent()
            await desk.until(lambda: bool(workers.said))
            running.cancel()
        assert all(workers.said)
        spool.close()

    play(script)


def test_there_is_work_while_the_layers_of_a_last_plan_are_looked_for() -> None:
    series = not_thought_over(series_of(brain(SHAPE)), TwoLooks())
    sent = study_of(series)

    async def script() -> None:
        workers = Slow("exact_digests")
        desk = Desk(sent, None, workers)
        offering = desk.offering
        for key in [job.key for job in offering.schedule.pending()]:
            offering.schedule.take(key)
        offering._beside.is_due = False
        await offering.on_held((bytes(32),))
        workers.offering = offering
        found = next(iter(TwoLooks().segment(series.volume)))
        step = take_answer(
            series.plan,
            series.volume.header,
            found,
            series.tissue,
            last=True,
            discard_background=False,
        )
        await offering.grow(0, with_plan(replace(series, thinking=None), step.plan), step)
        assert workers.said == [True]

    play(script)


def test_a_disk_that_fills_in_mid_study_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: Study
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    async def script() -> None:
        _spool(tmp_path, study).close()
        spool = _spool(tmp_path, study)
        assert spool.resumed
        monkeypatch.setattr(recordlog, "require_room", full)
        desk = Desk(study, spool)
        assert await desk.offering.restore()
        await desk.receive(desk.judge)
        assert not desk.offering.has_work
        assert desk.offering.ledger.verified_voxels == desk.offering.ledger.kept_voxels

    play(script)


def test_what_is_made_when_the_session_ends_is_not_offered(study: Study) -> None:
    async def script() -> None:
        workers = Slow("encode_layer")
        desk = Desk(study, None, workers)
        workers.offering = desk.offering
        async with asyncio.TaskGroup() as group:
            group.create_task(desk.offering.run())
            await asyncio.sleep(0.1)
            desk.offering.stop()
        assert desk.offering.outbox.count == 0
        assert not desk.offering.has_work
        assert desk.offering.ledger.verified_voxels == 0

    play(script)


def test_what_is_settled_cannot_be_wanted(study: Study) -> None:
    async def script() -> None:
        desk = Desk(study)
        desk.most = 2
        await desk.receive(desk.judge)
        with pytest.raises(RemoteProtocolError, match="settled"):
            await desk.offering.on_want(99)

    play(script)


def test_a_focus_brings_forward_what_meets_it(study: Study) -> None:
    async def script() -> None:
        plain, focused = Desk(study), Desk(study)
        await plain.receive(plain.judge)
        corner = Box((7, 46, 46), (8, 48, 48))
        focused.offering.on_focus(m.Focus(0, corner, 0))
        await focused.receive(focused.judge)

        def place(desk: Desk) -> int:
            return next(
                number
                for number, offer in enumerate(desk.offers)
                if offer.key.quality is Quality.EXACT and offer.box and _meets(offer.box, corner)
            )

        assert place(focused) < place(plain)

    play(script)


def test_where_everything_is_there_already_nothing_is_made_or_sent(study: Study) -> None:
    async def script() -> None:
        desk = Desk(study)
        desk.offering.finish()
        await desk.receive(desk.judge)
        assert desk.taken == []

    play(script)


def exact_of(desk: Desk) -> dict[int, str]:
    """Of exact layers on offer, their encodings' numbers and codecs."""
    offered = desk.offering.offered.items()
    return {
        number: each.codec
        for number, each in offered
        if each.job.key.quality is Quality.EXACT and number in desk.offering.outbox.unsettled
    }


def _spool(base: Path, study: Study) -> Spool:
    return Spool.open(base, study, SendSettings(), "ws://clinic", SESSION)


def _meets(box: Box, other: Box) -> bool:
    return all(
        max(a, c) < min(b, d)
        for a, b, c, d in zip(box.start, box.stop, other.start, other.stop, strict=True)
    )
