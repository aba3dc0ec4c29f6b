from __future__ import annotations

import pytest

from sender.read.magic import has_preamble, may_be_bare


@pytest.mark.parametrize(
    ("start", "preamble", "bare"),
    [
        (bytes(128) + b"DICM", True, False),
        (bytes(128) + b"DIC", False, False),
        (b"\x08\x00\x05\x00CS", False, True),
        (b"\x00\x08\x00\x05CS", False, True),
        (b"\x02\x00\x10\x00UI", False, True),
        (b"\x5c\x01\x00\x00", False, False),
        (b"", False, False),
    ],
)
def test_a_file_is_known_by_its_first_bytes(start: bytes, preamble: bool, bare: bool) -> None:
    assert has_preamble(start) == preamble
    assert may_be_bare(start) == bare
