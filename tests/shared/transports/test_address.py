from __future__ import annotations

import asyncio
import socket

import pytest

from shared.errors import SettingsError
from shared.transports.address import (
    listening_address,
    listening_url,
    parse_address,
    pin_of,
    resolve,
)
from tests.shared.transports.trusted import dialling, identity

PIN = "ab" * 32


def test_a_plaintext_address() -> None:
    address = parse_address("ws://127.0.0.1:8765/a/path?and=more")
    assert (address.secure, address.host, address.port) == (False, "127.0.0.1", 8765)
    assert address.pin is None
    assert address.shown == address.request == "ws://127.0.0.1:8765/a/path?and=more"


def test_the_hash_behind_an_address_does_not_travel() -> None:
    address = parse_address(f"wss://clinic.example:8765/a?b#{PIN}")
    assert (address.secure, address.host, address.port) == (True, "clinic.example", 8765)
    assert address.pin == bytes.fromhex(PIN)
    assert address.shown == "wss://clinic.example:8765/a?b"
    assert address.request == "ws://clinic.example:8765/a?b"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "clinic:8765",
        f"https://clinic:8765/#{PIN}",
        f"wss://clinic/#{PIN}",
        f"wss://clinic:0/#{PIN}",
        f"wss://clinic:99999/#{PIN}",
        f"wss://:8765/#{PIN}",
        f"wss://[::1:8765/#{PIN}",
        f"wss://name:word@clinic:8765/#{PIN}",
        f"ws://127.0.0.1:8765/#{PIN}",
        f"wss://clinic:8765/#{PIN}0",
        f"wss://clinic:8765/#{PIN[1:]}",
        f"wss://clinic:8765/#sha256:{PIN}",
        "wss://clinic:8765/#" + "xy" * 32,
    ],
)
def test_what_is_no_address_is_a_setting_to_mend(url: str) -> None:
    with pytest.raises(SettingsError, match=r"expected (an address such as|a certificate's hash)"):
        parse_address(url)


def test_the_pin_is_the_addresss_or_the_settings() -> None:
    bare, whole = parse_address("wss://clinic:1"), parse_address(f"wss://clinic:1/#{PIN}")
    pin = bytes.fromhex(PIN)
    assert pin_of(whole, dialling()) == pin
    assert pin_of(bare, dialling(pin=pin)) == pin
    assert pin_of(whole, dialling(pin=pin)) == pin


def test_a_missing_pin_is_refused_with_where_to_get_it() -> None:
    with pytest.raises(SettingsError) as caught:
        pin_of(parse_address("wss://clinic:1/"), dialling())
    assert str(caught.value) == (
        "wss://clinic:1/: its certificate's hash is missing; take the whole address that the "
        "listening end printed, wss://clinic:1/#<64 hex digits>, or give --pin"
    )


def test_two_pins_are_one_too_many() -> None:
    with pytest.raises(SettingsError, match="its hash and --pin are not the same"):
        pin_of(parse_address(f"wss://clinic:1/#{PIN}"), dialling(pin=bytes(32)))


def test_a_host_has_each_of_its_addresses_once() -> None:
    found = asyncio.run(resolve("localhost", 1))
    assert found
    assert len(set(found)) == len(found)
    assert asyncio.run(resolve("192.0.2.7", 1)) == ["192.0.2.7"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "10.1.2.3"])
def test_only_with_tls_is_it_listened_beyond_loopback(host: str) -> None:
    assert asyncio.run(listening_address(host, 1, secure=True)) == host
    with pytest.raises(SettingsError, match="plaintext does not go further"):
        asyncio.run(listening_address(host, 1, secure=False))


def test_a_host_that_is_not_there_is_a_setting_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        await listening_address("nowhere.invalid", 1, secure=True)

    with pytest.raises(SettingsError, match=r"cannot listen on nowhere\.invalid: Name or service"):
        asyncio.run(main())


def test_what_a_listener_prints_can_be_dialled() -> None:
    pin = identity().pin
    assert listening_url("127.0.0.1", 9, secure=False) == "ws://127.0.0.1:9"
    assert listening_url("::1", 9, secure=False) == "ws://[::1]:9"
    url = listening_url("192.0.2.7", 9, secure=True, pin=pin)
    assert url == f"wss://192.0.2.7:9/#{pin.hex()}"
    assert listening_url("192.0.2.7", 9, secure=True) == "wss://192.0.2.7:9/"
    for wildcard in ("0.0.0.0", "::"):
        url = listening_url(wildcard, 9, secure=True, pin=pin)
        assert url == f"wss://{socket.gethostname()}:9/#{pin.hex()}"
    assert parse_address(listening_url("::1", 9, secure=True, pin=pin)).pin == pin
