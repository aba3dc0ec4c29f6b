"""How files begin: enough to know which reader to import for them."""

from __future__ import annotations

PREAMBLE_BYTES = 128
"""Of a DICOM file, before its prefix (PS3.10 section 7.1)."""
DICOM_PREFIX = b"DICM"
START_BYTES = PREAMBLE_BYTES + len(DICOM_PREFIX)
GZIP_MAGIC = b"\x1f\x8b"
"""RFC 1952, section 2.3.1."""
_BARE_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""First group of a data set without a preamble: 2, or 8 in either byte order."""


def has_preamble(start: bytes) -> bool:
    """Whether a file's first `START_BYTES` are those of a DICOM file."""
    return start[PREAMBLE_BYTES:START_BYTES] == DICOM_PREFIX


def may_be_bare(start: bytes) -> bool:
    """Whether a file may be a DICOM data set without a preamble, such as old systems store."""
    return start[:2] in _BARE_STARTS
