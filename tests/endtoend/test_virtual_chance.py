"""Troubles by chance, in virtual time: slow workers, wrong decodes, cut lines, a restless reader.

Whatever comes, a study ends exact after enough sessions, and no end ever breaks the protocol.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import numpy as np
import pytest

from protocol.messages import Focus
from receiver.decode import InlineDecoder
from sender.settings import SendSettings
from shared.errors import TransportClosed
from shared.geometry import Box
from tests.endtoend.test_virtual_transfers import is_exact
from tests.endtoend.virtual_transfer import SLOW, Ended, cut_small, send, study_in
from tests.sender.studies import brain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from receiver.decode import DecodeTask

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
LINKS = [SLOW, "rate=1M,rtt=200ms,loss=3%", "lte", "vsat-384k", "rate=64k,rtt=600ms"]
_SESSIONS = 8


@dataclass
class SlowWorkers:
    """Work that takes time, so that other things happen while it is done."""

    chance: Random
    count: int
    most_s: float

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await asyncio.sleep(self.chance.random() * self.most_s)
        done = work(*arguments)
        await asyncio.sleep(self.chance.random() * self.most_s / 3)
        return done

    async def run_patiently(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await self.run(work, *arguments)

    async def run_apart(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await self.run(work, *arguments)


class UnreliableDecoder(InlineDecoder):
    """Slow, and wrong a few times, but never about what is coded plainly."""

    def __init__(self, chance: Random, share: float) -> None:
        self._chance = chance
        self._share = share
        self._left = 3

    async def decode(self, task: DecodeTask) -> NDArray[Any]:
        await asyncio.sleep(self._chance.random() * 0.05)
        samples = await super().decode(task)
        if self._left and task.codec != "zstd" and self._chance.random() < self._share:
            self._left -= 1
            samples = samples.copy()
            samples.reshape(-1).view("u1")[0] ^= 1
        return samples


def voxels_of(chance: Random, shape: tuple[int, int, int]) -> NDArray[Any]:
    rng = np.random.default_rng(chance.randrange(1000))
    head = brain(shape, seed=chance.randrange(1000))
    return chance.choice(
        [
            head,
            rng.integers(-2000, 2000, shape).astype("<i2"),
            rng.normal(size=shape).astype(">f4"),
            np.where(head > 100, head, 0).astype("<i2"),
            np.repeat(head[:1], shape[0], axis=0),
        ]
    )


def restless(chance: Random, shape: tuple[int, int, int], *, cut: bool) -> Any:
    """A line that may break, and a reader who looks here and there."""
    cut_s = chance.random() * chance.choice([0.3, 1.0, 3.0])
    looks_s = sorted(chance.random() * 2 for _ in range(chance.choice([0, 0, 1, 3])))

    async def meanwhile(ended: Ended) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        if cut:
            ended.near.cut(began_s + cut_s)
        for at_s in looks_s:
            await asyncio.sleep(max(0.0, began_s + at_s - loop.time()))
            z, y, x = (chance.randrange(length) for length in shape)
            box = Box((z, y, x), (z + 1, y + 1, x + 1))
            if ended.receiver.exact is None and ended.receiver.manifest is not None:
                ended.receiver.focus(Focus(0, box, chance.randrange(3)))

    return meanwhile


@pytest.mark.parametrize("seed", range(25))
def test_a_study_ends_exact_whatever_chance_does_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = Random(seed)
    shape = (chance.randint(1, 14), chance.randint(1, 40), chance.randint(1, 40))
    files = {f"{at}.nii": voxels_of(chance, shape) for at in range(chance.choice([1, 1, 2]))}
    roi = chance.choice(["tissue", "none", "box:0:1,0:1,0:1", "tissue:code"])
    chosen = SendSettings(roi=roi)
    least = int(np.prod(shape)) // 40
    cut_small(monkeypatch, max(chance.choice([40, 300, 2000, 1 << 20]), least))
    study = study_in(tmp_path / "in", files, chosen)
    link = chance.choice(LINKS)
    for session in range(_SESSIONS):
        cut = session < _SESSIONS - 1 and chance.random() < 0.6
        workers = SlowWorkers(chance, chance.choice([1, 2, 3, 5]), chance.choice([0.0, 0.02, 0.3]))
        ended = send(
            study,
            tmp_path / "out",
            link,
            seed=seed,
            settings=chosen,
            decoder=UnreliableDecoder(chance, chance.choice([0.0, 0.0, 0.05])),
            meanwhile=restless(chance, shape, cut=cut),
            workers=workers,
        )
        if ended.errors == [None, None]:
            is_exact(ended, *[(tmp_path / "in" / name).read_bytes() for name in files])
            return
        assert cut
        assert {type(error) for error in ended.errors} <= {TransportClosed, type(None)}
    pytest.fail("the last session ended with a fault")
