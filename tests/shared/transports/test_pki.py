"""Two ends with certificates of one authority; and those that have none, or another's."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from shared.errors import AuthenticationError, MedroiError, PeerRefused, SettingsError
from shared.role import Role
from shared.transports.websocket import dial
from shared.trust.credentials import Credentials
from shared.trust.proof import Claim
from tests.shared.transports.authority import Authority
from tests.shared.transports.trusted import (
    LIMIT,
    SECRET,
    TLS_DATA,
    TLS_HANDSHAKE,
    ask,
    dialling,
    listening,
    read_to_end,
    records,
    site,
    trusting_context,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from shared.trust.pki import Pki

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@pytest.fixture
def hospital(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "hospital")


def sender(pki: Pki, role: Role = Role.SENDER) -> Credentials:
    return Credentials(Claim(role, 1), (), pki=pki)


def receiver(hospital: Authority, *names: str) -> Credentials:
    pki = hospital.pki(*(names or ("127.0.0.1", "clinic.example")), peers=("lab.example",))
    return Credentials(Claim(Role.RECEIVER, 1), (), pki=pki)


@RUNNERS
def test_two_ends_of_one_authority_meet_without_a_shared_key(hospital: Authority, run: Run) -> None:
    async def main() -> None:
        keys: list[tuple[str, bytes]] = []

        async def note(transport: Any) -> None:
            keys.append((transport.proven.key_name, transport.session_key))
            async for frame in transport.frames():
                await transport.send(frame)

        async with site(receiver(hospital), note) as clinic:
            assert "#" not in clinic.listener.url
            ours = sender(hospital.pki("LAB.example."))
            transport = await dial(clinic.url, max_frame_bytes=LIMIT, credentials=ours)
            await transport.send(SECRET)
            async for frame in transport.frames():
                assert frame == SECRET
                break
            await transport.close()
            assert keys == [("lab.example", transport.session_key)]
            await ask(clinic.url, ours)
            assert keys[0][1] != keys[1][1]
            for content in (clinic.wire.sent, clinic.wire.answered):
                assert {kind for kind, _ in records(content)} <= {20, TLS_HANDSHAKE, TLS_DATA}
                assert SECRET[:8] not in content
            assert b"clinic.example" not in clinic.wire.sent  # nor is a name told (SNI)

    run(main())


@RUNNERS
def test_a_listener_of_another_authority_or_name_hears_nothing(
    hospital: Authority, tmp_path: Path, run: Run
) -> None:
    other = Authority(tmp_path / "other", "other")

    async def main() -> None:
        for credentials, why in (
            (receiver(other), "its certificate is not good"),
            (receiver(hospital, "elsewhere.example"), "but for elsewhere.example, expected 127"),
            (receiver(hospital, "*.0.0.1"), r"but for \*\.0\.0\.1"),
        ):
            async with site(credentials) as clinic:
                with pytest.raises(AuthenticationError, match=why):
                    await ask(clinic.url, sender(hospital.pki("lab.example")))
                await clinic.wire.ended.wait()
                # The dialler's first message; what it says of itself comes after the other's name.
                assert [kind for kind, _ in records(clinic.wire.sent)] == [TLS_HANDSHAKE]
                assert not clinic.came

    run(main())


@RUNNERS
def test_a_dialler_of_another_authority_or_name_or_none_is_not_let_in(
    hospital: Authority, tmp_path: Path, run: Run
) -> None:
    other = Authority(tmp_path / "other", "other")
    strange = replace(other.pki("lab.example"), authority=hospital.path)

    async def main() -> None:
        for pki in (
            strange,
            hospital.pki("hill.example"),
            hospital.pki("lab.example", expired=True),
            hospital.pki(),
        ):
            async with site(receiver(hospital)) as clinic:
                with pytest.raises(MedroiError) as caught:
                    await ask(clinic.url, sender(pki))
                assert not isinstance(caught.value, SettingsError)
                assert not clinic.came
                assert len(clinic.refused) == 1
                assert "its certificate is" in clinic.refused[0]
                assert SECRET[:8] not in clinic.wire.sent

        async with site(receiver(hospital)) as clinic:
            with pytest.raises(MedroiError):  # without a certificate
                await ask(f"{clinic.url}#{'0' * 64}", dialling())
            context = trusting_context()
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", clinic.listener.port, ssl=context
            )
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await asyncio.wait_for(read_to_end(reader), 5) == b""
            writer.transport.abort()
            assert not clinic.came

    run(main())


def test_it_is_tls_1_3_or_nothing(hospital: Authority) -> None:
    async def main() -> None:
        async with site(receiver(hospital)) as clinic:
            context = trusting_context()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", clinic.wire.port, ssl=context)
            assert not [kind for kind, _ in records(clinic.wire.answered) if kind == TLS_DATA]
            assert not clinic.came

    asyncio.run(main())


def test_a_key_of_a_pair_and_an_authority_are_two_things(hospital: Authority) -> None:
    async def main() -> None:
        async with site(listening()) as clinic:  # pinned: it has no certificate of the authority's
            with pytest.raises(SettingsError, match="no pin"):
                await ask(clinic.url, sender(hospital.pki("lab.example")))
            bare = clinic.url.partition("#")[0]
            with pytest.raises(AuthenticationError, match="its certificate is not good"):
                await ask(bare, sender(hospital.pki("lab.example")))
            with pytest.raises(SettingsError, match="expected wss"):
                await ask(bare.replace("wss", "ws"), sender(hospital.pki("lab.example")))
            assert not clinic.came

    asyncio.run(main())


def test_roles_are_still_proven(hospital: Authority) -> None:
    async def main() -> None:
        async with site(receiver(hospital)) as clinic:
            with pytest.raises(PeerRefused, match="both ends are receivers"):
                await ask(clinic.url, sender(hospital.pki("lab.example"), Role.RECEIVER))
            assert not clinic.came

    asyncio.run(main())
