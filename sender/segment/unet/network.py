"""The trained network, run by ONNX Runtime.

Chosen by measurement (docs/model_card.md): importing ONNX Runtime takes 0.06 s where torch takes
1.3 s, and it runs the network three times as fast as numpy can. The graph that ships holds no
weights; it is fed those of the safetensors file, so that there is one copy of them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from sender.segment.unet.sight import LOWEST
from sender.segment.unet.weights import GRAPH, WEIGHTS, parse_safetensors, read_pinned
from shared.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE = 16
"""Sides of what the network takes are multiples of this: it halves four times."""
FLIPS: tuple[tuple[int, ...], ...] = ((), (2,))
"""Axes (z, y, x) along which it is shown the scan mirrored; the answers are averaged. Two
more looks change Dice by 0.002 and take 2 s of a core each."""


def why_not() -> SettingsError | None:
    """What is missing to run a network here."""
    if find_spec("onnxruntime") is not None:
        return None
    return SettingsError(
        "--roi unet needs ONNX Runtime, which is not installed: pip install 'medroi[unet]'"
    )


class Network:
    """A loaded network. May be used by several threads at once."""

    def __init__(self, graph: bytes, weights: dict[str, NDArray[np.float32]]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Threads that spin while they wait would take the cores from the encoders.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._kept = [onnxruntime.OrtValue.ortvalue_from_numpy(each) for each in weights.values()]
        options.add_external_initializers(list(weights), self._kept)
        self._session: Any = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )

    @classmethod
    def shipped(cls) -> Network:
        """The network that comes with medroi.

        Raises:
            InputError: its files are damaged.
            SettingsError: ONNX Runtime is not installed.
        """
        if (error := why_not()) is not None:
            raise error
        return cls(read_pinned(GRAPH), parse_safetensors(read_pinned(WEIGHTS)))

    def chances(
        self, brightness: NDArray[np.float32], mirrored: tuple[int, ...] = ()
    ) -> NDArray[np.float32]:
        """How likely each voxel is lesion, 0 to 1: (z, y, x), a new array.

        Args:
            mirrored: axes along which the scan is shown mirrored.
        """
        shape = brightness.shape
        padding = [(0, -length % _SIDE) for length in shape]
        padded = np.pad(brightness, padding, constant_values=LOWEST)
        shown = np.ascontiguousarray(np.flip(padded, mirrored))
        (logit,) = self._session.run(None, {"brightness": shown[np.newaxis, np.newaxis]})
        inside = tuple(slice(0, length) for length in shape)
        found = np.flip(logit[0, 0], mirrored)[inside]
        return np.ascontiguousarray(1 / (1 + np.exp(-np.clip(found, -30, 30))), dtype=np.float32)
