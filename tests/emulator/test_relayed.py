from __future__ import annotations

import socket
import sys
import time
from typing import TYPE_CHECKING

from tests.emulator import relayed
from tests.emulator.namespaces import TunLink
from tests.emulator.relayed import RelayLink, best_link, free_port

if TYPE_CHECKING:
    import pytest

ECHO = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    connection, _ = listener.accept()
    connection.sendall(connection.recv(100))
"""


def test_the_site_reaches_the_clinic_over_the_line() -> None:
    port = free_port()
    serve = [sys.executable, "-c", ECHO, port]
    with RelayLink("rate=10M,rtt=200ms") as link, link.clinic.popen(serve):
        host, through = link.reach(port)
        assert through != port
        deadline_s = time.monotonic() + 10
        answer = b""
        while not answer:
            assert time.monotonic() < deadline_s
            began_s = time.monotonic()
            answer = asked(host, through)  # nothing while the server is not up yet
        assert answer == b"hello"
        assert time.monotonic() - began_s > 0.4  # a handshake and a question, each a round trip


def asked(host: str, port: int) -> bytes:
    try:
        with socket.create_connection((host, port), timeout=5) as near:
            near.sendall(b"hello")
            return near.recv(100)
    except ConnectionError:
        time.sleep(0.05)
        return b""


def test_without_root_the_best_link_is_a_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relayed, "missing_for_tun", lambda: "a TUN link needs root rights")
    assert isinstance(best_link("lan"), RelayLink)
    monkeypatch.setattr(relayed, "missing_for_tun", lambda: None)
    assert isinstance(best_link("lan"), TunLink)
