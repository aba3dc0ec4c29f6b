from __future__ import annotations

import asyncio
import re

import pytest

from shared.errors import AuthenticationError, MedroiError, RemoteProtocolError, TransportClosed
from shared.transports.webrtc.connect import make_answer, make_offer
from shared.transports.webrtc.sdp import MAX_SDP_BYTES, read_description
from tests.contracts.transport import MAX_FRAME_BYTES
from tests.shared.transports.webrtc.ends import LOOPBACK, keys

PRINT = ":".join(["AB"] * 32)
OFFER = "\r\n".join(
    [
        "v=0",
        "o=- 0 0 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=mid:0",
        "a=sctp-port:5000",
        "a=candidate:1 1 udp 2130706431 10.0.0.1 40000 typ host",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789012345678901",
        f"a=fingerprint:sha-256 {PRINT}",
        "a=setup:actpass",
        "",
    ]
)


def test_what_is_read_is_written_anew_and_read_again_the_same() -> None:
    description = read_description(OFFER, "offer")
    assert description.fingerprints == (("sha-256", PRINT),)
    assert read_description(description.to_sdp(), "offer") == description


@pytest.mark.parametrize(
    ("pattern", "replacement", "sentence"),
    [
        (r"a=fingerprint:.*\r\n", "", "a certificate by sha-256, got none"),
        (
            r"a=fingerprint:.*",
            "a=fingerprint:sha-1 " + ":".join(["AB"] * 20),
            "a certificate by sha-256, got sha-1",
        ),
        (r"sha-256 AB:", "sha-256 ", "expected fingerprints"),
        (r"10\.0\.0\.1", "somewhere.local", "addresses, not names"),
        (r"10\.0\.0\.1", "224.0.0.1", "that can be reached"),
        (r"a=candidate.*\r\n", "", "an address to reach it at"),
        (r"(a=candidate.*)", "\\1\r\n" * 40, "up to 32 candidates"),
        (r"(m=.*)", "\\1\r\nm=audio 9 RTP/AVP 0", "one data channel and nothing else"),
        (r"actpass", "active", "a=setup:actpass in an offer"),
        (r"v=0", "v=0" + " " * MAX_SDP_BYTES, "bytes of ASCII"),
        (r"5000", "5001", "a=sctp-port:5000"),
    ],
)
def test_a_description_that_is_none_is_refused(
    pattern: str, replacement: str, sentence: str
) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read_description(re.sub(pattern, replacement, OFFER, count=1), "offer")
    assert sentence in str(caught.value)


def test_a_certificate_that_is_not_the_one_of_the_description_ends_the_channel() -> None:
    def forged(sdp: str) -> str:
        return re.sub(r"(fingerprint:sha-256) .*", rf"\1 {PRINT}\r", sdp)

    async def main() -> list[BaseException | object]:
        own, other = keys()
        async with (
            await make_offer(LOOPBACK, max_frame_bytes=MAX_FRAME_BYTES) as offer,
            await make_answer(offer.sdp, LOOPBACK, max_frame_bytes=MAX_FRAME_BYTES) as answer,
        ):
            return list(
                await asyncio.gather(
                    offer.connect(forged(answer.sdp), own, timeout_s=10),
                    answer.connect(other, timeout_s=10),
                    return_exceptions=True,
                )
            )

    near, far = asyncio.run(main())
    assert isinstance(near, AuthenticationError)
    assert "another certificate" in str(near)
    assert isinstance(far, TransportClosed)


def test_an_end_that_does_not_know_the_secret_gets_no_channel() -> None:
    async def main() -> list[BaseException | object]:
        (own, _), (_, other) = keys(), keys()
        async with (
            await make_offer(LOOPBACK, max_frame_bytes=MAX_FRAME_BYTES) as offer,
            await make_answer(offer.sdp, LOOPBACK, max_frame_bytes=MAX_FRAME_BYTES) as answer,
        ):
            return list(
                await asyncio.gather(
                    offer.connect(answer.sdp, own, timeout_s=10),
                    answer.connect(other, timeout_s=10),
                    return_exceptions=True,
                )
            )

    ends = asyncio.run(main())
    assert all(isinstance(end, MedroiError) for end in ends)
    assert any(isinstance(end, AuthenticationError) for end in ends)
