"""The listening end's identity: a self-signed certificate and its key, made on first use.

Nobody vouches for it. Who dials knows its hash, the pin, from the address that the listening end
printed, and compares nothing else: no name, no date, no authority. So the certificate has neither a
true name nor an end, and tells a stranger nothing about the site.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shared.errors import SettingsError
from shared.trust.private_files import private_folder, read_private, write_private

PIN_BYTES = 32
"""SHA-256 over the certificate's DER encoding."""
_FILE = "identity.pem"
_MOST_BYTES = 64 << 10
_PEM_CERTIFICATE = re.compile(
    "-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----"
)
_NAME = "pinned"
_FROM = datetime(2000, 1, 1, tzinfo=UTC)
_UNTIL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""What RFC 5280, section 4.1.2.5 writes for "no well-defined expiration date"."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key."""

    path: Path
    """PEM: the key, then the certificate."""
    pin: bytes
    """The certificate's hash, 32 bytes."""


def default_folder() -> Path:
    """Where the identity of this user on this machine is (XDG Base Directory Specification 0.8).

    Raises:
        SettingsError: there is no such folder, as the user has no home.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    # "All paths set in these environment variables must be absolute. If an implementation
    # encounters a relative path in any of these variables it should consider the path invalid and
    # ignore it."
    if os.path.isabs(state):
        return Path(state) / "medroi"
    try:
        return Path.home() / ".local" / "state" / "medroi"
    except RuntimeError as error:
        raise SettingsError("this user has no home; --identity DIR names a folder") from error


def open_identity(folder: Path) -> Identity:
    """The identity in a folder; a new one where there is none yet.

    Raises:
        SettingsError: the folder or the file is not private, or holds something else.
    """
    private_folder(folder)
    path = folder / _FILE
    if not os.path.lexists(path):
        _make(path)
    content = read_private(path, most_bytes=_MOST_BYTES)
    return Identity(path, hash_certificate(_der(path, content)))


def hash_certificate(der: bytes) -> bytes:
    """The pin of a certificate."""
    return hashlib.sha256(der).digest()


def parse_pin(text: str) -> bytes:
    """The pin in 64 hex digits.

    Raises:
        SettingsError: it is something else.
    """
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise SettingsError(
            f"expected a certificate's hash, {2 * PIN_BYTES} hex digits, got {text[:80]!r}"
        )
    return bytes.fromhex(text)


def _make(path: Path) -> None:
    """Make the file whole or not at all, whoever else is making it at the same time."""
    unfinished = path.with_name(f".{_FILE}.{secrets.token_hex(8)}")
    write_private(unfinished, _new_pem())
    try:
        os.link(unfinished, path)
    except FileExistsError:
        return  # another process was first: its identity is the one
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    finally:
        unfinished.unlink()


def _new_pem() -> bytes:
    """A new P-256 key and a certificate that it signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)


def _der(path: Path, content: bytes) -> bytes:
    found = _PEM_CERTIFICATE.search(content.decode("ascii", "replace"))
    try:
        return ssl.PEM_cert_to_DER_cert(found[0] if found else "")
    except ValueError as error:
        raise SettingsError(
            f"{path}: expected a key and its certificate, this is something else; without this "
            "file a new identity is made, and every address given out must be given out anew"
        ) from error
