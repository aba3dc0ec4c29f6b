from __future__ import annotations

import asyncio
import random
import shutil
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import numpy as np
import pytest

from protocol import messages as m
from protocol.limits import PROTOCOL_VERSION
from receiver import compose, painting
from receiver import session as sessions
from receiver.attachment import Attachment
from receiver.decode import DecodeTask, InlineDecoder
from receiver.files import SeriesFiles
from sender.layering import cut_layers
from sender.prepare import Series
from sender.prepare import Study as SendersStudy
from sender.segment.base import Segmentation
from sender.session import SendingSession
from sender.settings import SendSettings
from shared.clock import LoopClock
from shared.codecs.base import Block
from shared.codecs.zstd import ZSTD
from shared.errors import (
    CodecError,
    ExitCode,
    InputError,
    IntegrityError,
    MedroiError,
    PeerRefused,
    RemoteProtocolError,
    TransportClosed,
)
from shared.geometry import Box
from shared.layer import Quality, Region, RegionKind
from shared.timeline import Timeline
from shared.volume import Volume
from shared.workers import InlineWorkers
from tests.receiver.studies import (
    PLAN,
    REGIONS,
    SESSION,
    WHOLE,
    Ended,
    Peer,
    Study,
    attend,
    attended,
    check_truthful,
    entry_of,
    headers_layer,
    honest,
    manifest_of,
    send_all,
    series_header,
    some_voxels,
    study,
    with_payload,
)
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from receiver.session import ReceivingSession
    from shared.transports.simulated import SimulatedTransport

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def files(ended: Ended) -> list[str]:
    folder = ended.session.folder
    return sorted(path.name for path in folder.iterdir()) if folder and folder.exists() else []


def kinds(ended: Ended) -> list[type[m.Message]]:
    return [type(message) for message in ended.peer.heard]


def error_of(ended: Ended, kind: type[MedroiError]) -> MedroiError:
    assert isinstance(ended.error, kind), ended.error
    return ended.error


# -- the way of a transfer ------------------------------------------------------------------------


def test_a_study_arrives_exact_and_each_mark_is_told_when_it_is_true(tmp_path: Path) -> None:
    sent = study()
    ended = honest(tmp_path, sent)
    assert ended.error is None
    assert ended.session.exact
    told = [
        message.mark if isinstance(message, m.StageReached) else message.verdict
        for message in ended.peer.heard
        if isinstance(message, m.StageReached | m.LayerVerdict)
    ]
    assert told == [
        m.Mark.ROI_PREVIEW,
        m.Verdict.SHOWN,
        m.Mark.ROI_EXACT,
        m.Verdict.VERIFIED,
        m.Mark.WHOLE_PREVIEW,
        m.Verdict.SHOWN,
        m.Verdict.VERIFIED,
        m.Mark.WHOLE_EXACT,
        m.Verdict.VERIFIED,
    ]
    assert ended.peer.heard[-1] == m.Done(sent.manifest.study, True)
    assert files(ended) == ["series-1.nii"]
    written = (tmp_path / sent.manifest.study.hex()[:16] / "series-1.nii").read_bytes()
    assert written == sent.entry.header.file_header + bytes(4) + sent.voxels.tobytes()


def test_several_series_arrive_side_by_side(tmp_path: Path) -> None:
    first, second = study(), study(dtype=">f4", seed=2)
    manifest = manifest_of(first.entry, second.entry)

    async def script(peer: Peer) -> None:
        await peer.begin(manifest, PLAN, replace(PLAN, series=1))
        number = 0
        for region in ("background", "roi0", "tissue"):
            for series, sent in enumerate((second, first)):
                await peer.offer(*sent.layer(number, region, series=1 - series))
                number += 1
        await peer.end(manifest)

    ended = attended(tmp_path, script)
    assert ended.session.exact
    assert files(ended) == ["series-1.nii", "series-2.nii"]
    whole = [each for each in ended.peer.heard if isinstance(each, m.StageReached)]
    assert {(each.series, each.mark) for each in whole} >= {
        (0, m.Mark.WHOLE_EXACT),
        (1, m.Mark.WHOLE_EXACT),
    }


def test_headers_and_a_discarded_background_end_in_a_receipt_that_is_not_exact(
    tmp_path: Path,
) -> None:
    plan = replace(PLAN, regions=(*REGIONS[:3], replace(REGIONS[3], discarded=True)))
    sent = study(plan=plan)
    layers = [
        sent.layer(0, "roi0"),
        sent.layer(1, "tissue"),
        headers_layer(2, b"extension"),
    ]
    ended = attended(tmp_path, lambda peer: send_all(peer, sent, layers))
    assert ended.error is None
    assert ended.session.exact is False
    assert ended.peer.heard[-1] == m.Done(sent.manifest.study, False)
    assert "series-1.partial.nii" in files(ended)
    assert "series-1.nii" not in files(ended)


def test_a_regions_plan_may_grow(tmp_path: Path) -> None:
    sent = study()

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, replace(PLAN, regions=REGIONS[:2]))
        await peer.offer(*sent.layer(0, "roi0"))
        await peer.offer(*sent.layer(1, "surroundings", Quality.PREVIEW))
        await peer.hear(m.LayerVerdict, 2)
        await peer.say(replace(PLAN, version=2))
        await peer.offer(*sent.layer(2, "tissue"))
        await peer.offer(*sent.layer(3, "background"))
        await peer.end(sent.manifest)

    assert attended(tmp_path, script).session.exact


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("evil", ["../../evil", "/etc/evil", "..", "a/b", "~", "con", "-rf"])
def test_no_name_on_disk_ever_comes_from_the_peer(tmp_path: Path, evil: str) -> None:
    out = tmp_path / "out"
    sent = study()
    header = replace(
        sent.entry.header,
        label=evil,
        modality=evil,
        remarks=(evil,),
        identity=((evil, evil), ("PatientName", evil)),
    )
    renamed = tuple(
        replace(
            region,
            name=evil + region.name,
            label=evil,
            excludes=tuple(evil + name for name in region.excludes),
        )
        for region in REGIONS
    )
    sent = Study(replace(sent.entry, header=header), sent.voxels, replace(PLAN, regions=renamed))
    layers = [
        sent.layer(number, evil + region)
        for number, region in enumerate(("roi0", "tissue", "background"))
    ]
    ended = attended(out, lambda peer: send_all(peer, sent, layers))
    assert ended.session.exact
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {
        "out",
        f"out/{sent.manifest.study.hex()[:16]}",
        f"out/{sent.manifest.study.hex()[:16]}/series-1.nii",
    }


# -- peers that do not do their part --------------------------------------------------------------


def test_a_peer_that_says_nothing_is_dropped_after_ten_seconds(tmp_path: Path) -> None:
    seen_s: list[float] = []

    async def script(peer: Peer) -> None:
        started_s = LoopClock().now_s()
        await peer.hear(m.Farewell)
        seen_s.append(LoopClock().now_s() - started_s)

    ended = attended(tmp_path, script)
    assert "hello" in str(error_of(ended, RemoteProtocolError))
    assert seen_s == [pytest.approx(10, abs=0.1)]


def test_a_peer_that_has_said_hello_may_take_its_time(tmp_path: Path) -> None:
    sent = study()

    async def script(peer: Peer) -> None:
        await peer.say(m.Hello(PROTOCOL_VERSION, m.Role.SENDER, "a slow one"))
        await asyncio.sleep(300)
        await peer.say(m.Attach(SESSION, 1, False), sent.manifest, sent.plan)
        await peer.hear(m.Accept)
        for layer in sent.layers():
            await peer.offer(*layer)
        await peer.end(sent.manifest)

    assert attended(tmp_path, script).session.exact


@pytest.mark.parametrize(
    ("farewell", "error", "code"),
    [
        (m.Farewell(m.Why.STOPPED, "stopped"), TransportClosed, ExitCode.INTERRUPTED),
        (m.Farewell(m.Why.FAULT, "nonsense"), PeerRefused, ExitCode.PEER_REFUSED),
        (m.Farewell(m.Why.INTEGRITY, "wrong"), IntegrityError, ExitCode.INTEGRITY),
    ],
)
@pytest.mark.parametrize("when", ["before hello", "after hello", "after manifest", "before end"])
def test_a_farewell_ends_the_session_with_its_reason(
    tmp_path: Path, farewell: m.Farewell, error: type[MedroiError], code: ExitCode, when: str
) -> None:
    sent = study()

    async def script(peer: Peer) -> None:
        if when == "after hello":
            await peer.say(m.Hello(PROTOCOL_VERSION, m.Role.SENDER, "x"))
        elif when == "after manifest":
            await peer.attach()
            await peer.say(sent.manifest)
        elif when == "before end":
            await peer.begin(sent.manifest, sent.plan)
            await peer.offer(*sent.layer(0, "roi0"))
        await peer.say(farewell)
        await peer.transport.close()

    raised = error_of(attended(tmp_path, script), error)
    assert farewell.reason in str(raised)
    assert raised.exit_code is code


def test_a_farewell_right_behind_the_manifest_is_heard_and_nothing_is_kept(tmp_path: Path) -> None:
    """It is read while the volumes are still being opened."""
    sent = study()

    async def script(peer: Peer) -> None:
        await peer.attach()
        await peer.say(sent.manifest, m.Farewell(m.Why.STOPPED, "never mind"))
        await peer.transport.close()

    async def slow_claim(_study: bytes) -> None:
        await asyncio.sleep(1)

    ended = attended(tmp_path, script, claim=slow_claim)
    assert "never mind" in str(error_of(ended, TransportClosed))
    assert not list(tmp_path.iterdir())


def test_a_peer_that_closes_too_early_leaves_a_study_that_can_be_resumed(tmp_path: Path) -> None:
    sent = study()

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*sent.layer(0, "roi0"))
        await peer.transport.close()

    ended = attended(tmp_path, script)
    assert error_of(ended, TransportClosed).exit_code is ExitCode.INTERRUPTED
    assert check_truthful(ended.session.volumes[0], sent.voxels) == 32
    again = honest(tmp_path, sent)
    assert again.session.exact


def test_what_arrived_whole_before_the_line_broke_is_proven_and_kept(tmp_path: Path) -> None:
    sent = study()

    class Slow(InlineDecoder):
        async def decode(self, task: DecodeTask) -> NDArray[Any]:
            await asyncio.sleep(5)
            return await super().decode(task)

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        for layer in sent.layers():
            await peer.offer(*layer)
        await asyncio.sleep(1)
        peer.transport.cut()

    ended = attended(tmp_path, script, decoder=Slow())
    error_of(ended, TransportClosed)
    assert check_truthful(ended.session.volumes[0], sent.voxels) == 480


def test_a_series_of_which_nothing_came_takes_no_room(tmp_path: Path) -> None:
    sent = study()

    async def manifest_only(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.transport.close()

    async def preview_only(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*sent.layer(0, "roi0", Quality.PREVIEW))
        await peer.hear(m.LayerVerdict)
        await peer.transport.close()

    assert files(attended(tmp_path, manifest_only)) == []
    assert not list(tmp_path.iterdir())
    assert "series-1.partial.nii" in files(attended(tmp_path, preview_only))


# -- proofs ---------------------------------------------------------------------------------------


def wrong_layer(sent: Study, number: int, region: str) -> tuple[m.LayerOffer, bytes]:
    """Voxels that decode and are not the declared ones."""
    offer, _ = sent.layer(number, region)
    assert offer.box is not None
    samples = sent.entry.samples.to_samples(np.ascontiguousarray(sent.voxels[offer.box.slices]))
    samples[...] ^= 1
    return with_payload(offer, ZSTD.encode(Block(samples, 16), {}))


def test_voxels_that_are_not_the_declared_ones_are_asked_for_once_more(tmp_path: Path) -> None:
    sent = study()

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*wrong_layer(sent, 0, "roi0"))
        assert await peer.hear(m.Want) == m.Want(0)
        await peer.offer(*sent.layer(1, "roi0"))
        await peer.offer(*sent.layer(2, "tissue"))
        await peer.offer(*sent.layer(3, "background"))
        await peer.end(sent.manifest)

    ended = attended(tmp_path, script)
    assert ended.session.exact
    assert check_truthful(ended.session.volumes[0], sent.voxels) == 480


@pytest.mark.parametrize("how", ["other voxels", "garbage"])
def test_a_layer_that_is_wrong_in_every_form_ends_the_session(tmp_path: Path, how: str) -> None:
    sent = study()

    def bad(number: int) -> tuple[m.LayerOffer, bytes]:
        if how == "garbage":
            return with_payload(sent.layer(number, "roi0")[0], b"\x00garbage" * 9)
        return wrong_layer(sent, number, "roi0")

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*sent.layer(0, "tissue"))
        await peer.offer(*bad(1))
        await peer.hear(m.Want)
        await peer.offer(*bad(2))
        await peer.hear(m.Want, 2)
        await peer.offer(*bad(3))
        assert (await peer.hear(m.Farewell)).why is m.Why.INTEGRITY

    ended = attended(tmp_path, script)
    assert ended.session.quarantine is not None
    assert ended.session.quarantine.count == 3
    assert "in whichever form" in str(error_of(ended, IntegrityError))
    assert check_truthful(ended.session.volumes[0], sent.voxels) == 160


def test_a_preview_that_does_not_decode_is_done_without(tmp_path: Path) -> None:
    sent = study()

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        offer, _ = sent.layer(0, "roi0", Quality.PREVIEW)
        await peer.offer(*with_payload(offer, b"\x01nothing"))
        verdict = await peer.hear(m.LayerVerdict)
        assert verdict == m.LayerVerdict(0, m.Verdict.FAILED)
        for number, region in enumerate(("roi0", "tissue", "background"), start=1):
            await peer.offer(*sent.layer(number, region))
        await peer.end(sent.manifest)

    assert attended(tmp_path, script).session.exact


def test_layers_that_prove_right_in_a_volume_that_does_not_end_as_an_integrity_error(
    tmp_path: Path,
) -> None:
    sent = study()
    sent = replace(sent, entry=replace(sent.entry, digest=bytes(32)))
    ended = honest(tmp_path, sent)
    assert error_of(ended, IntegrityError).exit_code is ExitCode.INTEGRITY
    assert ended.peer.heard[-1] == m.Farewell(
        m.Why.INTEGRITY, "series-1: every layer has its digest and the whole volume has not"
    )
    assert files(ended) == [
        "series-1.partial.journal",
        "series-1.partial.nii",
        "series-1.partial.previews",
        "series-1.partial.quality.nii",
    ]
    assert not (ended.session.volumes[0].files.quality == Quality.VERIFIED).any()


@pytest.mark.parametrize("left_out", ["roi0", "tissue", "background", "everything", "the plan"])
def test_an_end_before_everything_has_come_is_refused(tmp_path: Path, left_out: str) -> None:
    sent = study()

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, *(() if left_out == "the plan" else (sent.plan,)))
        regions = ("roi0", "tissue", "background") if left_out in sent.plan.regions[0].name else ()
        for number, region in enumerate(regions):
            if region != left_out:
                await peer.offer(*sent.layer(number, region))
        await peer.say(m.End(sent.manifest.study))
        await peer.hear(m.Farewell)

    ended = attended(tmp_path, script)
    assert "missing" in str(error_of(ended, RemoteProtocolError))
    assert ended.session.exact is None


def test_a_plan_of_previews_only_is_no_study(tmp_path: Path) -> None:
    plan = replace(PLAN, regions=(Region("surroundings", RegionKind.SURROUNDINGS, WHOLE),))
    sent = study(plan=plan)

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*sent.layer(0, "surroundings", Quality.PREVIEW))
        await peer.say(m.End(sent.manifest.study))
        await peer.hear(m.Farewell)

    assert "480 voxels missing" in str(error_of(attended(tmp_path, script), RemoteProtocolError))


# -- resuming -------------------------------------------------------------------------------------


def broken_off(out: Path, sent: Study, *regions: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        for number, region in enumerate(regions):
            await peer.offer(*sent.layer(number, region))
        await peer.hear(m.LayerVerdict, len(regions))
        await peer.transport.close()

    error_of(attended(out, script), TransportClosed)


def test_what_is_held_is_said_and_need_not_come(tmp_path: Path) -> None:
    sent = study()
    broken_off(tmp_path, sent, "roi0", "background")

    async def script(peer: Peer) -> None:
        accept = await peer.begin(sent.manifest, sent.plan)
        held = [sent.layer(0, region)[0].voxel_digest for region in ("roi0", "background")]
        assert list(accept.held) == held
        await peer.say(sent.layer(0, "roi0")[0])  # offered all the same, but not sent
        assert await peer.hear(m.LayerVerdict) == m.LayerVerdict(0, m.Verdict.HELD)
        await peer.offer(*sent.layer(1, "tissue"))
        await peer.end(sent.manifest)

    ended = attended(tmp_path, script)
    assert ended.session.exact
    assert files(ended) == ["series-1.nii"]


def test_a_study_that_broke_off_before_its_end_is_proven_with_nothing_sent(tmp_path: Path) -> None:
    sent = study()
    broken_off(tmp_path, sent, "roi0", "tissue", "background")

    async def script(peer: Peer) -> None:
        accept = await peer.begin(sent.manifest, sent.plan)
        assert len(accept.held) == 3
        await peer.end(sent.manifest)

    ended = attended(tmp_path, script)
    assert ended.session.exact
    assert ended.peer.heard[-1] == m.Done(sent.manifest.study, True)
    assert files(ended) == ["series-1.nii"]


def test_no_more_is_said_to_be_held_than_an_answer_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = study()
    broken_off(tmp_path, sent, "roi0", "tissue", "background")
    monkeypatch.setattr(sessions, "_MAX_HELD", 2)

    async def script(peer: Peer) -> None:
        assert len((await peer.begin(sent.manifest, sent.plan)).held) == 2
        await peer.say(sent.layer(0, "background")[0])
        assert await peer.hear(m.LayerVerdict) == m.LayerVerdict(0, m.Verdict.HELD)
        await peer.end(sent.manifest)

    assert attended(tmp_path, script).session.exact


def test_a_held_digest_claimed_for_another_box_is_not_believed(tmp_path: Path) -> None:
    sent = study()
    broken_off(tmp_path, sent, "roi0")
    held, _ = sent.layer(0, "roi0")

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        offer, payload = sent.layer(0, "tissue")
        await peer.offer(replace(offer, voxel_digest=held.voxel_digest), payload)
        assert await peer.hear(m.Want) == m.Want(0)
        await peer.say(m.End(sent.manifest.study))
        await peer.hear(m.Farewell)

    ended = attended(tmp_path, script)
    error_of(ended, RemoteProtocolError)
    assert check_truthful(ended.session.volumes[0], sent.voxels) == 32


class Patient(InlineWorkers):
    """Work takes longer than the answer to the manifest."""

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await asyncio.sleep(0.1)
        return await super().run(work, *arguments)


def as_prepared(sent: Study) -> SendersStudy:
    """What the sender makes of a study: blocks are cut by its own rule."""
    volume = Volume(sent.entry.header, sent.voxels)
    segmentation = Segmentation((), "none", "none")
    jobs = tuple(cut_layers(sent.plan))
    size = sent.voxels.size
    whole = Box.whole(_triple(sent.voxels.shape))
    series = Series(volume, sent.entry, sent.plan, segmentation, jobs, 0, size, whole)
    return SendersStudy((series,), ())


def resumed_after_the_first_block(out: Path, voxels: NDArray[Any]) -> Ended:
    """The first block comes from a peer that breaks off, the others from a real sender."""
    whole = Box.whole(_triple(voxels.shape))
    plan = replace(PLAN, regions=(Region("background", RegionKind.BACKGROUND, whole),))
    sent = Study(entry_of(series_header(whole.shape), voxels), voxels, plan)
    prepared = as_prepared(sent)

    async def broken(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*sent.layer(0, "background", box=prepared.series[0].jobs[0].box))
        await peer.hear(m.LayerVerdict)
        await peer.transport.close()

    async def resume(peer: Peer) -> None:
        clock = LoopClock()

        async def dial() -> SimulatedTransport:
            return peer.transport

        sending = SendingSession(
            dial,
            Patient(),
            clock,
            SendSettings(),
            Timeline(clock.now_s),
            random.Random(1),
            give_up_s=0.0,
        )

        async def ready() -> SendersStudy:
            return prepared

        with suppress(MedroiError):  # the receiver's error is the one to look at
            await sending.run(ready())

    error_of(attended(out, broken), TransportClosed)
    return run_virtual(attend(out, resume, listens=False), limit_s=3600)


def _triple(shape: tuple[int, ...]) -> tuple[int, int, int]:
    z, y, x = shape
    return z, y, x


def test_blocks_that_are_alike_do_not_stop_a_study_from_being_resumed(tmp_path: Path) -> None:
    """They have one digest; the one that is held must not stand for those that are not."""
    air = np.zeros((3, 1024, 1024), "<i2")
    phantom = np.tile(np.arange(1024, dtype="<i2"), (3, 1024, 1))
    for name, voxels in (("air", air), ("phantom", phantom)):
        ended = resumed_after_the_first_block(tmp_path / name, voxels)
        assert ended.error is None
        assert ended.session.exact


# -- the disk -------------------------------------------------------------------------------------


def test_a_study_the_disk_has_no_room_for_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    ended = honest(tmp_path, study())
    assert error_of(ended, InputError).exit_code is ExitCode.INPUT_REFUSED
    assert "No space left" in str(ended.error)
    refused = ended.peer.heard[-1]
    assert isinstance(refused, m.Refuse)
    assert "No space left" in refused.reason
    assert str(tmp_path) not in refused.reason
    assert not list(tmp_path.iterdir())


def test_room_for_one_series_and_not_for_the_next_leaves_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    frees = iter([1 << 40, 1 << 20])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=next(frees)))
    manifest = manifest_of(study().entry, study(seed=2).entry)

    async def script(peer: Peer) -> None:
        await peer.begin(manifest)

    error_of(attended(tmp_path, script), InputError)
    assert not list(tmp_path.iterdir())


def test_a_study_whose_folder_is_a_link_is_refused(tmp_path: Path) -> None:
    sent = study()
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / sent.manifest.study.hex()[:16]).symlink_to(elsewhere)
    error_of(honest(out, sent), InputError)
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("what", ["a layer", "headers", "the end", "the end of all"])
def test_a_disk_that_fails_in_the_middle_ends_the_session_and_not_the_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    place, name = {
        "a layer": (compose, "append_entry"),
        "headers": (Attachment, "put"),
        "the end": (SeriesFiles, "finish"),
        "the end of all": (SeriesFiles, "sync"),
    }[what]
    monkeypatch.setattr(place, name, fail)
    sent = study()
    layers = [*sent.layers(), headers_layer(5, b"x")]
    ended = attended(tmp_path, lambda peer: send_all(peer, sent, layers))
    assert error_of(ended, InputError).exit_code is ExitCode.INPUT_REFUSED
    assert ended.session.exact is None
    farewell = ended.peer.heard[-1]
    told = "its disk does not take the study: No space left on device"
    assert farewell == m.Farewell(m.Why.STOPPED, told)


# -- back-pressure and stopping -------------------------------------------------------------------


def test_a_fast_peer_waits_for_a_slow_decoder(tmp_path: Path) -> None:
    """100 encodings of a megabyte; 8 MiB may wait, however many encodings that is."""
    shape = (8, 256, 256)
    voxels = some_voxels(shape)
    plan = replace(PLAN, regions=(Region("background", RegionKind.BACKGROUND, Box.whole(shape)),))
    sent = Study(entry_of(series_header(shape), voxels), voxels, plan)
    offer, _ = sent.layer(0, "background")
    payload = b"\x00" + np.random.default_rng(1).bytes(1 << 20)
    offer, _ = with_payload(offer, payload)
    held: list[int] = []

    class Stuck(InlineDecoder):
        async def decode(self, task: DecodeTask) -> NDArray[Any]:
            await asyncio.sleep(1000)
            raise CodecError("at last")

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        for number in range(100):
            await peer.offer(replace(offer, number=number), payload)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(attend(tmp_path, script, decoder=Stuck(), started=started))
            await asyncio.sleep(500)
            held.append(started[0].visits.received_bytes)
            task.cancel()

    started: list[ReceivingSession] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(painting, "_BACKLOG_BYTES", 8 << 20)
        run_virtual(main(), limit_s=3600)
    assert 8 << 20 < held[0] < 11 << 20


def test_a_session_that_is_stopped_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    sent = study()
    said: list[Peer] = []

    async def script(peer: Peer) -> None:
        said.append(peer)
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*sent.layer(0, "roi0"))
        await asyncio.sleep(3600)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(attend(tmp_path, script))
            await asyncio.sleep(5)
            task.cancel()

    run_virtual(main())
    assert said[0].heard[-1] == m.Farewell(m.Why.STOPPED, "the receiver was stopped")
    broken = honest(tmp_path, sent)
    accept = next(each for each in broken.peer.heard if isinstance(each, m.Accept))
    assert len(accept.held) == 1
