"""What ships: the averaged weights as safetensors (float16), and the graph that takes them.

The graph is written node by node, so that it is the same bytes on every machine and needs no
tracing; it names the weights and holds none (ONNX external data, given at run time).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save

from sender.segment.train.network import LOOKS, SLOPE, WIDTHS
from sender.segment.unet.weights import GRAPH, MEMBERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sender.segment.train.network import UNet

_OPSET, _IR = 17, 8
_EPSILON = 1e-5
"""torch's, in instance norms."""


def export(networks: Sequence[UNet], folder: Path) -> dict[str, str]:
    """Write the graph and the weights of each network; their SHA-256, by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    for member, network in zip(MEMBERS, networks, strict=False):
        tensors = {
            name: np.ascontiguousarray(tensor.numpy().astype(np.float16))
            for name, tensor in sorted(network.state_dict().items())
            if not name.startswith("helpers.")
        }
        files[member.name] = save(tensors)
        files[GRAPH.name] = graph_of({name: tensor.shape for name, tensor in tensors.items()})
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def graph_of(shapes: dict[str, tuple[int, ...]]) -> bytes:
    """The network of `sender.segment.train.network.UNet` as an ONNX model without its weights."""
    writer = _Writer(shapes)
    found, kept = writer.conv("stem", "brightness", side=2, step=2, bias=True), []
    for level in range(len(WIDTHS)):
        if level:
            found = writer.node("MaxPool", [found], kernel_shape=[2] * 3, strides=[2] * 3)
        found = writer.block(f"down.{level}", found)
        kept.append(found)
    for level, beside in enumerate(kept[-2::-1]):
        above = writer.node(
            "Resize", [found, "", "scales"], mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip
        joined = writer.node("Concat", [above, beside], axis=1)
        found = writer.block(f"up.{level}", joined)
    fine = writer.conv("finer", found, side=2, step=2, bias=True, kind="ConvTranspose")
    fine = writer.node("Concat", [fine, "brightness"], axis=1)
    fine = writer.node("LeakyRelu", [writer.conv("outline", fine, side=3, bias=True)], alpha=SLOPE)
    writer.conv("out", fine, side=1, bias=True, result="logit")
    sides = ["z", "y", "x"]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, *sides])
        for name, channels in (("brightness", LOOKS), ("logit", 1))
    ]
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [5], [1.0, 1.0, 2.0, 2.0, 2.0])
    graph = helper.make_graph(
        writer.nodes, "medroi-unet", ends[:1], ends[1:], [scales, *writer.weights]
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR
    )
    return bytes(model.SerializeToString(deterministic=True))


class _Writer:
    """Nodes and named weights, as they are added."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._shapes = shapes

    def node(self, kind: str, takes: list[str], result: str = "", **how: object) -> str:
        """Add a node; the name of what it gives."""
        gives = result or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, takes, [gives], **how))
        return gives

    def block(self, name: str, takes: str) -> str:
        """`network.Block`."""
        x = self._norm(f"{name}.first_norm", self.conv(f"{name}.first", takes, side=3))
        x = self.node("LeakyRelu", [x], alpha=SLOPE)
        x = self._norm(f"{name}.second_norm", self.conv(f"{name}.second", x, side=3))
        around = self.conv(f"{name}.around", takes, side=1, bias=True)
        return self.node("LeakyRelu", [self.node("Add", [x, around])], alpha=SLOPE)

    def conv(
        self,
        name: str,
        takes: str,
        *,
        side: int,
        step: int = 1,
        bias: bool = False,
        result: str = "",
        kind: str = "Conv",
    ) -> str:
        """A convolution that keeps the size, or goes down, or up, by a step."""
        inputs = [takes, self._weight(f"{name}.weight")]
        if bias:
            inputs.append(self._weight(f"{name}.bias"))
        pads = [side // 2 if step == 1 else 0] * 6
        return self.node(
            kind, inputs, result, kernel_shape=[side] * 3, strides=[step] * 3, pads=pads
        )

    def _norm(self, name: str, takes: str) -> str:
        inputs = [takes, self._weight(f"{name}.weight"), self._weight(f"{name}.bias")]
        return self.node("InstanceNormalization", inputs, epsilon=_EPSILON)

    def _weight(self, name: str) -> str:
        weight = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT)
        weight.dims.extend(self._shapes[name])
        weight.data_location = TensorProto.EXTERNAL
        place = weight.external_data.add()
        # No file is read by this name: weights are given at run time, those of any member.
        place.key, place.value = "location", "unet.safetensors"
        self.weights.append(weight)
        return name
