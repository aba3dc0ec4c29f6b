"""Decoders against the encoders of the same codecs, pydicom's own, and damage."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pytest
from jpeg_ls import encode_buffer  # type: ignore[import-untyped]
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import RLELossless

from sender.read.dicom_codestreams import cut_unused_bits, decoder_for
from sender.read.dicom_image import PixelFormat
from sender.read.dicom_values import DAMAGE
from tests.sender.read.files import pixels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

BASE = "1.2.840.10008.1.2."
FORM = PixelFormat(16, 12, "PixelData", 16, 16, False, "MONOCHROME2")
SIGNED = replace(FORM, signed=True)
BYTES = replace(FORM, bits_allocated=8, bits_stored=8)
VALUES = pixels(1, (16, 12), "<u2")
SMALL = pixels(1, (16, 12), "<u1")


def smooth(dtype: str) -> NDArray[Any]:
    return (np.add.outer(np.arange(16), np.arange(12)) * 5).astype(dtype)


def j2k(values: NDArray[Any], **how: Any) -> bytes:
    return bytes(
        imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k", reversible=True, **how)
    )


def rle(values: NDArray[Any]) -> bytes:
    stored = values.dtype.itemsize * 8
    return get_encoder(RLELossless).encode(
        values.tobytes(),
        rows=16,
        columns=12,
        samples_per_pixel=1,
        bits_allocated=stored,
        bits_stored=stored,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
        encoding_plugin="pydicom",
    )


STREAMS: dict[str, Callable[[NDArray[Any]], bytes]] = {
    "4.57": lambda v: bytes(imagecodecs.ljpeg_encode(v)),
    "4.70": lambda v: bytes(imagecodecs.ljpeg_encode(v)),
    "4.80": lambda v: bytes(imagecodecs.jpegls_encode(v)),
    "4.81": lambda v: bytes(imagecodecs.jpegls_encode(v)),
    "4.90": j2k,
    "4.91": j2k,
    "4.201": lambda v: bytes(imagecodecs.htj2k_encode(v)),
    "4.202": lambda v: bytes(imagecodecs.htj2k_encode(v)),
    "4.203": lambda v: bytes(imagecodecs.htj2k_encode(v)),
    "5": rle,
}


def decode(ending: str, stream: bytes, form: PixelFormat = FORM) -> NDArray[Any]:
    decoder = decoder_for(BASE + ending)
    assert decoder is not None
    return decoder(stream, form)


@pytest.mark.parametrize("ending", STREAMS)
def test_lossless_streams_decode_to_what_was_encoded(ending: str) -> None:
    assert np.array_equal(decode(ending, STREAMS[ending](VALUES)), VALUES)
    eight = decode(ending, STREAMS[ending](SMALL), BYTES)
    assert eight.dtype == np.uint8
    assert np.array_equal(eight, SMALL)


@pytest.mark.parametrize("ending", STREAMS)
def test_bits_are_read_with_the_sign_of_the_file(ending: str) -> None:
    """JPEG, JPEG-LS and RLE know no sign; a signed J2K stream is tested below."""
    values = decode(ending, STREAMS[ending](VALUES), SIGNED)
    assert values.dtype == np.dtype("<i2")
    assert np.array_equal(values, VALUES.view("<i2"))


@pytest.mark.parametrize("values", [smooth("<i2") - 90, smooth("<u2")])
@pytest.mark.parametrize("form", [FORM, SIGNED])
def test_the_file_is_right_where_j2k_has_another_sign(
    values: NDArray[Any], form: PixelFormat
) -> None:
    """13-bit values: what is -90 signed is 8102 unsigned, and back (see pydicom's
    J2K_pixelrep_mismatch.dcm)."""
    stream = bytearray(j2k(values, bitspersample=13))
    decoded = decode("4.90", bytes(stream), form)
    low = (values.astype(np.int64)) & 0x1FFF
    expected = np.where(form.signed & (low > 0xFFF), low - 0x2000, low)
    same_sign = (values.dtype.kind == "i") == form.signed
    assert np.array_equal(decoded.astype(np.int64), values if same_sign else expected)


def test_signed_jpeg_ls_is_extended_from_its_own_precision() -> None:
    values = smooth("<i2") - 90
    low = (values & 0x1FFF).astype("<u2")
    stream = encode_buffer(low.tobytes(), 16, 12, 1, 13)
    assert np.array_equal(decode("4.80", bytes(stream), SIGNED), values)


def test_lossy_jpeg_is_close_and_widened() -> None:
    stream = bytes(imagecodecs.jpeg8_encode(smooth("<u1"), level=95))
    for form in (BYTES, FORM):
        values = decode("4.50", stream, form)
        assert values.dtype == form.dtype
        assert np.abs(values.astype(int) - smooth("<i4")).max() < 8


def test_lossless_jpeg_agrees_with_two_other_decoders() -> None:
    stream = STREAMS["4.70"](smooth("<u2"))
    for other in (imagecodecs.ljpeg_decode, imagecodecs.jpegsof3_decode):
        assert np.array_equal(decode("4.70", stream), other(stream))


@pytest.mark.parametrize("ending", ["4.52", "4.53", "4.55", "4.100", "1", "2", "1.99", ""])
def test_nobody_decodes_the_rest(ending: str) -> None:
    assert decoder_for(BASE + ending) is None


@pytest.mark.parametrize("ending", STREAMS)
@pytest.mark.parametrize("form", [replace(FORM, rows=17), replace(FORM, columns=11)])
def test_a_stream_of_another_size_is_refused(ending: str, form: PixelFormat) -> None:
    with pytest.raises(DAMAGE, match=r"claims 16x12|gives 192 bytes|OUTPUT_TOO_SMALL"):
        decode(ending, STREAMS[ending](VALUES), form)


@pytest.mark.parametrize("ending", STREAMS)
def test_a_stream_deeper_than_the_file_is_refused(ending: str) -> None:
    with pytest.raises(ValueError, match=r"16 bits where 8 are|does not fit 1 bytes"):
        decode(ending, STREAMS[ending](VALUES), BYTES)


def test_a_colour_stream_is_refused() -> None:
    colour = np.zeros((16, 12, 3), np.uint8)
    for ending, stream in (
        ("4.50", imagecodecs.jpeg8_encode(colour)),
        ("4.90", imagecodecs.jpeg2k_encode(colour, level=0, codecformat="j2k")),
        ("4.80", imagecodecs.jpegls_encode(colour)),
    ):
        with pytest.raises(ValueError, match="3 components"):
            decode(ending, bytes(stream), BYTES)


@pytest.mark.parametrize(
    ("ending", "other"), [("4.50", "4.70"), ("4.51", "4.70"), ("4.80", "4.70"), ("4.70", "4.80")]
)
def test_a_stream_of_another_kind_is_refused(ending: str, other: str) -> None:
    with pytest.raises(ValueError, match="do not belong to its transfer syntax"):
        decode(ending, STREAMS[other](VALUES))


@pytest.mark.parametrize("ending", STREAMS)
@pytest.mark.parametrize("cut", [1, 2, 50, 0.5, 0.9])
def test_a_cut_stream_is_refused(ending: str, cut: float) -> None:
    stream = STREAMS[ending](VALUES)
    keep = len(stream) - int(cut) if cut >= 1 else int(len(stream) * (1 - cut))
    if ending == "5" and cut == 1 and len(stream) % 2 == 0 and stream[-1] == 0:
        return  # only its padding is gone
    with pytest.raises(DAMAGE):
        decode(ending, stream[:keep])


def test_a_stream_that_keeps_openjph_busy_for_ever_is_refused(scans: Path) -> None:
    stream = (scans / "hostile/htj2k_xosiz_hang_293B.jph").read_bytes()
    start = stream.index(b"\xff\x4f\xff\x51")
    columns, rows = struct.unpack_from(">2L", stream, start + 8)
    form = replace(FORM, rows=min(rows, 16384), columns=min(columns, 16384))
    with pytest.raises(ValueError, match="is offset or sampled"):
        decode("4.201", stream, form)


def test_a_stream_that_keeps_charls_busy_is_refused(scans: Path) -> None:
    stream = (scans / "hostile/jpegls_slow_334B.jls").read_bytes()
    with pytest.raises(DAMAGE):
        decode("4.80", stream)


def test_tiles_without_size_or_end_are_refused() -> None:
    stream = bytearray(STREAMS["4.90"](VALUES))
    struct.pack_into(">L", stream, 24, 0)
    with pytest.raises(ValueError, match="tiles of no size"):
        decode("4.90", bytes(stream))
    struct.pack_into(">2L", stream, 24, 1, 1)
    big = replace(FORM, rows=16384, columns=16384)
    struct.pack_into(">2L", stream, 8, 16384, 16384)
    with pytest.raises(ValueError, match="too many tiles"):
        decode("4.90", bytes(stream), big)


@pytest.mark.parametrize("ending", ["4.50", "4.70", "4.80", "4.90", "4.201", "5"])
def test_mutants_decode_or_raise_what_is_documented(ending: str) -> None:
    """A few of the million that were tried by hand: no crash, no other exception."""
    if ending == "4.50":
        stream, form = bytes(imagecodecs.jpeg8_encode(smooth("<u1"))), BYTES
    else:
        stream, form = STREAMS[ending](VALUES), FORM
    chance = random.Random(1)
    for _ in range(1500):
        mutant = bytearray(stream)
        for _ in range(chance.choice((1, 2, 4))):
            mutant[chance.randrange(len(mutant))] = chance.randrange(256)
        try:
            assert decode(ending, bytes(mutant), form).shape == (16, 12)
        except DAMAGE:
            continue


@pytest.mark.parametrize(
    ("dtype", "stored", "before", "after", "held"),
    [
        ("<u2", 12, [0, 0x0FFF, 5], [0, 0x0FFF, 5], False),
        ("<u2", 12, [0x1000, 0x2FFF, 5], [0, 0x0FFF, 5], True),
        ("<i2", 12, [-2048, 2047], [-2048, 2047], False),
        ("<i2", 12, [0x0800, 0x0FFF, 1], [-2048, -1, 1], False),
        ("<i2", 12, [0x1001, 0x0FFF, 1], [1, -1, 1], True),
        ("<u1", 7, [0x80, 0x7F], [0, 0x7F], True),
        ("<i4", 32, [-(1 << 31)], [-(1 << 31)], False),
        ("<u2", 1, [0, 1, 2], [0, 1, 0], True),
    ],
)
def test_unused_bits_are_cut_like_pydicom_does(
    dtype: str, stored: int, before: list[int], after: list[int], held: bool
) -> None:
    values = np.array(before, dtype)
    bits = values.dtype.itemsize * 8
    form = PixelFormat(1, 1, "PixelData", bits, stored, dtype[1] == "i", "MONOCHROME2")
    assert cut_unused_bits(values, form) == held
    assert values.tolist() == after
    shifted = np.array(before, dtype) << (bits - stored) >> (bits - stored)
    assert values.tolist() == shifted.tolist()
