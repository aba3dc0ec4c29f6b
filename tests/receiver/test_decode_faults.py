"""Studies whose decoding process fails in mid-transfer, for real: each ends exact all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from protocol import messages as m
from receiver import decode
from receiver.decode import ChildDecoders
from tests.receiver.studies import attend, study

if TYPE_CHECKING:
    from tests.receiver.studies import Peer

FAULTS = {
    "hangs": "while True: pass",
    "crashes": "os.kill(os.getpid(), 11)",
    "eats memory": "hoard = [bytearray(1 << 30) for _ in range(64)]",
}
ONCE = """
import importlib.util, os, struct, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("real", {real!r})
real = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real)
answer, fuse = real._answer, Path({fuse!r})

def faulty(sink, request, payload):
    if fuse.exists():
        fuse.unlink()
        {fault}
    answer(sink, request, payload)

real._answer = faulty
real.main()
"""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_study_goes_on_when_its_decoder_fails_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    root = Path(decode.__file__).resolve().parent.parent
    fuse, package = tmp_path / "fuse", tmp_path / "fake" / "receiver"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "decode_child.py").write_text(
        ONCE.format(
            real=str(root / "receiver" / "decode_child.py"), fuse=str(fuse), fault=FAULTS[fault]
        )
    )
    monkeypatch.setattr(decode, "_ROOT", f"{package.parent}:{root}")
    monkeypatch.setattr(decode, "_BASE_S", 2.0 if fault == "hangs" else 20.0)
    sent = study()

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*sent.layer(0, "tissue"))
        await peer.hear(m.LayerVerdict)
        fuse.touch()
        await peer.offer(*sent.layer(1, "roi0"))
        assert await peer.hear(m.Want) == m.Want(1)
        await peer.offer(*sent.layer(2, "roi0"))
        await peer.offer(*sent.layer(3, "background"))
        await peer.end(sent.manifest)

    async def main() -> bool | None:
        async with asyncio.timeout(60), ChildDecoders(1) as decoders:
            await decoders.decode(_any())  # it has been started and is warm
            ended = await attend(tmp_path / "out", script, decoder=decoders)
            assert ended.session.quarantine is not None
            assert ended.session.quarantine.count == 1
            return ended.session.exact

    assert asyncio.run(main())


def _any() -> decode.DecodeTask:
    sent = study()
    offer, payload = sent.layer(0, "roi0")
    assert offer.box is not None
    dtype = sent.entry.samples.sample_dtype(sent.voxels.dtype)
    return decode.DecodeTask("zstd", (), offer.box.shape, dtype, payload)
