from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from shared.errors import SettingsError
from shared.transports.webrtc.flags import PASTE, Choice, Ways, add_transport_flags, ways_of
from shared.transports.webrtc.servers import StunServer, TurnServer

if TYPE_CHECKING:
    from pathlib import Path


def ways(*arguments: object) -> Ways:
    parser = argparse.ArgumentParser()
    add_transport_flags(parser)
    return ways_of(parser.parse_args([str(argument) for argument in arguments]))


def test_by_default_both_are_used_and_nobody_outside_is_asked() -> None:
    chosen = ways()
    assert chosen.choice is Choice.AUTO
    assert (chosen.ice.stun, chosen.ice.turn) == (None, None)


def test_servers_are_those_that_are_named_and_the_password_is_a_files(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    chosen = ways(
        *("--ice-server", "stun:stun.example.org", "--ice-server", "turn:me@relay.example.org:99"),
        *("--ice-password", password),
    )
    assert chosen.ice.stun == StunServer("stun.example.org", 3478)
    assert chosen.ice.turn == TurnServer("relay.example.org", 99, "me", "secret")
    assert "secret" not in repr(chosen)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--transport", "ws", "--ice-server", "stun:a"], "which --transport ws leaves out"),
        (["--ice-server", "stun:a", "--ice-server", "stun:b"], "one STUN server and one TURN"),
        (["--ice-server", "http://a"], "expected a TURN server such as turn:USER@HOST:3478"),
        (["--ice-server", "turn:me@a"], "--ice-password FILE names the file"),
        (["--ice-server", "turn:me:pw@a"], "belongs into a file, not here"),
        (["--ice-password", "file"], "goes with --ice-server turn:"),
        (["--ice-server", "turn:me@a", "--ice-password", "/none"], "--ice-password /none: No such"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        ways(*arguments)
    assert sentence in str(caught.value)
    assert "pw" not in str(caught.value)


def signalled(signal: str, *more: str) -> Ways:
    parser = argparse.ArgumentParser()
    add_transport_flags(parser)
    for flag in ("key", "to", "pin", "identity"):
        parser.add_argument(f"--{flag}")
    parser.add_argument("--each", action="store_true")
    return ways_of(parser.parse_args(["--signal", signal, "--key", "file", *more]))


PINNED = f"wss://meet:8770/#{'ab' * 32}"


@pytest.mark.parametrize("signal", [PINNED, "ws://127.0.0.1:1", "ws://[::1]:1", "ws://localhost:1"])
def test_a_rendezvous_is_pinned_or_on_this_machine_and_may_be_used_study_by_study(
    signal: str,
) -> None:
    chosen = signalled(signal, "--each")
    assert (chosen.signal, chosen.is_pasted) == (signal, False)
    assert signalled(PASTE).is_pasted
    assert not ways().is_pasted


@pytest.mark.parametrize(
    ("signal", "more", "sentence"),
    [
        ("fax", (), "--signal fax: expected paste, or the address"),
        ("wss://meet:8770/", (), "take the whole address that medroi-rendezvous printed, wss://me"),
        ("wss://meet:8770/#ab", (), "expected a certificate's hash"),
        ("wss://meet", (), "expected an address such as"),
        ("ws://meet:1", (), "--signal ws://meet:1: plaintext stays on this machine"),
        (PINNED, ("--transport", "ws"), "which --transport ws leaves out"),
        (PINNED, ("--to", "ws://a:1"), "--signal does not go with --to"),
        (PINNED, ("--pin", "ab"), "--signal does not go with --pin"),
        (PINNED, ("--identity", "x"), "--signal does not go with --identity"),
        ("paste", ("--each",), "--signal does not go with --each"),
    ],
)
def test_what_does_not_go_with_a_rendezvous_or_a_person_is_told(
    signal: str, more: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        signalled(signal, *more)
    assert sentence in str(caught.value)
