"""The trained networks, run by ONNX Runtime.

Chosen by measurement (docs/model_card.md): importing ONNX Runtime takes 0.06 s where torch takes
1.3 s, and it runs the network three times as fast as numpy can. The graph that ships holds no
weights; it is fed those of the safetensors file, so that there is one copy of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from sender.segment.unet.sight import LOWEST
from sender.segment.unet.weights import GRAPH, MEMBERS, parse_safetensors, read_pinned
from shared.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MULTIPLE = 16
"""Sides of what the network takes are multiples of this: it halves four times."""
_SIDES = 2
"""The axis from one side of the head to the other."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a network is shown the scan."""

    mirrored: tuple[int, ...]
    """Axes (z, y, x) along which the scan itself is turned around."""
    beside: bool
    """Whether its mirror image is shown beside it."""


BESIDE, ALONE = Way((), beside=True), Way((_SIDES,), beside=False)


def why_not() -> SettingsError | None:
    """What is missing to run a network here."""
    if find_spec("onnxruntime") is not None:
        return None
    return SettingsError(
        "--roi unet needs ONNX Runtime, which is not installed: pip install 'medroi[unet]'"
    )


class Network:
    """Loaded networks of one graph, which answer together. May be used by several threads at once.

    The scan's mirror image is shown beside it (`train.network.UNet`), about the middle of the crop.
    """

    def __init__(self, graph: bytes, *members: dict[str, NDArray[np.float32]]) -> None:
        self._loaded = [_load(graph, weights) for weights in members]

    @classmethod
    def shipped(cls) -> Network:
        """The networks that come with medroi.

        Raises:
            InputError: their files are damaged.
            SettingsError: ONNX Runtime is not installed.
        """
        if (error := why_not()) is not None:
            raise error
        return cls(read_pinned(GRAPH), *(parse_safetensors(read_pinned(each)) for each in MEMBERS))

    def __len__(self) -> int:
        """How many there are."""
        return len(self._loaded)

    def chances(
        self,
        brightness: NDArray[np.float32],
        mirrored: tuple[int, ...] = (),
        member: int = 0,
        *,
        beside: bool = True,
    ) -> NDArray[np.float32]:
        """How likely each voxel is lesion, 0 to 1: (z, y, x), a new array.

        Args:
            brightness: (z, y, x), on the scale of `sender.segment.unet.sight`.
            mirrored: axes along which the scan is shown mirrored.
            member: which of the networks looks.
            beside: whether it sees the mirror image too.
        """
        shown = np.flip(brightness, mirrored)
        other = np.flip(shown, _SIDES) if beside else np.full_like(shown, LOWEST)
        pair = np.stack((shown, other))
        padding = [(0, 0), *((0, -length % _MULTIPLE) for length in shown.shape)]
        padded = np.pad(pair, padding, constant_values=LOWEST)
        (logit,) = self._loaded[member].session.run(None, {"brightness": padded[np.newaxis]})
        inside = tuple(slice(0, length) for length in brightness.shape)
        found = np.flip(logit[0, 0][inside], mirrored)
        return np.ascontiguousarray(1 / (1 + np.exp(-np.clip(found, -30, 30))), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Loaded:
    session: Any
    weights: list[Any]
    """Kept: the session reads them where they are."""


def _load(graph: bytes, weights: dict[str, NDArray[np.float32]]) -> _Loaded:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Threads that spin while they wait would take the cores from the encoders.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    kept = [onnxruntime.OrtValue.ortvalue_from_numpy(each) for each in weights.values()]
    options.add_external_initializers(list(weights), kept)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return _Loaded(session, kept)
