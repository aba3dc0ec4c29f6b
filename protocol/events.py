"""What a connection tells its owner, beside the messages themselves.

A connection hands on each message that its owner must act on as it came (`messages.Plan`,
`messages.Focus`, `messages.LayerVerdict` ...), checked; fragments become the events below.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protocol import messages as m

if TYPE_CHECKING:
    from protocol.frames import Fragment


@dataclass(frozen=True, slots=True)
class EncodingArrived:
    """All chunks of an encoding are here and have their hashes; not yet decoded."""

    offer: m.LayerOffer
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FragmentArrived:
    """A piece of an encoding of which some bytes are new, for whoever keeps them."""

    fragment: Fragment = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChunkRejected:
    """A chunk was whole and did not have its hash; it has been asked for again."""

    number: int
    offset: int
    content: bytes = field(repr=False)


Event = m.Message | EncodingArrived | FragmentArrived | ChunkRejected
