"""Version, magic and every size limit. A number from outside meets one of these before it is
multiplied or used to allocate; products are taken in Python's own integers.

The values follow what clinical series need with room to spare; where one was measured or taken
from a document, it says so.
"""

from __future__ import annotations

PROTOCOL_VERSION = 3

MAX_AXIS = 16384
"""Voxels along one axis: the largest plain DICOM images (slide scans aside) stay under it."""
MAX_VOXELS = 1 << 31
MAX_VOLUME_BYTES = 4 << 30
"""Of one series: 512 x 512 x 8192 of int16."""
MAX_SERIES = 64
"""In one session."""
MAX_FRAMES = 10_000
"""Frames of one DICOM series."""
MAX_NIFTI_HEADER_BYTES = 1 << 20
"""Header and extensions, up to the first voxel."""
MAX_ATTACHMENT_BYTES = 256 << 20
"""The headers layer of one series, before coding."""

MAX_FRAME_BYTES = 1 << 20
"""One frame on the wire, header included."""
MAX_FRAGMENT_BYTES = 64 << 10
CHUNK_BYTES = 64 << 10
"""The unit of hashing, storing and resuming; the last chunk of an encoding is shorter."""
MAX_PIECES = 4096
"""Ranges of one encoding with gaps between them: what comes in order has one or two."""
MAX_ENCODING_BYTES = 64 << 20
MAX_BLOCK_VOXELS = 1 << 25
"""Voxels in the box of one layer: what a decoding process must hold at once."""
MAX_LAYERS = 65_536
"""Of one session."""
MAX_FORMS = 3
"""Of one layer that does not prove right at the receiver: as the sender likes, by another codec,
and as plainly as can be. Then the session ends."""
MAX_OPEN_LAYERS = 256
"""Layers whose chunks may be under way at the same time."""
MAX_OPEN_BYTES = 256 << 20
"""Bytes set aside for layers under way."""
MAX_REGIONS = 64
"""Of one series."""
MAX_MASK_BYTES = 256 << 10
"""Of one region's mask, coded: a lesion's is some 3 KiB. How many voxels masks may lie over in all
is `shared.mask.MAX_MASK_VOXELS`."""
MAX_PLAN_BYTES = 896 << 10
"""Of one plan, all its masks included; it must fit a frame."""
MAX_TEXT = 1024
"""Characters of any one text."""
MAX_SDP_BYTES = 32_000
"""Of one description of an end of a data channel; ours are 1 to 2 kB."""
MAX_SPANS = 8_192
"""Ranges of encodings' numbers in one message, a sixteenth of what could be: numbers settle nearly
in order."""
MAX_STATED_PIECES = 16
"""Ranges of one encoding that are told at once; what is left out is sent again."""
TOKEN_BYTES = 16
DIGEST_BYTES = 32
"""SHA-256, always: a digest's length is never a field (rsync's CVE-2024-12084 was one)."""
