from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import AuthenticationError, LocalProtocolError, PeerRefused
from shared.role import Role
from shared.trust.keys import SharedKey
from shared.trust.proof import (
    CHALLENGE_BYTES,
    NO_BINDING,
    PROOF_BYTES,
    REPLY_BYTES,
    Claim,
    DiallingProof,
    ListeningProof,
    derive_key,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = SharedKey("site", bytes(range(32)))
OTHER = SharedKey("other", b"o" * 32)
BINDING = b"b" * 32
SENDER, RECEIVER = Claim(Role.SENDER, 1), Claim(Role.RECEIVER, 1)
DIALLED, LISTENED = b"D" * 32, b"L" * 32
"""Nonces."""

UNPROVEN = "did not prove|does not know a key|something else than it claimed"


def dialler(
    key: SharedKey = KEY,
    binding: bytes = BINDING,
    claim: Claim = SENDER,
    nonce: bytes = DIALLED,
) -> DiallingProof:
    return DiallingProof(key, binding, claim, nonce)


def listener(
    keys: Sequence[SharedKey] = (KEY,),
    binding: bytes = BINDING,
    claim: Claim = RECEIVER,
    nonce: bytes = LISTENED,
) -> ListeningProof:
    return ListeningProof(keys, binding, claim, nonce)


def run(dialling: DiallingProof, listening: ListeningProof) -> None:
    listening.hear_proof(dialling.answer(listening.reply(dialling.challenge)))


def test_both_ends_that_know_the_key_get_the_same_session_key() -> None:
    dialling, listening = dialler(), listener()
    run(dialling, listening)
    assert dialling.result() == listening.result()
    assert dialling.result().key_name == "site"
    assert len(dialling.result().session_key) == 32


@pytest.mark.parametrize("role", Role)
def test_either_end_may_dial(role: Role) -> None:
    (other,) = set(Role) - {role}
    dialling = dialler(claim=Claim(role, 1))
    listening = listener(claim=Claim(other, 1))
    run(dialling, listening)
    assert dialling.result() == listening.result()


def test_messages_have_one_length_each() -> None:
    dialling, listening = dialler(), listener()
    reply = listening.reply(dialling.challenge)
    proof = dialling.answer(reply)
    assert [len(message) for message in (dialling.challenge, reply, proof)] == [72, 72, 40]
    assert (CHALLENGE_BYTES, REPLY_BYTES, PROOF_BYTES) == (72, 72, 40)


def test_the_bytes_are_those_of_the_document() -> None:
    """Written out anew from docs/trust.md, so that another implementation could be."""

    def mac(purpose: bytes, listening: bytes) -> bytes:
        nonces = DIALLED + (LISTENED if listening.strip(b"\0") else bytes(32))
        text = b"medroi proof v1\0" + purpose + BINDING + nonces + b"\x01\x00\x01" + listening
        return hmac.digest(KEY.secret, text, hashlib.sha256)

    dialling, listening = dialler(), listener()
    reply = listening.reply(dialling.challenge)
    proof = dialling.answer(reply)
    assert dialling.challenge == b"mdrp\x01\x01\x00\x01" + DIALLED + mac(b"t", bytes(3))
    assert reply == b"mdrp\x02\x02\x00\x01" + LISTENED + mac(b"l", b"\x02\x00\x01")
    assert proof == b"mdrp\x03\x01\x00\x01" + mac(b"d", b"\x02\x00\x01")
    info = b"medroi proof v1\0s" + BINDING + DIALLED + LISTENED + b"\x01\x00\x01\x02\x00\x01"
    hkdf = HKDF(hashes.SHA256(), 32, salt=DIALLED + LISTENED, info=info)
    assert dialling.result().session_key == hkdf.derive(KEY.secret)


def test_keys_are_derived_as_the_rfc_shows() -> None:
    """RFC 5869, appendix A.1: the first 32 of its 42 bytes."""
    derived = derive_key(
        b"\x0b" * 22,
        salt=bytes.fromhex("000102030405060708090a0b0c"),
        info=bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"),
    )
    wanted = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    assert derived.hex() == wanted


def test_a_listener_knows_which_of_its_keys_a_peer_has() -> None:
    dialling, listening = dialler(OTHER), listener((KEY, OTHER))
    run(dialling, listening)
    assert listening.result().key_name == "other"
    assert listening.result().session_key == dialling.result().session_key


def test_session_keys_differ_by_every_nonce_and_by_the_key() -> None:
    keys = set()
    for key, there, back in (
        (KEY, DIALLED, LISTENED),
        (KEY, LISTENED, DIALLED),
        (KEY, DIALLED, DIALLED),
        (OTHER, DIALLED, LISTENED),
    ):
        dialling, listening = dialler(key, nonce=there), listener((key,), nonce=back)
        run(dialling, listening)
        keys.add(dialling.result().session_key)
    assert len(keys) == 4


def test_who_does_not_know_the_key_is_told_nothing() -> None:
    with pytest.raises(AuthenticationError, match="the peer does not know a key of this end"):
        listener().reply(dialler(OTHER).challenge)
    with pytest.raises(AuthenticationError, match="does not know"):
        listener(()).reply(dialler().challenge)


def test_a_listener_that_does_not_know_the_key_gets_no_proof() -> None:
    forged = listener((OTHER,)).reply(dialler(OTHER).challenge)
    with pytest.raises(AuthenticationError, match="did not prove that it knows the key"):
        dialler().answer(forged)


def test_another_certificate_in_between_is_found_by_both() -> None:
    """Whoever sits in between and passes messages on has another certificate."""
    with pytest.raises(AuthenticationError):
        listener(binding=b"c" * 32).reply(dialler().challenge)
    reply = listener(binding=b"c" * 32).reply(dialler(binding=b"c" * 32).challenge)
    with pytest.raises(AuthenticationError):
        dialler().answer(reply)


def test_what_was_recorded_proves_nothing_later() -> None:
    dialling, listening = dialler(), listener()
    reply = listening.reply(dialling.challenge)
    proof = dialling.answer(reply)
    later = listener(nonce=b"M" * 32)
    later.reply(dialling.challenge)  # a recorded one draws an answer, of no use to who has no key
    with pytest.raises(AuthenticationError):
        later.hear_proof(proof)
    with pytest.raises(AuthenticationError):
        dialler(nonce=b"E" * 32).answer(reply)


def test_no_message_is_good_as_another_one() -> None:
    """Reflected, whole or with another's header on it."""
    dialling, listening = dialler(), listener()
    reply = listening.reply(dialling.challenge)
    proof = dialling.answer(reply)
    for message in (dialling.challenge, proof, reply[:8] + dialling.challenge[8:]):
        with pytest.raises(AuthenticationError):
            dialler().answer(message)
    for message in (dialling.challenge, reply, proof[:8] + reply[-32:], proof[:8] + bytes(32)):
        with pytest.raises(AuthenticationError):
            listening.hear_proof(message)
    for message in (reply, proof, dialling.challenge[:8] + reply[8:]):
        with pytest.raises(AuthenticationError):
            listener().reply(message)


def test_an_end_that_talks_to_itself_finds_itself_out() -> None:
    """A dialler and a listener of one process, both senders, as after a wrong forwarding."""
    dialling, listening = dialler(), listener(claim=SENDER)
    run(dialling, listening)
    for end in (dialling, listening):
        with pytest.raises(PeerRefused, match="both ends are senders: one must send and the other"):
            end.result()


def test_two_receivers_refuse_each_other() -> None:
    dialling, listening = dialler(claim=RECEIVER), listener()
    run(dialling, listening)
    for end in (dialling, listening):
        with pytest.raises(PeerRefused, match="both ends are receivers"):
            end.result()


def test_ends_of_two_versions_refuse_each_other_and_say_which() -> None:
    dialling, listening = dialler(claim=Claim(Role.SENDER, 2)), listener()
    run(dialling, listening)
    with pytest.raises(PeerRefused, match=r"the other end speaks version 1 .* this one version 2"):
        dialling.result()
    with pytest.raises(PeerRefused, match=r"the other end speaks version 2 .* this one version 1"):
        listening.result()


@pytest.mark.parametrize("field", [5, 6, 7])
def test_nobody_in_between_can_change_role_or_version(field: int) -> None:
    def changed(message: bytes) -> bytes:
        return message[:field] + bytes([message[field] ^ 3]) + message[field + 1 :]

    dialling, listening = dialler(), listener()
    with pytest.raises(AuthenticationError):
        listener().reply(changed(dialling.challenge))
    reply = listening.reply(dialling.challenge)
    with pytest.raises(AuthenticationError):
        dialler().answer(changed(reply))
    with pytest.raises(AuthenticationError):
        listening.hear_proof(changed(dialling.answer(reply)))


@given(st.data())
def test_nothing_but_the_message_itself_is_taken(data: st.DataObject) -> None:
    """Any other bytes: mutated, cut, longer, or made up."""
    dialling, listening = dialler(), listener()
    reply = listening.reply(dialling.challenge)
    proof = dialling.answer(reply)
    step, right = data.draw(st.sampled_from([*enumerate((dialling.challenge, reply, proof))]))
    came = data.draw(
        st.one_of(
            st.binary(max_size=100),
            st.binary(min_size=len(right), max_size=len(right)),
            st.integers(0, 8 * len(right) - 1).map(lambda bit: flipped(right, bit)),
            st.integers(0, len(right) - 1).map(lambda size: right[:size]),
            st.binary(min_size=1, max_size=2000).map(lambda more: right + more),
        )
    )
    if came == right:
        return
    takers = (listener().reply, dialler().answer, listening.hear_proof)
    with pytest.raises(AuthenticationError):
        takers[step](came)


def flipped(message: bytes, bit: int) -> bytes:
    changed = bytearray(message)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_out_of_turn_is_our_own_fault() -> None:
    dialling, listening = dialler(), listener()
    for end in (dialling, listening):
        with pytest.raises(LocalProtocolError, match="nothing is proven yet"):
            end.result()
    with pytest.raises(LocalProtocolError, match="out of turn"):
        listening.hear_proof(bytes(PROOF_BYTES))
    reply = listening.reply(dialling.challenge)
    with pytest.raises(LocalProtocolError, match="nothing is proven yet"):
        listening.result()
    with pytest.raises(LocalProtocolError, match="a second challenge"):
        listening.reply(dialling.challenge)
    proof = dialling.answer(reply)
    with pytest.raises(LocalProtocolError, match="a second reply"):
        dialling.answer(reply)
    listening.hear_proof(proof)
    with pytest.raises(LocalProtocolError, match="out of turn"):
        listening.hear_proof(proof)


def test_nonces_and_bindings_have_their_length() -> None:
    for make in (
        lambda: dialler(nonce=bytes(31)),
        lambda: dialler(binding=b""),
        lambda: listener(nonce=bytes(33)).reply(dialler().challenge),
        lambda: listener(binding=bytes(31)).reply(dialler().challenge),
    ):
        with pytest.raises(LocalProtocolError, match="expected 32 bytes, got"):
            make()


def test_a_session_key_is_not_shown() -> None:
    dialling, listening = dialler(binding=NO_BINDING), listener(binding=NO_BINDING)
    run(dialling, listening)
    assert repr(dialling.result()) == "Proven(key_name='site')"
