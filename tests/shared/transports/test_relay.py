from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import socket
import statistics
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from shared.errors import MedroiError, SettingsError, TransportClosed
from shared.link import parse_link
from shared.transports.relay import MAX_CONNECTIONS, Relay
from shared.transports.websocket import WebSocketTransport, dial, listen
from tests.contracts.transport import collect
from tests.shared.transports.carried import carried, connect, now_s, read_to_end, send_and_end

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
THIN = parse_link("rate=1M,rtt=100ms")
QUICK = parse_link("rate=100M,rtt=4ms")
EARLY_S = 0.002
"""Timers round, and the two ends look at the clock at different moments."""
LATE_S = 0.1
"""A busy machine; what is measured on an idle one is under 2 ms."""


@RUNNERS
def test_a_thin_link_carries_its_rate(run: Run) -> None:
    async def main() -> None:
        async with carried(THIN) as line:
            async with asyncio.TaskGroup() as group:
                arrivals = group.create_task(read_to_end(line.far))
                await send_and_end(line.near, bytes(125_000))
            taken, late_s = 0, list[float]()
            for arrived_s, size_bytes in arrivals.result():
                taken += size_bytes
                due_s = line.connected_s + 0.15 + taken * 8 / 1e6
                late_s.append(arrived_s - due_s)
            assert taken == 125_000
            assert min(late_s) > -EARLY_S
            assert statistics.median(late_s) < LATE_S
            assert late_s[-1] < LATE_S
            assert len(late_s) > 60  # packet by packet, not in lumps

    run(main())


@RUNNERS
def test_the_first_byte_takes_a_round_trip_and_a_half(run: Run) -> None:
    async def main() -> None:
        async with carried(parse_link("rate=1M,rtt=200ms")) as line:
            loop = asyncio.get_running_loop()
            assert -EARLY_S < now_s() - line.connected_s - 0.1 < LATE_S  # accepted
            await loop.sock_sendall(line.near, b"!")
            assert await loop.sock_recv(line.far, 10) == b"!"
            assert -EARLY_S < now_s() - line.connected_s - 0.3 < LATE_S
            await loop.sock_sendall(line.far, b"?")
            assert await loop.sock_recv(line.near, 10) == b"?"
            assert -EARLY_S < now_s() - line.connected_s - 0.4 < LATE_S

    run(main())


@RUNNERS
def test_a_far_end_that_speaks_first_is_heard_after_two_round_trips(run: Run) -> None:
    async def main() -> None:
        async with carried(parse_link("rate=1M,rtt=200ms")) as line:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(line.far, b"220 ready")
            assert await loop.sock_recv(line.near, 10) == b"220 ready"
            assert -EARLY_S < now_s() - line.connected_s - 0.4 < LATE_S

    run(main())


@RUNNERS
def test_connections_share_the_link(run: Run) -> None:
    async def main() -> None:
        async with carried(THIN) as line:
            near, far = await line.another()
            with near, far:
                started_s = now_s()
                async with asyncio.TaskGroup() as group:
                    group.create_task(read_to_end(line.far))
                    group.create_task(read_to_end(far))
                    group.create_task(send_and_end(line.near, bytes(40_000)))
                    group.create_task(send_and_end(near, bytes(40_000)))
                assert 0.64 < now_s() - started_s < 0.64 + 0.15 + LATE_S

    run(main())


@RUNNERS
def test_bytes_survive_loss_and_the_same_seed_loses_the_same(run: Run) -> None:
    content = Random(0).randbytes(300_000)

    async def main(loss: str) -> float:
        async with carried(parse_link(f"rate=20M,rtt=30ms,loss={loss}"), seed=3) as line:
            digest = hashlib.sha256()

            async def read() -> None:
                while received := await asyncio.get_running_loop().sock_recv(line.far, 1 << 16):
                    digest.update(received)

            async with asyncio.TaskGroup() as group:
                group.create_task(read())
                await send_and_end(line.near, content)
            assert digest.digest() == hashlib.sha256(content).digest()
            return now_s() - line.connected_s

    assert 0.165 - EARLY_S < run(main("0%")) < 0.165 + LATE_S
    first_s, second_s = run(main("10%")), run(main("10%"))
    assert min(first_s, second_s) > 0.18
    assert abs(first_s - second_s) < LATE_S


@RUNNERS
def test_a_trace_sets_the_pace(run: Run, tmp_path: Path) -> None:
    (tmp_path / "slow.up").write_text("50\n100\n")

    async def main() -> None:
        async with carried(parse_link(f"trace:{tmp_path / 'slow.up'},rtt=20ms")) as line:
            async with asyncio.TaskGroup() as group:
                group.create_task(read_to_end(line.far))
                await send_and_end(line.near, bytes(15_000))
            # From an opportunity of the first 50 ms on, which have passed, ten of them.
            assert 0.5 <= now_s() - line.connected_s < 0.6 + LATE_S

    run(main())


@RUNNERS
def test_a_gigabit_is_carried(run: Run) -> None:
    content = bytes(64 << 20)

    async def main() -> float:
        async with carried(parse_link("lan")) as line:
            async with asyncio.TaskGroup() as group:
                arrivals = group.create_task(read_to_end(line.far))
                await send_and_end(line.near, content)
            assert sum(size for _, size in arrivals.result()) == len(content)
            return len(content) * 8 / (now_s() - line.connected_s)

    assert 300e6 < run(main()) < 1e9  # 998 Mbit/s on an idle machine of two cores


@RUNNERS
def test_a_websocket_goes_through_it(run: Run) -> None:
    async def echo(transport: WebSocketTransport) -> None:
        async for frame in transport.frames():
            await transport.send(frame)

    async def main() -> None:
        async with (
            listen("127.0.0.1", 0, echo, max_frame_bytes=1 << 16) as listener,
            Relay("127.0.0.1", listener.port, parse_link("rate=1M,rtt=100ms")) as relay,
        ):
            started_s = now_s()
            near = await dial(f"ws://127.0.0.1:{relay.port}", max_frame_bytes=1 << 16)
            dialled_s = now_s()
            assert -EARLY_S < dialled_s - started_s - 0.2 < LATE_S
            await near.send(bytes(12_500))
            async for frame in near.frames():
                assert frame == bytes(12_500)
                break
            assert -EARLY_S < now_s() - dialled_s - 0.3 < LATE_S
            await near.close()

    run(main())


@RUNNERS
def test_a_websocket_dies_with_the_line(run: Run) -> None:
    async def main() -> None:
        broken_far_away = asyncio.Semaphore(0)

        async def handler(transport: WebSocketTransport) -> None:
            with pytest.raises(TransportClosed):
                await collect(transport)
            broken_far_away.release()

        async with (
            listen("127.0.0.1", 0, handler, max_frame_bytes=1 << 16) as listener,
            Relay("127.0.0.1", listener.port, QUICK) as relay,
        ):
            for _ in range(2):
                near = await dial(f"ws://127.0.0.1:{relay.port}", max_frame_bytes=1 << 16)
                relay.cut()
                with pytest.raises(TransportClosed):
                    await collect(near)
                await broken_far_away.acquire()

    run(main())


@RUNNERS
def test_a_target_that_refuses_is_a_reset_after_a_round_trip(run: Run) -> None:
    async def main() -> None:
        with socket.socket() as unused, socket.socket() as near:
            unused.bind(("127.0.0.1", 0))
            near.setblocking(False)
            async with Relay("127.0.0.1", unused.getsockname()[1], THIN) as relay:
                loop, started_s = asyncio.get_running_loop(), now_s()
                await loop.sock_connect(near, ("127.0.0.1", relay.port))
                with pytest.raises(ConnectionResetError):
                    await loop.sock_recv(near, 1)
                assert -EARLY_S < now_s() - started_s - 0.1 < LATE_S

    run(main())


@RUNNERS
def test_leaving_the_relay_ends_what_is_open(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as near:
            listener.setblocking(False)
            near.setblocking(False)
            loop = asyncio.get_running_loop()
            async with Relay("127.0.0.1", listener.getsockname()[1], QUICK) as relay:
                await loop.sock_connect(near, ("127.0.0.1", relay.port))
                far, _ = await loop.sock_accept(listener)
                early = socket.socket()  # whose task will not have taken a step
                early.setblocking(False)
                await loop.sock_connect(early, ("127.0.0.1", relay.port))
            with far, early:
                for sock in (near, far, early):
                    with contextlib.suppress(ConnectionResetError):
                        assert await loop.sock_recv(sock, 1) == b""

    run(main())


@RUNNERS
def test_one_connection_too_many_is_reset(run: Run) -> None:
    async def connect_and_read(sock: socket.socket, port: int) -> None:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        await asyncio.get_running_loop().sock_recv(sock, 1)

    async def main() -> None:
        async with carried(QUICK) as line:
            with contextlib.ExitStack() as open_sockets:
                for _ in range(MAX_CONNECTIONS - 1):
                    for sock in await line.another():
                        open_sockets.enter_context(sock)
                one_more = open_sockets.enter_context(socket.socket())
                one_more.setblocking(False)
                with pytest.raises(ConnectionResetError):
                    await connect_and_read(one_more, line.relay.port)
            await asyncio.sleep(0.1)
            near, far = await line.another()
            near.close()
            far.close()

    run(main())


@RUNNERS
def test_a_line_comes_up_with_its_first_connection_and_resets_what_is_open(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
            listener.setblocking(False)
            port = listener.getsockname()[1]
            link = parse_link("rate=100M,rtt=4ms,reset@300ms,reset@600ms")
            async with Relay("127.0.0.1", port, link) as relay:
                await asyncio.sleep(0.4)  # nobody is there: the line is not up
                came_up_s = now_s()
                for due_s in (0.3, 0.6):
                    near, far = await connect(relay, listener)
                    stack.enter_context(near)
                    stack.enter_context(far)
                    for sock in (near, far):
                        with pytest.raises(ConnectionResetError):
                            await asyncio.get_running_loop().sock_recv(sock, 1)
                    assert -EARLY_S < now_s() - came_up_s - due_s < LATE_S

    run(main())


@RUNNERS
def test_an_outage_holds_bytes_back_until_tcp_tries_again(run: Run) -> None:
    async def main() -> None:
        async with carried(parse_link("rate=1M,rtt=100ms,outage=500ms@1s")) as line:
            await asyncio.sleep(line.connected_s + 1.05 - now_s())
            await asyncio.get_running_loop().sock_sendall(line.near, b"late")
            assert await asyncio.get_running_loop().sock_recv(line.far, 10) == b"late"
            # Again after 0.3 s, in vain, and 0.6 s later; then half a round trip.
            due_s = line.connected_s + 1.05 + 0.3 + 0.6 + 0.05
            assert -2 * EARLY_S < now_s() - due_s < LATE_S

    run(main())


@RUNNERS
def test_a_second_connection_need_not_wait_for_the_first_ones_next_try(run: Run) -> None:
    async def main() -> None:
        async with carried(parse_link("rate=1M,rtt=100ms,outage=1200ms@1s")) as line:
            await asyncio.sleep(line.connected_s + 1.0 - now_s())
            await asyncio.get_running_loop().sock_sendall(line.near, b"stuck until 3.1 s")
            await asyncio.sleep(line.connected_s + 2.25 - now_s())
            near, far = await line.another()
            with near, far:
                await asyncio.get_running_loop().sock_sendall(near, b"through")
                assert await asyncio.get_running_loop().sock_recv(far, 10) == b"through"
                assert now_s() - line.connected_s < 2.4 + 0.05 + LATE_S

    run(main())


@RUNNERS
def test_an_error_of_the_body_comes_as_it_is(run: Run) -> None:
    async def main() -> None:
        async with carried(QUICK):
            raise MedroiError("mine")

    with pytest.raises(MedroiError, match="mine"):
        run(main())


@RUNNERS
def test_a_cancelled_relay_cleans_up_and_is_cancelled(run: Run) -> None:
    async def main() -> None:
        async def carry_and_be_cancelled() -> None:
            async with asyncio.timeout(0.05), carried(QUICK) as line:
                while True:
                    await asyncio.get_running_loop().sock_sendall(line.near, bytes(100_000))

        with pytest.raises(TimeoutError):
            await carry_and_be_cancelled()
        task = asyncio.current_task()
        assert task
        assert task.cancelling() == 0
        assert len(asyncio.all_tasks()) == 1

    run(main())


@pytest.mark.parametrize(("target", "host"), [("192.0.2.1", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")])
def test_it_stays_on_this_machine(target: str, host: str) -> None:
    async def main() -> None:
        await Relay(target, 1, QUICK, host=host).__aenter__()

    with pytest.raises(SettingsError, match="on this machine"):
        asyncio.run(main())


def test_a_port_that_is_taken_is_a_setting_to_mend() -> None:
    async def main() -> None:
        async with Relay("127.0.0.1", 1, QUICK) as relay:
            await Relay("127.0.0.1", 1, QUICK, port=relay.port).__aenter__()

    with pytest.raises(SettingsError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already"):
        asyncio.run(main())


COMMAND = [sys.executable, "-m", "shared.transports.relay"]


def test_the_command_prints_its_port_and_carries_until_it_is_stopped() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        to = f"127.0.0.1:{listener.getsockname()[1]}"
        command = [*COMMAND, "--to", to, "--link", "rate=100M,rtt=20ms"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as relay:
            assert relay.stdout
            try:
                port = int(relay.stdout.readline())
                with socket.create_connection(("127.0.0.1", port), timeout=5) as near:
                    far, _ = listener.accept()
                    with far:
                        far.settimeout(5)
                        near.sendall(b"carried")
                        assert far.recv(10) == b"carried"
            finally:
                relay.send_signal(signal.SIGTERM)
            assert relay.wait(5) == 0


def test_the_command_resets_what_is_open_when_it_is_told_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        to = f"127.0.0.1:{listener.getsockname()[1]}"
        command = [*COMMAND, "--to", to, "--link", QUICK.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as relay:
            assert relay.stdout
            try:
                port = int(relay.stdout.readline())
                with socket.create_connection(("127.0.0.1", port), timeout=5) as near:
                    far, _ = listener.accept()
                    with far:
                        far.settimeout(5)
                        near.sendall(b"!")
                        assert far.recv(10) == b"!"  # or the relay is still shaking hands
                        relay.send_signal(signal.SIGUSR1)
                        for sock in (near, far):
                            with pytest.raises(ConnectionResetError):
                                sock.recv(1)
            finally:
                relay.send_signal(signal.SIGTERM)
            assert relay.wait(5) == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--to", "127.0.0.1:1", "--link", "5g"], "expected rate=1M,rtt=100ms"),
        (["--to", "127.0.0.1", "--link", "3g"], "expected HOST:PORT"),
        (["--to", "192.0.2.1:1", "--link", "3g"], "expected an address on this machine"),
    ],
)
def test_the_command_says_what_it_expected(options: list[str], sentence: str) -> None:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
