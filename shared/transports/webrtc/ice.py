"""aioice with our patience and our sentences; changed one connection at a time, by its class.

- The peer's consent to be sent to (RFC 7675) is asked for with retransmissions. aioice asks once
  and waits half a second, so where a round trip takes longer, as by satellite, it ends every
  connection after half a minute.
- Servers that were asked for and do not answer are an error, not a connection with less to offer.
- Local addresses may be chosen, and are a bounded number.
- Where `IceSettings` have patience, checks go on until the other end begins: aioice gives up after
  a minute, and a person may need more for an answer. Going on also keeps ways through NATs open.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
from typing import TYPE_CHECKING

from aioice import ice, stun

from shared.errors import SettingsError, TransportClosed
from shared.tasks import one_error

if TYPE_CHECKING:
    from aioice.candidate import Candidate

    from shared.transports.webrtc.servers import IceSettings, StunServer, TurnServer

GATHER_TIMEOUT_S = 5.0
"""For all servers to answer, names to be looked up included."""
OTHERS_S = 0.2
"""For a server's answers at our other addresses, behind the first one."""
MAX_ADDRESSES = 12
"""Of this machine, told to the peer; each may come a second time, as a STUN server sees it."""
CHECK_PAUSE_S = 1.0
"""Before a check that failed is made again."""
CONSENT_RETRIES = 2
"""Sent again after 0.5 and 1.5 s, given up after 3.5 s."""
CONSENT_FAILURES = 6
"""In a row, five seconds apart: then the peer is gone, 51 s after it was last heard."""
_UNAUTHORIZED = (401, 403)


class PatientConnection(ice.Connection):
    """An ICE connection that a long way does not end."""

    _settings: IceSettings
    _patient_until_s = 0.0

    def begin(self, settings: IceSettings) -> None:
        """Take over; called once, before candidates are gathered."""
        self._settings = settings

    async def get_component_candidates(
        self,
        component: int,
        addresses: list[str],
        timeout: int = 5,  # noqa: ASYNC109  (aioice's name)
    ) -> list[Candidate]:
        """Local addresses, and what the servers of the settings add to them.

        Raises:
            TransportClosed: no address, or a server that does not answer.
            SettingsError: a relay that does not know the user.
        """
        settings = self._settings
        if settings.addresses is not None:
            addresses = list(settings.addresses)
        if settings.relay_only:
            addresses = []
        found = await super().get_component_candidates(
            component, addresses[:MAX_ADDRESSES], timeout
        )
        hosts = list(self._protocols)
        with one_error():
            async with asyncio.TaskGroup() as group:
                asked = []
                if settings.stun and not settings.relay_only:
                    asked.append(group.create_task(_reflexive(hosts, settings.stun)))
                if settings.turn:
                    asked.append(group.create_task(self._relayed(settings.turn)))
        for task in asked:
            found += task.result()
        if not found:
            raise TransportClosed("this machine has no address that a data channel could use")
        return found

    async def connect(self) -> None:
        """See `aioice.ice.Connection`; from here on patience counts.

        Raises:
            ConnectionError: no way was found.
        """
        self._patient_until_s = asyncio.get_running_loop().time() + self._settings.patience_s
        await super().connect()

    def check_complete(self, pair: ice.CandidatePair) -> None:
        """A check has ended; one that failed is made again while there is patience."""
        is_early = asyncio.get_running_loop().time() < self._patient_until_s
        if pair.state is ice.CandidatePair.State.FAILED and is_early and not self._nominated:
            pair.task = asyncio.create_task(self._check_again(pair))
        else:
            super().check_complete(pair)

    def check_incoming(
        self, message: stun.Message, addr: tuple[str, int], protocol: ice.StunProtocol
    ) -> None:
        """The other end checks. RFC 8445, section 7.3.1.4: "the agent cancels the In-Progress
        transaction" and checks at once; aioice does not, and ours may be half a minute apart.
        """
        if self._settings.patience_s:
            for pair in self._check_list:
                alike = pair.protocol is protocol and pair.remote_addr == addr
                if alike and pair.task is not None and not pair.task.done():
                    pair.task.cancel()
                    pair.task = None
                    self.check_state(pair, ice.CandidatePair.State.WAITING)
        super().check_incoming(message, addr, protocol)

    async def _check_again(self, pair: ice.CandidatePair) -> None:
        await asyncio.sleep(CHECK_PAUSE_S)
        await self.check_start(pair)

    async def query_consent(self) -> None:
        """See RFC 7675, section 5.1: "once every 5 seconds", from 0.8 to 1.2 of that."""
        assert self.remote_password is not None
        key = self.remote_password.encode()
        failures = 0
        while failures < CONSENT_FAILURES:
            await asyncio.sleep(ice.CONSENT_INTERVAL * random.uniform(0.8, 1.2))
            for pair in list(self._nominated.values()):
                request = self.build_request(pair, nominate=False)
                try:
                    await pair.protocol.request(
                        request, pair.remote_addr, key, retransmissions=CONSENT_RETRIES
                    )
                    failures = 0
                except stun.TransactionError:
                    failures += 1
        self._query_consent_task = None
        await self.close()

    async def _relayed(self, server: TurnServer) -> list[Candidate]:
        try:
            async with asyncio.timeout(GATHER_TIMEOUT_S):
                candidate, protocol = await ice.relayed_candidate(
                    component=1,
                    hide_related_address=self._settings.relay_only,
                    protocol_factory=lambda: ice.StunProtocol(self),
                    turn_server=(server.host, server.port),
                    turn_username=server.user,
                    turn_password=server.password,
                    turn_ssl=server.transport == "tls",
                    turn_transport="udp" if server.transport == "udp" else "tcp",
                )
        except stun.TransactionFailed as error:
            code, reason = error.response.attributes["ERROR-CODE"]
            if code in _UNAUTHORIZED:
                raise SettingsError(f"{server} refused the user or the password") from error
            raise TransportClosed(f"{server} refused to relay: {reason or code}") from error
        except (TimeoutError, stun.TransactionTimeout) as error:
            raise TransportClosed(
                f"{server} did not answer within {GATHER_TIMEOUT_S:g} s"
            ) from error
        except OSError as error:
            raise TransportClosed(
                f"{server} cannot be reached: {error.strerror or error}"
            ) from error
        self._protocols.append(protocol)
        return [candidate]


async def _reflexive(hosts: list[ice.StunProtocol], server: StunServer) -> list[Candidate]:
    """Our IPv4 addresses as the server sees them; not every one of them needs a way to it."""
    address = await _look_up(server)
    found: list[Candidate] = []
    is_found = asyncio.Event()

    async def ask(host: ice.StunProtocol) -> None:
        try:
            candidate, _ = await ice.server_reflexive_candidate(host, address)
        except stun.TransactionError:
            return
        found.append(candidate)
        is_found.set()

    async with asyncio.TaskGroup() as group:
        asking = [
            group.create_task(ask(host))
            for host in hosts
            if ipaddress.ip_address(host.local_candidate.host).version == 4
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_TIMEOUT_S):
                await is_found.wait()
                await asyncio.sleep(OTHERS_S)
        for task in asking:
            task.cancel()
    if not found:
        raise TransportClosed(f"{server} did not answer within {GATHER_TIMEOUT_S:g} s")
    return found


async def _look_up(server: StunServer) -> tuple[str, int]:
    try:
        async with asyncio.timeout(GATHER_TIMEOUT_S):
            resolved = await asyncio.get_running_loop().getaddrinfo(
                server.host, server.port, family=socket.AF_INET, type=socket.SOCK_DGRAM
            )
    except TimeoutError as error:
        raise TransportClosed(
            f"no address of {server} was found within {GATHER_TIMEOUT_S:g} s"
        ) from error
    except OSError as error:
        raise TransportClosed(f"{server} has no address: {error.strerror}") from error
    return str(resolved[0][4][0]), server.port
