"""Which layers the receiver has from an earlier session: they are not sent, or no further.

A digest does not say where its voxels lie, and layers may be alike: those are spared only where the
receiver has as many of them as there are.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sender.encode import exact_digests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sender.prepare import Series
    from shared.layer import LayerKey
    from shared.workers import Workers


class Held:
    """Of one session. `look` again whenever a plan has grown."""

    def __init__(self) -> None:
        self._digests: tuple[bytes, ...] = ()
        self._keys: frozenset[LayerKey] = frozenset()
        self.spared: set[int] = set()
        """Encodings of such layers that were offered before we heard of it: whatever becomes of
        what was sent of them does not matter."""

    def __contains__(self, key: LayerKey) -> bool:
        """Whether the receiver has a layer."""
        return key in self._keys

    async def hear(
        self, digests: tuple[bytes, ...], study: Sequence[Series], workers: Workers
    ) -> None:
        """The receiver has layers of these digests."""
        self._digests = digests
        await self.look(study, workers)

    async def look(self, study: Sequence[Series], workers: Workers) -> None:
        """Find them among the layers of the plans as they are now: a pass over all voxels."""
        if self._digests:
            found = await workers.run(exact_digests, tuple(study))
            there, here = Counter(self._digests), Counter(found.values())
            self._keys = frozenset(k for k in found if there[found[k]] >= here[found[k]])
