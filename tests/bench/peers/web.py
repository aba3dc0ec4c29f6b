"""HTTPS downloads: nginx at the site, curl at the clinic, HTTP/2 over TLS 1.3.

Three forms: the whole as ``.nii.gz``; each plane as JPEG XL; each plane as HTJ2K whose tile-parts
are its resolutions, fetched the way progressive viewers do: by byte ranges, all planes at a low
resolution first, then the next. Which range holds which resolution is known beforehand, which is in
its favour.
"""

from __future__ import annotations

import struct
import subprocess
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np

from tests.bench.peers.base import Stopwatch, ended
from tests.bench.peers.course import Piece
from tests.bench.peers.scan import nifti_layout
from tests.bench.peers.tools import tool
from tests.emulator.relayed import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.bench.peers.scan import Scan
    from tests.emulator.relayed import AnyLink

PARALLEL = 16
"""Requests under way at once over the one connection: viewers ask for 5 to 20 planes together."""
_SETTLE_S = 0.5
_LOOK_S = 0.05
_PASSES = (4, 5, 6)
"""Resolutions of six that are there after each pass over the planes: a quarter, a half, all."""
_SOT, _EOC = b"\xff\x90", b"\xff\xd9"

_NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors; user root;
events {{ worker_connections 256; }}
http {{
    access_log off; default_type application/octet-stream; sendfile on; tcp_nodelay on;
    client_body_temp_path {folder}/temp; proxy_temp_path {folder}/temp;
    fastcgi_temp_path {folder}/temp; uwsgi_temp_path {folder}/temp; scgi_temp_path {folder}/temp;
    server {{
        listen {address}:{port} ssl http2; root {root}; ssl_protocols TLSv1.3;
        ssl_certificate {folder}/certificate; ssl_certificate_key {folder}/key;
    }}
}}
"""


@dataclass(frozen=True)
class Fetch:
    """One request: a file, or bytes of it, and where the answer goes."""

    name: str
    to: Path
    span: tuple[int, int] | None = None
    """First byte, and the one behind the last."""


class NiftiDownload:
    """The whole volume as one gzip stream; planes count as they can be inflated."""

    name = "HTTPS, .nii.gz"

    def prepare(self, scan: Scan, folder: Path) -> None:
        """See `Peer`. The scan's own file if it is a .nii.gz, packed by level 6 otherwise."""
        _check_tools()
        (folder / "in").mkdir()
        content = scan.path.read_bytes()
        if content[:2] != b"\x1f\x8b":
            packer = zlib.compressobj(6, wbits=31)
            content = packer.compress(content) + packer.flush()
        (folder / "in" / "volume").write_bytes(content)

    def transfer(self, link: AnyLink, scan: Scan, folder: Path, limit_s: float) -> list[Piece]:
        """See `Peer`."""
        into = folder / "volume"
        seen = [(0.0, 0)]

        def look(now_s: float) -> None:
            size = into.stat().st_size if into.is_file() else 0
            if size > seen[-1][1]:
                seen.append((now_s, size))

        _download(link, folder, [Fetch("volume", into)], limit_s, look)
        return list(_inflated(scan, into.read_bytes() if into.is_file() else b"", seen))


class JpegXlDownload:
    """Each plane a file."""

    name = "HTTPS, JPEG XL planes"

    def prepare(self, scan: Scan, folder: Path) -> None:
        """See `Peer`."""
        _check_tools()
        (folder / "in").mkdir()
        for z, plane in enumerate(scan.samples()):
            stream = imagecodecs.jpegxl_encode(plane, lossless=True, effort=7)
            (folder / "in" / f"{z:04}").write_bytes(bytes(stream))

    def transfer(self, link: AnyLink, scan: Scan, folder: Path, limit_s: float) -> list[Piece]:
        """See `Peer`."""
        names = sorted(path.name for path in (folder / "in").iterdir())
        fetches = [Fetch(name, folder / "out" / name) for name in names]
        watch = _download(link, folder, fetches, limit_s)
        pieces, least = [], int(scan.voxels.min())
        for z, fetch in enumerate(fetches):
            stream = _whole(fetch, (folder / "in" / fetch.name).stat().st_size)
            if stream is not None:
                plane = imagecodecs.jpegxl_decode(stream).astype(np.int32) + least
                pieces.append(Piece(watch.of_file(fetch.to), len(stream), {z: plane}))
        return pieces


class Htj2kDownload:
    """Each plane a codestream, a resolution at a time."""

    name = "HTTPS, HTJ2K by resolution"

    def prepare(self, scan: Scan, folder: Path) -> None:
        """See `Peer`."""
        _check_tools()
        (folder / "in").mkdir()
        parts = imagecodecs.HTJ2K.TILEPART.RESOLUTIONS
        for z, plane in enumerate(scan.samples()):
            stream = imagecodecs.htj2k_encode(
                plane, reversible=True, resolutions=_PASSES[-1] - 1, tilepart=parts, tlm=True
            )
            (folder / "in" / f"{z:04}").write_bytes(bytes(stream))

    def transfer(self, link: AnyLink, scan: Scan, folder: Path, limit_s: float) -> list[Piece]:
        """See `Peer`."""
        streams = [path.read_bytes() for path in sorted((folder / "in").iterdir())]
        ends = [resolution_ends(stream) for stream in streams]
        fetches = []
        for place, resolutions in enumerate(_PASSES):
            for z, at in enumerate(ends):
                first = at[_PASSES[place - 1] - 1] if place else 0
                to = folder / "out" / f"{z:04}.{place}"
                fetches.append(Fetch(f"{z:04}", to, (first, at[resolutions - 1])))
        watch = _download(link, folder, fetches, limit_s)
        pieces, least = [], int(scan.voxels.min())
        for z in range(len(ends)):
            stream = b""
            for place, resolutions in enumerate(_PASSES):
                fetch = fetches[place * len(ends) + z]
                assert fetch.span is not None
                part = _whole(fetch, fetch.span[1] - fetch.span[0])
                if part is None:
                    break  # a resolution is of no use without the ones below it
                stream += part
                plane = decode_resolutions(stream, resolutions, scan.voxels.shape[1:])
                pieces.append(Piece(watch.of_file(fetch.to), len(part), {z: plane + least}))
        return pieces


def resolution_ends(stream: bytes) -> list[int]:
    """Where each tile-part of a codestream ends (ISO/IEC 15444-1, A.4.2): the SOTs say."""
    ends, at = [], stream.index(_SOT)
    while stream[at : at + 2] == _SOT:
        (length,) = struct.unpack_from("!I", stream, at + 6)
        at += length
        ends.append(at)
    ends[-1] = len(stream)
    return ends


def decode_resolutions(stream: bytes, resolutions: int, shape: Sequence[int]) -> NDArray[np.int32]:
    """A plane from its lowest resolutions, as large as it is; smooth where it is enlarged."""
    if resolutions == _PASSES[-1]:
        return np.asarray(imagecodecs.htj2k_decode(stream), np.int32)
    low = imagecodecs.htj2k_decode(stream + _EOC, skipres=_PASSES[-1] - resolutions, resilient=True)
    # A low resolution overshoots, below zero as well: these samples are signed in truth.
    smooth = np.clip(low.view(np.int16), 0, None).astype(np.float64)
    for axis, full in enumerate(shape):
        smooth = _enlarged(smooth, axis, full)
    return np.asarray(np.rint(smooth), np.int32)


def _enlarged(samples: NDArray[np.float64], axis: int, full: int) -> NDArray[np.float64]:
    """Linear between samples, constant beyond the outermost."""
    small = samples.shape[axis]
    places = np.clip((np.arange(full) + 0.5) * small / full - 0.5, 0, small - 1)
    below = np.minimum(places.astype(int), max(0, small - 2))
    above = np.minimum(below + 1, small - 1)
    share = np.expand_dims(places - below, 1 - axis)
    lower, upper = samples.take(below, axis), samples.take(above, axis)
    between: NDArray[np.float64] = lower + (upper - lower) * share
    return between


def _inflated(scan: Scan, content: bytes, seen: list[tuple[float, int]]) -> Iterator[Piece]:
    """Planes of a NIfTI file as its gzip stream grows; seen are times and sizes."""
    inflater, inflated = zlib.decompressobj(wbits=31), bytearray()
    depth, *plane = scan.voxels.shape
    known, before = 0, 0
    for at_s, size in seen[1:]:
        inflated += inflater.decompress(content[before:size])
        offset, kind = nifti_layout(bytes(inflated[:352]))
        plane_bytes = int(np.prod(plane)) * kind.itemsize
        there = min(depth, max(0, len(inflated) - offset) // plane_bytes)
        planes = {
            z: np.frombuffer(
                inflated[offset + z * plane_bytes : offset + (z + 1) * plane_bytes], kind
            )
            .reshape(plane)
            .astype(np.int32)
            for z in range(known, there)
        }
        yield Piece(at_s, size - before, planes)
        known, before = there, size


def _check_tools() -> None:
    tool("nginx"), tool("curl"), tool("openssl")


def _whole(fetch: Fetch, size_bytes: int) -> bytes | None:
    """What came, if all of it did."""
    content = fetch.to.read_bytes() if fetch.to.is_file() else b""
    return content if len(content) == size_bytes else None


def _download(
    link: AnyLink,
    folder: Path,
    fetches: Sequence[Fetch],
    limit_s: float,
    look: Callable[[float], None] = lambda now_s: None,
) -> Stopwatch:
    """Serve the folder's ``in`` at the site, and fetch from the clinic, in this order."""
    port, root = free_port(), folder / "in"
    (folder / "out").mkdir()
    (folder / "temp").mkdir()
    _make_certificate(folder)
    config = folder / "nginx.conf"
    address = link.site.address
    config.write_text(_NGINX.format(folder=folder, root=root, address=address, port=port))
    serve = [tool("nginx"), "-p", folder, "-c", config, "-e", folder / "errors"]
    with ended(link.site.popen(serve)):
        time.sleep(_SETTLE_S)
        host, through = link.reach(port, at_site=True)
        wanted = folder / "wanted"
        wanted.write_text(_requests(f"https://{host}:{through}", fetches))
        ask = [tool("curl"), "-sSk", "--http2", "--parallel", "--parallel-max", PARALLEL]
        watch = Stopwatch()
        with (folder / "complaints").open("w") as complaints:  # and progress, whatever is said
            asking = link.clinic.popen([*ask, "-K", wanted], stderr=complaints)
        while asking.poll() is None and watch.now_s() < limit_s:
            look(watch.now_s())
            time.sleep(_LOOK_S)
        if asking.poll() is None:
            asking.kill()
            asking.wait()
        look(watch.now_s())
        return watch


def _make_certificate(folder: Path) -> None:
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subject = ["-subj", "/CN=site", "-days", "2", "-nodes"]
    files = ["-keyout", folder / "key", "-out", folder / "certificate"]
    request = [tool("openssl"), "req", *kind, *subject, *map(str, files)]
    subprocess.run(request, check=True, capture_output=True)


def _requests(base: str, fetches: Sequence[Fetch]) -> str:
    """For ``curl -K``: each request with options of its own."""
    asked = []
    for fetch in fetches:
        lines = [f'url = "{base}/{fetch.name}"', f'output = "{fetch.to}"', "insecure", "silent"]
        if fetch.span:
            lines.append(f'range = "{fetch.span[0]}-{fetch.span[1] - 1}"')
        asked.append("\n".join(lines))
    return "\nnext\n".join(asked) + "\n"
