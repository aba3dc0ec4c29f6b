from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from receiver import decode
from receiver.decode import ChildDecoders, DecodeTask, InlineDecoder
from shared.codecs.base import Block
from shared.codecs.given import Given, encode_with
from shared.codecs.parts import pack_parts
from shared.codecs.registry import CODECS
from shared.errors import CodecError
from tests.contracts.codec import GOLDEN, smooth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

UINT16 = np.dtype(np.uint16)
SAMPLES = smooth((3, 24, 20), 12)
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def task(
    samples: NDArray[Any] = SAMPLES,
    codec: str = "zstd",
    *,
    payload: bytes | None = None,
    shape: tuple[int, int, int] | None = None,
    dtype: np.dtype[Any] | None = None,
    settings: tuple[tuple[str, int], ...] = (),
) -> DecodeTask:
    coded = CODECS[codec].encode(Block(samples, 12), {}) if payload is None else payload
    z, y, x = samples.shape
    return DecodeTask(codec, settings, shape or (z, y, x), dtype or samples.dtype, coded)


def pid_of(decoders: ChildDecoders) -> int:
    """Of the child that is next."""
    child = decoders._idle._queue[0]  # type: ignore[attr-defined]
    pid: int = child._process.pid
    return pid


@pytest.fixture(scope="module")
def real() -> Iterator[tuple[asyncio.Runner, ChildDecoders]]:
    """One real child, on a loop of its own, for all tests that leave it sound."""
    with asyncio.Runner() as runner:
        decoders = ChildDecoders(1)
        runner.run(decoders.__aenter__())
        decoders.expect("causal3d")  # or another child would take the place of this one
        runner.run(decoders.decode(task()))  # it is up
        yield runner, decoders
        runner.run(decoders.__aexit__())


def refused(runner: asyncio.Runner, decoders: ChildDecoders, wrong: DecodeTask) -> str:
    """The sentence; the child says it itself, at once, and lives on."""
    pid = pid_of(decoders)
    started_s = perf_counter()
    with pytest.raises(CodecError) as caught:
        runner.run(decoders.decode(wrong))
    assert perf_counter() - started_s < 2
    assert pid_of(decoders) == pid
    return str(caught.value)


Real = tuple[asyncio.Runner, ChildDecoders]


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_decodes_in_a_child_as_it_does_here(real: Real, codec: str) -> None:
    runner, decoders = real
    given = task(codec=codec)
    expected = CODECS[codec].decode(given.payload, given.shape, UINT16, {})
    decoded = runner.run(decoders.decode(given))
    assert decoded.dtype == UINT16
    assert np.array_equal(decoded, expected)
    assert np.array_equal(runner.run(InlineDecoder().decode(given)), expected)


@pytest.mark.parametrize("dtype", ["<i1", "<i8", "<f4", "<f8"])
def test_raw_samples_of_any_type_come_back_bitwise(real: Real, dtype: str) -> None:
    runner, decoders = real
    samples = np.random.default_rng(1).integers(0, 255, 8 * 480, np.uint8).view(dtype)
    block = samples.reshape(-1, 8, 10)
    assert runner.run(decoders.decode(task(block))).tobytes() == block.tobytes()


def test_a_layer_as_large_as_they_come_passes_the_pipe(real: Real) -> None:
    runner, decoders = real
    samples = np.arange(16 << 20, dtype=np.uint16).reshape(16, 1024, 1024)
    decoded = runner.run(decoders.decode(task(samples, payload=_zstd(samples))))
    assert np.array_equal(decoded, samples)


def _zstd(samples: NDArray[Any]) -> bytes:
    return CODECS["zstd"].encode(Block(samples, 16), {"level": 1})


HOSTILE = {
    "htj2k": "hostile_htj2k_xosiz.jph",
    "jpeg2000": "hostile_htj2k_xosiz.jph",
    "jpegls": "hostile_jpegls_endless.jls",
}


@pytest.mark.parametrize("codec", HOSTILE)
@pytest.mark.parametrize("raw", [True, False], ids=["bare", "wrapped"])
def test_hostile_streams_are_refused_at_once(real: Real, codec: str, raw: bool) -> None:
    stream = (GOLDEN / HOSTILE[codec]).read_bytes()
    wrong = task(payload=stream if raw else pack_parts([stream]), codec=codec, shape=(1, 64, 64))
    refused(*real, wrong)


@pytest.mark.parametrize("codec", CODECS)
def test_the_hostile_files_of_the_set_are_refused_by_every_codec(
    real: Real, scans: Path, codec: str
) -> None:
    for path in sorted((scans / "hostile").glob("*.j*")):
        wrong = task(payload=pack_parts([path.read_bytes()]), codec=codec, shape=(1, 64, 64))
        refused(*real, wrong)


@pytest.mark.parametrize("codec", [name for name in CODECS if name != "hevc"])
@pytest.mark.parametrize("shape", [(3, 24, 21), (3, 23, 20), (2, 24, 20), (4, 24, 20), (1, 1, 1)])
def test_another_size_than_the_declared_one_is_refused(
    real: Real, codec: str, shape: tuple[int, int, int]
) -> None:
    refused(*real, task(codec=codec, shape=shape))


@pytest.mark.parametrize("shape", [(3, 24, 25), (3, 16, 20), (2, 24, 20), (4, 24, 20)])
def test_a_preview_of_another_size_is_refused(real: Real, shape: tuple[int, int, int]) -> None:
    """But for what HEVC fills up to whole 8 x 8 units, of which it does not say the picture's."""
    refused(*real, task(codec="hevc", shape=shape))


@pytest.mark.parametrize("codec", CODECS)
def test_damaged_bytes_are_refused_or_decode_to_the_declared_shape(real: Real, codec: str) -> None:
    runner, decoders = real
    given = task(codec=codec)
    rng = np.random.default_rng(7)
    for _ in range(25):
        damaged = bytearray(given.payload)
        for at in rng.integers(0, len(damaged), 3):
            damaged[at] ^= 1 << int(rng.integers(8))
        try:
            decoded = runner.run(decoders.decode(task(codec=codec, payload=bytes(damaged))))
        except CodecError:
            continue
        assert (decoded.shape, decoded.dtype) == (SAMPLES.shape, UINT16)


@pytest.mark.parametrize(
    "wrong",
    [
        task(payload=b""),
        task(payload=b"\x00"),
        task(payload=b"\xff" * 1000, codec="hevc"),
        DecodeTask("no such codec", (), (1, 2, 3), UINT16, b"x"),
        DecodeTask("jpegxl", (("effort", 99),), (1, 2, 3), UINT16, b"x"),
        DecodeTask("jpegxl", (("evil", 1),), (1, 2, 3), UINT16, b"x"),
        DecodeTask("jpegxl", (), (1, 2, 3), np.dtype(np.float64), b"x"),
    ],
    ids=["nothing", "a byte", "noise", "codec", "setting", "unknown setting", "type"],
)
def test_what_no_codec_can_be_asked_is_refused(real: Real, wrong: DecodeTask) -> None:
    refused(*real, wrong)
    with pytest.raises(CodecError):
        asyncio.run(InlineDecoder().decode(wrong))


def test_a_bomb_does_not_go_off(real: Real) -> None:
    bomb = _zstd(np.zeros((64, 1024, 1024), np.uint16))
    assert len(bomb) < 20_000
    assert "zstd" in refused(*real, task(payload=bomb))


@linux
def test_a_child_cannot_take_more_memory_than_any_layer_needs(real: Real) -> None:
    """Within the limits a layer needs 256 MiB; this one asks for 4 GiB."""
    refused(*real, task(payload=_zstd(SAMPLES), shape=(4096, 1024, 1024), dtype=np.dtype(np.uint8)))


@linux
def test_a_child_is_confined_and_knows_nothing_of_us(real: Real) -> None:
    _, decoders = real
    process = Path(f"/proc/{pid_of(decoders)}")
    limits = {
        line[:26].strip(): line[26:].split()[0]
        for line in (process / "limits").read_text().splitlines()
    }
    assert limits["Max address space"] == str(3 << 30)
    assert limits["Max core file size"] == "0"
    assert limits["Max open files"] == "0"
    assert limits["Max file size"] == "0"
    assert limits["Max cpu time"].isdigit()
    names = {entry.split(b"=")[0] for entry in (process / "environ").read_bytes().split(b"\0")[:-1]}
    assert names <= {b"PYTHONPATH", b"PATH", b"OMP_NUM_THREADS"}
    opened = {os.readlink(link) for link in (process / "fd").iterdir()}
    assert all(name.startswith(("pipe:", "/dev/null", "socket:")) for name in opened), opened


def test_a_child_that_has_decoded_can_load_no_more_and_one_that_can_takes_its_place() -> None:
    async def main() -> None:
        async with ChildDecoders(1) as decoders, asyncio.timeout(120):
            await decoders.decode(task())
            pid = pid_of(decoders)
            decoders.expect("causal3d")  # it does not try to
            assert np.array_equal(await decoders.decode(task()), SAMPLES)
            assert pid_of(decoders) == pid
            for _ in range(2):
                assert np.array_equal(await decoders.decode(task(codec="causal3d")), SAMPLES)
                assert pid_of(decoders) != pid
            pid = pid_of(decoders)
            await decoders.decode(task())
            assert pid_of(decoders) == pid

    asyncio.run(main())


def test_what_a_codec_takes_to_load_is_no_fault_of_the_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decode, "_BASE_S", 0.6)  # numba alone takes longer to load

    async def main() -> None:
        async with ChildDecoders(1) as decoders:
            assert np.array_equal(await decoders.decode(task(codec="causal3d")), SAMPLES)

    asyncio.run(main())


def test_where_nothing_is_compiled_layers_of_other_codecs_do_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiling: list[str] = []
    start = decode._start

    async def note(module: str) -> asyncio.subprocess.Process:
        compiling.append(module)
        return await start(module)

    monkeypatch.setattr(decode, "is_compiled", lambda: False)
    monkeypatch.setattr(decode, "_start", note)

    async def main() -> None:
        async with ChildDecoders(1) as decoders:
            await asyncio.sleep(2 * decode._IDLE_S)
            assert decoders._loading is None
            assert np.array_equal(await decoders.decode(task()), SAMPLES)
            process = decoders._compiling
            assert process is not None
        assert process.returncode is not None

    asyncio.run(main())
    assert compiling == ["receiver.decode_child", "shared.codecs.causal.warm"]


# -- children that fail ---------------------------------------------------------------------------


@linux
def test_a_child_killed_in_mid_work_is_replaced_and_later_work_is_done() -> None:
    async def main() -> None:
        async with ChildDecoders(1) as decoders, asyncio.timeout(60):
            await decoders.decode(task())
            pid = pid_of(decoders)
            os.kill(pid, signal.SIGSTOP)
            async with asyncio.TaskGroup() as group:
                working = group.create_task(_died(decoders))
                await asyncio.sleep(0.05)
                os.kill(pid, signal.SIGKILL)
            assert "died" in working.result()
            assert pid_of(decoders) != pid
            assert np.array_equal(await decoders.decode(task()), SAMPLES)

    async def _died(decoders: ChildDecoders) -> str:
        with pytest.raises(CodecError) as caught:
            await decoders.decode(task())
        return str(caught.value)

    asyncio.run(main())


LIES = {
    "dies": "sys.exit(1)",
    "crashes": "os.abort()",
    "prints": "sink.write(b'Segmentation fault, probably\\n' * 9)",
    "answers too much": "sink.write(struct.pack('!BI', 0, 1 << 31)); sink.write(b'x' * 5000)",
    "answers a little more": "sink.write(struct.pack('!BI', 0, 2881) + bytes(2881))",
    "answers too little": "sink.write(struct.pack('!BI', 0, 2) + b'xx')",
    "refuses at length": "sink.write(struct.pack('!BI', 1, 1 << 30))",
    "closes its mouth": "sink.close(); os.close(1); source.read()",
    "sleeps": "time.sleep(3600)",
    "stops in mid-answer": "sink.write(struct.pack('!BI', 0, 2880) + b'x'); time.sleep(3600)",
    "never reads": "time.sleep(3600)",
}
FAKE = """
import os, struct, sys, time
source, sink = sys.stdin.buffer, sys.stdout.buffer
{start}
head = source.read(4)
while len(head) == 4:
    source.read(struct.unpack("!I", head)[0])
    source.read(struct.unpack("!I", source.read(4))[0])
    {lie}
    sink.flush()
    head = source.read(4)
"""


@pytest.mark.parametrize("lie", LIES)
def test_a_child_that_a_bitstream_has_taken_over_can_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    package = tmp_path / "receiver"
    package.mkdir()
    (package / "__init__.py").touch()
    start = "time.sleep(3600)" if lie == "never reads" else ""
    (package / "decode_child.py").write_text(FAKE.format(start=start, lie=LIES[lie]))
    monkeypatch.setattr(decode, "_ROOT", str(tmp_path))
    monkeypatch.setattr(decode, "_BASE_S", 0.5 if "sleep" in start + LIES[lie] else 10.0)
    monkeypatch.setattr(decode, "_S_PER_MEGAVOXEL", 0.0)
    large = np.zeros((1, 1200, 1200), np.uint16) if lie == "never reads" else SAMPLES
    given = task(large, payload=os.urandom(1 << 21) if lie == "never reads" else None)

    async def main() -> None:
        async with asyncio.timeout(20), ChildDecoders(1) as decoders:
            pid = pid_of(decoders)
            with pytest.raises(CodecError):
                await decoders.decode(given)
            assert pid_of(decoders) != pid
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    asyncio.run(main())


ECHO = """
import struct, sys, time
source, sink = sys.stdin.buffer, sys.stdout.buffer
while len(head := source.read(4)) == 4:
    source.read(struct.unpack("!I", head)[0])
    payload = source.read(struct.unpack("!I", source.read(4))[0])
    time.sleep(payload[0] / 10)
    sink.write(struct.pack("!BI", 0, 4) + payload[:4])
    sink.flush()
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children that "decode" four bytes, after as many tenths of a second as the first says."""
    (tmp_path / "receiver").mkdir()
    (tmp_path / "receiver" / "__init__.py").touch()
    (tmp_path / "receiver" / "decode_child.py").write_text(ECHO)
    monkeypatch.setattr(decode, "_ROOT", str(tmp_path))


def four(number: int, tenths: int = 0) -> DecodeTask:
    return DecodeTask("x", (), (1, 1, 4), np.dtype(np.uint8), bytes([tenths, 0, 0, number]))


@pytest.mark.usefixtures("echo")
def test_answers_go_to_those_who_asked_however_many_ask_at_once() -> None:
    async def main() -> None:
        async with ChildDecoders(2) as decoders, asyncio.timeout(30):
            assert decoders.count == 2
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(decoders.decode(four(n))) for n in range(20)]
            assert [int(each.result()[0, 0, 3]) for each in asked] == list(range(20))

    asyncio.run(main())


@pytest.mark.usefixtures("echo")
def test_whoever_stops_waiting_leaves_no_answer_for_the_next() -> None:
    async def main() -> None:
        async with ChildDecoders(1) as decoders, asyncio.timeout(30):
            pid = pid_of(decoders)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await decoders.decode(four(1, tenths=100))
            assert pid_of(decoders) != pid
            assert (await decoders.decode(four(2)))[0, 0, 3] == 2

    asyncio.run(main())


def test_a_child_imports_nothing_from_the_folder_we_were_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("receiver", "numpy", "msgpack", "shared"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        async with ChildDecoders(1) as decoders:
            assert np.array_equal(await decoders.decode(task()), SAMPLES)

    asyncio.run(main())


@pytest.mark.usefixtures("echo")
def test_leaving_ends_the_children() -> None:
    async def main() -> list[int]:
        async with ChildDecoders(2) as decoders:
            pids = [child._process.pid for child in decoders._idle._queue]  # type: ignore[attr-defined]
            await decoders.decode(four(1))
        return pids

    for pid in asyncio.run(main()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_unless_told_otherwise_there_is_one_child_a_core() -> None:
    assert ChildDecoders().count >= 1


def test_owned_voxels_and_what_is_built_on_reach_the_child(real: Real) -> None:
    runner, decoders = real
    owned = SAMPLES % 3 > 0
    codec, given = CODECS["causal3d"], Given(owned)
    task: DecodeTask | None = None
    for rung in (1, 2, 3):
        settings = {"ladder": 1, "rung": rung}
        payload = encode_with(codec, Block(SAMPLES, 12), settings, given)
        said = tuple(sorted(settings.items()))
        z, y, x = SAMPLES.shape
        task = DecodeTask("causal3d", said, (z, y, x), UINT16, payload, owned, task)
        found = runner.run(decoders.decode(task))
        given = Given(owned, found)
    assert np.array_equal(found, np.where(owned, SAMPLES, 0))
