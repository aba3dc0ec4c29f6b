from __future__ import annotations

import imagecodecs
import pytest

from shared.codecs.j2k_header import check_j2k_header
from shared.errors import CodecError
from tests.contracts.codec import UINT8, UINT16, noise

PLANE = noise((1, 70, 90), 12)[0]
J2K = bytes(imagecodecs.jpeg2k_encode(PLANE, codecformat="J2K", reversible=True))
HT = bytes(imagecodecs.htj2k_encode(PLANE))
STREAMS = {False: J2K, True: HT}
MAIN_HEADER_BYTES = 4 + 39 + 14  # SOC, SIZ and, in J2K, COD


def refused(stream: bytes, ht: bool) -> bool:
    try:
        check_j2k_header(stream, PLANE.shape, 2, high_throughput=ht)
    except CodecError:
        return True
    return False


@pytest.mark.parametrize("ht", [False, True])
def test_what_our_encoders_write_passes(ht: bool) -> None:
    for shape in ((1, 1), (1, 300), (64, 64), (513, 65)):
        for dtype in (UINT8, UINT16):
            plane = noise((1, *shape), 8, dtype)[0]
            if ht:
                stream = imagecodecs.htj2k_encode(plane)
            else:
                stream = imagecodecs.jpeg2k_encode(plane, codecformat="J2K", reversible=True)
            check_j2k_header(bytes(stream), shape, dtype.itemsize, high_throughput=ht)


@pytest.mark.parametrize("ht", [False, True])
def test_another_shape_or_type_is_refused(ht: bool) -> None:
    for shape, itemsize in (((90, 70), 2), ((70, 91), 2), ((71, 90), 2), ((70, 90), 1)):
        with pytest.raises(CodecError):
            check_j2k_header(STREAMS[ht], shape, itemsize, high_throughput=ht)


def test_one_kind_does_not_pass_for_the_other() -> None:
    assert refused(J2K, True)
    assert refused(HT, False)


def test_no_bit_of_siz_and_cod_may_change() -> None:
    levels_at = J2K.index(b"\xff\x52") + 9
    for at in range(MAIN_HEADER_BYTES):
        for bit in range(8):
            mutant = bytearray(J2K)
            mutant[at] ^= 1 << bit
            # Fewer levels need a shorter QCD, so they are refused too.
            assert refused(bytes(mutant), False), (at == levels_at, at, bit)


@pytest.mark.parametrize("ht", [False, True])
def test_a_cut_stream_is_refused(ht: bool) -> None:
    stream = STREAMS[ht]
    for length in (*range(200), len(stream) - 2, len(stream) - 1):
        assert refused(stream[:length], ht)
    assert refused(stream + b"\0", ht)


@pytest.mark.parametrize("ht", [False, True])
def test_markers_that_have_no_place_are_refused(ht: bool) -> None:
    stream = STREAMS[ht]
    cod = stream.index(b"\xff\x52")
    tile = stream.index(b"\xff\x90")
    for marker in range(0xFF00, 0x10000):
        segment = marker.to_bytes(2, "big") + b"\0\2"
        if marker not in (0xFF64,):  # a comment
            assert refused(stream[:cod] + segment + stream[cod:], ht), hex(marker)
            assert refused(stream[:tile] + segment + stream[tile:], ht), hex(marker)


def test_a_coded_colour_image_is_refused() -> None:
    colour = noise((60, 40, 3), 8, UINT8)
    stream = bytes(imagecodecs.jpeg2k_encode(colour, codecformat="J2K", reversible=True))
    with pytest.raises(CodecError):
        check_j2k_header(stream, (60, 40), 1, high_throughput=False)
