"""HEVC (ITU-T H.265), 12-bit gray, lossy, by x265 and FFmpeg: previews.

    samples (z, y, x) -> frames in z, edges repeated up to a size HEVC has -> packets -> payload

Slices are the frames of a film: inter prediction over z is where the bytes are saved. Samples must
fill their 12 bits, or the quality setting acts 6 steps coarser for each unused bit.

Streams differ between versions and thread settings of x265; what a stream decodes to never does.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.codecs.base import Promise
from shared.codecs.parts import pack_parts, split_parts
from shared.codecs.settings import Setting, default_settings, resolve_settings
from shared.codecs.slices import LIBRARY_ERRORS
from shared.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av import VideoFrame
    from numpy.typing import NDArray

    from shared.codecs.base import Block, Settings
    from shared.geometry import Triple

PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)
"""x265's own; the setting ``preset`` is an index into it."""
_BITS = 12
_PIXELS = "gray12le"
_GRID = 8
"""HEVC codes pictures in whole minimal coding units, 8 x 8."""
_MIN_SIDE = 16
"""x265's smallest coding tree unit, and so its smallest picture."""
_WORST_CRF = 42
"""Above 44, quantisers of 12 bits saturate and frames fall apart: 15 dB for 20 % fewer bytes."""
_FRAME_TIME_S = Fraction(1, 25)
"""A CRF means something at a frame rate: at 1 per second, x265 spends as if it were 11 lower."""
_STRIDE_ALIGN = 64
"""FFmpeg rounds widths up to this, at most, before it compares with ``max_pixels``."""
_KNOWN = {
    "crf": Setting(28, 0, _WORST_CRF),
    "preset": Setting(PRESETS.index("superfast"), 0, len(PRESETS) - 1),
    "threads": Setting(2, 0, 16),
}
_X265 = (
    "log-level=none",
    "info=0",  # no SEI with 1-2 kB of x265's settings
    "keyint=-1",  # decoded as a whole: no second key frame
    "allow-non-conformance=1",  # levels ask for larger units than narrow frames have
    # x265 4.2 writes past its heap where frames are at most 48 wide (propagateCost's AVX2 loop runs
    # once even for no columns). Only the macroblock tree calls it, which takes 40 % of the CPU and
    # changes the bytes at equal PSNR by -2..+3 %.
    "cutree=0",
    # Measured on top of superfast: 7-8 % fewer bytes at equal PSNR for a fifth more CPU.
    "rdoq-level=2",
    "b-intra=1",
    "max-merge=3",
)


class Hevc:
    """The codec of previews.

    Settings: ``crf``, the rate factor, 0 (best) to 42; ``preset``, an index into `PRESETS`;
    ``threads``, frames coded at the same time, the bytes being the same. 2 is a quarter faster than
    1 for one block on two cores, and no slower for two blocks at once. 0 is x265's own pool, with
    6-8 % more bytes: it cuts frames into rows.
    """

    name = "hevc"
    promise = Promise.LOSSY

    @property
    def defaults(self) -> Settings:
        """Every setting it knows, with its default."""
        return default_settings(_KNOWN)

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """uint16, of which 12 bits are used."""
        return dtype == np.uint16

    def encode(self, block: Block, settings: Settings) -> bytes:
        """The encoding of a block of 12-bit samples.

        Raises:
            CodecError: the settings or samples are none of this codec's, or x265 failed.
        """
        resolved = resolve_settings(self.name, _KNOWN, settings)
        if not self.takes(block.samples.dtype) or not 1 <= block.bits <= _BITS:
            raise CodecError(
                f"hevc codes 12 bits of uint16, not {block.bits} of {block.samples.dtype}"
            )
        if (top := int(block.samples.max())) >> block.bits:
            raise CodecError(f"hevc: sample {top} does not fit {block.bits} bits")
        packets = _encode_frames(block.samples, resolved)
        if len(packets) != len(block.samples):
            raise CodecError(f"hevc: {len(packets)} packets of {len(block.samples)} frames")
        return pack_parts(packets)

    def decode(
        self, payload: bytes, shape: Triple, dtype: np.dtype[Any], settings: Settings
    ) -> NDArray[Any]:
        """The samples of a block, a new array of exactly this shape; 12 bits of uint16.

        Raises:
            CodecError: the payload does not decode to as many frames of this size.
        """
        resolve_settings(self.name, _KNOWN, settings)
        if not self.takes(dtype):
            raise CodecError(f"hevc samples are uint16, not {dtype}")
        depth, height, width = shape
        padded = _padded(height), _padded(width)
        samples = np.empty(shape, dtype)
        count = 0
        for frame in _decode_packets(split_parts(payload, depth), padded):
            if count == depth:
                raise CodecError(f"hevc: more frames than {depth} slices")
            said = frame.height, frame.width, frame.format.name
            if said != (*padded, _PIXELS) or frame.is_corrupt:
                raise CodecError(f"hevc: frame {count} is {said}, not a sound {padded} {_PIXELS}")
            samples[count] = frame.to_ndarray()[:height, :width]
            count += 1
        if count != depth:
            raise CodecError(f"hevc: {count} frames of {depth} slices")
        return samples


HEVC = Hevc()


def _padded(side: int) -> int:
    return max(_MIN_SIDE, _aligned(side, _GRID))


def _aligned(side: int, step: int) -> int:
    return -(-side // step) * step


def _encode_frames(samples: NDArray[Any], settings: Settings) -> list[bytes]:
    import av

    _, height, width = samples.shape
    padding = (0, _padded(height) - height), (0, _padded(width) - width)
    threads = settings["threads"]
    pool = (f"frame-threads={threads}", "pools=none") if threads else ()
    packets: list[bytes] = []
    try:
        encoder = av.CodecContext.create("libx265", "w")
        encoder.width, encoder.height = _padded(width), _padded(height)
        encoder.pix_fmt = _PIXELS
        encoder.time_base = _FRAME_TIME_S
        encoder.options = {
            "preset": PRESETS[settings["preset"]],
            "tune": "psnr",
            "crf": str(settings["crf"]),
            "x265-params": ":".join((*_X265, *pool)),
        }
        for index, plane in enumerate(samples):
            frame = av.VideoFrame.from_ndarray(np.pad(plane, padding, "edge"), format=_PIXELS)
            frame.pts = index
            packets += map(bytes, encoder.encode(frame))
        packets += map(bytes, encoder.encode(None))
    except (av.FFmpegError, *LIBRARY_ERRORS) as error:
        raise CodecError(f"hevc cannot code a block: {error}") from error
    return packets


def _decode_packets(parts: list[bytes | int], padded: tuple[int, int]) -> Iterator[VideoFrame]:
    """The frames of a stream, as they come; FFmpeg allocates none larger than ``padded``."""
    import av

    try:
        decoder = av.CodecContext.create("hevc", "r")
        decoder.thread_count = 1
        decoder.options = {"max_pixels": str(padded[0] * _aligned(padded[1], _STRIDE_ALIGN))}
        for part in parts:
            if isinstance(part, int):
                raise CodecError("hevc: a frame without a packet")
            # Not Packet(part): that lends FFmpeg the bytes without the 64 it may read past them.
            packet = av.Packet(len(part))
            packet.update(part)
            yield from decoder.decode(packet)
        yield from decoder.decode(None)
    except (av.FFmpegError, *LIBRARY_ERRORS) as error:
        raise CodecError(f"hevc: {error}") from error
