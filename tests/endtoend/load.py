"""Eight senders at once, over TLS, to one receiver that hashes, syncs, decodes and proves.

``python -m tests.endtoend.load [SENDERS] [MEGABYTES]`` prints megabytes a second of encoded bytes,
from the first sender's first to the last one's receipt; how unequal the senders' shares were; and
how late the receiver's event loop was. The senders are the protocol's own connections with
encodings that are ready: what is measured is the receiver, on the cores that both share.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from protocol import limits
from protocol import messages as m
from protocol.outbox import Outbox
from protocol.sending import SendingConnection
from protocol.stages import UNFOCUSED, Priority
from receiver.reception import Reception, receive
from shared.clock import SystemClock
from shared.errors import TransportClosed
from shared.geometry import Box
from shared.layer import Region, RegionKind
from shared.loop import run_on_loop
from shared.role import Role
from shared.transports.pump import Pump
from shared.transports.websocket import dial
from shared.trust.credentials import Credentials
from shared.trust.identity import open_identity
from shared.trust.keys import SharedKey
from shared.trust.proof import Claim
from tests.commands import command, environment
from tests.receiver.studies import Study, entry_of, series_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protocol.events import Event
    from shared.transports.base import Transport

KEY = SharedKey("load", bytes(range(32)))
PLANE = (512, 512)
_PLANE_BYTES = 2 * PLANE[0] * PLANE[1]
_BLOCK_PLANES = 4
_TICK_S = 0.005
_START_S = 60.0


@dataclass(frozen=True)
class Load:
    """What was measured."""

    megabytes_per_s: float
    unfairness: float
    """The fastest sender's rate over the slowest one's."""
    lag_p99_s: float
    busy_p99_s: float
    """CPU time of the loop's thread between two looks: its lag on a machine that is ours alone."""
    cpu_s: float
    """Of both ends, all processes and their start included."""
    idle_lag_p99_s: float
    """How late a process was meanwhile that had nothing else to do: the machine's own part."""

    @property
    def megabytes_per_cpu_s(self) -> float:
        """What one core of a machine that does nothing else would carry."""
        return self.megabytes / self.cpu_s

    megabytes: float = 0.0


def study(seed: int, megabytes: int) -> Study:
    """Noise of 16 bits, which no codec shortens."""
    shape = (max(_BLOCK_PLANES, megabytes * 1_000_000 // _PLANE_BYTES), *PLANE)
    voxels = np.random.default_rng(seed).integers(-32767, 32767, shape, np.int16)
    plan = m.Plan(0, 1, (Region("background", RegionKind.BACKGROUND, Box.whole(shape)),), b"")
    return Study(entry_of(series_header(shape), voxels), voxels, plan)


def encodings(sent: Study) -> list[tuple[m.LayerOffer, bytes]]:
    """All layers, coded."""
    z, y, x = sent.voxels.shape
    boxes = [
        Box((at, 0, 0), (min(z, at + _BLOCK_PLANES), y, x)) for at in range(0, z, _BLOCK_PLANES)
    ]
    return [
        sent.layer(number, "background", box=box, block=number) for number, box in enumerate(boxes)
    ]


class Sender:
    """One study on its way."""

    def __init__(self, number: int, megabytes: int) -> None:
        self._study = study(number, megabytes)
        self._layers = encodings(self._study)
        self._outbox = Outbox()
        self._left = len(self._layers)
        self.size_bytes = sum(len(payload) for _, payload in self._layers)
        self._name = number.to_bytes(16, "big")
        self.began_s = self.ended_s = 0.0

    async def run(self, url: str) -> None:
        """To the receipt."""
        transport = await _dial(url)
        self._connection = SendingConnection(software="load")
        self._pump = Pump(self._connection, transport, SystemClock(), self._hear)
        self._connection.greet()
        self.began_s = time.monotonic()
        await self._pump.run()
        assert self._left == 0
        assert self.ended_s, "no receipt"

    async def _hear(self, event: Event) -> None:
        match event:
            case m.Hello():
                self._connection.attach(self._name, 1, accepted=False)
                manifest = self._study.manifest
                self._connection.offer(manifest, self._outbox)
                self._connection.plan(self._study.plan)
                for layer in self._layers:
                    self._put(*layer)
            case m.LayerVerdict(verdict=verdict):
                assert verdict is m.Verdict.VERIFIED
                self._left -= 1
                if not self._left:
                    self._connection.end(self._study.manifest.study)
            case m.Want(number=number):  # the machine stood still, and its decoder was stopped
                offer, payload = self._layers[number]
                self._layers.append((replace(offer, number=len(self._layers)), payload))
                self._put(*self._layers[-1])
            case m.Done(exact=exact):
                assert exact
                self.ended_s = time.monotonic()
                self._pump.close_when_idle()
            case _:
                pass
        self._pump.wake()

    def _put(self, offer: m.LayerOffer, payload: bytes) -> None:
        self._outbox.put(offer, payload, Priority(UNFOCUSED, 0, 0, 0, 0, offer.number))


async def _dial(url: str) -> Transport:
    """Like the real sender, again and again: few strangers at a time get past the gate."""
    while True:
        try:
            return await dial(
                url,
                max_frame_bytes=limits.MAX_FRAME_BYTES,
                credentials=Credentials(Claim(Role.SENDER, limits.PROTOCOL_VERSION), (KEY,)),
            )
        except TransportClosed:
            await asyncio.sleep(0.05)


async def _serve(folder: Path) -> None:
    """The receiver, and how late its loop is, until it is stopped; a file tells."""
    lags: list[float] = []
    busy: list[float] = []
    reception = Reception("127.0.0.1", 0, folder / "clinic", False, None, False, True)
    claim = Claim(Role.RECEIVER, limits.PROTOCOL_VERSION)
    credentials = Credentials(claim, (KEY,), open_identity(folder / "identity"))
    reception = replace(reception, credentials=credentials)
    serving = asyncio.ensure_future(receive(reception))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    while not serving.done():
        began_s, cpu_s = time.monotonic(), time.thread_time()
        await asyncio.sleep(_TICK_S)
        lags.append(time.monotonic() - began_s - _TICK_S)
        busy.append(time.thread_time() - cpu_s)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)  # the decoders have ended
    cpu_s = time.process_time() + children.ru_utime + children.ru_stime
    (folder / "lags.json").write_text(json.dumps([lags, busy, cpu_s]))


def _idle() -> list[float]:
    """How late sleeps end, until stdin does."""
    lags: list[float] = []
    while not select.select([sys.stdin], [], [], 0)[0]:
        began_s = time.monotonic()
        time.sleep(_TICK_S)
        lags.append(time.monotonic() - began_s - _TICK_S)
    return lags


@contextmanager
def serving(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A receiver in a process of its own, which prints its address."""
    process = subprocess.Popen(
        command("tests.endtoend.load", "serve", folder),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def measure(senders: int, megabytes: int) -> Load:
    """Run it, and look at every file that came of it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        sending = [Sender(number, megabytes) for number in range(senders)]
        idle = subprocess.Popen(
            command("tests.endtoend.load", "idle"),
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with idle, serving(folder) as process:
            assert process.stdout is not None
            found = re.search(r"wss?://\S+", process.stdout.readline())
            assert found, "medroi-recv did not start"
            time.sleep(1.0)  # decoding children warm up, which is not what is measured
            before_s = time.process_time()

            async def send() -> None:
                async with asyncio.timeout(240), asyncio.TaskGroup() as group:
                    for each in sending:
                        group.create_task(each.run(found[0]))

            run_on_loop(send())
            ours_s = time.process_time() - before_s
            said, _ = idle.communicate("", timeout=30)
        assert len(list(folder.glob("clinic/*/series-1.nii"))) == senders
        lags, busy, theirs_s = json.loads((folder / "lags.json").read_text())
    began_s = min(each.began_s for each in sending)
    took_s = max(each.ended_s for each in sending) - began_s
    rates = [each.size_bytes / (each.ended_s - began_s) for each in sending]
    total = sum(each.size_bytes for each in sending)
    return Load(
        round(total / took_s / 1e6, 1),
        round(max(rates) / min(rates), 2),
        round(float(np.quantile(lags, 0.99)), 4),
        round(float(np.quantile(busy, 0.99)), 4),
        round(ours_s + theirs_s, 1),
        round(float(np.quantile(json.loads(said), 0.99)), 4),
        megabytes=total / 1e6,
    )


def main() -> int:
    """Measure, or serve."""
    if sys.argv[1:2] == ["serve"]:
        os.umask(0o077)
        run_on_loop(_serve(Path(sys.argv[2])))
        return 0
    if sys.argv[1:2] == ["idle"]:
        print(json.dumps(_idle()))
        return 0
    senders, megabytes = (int(argument) for argument in (*sys.argv[1:], "8", "24")[:2])
    print(measure(senders, megabytes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
