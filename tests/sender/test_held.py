from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import numpy as np

from sender.encode import layer_digest
from sender.held import Held
from shared.workers import InlineWorkers
from tests.sender.studies import brain, jobs_of, series_of

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
SERIES = series_of(brain())
(TISSUE,) = jobs_of(SERIES, "tissue_exact")
AIR = series_of(np.zeros((64, 256, 256), np.int16))


def heard(held: Held, *digests: bytes, air: bool = False) -> Held:
    series = AIR if air else SERIES
    asyncio.run(held.hear(digests, [series], InlineWorkers()))
    return held


def test_a_layer_whose_digest_the_receiver_has_is_held() -> None:
    held = heard(Held(), layer_digest(SERIES.volume.voxels, TISSUE))
    assert TISSUE.key in held
    assert all(job.key not in held for job in SERIES.jobs if job.key != TISSUE.key)


def test_a_strange_digest_holds_nothing() -> None:
    held = heard(Held(), bytes(32))
    assert all(job.key not in held for job in SERIES.jobs)


def test_layers_that_are_alike_are_held_only_where_there_are_as_many() -> None:
    exact = jobs_of(AIR, "tissue_exact")
    alike = [job for job in exact if job.box.shape == exact[0].box.shape]
    digest = layer_digest(AIR.volume.voxels, exact[0])
    count = sum(layer_digest(AIR.volume.voxels, job) == digest for job in AIR.jobs)
    assert count >= len(alike) > 1
    few, all_of_them = heard(Held(), digest, air=True), heard(Held(), *[digest] * count, air=True)
    assert all(job.key not in few for job in alike)
    assert all(job.key in all_of_them for job in alike)


def test_who_has_heard_nothing_does_not_hash_a_study() -> None:
    class Asked(InlineWorkers):
        times = 0

        async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
            self.times += 1
            return await super().run(work, *arguments)

    workers = Asked()
    asyncio.run(Held().look([SERIES], workers))
    assert workers.times == 0
