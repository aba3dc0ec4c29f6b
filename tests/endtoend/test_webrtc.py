"""Both commands as real processes over a TUN link, where a data channel is another path indeed."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.commands import Receiver, command
from tests.emulator.namespaces import Place, TunLink, missing_for_tun
from tests.sender.read.files import nifti

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    bool(missing_for_tun()), reason=f"no data channel on loopback alone: {missing_for_tun()}"
)

_END_S = 120.0


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """1.3 MB that no codec makes smaller: ten seconds at 1 Mbit/s."""
    path = tmp_path / "noise.nii"
    path.write_bytes(nifti(np.random.default_rng(0).integers(0, 4096, (24, 192, 192), "<i2")))
    return path


def send(place: Place, study: Path, url: str, *flags: object) -> tuple[int, str, dict[str, Any]]:
    """Status, what was printed, and the report."""
    report = study.parent / "send.json"
    spool = study.parent / "spool"
    done = place.run(
        command(
            "sender.cli", study, "--to", url, "--report", report, "--spool", spool, *map(str, flags)
        ),
        capture_output=True,
        timeout=_END_S,
    )
    content = json.loads(report.read_text()) if report.is_file() else {}
    return done.returncode, done.stdout + done.stderr, content


@contextmanager
def receiving(link: TunLink, folder: Path, *flags: str) -> Iterator[Receiver]:
    clinic = link.clinic
    options = ("--once", *flags)
    with Receiver(folder, options, host=clinic.plain_address, place=clinic.command) as receiver:
        yield receiver


def test_a_whole_study_goes_over_a_data_channel(noise: Path, tmp_path: Path) -> None:
    with (
        TunLink("rate=5M,rtt=100ms,loss=1%") as link,
        receiving(link, tmp_path / "clinic") as receiver,
    ):
        code, said, report = send(link.site, noise, receiver.url, "--transport", "webrtc")
        assert (code, receiver.wait()) == (0, 0), said
    assert report["exact"]
    assert report["link"]["transport"] == receiver.report()["link"]["transport"] == "webrtc"
    assert report["link"]["congestion"] == "model"
    assert not any("without a study" in line for line in receiver.lines)


def test_a_satellites_round_trip_does_not_end_a_channel_after_half_a_minute(
    noise: Path, tmp_path: Path
) -> None:
    with (
        TunLink("rate=200k,rtt=715ms") as link,
        receiving(link, tmp_path / "clinic") as receiver,
    ):
        code, said, report = send(link.site, noise, receiver.url, "--transport", "webrtc")
        assert (code, receiver.wait()) == (0, 0), said
    assert report["link"]["transport"] == "webrtc"
    assert report["link"]["connections"] == 1
    assert report["times_s"]["whole_exact"] > 40
    assert report["exact"]


@pytest.mark.parametrize("way", ["stalls", "is gone"])
def test_the_channel_in_reserve_takes_over_in_mid_study_when_the_first_path(
    way: str, noise: Path, tmp_path: Path
) -> None:
    outage = "rate=100M,outage=90s@8s" if way == "stalls" else "rate=100M"
    with (
        TunLink("rate=1M,rtt=100ms") as link,
        receiving(link, tmp_path / "clinic") as receiver,
    ):
        relay = link.site.popen(
            command(
                "shared.transports.relay", "--to", receiver.url.partition("//")[2], "--link", outage
            ),
            stdout=subprocess.PIPE,
        )
        with relay:
            assert relay.stdout
            url = f"ws://127.0.0.1:{int(relay.stdout.readline())}"
            if way == "is gone":
                threading.Timer(8.0, relay.kill).start()
            started_s = time.monotonic()
            code, said, report = send(link.site, noise, url)
            took_s = time.monotonic() - started_s
            relay.kill()
        assert (code, receiver.wait()) == (0, 0), said
    assert report["exact"]
    assert report["link"]["transport"] == "webrtc"
    assert report["link"]["connections"] == 2
    assert took_s < 30
    # All of it once, and at most one window and one group that was not synced a second time.
    content = noise.stat().st_size * 12 / 16
    assert link.report["to_clinic"]["carried_bytes"] < 1.25 * content + 128e3


def test_a_receiver_that_was_told_ws_says_so_and_the_study_goes_there(
    noise: Path, tmp_path: Path
) -> None:
    with (
        TunLink("rate=2M,rtt=50ms") as link,
        receiving(link, tmp_path / "clinic", "--transport", "ws") as receiver,
    ):
        code, said, report = send(
            link.site, noise, receiver.url, "--transport", "webrtc", "--give-up", "1"
        )
        assert code == 5
        assert said.count("no data channel: this end was told --transport ws") >= 1
        code, said, report = send(link.site, noise, receiver.url)
        assert (code, receiver.wait()) == (0, 0), said
    assert report["link"]["transport"] == "websocket"
    assert "no data channel in reserve: the receiver offers no data channel" in said


def test_a_receiver_that_was_told_webrtc_takes_no_study_over_a_websocket(
    noise: Path, tmp_path: Path
) -> None:
    with (
        TunLink("rate=2M,rtt=50ms") as link,
        receiving(link, tmp_path / "clinic", "--transport", "webrtc") as receiver,
    ):
        for flags in ((), ("--transport", "ws")):
            code, said, _ = send(link.site, noise, receiver.url, *flags)
            assert code == 4
            assert (
                "medroi-send: the receiver ended the session: this end was told --transport webrtc "
                "and takes no study over a WebSocket: send it with --transport webrtc\n" in said
            )
        code, said, report = send(link.site, noise, receiver.url, "--transport", "webrtc")
        assert (code, receiver.wait()) == (0, 0), said
    assert report["link"]["transport"] == "webrtc"


def test_a_turn_server_that_nobody_answers_at_is_one_sentence(noise: Path, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    server = ("--ice-server", "turn:medroi@10.77.0.2:3478", "--ice-password", password)
    with (
        TunLink("rate=5M,rtt=50ms") as link,
        receiving(link, tmp_path / "clinic") as receiver,
    ):
        code, said, _ = send(
            link.site, noise, receiver.url, "--transport", "webrtc", "--give-up", "8", *server
        )
    assert code == 5
    sentence = "the TURN server 10.77.0.2:3478 did not answer within 5 s"
    assert said.strip().splitlines()[-1] == f"medroi-send: {sentence}"
    assert "secret" not in said
