from __future__ import annotations

import struct
from io import BytesIO

import pytest
from pydicom.encaps import encapsulate, generate_frames

from sender.read.dicom_fragments import Fragment, frame_fragments, read_exactly, walk_fragments

END = b"\xff\xd9"
FRAMES = [b"one more" + END + b"\0\0", b"the second" + END, b"a third" + END + b"\0"]
START = 7


def walked(content: bytes) -> tuple[tuple[int, ...], tuple[Fragment, ...], int]:
    whole = bytes(START) + content
    return walk_fragments(BytesIO(whole), START, len(whole))


def joined(content: bytes, offsets: tuple[int, ...] | None = None) -> list[bytes]:
    """The frames of encapsulated pixel data."""
    file = BytesIO(bytes(START) + content)
    table, fragments, _ = walked(content)
    frames = frame_fragments(fragments, table if offsets is None else offsets, len(FRAMES), file)
    return [
        b"".join(read_exactly(file, part.start, part.size_bytes) for part in frame)
        for frame in frames
    ]


def element(frames: list[bytes], *, fragments: int = 1, table: bool = True) -> bytes:
    delimiter = b"\xfe\xff\xdd\xe0" + bytes(4)
    return encapsulate(frames, fragments_per_frame=fragments, has_bot=table) + delimiter


@pytest.mark.parametrize("fragments", [1, 2])
@pytest.mark.parametrize("table", [True, False])
def test_frames_are_those_of_pydicom(fragments: int, table: bool) -> None:
    content = element(FRAMES, fragments=fragments, table=table)
    expected = list(generate_frames(content, number_of_frames=len(FRAMES)))
    assert joined(content) == expected
    assert [frame.rstrip(b"\0") for frame in expected] == [f.rstrip(b"\0") for f in FRAMES]


def test_the_element_ends_behind_its_delimiter() -> None:
    content = element(FRAMES)
    offsets, fragments, stop = walked(content + b"what follows")
    assert stop == START + len(content)
    assert offsets == tuple(fragment.item for fragment in fragments)
    assert fragments[0].start == START + 8 + 12 + 8


def test_an_extended_table_counts_like_a_basic_one() -> None:
    content = element(FRAMES, fragments=2, table=False)
    _, fragments, _ = walked(content)
    assert joined(content, tuple(part.item for part in fragments[::2])) == joined(content)


def test_a_table_that_points_nowhere_is_not_believed() -> None:
    assert joined(element(FRAMES), (0, 3, 9)) == joined(element(FRAMES))


@pytest.mark.parametrize("keep", [0, 4, 8, 20, 28, 30, -1, -8])
def test_pixel_data_without_an_end_is_truncated(keep: int) -> None:
    with pytest.raises(ValueError, match="has no end"):
        walked(element(FRAMES)[:keep])


def test_an_item_that_claims_more_than_there_is_costs_nothing() -> None:
    content = b"\xfe\xff\x00\xe0" + bytes(4) + b"\xfe\xff\x00\xe0" + struct.pack("<L", 0xFFFFFFF0)
    with pytest.raises(ValueError, match="has no end"):
        walked(content + bytes(100))


def test_too_few_pieces_for_the_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="2 pieces of pixel data do not make 3 frames"):
        joined(element(FRAMES[:2]))


def test_pieces_without_an_end_marker_do_not_make_frames() -> None:
    with pytest.raises(ValueError, match="4 pieces of pixel data do not make 3 frames"):
        joined(element([b"no", b"marker", b"in", b"any "], table=False))


def test_empty_fragments_before_a_frame_belong_to_it() -> None:
    """JPEG-LL.dcm and others begin with an item of no bytes behind the table."""
    item = b"\xfe\xff\x00\xe0"
    content = item + bytes(4) + (item + bytes(4)) + element([b"data"])[8 + 4 :]
    file = BytesIO(bytes(START) + content)
    _, fragments, _ = walked(content)
    ((*parts,),) = frame_fragments(fragments, (), 1, file)
    assert b"".join(read_exactly(file, p.start, p.size_bytes) for p in parts) == b"data"


def test_reading_past_the_end_raises() -> None:
    with pytest.raises(ValueError, match="it ends 2 bytes too early"):
        read_exactly(BytesIO(b"abc"), 1, 4)
