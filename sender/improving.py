"""What waits for a thin link is coded smaller meanwhile: cores that idle make the queue shorter.

An exact layer that is needed at once is coded by a quick codec, so that the link has something to
carry; while it waits its turn behind others, the slow codec may be done with it. Encodings are
immutable: the better one is another encoding, and the one it replaces is withdrawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sender.ladder import LADDER_CODEC
from shared.layer import Quality

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from protocol.outbox import Outbox
    from protocol.stages import Priority
    from sender.encode import Encoded
    from sender.forms import Forms
    from sender.layering import LayerJob
    from sender.offers import Offered
    from sender.prepare import Series
    from sender.schedule import Link, Schedule

_VOXELS_PER_S = 0.3e6
"""What one of several busy cores makes of the slow codec, encoding and proof: half of what it does
alone, for the wait is only guessed."""
_START_S = 2.0
"""A process is started for it, and loads for a second."""
_GAIN, _GAIN_BYTES = 0.97, 1 << 10
"""A better encoding leaves less than this share of what is still to be sent, and saves so much: a
receiver that has not met the codec yet loads it for a second."""


class Waiting(NamedTuple):
    """An encoding that is not yet sent, or not all of it."""

    priority: Priority
    number: int
    job: LayerJob
    codec: str
    unsent_bytes: int


class Improving:
    """Of one study, while what is offered waits in one outbox."""

    def __init__(
        self,
        schedule: Schedule,
        outbox: Outbox,
        offered: Mapping[int, Offered],
        forms: Forms,
    ) -> None:
        """
        Args:
            offered: encodings that are not settled, by number; looked at, never changed.
        """
        self._schedule = schedule
        self._outbox = outbox
        self._offered = offered
        self._forms = forms
        self._tried: set[int] = set()
        """Encodings that cannot be made smaller, or are being."""

    def next(self, link: Link) -> Waiting | None:
        """The encoding to make smaller now; None where nothing waits for so long."""
        if not self._schedule.is_thin(link):
            return None
        unsent = self._outbox.unsettled
        waiting = (
            Waiting(self._schedule.priority(job), number, job, codec, unsent[number])
            for number, (job, _, codec) in self._offered.items()
            if unsent.get(number) and number not in self._tried
        )
        return improvable(waiting, link)

    async def smaller(self, series: Series, waiting: Waiting) -> Encoded | None:
        """What may take the place of an encoding that waits; None where it is not worth it, or the
        other has been settled meanwhile."""
        self._tried.add(waiting.number)
        encoded = await self._forms.improve(series, waiting.job)
        left = self.unsent_bytes(waiting)
        better = encoded.codec == LADDER_CODEC and is_better(len(encoded.payload), left)
        return encoded if better and waiting.number in self._offered else None

    def unsent_bytes(self, waiting: Waiting) -> int:
        """What is still to be sent of it, now."""
        return self._outbox.unsettled.get(waiting.number, 0)


def improvable(waiting: Iterable[Waiting], link: Link) -> Waiting | None:
    """The foremost encoding that still waits for so long that the slow codec is done before.

    Args:
        waiting: all encodings that wait, in no order.
    """
    if not link.rate_bps:
        return None
    ahead_bytes = 0
    for each in sorted(waiting):
        ahead_bytes += each.unsent_bytes
        wait_s = ahead_bytes * 8 / link.rate_bps
        exact = each.job.key.quality is Quality.EXACT and each.codec != LADDER_CODEC
        if exact and wait_s > _START_S + each.job.box.voxels / _VOXELS_PER_S:
            return each
    return None


def is_better(size_bytes: int, unsent_bytes: int) -> bool:
    """Whether an encoding is worth sending in the place of what is left of another one."""
    return size_bytes < min(_GAIN * unsent_bytes, unsent_bytes - _GAIN_BYTES)
