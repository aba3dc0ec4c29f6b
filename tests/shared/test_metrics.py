"""Figures in the text format of Prometheus, and the two pages that give them away."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from shared.clock import SystemClock
from shared.errors import SettingsError
from shared.metrics import LAG_BOUNDS_S, Metrics
from shared.metrics_server import serving_metrics

if TYPE_CHECKING:
    from collections.abc import Callable

LINE = re.compile(
    r'# (HELP|TYPE) medroi_[a-z_]+ .+|medroi_[a-z_]+(\{[a-z]+="[A-Za-z0-9_.:+-]+"\})? [0-9.e+-]+'
)


def example() -> Metrics:
    metrics = Metrics()
    metrics.counter("medroi_plain_total", "Things").add(2)
    kinds = metrics.counter("medroi_errors_total", "By kind", "kind")
    kinds.add(word="TransportClosed")
    kinds.add(3, "InputError")
    metrics.gauge("medroi_disk_free_bytes", "Free", lambda: 1e15)
    metrics.gauge("medroi_voxels", "By quality", lambda: {"exact": 7.0}, "quality")
    metrics.total("medroi_received_bytes_total", "Bytes", lambda: 5.0)
    lag = metrics.histogram("medroi_loop_lag_seconds", "Lag", (0.01, 0.05))
    for value in (0.001, 0.05, 0.2):
        lag.observe(value)
    return metrics


def test_the_format_is_the_documents() -> None:
    text = example().text()
    assert all(LINE.fullmatch(line) for line in text.splitlines()), text
    for line in (
        "# TYPE medroi_plain_total counter",
        "medroi_plain_total 2",
        'medroi_errors_total{kind="TransportClosed"} 1',
        'medroi_errors_total{kind="InputError"} 3',
        "# TYPE medroi_disk_free_bytes gauge",
        "medroi_disk_free_bytes 1000000000000000",
        'medroi_voxels{quality="exact"} 7',
        "medroi_received_bytes_total 5",
        'medroi_loop_lag_seconds_bucket{le="0.01"} 1',
        'medroi_loop_lag_seconds_bucket{le="0.05"} 2',
        'medroi_loop_lag_seconds_bucket{le="+Inf"} 3',
        "medroi_loop_lag_seconds_count 3",
    ):
        assert f"{line}\n" in text


def test_free_text_does_not_get_in() -> None:
    metrics = Metrics()
    names = metrics.counter("medroi_names_total", "Names", "name")
    names.add(word="Doe^Jane")
    with pytest.raises(ValueError, match="no value of a label"):
        metrics.text()
    with pytest.raises(ValueError, match="a label has a value"):
        names.add()
    with pytest.raises(ValueError, match="not a new name"):
        metrics.counter("medroi_names_total", "Again")
    with pytest.raises(ValueError, match="not a new name"):
        metrics.counter("patients", "Of others")


async def ask(url: str, request: str) -> tuple[int, str]:
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.replace("\n", "\r\n").encode())
    answer = (await asyncio.wait_for(reader.read(), 10)).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


def served(ills: Callable[[], list[str]], *requests: str) -> list[tuple[int, str]]:
    async def main() -> list[tuple[int, str]]:
        async with serving_metrics(Metrics(), 0, ills, SystemClock()) as url:
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
            await asyncio.sleep(0.25)
            return [await ask(url, request) for request in requests]

    return asyncio.run(main())


def test_a_monitor_reads_figures_and_health() -> None:
    host = "Host: localhost:9\n\n"
    answers = served(list, f"GET /metrics HTTP/1.1\n{host}", f"GET /healthz?x=1 HTTP/1.1\n{host}")
    assert answers[0][0] == 200
    assert "medroi_up 1\n" in answers[0][1]
    found = re.search(r"medroi_loop_lag_seconds_count (\d+)", answers[0][1])
    assert found
    assert int(found[1]) >= 1
    assert answers[1] == (200, "ok\n")
    assert len(LAG_BOUNDS_S) + 1 == answers[0][1].count("medroi_loop_lag_seconds_bucket")


def test_what_is_wrong_is_told_in_sentences() -> None:
    answers = served(lambda: ["the disk is full"], "GET /healthz HTTP/1.1\nHost: [::1]:9\n\n")
    assert answers == [(503, "the disk is full\n")]


def test_anything_else_is_refused() -> None:
    host = "Host: 127.0.0.1\n\n"
    answers = served(
        list,
        f"GET / HTTP/1.1\n{host}",
        f"POST /metrics HTTP/1.1\n{host}",
        "GET /metrics HTTP/1.1\nHost: clinic.example\n\n",
        "GET /metrics HTTP/1.1\n\n",
        "GET /metrics HTTP/1.1\nHost: 127.0.0.1\nHost: evil\n\n",
        "x" * 9000,
    )
    assert [status for status, _ in answers] == [404, 405, 403, 403, 403, 400]


def test_a_port_that_cannot_be_had_is_a_setting_to_mend() -> None:
    async def twice() -> None:
        async with serving_metrics(Metrics(), 0, list, SystemClock()) as url:
            port = int(url.rpartition(":")[2])
            async with serving_metrics(Metrics(), port, list, SystemClock()):
                pass

    with pytest.raises(BaseException) as caught:  # noqa: PT011  (of a group, perhaps)
        asyncio.run(twice())
    assert isinstance(caught.value, SettingsError)

    async def none() -> None:
        async with serving_metrics(Metrics(), None, list, SystemClock()) as url:
            assert url == ""
        with pytest.raises(SettingsError, match="a port from 0 to 65535"):
            async with serving_metrics(Metrics(), 70000, list, SystemClock()):
                pass

    asyncio.run(none())
