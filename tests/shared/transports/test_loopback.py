from __future__ import annotations

import asyncio
import socket

import pytest

from shared.errors import SettingsError
from shared.transports.loopback import connect_first, loopback_addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.0.7", "::1"])
def test_an_address_on_loopback_is_itself(host: str) -> None:
    assert asyncio.run(loopback_addresses(host)) == [host]


def test_localhost_is_what_it_resolves_to() -> None:
    addresses = asyncio.run(loopback_addresses("localhost"))
    assert addresses
    assert set(addresses) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "0.0.0.0", "::", "fe80::1", "localhost.example.com", "2130706433", "", " "]
)
def test_anything_else_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match="expected an address on this machine"):
        asyncio.run(loopback_addresses(host))


def test_a_localhost_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        await loopback_addresses("localhost")

    with pytest.raises(SettingsError, match="localhost has no address on this machine"):
        asyncio.run(main())


def test_the_first_address_that_takes_a_connection_is_used() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.2", 0)) as listener:
            port = listener.getsockname()[1]
            tuned: list[socket.socket] = []
            sock = await connect_first(["127.0.0.3", "127.0.0.2"], port, tuned.append)
            with sock:
                assert sock.getpeername() == ("127.0.0.2", port)
            assert len(tuned) == 2

    asyncio.run(main())


def test_an_address_that_never_answers_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        connect, cancelled = loop.sock_connect, []

        async def never(sock: socket.socket, address: tuple[str, int]) -> None:
            if address[0] != "127.0.0.5":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.append(address[0])
                    raise
            await connect(sock, address)

        monkeypatch.setattr(loop, "sock_connect", never)
        with socket.create_server(("127.0.0.5", 0)) as listener:
            port = listener.getsockname()[1]
            started_s = loop.time()
            with await connect_first(["127.0.0.3", "127.0.0.4", "127.0.0.5"], port) as sock:
                assert sock.getpeername() == ("127.0.0.5", port)
            assert 0.5 <= loop.time() - started_s < 1
        assert sorted(cancelled) == ["127.0.0.3", "127.0.0.4"]

    asyncio.run(main())


def test_of_two_that_answer_at_once_one_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets: list[socket.socket] = []

    async def main() -> None:
        both = asyncio.Event()

        async def together(_: socket.socket, address: tuple[str, int]) -> None:
            if address[0] == "127.0.0.4":
                both.set()
            await both.wait()

        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", together)
        with await connect_first(["127.0.0.3", "127.0.0.4"], 9, sockets.append) as sock:
            assert sock in sockets
            assert sorted(other.fileno() for other in sockets)[0] == -1

    asyncio.run(main())


def test_who_gives_up_connecting_leaves_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets: list[socket.socket] = []

    async def main() -> None:
        async def never(*_: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connect_first(["127.0.0.3"], 9, sockets.append)

    asyncio.run(main())
    assert [sock.fileno() for sock in sockets] == [-1]


def test_no_address_is_an_error() -> None:
    with pytest.raises(OSError, match="no address"):
        asyncio.run(connect_first([], 9))


def test_none_of_them_is_the_last_ones_error() -> None:
    async def main() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            await connect_first(["127.0.0.1"], unused.getsockname()[1])

    with pytest.raises(ConnectionRefusedError):
        asyncio.run(main())
