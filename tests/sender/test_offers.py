from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from protocol.checks import check_offer
from protocol.chunks import chunk_digests
from protocol.limits import CHUNK_BYTES
from protocol.messages import HEADERS_REGION
from sender.encode import Encoded, cut_out, encode_bytes, encode_exact, encode_lossy, is_exact
from sender.offers import layer_offer, piece_offer
from sender.settings import SendSettings
from shared.fidelity import Fidelity
from shared.geometry import Box
from shared.layer import LayerKey, Quality
from tests.sender.studies import brain, jobs_of, series_of

if TYPE_CHECKING:
    from sender.layering import LayerJob
    from sender.prepare import Series


def encoded_of(series: Series, job: LayerJob) -> Encoded:
    voxels, entry = series.volume.voxels, series.entry
    if not is_exact(job):
        target = SendSettings().preview_target(job.stage.kind)
        return encode_lossy(cut_out(voxels, job), entry, "hevc", target, 28)
    return encode_exact(cut_out(voxels, job), entry.samples, "jpegxl", 3)


def test_every_offer_of_a_plan_is_one_that_a_receiver_takes() -> None:
    series = series_of(brain(), [Box((2, 5, 6), (5, 15, 20))], Box((1, 2, 3), (7, 20, 28)))
    for number, job in enumerate(jobs_of(series)):
        encoded = encoded_of(series, job)
        offer = layer_offer(number, job, encoded)
        check_offer(offer, series.plan, series.entry.header)
        assert (offer.number, offer.key, offer.box) == (number, job.key, job.box)
        assert offer.size_bytes == len(encoded.payload)
        assert offer.max_error == encoded.fidelity.max_error
        assert (offer.codec, offer.settings) == (encoded.codec, encoded.settings)


def test_a_piece_of_headers_owns_no_voxel() -> None:
    series = series_of(brain())
    content = b"extension" * 500
    encoded = encode_bytes(content)
    key = LayerKey(0, HEADERS_REGION, Quality.EXACT, 0)
    offer = piece_offer(7, key, encoded, len(content))
    check_offer(offer, series.plan, series.entry.header)
    assert (offer.box, offer.owned_voxels) == (None, 0)
    assert offer.decoded_bytes == len(content)


@pytest.mark.parametrize("chunks", [1, 3])
def test_every_chunk_has_its_digest(chunks: int) -> None:
    (job,) = jobs_of(series_of(brain()), "tissue_exact")
    payload = bytes(CHUNK_BYTES * (chunks - 1) + 1)
    encoded = Encoded(payload, "zstd", (), job.box.voxels, bytes(32), Fidelity())
    offer = layer_offer(0, job, encoded)
    assert offer.chunk_digests == chunk_digests(payload)
    assert len(offer.chunk_digests) == 32 * chunks
