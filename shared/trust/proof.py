"""The proof that both ends of a connection know one key, bound to that connection.

    dialler                                                    listener
    challenge: role, version, nonce, tag  ------------------>  of which key? silence if of none
                                          <------------------  reply: role, version, nonce, MAC
    proof: MAC; frames may follow at once ------------------>  or silence

Sans-I/O and pure: nonces are arguments, messages are bytes in and bytes out, of one length each
(`CHALLENGE_BYTES`, `REPLY_BYTES`, `PROOF_BYTES`). All of them begin with

    0      4      5      6         8
    +------+------+------+---------+----------------------------------------
    | mdrp | step | role | version | nonce (32) and MAC (32), or MAC alone
    +------+------+------+---------+----------------------------------------

in network byte order; ``step`` is 1 to 3, ``role`` 1 for a sender and 2 for a receiver, ``version``
the session protocol's. Every MAC is HMAC-SHA256 under the shared key, over

    "medroi proof v1" NUL | purpose | binding (32) | dialler's nonce (32) | listener's nonce (32)
                          | dialler's role, version | listener's role, version

``purpose`` is one byte: ``t`` for the challenge's tag, where all of the listener's fields are zero,
``l`` for the reply and ``d`` for the proof. The binding is what this connection has and no other
one: the listener's certificate hash. So a message of one end is never good as the other end's, of
another connection, another run or another version. The session key is HKDF-SHA256 (RFC 5869) of the
shared key, salted with both nonces, its info the same bytes with purpose ``s``.

The tag tells a listener who asks before it answers: it may know many keys, and says nothing to
those who know none of them.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import AuthenticationError, LocalProtocolError, PeerRefused
from shared.role import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.trust.keys import SharedKey

NONCE_BYTES = 32
MAC_BYTES = 32
BINDING_BYTES = 32
SESSION_KEY_BYTES = 32
NO_BINDING = bytes(BINDING_BYTES)
"""For a connection without a certificate, which never leaves this machine."""

_HEADER = struct.Struct("!4sBBH")
_MAGIC = b"mdrp"
_CHALLENGE, _REPLY, _PROOF = 1, 2, 3
_LABEL = b"medroi proof v1\0"
_CLAIM = struct.Struct("!BH")
_CODES = {Role.SENDER: 1, Role.RECEIVER: 2}
_ROLES = {code: role for role, code in _CODES.items()}

CHALLENGE_BYTES = REPLY_BYTES = _HEADER.size + NONCE_BYTES + MAC_BYTES
PROOF_BYTES = _HEADER.size + MAC_BYTES


class Claim(NamedTuple):
    """What an end says of itself."""

    role: Role
    version: int
    """Of the session protocol."""


@dataclass(frozen=True, slots=True)
class Proven:
    """What both ends have once each has proven the key to the other."""

    key_name: str
    """What the peer's key is called here."""
    session_key: bytes = field(repr=False)
    """32 bytes, the same at both ends and for this connection only."""


class DiallingProof:
    """The dialler's half: send `challenge`, give `answer` the reply and send what it returns."""

    def __init__(self, key: SharedKey, binding: bytes, claim: Claim, nonce: bytes) -> None:
        """``nonce`` is 32 random bytes, never used before."""
        self._asked = _Transcript(binding, claim, nonce)
        self._key = key
        self._outcome: _Outcome | None = None
        self.challenge = _pack(_CHALLENGE, claim) + nonce + self._asked.mac(key, b"t")

    def answer(self, reply: bytes) -> bytes:
        """The proof to send, once this reply has proven that the listener knows the key.

        Raises:
            AuthenticationError: it has not; the connection must be dropped.
            LocalProtocolError: there was a reply already.
        """
        if self._outcome is not None:
            raise LocalProtocolError("a second reply")
        theirs, nonce, mac = _unpack(_REPLY, reply, REPLY_BYTES)
        transcript = self._asked.answered(theirs, nonce)
        _check(mac, transcript.mac(self._key, b"l"))
        self._outcome = _Outcome(self._key, transcript, transcript.dialler, theirs)
        return _pack(_PROOF, transcript.dialler) + transcript.mac(self._key, b"d")

    def result(self) -> Proven:
        """What both ends have now, the proof being sent.

        Raises:
            PeerRefused: the two ends do not fit: both send, both receive, or another version.
            LocalProtocolError: there was no good reply yet.
        """
        return _result(self._outcome)


class ListeningProof:
    """The listener's half: `reply` to the challenge, then `hear_proof`."""

    def __init__(
        self, keys: Sequence[SharedKey], binding: bytes, claim: Claim, nonce: bytes
    ) -> None:
        """``keys`` of everybody who may come; ``nonce`` is 32 random bytes, never used before."""
        self._keys = keys
        self._binding = binding
        self._claim = claim
        self._nonce = nonce
        self._asked: _Outcome | None = None
        self._outcome: _Outcome | None = None

    def reply(self, challenge: bytes) -> bytes:
        """The reply to send, if whoever asks knows one of the keys.

        Raises:
            AuthenticationError: it knows none; the connection must be dropped without a word.
            LocalProtocolError: there was a challenge already.
        """
        if self._asked is not None:
            raise LocalProtocolError("a second challenge")
        theirs, nonce, tag = _unpack(_CHALLENGE, challenge, CHALLENGE_BYTES)
        asked = _Transcript(self._binding, theirs, nonce)
        # Every key is tried whichever fits, so that the time tells nothing.
        fitting = [key for key in self._keys if hmac.compare_digest(tag, asked.mac(key, b"t"))]
        if not fitting:
            raise AuthenticationError("the peer does not know a key of this end")
        key, transcript = fitting[0], asked.answered(self._claim, self._nonce)
        self._asked = _Outcome(key, transcript, self._claim, theirs)
        return _pack(_REPLY, self._claim) + self._nonce + transcript.mac(key, b"l")

    def hear_proof(self, proof: bytes) -> None:
        """Take the dialler's proof.

        Raises:
            AuthenticationError: it is none; the connection must be dropped.
            LocalProtocolError: there was no challenge yet, or a proof already.
        """
        if self._asked is None or self._outcome is not None:
            raise LocalProtocolError("a proof out of turn")
        theirs, _, mac = _unpack(_PROOF, proof, PROOF_BYTES)
        _check(mac, self._asked.transcript.mac(self._asked.key, b"d"))
        if theirs != self._asked.theirs:
            raise AuthenticationError("the peer proves something else than it claimed")
        self._outcome = self._asked

    def result(self) -> Proven:
        """What both ends have now.

        Raises:
            PeerRefused: the two ends do not fit: both send, both receive, or another version.
            LocalProtocolError: there was no good proof yet.
        """
        return _result(self._outcome)


@dataclass(frozen=True, slots=True)
class _Transcript:
    """Everything that both ends must agree on; the listener's part is not there at first."""

    binding: bytes
    dialler: Claim
    dialler_nonce: bytes
    listener: Claim | None = None
    listener_nonce: bytes = bytes(NONCE_BYTES)

    def __post_init__(self) -> None:
        for part in (self.binding, self.dialler_nonce, self.listener_nonce):
            if len(part) != NONCE_BYTES:  # or fields could slide into each other
                raise LocalProtocolError(f"expected {NONCE_BYTES} bytes, got {len(part)}")

    def answered(self, listener: Claim, nonce: bytes) -> _Transcript:
        return replace(self, listener=listener, listener_nonce=nonce)

    def mac(self, key: SharedKey, purpose: bytes) -> bytes:
        return hmac.digest(key.secret, self._bytes(purpose), hashlib.sha256)

    def session_key(self, key: SharedKey) -> bytes:
        salt = self.dialler_nonce + self.listener_nonce
        return derive_key(key.secret, salt=salt, info=self._bytes(b"s"))

    def _bytes(self, purpose: bytes) -> bytes:
        nonces = self.dialler_nonce + self.listener_nonce
        claims = _claim_bytes(self.dialler) + _claim_bytes(self.listener)
        return _LABEL + purpose + self.binding + nonces + claims


class _Outcome(NamedTuple):
    """Which key it is about, in what connection, between whom."""

    key: SharedKey
    transcript: _Transcript
    ours: Claim
    theirs: Claim


def derive_key(secret: bytes, *, salt: bytes, info: bytes) -> bytes:
    """32 bytes of HKDF-SHA256 (RFC 5869): extract, then the first block of expand."""
    extracted = hmac.digest(salt, secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)


def _result(outcome: _Outcome | None) -> Proven:
    if outcome is None:
        raise LocalProtocolError("nothing is proven yet")
    key, transcript, ours, theirs = outcome
    if theirs.version != ours.version:
        raise PeerRefused(
            f"the other end speaks version {theirs.version} of the protocol, "
            f"this one version {ours.version}"
        )
    if theirs.role is ours.role:
        raise PeerRefused(f"both ends are {ours.role}s: one must send and the other receive")
    return Proven(key.name, transcript.session_key(key))


def _claim_bytes(claim: Claim | None) -> bytes:
    return _CLAIM.pack(_CODES[claim.role], claim.version) if claim else bytes(_CLAIM.size)


def _pack(step: int, claim: Claim) -> bytes:
    return _HEADER.pack(_MAGIC, step, _CODES[claim.role], claim.version)


def _unpack(step: int, message: bytes, size: int) -> tuple[Claim, bytes, bytes]:
    """Claim, nonce (none in a proof) and MAC."""
    if len(message) != size:
        raise AuthenticationError(
            f"the peer did not prove itself: expected {size} bytes, got {len(message)}"
        )
    magic, came, code, version = _HEADER.unpack_from(message)
    if magic != _MAGIC or came != step or code not in _ROLES:
        raise AuthenticationError("the peer did not prove itself: what came is no such message")
    return Claim(_ROLES[code], version), message[_HEADER.size : -MAC_BYTES], message[-MAC_BYTES:]


def _check(came: bytes, wanted: bytes) -> None:
    if not hmac.compare_digest(came, wanted):
        raise AuthenticationError("the peer did not prove that it knows the key")
