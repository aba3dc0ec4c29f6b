"""An authority's files, and whose name a certificate has."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization

from shared.errors import AuthenticationError, SettingsError
from shared.role import Role
from shared.trust.credentials import Credentials
from shared.trust.keys import SharedKey
from shared.trust.pki import check_peer, load_into, open_pki, pki_key
from shared.trust.proof import Claim
from tests.shared.transports.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path


def test_files_that_are_not_what_they_should_be_are_refused(tmp_path: Path) -> None:
    hospital = Authority(tmp_path / "hospital")
    certificate, key = hospital.issue("lab.example")
    assert len(open_pki(hospital.path, certificate, key, ["a"]).own) == 32
    empty = tmp_path / "empty"
    empty.touch(mode=0o600)
    torn = tmp_path / "torn"
    torn.write_text("-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----")
    for files, sentence in (
        ((empty, certificate, key), "empty: expected certificates in PEM"),
        ((hospital.path, empty, key), "empty: expected certificates in PEM"),
        ((hospital.path, torn, key), "torn: expected certificates in PEM"),
        ((tmp_path / "none", certificate, key), "none: No such file"),
        ((hospital.path, certificate, tmp_path / "none"), "none: No such file"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            open_pki(*files, [])
    key.chmod(0o640)
    with pytest.raises(SettingsError, match="others may use it; chmod 600"):
        open_pki(hospital.path, certificate, key, [])


def test_a_key_that_is_anothers_is_a_setting_to_mend(tmp_path: Path) -> None:
    hospital = Authority(tmp_path / "hospital")
    certificate, _ = hospital.issue("lab.example")
    _, key = hospital.issue("hill.example")
    with pytest.raises(SettingsError, match="a certificate, its key"):
        load_into(
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), open_pki(hospital.path, certificate, key, [])
        )


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("lab.example", True), ("LAB.EXAMPLE.", True), ("::1", True), ("0:0::1", True),
     ("example", False), ("a.lab.example", False), ("10.0.0.1", False), ("lab", False)],
)  # fmt: skip
def test_a_name_is_one_of_the_certificates_and_the_subject_says_nothing(
    wanted: str, found: bool
) -> None:
    certificate: dict[str, object] = {
        "subject": ((("commonName", "lab"),),),
        "subjectAltName": (("DNS", "lab.example"), ("IP Address", "0:0:0:0:0:0:0:1"),
                           ("email", "10.0.0.1")),
    }  # fmt: skip
    if found:
        assert check_peer(certificate, ("other", wanted)) == wanted
    else:
        with pytest.raises(AuthenticationError, match=r"but for ::1, lab\.example, expected"):
            check_peer(certificate, (wanted,))
    with pytest.raises(AuthenticationError, match="but for nobody"):
        check_peer({}, (wanted,))


def test_what_is_proven_differs_by_either_certificate() -> None:
    keys = {
        pki_key("n", near * 32, far * 32).secret for near in (b"a", b"b") for far in (b"a", b"b")
    }
    assert len(keys) == 4


def test_a_key_under_a_password_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    hospital = Authority(tmp_path / "hospital")
    certificate, key = hospital.issue("lab.example")
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(SettingsError, match="without a password"):
        load_into(
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), open_pki(hospital.path, certificate, key, [])
        )


def test_a_host_that_is_dialled_by_another_address_keeps_its_name(tmp_path: Path) -> None:
    pki = Authority(tmp_path / "hospital").pki("lab.example")
    plain = Credentials(Claim(Role.SENDER, 1), (SharedKey("lab", b"k" * 32),))
    assert plain.expecting("clinic") is plain
    made = Credentials(Claim(Role.SENDER, 1), (), pki=pki).expecting("clinic")
    assert made.pki
    assert made.pki.peers == ("clinic",)
    assert made.expecting("other") is made
