"""How two ends that know a one-time secret agree on a key that lasts.

    dialler                                                     listener
    (TLS with the pinned certificate, and `proof` of the one-time key: both know the secret)
    OFFER: share (32)                  ------------------->
                                       <-------------------  ANSWER: share (32), MAC, name, URL
    is the name free here?
    CONFIRM: MAC                       ------------------->  the string is used from now on;
                                                             the key is stored
                                       <-------------------  STORED: MAC
    the key is stored

Sans-I/O and pure. Every message begins with ``mdpr`` and a byte for what it is. The key is

    K = HKDF-SHA256(session key of the proof, salt = both shares, info = label), 32 bytes

and shares are 32 random bytes, which travel inside TLS only. So K is fresh, both ends had a part in
it, and who learns the string later cannot make it out of a recording. MACs are HMAC-SHA256 under K,
each with its own purpose, over all messages before it and the content of its own: nobody can change
name or URL, and no message is good as another.

The string counts as used before the listener stores, and the dialler stores last: whatever is lost
on the way, no two pairs come of one string, and the dialler never has a key that the listener
lacks. The opposite may be, where the last message is lost: then they pair again (``--replace``).
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from shared.errors import AuthenticationError, LocalProtocolError, PeerRefused
from shared.trust.keys import KEY_BYTES
from shared.trust.proof import derive_key

SHARE_BYTES = 32
MAC_BYTES = 32
MAX_TEXT_BYTES = 1024
"""Of a name, a URL or a reason."""
MAX_MESSAGE_BYTES = 4096

_MAGIC = b"mdpr"
_HEADER_BYTES = len(_MAGIC) + 1
_OFFER, _ANSWER, _CONFIRM, _STORED, _REFUSED = range(1, 6)
_SIZES = struct.Struct("!HH")
_KEY = b"medroi pairing v1: the key of a pair"
_MAC = b"medroi pairing v1: "


@dataclass(frozen=True, slots=True)
class Terms:
    """What the listener says of the pair."""

    name: str
    """What both call it, unless the dialler gives it another name for itself."""
    url: str
    """Where the listener is met from now on, pin included."""


class DiallingPairing:
    """The dialler's half: send `offer`, `read_answer`, `confirm`, `read_stored`, take `key`."""

    def __init__(self, session_key: bytes, share: bytes) -> None:
        """``session_key`` of the proof of the one-time key; ``share`` is 32 random bytes."""
        self._session_key = _checked_share(session_key)
        self.offer = _pack(_OFFER, _checked_share(share))
        self._share = share
        self._transcript = self.offer
        self._secret = b""
        self._is_stored = False

    def read_answer(self, answer: bytes) -> Terms:
        """What the listener proposes.

        Raises:
            PeerRefused: the string is not good any more; the listener's sentence says why.
            AuthenticationError: it is no answer of who knows the secret.
        """
        content = _unpack(_ANSWER, answer)
        if len(content) < SHARE_BYTES + MAC_BYTES + _SIZES.size:
            raise _broken("an answer that is torn")
        share, rest = content[:SHARE_BYTES], content[SHARE_BYTES:]
        mac, said = rest[:MAC_BYTES], rest[MAC_BYTES:]
        secret = _agree(self._session_key, self._share + share)
        _check(secret, b"answer", self._transcript + share + said, mac)
        self._secret = secret
        self._transcript += answer
        return _terms(said)

    def confirm(self) -> bytes:
        """Our agreement. The listener stores the key when it has it.

        Raises:
            LocalProtocolError: there was no answer yet.
        """
        if not self._secret:
            raise LocalProtocolError("nothing is agreed on yet")
        message = _pack(_CONFIRM, _mac(self._secret, b"confirm", self._transcript))
        self._transcript += message
        return message

    def read_stored(self, stored: bytes) -> None:
        """Hear that the listener has the key.

        Raises:
            PeerRefused: it has not: somebody else was first, or its disk is full.
            AuthenticationError: it is no message of who knows the key.
        """
        _check(self._secret, b"stored", self._transcript, _unpack(_STORED, stored))
        self._is_stored = True

    @property
    def key(self) -> bytes:
        """The key of the pair, 32 bytes.

        Raises:
            LocalProtocolError: the listener has not stored it yet.
        """
        if not self._is_stored:
            raise LocalProtocolError("the key is not stored at the other end yet")
        return self._secret


class ListeningPairing:
    """The listener's half: `answer` an offer, `hear_confirm`, store `key`, send `stored`."""

    def __init__(self, session_key: bytes, share: bytes, terms: Terms) -> None:
        """As of `DiallingPairing`."""
        self._session_key = _checked_share(session_key)
        self._share = _checked_share(share)
        self._said = _said(terms)
        self._transcript = b""
        self._secret = b""
        self._is_confirmed = False

    def answer(self, offer: bytes) -> bytes:
        """The answer to send.

        Raises:
            AuthenticationError: it is no offer.
        """
        share = _unpack(_OFFER, offer)
        if len(share) != SHARE_BYTES:
            raise _broken(f"a share of {len(share)} bytes")
        self._secret = _agree(self._session_key, share + self._share)
        mac = _mac(self._secret, b"answer", offer + self._share + self._said)
        answer = _pack(_ANSWER, self._share + mac + self._said)
        self._transcript = offer + answer
        return answer

    def hear_confirm(self, confirm: bytes) -> None:
        """Take the dialler's agreement.

        Raises:
            AuthenticationError: it is none.
            LocalProtocolError: there was no offer yet.
        """
        if not self._secret:
            raise LocalProtocolError("a confirmation out of turn")
        _check(self._secret, b"confirm", self._transcript, _unpack(_CONFIRM, confirm))
        self._transcript += confirm
        self._is_confirmed = True

    @property
    def key(self) -> bytes:
        """The key of the pair, 32 bytes, to be stored before `stored` is sent.

        Raises:
            LocalProtocolError: the dialler has not confirmed it yet.
        """
        if not self._is_confirmed:
            raise LocalProtocolError("the key is not confirmed yet")
        return self._secret

    def stored(self) -> bytes:
        """What says that this end has the key on its disk."""
        return _pack(_STORED, _mac(self.key, b"stored", self._transcript))


def refusal(reason: str) -> bytes:
    """What is said in the place of an answer, or of ``stored``."""
    return _pack(_REFUSED, reason.encode()[:MAX_TEXT_BYTES])


def _agree(session_key: bytes, shares: bytes) -> bytes:
    key = derive_key(session_key, salt=shares, info=_KEY)
    assert len(key) == KEY_BYTES
    return key


def _mac(secret: bytes, purpose: bytes, content: bytes) -> bytes:
    return hmac.digest(secret, _MAC + purpose + b"\0" + content, hashlib.sha256)


def _check(secret: bytes, purpose: bytes, content: bytes, mac: bytes) -> None:
    if not hmac.compare_digest(mac, _mac(secret, purpose, content)):
        raise _broken("a message that was changed on its way")


def _pack(kind: int, content: bytes) -> bytes:
    return _MAGIC + bytes([kind]) + content


def _unpack(kind: int, message: bytes) -> bytes:
    """The content of a message of this kind."""
    if len(message) > MAX_MESSAGE_BYTES or message[: len(_MAGIC)] != _MAGIC:
        raise _broken("what is no message of a pairing")
    came, content = message[len(_MAGIC) : _HEADER_BYTES], message[_HEADER_BYTES:]
    if came == bytes([_REFUSED]):
        reason = content[:MAX_TEXT_BYTES].decode("utf-8", "replace")
        raise PeerRefused("".join(each if each.isprintable() else "?" for each in reason))
    if came != bytes([kind]):
        raise _broken("a message out of turn")
    return content


def _said(terms: Terms) -> bytes:
    name, url = terms.name.encode(), terms.url.encode()
    if max(len(name), len(url)) > MAX_TEXT_BYTES:
        raise LocalProtocolError(f"a name or address of over {MAX_TEXT_BYTES} bytes")
    return _SIZES.pack(len(name), len(url)) + name + url


def _terms(said: bytes) -> Terms:
    """What was authenticated already, so from an end that knows the secret, and may be wrong."""
    sizes = _SIZES.unpack_from(said)
    if max(sizes) > MAX_TEXT_BYTES or len(said) != _SIZES.size + sum(sizes):
        raise _broken("terms that are torn")
    middle = _SIZES.size + sizes[0]
    try:
        return Terms(said[_SIZES.size : middle].decode(), said[middle:].decode())
    except UnicodeDecodeError:
        raise _broken("terms that are no text") from None


def _checked_share(share: bytes) -> bytes:
    if len(share) != SHARE_BYTES:
        raise LocalProtocolError(f"expected {SHARE_BYTES} bytes, got {len(share)}")
    return share


def _broken(what: str) -> AuthenticationError:
    return AuthenticationError(f"the other end did not pair: it sent {what}")
