"""A pairing over real TLS, and every way in which none comes of it, with all bytes of the wire."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from shared.errors import (
    AuthenticationError,
    MedroiError,
    PeerRefused,
    SettingsError,
    TransportClosed,
)
from shared.role import Role
from shared.transports import pairing
from shared.transports.pairing import Naming, accept, invite
from shared.transports.websocket import dial
from shared.trust.credentials import Credentials
from shared.trust.identity import open_identity
from shared.trust.invitation import MAX_WRONG_TRIES, Fate, Invitation, OneTime
from shared.trust.keys import SharedKey
from shared.trust.pairing import MAX_MESSAGE_BYTES, DiallingPairing, refusal
from shared.trust.proof import Claim
from shared.trust.sites import Site, read_site, read_sites, store_site
from tests.shared.transports.trusted import (
    LIMIT,
    SECRET,
    TLS_DATA,
    TLS_HANDSHAKE,
    Wire,
    ask,
    records,
    site,
    wire,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from shared.transports.websocket_transport import WebSocketTransport

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
NAME = "lab-in-the-valley"
RECEIVER, SENDER = Claim(Role.RECEIVER, 1), Claim(Role.SENDER, 1)
NOW_S = time.time()


@dataclass
class Inviting:
    """An end that waits for a pairing, the wire to it, and what it said."""

    folder: Path
    invitation: Invitation
    wire: Wire
    outcome: asyncio.Future[Site | MedroiError]
    told: list[str]

    async def accept(
        self,
        given: Invitation | None = None,
        *,
        name: str = "",
        where: str = "sender",
        claim: Claim = SENDER,
    ) -> Site:
        naming = Naming(self.folder / where, name)
        return await accept(given or self.invitation, naming, claim, now_s=NOW_S)

    async def dial(self) -> WebSocketTransport:
        """As somebody who knows the string, and goes on by hand."""
        return await dial(
            self.invitation.url,
            max_frame_bytes=MAX_MESSAGE_BYTES,
            credentials=Credentials(SENDER, (self.invitation.key,)),
        )

    @property
    def stored(self) -> list[Site]:
        """At either end."""
        return read_sites(self.folder / "receiver") + read_sites(self.folder / "sender")

    def check_wire(self) -> None:
        """Nothing but TLS; of what pairing is about not a byte."""
        for content in (self.wire.sent, self.wire.answered):
            assert {kind for kind, _ in records(content)} <= {20, 21, TLS_HANDSHAKE, TLS_DATA}
            for word in (NAME.encode(), self.invitation.secret, b"mdpr", b"mdrp", SECRET[:8]):
                assert word not in content


@contextlib.asynccontextmanager
async def inviting(folder: Path, *, lifetime_s: float = 60.0) -> AsyncIterator[Inviting]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    loop = asyncio.get_running_loop()
    shown: asyncio.Future[Invitation] = loop.create_future()
    outcome: asyncio.Future[Site | MedroiError] = loop.create_future()
    told: list[str] = []
    async with asyncio.timeout(30), wire(port) as between, asyncio.TaskGroup() as group:

        async def wait() -> None:
            try:
                site = await invite(
                    "127.0.0.1",
                    port,
                    Naming(folder / "receiver", NAME),
                    open_identity(folder / "identity"),
                    RECEIVER,
                    now_s=NOW_S,
                    place=lambda _: ("127.0.0.1", between.port),
                    url=lambda listener: listener.url,
                    show=shown.set_result,
                    tell=told.append,
                    lifetime_s=lifetime_s,
                )
                outcome.set_result(site)
            except MedroiError as error:
                outcome.set_result(error)

        waiting = group.create_task(wait())
        yield Inviting(folder, await shown, between, outcome, told)
        waiting.cancel()


@RUNNERS
def test_both_ends_know_each_other_by_one_key_afterwards(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            ours = await clinic.accept()
            theirs = await clinic.outcome
            assert isinstance(theirs, Site)
            assert ours.name == theirs.name == NAME
            assert ours.secret == theirs.secret
            assert ours.secret not in (clinic.invitation.secret, clinic.invitation.key.secret)
            assert re.fullmatch(r"wss://127\.0\.0\.1:\d+/#[0-9a-f]{64}", ours.url)
            assert theirs.url == ""
            assert read_site(tmp_path / "sender", NAME) == ours
            assert read_site(tmp_path / "receiver", NAME) == theirs
            clinic.check_wire()
        # And what they know lets one in at the other.
        identity = open_identity(tmp_path / "identity")
        async with site(Credentials(RECEIVER, (theirs.key,), identity)) as other:
            assert await ask(other.url, Credentials(SENDER, (ours.key,))) == SECRET

    run(main())


def test_either_end_may_call_it_otherwise(tmp_path: Path) -> None:
    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            assert (await clinic.accept(name="hill")).name == "hill"
            theirs = await clinic.outcome
            assert isinstance(theirs, Site)
            assert theirs.name == NAME

    asyncio.run(main())


@RUNNERS
def test_a_string_that_was_used_is_refused_with_a_sentence(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            await clinic.accept()
            await clinic.outcome
            sent = len(clinic.wire.sent)
            with pytest.raises(MedroiError, match="a pairing string is good once, for 15 minutes"):
                await clinic.accept(where="other")
            assert read_sites(tmp_path / "other") == []
            clinic.check_wire()
            # Whoever listens now does not know it: at most TLS' first message was said.
            assert {kind for kind, _ in records(clinic.wire.sent[sent:])} <= {TLS_HANDSHAKE}

    run(main())


def test_of_two_with_one_string_the_second_hears_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            lines = [await clinic.dial() for _ in range(2)]
            heard = [line.frames() for line in lines]
            both = [DiallingPairing(line.session_key, b"d" * 32) for line in lines]
            for line, frames, each in zip(lines, heard, both, strict=True):
                await line.send(each.offer)
                each.read_answer(await anext(frames))
            first, second = both
            await lines[0].send(first.confirm())
            first.read_stored(await anext(heard[0]))
            await lines[1].send(second.confirm())
            refused = await anext(heard[1])
            with pytest.raises(PeerRefused, match="was used already; medroi-recv pair prints"):
                second.read_stored(refused)
            async with asyncio.TaskGroup() as group:
                for line in lines:
                    group.create_task(line.close())
            theirs = await clinic.outcome
            assert isinstance(theirs, Site)
            assert [theirs.secret] == [first.key]
            assert clinic.stored == [theirs]
            clinic.check_wire()

    asyncio.run(main())


@RUNNERS
def test_a_string_that_has_expired_lets_nobody_in(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with inviting(tmp_path, lifetime_s=0.05) as clinic:
            error = await clinic.outcome
            assert isinstance(error, TransportClosed)
            assert "nobody paired in time: the string has expired" in str(error)
            with pytest.raises(TransportClosed, match="is good once, for 15 minutes and 5 tries"):
                await clinic.accept()
            assert not clinic.stored
            clinic.check_wire()
            assert not [kind for kind, _ in records(clinic.wire.sent) if kind == TLS_DATA]
            old = replace(clinic.invitation, until_s=int(NOW_S) - 3600)
            before = len(clinic.wire.sent)
            with pytest.raises(SettingsError, match="has expired"):
                await clinic.accept(old)
            assert len(clinic.wire.sent) == before  # not even dialled

    run(main())


def test_one_that_expires_in_mid_pairing_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            transport = await clinic.dial()
            frames = transport.frames()
            late = DiallingPairing(transport.session_key, b"d" * 32)
            monkeypatch.setattr(OneTime, "fate", lambda *_: Fate.EXPIRED)
            await transport.send(late.offer)
            refused = await anext(frames)
            with pytest.raises(PeerRefused, match="has expired"):
                late.read_answer(refused)
            transport.abort()
            assert not clinic.stored

    asyncio.run(main())


def test_a_dialler_that_comes_at_the_last_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "store_site", slow_store)

    async def main() -> None:
        async with inviting(tmp_path, lifetime_s=0.5) as clinic:
            ours = await clinic.accept()
            theirs = await clinic.outcome
            assert isinstance(theirs, Site)
            assert theirs.secret == ours.secret

    asyncio.run(main())


def slow_store(folder: Path, kept: Site, *, replace: bool) -> None:
    time.sleep(0.6)
    store_site(folder, kept, replace=replace)


@RUNNERS
def test_another_secret_is_told_nothing(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            wrong = replace(clinic.invitation, secret=b"w" * 16)
            with pytest.raises(AuthenticationError, match="hung up without an answer"):
                await clinic.accept(wrong)
            clinic.check_wire()
            assert not clinic.stored
            assert any("does not know a key" in sentence for sentence in clinic.told)
            await clinic.accept()  # and one wrong try is no harm

    run(main())


@RUNNERS
def test_five_wrong_tries_void_the_string_even_for_who_has_it(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            for each in range(MAX_WRONG_TRIES):
                assert not clinic.outcome.done()
                wrong = replace(clinic.invitation, secret=bytes([each]) * 16)
                with pytest.raises(AuthenticationError):
                    await clinic.accept(wrong)
            error = await clinic.outcome
            assert isinstance(error, AuthenticationError)
            assert "5 wrong tries: this pairing string is void" in str(error)
            with pytest.raises(MedroiError, match="is good once"):
                await clinic.accept()
            assert not clinic.stored
            clinic.check_wire()

    run(main())


def test_who_does_not_try_a_secret_voids_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            for _ in range(MAX_WRONG_TRIES + 1):
                _, writer = await asyncio.open_connection("127.0.0.1", clinic.wire.port)
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                writer.close()
            await asyncio.sleep(0.1)
            await clinic.accept()

    asyncio.run(main())


@RUNNERS
def test_another_certificate_gets_no_request_and_no_secret(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            wrong = replace(clinic.invitation, pin=b"p" * 32)
            with pytest.raises(AuthenticationError, match="its certificate is not the one"):
                await clinic.accept(wrong)
            await clinic.wire.ended.wait()
            # TLS' first message, and nothing after the certificate was seen.
            assert [kind for kind, _ in records(clinic.wire.sent)] == [TLS_HANDSHAKE]
            assert not clinic.outcome.done()
            assert not clinic.stored

    run(main())


def test_two_receivers_do_not_pair(tmp_path: Path) -> None:
    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            with pytest.raises(PeerRefused, match="both ends are receivers"):
                await clinic.accept(claim=RECEIVER)
            assert not clinic.stored

    asyncio.run(main())


def test_a_name_that_is_taken_uses_the_string_up_at_neither_end(tmp_path: Path) -> None:
    async def main() -> None:
        taken = Site(NAME, b"o" * 32, "", "0" * 16, 0)
        store_site(tmp_path / "sender", taken)
        store_site(tmp_path / "sender", replace(taken, name="hill"))
        async with inviting(tmp_path) as clinic:
            for name in ("", "hill"):
                with pytest.raises(SettingsError, match="already; --replace"):
                    await clinic.accept(name=name)
            assert len(clinic.stored) == 2
            naming = Naming(tmp_path / "sender", "", replace=True)
            again = await accept(clinic.invitation, naming, SENDER, now_s=NOW_S)
            assert read_site(tmp_path / "sender", NAME).secret == again.secret != taken.secret

    asyncio.run(main())


def test_a_name_that_is_taken_at_the_inviting_end_is_told_before_it_listens(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        store_site(tmp_path / "receiver", Site(NAME, b"o" * 32, "", "0" * 16, 0))
        with pytest.raises(SettingsError, match="already; --replace"):
            await invite(
                "127.0.0.1",
                0,
                Naming(tmp_path / "receiver", NAME),
                open_identity(tmp_path / "identity"),
                RECEIVER,
                now_s=NOW_S,
                place=lambda _: ("", 0),
                url=lambda _: "",
                show=lambda _: None,
                tell=lambda _: None,
            )

    asyncio.run(main())


def test_a_disk_that_takes_no_key_ends_the_pairing_at_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SettingsError("No space left on device")

    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            monkeypatch.setattr(pairing, "store_site", full)
            with pytest.raises(PeerRefused, match="the other end could not store the key"):
                await clinic.accept()
            error = await clinic.outcome
            assert isinstance(error, SettingsError)
            assert not clinic.stored

    asyncio.run(main())


def test_who_leaves_or_says_nothing_in_mid_pairing_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "ANSWER_S", 0.2)

    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            transport = await clinic.dial()
            await transport.close()
            transport = await clinic.dial()
            await asyncio.sleep(0.4)
            transport.abort()
            transport = await clinic.dial()
            await transport.send(b"mdpr\x09 nonsense")
            await transport.until_gone()
            assert [sentence for sentence in clinic.told if "the other end left" in sentence]
            assert [sentence for sentence in clinic.told if "did not go on" in sentence]
            assert [sentence for sentence in clinic.told if "out of turn" in sentence]
            await clinic.accept()

    asyncio.run(main())


def test_an_end_that_refuses_is_heard_and_one_that_is_gone_need_not_hear_it(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        identity = open_identity(tmp_path / "identity")
        given = Invitation("127.0.0.1", 1, identity.pin, b"s" * 16, int(NOW_S) + 60)

        async def refuse(transport: Any) -> None:
            await anext(transport.frames())
            await transport.send(refusal("not today"))

        async with site(Credentials(RECEIVER, (given.key,), identity), refuse) as other:
            naming = Naming(tmp_path / "sender", "")
            here = replace(given, port=other.wire.port)
            with pytest.raises(PeerRefused, match="not today"):
                await accept(here, naming, SENDER, now_s=NOW_S)
        assert read_sites(tmp_path / "sender") == []

    asyncio.run(main())


def test_a_session_is_not_taken_for_a_pairing_nor_the_reverse(tmp_path: Path) -> None:
    """A key that lasts lets nobody pair, a one-time key lets nobody send."""

    async def main() -> None:
        async with inviting(tmp_path) as clinic:
            stranger = Credentials(SENDER, (SharedKey("other", b"o" * 32),))
            with pytest.raises(AuthenticationError):
                await dial(clinic.invitation.url, max_frame_bytes=LIMIT, credentials=stranger)
        identity = open_identity(tmp_path / "identity")
        lasting = Credentials(RECEIVER, (SharedKey("lab", b"l" * 32),), identity)
        async with site(lasting) as other:
            here = replace(clinic.invitation, port=other.wire.port)
            with pytest.raises(AuthenticationError, match="is good once"):
                await accept(here, Naming(tmp_path / "sender", ""), SENDER, now_s=NOW_S)
            assert not other.came

    asyncio.run(main())
