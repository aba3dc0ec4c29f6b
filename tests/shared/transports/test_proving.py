"""The proof over a modelled link, on virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.errors import AuthenticationError, MedroiError, PeerRefused, TransportClosed
from shared.link import parse_link
from shared.role import Role
from shared.transports.proving import PROOF_TIMEOUT_S, prove_dialling, prove_listening
from shared.transports.simulated import SimulatedTransport, simulated_pair
from shared.trust.proof import Claim
from tests.shared.trust.test_proof import DIALLED, OTHER, SENDER, dialler, listener
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.trust.proof import Proven

RTT_S = 0.1


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def outcome(work: Awaitable[Proven]) -> Proven | MedroiError:
    try:
        return await work
    except MedroiError as error:
        return error


def play(
    near: Callable[[SimulatedTransport], Awaitable[Proven]],
    far: Callable[[SimulatedTransport], Awaitable[Proven]],
) -> tuple[Proven | MedroiError, Proven | MedroiError, float]:
    """What becomes of both, and how long the near end took."""

    async def main() -> tuple[Proven | MedroiError, Proven | MedroiError, float]:
        here, there = simulated_pair(parse_link(f"rate=100M,rtt={RTT_S * 1e3:g}ms"), 1)
        started_s = now_s()
        ended_s = started_s

        async def timed() -> Proven | MedroiError:
            nonlocal ended_s
            result = await outcome(near(here))
            ended_s = now_s()
            return result

        async with asyncio.TaskGroup() as group:
            first = group.create_task(timed())
            second = group.create_task(outcome(far(there)))
        here.cut()
        return first.result(), second.result(), ended_s - started_s

    return run_virtual(main(), limit_s=100)


def test_both_ends_have_the_session_key_after_one_round_trip() -> None:
    near, far, took_s = play(
        lambda transport: prove_dialling(transport, dialler()),
        lambda transport: prove_listening(transport, listener()),
    )
    assert near == far
    assert not isinstance(near, MedroiError)
    assert RTT_S <= took_s < 1.1 * RTT_S


def test_a_challenge_that_went_before_costs_no_message() -> None:
    async def main() -> None:
        here, there = simulated_pair(parse_link("lan"), 1)
        dialling, listening = dialler(), listener()
        reply = listening.reply(dialling.challenge)
        async with asyncio.TaskGroup() as group:
            near = group.create_task(prove_dialling(here, dialling, challenged=True))
            far = group.create_task(prove_listening(there, listening, reply=reply))
        assert near.result() == far.result()
        assert (here.stats().frames_sent, there.stats().frames_sent) == (1, 1)
        here.cut()

    run_virtual(main())


def test_frames_behind_the_proof_are_for_the_session() -> None:
    async def main() -> None:
        here, there = simulated_pair(parse_link("lan"), 1)

        async def near() -> None:
            await prove_dialling(here, dialler())
            for frame in (b"hello", b"manifest"):
                await here.send(frame)
            await here.close()

        async def far() -> None:
            await prove_listening(there, listener())
            assert [frame async for frame in there.frames()] == [b"hello", b"manifest"]

        async with asyncio.TaskGroup() as group:
            group.create_task(near())
            group.create_task(far())

    run_virtual(main())


def test_a_stranger_gets_no_frame_back() -> None:
    async def stranger(transport: SimulatedTransport) -> Proven:
        await transport.send(dialler(OTHER).challenge)
        async for frame in transport.frames():
            pytest.fail(f"it was told {frame!r}")
        raise TransportClosed("nothing came")

    async def far(transport: SimulatedTransport) -> Proven:
        try:
            return await prove_listening(transport, listener())
        finally:
            await transport.close()

    near, refused, _ = play(stranger, far)
    assert str(near) == "nothing came"
    assert isinstance(refused, AuthenticationError)


@pytest.mark.parametrize("answer", [b"", b"hello", DIALLED * 3, bytes(2000)])
def test_what_is_no_reply_is_found_out(answer: bytes) -> None:
    async def impostor(transport: SimulatedTransport) -> Proven:
        await transport.send(answer)
        raise TransportClosed("done")

    near, _, _ = play(lambda transport: prove_dialling(transport, dialler()), impostor)
    assert isinstance(near, AuthenticationError)


def test_silence_ends_in_time_at_either_end() -> None:
    async def silent(_: SimulatedTransport) -> Proven:
        await asyncio.sleep(20)
        raise TransportClosed("nothing said")

    for end in (
        lambda transport: prove_dialling(transport, dialler()),
        lambda transport: prove_listening(transport, listener()),
    ):
        near, _, took_s = play(end, silent)
        assert isinstance(near, TransportClosed)
        assert str(near) == "the peer did not prove within 5 s that it knows the key"
        assert took_s == pytest.approx(PROOF_TIMEOUT_S, abs=0.01)


def test_a_peer_that_leaves_is_a_closed_transport() -> None:
    async def leave(transport: SimulatedTransport) -> Proven:
        await transport.close()
        raise TransportClosed("left")

    for end in (
        lambda transport: prove_dialling(transport, dialler()),
        lambda transport: prove_listening(transport, listener()),
    ):
        near, _, _ = play(end, leave)
        assert isinstance(near, TransportClosed)
        assert "before it had proven the key" in str(near) or "closed" in str(near)


def test_both_ends_hear_why_they_do_not_fit() -> None:
    near, far, _ = play(
        lambda transport: prove_dialling(transport, dialler()),
        lambda transport: prove_listening(transport, listener(claim=SENDER)),
    )
    assert isinstance(near, PeerRefused)
    assert isinstance(far, PeerRefused)
    assert str(near) == str(far) == "both ends are senders: one must send and the other receive"
    near, far, _ = play(
        lambda transport: prove_dialling(transport, dialler(claim=Claim(Role.SENDER, 7))),
        lambda transport: prove_listening(transport, listener()),
    )
    assert "version 1" in str(near)
    assert "version 7" in str(far)
