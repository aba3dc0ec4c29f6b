from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender.segment.unet import weights
from sender.segment.unet.network import Network
from sender.segment.unet.weights import GRAPH, MEMBERS, parse_safetensors, read_pinned
from shared.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_shipped_files_are_the_pinned_ones_and_a_few_megabytes() -> None:
    assert 1 << 20 < sum(len(read_pinned(each)) for each in MEMBERS) < 12 << 20
    assert len(read_pinned(GRAPH)) < 64 << 10


def test_a_file_that_is_torn_or_gone_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = tmp_path / MEMBERS[1].name
    torn.write_bytes(MEMBERS[1].read_bytes()[:-1])
    with pytest.raises(InputError, match="SHA-256"):
        read_pinned(torn)
    with pytest.raises(InputError, match="cannot be read"):
        read_pinned(tmp_path / GRAPH.name)
    monkeypatch.setattr("sender.segment.unet.network.MEMBERS", (MEMBERS[0], torn))
    with pytest.raises(InputError, match="SHA-256"):
        Network.shipped()


def test_weights_are_finite_and_named_as_the_graph_names_them() -> None:
    graph = read_pinned(GRAPH)
    for member in MEMBERS:
        found = parse_safetensors(read_pinned(member))
        assert all(np.isfinite(each).all() for each in found.values())
        assert all(name.encode() in graph for name in found)
        assert found["stem.weight"].shape == (24, 2, 2, 2, 2)


def test_only_float16_is_read() -> None:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    with pytest.raises(ValueError, match="float16"):
        parse_safetensors(len(header).to_bytes(8, "little") + header + bytes(4))
    assert weights.SHA256.keys() == {GRAPH.name, *(each.name for each in MEMBERS)}
