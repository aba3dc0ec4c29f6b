"""The one-time string: what it says, and when it is good no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PeerRefused, SettingsError
from shared.trust.invitation import (
    CLOCKS_DIFFER_S,
    MAX_TEXT,
    MAX_WRONG_TRIES,
    Fate,
    Invitation,
    OneTime,
    check_host,
    one_time_key,
    read_invitation,
)

GIVEN = Invitation("clinic.example", 8765, b"p" * 32, b"s" * 16, 1_800_000_000)


def test_a_string_says_what_was_put_into_it_however_it_is_wrapped() -> None:
    text = GIVEN.to_text()
    assert read_invitation(text) == GIVEN
    assert read_invitation(f"  {text[:40]}\n {text[40:]}\n") == GIVEN
    assert text.isascii()
    assert text.count("\n") == 0


def test_the_bytes_are_those_of_the_document() -> None:
    assert GIVEN.to_text() == (
        "medroi-pair:AWtJ0gBzc3Nzc3Nzc3Nzc3Nzc3NzcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHAi"
        "PWNsaW5pYy5leGFtcGxl" + GIVEN.to_text()[-6:]
    )


def test_the_longest_host_has_room() -> None:
    long = Invitation("h" * 255, 65535, b"p" * 32, b"s" * 16, 2**32 - 1)
    assert len(long.to_text()) <= MAX_TEXT
    assert read_invitation(long.to_text()) == long


def test_it_leads_to_an_address_with_its_pin() -> None:
    assert GIVEN.url == f"wss://clinic.example:8765/#{(b'p' * 32).hex()}"
    six = Invitation("::1", 1, b"p" * 32, b"s" * 16, 0)
    assert six.url.startswith("wss://[::1]:1/#")
    assert read_invitation(six.to_text()) == six


def test_the_secret_is_neither_shown_nor_its_name() -> None:
    assert "ssss" not in repr(GIVEN)
    assert GIVEN.secret.hex() not in GIVEN.name
    assert GIVEN.key.secret != one_time_key(b"t" * 16, GIVEN.pin).secret
    assert GIVEN.key.secret != one_time_key(GIVEN.secret, b"q" * 32).secret


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected a pairing string"),
        ("wss://clinic:8765/#00", "expected a pairing string"),
        (GIVEN.to_text() + "A" * MAX_TEXT, "expected a pairing string"),
        ("medroi-pair:", "torn"),
        ("medroi-pair:A", "torn"),
        ("medroi-pair:AAAA", "torn"),
        ("medroi-pair:\u00e4\u00f6", "torn"),
        (GIVEN.to_text()[:-1], "torn"),
        (GIVEN.to_text()[:60], "torn"),
    ],
)
def test_what_is_no_string_is_refused_and_not_repeated(text: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as caught:
        read_invitation(text)
    assert GIVEN.to_text()[20:50] not in str(caught.value)


def test_another_version_and_a_string_that_leads_nowhere_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nowhere = Invitation("a b", 8765, b"p" * 32, b"s" * 16, 0)
    with pytest.raises(SettingsError, match="names no place"):
        read_invitation(nowhere.to_text())
    with pytest.raises(SettingsError, match="names no place"):
        read_invitation(Invitation("clinic", 0, b"p" * 32, b"s" * 16, 0).to_text())
    monkeypatch.setattr("shared.trust.invitation._VERSION", 2)
    newer = GIVEN.to_text()
    monkeypatch.undo()
    with pytest.raises(SettingsError, match="of version 2, expected 1"):
        read_invitation(newer)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=200))
def test_any_text_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(SettingsError):
        read_invitation("medroi-pair:" + text)


@given(at=st.integers(0, len(GIVEN.to_text()) - 1), by=st.sampled_from("AbZ9_-"))
def test_no_changed_character_goes_unnoticed(at: int, by: str) -> None:
    text = GIVEN.to_text()
    changed = text[:at] + by + text[at + 1 :]
    try:
        assert read_invitation(changed) == GIVEN
        assert by == text[at] or at == len(text) - 1  # its last bits may mean nothing
    except SettingsError:
        assert by != text[at]


def test_the_dialling_end_gives_up_a_string_that_is_certainly_too_old() -> None:
    GIVEN.check_age(GIVEN.until_s + CLOCKS_DIFFER_S)
    with pytest.raises(SettingsError, match="has expired; medroi-recv pair prints a new one"):
        GIVEN.check_age(GIVEN.until_s + CLOCKS_DIFFER_S + 1)


def test_a_string_is_good_once() -> None:
    one = OneTime(until_s=100.0)
    one.check(99.9)
    one.use(99.9)
    assert one.fate(200.0) is Fate.USED
    with pytest.raises(PeerRefused, match="was used already"):
        one.use(99.9)


def test_and_for_its_time() -> None:
    one = OneTime(until_s=100.0)
    assert one.fate(100.0) is Fate.EXPIRED
    with pytest.raises(PeerRefused, match="has expired"):
        one.use(100.0)


def test_and_for_five_tries() -> None:
    one = OneTime(until_s=100.0)
    for _ in range(MAX_WRONG_TRIES - 1):
        one.note_wrong_try()
        one.check(1.0)
    one.note_wrong_try()
    with pytest.raises(PeerRefused, match="is void, after five wrong tries"):
        one.check(1.0)


def test_a_host_that_no_string_can_carry_is_a_setting_to_mend() -> None:
    check_host("fe80::1%eth0")
    with pytest.raises(SettingsError, match="can carry"):
        check_host("a/b")
