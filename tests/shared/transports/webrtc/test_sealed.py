from __future__ import annotations

import base64
import hashlib
import re
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import AuthenticationError
from shared.role import Role
from shared.transports.webrtc.binding import ChannelProof
from shared.transports.webrtc.sdp import MAX_CANDIDATES
from shared.transports.webrtc.sealed import (
    LIFE_S,
    MAX_LINE_CHARS,
    NO_OFFER,
    PREFIX,
    SKEW_S,
    BadLine,
    Fault,
    Line,
    channel_key,
    seal,
    unseal,
)
from shared.trust.keys import SharedKey

KEY, OTHER_KEY = SharedKey("ours", bytes(range(32))), SharedKey("theirs", bytes(32))
NOW_S = 1_800_000_000
SALT, ANSWER_SALT = b"o" * 32, b"a" * 32


def sdp(setup: str = "actpass", addresses: int = 2) -> str:
    lines = [
        "v=0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=mid:0",
        "a=sctp-port:5000",
        "a=max-message-size:65536",
        *(
            f"a=candidate:{number}abcdef 1 udp 2130706431 10.0.{number}.7 {40000 + number} typ host"
            for number in range(addresses)
        ),
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789abcdefghijkl",
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
        "a=fingerprint:sha-512 " + ":".join(["CD"] * 64),
        f"a=setup:{setup}",
    ]
    return "\r\n".join(lines) + "\r\n"


def offer(key: SharedKey = KEY, made_s: int = NOW_S) -> Line:
    return seal(sdp(), key, Role.SENDER, SALT, made_s, NO_OFFER)


def answer() -> Line:
    return seal(sdp("active"), KEY, Role.RECEIVER, ANSWER_SALT, NOW_S, SALT)


def fault_of(text: str, *keys: SharedKey, role: Role = Role.SENDER, now_s: int = NOW_S) -> BadLine:
    with pytest.raises(BadLine) as caught:
        unseal(text, keys or (KEY,), role, now_s)
    assert "\n" not in str(caught.value)
    return caught.value


def reframed(text: str, version: int) -> str:
    body = text.removeprefix(PREFIX)
    content = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    content = bytes([version]) + content[1:-4]
    content += struct.pack("!I", zlib.crc32(content))
    return PREFIX + base64.urlsafe_b64encode(content).decode().rstrip("=")


def test_a_line_is_read_by_who_has_one_of_the_keys_and_says_what_was_sealed() -> None:
    came = unseal(f"  {offer().sealed}\r\n", [OTHER_KEY, KEY], Role.SENDER, NOW_S + 60)
    assert (came.key, came.salt, came.answers, came.sdp) == (KEY, SALT, NO_OFFER, offer().sdp)
    assert "sha-512" not in came.sdp
    reply = unseal(answer().sealed, [KEY], Role.RECEIVER, NOW_S)
    assert reply.answers == SALT


def test_a_line_is_short_ascii_and_shows_nothing_of_the_description() -> None:
    text = offer().sealed
    assert len(text) < 700
    assert text.isascii()
    assert text.split() == [text]
    assert "10.0.1.7" not in base64.urlsafe_b64decode(text[7:] + "==").decode("latin-1")
    assert "10.0.1.7" not in repr(BadLine(Fault.TORN))


def test_both_ends_prove_the_same_key_on_the_channel_and_no_other() -> None:
    near = ChannelProof(channel_key(offer(), answer(), Role.SENDER), bytes(32))
    far = ChannelProof(channel_key(offer(), answer(), Role.RECEIVER), bytes(32))
    near.check(far.own)
    far.check(near.own)
    strange = ChannelProof(channel_key(offer(OTHER_KEY), answer(), Role.RECEIVER), bytes(32))
    with pytest.raises(AuthenticationError):
        near.check(strange.own)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("hello", Fault.STRANGE),
        (PREFIX, Fault.TORN),
        (PREFIX + "A", Fault.TORN),
        (PREFIX + "AAAAAAAA", Fault.TORN),
        (offer().sealed[:-7], Fault.TORN),
        (offer().sealed[:100] + " " + offer().sealed[100:], Fault.TORN),
        (offer().sealed[:100] + "é" + offer().sealed[100:], Fault.TORN),
        (PREFIX + "A" * MAX_LINE_CHARS, Fault.LONG),
        (reframed(offer().sealed, 2), Fault.VERSION),
        (offer(OTHER_KEY).sealed, Fault.KEY),
        (answer().sealed, Fault.OWN),
        (offer(made_s=NOW_S - LIFE_S - 1).sealed, Fault.OLD),
        (offer(made_s=NOW_S + SKEW_S + 1).sealed, Fault.EARLY),
    ],
)
def test_a_line_that_cannot_be_used_has_one_sentence(text: str, fault: Fault) -> None:
    error = fault_of(text)
    assert error.fault is fault
    assert str(error).startswith(str(fault))


def test_how_old_and_of_which_version_is_told() -> None:
    assert "made 20 minutes ago, good for 10" in str(
        fault_of(offer(made_s=NOW_S - 1200).sealed, now_s=NOW_S)
    )
    assert "that one is 9, this one 1" in str(fault_of(reframed(offer().sealed, 9)))


def test_the_version_and_the_salt_are_authenticated() -> None:
    body = offer().sealed.removeprefix(PREFIX)
    content = bytearray(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    content[5] ^= 1
    content[-4:] = struct.pack("!I", zlib.crc32(content[:-4]))
    text = PREFIX + base64.urlsafe_b64encode(content).decode().rstrip("=")
    assert fault_of(text).fault is Fault.KEY


@given(st.integers(0, 10_000), st.integers(1, 63))
def test_no_changed_character_goes_unnoticed(at: int, by: int) -> None:
    text = offer().sealed
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = len(PREFIX) + at % (len(text) - len(PREFIX) - 1)
    other = alphabet[(alphabet.index(text[place]) + by) % 64]
    assert fault_of(text[:place] + other + text[place + 1 :]).fault is Fault.TORN


@given(st.text(max_size=200))
def test_any_text_is_refused_in_a_sentence(text: str) -> None:
    fault_of(text)
    fault_of(PREFIX + text)


def test_a_terminal_takes_a_line_even_of_as_many_addresses_as_a_description_may_have() -> None:
    assert len(seal(sdp(addresses=24), KEY, Role.SENDER, SALT, NOW_S, NO_OFFER).sealed) < 1500
    full = seal(crowded(), KEY, Role.SENDER, SALT, NOW_S, NO_OFFER)
    assert full.sdp.count("a=candidate") == MAX_CANDIDATES
    assert 2000 < len(full.sealed) <= MAX_LINE_CHARS
    assert unseal(full.sealed, [KEY], Role.SENDER, NOW_S).sdp == full.sdp


def crowded() -> str:
    """The most that a description may say, in characters that deflate makes little smaller of."""

    def noise(number: int, count: int) -> str:
        digits = b"".join(hashlib.sha512(bytes([number, part])).digest() for part in range(4))
        return base64.b64encode(digits).decode("ascii")[:count]

    def address(number: int) -> str:
        digits = hashlib.sha256(bytes([number])).hexdigest()
        return ":".join(["2001", *(digits[4 * at : 4 * at + 4] for at in range(7))])

    lines = [
        f"a=candidate:{noise(number, 32)} 1 udp {4_000_000_000 - 987_654 * number**2} "
        f"{address(number)} {20000 + 1237 * number} typ relay"
        for number in range(MAX_CANDIDATES)
    ]
    plain = sdp(addresses=0).replace("a=ice-ufrag:abcd", "a=ice-ufrag:" + noise(99, 256))
    plain = re.sub("a=ice-pwd:.*", "a=ice-pwd:" + noise(77, 256) + "\r", plain)
    return plain.replace("a=ice-ufrag", "\r\n".join(lines) + "\r\na=ice-ufrag")
