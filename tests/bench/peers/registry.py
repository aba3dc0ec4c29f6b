"""Every way that medroi is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.peers.dicom import StoreScu
from tests.bench.peers.rsync import Rsync
from tests.bench.peers.stow import Stow
from tests.bench.peers.web import Htj2kDownload, JpegXlDownload, NiftiDownload

if TYPE_CHECKING:
    from tests.bench.peers.base import Peer

RAW = "storescu, raw"
PEERS: tuple[Peer, ...] = (
    StoreScu(RAW, "raw", ()),
    StoreScu("storescu, JPEG 2000 lossless", "jpeg2000", ("-xv",)),
    StoreScu("storescu, JPEG-LS lossless", "jpegls", ("-xt",)),
    StoreScu("storescu, JPEG-LS, TCP_NODELAY=1", "jpegls", ("-xt",), nodelay=True),
    Stow(),
    NiftiDownload(),
    JpegXlDownload(),
    Htj2kDownload(),
    Rsync(),
)
