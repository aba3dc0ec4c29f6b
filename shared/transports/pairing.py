"""Drives a pairing: `invite` at the end that listens, `accept` at the one that dials.

Both need the network once, for three round trips, and end; afterwards each end has a file that
nobody else may read (`shared.trust.sites`), and knows the other one by its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import (
    AuthenticationError,
    MedroiError,
    PeerRefused,
    SettingsError,
    TransportClosed,
)
from shared.transports.websocket import Listener, dial, listen
from shared.trust.credentials import Credentials
from shared.trust.invitation import (
    ASK_AGAIN,
    LIFETIME_S,
    MAX_WRONG_TRIES,
    SECRET_BYTES,
    Fate,
    Invitation,
    OneTime,
    one_time_key,
)
from shared.trust.pairing import (
    MAX_MESSAGE_BYTES,
    SHARE_BYTES,
    DiallingPairing,
    ListeningPairing,
    Terms,
    refusal,
)
from shared.trust.sites import Site, check_free, store_site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from shared.transports.websocket_transport import WebSocketTransport
    from shared.trust.identity import Identity
    from shared.trust.proof import Claim

ANSWER_S = 10.0
"""For the other end's next message; its user has nothing to do in between."""
DIAL_S = 15.0
_CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Naming:
    """What a pair is called, and where its files are."""

    folder: Path
    name: str
    """Empty at the dialling end for what the other one calls it."""
    replace: bool = False
    """A site of that name may be there: it is paired anew."""


async def invite(
    host: str,
    port: int,
    naming: Naming,
    identity: Identity,
    claim: Claim,
    *,
    now_s: float,
    place: Callable[[Listener], tuple[str, int]],
    url: Callable[[Listener], str],
    show: Callable[[Invitation], None],
    tell: Callable[[str], None],
    lifetime_s: float = LIFETIME_S,
) -> Site:
    """Listen until somebody has paired by the string that is shown.

    Args:
        host: where to listen, with ``port``; 0 for any free one.
        now_s: Unix time.
        place: where a dialler meets this listener; goes into the string.
        url: where it meets the receiver from then on; the dialler keeps it.
        show: is given the invitation, once.
        tell: is given a sentence for each connection that comes to nothing.

    Raises:
        SettingsError: it cannot be listened there, or the name is taken.
        AuthenticationError: five tries with another secret: the string is void.
        TransportClosed: nobody came in time: it has expired.
    """
    check_free(naming.folder, naming.name, replace=naming.replace)
    loop = asyncio.get_running_loop()
    secret = secrets.token_bytes(SECRET_BYTES)
    one_time = OneTime(loop.time() + lifetime_s)
    done: asyncio.Future[Site] = loop.create_future()

    def count_wrong_try() -> None:
        one_time.note_wrong_try()
        if one_time.fate(loop.time()) is Fate.VOID and not done.done():  # and then never USED
            done.set_exception(
                AuthenticationError(
                    f"{MAX_WRONG_TRIES} wrong tries: this pairing string is void; {ASK_AGAIN}"
                )
            )

    async def take(transport: WebSocketTransport) -> None:
        try:
            site = await _host(transport, one_time, invitation, naming, url(listener), now_s)
        except SettingsError as error:  # the string is used up, and nothing has come of it
            done.set_exception(error)
        except MedroiError as error:
            tell(f"not paired: {error}")
        else:
            done.set_result(site)

    async with listen(
        host,
        port,
        take,
        max_frame_bytes=MAX_MESSAGE_BYTES,
        credentials=Credentials(claim, (one_time_key(secret, identity.pin),), identity),
        on_refused=tell,
        on_wrong_proof=count_wrong_try,
        close_timeout_s=_CLOSE_S,
    ) as listener:
        until_s = int(now_s + lifetime_s)
        invitation = Invitation(*place(listener), identity.pin, secret, until_s)
        show(invitation)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(lifetime_s):
                return await asyncio.shield(done)
        if one_time.fate(loop.time()) is Fate.USED:
            return await done  # somebody came at the last moment
        done.cancel()
        raise TransportClosed(f"nobody paired in time: the string has expired; {ASK_AGAIN}")


async def _host(
    transport: WebSocketTransport,
    one_time: OneTime,
    invitation: Invitation,
    naming: Naming,
    url: str,
    now_s: float,
) -> Site:
    """One dialler, who has proven that it knows the secret.

    Raises:
        SettingsError: our disk does not take the key, and the string is used up.
        MedroiError: it did not come to a pair.
    """
    loop = asyncio.get_running_loop()
    frames = transport.frames()
    share = secrets.token_bytes(SHARE_BYTES)
    pairing = ListeningPairing(transport.session_key, share, Terms(naming.name, url))
    answer = pairing.answer(await _next(frames))
    try:
        one_time.check(loop.time())
        await transport.send(answer)
        pairing.hear_confirm(await _next(frames))
        one_time.use(loop.time())
        site = Site(naming.name, pairing.key, "", invitation.name, int(now_s))
        store_site(naming.folder, site, replace=naming.replace)
    except (PeerRefused, SettingsError) as error:
        ours = f"the other end could not store the key; {ASK_AGAIN}"
        with contextlib.suppress(TransportClosed):
            await transport.send(refusal(str(error) if isinstance(error, PeerRefused) else ours))
            await transport.close()
        raise
    with contextlib.suppress(TransportClosed):
        # Whoever does not hear it has no key and pairs again; ours is replaced then.
        await transport.send(pairing.stored())
        await transport.close()
    return site


async def accept(
    invitation: Invitation, naming: Naming, claim: Claim, *, now_s: float, dial_s: float = DIAL_S
) -> Site:
    """Dial the end that made the invitation, and keep what both agree on.

    Raises:
        SettingsError: the string has expired, the name is taken or none, the disk does not take it.
        AuthenticationError: who answers is not who made the string, or does not know it any more.
        PeerRefused: it does, and says why it is of no use any more.
        TransportClosed: nobody answers.
    """
    invitation.check_age(now_s)
    if naming.name:
        check_free(naming.folder, naming.name, replace=naming.replace)
    try:
        transport = await dial(
            invitation.url,
            max_frame_bytes=MAX_MESSAGE_BYTES,
            credentials=Credentials(claim, (invitation.key,)),
            open_timeout_s=dial_s,
            close_timeout_s=_CLOSE_S,
        )
    except (AuthenticationError, TransportClosed) as error:
        raise type(error)(
            f"{error}; a pairing string is good once, for {LIFETIME_S // 60} minutes and "
            f"{MAX_WRONG_TRIES} tries: {ASK_AGAIN}"
        ) from error
    try:
        site = await _join(transport, invitation, naming, now_s)
        await transport.close()
    finally:
        transport.abort()
    return site


async def _join(
    transport: WebSocketTransport, invitation: Invitation, naming: Naming, now_s: float
) -> Site:
    frames = transport.frames()
    pairing = DiallingPairing(transport.session_key, secrets.token_bytes(SHARE_BYTES))
    await transport.send(pairing.offer)
    terms = pairing.read_answer(await _next(frames))
    name = naming.name or terms.name
    # Before the string is used up; and a name from outside is not to lead out of the folder.
    check_free(naming.folder, name, replace=naming.replace)
    await transport.send(pairing.confirm())
    pairing.read_stored(await _next(frames))
    site = Site(name, pairing.key, terms.url, invitation.name, int(now_s))
    store_site(naming.folder, site, replace=naming.replace)
    return site


async def _next(frames: AsyncIterator[bytes]) -> bytes:
    try:
        async with asyncio.timeout(ANSWER_S):
            frame = await anext(frames, None)
    except TimeoutError:
        raise TransportClosed("the other end did not go on with the pairing in time") from None
    if frame is None:
        raise TransportClosed("the other end left before both had the key")
    return frame
