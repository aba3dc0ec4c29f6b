"""Drives a proof over a transport that has just opened, before a session sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.errors import TransportClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.transports.base import Transport
    from shared.trust.proof import DiallingProof, ListeningProof, Proven

PROOF_TIMEOUT_S = 5.0
"""For the peer's part of it. What is waited for takes one round trip."""


async def prove_dialling(
    transport: Transport,
    proof: DiallingProof,
    *,
    challenged: bool = False,
    timeout_s: float = PROOF_TIMEOUT_S,
) -> Proven:
    """As the dialler; frames of a session may follow at once.

    ``challenged`` says that the challenge has gone another way, as with the request of a WebSocket.
    Whatever is raised, the transport must be closed.

    Raises:
        AuthenticationError: the peer does not know the key.
        PeerRefused: it does, and still has no use for us.
        TransportClosed: it is gone, or did not answer in time.
        RemoteProtocolError: it sent what is not a frame.
    """
    async with _in_time(timeout_s):
        if not challenged:
            await transport.send(proof.challenge)
        await transport.send(proof.answer(await _next_frame(transport)))
    return proof.result()


async def prove_listening(
    transport: Transport,
    proof: ListeningProof,
    *,
    reply: bytes | None = None,
    timeout_s: float = PROOF_TIMEOUT_S,
) -> Proven:
    """As the listener. ``reply`` is given where the challenge has come, and been judged, before.

    Whatever is raised, the transport must be closed.

    Raises:
        AuthenticationError: the peer does not know a key; it is told nothing.
        PeerRefused: it does, and still has no use for us.
        TransportClosed: it is gone, or did not answer in time.
        RemoteProtocolError: it sent what is not a frame.
    """
    async with _in_time(timeout_s):
        if reply is None:
            reply = proof.reply(await _next_frame(transport))
        await transport.send(reply)
        proof.hear_proof(await _next_frame(transport))
    return proof.result()


@asynccontextmanager
async def _in_time(timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise TransportClosed(
            f"the peer did not prove within {timeout_s:g} s that it knows the key"
        ) from error


async def _next_frame(transport: Transport) -> bytes:
    frames = transport.frames()
    try:
        frame = await anext(frames, None)
    finally:
        if isinstance(frames, AsyncGenerator):  # the session reads on where this one stops
            await frames.aclose()
    if frame is None:
        raise TransportClosed("the peer closed the connection before it had proven the key")
    return frame
