"""Whoever is not the other end gets not a byte of a patient: told by what was captured.

Beside the tests of `test_websocket_proof`, `test_tls` and `test_pairing`, which capture what a
listener with another certificate, an older TLS, another key or a used string gets to see. On
loopback in plaintext every byte can be looked at, so that is where a session is tempted.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from typing import TYPE_CHECKING, Any, cast

import pytest
import uvloop
from pydicom.data import get_testdata_file

from shared.errors import (
    AuthenticationError,
    MedroiError,
    PeerRefused,
    RemoteProtocolError,
    SettingsError,
)
from shared.transports.webrtc.connect import make_answer, make_offer
from shared.transports.websocket import dial
from shared.trust.keys import make_key
from shared.trust.proof import REPLY_BYTES
from shared.trust.sites import Site, site_folder, store_site
from tests.contracts.transport import MAX_FRAME_BYTES
from tests.shared.transports.authority import Authority
from tests.shared.transports.test_websocket_proof import taken
from tests.shared.transports.trusted import (
    LIMIT,
    SECRET,
    STRANGE,
    ask,
    dialling,
    impostor,
    listening,
    read_to_end,
    site,
)
from tests.shared.transports.webrtc.ends import LOOPBACK, keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
PRINT = ":".join(["AB"] * 32)
DTLS_HANDSHAKE, DTLS_DATA = 22, 23
"""Record types (RFC 6347, section 4.1)."""


@RUNNERS
@pytest.mark.parametrize("case", ["wrong key", "another version"])
def test_a_dialler_that_is_refused_has_said_nothing_of_a_patient(case: str, run: Run) -> None:
    credentials = dialling(STRANGE) if case == "wrong key" else dialling(version=2)

    async def main() -> None:
        async with site(listening(tls=False)) as clinic:
            with pytest.raises((AuthenticationError, PeerRefused)):
                await ask(clinic.url, credentials)
            assert SECRET[:8] not in clinic.wire.sent
            assert SECRET[:8] not in clinic.wire.answered
            assert not clinic.came

    run(main())


@RUNNERS
def test_a_reply_that_was_recorded_gets_nothing_out_of_a_dialler(run: Run) -> None:
    """The mirror image of a replayed challenge: the true listener's own words, a day later."""

    async def main() -> None:
        async with site(listening(tls=False)) as clinic:
            assert await ask(clinic.url, dialling()) == SECRET
            recorded = bytes(clinic.wire.answered).partition(b"\r\n\r\n")[2]
            recorded = recorded[: 2 + REPLY_BYTES]  # one frame
        async with impostor(None, lambda asked: taken(asked) + recorded) as thief:
            with pytest.raises(AuthenticationError, match="did not prove that it knows the key"):
                await ask(f"ws://127.0.0.1:{thief.port}", dialling())
            await thief.gone.wait()
            assert SECRET[:8] not in thief.heard
            assert thief.heard.endswith(b"\r\n\r\n")  # the request, and no frame

    run(main())


@RUNNERS
def test_a_version_that_is_changed_on_its_way_gets_nothing_out_of_either_end(run: Run) -> None:
    async def main() -> None:
        async with site(listening(version=1, tls=False)) as clinic:
            async with impostor(None) as between:  # who has a dialler's request, and no answer
                with contextlib.suppress(TimeoutError, MedroiError):
                    url = f"ws://127.0.0.1:{between.port}"
                    await asyncio.wait_for(ask(url, dialling(version=1)), 0.3)
                asked = bytes(between.heard)
            magic_step_role = b"mdrp\x01\x01".hex().encode()
            changed = asked.replace(magic_step_role + b"0001", magic_step_role + b"0000")
            assert changed != asked
            reader, writer = await asyncio.open_connection("127.0.0.1", clinic.listener.port)
            writer.write(changed)
            assert await asyncio.wait_for(read_to_end(reader), 5) == b""
            writer.close()
            assert SECRET[:8] not in asked
            assert not clinic.came

    run(main())


def test_a_plaintext_dial_beyond_loopback_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []

    class Watched(socket.socket):
        def connect(self, address: Any) -> None:
            opened.append(address)
            raise OSError("not in a test")

    monkeypatch.setattr(socket, "socket", Watched)

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def connect(*address: object) -> None:
            opened.append(address)
            raise OSError("not in a test")

        monkeypatch.setattr(loop, "sock_connect", connect)
        for credentials in (None, dialling()):
            with pytest.raises(SettingsError, match="plaintext does not go further"):
                await dial("ws://192.0.2.1:80", max_frame_bytes=LIMIT, credentials=credentials)

    asyncio.run(main())
    assert opened == []


class Ear(asyncio.DatagramProtocol):
    """A place on the way between two data channels; hands on what it hears, and keeps it."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        """From the end that offers."""
        self.target: tuple[str, int] = ("", 0)
        self._near: tuple[str, int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if addr == self.target:
            if self._near is not None:
                self._transport.sendto(data, self._near)
            return
        self._near = addr
        self.heard.append(data)
        self._transport.sendto(data, self.target)

    def records(self) -> set[int]:
        """Types of the DTLS records among it (RFC 7983: a first byte of 20 to 63)."""
        return {data[0] for data in self.heard if 20 <= data[0] <= 63}


@contextlib.asynccontextmanager
async def overheard() -> AsyncIterator[tuple[Ear, Callable[[str], str]]]:
    """An ear, and what leads a description's candidate through it."""
    loop = asyncio.get_running_loop()
    transport, ear = await loop.create_datagram_endpoint(Ear, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]

    def through(sdp: str) -> str:
        found = re.search(r"(127\.0\.0\.1) (\d+) typ host", sdp)
        assert found
        ear.target = found[1], int(found[2])
        return sdp.replace(f"{found[1]} {found[2]} typ", f"{found[1]} {port} typ")

    try:
        yield ear, through
    finally:
        transport.close()


def test_an_ear_hears_what_a_good_channel_carries() -> None:
    """Or the tests below would prove nothing."""

    async def main() -> None:
        own, other = keys()
        async with (
            overheard() as (ear, through),
            await make_offer(LOOPBACK, max_frame_bytes=MAX_FRAME_BYTES) as offer,
            await make_answer(
                blind(offer.sdp), LOOPBACK, max_frame_bytes=MAX_FRAME_BYTES
            ) as answer,
            asyncio.TaskGroup() as group,
        ):
            near = group.create_task(offer.connect(through(answer.sdp), own, timeout_s=15))
            far = group.create_task(answer.connect(other, timeout_s=15))
            await asyncio.wait([near, far])
            await near.result().send(SECRET)
            async for frame in far.result().frames():
                assert frame == SECRET
                break
            near.result().abort()
            far.result().abort()
            assert ear.records() >= {DTLS_HANDSHAKE, DTLS_DATA}
            assert not any(SECRET[:8] in data for data in ear.heard)

    asyncio.run(main())


def blind(sdp: str) -> str:
    """Without the offering end's own address, so that nothing goes past the ear."""
    return re.sub(r"127\.0\.0\.1 \d+ typ host", "127.0.0.1 9 typ host", sdp)


@pytest.mark.parametrize(
    ("pattern", "replacement", "error"),
    [
        (r"a=fingerprint:.*\r\n", "", RemoteProtocolError),
        (
            r"a=fingerprint:sha-256 .*\r",
            "a=fingerprint:sha-1 " + ":".join(["AB"] * 20) + "\r",
            RemoteProtocolError,
        ),
        (r"(fingerprint:sha-256) .*\r", rf"\1 {PRINT}\r", AuthenticationError),
    ],
    ids=["no fingerprint", "sha-1", "swapped certificate"],
)
def test_a_description_or_a_certificate_that_is_not_the_one_gets_no_channel_data(
    pattern: str, replacement: str, error: type[MedroiError]
) -> None:
    async def main() -> None:
        own, other = keys()
        async with (
            overheard() as (ear, through),
            await make_offer(LOOPBACK, max_frame_bytes=MAX_FRAME_BYTES) as offer,
            await make_answer(
                blind(offer.sdp), LOOPBACK, max_frame_bytes=MAX_FRAME_BYTES
            ) as answer,
        ):
            forged = re.sub(pattern, replacement, through(answer.sdp))
            assert forged != answer.sdp
            far = asyncio.ensure_future(answer.connect(other, timeout_s=1.5))

            async def send() -> None:
                channel = await offer.connect(forged, own, timeout_s=1.5)
                await channel.send(SECRET)

            with pytest.raises(error):
                await send()
            await asyncio.wait([far])
            assert isinstance(far.exception(), MedroiError)
            # A patient's data would be in records of this type, whoever can open them.
            assert DTLS_DATA not in ear.records()
            if error is RemoteProtocolError:
                assert ear.heard == []

    asyncio.run(main())


@pytest.mark.parametrize("which", ["key", "site", "pki"])
def test_a_secret_that_others_may_read_opens_no_connection(
    which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sender.cli import main

    hospital = Authority(tmp_path / "hospital")
    certificate, secret = hospital.issue("lab.example")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        url = f"wss://127.0.0.1:{listener.getsockname()[1]}"
        pinned = f"{url}/#{'ab' * 32}"
        key = tmp_path / "clinic.key"
        make_key(key)
        folder = site_folder(tmp_path / "identity")
        store_site(folder, Site("clinic", b"k" * 32, pinned, "0" * 16, 0))
        pki = ("--pki-ca", hospital.path, "--pki-cert", certificate, "--pki-key", secret)
        flags: dict[str, tuple[object, ...]] = {
            "key": ("--to", pinned, "--key", key),
            "site": ("--to", "clinic", "--identity", tmp_path / "identity"),
            "pki": ("--to", url, *pki),
        }
        {"key": key, "site": folder / "clinic.site", "pki": secret}[which].chmod(0o644)
        assert main([str(get_testdata_file("CT_small.dcm")), *map(str, flags[which])]) == 2
        with pytest.raises(TimeoutError):
            listener.accept()
    assert "others may use it; chmod 600" in capsys.readouterr().err
