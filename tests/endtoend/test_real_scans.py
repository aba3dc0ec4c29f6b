"""Real scans, real processes: each arrives exact or is refused in one clear sentence.

One receiver takes them all, one after the other. The scans are the development set (`scans` in
tests/conftest.py); without it this file is left out, by name.
"""

from __future__ import annotations

import gzip
import time
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from tests.commands import Receiver, send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.commands import Sent

NAMED = {
    "tumour/brats_unknown/flair.nii.gz": "mask:tumour/brats_unknown/truth.nii.gz",
    "mr/dicom/brainix_flair": "mask:mr/dicom/brainix_flair_tumour_mask.nii.gz",
    "ct/dicom/ge_head_tilt": "tissue",
    "ct/dicom/siemens_body_j2k": "tissue",
    "ct/dicom/philips_head_phantom_1mm": "box:40:60,200:300,200:300",
    "ct/totalseg/example_ct.nii.gz": "tissue:code",
    "mr/misc/abdomen_mr_small.nii.gz": "none",
    "mr/open_ms/patient19_MNI_FLAIR.nii.gz": "mask:mr/open_ms/patient19_MNI_lesionmask.nii.gz",
    "mr/ds002748/sub-01_T1w.nii.gz": "tissue",
    "xr/cr_monochrome1_j2k_lossless_RG3.dcm": "tissue",
    "xr/cr_monochrome1_jpegll_modalitylut.dcm": "tissue",
    "xr/dx_monochrome1_8bit_small.dcm": "tissue",
    "xr/mg_jpegll_12bit.dcm": "tissue",
}
"""What the main job must carry, and the ROI to ask for."""
REFUSED = (
    "GH177", "GH178", "GH340", "csa_slice_norm", "JPEGProcess10_12", "JPEGProcess6_8", "too_short",
    "liver", "nifti2", "complex64", "no-pixel-data", "no-pixel-spacing",
)  # fmt: skip
"""Parts of the names of the tricky files that are not ours to send."""


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver(tmp_path_factory.mktemp("clinic"), ()) as receiver:
        yield receiver


def _send(clinic: Receiver, scan: Path, roi: str, folder: Path) -> Sent:
    return send(clinic.url, scan, "--roi", roi, folder=folder)


def _stored(clinic: Receiver, sent: Sent) -> Path:
    study: str = sent.report["study"]
    return clinic.out / study[:16] / "series-1.nii"


def _received(clinic: Receiver, sent: Sent) -> dict[str, Any]:
    """The receiver's report of this study; it is written just after the sender has left."""
    for _ in range(100):
        if clinic.report_path.is_file():
            report = clinic.report()
            if report["study"] == sent.report["study"] and report["times_s"]["whole_exact"]:
                return report
        time.sleep(0.05)
    raise AssertionError("the receiver has left no report of the study")


@pytest.mark.parametrize("name", NAMED)
def test_a_named_scan_arrives_exact(
    name: str, scans: Path, clinic: Receiver, tmp_path: Path
) -> None:
    kind, _, mask = NAMED[name].partition("mask:")
    sent = _send(clinic, scans / name, kind or f"mask:{scans / mask}", tmp_path)
    assert sent.code == 0, sent.stderr
    assert sent.report["exact"] is True
    assert _received(clinic, sent)["sha256"] == sent.report["sha256"]
    stored = _stored(clinic, sent)
    if name.endswith(".nii.gz"):
        assert stored.read_bytes() == gzip.decompress((scans / name).read_bytes())
    else:
        image: Any = nibabel.load(stored)
        assert image.shape[::-1] == tuple(sent.report["shape"])
    stored.unlink()


def test_a_dicom_series_is_the_one_that_pydicom_reads(
    scans: Path, clinic: Receiver, tmp_path: Path
) -> None:
    """Read independently: sorted along the normal, stored values, patient coordinates."""
    folder = scans / "mr/dicom/brainix_flair"
    sent = _send(clinic, folder, "tissue", tmp_path)
    assert sent.code == 0, sent.stderr
    files = [dcmread(path) for path in folder.iterdir()]
    row, column = np.reshape(np.array(files[0].ImageOrientationPatient, float), (2, 3))
    normal = np.cross(row, column)
    files.sort(key=lambda file: float(normal @ np.array(file.ImagePositionPatient, float)))
    image: Any = nibabel.load(_stored(clinic, sent))
    voxels: NDArray[Any] = np.asarray(image.dataobj.get_unscaled())
    assert np.array_equal(voxels.T, np.stack([file.pixel_array for file in files]))
    for z in (0, len(files) - 1):
        lps = np.array(files[z].ImagePositionPatient, float)
        assert np.allclose((image.affine @ [0, 0, z, 1])[:3], lps * [-1, -1, 1], atol=1e-3)


def _tricky() -> list[str]:
    from tests.bench.table import scans as folder

    found = folder()
    if found is None:
        return []
    root = found / "tricky"
    files = [path for path in root.iterdir() if path.name != "ct_transfer_syntaxes"]
    files += (root / "ct_transfer_syntaxes").iterdir()
    return sorted(str(path.relative_to(found)) for path in files)


@pytest.mark.parametrize("name", _tricky())
def test_a_tricky_file_arrives_exact_or_is_refused_in_a_sentence(
    name: str, scans: Path, clinic: Receiver, tmp_path: Path
) -> None:
    sent = _send(clinic, scans / name, "tissue", tmp_path)
    assert "Traceback" not in sent.stderr
    if any(part in name for part in REFUSED):
        assert sent.code == 3
        sentences = [line for line in sent.stderr.splitlines() if line.startswith("medroi-send: ")]
        assert len(sentences) == 1
        assert not sent.report["exact"]
    else:
        assert sent.code == 0, sent.stderr
        assert sent.report["exact"] is True
        assert _received(clinic, sent)["sha256"] == sent.report["sha256"]


def test_a_mask_of_another_grid_is_refused(scans: Path, clinic: Receiver, tmp_path: Path) -> None:
    mask = f"mask:{scans / 'mr/dicom/brainix_flair_tumour_mask.nii.gz'}"
    sent = _send(clinic, scans / "tumour/brats_unknown/flair.nii.gz", mask, tmp_path)
    assert sent.code == 3
    assert "grid" in sent.stderr


def test_geometry_that_a_reader_must_know_is_shown(
    scans: Path, clinic: Receiver, tmp_path: Path
) -> None:
    sent = _send(clinic, scans / "ct/dicom/ge_head_tilt", "none", tmp_path)
    remarks = " ".join(sent.report["series"][0]["remarks"])
    assert "gantry tilt" in remarks
    assert "slice spacing varies" in remarks
    assert _received(clinic, sent)["series"][0]["remarks"] == sent.report["series"][0]["remarks"]
    scout = _send(
        clinic, scans / "tricky/folder_scout_plus_tilted_axials_phantom", "none", tmp_path
    )
    assert any("localizer" in sentence for sentence in scout.report["left_out"])
    assert "missing" in " ".join(scout.report["series"][0]["remarks"])
