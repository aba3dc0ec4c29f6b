from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.role import Role
from shared.trust.flags import add_trust_flags, credentials_of, name_site
from shared.trust.identity import open_identity
from shared.trust.keys import make_key, read_key
from shared.trust.proof import Claim
from shared.trust.sites import Site, site_folder, store_site
from tests.shared.transports.authority import Authority

CLAIM = Claim(Role.RECEIVER, 1)
PIN = "ab" * 32


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for name in ("a.key", "b.key"):
        make_key(Path(name))
    return tmp_path / "state"


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="medroi-test")
    parser.add_argument("--listen", required=True)
    add_trust_flags(parser)
    return parser.parse_args(["--listen", "here", *arguments])


@pytest.mark.parametrize("listens", [True, False])
def test_without_flags_there_are_no_credentials_and_nothing_is_made(listens: bool) -> None:
    assert credentials_of(parsed(), CLAIM, listens=listens) is None
    assert not Path("state").exists()


def test_who_listens_has_an_identity_of_the_state_folder(state: Path) -> None:
    made = credentials_of(parsed("--key", "a.key", "--key", "b.key"), CLAIM, listens=True)
    assert made
    assert [key.name for key in made.keys] == ["a", "b"]
    assert made.claim == CLAIM
    assert made.identity == open_identity(state / "medroi")
    again = credentials_of(parsed("--key", "a.key"), CLAIM, listens=True)
    assert again
    assert again.identity == made.identity


def test_or_of_a_folder_of_its_own() -> None:
    flags = parsed("--key", "a.key", "--identity", "mine")
    made = credentials_of(flags, CLAIM, listens=True)
    assert made
    assert made.identity == open_identity(Path("mine"))
    assert not Path("state").exists()


def test_who_dials_makes_no_identity_and_may_name_a_pin() -> None:
    made = credentials_of(parsed("--key", "a.key", "--pin", PIN), CLAIM, listens=False)
    assert made
    assert made.identity is None
    assert made.pin == bytes.fromhex(PIN)
    assert not Path("state").exists()


@pytest.mark.parametrize(
    ("arguments", "listens", "sentence"),
    [
        (["--pin", PIN], False, "--pin goes with --key FILE"),
        (["--identity", "mine"], True, "--identity goes with --key FILE"),
        (["--key", "a.key", "--pin", PIN], True, "--pin is for the end that dials"),
        (["--key", "a.key", "--identity", "mine"], False, "--identity is for the end that listens"),
        (["--key", "a.key", "--pin", "abc"], False, "expected a certificate's hash"),
        (["--key", "c.key"], False, "c.key: No such file or directory"),
        (["--key", "."], False, "expected a plain file"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    arguments: list[str], listens: bool, sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        credentials_of(parsed(*arguments), CLAIM, listens=listens)


def test_a_new_key_is_made_whatever_else_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="medroi-test")
    parser.add_argument("--listen", required=True)
    add_trust_flags(parser)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--make-key", "new.key"])
    assert caught.value.code == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("new.key: a new key; the other end needs a copy")
    assert (captured.out.count("\n"), captured.err) == (1, "")
    key = read_key(Path("new.key"))
    assert key.secret.hex() not in captured.out


def test_a_key_that_is_there_is_not_made_anew(capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("a.key").read_text()
    with pytest.raises(SystemExit) as caught:
        parsed("--make-key", "a.key")
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "medroi-test: a.key: it is there already, and is not overwritten\n"
    )
    assert Path("a.key").read_text() == before


LAB = Site("lab", b"k" * 32, f"wss://clinic:8765/#{PIN}", "0" * 16, 0)
HILL = Site("hill", b"h" * 32, "", "1" * 16, 0)


@pytest.fixture
def paired(state: Path) -> Path:
    for site in (LAB, HILL):
        store_site(site_folder(state / "medroi"), site)
    return state / "medroi"


def test_a_receiver_that_listens_takes_every_paired_site(paired: Path) -> None:
    made = credentials_of(parsed(), CLAIM, listens=True)
    assert made
    assert [key.name for key in made.keys] == ["hill", "lab"]
    assert made.identity == open_identity(paired)
    one = credentials_of(parsed("--site", "lab", "--key", "a.key"), CLAIM, listens=True)
    assert one
    assert [key.name for key in one.keys] == ["a", "lab"]
    assert credentials_of(parsed("--plain"), CLAIM, listens=True) is None
    with pytest.raises(SettingsError, match="--plain goes without"):
        credentials_of(parsed("--plain", "--site", "lab"), CLAIM, listens=True)


def test_a_sender_that_listens_names_whom_it_waits_for(paired: Path) -> None:
    claim = Claim(Role.SENDER, 1)
    assert credentials_of(parsed(), claim, listens=True) is None
    made = credentials_of(parsed("--site", "hill"), claim, listens=True)
    assert made
    assert [key.name for key in made.keys] == ["hill"]


def test_a_name_stands_for_an_address_and_its_key(paired: Path) -> None:
    options = parsed("--identity", str(paired))
    for given, url, names in (("lab", LAB.url, ["lab"]), ("ws://here:1", "ws://here:1", [])):
        options.to, options.site = given, []
        name_site(options, "to")
        assert (options.to, options.site) == (url, names)
    options.to = None
    name_site(options, "to")
    options.to = "lab"
    name_site(options, "to")
    made = credentials_of(options, Claim(Role.SENDER, 1), listens=False)
    assert made
    assert made.key_to_dial() == LAB.key
    options.to = "hill"
    with pytest.raises(SettingsError, match="that site dials here, so it has no address"):
        name_site(options, "to")


def test_an_authority_takes_the_place_of_keys(tmp_path: Path) -> None:
    hospital = Authority(tmp_path / "hospital")
    certificate, key = hospital.issue("lab.example")
    ca = ["--pki-ca", str(hospital.path)]
    files = [*ca, "--pki-cert", str(certificate), "--pki-key", str(key)]
    made = credentials_of(parsed(*files, "--pki-peer", "a", "--pki-peer", "b"), CLAIM, listens=True)
    assert made
    assert made.pki
    assert (made.pki.peers, made.keys, made.identity, made.has_tls) == (("a", "b"), (), None, True)
    assert credentials_of(parsed(*files), CLAIM, listens=False)
    for arguments, listens, sentence in (
        (files, True, "who listens names whose certificate is taken: --pki-peer NAME"),
        (ca, False, "--pki-ca, --pki-cert and --pki-key go together"),
        (["--pki-peer", "a"], False, "--pki-peer goes with --pki-ca"),
        ([*files, "--key", "a.key"], False, "goes without --key, --site"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            credentials_of(parsed(*arguments), CLAIM, listens=listens)
