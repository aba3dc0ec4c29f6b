from __future__ import annotations

import socket
import stat
from typing import TYPE_CHECKING

import pytest

from shared.rendezvous.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from shared.trust.identity import Identity


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Identity | None]:
    """What a listener would show, where it is not really opened."""
    found: list[Identity | None] = []

    class Serving:
        def __init__(self, _host: str, _port: int, identity: Identity | None, _: object) -> None:
            found.append(identity)

        async def __aenter__(self) -> str:
            raise KeyboardInterrupt

        async def __aexit__(self, *_: object) -> None:
            return

    monkeypatch.setattr("shared.rendezvous.server.serving", Serving)
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_on_loopback_there_is_no_certificate_unless_one_is_asked_for(
    host: str, shown: list[Identity | None], tmp_path: Path
) -> None:
    assert main(["--listen", f"{host}:0"]) == 0
    assert main(["--listen", f"{host}:0", "--identity", str(tmp_path / "own")]) == 0
    plain, secure = shown
    assert plain is None
    assert secure is not None
    assert secure.path.parent == tmp_path / "own"


def test_beyond_loopback_there_always_is_one_of_its_own_made_once_and_private(
    shown: list[Identity | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["--listen", "0.0.0.0:0"]) == main(["--listen", "a.name:0"]) == 0
    first, second = shown
    assert first is not None
    assert first == second
    assert first.path.parent == tmp_path / "medroi" / "rendezvous"
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("place", ["here", "127.0.0.1", "127.0.0.1:70000"])
def test_what_is_no_place_is_usage(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--listen", place]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"medroi-rendezvous: --listen {place}: HOST:PORT expected, such as 127.0.0.1:8765\n"
    )


def test_a_port_that_is_taken_and_a_folder_that_is_not_private_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--listen", f"127.0.0.1:{port}"]) == 2
    assert f"cannot listen on 127.0.0.1:{port}: " in capsys.readouterr().err
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    assert main(["--listen", "127.0.0.1:0", "--identity", str(tmp_path / "open")]) == 2
    assert "chmod 700 makes it private" in capsys.readouterr().err
