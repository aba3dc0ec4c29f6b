"""The stored tables, read and proven: both ends must count with the very same numbers."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Table = NDArray[np.int32]

FILE = Path(__file__).resolve().parent / "tables.bin"
SHA256 = "68de4005ae322d904c0347e35a42d84343a8d8d9a702f70c7e574335999aa146"


@cache
def load_table() -> Table:
    """All tables, one behind the other in the order of `LENGTHS`.

    Raises:
        CodecError: the file is not the one that this version was made with.
    """
    content = FILE.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise CodecError("causal3d: the stored tables are damaged; install medroi again")
    return np.frombuffer(content, "<i4").astype(np.int32)
