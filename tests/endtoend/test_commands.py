"""Both commands as real processes over real sockets, with scans that come with our libraries."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from shared.layer import Quality
from tests.commands import Receiver, command, environment, send

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SCAN = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
PICK = ("--volume", "1", "--roi", "box:9:15,34:56,70:96")


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path / "clinic") as made:
        yield made


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Receiver]:
    """A receiver that goes on after one study."""
    with Receiver(tmp_path / "clinic", ("--pictures",)) as made:
        yield made


def _stored(receiver: Receiver, pattern: str = "*/series-1.nii") -> Path:
    (path,) = receiver.out.glob(pattern)
    return path


def _image(path: Path) -> Any:
    return nibabel.load(path)


def _voxels(path: Path) -> NDArray[Any]:
    """Stored values, (x, y, z)."""
    return np.asarray(_image(path).dataobj.get_unscaled())


def _save(voxels: NDArray[Any], path: Path) -> Path:
    kind: Any = nibabel.Nifti1Image
    nibabel.save(kind(voxels, np.eye(4)), path)
    return path


def _large(path: Path) -> Path:
    """The scan eight times as large, no two slices the same: layers enough to be interrupted in."""
    small = _voxels(SCAN)[..., 0]
    grown = small.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    noise = np.random.default_rng(0).integers(-3, 4, grown.shape, dtype=np.int16)
    return _save((grown + noise).astype(np.int16), path)


def _one_volume(path: Path, number: int) -> Path:
    """A 3-D file of one volume of the scan."""
    nibabel.save(_image(SCAN).slicer[..., number], path)
    return path


def test_a_study_arrives_exact_and_both_ends_say_so(receiver: Receiver, tmp_path: Path) -> None:
    sent = send(receiver.url, SCAN, *PICK, folder=tmp_path)
    assert sent.code == 0, sent.stderr
    assert receiver.wait() == 0
    received = receiver.report()
    for report in (sent.report, received):
        assert report["version"] == 1
        assert report["exact"] is True
        assert report["shape"] == [24, 96, 128]
        assert report["dtype"] == "int16"
        assert report["roi"]["boxes"] == [[[9, 15], [34, 56], [70, 96]]]
        assert report["roi"]["voxels"] == 6 * 22 * 26
        times = report["times_s"]
        assert times["connected"] <= times["roi_preview"] <= times["roi_exact"]
        assert times["roi_exact"] <= times["whole_exact"]
        assert times["whole_preview"] <= times["whole_exact"]
        assert report["bytes"]["total"] <= report["bytes"]["wire"]
        assert report["codecs"]["roi_exact"] == "jpegls"
    assert sent.report["study"] == received["study"]
    assert sent.report["sha256"] == received["sha256"]
    assert sent.report["psnr_db"]["roi_preview"] >= 37
    source = _voxels(SCAN)[..., 1]
    assert np.array_equal(_voxels(_stored(receiver)), source)
    assert np.array_equal(_image(_stored(receiver)).affine, _image(SCAN).affine)


def test_our_own_exact_coder_carries_a_study(receiver: Receiver, tmp_path: Path) -> None:
    sent = send(receiver.url, SCAN, *PICK, "--exact-codec", "causal3d", folder=tmp_path)
    assert sent.code == 0, sent.stderr
    assert receiver.wait() == 0
    assert sent.report["exact"] is True
    assert sent.report["codecs"]["roi_exact"] == "causal3d"
    assert receiver.report()["sha256"] == sent.report["sha256"]


def test_a_3d_file_comes_back_byte_for_byte(receiver: Receiver, tmp_path: Path) -> None:
    source = _one_volume(tmp_path / "source.nii.gz", 0)
    assert send(receiver.url, source, folder=tmp_path).code == 0
    assert _stored(receiver).read_bytes() == gzip.decompress(source.read_bytes())


def test_a_dicom_series_keeps_its_headers(receiver: Receiver, tmp_path: Path) -> None:
    source = Path(str(get_testdata_file("CT_small.dcm")))
    assert send(receiver.url, source, folder=tmp_path).code == 0
    pixels = dcmread(source).pixel_array
    assert np.array_equal(_voxels(_stored(receiver))[..., 0].T, pixels)
    with ZipFile(_stored(receiver, "*/series-1.dicom-headers.zip")).open("0001.dcm") as file:
        kept = dcmread(file, force=True)
    assert kept.PatientName == dcmread(source).PatientName
    assert "PixelData" not in kept


def test_two_series_cross_in_one_session_the_one_with_the_roi_first(
    receiver: Receiver, tmp_path: Path
) -> None:
    other = _save(np.arange(64, dtype=np.uint8).reshape(4, 4, 4), tmp_path / "other.nii")
    study = _one_volume(tmp_path / "study.nii", 1)
    sent = send(receiver.url, other, study, "--roi", PICK[3], folder=tmp_path)
    assert sent.code == 0, sent.stderr
    assert [series["label"] for series in sent.report["series"]] == ["study", "other"]
    assert [bool(series["roi"]["boxes"]) for series in sent.report["series"]] == [True, False]
    assert receiver.report()["exact"] is True
    assert len(list(receiver.out.glob("*/series-*.nii"))) == 2


def test_discarded_background_is_named_everywhere(receiver: Receiver, tmp_path: Path) -> None:
    sent = send(receiver.url, SCAN, "--volume", "0", "--background", "discard", folder=tmp_path)
    assert sent.code == 0, sent.stderr
    assert sent.report["exact"] is False
    discarded = sent.report["series"][0]["discarded_voxels"]
    assert discarded > 0
    quality = _voxels(_stored(receiver, "*/*.partial.quality.nii"))
    values, counts = np.unique(quality, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {
        Quality.DISCARDED: discarded,
        Quality.VERIFIED: quality.size - discarded,
    }
    partial = _voxels(_stored(receiver, "*/*.partial.nii"))
    source = _voxels(SCAN)[..., 0]
    kept = quality == Quality.VERIFIED
    assert np.array_equal(partial[kept], source[kept])
    assert np.all(partial[~kept] == np.iinfo(np.int16).min)


def test_what_is_refused_sends_nothing(receiver: Receiver, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(SCAN.read_bytes()[:50_000])
    colour = str(get_testdata_file("examples_rgb_color.dcm"))
    for study in (broken, colour, tmp_path / "nowhere", SCAN):
        sent = send(receiver.url, study, folder=tmp_path)
        assert sent.code == 3, sent.stderr
        (sentence,) = [line for line in sent.stderr.splitlines() if "medroi-send:" in line]
        assert "Traceback" not in sent.stderr
        assert str(study) in sentence
    assert list(receiver.out.iterdir()) == []
    assert send(receiver.url, SCAN, *PICK, folder=tmp_path).code == 0, "it still waits for a study"


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--to", "ws://192.0.2.1:8765"], 2),
        (["--to", "http://127.0.0.1:1"], 2),
        (["--to", "ws://127.0.0.1:1", "--give-up", "0.1"], 5),
        (["--to", "ws://127.0.0.1:1", "--link", "rate=fast"], 2),
        (["--to", "ws://127.0.0.1:1", "--exact-codec", "hevc"], 2),
        (["--to", "ws://127.0.0.1:1", "--roi", "guess"], 2),
        (["--to", "ws://127.0.0.1:1", "--roi", "box:0:99,0:1,0:1"], 2),
        ([], 2),
    ],
)
def test_a_wrong_flag_or_address_has_its_exit_code(flags: list[str], code: int) -> None:
    done = subprocess.run(
        command("sender.cli", SCAN, "--volume", "0", *flags),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=30,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("medroi-send: ")
    assert "Traceback" not in done.stderr


def test_beyond_loopback_nobody_listens(tmp_path: Path) -> None:
    done = subprocess.run(
        command("receiver.cli", "--listen", "0.0.0.0:0", "--out", tmp_path / "out"),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "plaintext does not go further" in done.stderr


def test_a_dry_run_prints_the_plan_and_sends_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        command("sender.cli", SCAN, *PICK, "--dry-run", "--link", "vsat-384k"),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for stage in ("roi_preview", "roi_exact", "whole_preview", "tissue_exact", "total"):
        assert stage in done.stdout
    assert list(tmp_path.iterdir()) == []


ROI = ("--roi", "box:18:30,68:112,140:192")
SLOW = ("--link", "rate=4M,rtt=60ms")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_sender_that_is_stopped_goes_on_where_it_was(
    patient: Receiver, tmp_path: Path, how: signal.Signals
) -> None:
    study = _large(tmp_path / "study.nii")
    sending = subprocess.Popen(
        command("sender.cli", study, *ROI, *SLOW, "--to", patient.url),
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    _until_half(patient)
    sending.send_signal(how)
    assert sending.wait(20) == (-how if how is signal.SIGKILL else 5)
    _until(lambda: any("sender" in line for line in patient.lines))
    assert list(patient.out.glob("*/series-1.nii")) == []
    _goes_on(patient, study, tmp_path)


def test_a_receiver_that_is_killed_keeps_what_was_proven(tmp_path: Path) -> None:
    study = _large(tmp_path / "study.nii")
    with Receiver(tmp_path / "clinic", ()) as first:
        assert first.process is not None
        sending = subprocess.Popen(
            command("sender.cli", study, *ROI, *SLOW, "--to", first.url, "--give-up", "3"),
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        _until_half(first)
        os.kill(first.process.pid, signal.SIGKILL)
        _, said = sending.communicate(timeout=30)
        assert sending.returncode == 5, said
        assert "Traceback" not in said
    with Receiver(tmp_path / "clinic") as second:
        _goes_on(second, study, tmp_path)


def _until_half(receiver: Receiver) -> None:
    """Until about half of the study is proven."""

    def journalled() -> int:
        return sum(len(path.read_bytes().splitlines()) for path in receiver.out.glob("*/*.journal"))

    _until(lambda: journalled() >= 6)


def _goes_on(receiver: Receiver, study: Path, folder: Path) -> None:
    """Send it again: what was stored is not sent, and all of it is exact in the end."""
    again = send(receiver.url, study, *ROI, folder=folder)
    assert again.code == 0, again.stderr
    with Receiver(folder / "elsewhere") as fresh:
        afresh = send(fresh.url, study, *ROI, folder=folder)
    assert 0 < again.report["bytes"]["wire"] < 0.8 * afresh.report["bytes"]["wire"]
    assert _stored(receiver).read_bytes() == study.read_bytes()


def test_pictures_show_each_stage(patient: Receiver, tmp_path: Path) -> None:
    from PIL import Image

    assert send(patient.url, SCAN, *PICK, "--link", "rate=2M,rtt=40ms", folder=tmp_path).code == 0
    _until(lambda: len(list(patient.out.glob("*/*.png"))) == 4)
    for path in patient.out.glob("*/*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 200


def test_the_demo_leaves_what_it_promises(tmp_path: Path) -> None:
    from tests import demo

    assert demo.main(["--out", str(tmp_path), "--link", "rate=8M,rtt=20ms"]) == 0
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"send.json", "recv.json", "timeline.png", "study/series-1.nii"} <= left
    assert len([name for name in left if name.startswith("pictures/")]) == 4


def _until(holds: object, seconds: float = 30.0) -> None:
    """Wait for something another process does."""
    assert callable(holds)
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
