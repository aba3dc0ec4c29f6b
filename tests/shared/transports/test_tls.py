"""What leaves a dialler before it knows who answers, and how TLS is spoken."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import AuthenticationError, MedroiError, SettingsError, TransportClosed
from shared.transports.tls import Tls, dialling_context, listening_context
from shared.transports.websocket import dial
from shared.trust.identity import open_identity
from tests.shared.transports.trusted import (
    LIMIT,
    SECRET,
    TLS_DATA,
    TLS_HANDSHAKE,
    dialling,
    identity,
    impostor,
    listening,
    records,
    site,
    trusting_context,
    wire,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


async def dialled(url: str) -> None:
    transport = await dial(url, max_frame_bytes=LIMIT, credentials=dialling(), open_timeout_s=5)
    transport.abort()


@RUNNERS
def test_between_the_ends_there_is_nothing_but_tls(run: Run) -> None:
    async def main() -> None:
        async with site() as clinic:
            transport = await dial(clinic.url, max_frame_bytes=LIMIT, credentials=dialling())
            await transport.send(SECRET)
            async for frame in transport.frames():
                assert frame == SECRET
                break
            await transport.close()
            for content in (clinic.wire.sent, clinic.wire.answered):
                assert {kind for kind, _ in records(content)} <= {20, TLS_HANDSHAKE, TLS_DATA}
                for word in (SECRET[:8], b"HTTP", b"websocket", b"Medroi", b"mdrp"):
                    assert word not in content

    run(main())


@RUNNERS
def test_another_certificate_is_told_nothing(run: Run) -> None:
    async def main() -> None:
        async with impostor(identity("impostor")) as other, wire(other.port) as between:
            url = other.url.replace(str(other.port), str(between.port))
            with pytest.raises(AuthenticationError, match="its certificate is not the one"):
                await dialled(url)
            await between.ended.wait()
            assert other.heard == b""
            # Nor did anything leave that the impostor did not care to read: our first message.
            assert [kind for kind, _ in records(between.sent)] == [TLS_HANDSHAKE]

    run(main())


@RUNNERS
def test_a_stolen_certificate_without_the_key_gets_a_request_and_no_more(run: Run) -> None:
    async def main() -> None:
        async with impostor(identity(), lambda _: BAD_REQUEST) as thief:
            with pytest.raises(TransportClosed, match="HTTP status 400"):
                await dialled(thief.url)
            await thief.gone.wait()
            assert thief.heard.count(b"\r\n\r\n") == 1
            assert thief.heard.endswith(b"\r\n\r\n")
            assert thief.heard.startswith(b"GET / HTTP/1.1\r\n")

    run(main())


def older(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2


@RUNNERS
def test_an_older_tls_is_not_spoken_by_a_dialler(run: Run) -> None:
    async def main() -> None:
        async with impostor(identity(), tune=older) as old, wire(old.port) as between:
            with pytest.raises(TransportClosed, match=r"TLS handshake|TLS 1\.3"):
                await dialled(old.url.replace(str(old.port), str(between.port)))
            await between.ended.wait()
            assert old.heard == b""
            assert not [kind for kind, _ in records(between.sent) if kind == TLS_DATA]

    run(main())


@RUNNERS
def test_nor_by_a_listener(run: Run) -> None:
    async def main() -> None:
        async with site() as clinic:
            context = trusting_context()
            older(context)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", clinic.wire.port, ssl=context)
            assert not [kind for kind, _ in records(clinic.wire.answered) if kind == TLS_DATA]
            assert not clinic.came

    run(main())


@RUNNERS
def test_a_listener_without_tls_hears_a_handshake_and_no_more(run: Run) -> None:
    async def main() -> None:
        async with impostor(None, lambda _: BAD_REQUEST) as plain:
            with pytest.raises(TransportClosed, match=r"does not speak TLS 1\.3"):
                await dialled(plain.url)
            await plain.gone.wait()
            assert {kind for kind, _ in records(plain.heard)} <= {TLS_HANDSHAKE, 21}
        async with site(listening(tls=False)) as clinic:
            url = f"wss://127.0.0.1:{clinic.wire.port}/#{identity().pin.hex()}"
            with pytest.raises(TransportClosed):
                await dialled(url)
            assert {kind for kind, _ in records(clinic.wire.sent)} <= {TLS_HANDSHAKE, 21}
            assert not clinic.came

    run(main())


@RUNNERS
def test_a_plaintext_dial_to_a_tls_port_gets_nowhere(run: Run) -> None:
    async def main() -> None:
        async with site() as clinic:
            for credentials in (None, dialling()):
                with pytest.raises(MedroiError):
                    await dial(
                        f"ws://127.0.0.1:{clinic.wire.port}",
                        max_frame_bytes=LIMIT,
                        credentials=credentials,
                    )
            assert not clinic.came
            assert b"HTTP" not in clinic.wire.answered

    run(main())


@RUNNERS
def test_who_hangs_up_in_the_handshake_is_a_transport_that_is_closed(run: Run) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(TransportClosed, match="it hung up in the TLS handshake"):
                await dialled(f"wss://127.0.0.1:{port}/#{identity().pin.hex()}")

    run(main())


@RUNNERS
def test_a_listener_that_talks_before_it_is_asked_is_dropped(run: Run) -> None:
    async def gush(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 100_000)

    async def main() -> None:
        context = listening_context(identity())
        async with await asyncio.start_server(gush, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises((TransportClosed, AuthenticationError)):
                await dialled(f"wss://127.0.0.1:{port}/#{identity().pin.hex()}")

    run(main())


def test_the_name_that_is_dialled_is_told_to_nobody() -> None:
    """No SNI: the pin says who is meant, and names of clinics are nobody's business."""

    async def main() -> None:
        async with site() as clinic:
            await dialled(clinic.url.replace("127.0.0.1", "localhost"))
            assert len(records(clinic.wire.sent)) > 2
            assert b"localhost" not in clinic.wire.sent

    asyncio.run(main())


def test_the_environment_cannot_have_session_keys_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    async def main() -> None:
        async with site() as clinic:
            await dialled(clinic.url)

    asyncio.run(main())
    assert not list(tmp_path.iterdir())


def test_a_key_that_is_not_the_certificates_is_a_setting_to_mend(tmp_path: Path) -> None:
    pems = [open_identity(tmp_path / name).path.read_text() for name in "ab"]
    key, _ = pems[0].split("-----BEGIN CERTIFICATE-----")
    _, certificate = pems[1].split("-----END PRIVATE KEY-----\n")
    path = tmp_path / "a" / "identity.pem"
    path.write_text(key + certificate)
    with pytest.raises(SettingsError, match=r"identity\.pem: no key that fits its certificate"):
        listening_context(open_identity(tmp_path / "a"))


def pair(pin: bytes | None = None) -> tuple[Tls, Tls]:
    """Both ends without a wire: the dialler's first."""
    shown = identity()
    return Tls(dialling_context(), pin or shown.pin), Tls(listening_context(shown))


def shake_hands(dialler: Tls, listener: Tls) -> None:
    listener.receive(dialler.data_to_send())
    dialler.receive(listener.data_to_send())
    listener.receive(dialler.data_to_send())


def test_what_one_end_sends_the_other_receives_and_both_may_end() -> None:
    ends = pair()
    shake_hands(*ends)
    assert ends[0].stands
    assert ends[1].stands
    for here, there in (ends, ends[::-1]):
        for size in (1, 16_384, 16_385, 1 << 20):
            here.send(bytes(size))
            assert there.receive(here.data_to_send()) == bytes(size)
        here.send(b"last")
        here.end()
        here.end()
        assert there.receive(here.data_to_send()) == b"last"
        assert there.has_ended


def test_with_another_pin_nothing_more_is_there_to_send() -> None:
    dialler, listener = pair(bytes(32))
    listener.receive(dialler.data_to_send())
    with pytest.raises(AuthenticationError):
        dialler.receive(listener.data_to_send())
    assert not dialler.stands


def test_an_end_before_the_handshake_is_nothing() -> None:
    _, listener = pair()
    listener.end()
    assert listener.data_to_send() == b""


@given(st.integers(0, 1 << 30), st.integers(0, 7))
def test_a_bit_that_is_changed_on_the_way_is_found(place: int, bit: int) -> None:
    dialler, listener = pair()
    shake_hands(dialler, listener)
    dialler.send(SECRET)
    record = bytearray(dialler.data_to_send())
    record[place % len(record)] ^= 1 << bit
    try:
        # A longer record is waited for; a known one is not taken.
        assert listener.receive(bytes(record)) == b""
        assert not listener.has_ended
    except TransportClosed:
        pass


@given(st.binary(max_size=2000))
def test_whatever_comes_instead_of_a_handshake_is_a_closed_transport(came: bytes) -> None:
    for end in pair():
        with contextlib.suppress(TransportClosed):
            assert end.receive(came) == b""
        assert not end.stands
