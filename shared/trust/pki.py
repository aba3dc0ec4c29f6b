"""A hospital's own authority in the place of shared keys: who has its certificate, and the name.

Both ends show a certificate of one authority (mutual TLS); each checks the other's chain and name
(RFC 5280; RFC 9525: only subjectAltName, no wildcards). No shared key is needed then. The proof of
`shared.trust.proof` is driven all the same, with a key that both make of the two certificates: it
says role and version, binds them to this connection, and gives a session key, which is secret
because its nonces travel in TLS only.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from shared.errors import AuthenticationError, SettingsError
from shared.trust.identity import hash_certificate
from shared.trust.keys import SharedKey
from shared.trust.private_files import read_private

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MOST_BYTES = 64 << 10
_KEY = b"medroi pki v1\0"
_PEM = re.compile("-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----")

PeerCertificate = dict[str, object]
"""What `ssl.SSLObject.getpeercert` tells of a certificate that was verified."""


@dataclass(frozen=True, slots=True)
class Pki:
    """What an end shows, and whom it takes for who they say they are."""

    authority: Path
    """PEM: whose certificates are believed."""
    certificate: Path
    """PEM: our own, then those between it and the authority."""
    key: Path
    """PEM: our own certificate's; a private file."""
    own: bytes
    """The hash of our certificate, 32 bytes."""
    peers: tuple[str, ...]
    """Names that the other end may have; empty for the host that is dialled."""


def open_pki(authority: Path, certificate: Path, key: Path, peers: Sequence[str]) -> Pki:
    """Look at the three files.

    Raises:
        SettingsError: one of them cannot be read, or is something else; or others may read the key.
    """
    read_private(key, most_bytes=_MOST_BYTES)
    chain = _read(certificate)
    found = _PEM.search(chain)
    if found is None or not _PEM.search(_read(authority)):
        wrong = certificate if found is None else authority
        raise SettingsError(f"{wrong}: expected certificates in PEM")
    try:
        own = hash_certificate(ssl.PEM_cert_to_DER_cert(found[0]))
    except ValueError as error:
        raise SettingsError(f"{certificate}: expected certificates in PEM") from error
    return Pki(authority, certificate, key, own, tuple(peers))


def load_into(context: ssl.SSLContext, pki: Pki) -> None:
    """Have a context show our certificate, and believe the authority's and no other.

    Raises:
        SettingsError: the files do not fit each other.
    """
    context.verify_mode = ssl.CERT_REQUIRED
    # Every certificate on the way up is checked as RFC 5280 has it, not as leniently as once.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(pki.authority)
        context.load_cert_chain(pki.certificate, pki.key, password=_no_password)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(
            f"{pki.certificate}, {pki.key}, {pki.authority}: a certificate, its key (without a "
            "password) and the authority's certificate are expected"
        ) from error


def check_peer(certificate: PeerCertificate, wanted: Sequence[str]) -> str:
    """The name by which a verified certificate's owner is expected.

    Raises:
        AuthenticationError: it is none of the names that are wanted.
    """
    names = _names(certificate)
    for name in wanted:
        if _plain(name) in names:
            return name
    shown = ", ".join(sorted(names)[:4]) or "nobody"
    raise AuthenticationError(
        f"its certificate is the authority's, but for {shown[:200]}, expected {' or '.join(wanted)}"
    )


def pki_key(name: str, dialler: bytes, listener: bytes) -> SharedKey:
    """What both ends prove: which two certificates there are. It is no secret, and need be none.

    Args:
        name: of the peer, as it is called here.
        dialler: the hash of its certificate, 32 bytes; ``listener``: the same of the other one.
    """
    return SharedKey(name, hashlib.sha256(_KEY + dialler + listener).digest())


def _names(certificate: PeerCertificate) -> set[str]:
    found = certificate.get("subjectAltName", ())
    assert isinstance(found, tuple)
    return {_plain(str(value)) for kind, value in found if kind in ("DNS", "IP Address")}


def _plain(name: str) -> str:
    """A name as names are compared; an address in its one form."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name.lower().rstrip(".")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error


def _no_password() -> bytes:
    """For a key that is under one: refused, instead of a question on a terminal."""
    return b""
