"""What a mailbox is called: a hash of the shared key and the day, so nobody can tell whose it is.

    name = HKDF-SHA256(shared key, salt = "medroi rendezvous v1", info = "mailbox" | day), 32 bytes

``day`` counts days of Unix time, u32 in network byte order. A name tells nothing of the key, nor of
tomorrow's name: who once saw it, in a memory that was read, has lost the pair a day later. Around
midnight both days' mailboxes are used, so that ends whose clocks differ by what `sealed` allows
still meet.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from shared.transports.webrtc.sealed import SKEW_S
from shared.trust.proof import derive_key

if TYPE_CHECKING:
    from shared.trust.keys import SharedKey

NAME_BYTES = 32
MOST_NAMES = 2
"""Of one key at one time."""
_SALT = b"medroi rendezvous v1"
_INFO = struct.Struct("!7sI")
_DAY_S = 86_400


def mailbox_names(key: SharedKey, now_s: float) -> tuple[bytes, ...]:
    """The mailboxes of a key at this Unix time: today's, and near midnight the other day's too."""
    days = {int(now_s + skew_s) // _DAY_S for skew_s in (-SKEW_S, SKEW_S)}
    return tuple(
        derive_key(key.secret, salt=_SALT, info=_INFO.pack(b"mailbox", day)) for day in sorted(days)
    )


def names_last_s(now_s: float) -> float:
    """For how long `mailbox_names` says the same from here on; more than zero."""
    return min(_DAY_S - (now_s + skew_s) % _DAY_S for skew_s in (-SKEW_S, SKEW_S))
