"""The small runs of paper E. torch is an extra of its own: without it these are skipped by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install '.[train]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[train]'")

from sender.segment.train import score, storage
from sender.segment.train.effect import EXACT_DB
from sender.segment.train.scans import SCANS, Kind, Scan
from sender.segment.train.storage import Runs, few_shot, trained_on_compressed
from tests.sender.segment.unet.test_segmenter import head_with_a_lesion

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from shared.volume import Volume

FLAIRS = [scan for scan in SCANS if scan.kind is Kind.FLAIR][:4]


def head(scan: Scan, data: Path) -> tuple[Volume, NDArray[np.bool_]]:
    return head_with_a_lesion()


def test_runs_learn_at_each_ratio_go_on_and_few_raw_ones_take_no_more_than_all_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (storage, score):
        monkeypatch.setattr(module, "read_scan", head)
    monkeypatch.setattr(storage, "_learnt", lambda: FLAIRS)
    runs = Runs(tmp_path, tmp_path / "runs", 2)
    rows, networks = trained_on_compressed(FLAIRS[:1], runs, (1, 8))
    assert [row.setting for row in rows] == ["trained at 1", "trained at 8"]
    assert rows[0].psnr_db == EXACT_DB
    assert 20 < rows[1].psnr_db < 100
    assert networks[8].size_bytes < networks[1].size_bytes
    few = few_shot(FLAIRS[:1], runs, 8, networks[8])
    raw, full = (row.setting for row in few)
    assert int(raw.split()[0]) * networks[1].size_bytes / 4 <= networks[8].size_bytes * 1.01
    assert full == "4 subjects at 8"
    again, _ = trained_on_compressed(FLAIRS[:1], runs, (8,))  # from its checkpoint
    assert again == rows[1:]
