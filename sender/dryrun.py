"""``--dry-run``: the plan with its bytes and, over a named link, the times to expect.

Nothing is sent, but everything is encoded: the bytes are those of a link that leaves time for it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from protocol.frames import FRAGMENT_OVERHEAD_BYTES
from protocol.stages import STAGES
from sender.encode import cut_out, encode_bytes, encode_exact, encode_lossy
from sender.prepare import prepare_study
from sender.preview import FIRST_CRF
from sender.settings import AUTO
from shared.errors import ExitCode
from shared.layer import Quality, RegionKind
from shared.line import Line
from shared.line_stream import LineStream
from shared.link import parse_link
from shared.report import dtype_name

if TYPE_CHECKING:
    from sender.encode import Encoded
    from sender.layering import LayerJob
    from sender.prepare import Series
    from sender.settings import SendSettings
    from sender.transfer import Transfer

_AUTO_CODEC = "jpegxl"
"""What most layers of a thin link come to be coded by."""
_EFFORT = 7
_FRAGMENT_BYTES = 4 << 10
_GREETING_RTTS = 3.0
"""TCP, the WebSocket's upgrade and the hellos; the manifest and the first layer leave then."""


def dry_run(transfer: Transfer) -> ExitCode:
    """Print the plan of a transfer as a table.

    Raises:
        MedroiError: the study is refused, or a setting is wrong.
    """
    link = parse_link(transfer.link) if transfer.link else None
    study = prepare_study(
        transfer.paths, transfer.settings, series=transfer.series, volume=transfer.volume
    )
    stream = LineStream(Line(link, seed=0)) if link else None
    leaves_s = _GREETING_RTTS * link.rtt_s if link else 0.0
    after = "         -"
    print(f"{'series':>6}  {'stage':<16} {'codec':<8} {'layers':>6} {'bytes':>12}  here after")
    total = 0
    for number, series in enumerate(study.series):
        _print_head(series)
        for stage, (codec, layers, size) in _cost(series, transfer.settings).items():
            total += size
            if stream is not None:
                fragments = -(-size // _FRAGMENT_BYTES)
                # All of it waits in the queue from the start: the link is never idle in between.
                arrives_s = stream.deliver(leaves_s, size + fragments * FRAGMENT_OVERHEAD_BYTES)
                after = f"{arrives_s:8.2f} s"
            print(f"{number + 1:>6}  {stage:<16} {codec:<8} {layers:>6} {size:>12,}  {after}")
    print(f"{'':>6}  {'total':<16} {'':<8} {'':>6} {total:>12,}")
    for sentence in study.left_out:
        print(f"left out: {sentence}")
    print(f"link: {link}" if link else "name a --link to see times")
    return ExitCode.OK


def _print_head(series: Series) -> None:
    header = series.entry.header
    z, y, x = header.shape
    shape = f"{x} x {y} x {z} {dtype_name(header.dtype)}"
    print(f"{header.label}: {shape}; ROI: {series.segmentation.reason}")
    for region in series.plan.regions:
        if region.kind is RegionKind.ROI:
            print(f"  {region.name} {region.box} {region.label}")
    for remark in header.remarks:
        print(f"  note: {remark}")


def _cost(series: Series, settings: SendSettings) -> dict[str, tuple[str, int, int]]:
    """Codec, layers and bytes of each stage, in the plan's order."""
    cost: dict[str, list[Encoded]] = defaultdict(list)
    for job in sorted(series.jobs, key=lambda job: job.priority):
        if job.key.quality is Quality.BOUNDED:  # only a slow link has them, and there is none
            continue
        cost[job.stage.name].append(_encode(series, job, settings))
    if headers := series.volume.attachment():
        cost[STAGES[-1].name].append(encode_bytes(headers))
    return {
        stage: (done[-1].codec, len(done), sum(len(each.payload) for each in done))
        for stage, done in cost.items()
    }


def _encode(series: Series, job: LayerJob, settings: SendSettings) -> Encoded:
    cut, entry = cut_out(series.volume.voxels, job), series.entry
    if job.key.quality < Quality.EXACT:
        codec, target = settings.preview_codec, settings.preview_target(job.stage.kind)
        return encode_lossy(cut, entry, codec, target, FIRST_CRF)
    codec = _AUTO_CODEC if settings.exact_codec == AUTO else settings.exact_codec
    return encode_exact(cut, entry.samples, codec, _EFFORT)
