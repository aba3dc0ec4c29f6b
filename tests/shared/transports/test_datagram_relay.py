from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from shared.errors import SettingsError
from shared.link import parse_link
from shared.transports.datagram_relay import HEADERS_BYTES, MAX_PEERS, DatagramRelay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
QUICK = "rate=100M,rtt=4ms"
LATE_S = 0.1
"""A busy machine; an idle one is 1-2 ms late."""


def now_s() -> float:
    return asyncio.get_running_loop().time()


def bound_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


@contextlib.asynccontextmanager
async def relayed(link: str, seed: int = 0) -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    """A near socket that is connected to the relay, and the far one."""
    with bound_socket() as far, bound_socket() as near:
        port = far.getsockname()[1]
        async with (
            asyncio.timeout(20),
            DatagramRelay("127.0.0.1", port, parse_link(link), seed=seed) as relay,
        ):
            near.connect(("127.0.0.1", relay.port))
            yield near, far


async def received(sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
    """The next datagram and whose it is; uvloop has no `sock_recvfrom`."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_reader(sock, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(sock)
    datagram, peer = sock.recvfrom(1 << 16)
    return datagram, peer


async def arrivals(sock: socket.socket, quiet_s: float) -> list[tuple[float, bytes]]:
    """What comes, and when, until nothing has come for a while."""
    came: list[tuple[float, bytes]] = []
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(quiet_s):
                datagram, _ = await received(sock)
            came.append((now_s(), datagram))
    return came


@RUNNERS
def test_a_datagram_and_its_answer_take_a_round_trip(run: Run) -> None:
    async def main() -> None:
        async with relayed("rate=10M,rtt=100ms") as (near, far):
            sent_s = now_s()
            near.send(b"question")
            question, peer = await received(far)
            assert question == b"question"
            assert -0.002 < now_s() - sent_s - 0.05 < LATE_S
            far.sendto(b"answer", peer)
            assert (await received(near))[0] == b"answer"
            assert -0.002 < now_s() - sent_s - 0.1 < LATE_S

    run(main())


@RUNNERS
def test_datagrams_pass_at_the_rate_with_their_headers(run: Run) -> None:
    async def main() -> None:
        async with relayed("rate=1M,rtt=20ms,queue=60kB") as (near, far):
            sent_s = now_s()
            for number in range(20):
                near.send(number.to_bytes(2) + bytes(1470))
            came = await arrivals(far, 0.3)
            assert [int.from_bytes(datagram[:2]) for _, datagram in came] == list(range(20))
            due_s = 0.01 + 20 * (1472 + HEADERS_BYTES) * 8 / 1e6
            assert -0.002 < came[-1][0] - sent_s - due_s < LATE_S

    run(main())


@RUNNERS
def test_a_full_queue_drops_the_last(run: Run) -> None:
    async def main() -> None:
        async with relayed("rate=1M,rtt=0ms,queue=15kB") as (near, far):
            for number in range(30):
                near.send(number.to_bytes(2) + bytes(1470))
            came = await arrivals(far, 0.3)
            assert [int.from_bytes(datagram[:2]) for _, datagram in came] == list(range(10))

    run(main())


@RUNNERS
def test_datagrams_are_lost_doubled_and_overtaken_as_the_seed_has_it(run: Run) -> None:
    link = "rate=10M,rtt=4ms,queue=1MB,loss=10%,duplicate=10%,reorder=10%"

    async def main(seed: int) -> list[int]:
        async with relayed(link, seed) as (near, far):
            for number in range(200):
                near.send(number.to_bytes(2) + bytes(500))
            return [int.from_bytes(datagram[:2]) for _, datagram in await arrivals(far, 0.3)]

    numbers = run(main(1))
    assert 0.8 * 200 < len(set(numbers)) < 0.97 * 200
    assert len(numbers) > len(set(numbers))
    assert numbers != sorted(numbers)
    assert run(main(1)) == numbers
    assert run(main(2)) != numbers


@RUNNERS
def test_an_outage_counts_from_the_first_datagram_and_silences_both_ways(run: Run) -> None:
    async def main() -> None:
        async with relayed("rate=10M,rtt=0ms,outage=400ms@300ms") as (near, far):
            await asyncio.sleep(0.4)  # the line is not up yet
            near.send(b"before")
            datagram, peer = await received(far)
            up_s = now_s()
            assert datagram == b"before"
            await asyncio.sleep(up_s + 0.4 - now_s())
            near.send(b"during")
            far.sendto(b"during", peer)
            await asyncio.sleep(up_s + 0.9 - now_s())
            near.send(b"after")
            far.sendto(b"after", peer)
            for sock in (near, far):
                assert [datagram for _, datagram in await arrivals(sock, 0.2)] == [b"after"]

    run(main())


@RUNNERS
def test_near_peers_are_kept_apart(run: Run) -> None:
    async def main() -> None:
        async with relayed(QUICK) as (near, far):
            with bound_socket() as other:
                other.connect(near.getpeername())
                peers = []
                for sock in (near, other):
                    sock.send(b"hello")
                    peers.append((await received(far))[1])
                assert peers[0] != peers[1]
                far.sendto(b"other", peers[1])
                far.sendto(b"near", peers[0])
                assert (await received(near))[0] == b"near"
                assert (await received(other))[0] == b"other"

    run(main())


@RUNNERS
def test_a_stranger_cannot_speak_for_the_far_peer(run: Run) -> None:
    async def main() -> None:
        async with relayed(QUICK) as (near, far):
            with bound_socket() as stranger:
                near.send(b"hello")
                _, peer = await received(far)
                stranger.sendto(b"forged", peer)
                far.sendto(b"true", peer)
                assert [datagram for _, datagram in await arrivals(near, 0.2)] == [b"true"]

    run(main())


@RUNNERS
def test_there_is_a_bound_on_near_peers(run: Run) -> None:
    async def main() -> None:
        async with relayed(QUICK) as (near, far):
            with contextlib.ExitStack() as sockets:
                for number in range(MAX_PEERS + 5):
                    sock = sockets.enter_context(bound_socket())
                    sock.sendto(bytes([number]), near.getpeername())
                    await asyncio.sleep(0)
                came = await arrivals(far, 0.2)
                assert len(came) == MAX_PEERS

    run(main())


@RUNNERS
def test_a_far_peer_that_is_not_there_yet_is_no_error(run: Run) -> None:
    async def main() -> None:
        with bound_socket() as probe:
            port = probe.getsockname()[1]
        async with DatagramRelay("127.0.0.1", port, parse_link(QUICK)) as relay:
            with bound_socket() as near, bound_socket() as far:
                near.connect(("127.0.0.1", relay.port))
                for _ in range(3):
                    near.send(b"anybody?")
                    await asyncio.sleep(0.02)
                far.close()
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
                    late.bind(("127.0.0.1", port))
                    late.setblocking(False)
                    near.send(b"you?")
                    assert [datagram for _, datagram in await arrivals(late, 0.2)] == [b"you?"]
            assert relay.fates is not None
            assert relay.fates[0].carried == 4

    run(main())


@pytest.mark.parametrize(
    ("target", "host", "sentence"),
    [
        ("192.0.2.77", "127.0.0.1", "expected an IPv4 address of this machine"),
        ("127.0.0.1", "192.0.2.77", "expected an IPv4 address of this machine"),
        ("127.0.0.1", "0.0.0.0", "expected one address of this machine"),
    ],
)
def test_it_stays_on_this_machine(target: str, host: str, sentence: str) -> None:
    async def main() -> None:
        await DatagramRelay(target, 9, parse_link(QUICK), host=host).__aenter__()

    with pytest.raises(SettingsError, match=sentence):
        asyncio.run(main())


def test_the_command_carries_datagrams_with_one_option_more() -> None:
    with bound_socket() as far, bound_socket() as near:
        far.settimeout(5)
        to = f"127.0.0.1:{far.getsockname()[1]}"
        module = [sys.executable, "-m", "shared.transports.relay"]
        command = [*module, "--udp", "--to", to, "--link", QUICK]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as relay:
            assert relay.stdout
            try:
                near.sendto(b"carried", ("127.0.0.1", int(relay.stdout.readline())))
                assert far.recv(100) == b"carried"
            finally:
                relay.send_signal(signal.SIGTERM)
            assert relay.wait(5) == 0
