"""A hospital's authority, made by the tests, and the certificates that it gives out."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.trust.pki import Pki, open_pki

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Authority:
    """Use `issue`."""

    folder: Path
    name: str = "hospital"

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        self._own = (
            self._begun(self.name, public, NOW - timedelta(days=1), NOW + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.path = self.folder / f"{self.name}.pem"
        self.path.write_bytes(self._own.public_bytes(serialization.Encoding.PEM))

    def _begun(
        self, name: str, public: ec.EllipticCurvePublicKey, start: datetime, stop: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self.name))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(stop)
        )

    def issue(self, *names: str, expired: bool = False) -> tuple[Path, Path]:
        """A certificate for these names, and its key: two files."""
        key = ec.generate_private_key(ec.SECP256R1())
        stop = NOW - timedelta(hours=1) if expired else NOW + timedelta(hours=1)
        made = (
            self._begun("end", key.public_key(), NOW - timedelta(hours=2), stop)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if names:
            made = made.add_extension(
                x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
            )
        signed = made.sign(self._key, hashes.SHA256())
        stem = f"{'-'.join(names).replace('*', '_') or 'nobody'}{'-old' if expired else ''}"
        certificate, secret = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        secret.touch(mode=0o600)
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, secret

    def pki(self, *names: str, peers: tuple[str, ...] = (), expired: bool = False) -> Pki:
        """What an end with such a certificate has."""
        return open_pki(self.path, *self.issue(*names, expired=expired), peers)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
