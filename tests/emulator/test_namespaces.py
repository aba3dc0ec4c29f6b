from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands import environment
from tests.emulator import namespaces
from tests.emulator.namespaces import TunLink, missing_for_tun, names_left

if TYPE_CHECKING:
    from collections.abc import Iterator

LATE_S = 0.15
"""A busy machine; an idle one is under 1 ms late."""

SERVER = """
import socket, sys, time
with socket.create_server((sys.argv[1], 5000)) as listener:
    print("ready", flush=True)
    connection, _ = listener.accept()
    try:
        while received := connection.recv(1 << 16):
            print(time.monotonic(), len(received), flush=True)
    except ConnectionError:
        print("broken", flush=True)
"""
CLIENT = """
import socket, sys, time
began_s = time.monotonic()
with socket.create_connection((sys.argv[1], 5000), timeout=30) as sock:
    print(time.monotonic() - began_s, flush=True)
    try:
        while time.monotonic() < began_s + float(sys.argv[2]):
            sock.sendall(bytes(int(sys.argv[3])))
            time.sleep(float(sys.argv[4]))
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)
    except ConnectionError:
        print("broken", flush=True)
"""


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    if reason := missing_for_tun():
        pytest.skip(reason)
    before = names_left()
    yield
    assert names_left() == before


def talk(
    link: TunLink, seconds: float, size_bytes: int, pause_s: float, address: str = ""
) -> tuple[list[str], list[str]]:
    """What server and client say of a conversation over TCP."""
    address = address or link.clinic.address
    python = [sys.executable, "-c"]
    server = link.clinic.popen([*python, SERVER, address], stdout=subprocess.PIPE)
    with server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        client = link.site.run(
            [*python, CLIENT, address, seconds, size_bytes, pause_s],
            stdout=subprocess.PIPE,
            timeout=60,
        )
        return server.stdout.read().split("\n"), client.stdout.split("\n")


def carried(said: list[str]) -> list[tuple[float, int]]:
    """When how many bytes came."""
    lines = [line.split() for line in said if " " in line]
    return [(float(at_s), int(size)) for at_s, size in lines]


def test_a_handshake_of_the_kernel_takes_a_round_trip() -> None:
    with TunLink("rate=10M,rtt=200ms") as link:
        _, client = talk(link, 0.0, 1, 0.0)
        assert 0.2 <= float(client[0]) < 0.2 + LATE_S


def test_kernel_tcp_fills_the_rate_and_no_more() -> None:
    with TunLink("rate=4M,rtt=20ms") as link:
        server, _ = talk(link, 3.0, 1 << 16, 0.0)
        arrivals = carried(server)
        rate_bps = sum(size for _, size in arrivals[1:]) * 8 / (arrivals[-1][0] - arrivals[0][0])
        assert 0.8 * 4e6 < rate_bps < 0.97 * 4e6  # headers are bytes too
    assert link.report["to_clinic"]["carried_bytes"] > sum(size for _, size in arrivals)


def test_packets_are_lost_on_both_ways_and_the_kernel_sends_them_again() -> None:
    with TunLink("rate=10M,rtt=20ms,loss=5%", seed=1) as link:
        server, _ = talk(link, 3.0, 1 << 14, 0.01)
        assert sum(size for _, size in carried(server)) % (1 << 14) == 0
    for way in ("to_clinic", "to_site"):
        fates = link.report[way]
        assert 0.01 < fates["lost"] / (fates["lost"] + fates["carried"]) < 0.12


def test_nothing_passes_in_an_outage() -> None:
    with TunLink("rate=10M,rtt=20ms,outage=1s@500ms") as link:
        server, _ = talk(link, 2.5, 100, 0.02)
    came_up_s = link.report["came_up_s"]
    at_s = [at_s - came_up_s for at_s, _ in carried(server)]
    assert not any(0.5 + LATE_S < moment_s < 1.5 for moment_s in at_s)
    assert any(moment_s < 0.5 for moment_s in at_s)
    assert any(moment_s > 1.5 for moment_s in at_s)
    assert link.report["to_clinic"]["silenced"] > 0


def test_a_reset_breaks_the_connection_at_both_ends() -> None:
    with TunLink("rate=10M,rtt=20ms,reset@500ms") as link:
        server, client = talk(link, 10.0, 100, 0.02)
        assert "broken" in server
        assert "broken" in client
        at_s = [at_s for at_s, _ in carried(server)]
        assert at_s[-1] - at_s[0] < 1.0


def test_what_keeps_to_loopback_addresses_goes_over_the_line_too() -> None:
    with TunLink("rate=10M,rtt=200ms") as link:
        _, client = talk(link, 0.0, 1, 0.0, link.clinic.plain_address)
        assert 0.2 <= float(client[0]) < 0.2 + LATE_S
    assert link.report["to_clinic"]["carried"] > 0


def test_congestion_control_is_chosen_for_both_ends() -> None:
    with TunLink("lan", congestion="reno") as link:
        assert link.congestion == "reno"


def test_what_cannot_be_had_is_said_in_a_sentence() -> None:
    with pytest.raises(RuntimeError, match="no TUN link: link: expected rate=1M"):
        TunLink("5g").__enter__()
    with pytest.raises(RuntimeError, match="no congestion control 'vegetable'"):
        TunLink("lan", congestion="vegetable").__enter__()


def test_nothing_is_left_of_a_harness_that_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    script = f"""
        import os, time
        from pathlib import Path
        from tests.emulator.namespaces import TunLink
        with TunLink("lan") as link:
            sleeper = link.clinic.popen(["sleep", "600"])
            Path({str(told)!r}).write_text(f"{{link._wire.pid}} {{sleeper.pid}}\\n")
            time.sleep(600)
    """
    harness = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=environment())
    with harness:
        deadline_s = time.monotonic() + 20
        while not (told.is_file() and told.read_text().endswith("\n")):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        harness.send_signal(signal.SIGKILL)
    pids = [int(word) for word in told.read_text().split()]
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_machine_that_cannot_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert missing_for_tun() == "a TUN link needs root rights"
    monkeypatch.undo()
    monkeypatch.setattr(namespaces, "_TOOLS", ("ip", "no-such-tool"))
    assert missing_for_tun() == "this machine has no no-such-tool"
