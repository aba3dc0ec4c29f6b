"""Answers a monitor on this machine: ``GET /metrics`` and ``GET /healthz``, on loopback only.

As much HTTP/1.1 as that takes (RFC 9110): one request a connection, of 4 KiB and 5 s. Whoever asks
by another name than this machine's is a page in a browser that was led here (DNS rebinding), and
is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.errors import SettingsError
from shared.metrics import CONTENT_TYPE, LAG_BOUNDS_S, Metrics
from shared.software import SOFTWARE
from shared.tasks import one_error

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable, Sequence

    from shared.clock import Clock

HOST = "127.0.0.1"
_REQUEST_BYTES = 4096
_REQUEST_S = 5.0
_LOOK_S = 0.1
"""Between two looks at the loop's lag."""
_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found",
            405: "Method Not Allowed", 503: "Service Unavailable"}  # fmt: skip


def add_metrics_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says where monitors are answered."""
    parser.add_argument(
        "--metrics",
        type=int,
        metavar="PORT",
        help=f"answer monitors on {HOST}:PORT: /metrics (Prometheus) and /healthz",
    )


@contextlib.asynccontextmanager
async def serving_metrics(
    metrics: Metrics, port: int | None, ills: Callable[[], Sequence[str]], clock: Clock
) -> AsyncIterator[str]:
    """Answer while the context lasts, and watch the loop's lag; gives the URL.

    Args:
        port: None for not at all; 0 for any free one.
        ills: sentences on what is wrong with us now; none if we are well.

    Raises:
        SettingsError: the port cannot be had.
    """
    if port is None:
        yield ""
        return
    if not 0 <= port < 1 << 16:
        raise SettingsError(f"--metrics {port}: a port from 0 to 65535 expected")
    metrics.gauge("medroi_up", f"1 while {SOFTWARE} runs", lambda: 1.0)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(await _answer(reader, metrics, ills))
            await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_server(take, HOST, port, limit=_REQUEST_BYTES)
    except OSError as error:
        raise SettingsError(f"--metrics {port}: {error.strerror or error}") from error
    with one_error():
        async with server, asyncio.TaskGroup() as group:
            watching = group.create_task(_watch_lag(metrics, clock))
            try:
                yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
            finally:
                watching.cancel()


async def _watch_lag(metrics: Metrics, clock: Clock) -> None:
    lag = metrics.histogram(
        "medroi_loop_lag_seconds", "How late the event loop comes to what is due", LAG_BOUNDS_S
    )
    while True:
        due_s = clock.now_s() + _LOOK_S
        await clock.sleep_s(_LOOK_S)
        lag.observe(max(0.0, clock.now_s() - due_s))


async def _answer(
    reader: asyncio.StreamReader, metrics: Metrics, ills: Callable[[], Sequence[str]]
) -> bytes:
    try:
        async with asyncio.timeout(_REQUEST_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii", "replace")
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return _response(400, "expected a request\n")
    first, *fields = head.split("\r\n")
    method, _, rest = first.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    hosts = [field[5:].strip() for field in fields if field.lower().startswith("host:")]
    if len(hosts) != 1 or not _is_ours(hosts[0]):
        return _response(403, "only for this machine\n")
    if method != "GET":
        return _response(405, "only GET\n")
    if path == "/metrics":
        return _response(200, metrics.text(), CONTENT_TYPE)
    if path == "/healthz":
        wrong = ills()
        return _response(503 if wrong else 200, "".join(f"{ill}\n" for ill in wrong) or "ok\n")
    return _response(404, "/metrics and /healthz are here\n")


def _is_ours(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _response(status: int, text: str, kind: str = "text/plain; charset=utf-8") -> bytes:
    content = text.encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(content)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content
