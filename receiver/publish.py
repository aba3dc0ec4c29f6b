"""What a clinic sees while a study arrives: lines, side-cars, pictures.

The session waits for a watcher, so only what must be of one moment is done there (three planes are
copied); drawing and writing happen beside it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from math import floor
from typing import TYPE_CHECKING

from protocol.messages import Mark
from receiver.pictures import draw_picture
from receiver.planes import take_planes
from receiver.report import write_sidecar
from shared.layer import Quality

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.compose import GrowingVolume
    from receiver.session import ReceivingSession
    from shared.display import Display
    from shared.timeline import Timeline
    from shared.workers import Workers

MARK_NAMES = {
    Mark.CONNECTED: "connected",
    Mark.ROI_PREVIEW: "ROI preview",
    Mark.ROI_EXACT: "ROI exact",
    Mark.WHOLE_PREVIEW: "whole preview",
    Mark.WHOLE_EXACT: "whole exact",
}
_ORDER = list(MARK_NAMES)


class Publisher:
    """A `Watcher`. `run` it beside the session; it ends by being cancelled after `drain`."""

    def __init__(
        self, display: Display, workers: Workers, timeline: Timeline, *, pictures: bool
    ) -> None:
        self._display = display
        self._workers = workers
        self._timeline = timeline
        self._pictures = pictures
        self._due: asyncio.Queue[Callable[[], None]] = asyncio.Queue()

    async def run(self) -> None:
        """Draw and write what is due."""
        while True:
            work = await self._due.get()
            try:
                await self._workers.run(work)
            except OSError as error:  # the study goes on without
                self._display.say(f"  not written: {error}")
            finally:
                self._due.task_done()

    async def drain(self) -> None:
        """Until everything that was due is written."""
        await self._due.join()

    async def began(self, session: ReceivingSession) -> None:
        """See `receiver.watch.Watcher`. What is said ends in a journal, and a label may be the name
        of a file that is a patient's, a remark may quote a header: the folder, a study's digest,
        and the side-car there name them.
        """
        for number, volume in enumerate(session.volumes, 1):
            header = volume.entry.header
            z, y, x = header.shape
            self._display.say(f"receiving series {number}: {x} x {y} x {z}, into {session.folder}")
            if header.remarks:
                self._display.say(f"  remarks on it, in its side-car: {len(header.remarks)}")
            if volume.held:
                self._display.say(f"  {len(volume.held)} layers are here already and proven")

    async def reached(self, session: ReceivingSession, series: int, mark: Mark) -> None:
        """See `receiver.watch.Watcher`."""
        volume = session.volumes[series]
        now_s = self._timeline.now_s()
        which = f" of series {series + 1}" if len(session.volumes) > 1 else ""
        self._display.say(f"{now_s:8.2f} s  {MARK_NAMES[mark]}{which}")
        self._due.put_nowait(partial(write_sidecar, volume))
        if self._pictures:
            planes = await self._workers.run(take_planes, volume)
            stem = volume.files.stem if volume.proven else f"{volume.files.stem}.partial"
            name = f"{stem}-{_ORDER.index(mark)}-{mark.value}.png"
            since_s = now_s - (self._timeline[Mark.CONNECTED.value] or 0.0)
            title = f"{MARK_NAMES[mark]}{which}, {since_s:.2f} s after connecting"
            path = volume.files.folder / name
            draw = partial(draw_picture, planes, volume.entry.window, title, badge(volume), path)
            self._due.put_nowait(draw)

    async def demoted(self, session: ReceivingSession, series: int, layers: int) -> None:
        """See `receiver.watch.Watcher`."""
        volume = session.volumes[series]
        self._display.say(
            f"  {volume.files.path}: {layers} layers do not have their digests any more; "
            "they are missing now, and asked for again"
        )
        self._due.put_nowait(partial(write_sidecar, volume))

    async def ended(self, session: ReceivingSession) -> None:
        """See `receiver.watch.Watcher`."""
        for volume in session.volumes:
            self._due.put_nowait(partial(write_sidecar, volume))


def badge(volume: GrowingVolume) -> str:
    """How good a volume is, in words."""
    if volume.proven:
        return "EXACT: every voxel proven by its digest"
    whole, roi = volume.whole, volume.roi
    parts = []
    if roi.total:
        done = roi.share(Quality.VERIFIED)
        whole_roi = "ROI EXACT" if volume.is_planned else "ROI exact as far as it is known"
        parts.append(whole_roi if done == 1 else f"ROI {_percent(done)} exact")
    parts.append(f"whole {_percent(whole.share(Quality.VERIFIED))} exact")
    seen = whole.share(Quality.PREVIEW)
    if seen < 1:
        parts.append(f"{100 - floor(seen * 100)} % missing")
    if volume.discarded_voxels:
        parts.append("background not sent")
    return ", ".join(parts) + " - PREVIEW PARTS ARE NOT FOR PRIMARY DIAGNOSIS"


def _percent(share: float) -> str:
    """Rounded down: what is 100 % is all of it."""
    return f"{floor(share * 100)} %"
