"""Where neither end listens: offers of channels come as lines, by a person or by a rendezvous."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from protocol import limits
from shared.clock import SystemClock
from shared.tasks import one_error
from shared.transports.webrtc.signals import Answering

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shared.transports.base import Transport
    from shared.transports.webrtc.flags import Ways
    from shared.transports.webrtc.signals import Carrier
    from shared.trust.keys import SharedKey


async def answer_lines(
    ways: Ways,
    keys: Sequence[SharedKey],
    take: Callable[[Transport], Awaitable[None]],
    on_remark: Callable[[str], None],
) -> None:
    """Answer every offer, until cancelled or until nobody carries lines any more.

    ``take`` runs a connection over a channel to its end.

    Raises:
        MedroiError: nobody carries lines, or the rendezvous is not the one that was meant.
    """

    def answering(carrier: Carrier, known: Sequence[SharedKey]) -> Answering:
        return Answering(
            carrier,
            known,
            ways.ice,
            take,
            lambda error: on_remark(f"no line: {error}"),
            max_frame_bytes=limits.MAX_FRAME_BYTES,
        )

    if ways.is_pasted:
        from shared.transports.webrtc.paste import Paste

        on_remark("paste the line that medroi-send --signal paste prints in here")
        await answering(Paste(on_remark, "paste the next line into medroi-send:"), keys).run()
        return
    from shared.rendezvous.carriers import Letterboxes

    clock, chance = SystemClock(), random.SystemRandom()
    letterboxes = Letterboxes(ways.signal, list(keys), clock, chance, on_remark)
    with one_error():
        async with asyncio.TaskGroup() as group:
            group.create_task(letterboxes.run())
            for box in letterboxes.boxes:
                group.create_task(answering(box, [box.key]).run())
