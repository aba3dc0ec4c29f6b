"""The process that is the line: two network namespaces, a TUN device in each, packets between them.

    site namespace                    this process                      clinic namespace
    tun0  10.77.0.1  ==read/write==  LineDatagrams each way  ==read/write==  tun0  10.77.0.2

What the kernels of both namespaces do is real: TCP with its congestion control, SCTP in whatever
process speaks it. They see loss, queues and silence because packets of theirs are late or missing.
Root rights and /dev/net/tun are needed, sch_netem is not.

The namespaces have no name and no mount: they are gone with the last process that is in them, and
this one ends when its standard input does, so nothing is left even of a harness that was killed.
`tests.emulator.namespaces` starts it and reads what it prints: a line of JSON when the line is
there, another one at the end. The line comes up, and outages count, from the first packet.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import heapq
import json
import os
import select
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import SettingsError
from shared.line import Line
from shared.line_datagrams import LineDatagrams
from shared.link import LinkProfile, parse_link

if TYPE_CHECKING:
    from collections.abc import Sequence

CLONE_NEWNET = 0x40000000  # sched.h
TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN_NO_PI = 0x1001
DEVICE = "tun0"
MTU_BYTES = 1500
MAX_PACKET_BYTES = 2048
READ_AT_ONCE = 64
"""Packets of one device before the other has its turn."""
OVER_THE_LINE = "( dst 10.77.0.0/24 or dst 127.77.0.0/24 )"
"""Connections that a reset breaks; those within a namespace live on."""
FULL_BYTES = 1000
"""A packet that carries data, rather than a handshake or an acknowledgement."""
PRIORITY = -15
"""Of this process (nice): a line is on time, whatever else the machine does."""
SETTINGS = {
    # 127.77.0.x is reached through the device as well: what is in plaintext keeps to loopback
    # addresses, and is measured all the same.
    "net/ipv4/conf/all/route_localnet": "1",
    f"net/ipv6/conf/{DEVICE}/disable_ipv6": "1",
}


@dataclass(frozen=True, slots=True)
class End:
    """A namespace and the device in it."""

    namespace: int
    device: int


class Resumption:
    """How long after each outage's end a full packet was let out to the clinic again."""

    def __init__(self, ends_s: Sequence[float]) -> None:
        self._ends_s = list(ends_s)
        self.after_s: list[float] = []

    def note(self, now_s: float, size_bytes: int) -> None:
        """A packet has been let out."""
        while self._ends_s and now_s >= self._ends_s[0] and size_bytes >= FULL_BYTES:
            self.after_s.append(round(now_s - self._ends_s.pop(0), 3))


@dataclass(slots=True)
class Lateness:
    """How much later than the model says packets were let out."""

    packets: int = 0
    sum_s: float = 0.0
    most_s: float = 0.0

    def note(self, late_s: float) -> None:
        """One more packet."""
        self.packets += 1
        self.sum_s += late_s
        self.most_s = max(self.most_s, late_s)


class Wire:
    """Moves packets between two ends until it is told to stop."""

    def __init__(self, profile: LinkProfile, seed: int, site: End, clinic: End) -> None:
        self._profile = profile
        self._seed = seed
        self._ends = {site.device: site, clinic.device: clinic}
        self._clinic = clinic.device
        self._other = {site.device: clinic.device, clinic.device: site.device}
        self._lines: dict[int, LineDatagrams] = {}
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._order = count()
        self._resets_s: list[float] = []
        self._came_up_s: float | None = None
        self._late = Lateness()
        self._resumed = Resumption(())

    def run(self) -> None:
        """Until standard input ends."""
        watched = [sys.stdin.fileno(), *self._ends]
        while True:
            ready, _, _ = select.select(watched, [], [], self._idle_s())
            if watched[0] in ready and not os.read(watched[0], 1024):
                return
            for device in ready:
                if device in self._ends:
                    self._read(device)
            self._write()
            if self._resets_s and self._resets_s[0] <= time.monotonic():
                del self._resets_s[0]
                self._reset()

    def report(self) -> dict[str, object]:
        """What has become of the packets, from the site to the clinic and back."""
        fates = [asdict(line.fates) for line in self._lines.values()]
        mean_s = self._late.sum_s / max(1, self._late.packets)
        return {
            "came_up_s": self._came_up_s,
            "to_clinic": fates[0] if fates else None,
            "to_site": fates[1] if fates else None,
            "resumed_after_s": self._resumed.after_s,
            "late_ms": {"mean": round(1e3 * mean_s, 3), "most": round(1e3 * self._late.most_s, 3)},
        }

    def _idle_s(self) -> float | None:
        due = [self._under_way[0][0]] if self._under_way else []
        due += self._resets_s[:1]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _read(self, device: int) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                packet = os.read(device, MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4:  # IP version
                continue
            now_s = time.monotonic()
            if self._came_up_s is None:
                self._come_up(now_s)
            for arrives_s in self._lines[device].arrivals_s(now_s, len(packet)):
                item = (arrives_s, next(self._order), self._other[device], packet)
                heapq.heappush(self._under_way, item)

    def _come_up(self, now_s: float) -> None:
        self._came_up_s = now_s
        self._resets_s = [now_s + reset_s for reset_s in self._profile.resets_s]
        for way, device in enumerate(self._ends):
            line = Line(self._profile, 2 * self._seed + way, start_s=now_s)
            self._lines[device] = LineDatagrams(line)
        self._resumed = Resumption([now_s + outage.stop_s for outage in self._profile.outages])

    def _write(self) -> None:
        now_s = time.monotonic()
        while self._under_way and self._under_way[0][0] <= now_s:
            due_s, _, device, packet = heapq.heappop(self._under_way)
            os.write(device, packet)
            self._late.note(now_s - due_s)
            if device == self._clinic:
                self._resumed.note(now_s, len(packet))

    def _reset(self) -> None:
        """Break every TCP connection: each kernel aborts its own, and tells the other end."""
        for end in self._ends.values():
            inside = f"--net=/proc/{os.getpid()}/fd/{end.namespace}"
            kill = ["ss", "--kill", "--tcp", OVER_THE_LINE]
            subprocess.run(["nsenter", inside, *kill], stdout=subprocess.DEVNULL, check=True)


def make_ends(congestion: str) -> tuple[End, End]:
    """Two namespaces with their devices up; this process stays where it was.

    Raises:
        SettingsError: no root rights, no TUN, or a congestion control that the kernel has not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    ends = []
    try:
        for number in (1, 2):
            if libc.unshare(CLONE_NEWNET) != 0:
                reason = os.strerror(ctypes.get_errno())
                raise SettingsError(f"no network namespace can be made: {reason}")
            namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
            ends.append(End(namespace, _open_device(number, 3 - number)))
            if congestion:
                _choose_congestion(congestion)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SettingsError(f"no TUN device can be made: {error}") from error
    finally:
        libc.setns(home, CLONE_NEWNET)
        os.close(home)
    return ends[0], ends[1]


def _open_device(own: int, peer: int) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN_NO_PI))
    for name, value in SETTINGS.items():
        if "ipv6" not in name or Path("/proc/sys/net/ipv6").is_dir():
            Path("/proc/sys", name).write_text(value)
    for step in (
        "link set lo up",
        # The whole of 127.0.0.0/8 is lo's otherwise.
        "addr del 127.0.0.1/8 dev lo",
        "addr add 127.0.0.1/32 dev lo",
        f"addr add 10.77.0.{own}/32 peer 10.77.0.{peer} dev {DEVICE}",
        f"addr add 127.77.0.{own}/32 peer 127.77.0.{peer} dev {DEVICE}",
        f"link set {DEVICE} mtu {MTU_BYTES} up",
    ):
        subprocess.run(["ip", *step.split()], check=True)
    return device


def _choose_congestion(name: str) -> None:
    try:
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text(name)
    except OSError as error:
        raise SettingsError(f"this kernel has no congestion control {name!r}") from error


def main() -> int:
    """The process; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulator.wire", description=__doc__)
    parser.add_argument("--link", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--congestion", default="", help="of TCP; the machine's own unless said")
    options = parser.parse_args()
    try:
        profile = parse_link(options.link)
        site, clinic = make_ends(options.congestion)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    print(json.dumps({"site": site.namespace, "clinic": clinic.namespace}), flush=True)
    wire = Wire(profile, options.seed, site, clinic)
    wire.run()
    print(json.dumps(wire.report()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
