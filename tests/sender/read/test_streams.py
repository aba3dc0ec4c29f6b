from __future__ import annotations

import gzip
import tracemalloc
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sender.read.streams import (
    MAX_RATIO,
    GzipStream,
    PlainStream,
    inflate_data_set,
    open_file,
)
from shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONTENT = bytes(range(256)) * 5000


def read(stream: PlainStream | GzipStream, size: int) -> bytes:
    target = bytearray(size)
    stream.read_into(memoryview(target))
    return bytes(target)


@pytest.fixture(params=["plain", "gzip"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stream(tmp_path: Path, kind: str) -> Iterator[PlainStream | GzipStream]:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(CONTENT) if kind == "gzip" else CONTENT)
    with path.open("rb") as file:
        yield GzipStream(file, path) if kind == "gzip" else PlainStream(file, path)


def test_bytes_come_in_order_and_skipped_ones_are_passed(
    stream: PlainStream | GzipStream,
) -> None:
    assert read(stream, 10) == CONTENT[:10]
    stream.skip(600_000)
    assert read(stream, 300) == CONTENT[600_010:600_310]
    stream.skip(len(CONTENT) - 600_310)
    assert stream.finish() == 0


def test_what_is_left_is_counted(stream: PlainStream | GzipStream) -> None:
    read(stream, len(CONTENT) - 17)
    assert stream.finish() == 17


def test_an_early_end_is_truncation(stream: PlainStream | GzipStream) -> None:
    with pytest.raises(InputError, match="truncated: its voxels end 1 bytes too early"):
        read(stream, len(CONTENT) + 1)


def test_skipping_past_the_end_is_truncation(stream: PlainStream | GzipStream) -> None:
    def skip() -> None:
        stream.skip(len(CONTENT) + 3)
        stream.finish()

    with pytest.raises(InputError, match="truncated"):
        skip()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda b: b[:-5], "its gzip member has no end"),
        (lambda b: b[: len(b) // 2], "truncated"),
        (lambda b: b[:-8] + b"\0\0\0\0" + b[-4:], "its gzip stream is bad .*incorrect data check"),
        (lambda b: b[:-4] + b"\0\0\0\0", "its gzip stream is bad .*incorrect length check"),
        (lambda b: b[:20] + b"\xff" * 9 + b[29:], "its gzip stream is bad"),
        (lambda b: b + b, "bytes follow the end of its gzip member"),
        (lambda b: b + b"\0", "bytes follow the end of its gzip member"),
    ],
)
def test_damaged_gzip_is_refused_in_one_sentence(
    tmp_path: Path, damage: Callable[[bytes], bytes], sentence: str
) -> None:
    path = tmp_path / "f.gz"
    path.write_bytes(damage(gzip.compress(CONTENT)))

    def whole() -> None:
        with path.open("rb") as file:
            stream = GzipStream(file, path)
            read(stream, len(CONTENT))
            stream.finish()

    with pytest.raises(InputError, match=sentence) as caught:
        whole()
    assert "\n" not in str(caught.value)


def test_a_member_that_goes_on_and_on_is_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(64 << 20), compresslevel=1))
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            stream = GzipStream(file, path)
            read(stream, 1000)
            with pytest.raises(InputError, match="bomb"):
                stream.finish()
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def deflate(content: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


def test_a_data_set_is_inflated() -> None:
    assert inflate_data_set(deflate(CONTENT), Path("a.dcm")) == CONTENT


def test_a_deflated_bomb_is_refused_at_the_limit() -> None:
    packed = deflate(bytes(256 << 20))
    assert len(packed) * MAX_RATIO < 256 << 20
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"more than \d+ MiB: refused as a bomb"):
            inflate_data_set(packed, Path("a.dcm"))
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_RATIO * len(packed)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("packed", "sentence"),
    [(deflate(CONTENT)[:-9], "has no end"), (b"\xff" * 40, "is bad"), (b"", "has no end")],
)
def test_damaged_deflate_is_refused(packed: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        inflate_data_set(packed, Path("a.dcm"))


def test_a_missing_file_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        open_file(tmp_path / "none")
