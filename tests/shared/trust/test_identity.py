from __future__ import annotations

import datetime
import hashlib
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from shared.errors import SettingsError
from shared.trust.identity import default_folder, open_identity, parse_pin
from tests.commands import environment


def test_an_identity_is_made_once_and_is_private(tmp_path: Path) -> None:
    first = open_identity(tmp_path / "state")
    assert open_identity(tmp_path / "state") == first
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert first.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["identity.pem"]


def test_the_pin_is_the_certificates_hash(tmp_path: Path) -> None:
    identity = open_identity(tmp_path)
    certificate = x509.load_pem_x509_certificate(identity.path.read_bytes())
    assert identity.pin == hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


def test_the_certificate_is_p256_signs_itself_and_says_nothing(tmp_path: Path) -> None:
    pem = open_identity(tmp_path).path.read_bytes()
    certificate = x509.load_pem_x509_certificate(pem)
    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(certificate)
    assert certificate.subject.rfc4514_string() == "CN=pinned"
    assert certificate.not_valid_before_utc == datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    assert certificate.not_valid_after_utc.year == 9999
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
        open_identity(tmp_path).path
    )


def test_two_identities_are_two(tmp_path: Path) -> None:
    assert open_identity(tmp_path / "a").pin != open_identity(tmp_path / "b").pin


def test_who_makes_it_at_the_same_time_gets_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    code = (
        "import sys, pathlib; from shared.trust.identity import open_identity;"
        "print(open_identity(pathlib.Path(sys.argv[1])).pin.hex())"
    )
    racing = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, env=environment()
        )
        for _ in range(4)
    ]
    pins = {process.communicate(timeout=30)[0] for process in racing}
    assert pins == {open_identity(folder).pin.hex().encode() + b"\n"}
    assert len(list(folder.iterdir())) == 1


def test_an_identity_that_appears_just_now_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_identity(tmp_path)
    monkeypatch.setattr("os.path.lexists", lambda _: False)
    assert open_identity(tmp_path) == other


def test_a_folder_without_links_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    with pytest.raises(SettingsError, match=r"identity\.pem: Operation not permitted"):
        open_identity(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"\xff\xfe",
        b"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_no_identity_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = open_identity(tmp_path).path
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="expected a key and its certificate"):
        open_identity(tmp_path)
    assert path.read_bytes() == content


def test_an_identity_that_others_may_read_is_refused(tmp_path: Path) -> None:
    open_identity(tmp_path).path.chmod(0o640)
    with pytest.raises(SettingsError, match="others may use it; chmod 600"):
        open_identity(tmp_path)


def test_an_identity_that_is_a_link_is_refused(tmp_path: Path) -> None:
    real = open_identity(tmp_path / "a").path
    (tmp_path / "b").mkdir(0o700)
    (tmp_path / "b" / "identity.pem").symlink_to(real)
    with pytest.raises(SettingsError, match="it is a link"):
        open_identity(tmp_path / "b")


def test_the_folder_is_the_users_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/reader")
    for state in ("", "relative/is/ignored"):
        monkeypatch.setenv("XDG_STATE_HOME", state)
        assert default_folder() == Path("/home/reader/.local/state/medroi")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/lib/reader")
    assert default_folder() == Path("/var/lib/reader/medroi")


def test_who_has_no_home_is_asked_for_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(SettingsError, match="this user has no home; --identity DIR names a folder"):
        default_folder()


def test_a_pin_is_64_hex_digits() -> None:
    assert parse_pin("0aF" + "0" * 61)[:2] == b"\x0a\xf0"
    for text in ("", "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n", "sha256:" + "0" * 64):
        with pytest.raises(SettingsError, match="expected a certificate's hash, 64 hex digits"):
            parse_pin(text)
