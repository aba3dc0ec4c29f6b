"""What becomes of encodings that have come whole, in virtual time, with volumes that only note."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from protocol import messages as m
from receiver.painting import Arrived, Painter
from shared.errors import CodecError, IntegrityError
from shared.layer import LayerKey, Quality
from shared.tasks import one_error
from shared.workers import InlineWorkers
from tests.protocol import examples
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from receiver.compose import GrowingVolume
    from receiver.decode import DecodeTask

PAYLOAD = examples.ENCODING


class Volume:
    """A growing volume that writes down what is painted."""

    entry = examples.ENTRY
    proven = False
    discarded_voxels = 0
    roi_is_due = False

    def __init__(self, log: list[str]) -> None:
        self._log = log
        self.regions = {region.name: region for region in examples.REGIONS}
        self.complete = False
        self.good = True
        self.disk_is_full = False
        self.marks: list[m.Mark] = []

    def set_plan(self, plan: m.Plan) -> None:
        self._log.append(f"plan {plan.version}")

    def owned(self, _offer: m.LayerOffer) -> None:
        return

    def keep_headers(self, offer: m.LayerOffer, _samples: object) -> bool:
        self._log.append(f"headers {offer.number}")
        return self.good

    def paint_preview(self, offer: m.LayerOffer, _samples: object) -> None:
        self._log.append(f"preview {offer.number}")

    paint_lossy = paint_preview

    def paint_exact(self, offer: m.LayerOffer, _samples: object) -> bool:
        if self.disk_is_full:
            raise OSError(28, "No space left on device")
        self._log.append(f"exact {offer.number}")
        return self.good

    def prove(self) -> list[m.LayerOffer]:
        self._log.append("prove")
        self.proven = True
        return []

    def check_roi(self) -> list[m.LayerOffer]:
        return []

    def new_marks(self) -> list[m.Mark]:
        marks, self.marks = self.marks, []
        return marks


class Decoders:
    """Children: each codec takes its time, and its encodings may be none."""

    count = 2

    def __init__(self) -> None:
        self.tasks: list[DecodeTask] = []
        self.takes_s: dict[str, float] = {}
        self.broken: set[str] = set()
        self.at_work = self.most_at_work = 0

    def expect(self, codec: str) -> None:
        """Nothing is loaded here."""

    async def decode(self, task: DecodeTask) -> np.ndarray[Any, Any]:
        self.tasks.append(task)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await asyncio.sleep(self.takes_s.get(task.codec, 0.1))
        self.at_work -= 1
        if task.codec in self.broken:
            raise CodecError("it does not decode")
        return np.zeros(task.shape, task.dtype)


class Bench:
    """A painter and all it talks to; the log is what happened, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.volume = Volume(self.log)
        self.decoders = Decoders()
        volumes = [cast("GrowingVolume", self.volume)]
        self.painter = Painter(volumes, self.decoders, InlineWorkers(), cast("Any", self))

    async def judge(self, number: int, verdict: m.Verdict) -> None:
        self.log.append(f"{verdict.value} {number}")

    async def want(self, number: int) -> None:
        self.log.append(f"want {number}")

    async def reach(self, _series: int, mark: m.Mark) -> None:
        self.log.append(f"reach {mark.value}")

    async def set_aside(self, offer: m.LayerOffer, payload: bytes, why: str) -> None:
        return

    async def arrive(self, offer: m.LayerOffer) -> None:
        async def payload() -> bytes:
            return PAYLOAD

        await self.painter.backlog.add(offer.size_bytes)
        await self.painter.put(Arrived(offer, payload))

    async def done(self) -> list[str]:
        """All that has happened, once everything has been judged."""
        await self.painter.drain()
        return self.log


def play(script: Callable[[Bench], Coroutine[Any, Any, None]], loops: int = 2) -> None:
    async def main() -> None:
        bench = Bench()
        with one_error():
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(bench.painter.run()) for _ in range(loops)]
                await script(bench)
                for task in running:
                    task.cancel()

    run_virtual(main(), limit_s=3600)


def exact(number: int, codec: str = "jpegxl") -> m.LayerOffer:
    key = LayerKey(0, "roi0", Quality.EXACT, number)
    return replace(examples.offer(number), key=key, codec=codec)


def preview(number: int) -> m.LayerOffer:
    return examples.offer(number, quality=Quality.PREVIEW)


def test_an_exact_layer_is_verified_and_a_preview_shown_once_they_are_painted() -> None:
    async def script(bench: Bench) -> None:
        await bench.arrive(preview(0))
        await bench.arrive(exact(1))
        assert await bench.done() == ["preview 0", "shown 0", "exact 1", "verified 1"]
        assert {stage: size for stage, size in bench.painter.bytes.items() if size} == {
            "roi_preview": len(PAYLOAD),
            "roi_exact": len(PAYLOAD),
        }
        assert bench.painter.codecs == {"roi_preview": "hevc", "roi_exact": "jpegxl"}

    play(script, loops=1)


def test_what_a_child_is_asked_for_is_what_the_offer_says_and_no_larger() -> None:
    async def script(bench: Bench) -> None:
        for offer in (preview(0), exact(1), examples.HEADERS):
            await bench.arrive(offer)
        await bench.done()
        shapes = [task.shape for task in bench.decoders.tasks]
        assert shapes == [examples.ROI.shape] * 2 + [(1, 1, examples.HEADERS.decoded_bytes)]
        assert bench.decoders.tasks[2].dtype == np.uint8

    play(script, loops=1)


def test_decoders_work_side_by_side_and_paint_one_after_the_other() -> None:
    async def script(bench: Bench) -> None:
        bench.decoders.takes_s["jpegxl"] = 5.0
        await bench.arrive(exact(0))
        await bench.arrive(exact(1, "jpegls"))
        assert await bench.done() == ["exact 1", "verified 1", "exact 0", "verified 0"]
        assert bench.decoders.most_at_work == 2

    play(script)


def test_a_mark_is_told_behind_what_brought_it_and_the_whole_is_proven_first() -> None:
    async def script(bench: Bench) -> None:
        bench.volume.marks = [m.Mark.ROI_EXACT]
        await bench.arrive(exact(0))
        await bench.painter.drain()
        bench.volume.complete, bench.volume.marks = True, [m.Mark.WHOLE_EXACT]
        await bench.arrive(exact(1))
        assert await bench.done() == [
            *("exact 0", "reach roi_exact", "verified 0"),
            *("exact 1", "prove", "reach whole_exact", "verified 1"),
        ]

    play(script)


def test_a_study_with_discarded_voxels_is_never_proven_whole() -> None:
    async def script(bench: Bench) -> None:
        bench.volume.complete = True
        bench.volume.discarded_voxels = 1
        await bench.arrive(exact(0))
        assert "prove" not in await bench.done()

    play(script)


def test_a_broken_preview_is_done_without_and_a_broken_exact_layer_is_asked_for_again() -> None:
    async def script(bench: Bench) -> None:
        bench.decoders.broken = {"hevc", "jpegxl"}
        await bench.arrive(preview(0))
        await bench.arrive(exact(1))
        assert await bench.done() == ["failed 0", "want 1"]
        assert exact(1).key in bench.painter.wanted

    play(script, loops=1)


@pytest.mark.parametrize("why", ["does not decode", "other voxels"])
def test_a_layer_that_proves_right_in_no_form_ends_the_session_and_is_never_verified(
    why: str,
) -> None:
    seen: list[str] = []

    async def script(bench: Bench) -> None:
        bench.volume.good = why != "other voxels"
        bench.decoders.broken = {"jpegxl"} if why == "does not decode" else set()
        bench.log = seen
        for number in range(5):
            await bench.arrive(replace(exact(0), number=number))
            await bench.painter.drain()

    with pytest.raises(IntegrityError, match="does not have its digest"):
        play(script)
    assert "want 0" in seen
    assert len(seen) < 5
    assert not any("verified" in each for each in seen)


def test_bytes_wait_in_a_backlog_until_they_are_judged_however_that_goes() -> None:
    async def script(bench: Bench) -> None:
        bench.decoders.broken = {"hevc"}
        for number in range(3):
            await bench.arrive(preview(number))
        await bench.done()
        backlog: Any = bench.painter.backlog
        assert backlog._bytes == 0

    play(script)


def test_a_plan_takes_its_turn_between_layers() -> None:
    async def script(bench: Bench) -> None:
        bench.volume.marks = [m.Mark.WHOLE_EXACT]
        await bench.painter.plan(replace(examples.PLAN, version=2))
        assert bench.log == ["plan 2", "reach whole_exact"]

    play(script)


def test_a_fault_of_the_disk_is_the_sessions_end() -> None:
    async def script(bench: Bench) -> None:
        bench.volume.disk_is_full = True
        await bench.arrive(exact(0))
        await asyncio.sleep(5)

    with pytest.raises(OSError, match="No space left"):
        play(script)
