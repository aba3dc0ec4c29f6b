"""Where neither end listens: this one offers channels in lines, by a person or by a rendezvous."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol import limits
from shared.transports.webrtc.signals import Offering

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from shared.transports.base import Transport
    from shared.transports.webrtc.flags import Ways
    from shared.transports.webrtc.signals import Carrier
    from shared.trust.keys import SharedKey

_ADVICE = "paste the next line into medroi-recv --signal paste, and what that prints in here:"


def signalled(
    ways: Ways, key: SharedKey, on_remark: Callable[[str], None]
) -> Callable[[], Awaitable[Transport]]:
    """What has the two ends agree on a channel, each time that it is called."""
    carried = _carried(ways.signal, key, on_remark, is_pasted=ways.is_pasted)
    return Offering(carried, key, ways.ice, max_frame_bytes=limits.MAX_FRAME_BYTES).dial


def _carried(
    signal: str, key: SharedKey, on_remark: Callable[[str], None], *, is_pasted: bool
) -> Callable[[], AbstractAsyncContextManager[Carrier]]:
    if is_pasted:
        from shared.transports.webrtc.paste import Paste

        return Paste(on_remark, _ADVICE).carried
    from shared.rendezvous.carriers import offering_at

    return offering_at(signal, key, on_remark)
