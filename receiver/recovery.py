"""What an earlier session has left of a series is believed as far as its digests still prove it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from receiver.journal import read_entries, write_entries
from receiver.previews import begin_previews
from shared.geometry import Box
from shared.layer import Quality
from shared.ownership import owned_mask
from shared.volume import region_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.files import SeriesFiles
    from receiver.journal import JournalEntry
    from shared.geometry import Triple


def recover(
    files: SeriesFiles, shape: Triple, previews: list[tuple[Box, float]]
) -> tuple[bytes, ...]:
    """Look at the files of a series that broke off, and put away what nothing proves. Blocking.

    Args:
        shape: of the series, (z, y, x).
        previews: (box, largest error) of what was shown without proof, if that can be believed.

    Returns:
        The digests of the layers that are right. A layer that brings nothing beside those before it
        is dropped: who compares digests has to know how many places have one.
    """
    files.previews.unlink(missing_ok=True)
    if previews:
        begin_previews(files.previews, previews)
    for known in files.quality:
        shown = (known == Quality.PREVIEW) | (known == Quality.BOUNDED)
        known[~shown if previews else ...] = Quality.MISSING
    good = [entry for entry in _possible(files, Box.whole(shape)) if _proves(files, entry)]
    files.clear()
    write_entries(files.journal, good)
    return tuple(entry.digest for entry in good)


def _possible(files: SeriesFiles, whole: Box) -> Iterator[JournalEntry]:
    """The journal, up to the first entry that cannot be of this series."""
    for entry in read_entries(files.journal):
        boxes = (hole if isinstance(hole, Box) else hole.box for hole in entry.holes)
        if not entry.box.inside(whole) or not all(box.inside(entry.box) for box in boxes):
            return
        yield entry


def _proves(files: SeriesFiles, entry: JournalEntry) -> bool:
    """Whether a layer's voxels are right, and some of them were not known to be; now they are."""
    owned = owned_mask(entry.box, entry.holes)
    chosen = slice(None) if owned is None else owned
    quality = files.quality[entry.box.slices]
    found = np.ascontiguousarray(files.voxels[entry.box.slices])
    new = (quality[chosen] != Quality.VERIFIED).any()
    if not new or region_digest(found, owned) != entry.digest:
        return False
    quality[chosen] = Quality.VERIFIED
    return True
