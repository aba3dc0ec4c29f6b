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
GRAPH = FOLDER / "unet.onnx"
MEMBERS = tuple(FOLDER / f"unet{number}.safetensors" for number in range(3))
"""Networks of one graph, each trained on other subjects: what one has not seen another has."""
SHA256 = {
    GRAPH.name: "b7030d53ad5d0097ea729b9f9a4ed971ac62a2e7a48c23349c7644617560d333",
    MEMBERS[0].name: "fa54ad594738e00544ff016e66798abbb94aec3bbe52758ff42510ea36ab2032",
    MEMBERS[1].name: "7d4b17b6f027ff6374cc128a7c053e1676395e96bc11f8e016ad0322401b5875",
    MEMBERS[2].name: "43690706c8598157abd5002e1db954be0f79324c1545554c373fb338acf65954",
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
