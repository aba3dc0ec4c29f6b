"""The corpus: small, sound, ours. ``python -m tests.fuzz.corpus`` makes it anew, on purpose.

What a fuzz run found stays beside it under a name that begins with ``found``.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from protocol import messages as m
from protocol.frames import Fragment, FrameKind, encode_frame, pack_fragment
from protocol.payloads import pack_message
from shared.codecs.base import Block
from shared.codecs.parts import split_parts
from shared.codecs.registry import CODECS
from shared.mask import pack_mask
from shared.role import Role
from shared.trust.proof import Claim, DiallingProof, ListeningProof
from tests.fuzz.targets import BINDING, KEY, NONCE, NOW_S, SALT, SHAPE, TARGETS, run_target
from tests.protocol import examples
from tests.sender.read.files import compressed, pixels, save, slice_of
from tests.sender.read.files import nifti as nifti_file
from tests.sender.studies import brain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

CORPUS = Path(__file__).resolve().parent / "corpus"
_SDP = "\r\n".join(
    [
        "v=0",
        "o=- 0 0 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sctp-port:5000",
        "a=max-message-size:65536",
        "a=candidate:0abc 1 udp 2130706431 10.0.0.7 40000 typ host",
        "a=candidate:1abc 1 udp 1694498815 192.0.2.1 40001 typ srflx raddr 10.0.0.7 rport 40000",
        "a=end-of-candidates",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789abcdefghijkl",
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
        "a=setup:{setup}",
        "",
    ]
)


def samples(name: str) -> list[bytes]:
    """What there is of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*.bin"))]


def _made() -> Iterator[tuple[str, bytes]]:
    packed = {name: pack_message(message) for name, message in examples.MESSAGES.items()}
    piece = pack_fragment(Fragment(0, 0, examples.ENCODING[:64]))
    for name in ("offer", "ack", "plan"):
        yield "frames", encode_frame(FrameKind.CONTROL, 7, packed[name])
    yield "frames", encode_frame(FrameKind.FRAGMENT, 7, piece)
    for content in packed.values():
        yield "messages", content
        yield "receiving", b"\xff\0" + content
        yield "sending", b"\xff" + content
    yield "receiving", b"\0\0" + packed["manifest"]
    yield "receiving", b"\x50\0" + packed["plan"]
    yield "receiving", b"\xff\xff" + piece
    dialling = DiallingProof(KEY, BINDING, Claim(Role.SENDER, 2), NONCE)
    listening = ListeningProof([KEY], BINDING, Claim(Role.RECEIVER, 2), NONCE)
    reply = listening.reply(dialling.challenge)
    for which, content in ((0, dialling.challenge), (96, reply), (192, dialling.answer(reply))):
        yield "hello", bytes([which]) + content
    yield from _texts()
    yield from _logs(packed, piece)
    yield from _files()
    yield from _streams()


def _texts() -> Iterator[tuple[str, bytes]]:
    from shared.transports.webrtc import sealed

    yield "sdp", b"\0" + _SDP.format(setup="actpass").encode()
    yield "sdp", b"\xff" + _SDP.format(setup="active").encode()
    offer = sealed.seal(
        _SDP.format(setup="actpass"), KEY, Role.SENDER, SALT, NOW_S, sealed.NO_OFFER
    )
    yield "line", offer.sealed.encode()
    outer, secret = sealed._parts(offer.sealed)
    yield "line", b"\0" + sealed._cipher(KEY, SALT).decrypt(sealed._NONCE, secret, outer)
    for asked in (
        {"token": "0123"},
        {"do": "studies"},
        {"do": "focus", "study": "00", "series": 0, "rank": 1, "box": [[0, 1], [0, 2], [0, 3]]},
        {"do": "focus", "study": "00", "slices": [0, 1]},
        {"do": "pause", "study": "00"},
    ):
        yield "viewer", json.dumps(asked).encode()
    line = {"box": [[0, 0, 0], [2, 3, 4]], "holes": [[[0, 0, 0], [1, 1, 1]]], "digest": "ab" * 32}
    hole = [[0, 0, 0], [1, 2, 3], "KLUv/SACEQAAoMA="]
    yield "journal", (json.dumps(line) + "\n" + json.dumps(line | {"holes": [hole]})).encode()
    preview = {"box": [[0, 0, 0], [2, 3, 4]], "max_error": 3.5}
    yield "journal", ('{"boot": "x"}\n' + json.dumps(preview) + "\n").encode()


def _logs(packed: dict[str, bytes], piece: bytes) -> Iterator[tuple[str, bytes]]:
    from sender.spool import _FIDELITY, _GROWN, _NUMBER

    def cut(*entries: tuple[int, bytes]) -> bytes:
        """What `targets._records` makes records of."""
        made = b"\0"
        for kind, content in entries:
            made += bytes([kind]) + len(content).to_bytes(2, "big") + content
        return made

    control, bulk = int(FrameKind.CONTROL), int(FrameKind.FRAGMENT)
    begun = [(control, packed[name]) for name in ("manifest", "plan", "offer")]
    whole = pack_fragment(Fragment(0, 0, examples.ENCODING))
    yield "records", cut(*begun, (bulk, piece), (bulk, whole))
    yield "records", cut(*begun, (bulk, whole), (control, pack_message(m.Want(0))))
    yield "records", cut((control, packed["manifest"]), (control, packed["done"]))
    head = _FIDELITY.pack(10, 2.0, 1.0, len(packed["offer"]))
    kept = head + packed["offer"] + examples.ENCODING
    grown = _GROWN.pack(True, 3) + b"why" + packed["plan"]
    yield "spool", cut((1, kept), (2, _NUMBER.pack(0)), (3, _NUMBER.pack(0)), (4, grown))
    from tests.fuzz import targets

    for name in ("records", "spool"):  # and as they lie on the disk
        entries = cut(*begun, (bulk, piece)) if name == "records" else cut((1, kept), (4, grown))
        yield name, b"\1" + targets._records(entries)


def _files() -> Iterator[tuple[str, bytes]]:
    plain = nifti_file(pixels(1, (2, 4, 5)))
    for content in (
        plain,
        nifti_file(pixels(1, (2, 4, 5), ">f4")),
        gzip.compress(plain, mtime=0),
    ):
        yield "nifti", content
    values = pixels(3, (12, 10), "<u2") >> 4
    import imagecodecs

    slices: list[Dataset] = [
        slice_of(values),
        slice_of(pixels(4, (2, 6, 5), "<i2")),
        compressed(
            slice_of(values), JPEGLSLossless, [bytes(imagecodecs.jpegls_encode(values, out=2000))]
        ),
        compressed(
            slice_of(values),
            JPEG2000Lossless,
            [bytes(imagecodecs.jpeg2k_encode(values, reversible=True, codecformat="j2k"))],
        ),
        compressed(slice_of(values), RLELossless, [_rle(values)]),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for data_set in slices:
            yield "dicom", save(data_set, Path(folder) / "x.dcm").read_bytes()
        from pydicom.uid import DeflatedExplicitVRLittleEndian

        deflated = slice_of(values)
        deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        yield "dicom", save(deflated, Path(folder) / "x.dcm").read_bytes()


def _rle(values: NDArray[Any]) -> bytes:
    from pydicom.pixels.encoders.base import EncodeRunner
    from pydicom.pixels.encoders.native import _encode_frame as encode

    runner = EncodeRunner(RLELossless)
    runner.set_source(values)
    for name, value in (
        ("rows", values.shape[0]),
        ("columns", values.shape[1]),
        ("samples_per_pixel", 1),
        ("bits_allocated", 16),
        ("bits_stored", 16),
        ("pixel_representation", 0),
        ("number_of_frames", 1),
        ("photometric_interpretation", "MONOCHROME2"),
    ):
        runner.set_option(name, value)
    return bytes(encode(values.tobytes(), runner))


def _streams() -> Iterator[tuple[str, bytes]]:
    block = Block((brain(SHAPE).astype(np.uint16) & 0xFFF).copy(), 12)
    for name, codec in CODECS.items():
        payload = codec.encode(block, {})
        yield f"codec_{name}", b"\1" + payload
        if hasattr(codec, "decode_slice"):
            for part in split_parts(payload, SHAPE[0]):
                if isinstance(part, bytes):
                    yield f"codec_{name}", b"\0" + part
                    break
    marked = np.zeros(SHAPE, np.bool_)
    marked[:, 4:9, 3:11] = True
    yield "mask", pack_mask(marked)


def main() -> int:
    """Write the corpus."""
    count: dict[str, int] = dict.fromkeys(TARGETS, 0)
    for name, content in _made():
        said = run_target(name, content)
        path = CORPUS / name / f"{count[name]:02}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        count[name] += 1
        print(f"{name:16} {len(content):6} bytes  {said}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
