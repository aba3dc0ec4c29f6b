"""What an end needs to be known, and to know the other one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.trust.identity import Identity
    from shared.trust.keys import SharedKey
    from shared.trust.pki import Pki
    from shared.trust.proof import Claim


@dataclass(frozen=True, slots=True)
class Credentials:
    """One end's; without any it speaks to its own machine only, in plaintext."""

    claim: Claim
    keys: Sequence[SharedKey]
    """At least one, unless there is an authority. Who listens may know one for each peer; who dials
    knows which one it needs."""
    identity: Identity | None = None
    """What a listener shows; without it there is no TLS, and therefore only loopback."""
    pin: bytes | None = None
    """The hash that a listener's certificate must have, where its address does not say it."""

    pki: Pki | None = None
    """An authority whose certificates take the place of keys and pins."""

    def __post_init__(self) -> None:
        if not self.keys and self.pki is None:
            raise SettingsError("TLS goes with a shared key: --key FILE names it")

    @property
    def has_tls(self) -> bool:
        """Whether a listener with these speaks TLS, and so may be anywhere."""
        return self.identity is not None or self.pki is not None

    def expecting(self, host: str) -> Credentials:
        """These, for a host that is dialled by another address than its own."""
        if self.pki is None or self.pki.peers:
            return self
        return replace(self, pki=replace(self.pki, peers=(host,)))

    def key_to_dial(self) -> SharedKey:
        """The one key.

        Raises:
            SettingsError: there are several, or the site has been forgotten.
        """
        if len(self.keys) > 1:
            raise SettingsError("to dial takes one --key: the one that the other end knows")
        if not self.keys:
            raise SettingsError("the site whose key was used is forgotten here")
        return self.keys[0]

    def knows(self, name: str) -> bool:
        """Whether a key of this name, which a peer has proven, is one of ours still."""
        return self.pki is not None or any(key.name == name for key in self.keys)
