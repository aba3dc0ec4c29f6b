"""ICE with patience: consent over long ways, checks made again, servers that do not answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aioice import ice, stun

from shared.errors import SettingsError, TransportClosed
from shared.transports.webrtc import ice as patient
from shared.transports.webrtc.servers import IceSettings, StunServer, TurnServer
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable

TURN = TurnServer("relay.test", 3478, "site", "secret", "udp")


def connection(settings: IceSettings | None = None) -> patient.PatientConnection:
    made = ice.Connection(ice_controlling=True)
    made.__class__ = patient.PatientConnection
    assert isinstance(made, patient.PatientConnection)
    made.begin(settings or IceSettings())
    made.remote_password = "secret"
    return made


@dataclass
class Peer:
    """The other end of a nominated pair: asked for its consent, it answers, or does not."""

    answers: Callable[[float], bool]
    """Whether what is asked at this time, since the start, is answered."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    remote_addr: tuple[str, int] = ("192.0.2.1", 5000)

    @property
    def protocol(self) -> Peer:
        return self

    async def request(self, *arguments: object, **options: Any) -> None:
        now_s = asyncio.get_running_loop().time()
        self.asked.append(options)
        if not self.answers(now_s):
            await asyncio.sleep(3.5)
            raise stun.TransactionTimeout


def consent(answers: Callable[[float], bool], seconds: float) -> tuple[Peer, float | None]:
    """Ask for consent for so long: whom, and when the connection was given up, if it was."""

    async def main() -> tuple[Peer, float | None]:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        other = Peer(lambda now_s: answers(now_s - start_s))
        made, closed_s = connection(), list[float]()

        async def close() -> None:
            closed_s.append(loop.time() - start_s)

        made._nominated = {1: other}  # type: ignore[dict-item]
        made.build_request = lambda *_, **__: None  # type: ignore[method-assign,assignment]
        made.close = close  # type: ignore[method-assign]
        asking = asyncio.ensure_future(made.query_consent())
        await asyncio.sleep(seconds)
        asking.cancel()
        return other, closed_s[0] if closed_s else None

    return run_virtual(main())


def test_consent_is_asked_for_every_five_seconds_with_retransmissions() -> None:
    other, closed_s = consent(lambda now_s: True, 600)
    assert closed_s is None
    assert 100 <= len(other.asked) <= 150
    assert all(options["retransmissions"] == patient.CONSENT_RETRIES for options in other.asked)


def test_a_peer_that_is_silent_for_half_a_minute_and_comes_back_is_kept() -> None:
    _, closed_s = consent(lambda now_s: not 60 < now_s < 90, 600)
    assert closed_s is None


def test_a_peer_that_is_gone_is_given_up_within_a_minute() -> None:
    _, closed_s = consent(lambda now_s: now_s < 60, 600)
    assert closed_s is not None
    assert 60 + 30 < closed_s < 60 + 65


def checked(patience_s: float) -> list[str]:
    """What becomes of a check that fails."""
    done: list[str] = []

    async def main() -> None:
        made = connection(IceSettings(patience_s=patience_s))
        made._patient_until_s = asyncio.get_running_loop().time() + patience_s

        async def check_start(pair: object) -> None:
            done.append("again")

        made.check_start = check_start  # type: ignore[method-assign]

        class Pair:
            state = ice.CandidatePair.State.FAILED
            component = 1
            nominated = False
            task: asyncio.Task[None] | None = None

        pair = Pair()
        made._remote_candidates_end = True
        made._check_list = [pair]  # type: ignore[list-item]
        made.check_complete(pair)  # type: ignore[arg-type]
        await asyncio.sleep(2 * patient.CHECK_PAUSE_S)
        if not made._check_list_state.empty():
            done.append("given up")

    run_virtual(main())
    return done


def test_a_check_that_failed_is_made_again_while_there_is_patience() -> None:
    assert checked(60.0) == ["again"]


def test_without_patience_checks_that_failed_are_the_end() -> None:
    assert checked(0.0) == ["given up"]


def gathered(settings: IceSettings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that aioice was asked to use."""
    asked: list[list[str]] = []

    async def base(
        self: object,
        component: int,
        addresses: list[str],
        timeout: int = 5,  # noqa: ASYNC109  (aioice's name)
    ) -> list[str]:
        asked.append(addresses)
        return ["candidate" for _ in addresses]

    monkeypatch.setattr(ice.Connection, "get_component_candidates", base)

    async def main() -> None:
        await connection(settings).get_component_candidates(1, [f"10.0.0.{n}" for n in range(40)])

    run_virtual(main())
    return asked[0]


def test_local_addresses_are_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(gathered(IceSettings(), monkeypatch)) == patient.MAX_ADDRESSES


def test_local_addresses_may_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = IceSettings(addresses=("127.0.0.1",))
    assert gathered(settings, monkeypatch) == ["127.0.0.1"]


def test_no_address_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TransportClosed, match="no address that a data channel could use"):
        gathered(IceSettings(addresses=()), monkeypatch)


def test_over_a_relay_only_no_local_address_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def relayed(**_: object) -> tuple[str, object]:
        return "relayed", object()

    monkeypatch.setattr(ice, "relayed_candidate", relayed)
    assert gathered(IceSettings(turn=TURN, relay_only=True), monkeypatch) == []


def refusal(code: int) -> stun.TransactionFailed:
    message = stun.Message(stun.Method.ALLOCATE, stun.Class.ERROR)
    message.attributes["ERROR-CODE"] = (code, "no")
    return stun.TransactionFailed(message)


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (refusal(401), SettingsError, "refused the user or the password"),
        (refusal(486), TransportClosed, "refused to relay: no"),
        (stun.TransactionTimeout(), TransportClosed, "did not answer within 5 s"),
        (ConnectionRefusedError(111, "Connection refused"), TransportClosed, "cannot be reached"),
    ],
)
def test_a_relay_that_is_of_no_use_is_an_error_in_a_sentence(
    fault: Exception, kind: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def relayed(**_: object) -> None:
        raise fault

    monkeypatch.setattr(ice, "relayed_candidate", relayed)
    with pytest.raises(kind, match=says):
        gathered(IceSettings(turn=TURN), monkeypatch)


def test_a_stun_server_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(server: StunServer) -> tuple[str, int]:
        return "192.0.2.7", server.port

    monkeypatch.setattr(patient, "_look_up", look_up)
    with pytest.raises(TransportClosed, match="did not answer within 5 s"):
        gathered(IceSettings(stun=StunServer("stun.test", 3478)), monkeypatch)
