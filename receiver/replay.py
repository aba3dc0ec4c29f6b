"""A session's log read back: into an inbox, under the same checks as what comes from a peer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protocol import messages as m
from protocol.checks import require
from protocol.events import EncodingArrived
from protocol.frames import Fragment
from shared.errors import RemoteProtocolError

if TYPE_CHECKING:
    from protocol.events import Event
    from protocol.inbox import Inbox
    from receiver.log import SessionLog
    from shared.layer import LayerKey


@dataclass(slots=True)
class Stored:
    """What a log says beside what the inbox takes in."""

    plans: list[m.Plan] = field(default_factory=list)
    """In the order in which they came."""
    whole: dict[int, m.LayerOffer] = field(default_factory=dict)
    """Encodings of which every byte is there, judged already or not."""
    judged: dict[int, m.LayerOffer] = field(default_factory=dict)
    """Exact layers, and pieces of headers, that were proven, whether their bytes are there or not:
    the disk may have spoilt them."""
    wanted: Counter[LayerKey] = field(default_factory=Counter)
    """How often layers had to be asked for in another form."""
    exact: bool | None = None
    """What the receipt says; None where none was given."""


def replay(log: SessionLog, inbox: Inbox) -> Stored:
    """Read a log to its end. Blocking.

    A log that contradicts itself, which ours do not, is believed up to there.
    """
    stored = Stored()
    offers: dict[int, m.LayerOffer] = {}
    try:
        for item in log.replay():
            if isinstance(item, Fragment):
                events, _ = inbox.on_fragment(item)
                _note_whole(events, stored)
            else:
                _on_message(item, inbox, stored, offers)
    except RemoteProtocolError:
        return stored
    return stored


def _on_message(
    message: m.Message, inbox: Inbox, stored: Stored, offers: dict[int, m.LayerOffer]
) -> None:
    begun = isinstance(message, m.Manifest) or inbox.manifest is not None
    require(begun, f"a {type(message).__name__} of a session without a manifest")
    match message:
        case m.Manifest():
            inbox.on_manifest(message)
        case m.Plan():
            if inbox.on_plan(message):
                stored.plans.append(message)
        case m.LayerOffer():
            inbox.on_offer(message)
            offers[message.number] = message
        case m.LayerVerdict(number=number):
            inbox.settle(number)
            if number in offers and offers[number].voxel_digest:
                stored.judged[number] = offers[number]
        case m.Want(number=number):
            require(number in offers, f"encoding {number} wanted, which was never offered")
            inbox.want(number)
            stored.wanted[offers[number].key] += 1
            stored.whole.pop(number, None)
            stored.judged.pop(number, None)
        case m.Done(exact=exact):
            inbox.finish()
            stored.exact = exact
        case _:
            pass


def _note_whole(events: list[Event], stored: Stored) -> None:
    for event in events:
        if isinstance(event, EncodingArrived):
            stored.whole[event.offer.number] = event.offer
