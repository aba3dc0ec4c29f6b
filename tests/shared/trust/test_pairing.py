"""Both halves of a pairing against each other, and against whoever is in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import AuthenticationError, LocalProtocolError, MedroiError, PeerRefused
from shared.trust.pairing import (
    MAX_MESSAGE_BYTES,
    MAX_TEXT_BYTES,
    DiallingPairing,
    ListeningPairing,
    Terms,
    refusal,
)

TERMS = Terms("lab", "wss://clinic:8765/#" + "ab" * 32)
SESSION = b"k" * 32


def ends(session: bytes = SESSION) -> tuple[DiallingPairing, ListeningPairing]:
    return DiallingPairing(SESSION, b"d" * 32), ListeningPairing(session, b"l" * 32, TERMS)


def paired(dialler: DiallingPairing, listener: ListeningPairing) -> Terms:
    terms = dialler.read_answer(listener.answer(dialler.offer))
    listener.hear_confirm(dialler.confirm())
    dialler.read_stored(listener.stored())
    return terms


def test_both_have_one_key_and_the_terms_that_the_listener_named() -> None:
    dialler, listener = ends()
    assert paired(dialler, listener) == TERMS
    assert dialler.key == listener.key
    assert len(dialler.key) == 32


def test_the_key_is_another_one_with_every_share_and_session_key() -> None:
    keys = set()
    for session, near, far in (
        (b"k", b"d", b"l"),
        (b"k", b"e", b"l"),
        (b"k", b"d", b"m"),
        (b"x", b"d", b"l"),
    ):
        dialler = DiallingPairing(session * 32, near * 32)
        listener = ListeningPairing(session * 32, far * 32, TERMS)
        paired(dialler, listener)
        keys.add(dialler.key)
    assert len(keys) == 4
    assert b"k" * 32 not in keys


def test_who_has_another_session_key_gets_no_agreement() -> None:
    dialler, listener = ends(session=b"x" * 32)
    with pytest.raises(AuthenticationError, match="changed on its way"):
        dialler.read_answer(listener.answer(dialler.offer))
    with pytest.raises(LocalProtocolError):
        dialler.confirm()


def test_nobody_has_a_key_before_it_is_agreed_on_and_stored() -> None:
    dialler, listener = ends()
    with pytest.raises(LocalProtocolError, match="out of turn"):
        listener.hear_confirm(b"mdpr\x03" + bytes(32))
    answer = listener.answer(dialler.offer)
    with pytest.raises(LocalProtocolError, match="not confirmed"):
        listener.stored()
    dialler.read_answer(answer)
    with pytest.raises(LocalProtocolError, match="not stored"):
        _ = dialler.key
    with pytest.raises(AuthenticationError):
        listener.hear_confirm(b"mdpr\x03" + bytes(32))
    listener.hear_confirm(dialler.confirm())
    with pytest.raises(AuthenticationError):
        dialler.read_stored(b"mdpr\x04" + bytes(32))


def test_no_message_is_good_as_another_one() -> None:
    dialler, listener = ends()
    answer = listener.answer(dialler.offer)
    with pytest.raises(AuthenticationError, match="out of turn"):
        dialler.read_answer(dialler.offer)
    dialler.read_answer(answer)
    confirm = dialler.confirm()
    listener.hear_confirm(confirm)
    with pytest.raises(AuthenticationError, match="changed"):
        dialler.read_stored(b"mdpr\x04" + confirm[5:])


def test_a_refusal_is_a_sentence_of_printable_characters() -> None:
    dialler, _ = ends()
    with pytest.raises(PeerRefused) as caught:
        dialler.read_answer(refusal("used\x1b[2J already" + "x" * 5000))
    assert str(caught.value).startswith("used?[2J already")
    assert len(str(caught.value)) <= MAX_TEXT_BYTES


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (b"", "no message of a pairing"),
        (b"mdrp\x01" + bytes(32), "no message of a pairing"),
        (b"mdpr\x01" + bytes(MAX_MESSAGE_BYTES), "no message of a pairing"),
        (b"mdpr", "out of turn"),
        (b"mdpr\x02", "out of turn"),
        (b"mdpr\x01" + bytes(31), "a share of 31 bytes"),
    ],
)
def test_what_is_no_offer_is_refused(message: bytes, what: str) -> None:
    _, listener = ends()
    with pytest.raises(AuthenticationError, match=what):
        listener.answer(message)


def test_an_answer_that_is_torn_is_refused() -> None:
    dialler, _ = ends()
    with pytest.raises(AuthenticationError, match="torn"):
        dialler.read_answer(b"mdpr\x02" + bytes(67))


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"\x00\x05\x00\x00abc", "terms that are torn"),
        (b"\x00\x01\x00\x01abc", "terms that are torn"),
        (b"\xff\xff\x00\x00" + bytes(65535 - 3 * 16384), "no message|torn"),
        (b"\x00\x01\x00\x00\xff", "no text"),
        (b"\x00\x00\x00\x01\xff", "no text"),
    ],
)
def test_terms_that_make_no_sense_are_refused_even_of_who_knows_the_secret(
    said: bytes, what: str
) -> None:
    dialler, listener = ends()
    listener._said = said
    with pytest.raises(AuthenticationError, match=what):
        dialler.read_answer(listener.answer(dialler.offer))


@given(at=st.integers(0, 300), bit=st.integers(0, 7))
def test_a_bit_that_is_changed_in_the_answer_is_found(at: int, bit: int) -> None:
    dialler, listener = ends()
    answer = bytearray(listener.answer(dialler.offer))
    answer[at % len(answer)] ^= 1 << bit
    with pytest.raises(MedroiError):
        dialler.read_answer(bytes(answer))


def test_shares_have_one_length_and_terms_their_limit() -> None:
    for session, share in ((b"k" * 31, b"d" * 32), (SESSION, b"d" * 33)):
        with pytest.raises(LocalProtocolError, match="expected 32 bytes"):
            DiallingPairing(session, share)
    with pytest.raises(LocalProtocolError, match="over 1024 bytes"):
        ListeningPairing(SESSION, b"l" * 32, Terms("n", "u" * 1025))
