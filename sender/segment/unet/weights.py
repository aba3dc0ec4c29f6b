"""The shipped weights: safetensors, read without torch, and only if they are the ones we shipped.

    header length (uint64) | header (JSON: name -> dtype, shape, offsets) | the numbers

Weights are float16 in the file and float32 in memory. The format is
https://github.com/huggingface/safetensors#format; the digest below is checked before anything in
the file is looked at, so that a torn download never decides what is a lesion.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "shipped"
WEIGHTS, GRAPH = FOLDER / "unet.safetensors", FOLDER / "unet.onnx"
SHA256 = {
    WEIGHTS.name: "63420009a205c8f2ea5ea18b6935326f306be70ca5acfea41e9d3721e2ba0678",
    GRAPH.name: "5cef95994dc6d85220ae4193c001fb023cfa6a211fe3b491cfee08497b01b2af",
}
"""Of the files in `FOLDER`; `sender.segment.train` prints them."""


def read_pinned(path: Path) -> bytes:
    """A shipped file.

    Raises:
        InputError: it is missing, or not the one that was shipped.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"the network cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != SHA256[path.name]:
        raise InputError(path, "not the network that came with medroi: its SHA-256 is another")
    return content


def parse_safetensors(content: bytes) -> dict[str, NDArray[np.float32]]:
    """The tensors of a file, by name.

    Raises:
        ValueError: the file is damaged.
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    numbers = memoryview(content)[8 + size :]
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F16":
            raise ValueError(f"{name} is {entry['dtype']}; float16 expected")
        start, stop = entry["data_offsets"]
        halves = np.frombuffer(numbers[start:stop], dtype="<f2")
        found[name] = halves.astype(np.float32).reshape(entry["shape"])
    return found
