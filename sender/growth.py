"""Plans grow while a slow segmenter thinks, beside everything else.

segmenter (worker) ─> take_answer ─> offering ─> plan, layers
nothing to send    ─> send_ahead  ─────^

The series are looked at in their order. What an answer asks for goes before what was sent to keep
the link busy; see `sender.growing` for what a plan may become.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from sender.growing import send_ahead, take_answer
from sender.prepare import for_another, leave_rois, with_plan
from sender.settings import Background
from shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sender.offering import Offering
    from sender.prepare import Series
    from sender.segment.base import Segmentation
    from sender.settings import SendSettings
    from shared.workers import Workers


class Growth:
    """Of the plans of one session. `run` it once."""

    def __init__(
        self,
        offering: Offering,
        workers: Workers,
        settings: SendSettings,
        on_answer: Callable[[Series], None],
    ) -> None:
        """
        Args:
            on_answer: of a series there is a first answer, or no other will come.
        """
        self._offering = offering
        self._workers = workers
        self._settings = settings
        self._on_answer = on_answer
        self._growing = asyncio.Lock()
        """A step begins at the plan that the one before it has left."""

    async def run(self) -> None:
        """Until no segmenter thinks any more.

        Raises:
            MedroiError: the segmenter's, for the first series; or ROIs cannot be written.
        """
        if not self._offering.is_growing:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_busy())
            for number in range(len(self._offering.series)):
                await self._think(number)
            self._offering.look_again()
        await self._workers.run(leave_rois, tuple(self._offering.series), self._settings)

    async def _think(self, number: int) -> None:
        series = self._offering.series[number]
        segmenter = series.thinking
        if segmenter is None:
            return
        answers = segmenter.segment(series.volume)
        newest: Segmentation | None = None
        try:
            while (answer := await self._workers.run(next_answer, answers)) is not None:
                await self._answer(number, answer, last=False)
                if newest is None:
                    self._on_answer(self._offering.series[number])
                newest = answer
        except InputError as error:
            newest = for_another(number, segmenter, error)
        assert newest is not None  # a segmenter has at least one answer
        await self._answer(number, newest, last=True)
        self._on_answer(self._offering.series[number])

    async def _answer(self, number: int, answer: Segmentation, *, last: bool) -> None:
        """One answer. That it was the last is known when no other comes, and said then."""
        async with self._growing:
            series = self._offering.series[number]
            pending = self._offering.schedule.pending()
            step = await self._workers.run(
                lambda: take_answer(
                    series.plan,
                    series.volume.header,
                    answer,
                    answer.tissue or series.tissue,
                    last=last,
                    discard_background=self._settings.background is Background.DISCARD,
                    waiting=[job for job in pending if job.key.series == number],
                )
            )
            thinking = None if last else series.thinking
            grown = with_plan(replace(series, segmentation=answer, thinking=thinking), step.plan)
            await self._offering.grow(number, grown, step)

    async def _keep_busy(self) -> None:
        """While somebody thinks the link is never idle: slabs of tissue, one at a time."""
        offering = self._offering
        while offering.is_growing:
            await offering.until_idle(lambda: not offering.is_growing)
            async with self._growing:
                if not await self._send_ahead():
                    return

    async def _send_ahead(self) -> bool:
        """A slab of the series that is looked at; False where that cannot be any more."""
        for number, series in enumerate(self._offering.series):
            if series.thinking is not None:
                step = send_ahead(series.plan, series.tissue)
                if step is not None:
                    grown = with_plan(series, step.plan)
                    await self._offering.grow(number, grown, step)
                    return True
        return False


def next_answer(answers: Iterator[Segmentation]) -> Segmentation | None:
    """What a segmenter says next; None behind its last answer. Blocking, for seconds."""
    return next(answers, None)
