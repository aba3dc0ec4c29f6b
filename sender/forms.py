"""In which form a layer is encoded: by the link, by what lies below it, and by what went wrong.

preview   at the rate factor that its neighbours needed
bounded   at the step that the first one of its series chose
exact     on top of the bounded one, or by the schedule's codec;
          what did not prove right at the receiver by another codec, and then by the plainest
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.limits import MAX_FORMS
from sender.encode import (
    AFTER_SECOND_CODEC,
    PLAIN_CODEC,
    SECOND_CODEC,
    Base,
    cut_out,
    encode_bounded,
    encode_exact,
    encode_lossy,
)
from sender.ladder import LADDER_CODEC, builds
from sender.preview import FIRST_CRF
from shared.codecs.registry import SLOW_TO_LOAD
from shared.errors import IntegrityError
from shared.layer import Quality, exact_key

if TYPE_CHECKING:
    from protocol.messages import LayerOffer
    from sender.encode import Cut, Encoded
    from sender.layering import LayerJob
    from sender.prepare import Series
    from sender.schedule import Link, Schedule
    from sender.settings import SendSettings
    from shared.layer import LayerKey
    from shared.workers import Workers


class Forms:
    """Of one study."""

    def __init__(self, settings: SendSettings, workers: Workers) -> None:
        self._settings = settings
        self._workers = workers
        self._crf: dict[tuple[int, str], int] = {}
        """By series and stage."""
        self._ladders: dict[int, int | None] = {}
        """Of bounded layers by series; None where they are not worth it."""
        self._failed: dict[LayerKey, list[str]] = {}
        """Codecs of layers that did not prove right at the receiver."""
        self._bases: dict[LayerKey, Base] = {}
        """By the exact layers that build on them."""

    def start_over(self) -> None:
        """The receiver knows of no encoding any more: nothing can build on one."""
        self._bases.clear()

    async def encode(
        self, series: Series, job: LayerJob, schedule: Schedule, link: Link, *, patiently: bool
    ) -> Encoded | None:
        """A layer's encoding, made off the loop; None for a bounded layer that is not worth it.

        Args:
            patiently: at a low priority, for somebody else needs the cores more.
        """
        run = self._workers.run_patiently if patiently else self._workers.run
        entry = series.entry
        cut = await run(cut_out, series.volume.voxels, job)
        if job.key.quality is Quality.PREVIEW:
            stage, codec = (job.key.series, job.stage.name), self._settings.preview_codec
            target = self._settings.preview_target(job.stage.kind)
            crf = self._crf.get(stage, FIRST_CRF)
            preview = await run(encode_lossy, cut, entry, codec, target, crf)
            self._crf[stage] = dict(preview.settings).get("crf", crf)
            return preview
        if job.key.quality is Quality.BOUNDED:
            return await self._encode_bounded(series, job, cut)
        base = self._bases.get(job.key) if not self.has_failed(job.key) else None
        codec = base.codec if base else self._exact_codec(job.key, schedule.codec(link))
        if codec.partition(":")[0] in SLOW_TO_LOAD:
            run = self._workers.run_apart
        effort = schedule.effort(codec, link)
        return await run(encode_exact, cut, entry.samples, codec, effort, base)

    async def _encode_bounded(self, series: Series, job: LayerJob, cut: Cut) -> Encoded | None:
        known = job.key.series in self._ladders
        ladder = self._ladders.get(job.key.series)
        if known and ladder is None:
            return None
        encoded = await self._workers.run_apart(encode_bounded, cut, series.entry.samples, ladder)
        chosen = dict(encoded.settings)["ladder"] if encoded is not None else None
        self._ladders.setdefault(job.key.series, chosen)
        return encoded

    async def improve(self, series: Series, job: LayerJob) -> Encoded:
        """An exact layer once more, by the codec of least bytes."""
        cut = await self._workers.run(cut_out, series.volume.voxels, job)
        return await self._workers.run_apart(
            encode_exact, cut, series.entry.samples, LADDER_CODEC, None
        )

    def base_of(self, job: LayerJob, encoded: Encoded) -> int | None:
        """The number of the encoding that a fresh one builds on."""
        base = self._bases.get(job.key) if builds(dict(encoded.settings)) else None
        return base.number if base else None

    def note_offered(self, offer: LayerOffer, payload: bytes) -> None:
        """If it is a bounded layer's encoding, the exact one may build on it."""
        if offer.key.quality is Quality.BOUNDED:
            self._bases[exact_key(offer.key)] = Base(
                offer.number, payload, offer.codec, offer.settings
            )

    def note_useless(self, key: LayerKey) -> None:
        """Nothing can, or need, build on the bounded layer of these voxels any more."""
        self._bases.pop(exact_key(key), None)

    def note_failed(self, key: LayerKey, codec: str) -> None:
        """A layer did not prove right at the receiver.

        Raises:
            IntegrityError: every form has been tried.
        """
        failed = self._failed.setdefault(key, [])
        if len(failed) == MAX_FORMS - 1:
            raise IntegrityError(f"{key} does not prove right at the receiver, coded plainly")
        failed.append(codec)

    def has_failed(self, key: LayerKey) -> bool:
        """Whether a layer did not prove right before."""
        return key in self._failed

    def _exact_codec(self, key: LayerKey, scheduled: str) -> str:
        failed = self._failed.get(key, [])
        if not failed:
            return scheduled
        if len(failed) > 1:
            return PLAIN_CODEC
        return SECOND_CODEC if failed[0] != SECOND_CODEC else AFTER_SECOND_CODEC
