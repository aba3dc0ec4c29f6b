"""What is encoded next, how hard it is worked on, and where the reader's focus puts it.

Pure: no tasks, no clock. The session asks; the link's measured rate comes as an argument.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from protocol.stages import UNFOCUSED, Priority
from sender.ladder import LADDER_CODEC
from sender.settings import AUTO
from shared.layer import Quality

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from protocol.messages import Focus
    from sender.layering import LayerJob
    from shared.layer import LayerKey

_AHEAD_S = 3.0
_AHEAD_MIN_BYTES, _AHEAD_MAX_BYTES = 256 << 10, 16 << 20
_AHEAD_UNKNOWN_BYTES = 64 << 10
"""How much is encoded ahead of the link: enough that it never waits, little enough that a focus
still finds work undone and memory stays small; of a link that is not known yet, what is under way
before it is."""
_EFFORTS = ((1.0, 7), (0.25, 5), (0.0, 3))
"""(seconds of link already encoded, JPEG XL effort): time to spare is spent on fewer bits."""
_EFFORTS_CODEC = "jpegxl"
_THIN_BPS, _THIN_LEAD_S = 1.5e6, 3.0
"""Below this rate, and with so much encoded ahead, causal3d is chosen where no codec is named.
JPEG-LS takes a fiftieth of its time, for 15-20 % more bytes: for what is needed now (either end
loads causal3d for a second or two), and for links that two cores of it would hold up."""
_QUICK_CODEC = "jpegls"
_CORE_BPS = 30e6
"""What one core makes of exact layers at the lowest effort, in bits a second. A faster link cannot
be kept busy anyway, so then every core works on what the plan wants first."""
_ROUGH_BITS_PER_VOXEL = 4.0
"""Of an exact layer before one has been encoded."""


@dataclass(frozen=True, slots=True)
class Link:
    """What the session knows of the link at this moment."""

    rate_bps: float
    """0 before anything has been acknowledged."""
    unsent_bytes: int
    """Encoded and offered, not yet on the wire."""

    @property
    def lead_s(self) -> float:
        """How long the link is busy with what is encoded already."""
        return self.unsent_bytes * 8 / self.rate_bps if self.rate_bps else 0.0


class Schedule:
    """The layers that are still to be encoded, most urgent first."""

    def __init__(self, jobs: Iterable[LayerJob], exact_codec: str = AUTO) -> None:
        """
        Args:
            exact_codec: a codec's name, or `AUTO`: it is chosen layer by layer.
        """
        self._exact_codec = exact_codec
        self._jobs = {job.key: job for job in jobs}
        self._heap = [(job.priority, job.key) for job in self._jobs.values()]
        heapq.heapify(self._heap)
        self._foci: list[Focus] = []

    def __len__(self) -> int:
        """How many layers are left."""
        return len(self._jobs)

    def pending(self) -> list[LayerJob]:
        """The layers that are left, in no order."""
        return list(self._jobs.values())

    def next_job(
        self, link: Link, encoding: Container[LayerKey] = (), *, spare_core: bool = True
    ) -> LayerJob | None:
        """The layer to encode now; None if there is none, or enough is encoded ahead.

        Args:
            encoding: layers that are being encoded; one that builds on one of them waits.
            spare_core: another core is not at work on a preview. Previews take long: while all
                other cores work on them, one that keeps to exact layers keeps the link busy.
        """
        previews = spare_core or link.rate_bps > _CORE_BPS
        ahead = _ahead_bytes(link)
        if link.unsent_bytes >= ahead and not self._foci:
            return None
        passed = []
        found = None
        while self._heap and found is None:
            priority, key = heapq.heappop(self._heap)
            job = self._jobs.get(key)
            if job is None or self.priority(job) != priority:
                continue  # re-ordered by a focus since it was queued here
            if link.unsent_bytes >= ahead and priority.focus == UNFOCUSED:
                passed.append((priority, key))
                break
            waits = replace(key, quality=Quality.BOUNDED) in encoding
            if waits or (key.quality is Quality.PREVIEW and not previews):
                passed.append((priority, key))
                continue
            del self._jobs[key]
            if not self.skips(job, link):
                found = job
        for entry in passed:
            heapq.heappush(self._heap, entry)
        return found

    def take(self, key: LayerKey) -> bool:
        """Take a layer out, encoded already; False if it is not there any more."""
        return self._jobs.pop(key, None) is not None

    def put_back(self, job: LayerJob) -> None:
        """A layer has to be encoded once more."""
        self._jobs[job.key] = job
        heapq.heappush(self._heap, (self.priority(job), job.key))

    def add(self, jobs: Iterable[LayerJob]) -> None:
        """Layers that a plan has come to ask for."""
        for job in jobs:
            self.put_back(job)

    def move(self, jobs: Iterable[LayerJob]) -> None:
        """Layers whose place has changed; those that are encoded already stay where they are."""
        for job in jobs:
            if job.key in self._jobs:
                self.put_back(job)

    def focus(self, focus: Focus) -> None:
        """The reader looks at a box: what meets it goes first. A rank's newest focus counts."""
        self._foci = [old for old in self._foci if old.rank != focus.rank] + [focus]
        self._heap = [(self.priority(job), job.key) for job in self._jobs.values()]
        heapq.heapify(self._heap)

    def priority(self, job: LayerJob, *, promoted: bool = False) -> Priority:
        """A layer's place in the order of everything.

        Args:
            promoted: it is so cheap at the measured rate that it goes before the stage above it.
        """
        ranks = [
            focus.rank
            for focus in self._foci
            if focus.series == job.key.series and focus.box.intersection(job.box) is not None
        ]
        place = job.priority._replace(focus=min(ranks, default=UNFOCUSED))
        return place._replace(stage=place.stage - 1, rank=-1) if promoted else place

    def promotes(self, job: LayerJob, size_bytes: int, link: Link) -> bool:
        """Whether a layer just encoded goes before the stage above it: `Stage.before_s`.

        Its sister blocks are taken to cost as much as it does.
        """
        if job.stage.before_s is None or not link.rate_bps:
            return False
        sisters = 1 + sum(
            other.stage is job.stage and other.key.series == job.key.series
            for other in self._jobs.values()
        )
        return sisters * size_bytes * 8 / link.rate_bps < job.stage.before_s

    def effort(self, codec: str, link: Link) -> int | None:
        """How hard to work on the next exact layer; None for the codec's own default."""
        if codec != _EFFORTS_CODEC:
            return None
        return next(effort for lead_s, effort in _EFFORTS if link.lead_s >= lead_s)

    def codec(self, link: Link) -> str:
        """By which codec."""
        if self._exact_codec != AUTO:
            return self._exact_codec
        slowly = self.is_thin(link) and link.lead_s >= _THIN_LEAD_S
        return LADDER_CODEC if slowly else _QUICK_CODEC

    def is_thin(self, link: Link) -> bool:
        """Whether the codec of least bytes keeps the link busy, where none is named."""
        return self._exact_codec == AUTO and 0 < link.rate_bps <= _THIN_BPS

    def skips(self, job: LayerJob, link: Link, unsent_bytes: int = 0) -> bool:
        """Whether a layer is left out, by `Stage.skip_s`: the same region's exact layers cost so
        little that a preview is late. And a bounded layer that the exact one could not build on
        would be sent twice.

        Args:
            unsent_bytes: of exact layers of the same region that are encoded already.
        """
        builds = self._exact_codec == LADDER_CODEC or self.is_thin(link)
        if job.key.quality is Quality.BOUNDED and not builds:
            return True
        if job.stage.skip_s is None or not link.rate_bps:
            return False
        exact_voxels = sum(
            other.box.voxels
            for other in self._jobs.values()
            if other.key.series == job.key.series
            and other.key.region == job.key.region
            and other.key.quality > job.key.quality
        )
        cost_s = (exact_voxels * _ROUGH_BITS_PER_VOXEL + unsent_bytes * 8) / link.rate_bps
        return 0 < cost_s < job.stage.skip_s


def _ahead_bytes(link: Link) -> int:
    if not link.rate_bps:
        return _AHEAD_UNKNOWN_BYTES
    return max(_AHEAD_MIN_BYTES, min(int(link.rate_bps / 8 * _AHEAD_S), _AHEAD_MAX_BYTES))
