"""The sender's own copy of what it has encoded: a restarted process goes on with the same bytes.

One folder a study, plan and clinic, with one log in it. An encoding's record is its error (u64
voxels, two float64), the length of its offer (u32), the offer as a message, and its bytes; that of
one that is settled, or that did not prove right at the receiver, is its number (u32); that of a
plan that has grown is whether it is the last (u8), the length of the reason (u16), the reason, and
the plan as a message. An encoding or a plan is on the disk before its first byte leaves; what
became of it the receiver says in any case.

Blocking; one thread at a time uses a spool.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from protocol import limits
from protocol import messages as m
from protocol.payloads import pack_message, unpack_message
from shared.errors import RemoteProtocolError, SettingsError
from shared.fidelity import Fidelity
from shared.folders import own_folder, state_folder
from shared.recordlog import Record, RecordLog, read_head

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sender.prepare import Study
    from sender.settings import SendSettings

_NAME = "encoded.log"
_MAGIC = b"medroi-spool-2"
_HEAD_BYTES = len(_MAGIC) + limits.TOKEN_BYTES
_FIDELITY = struct.Struct("!QddI")
_NUMBER = struct.Struct("!I")
_GROWN = struct.Struct("!BH")
_REASON_BYTES = 4096
_NAME_DIGITS = 16
_KEPT_S = 30 * 86_400.0
"""A study that nobody has gone on with for a month is forgotten."""


class _Kind(IntEnum):
    ENCODING = 1
    SETTLED = 2
    WRONG = 3
    GROWN = 4


@dataclass(frozen=True, slots=True)
class Spooled:
    """An encoding that an earlier process has made."""

    offer: m.LayerOffer
    payload: bytes
    fidelity: Fidelity


def default_spool() -> Path:
    """Where spools lie unless a user says otherwise."""
    return state_folder() / "spool"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one."""

    number: int
    settled: bool
    """False: it did not prove right at the receiver, and has to be made in another form."""


@dataclass(frozen=True, slots=True)
class Grown:
    """A plan that has grown since its session began."""

    plan: m.Plan
    reason: str
    last: bool
    """It will not grow any more."""


class Spool:
    """Of one study. `close` or `remove` must follow."""

    def __init__(self, folder: Path, session: bytes, log: RecordLog, *, resumed: bool) -> None:
        self._folder = folder
        self._log = log
        self.session = session
        self.resumed = resumed
        """An earlier process has begun this session."""

    @classmethod
    def open(cls, base: Path, study: Study, settings: SendSettings, to: str, fresh: bytes) -> Spool:
        """The spool of a study under these settings, for one clinic: as it is there, or a new one.

        Args:
            to: the clinic's address, as the user gives it.
            fresh: 16 random bytes, the session's name if it is new.

        Raises:
            SettingsError: another process is sending this study there.
            OSError: the disk does not take it.
        """
        base.mkdir(parents=True, exist_ok=True)
        _forget_old(base)
        folder = base / _name(study, settings, to)
        own_folder(folder)
        path = folder / _NAME
        head = read_head(path, _HEAD_BYTES)
        resumed = len(head) == _HEAD_BYTES and head.startswith(_MAGIC)
        log = RecordLog.reopen(path, head) if resumed else RecordLog(path, _MAGIC + fresh)
        if not log.lock():
            log.close()
            raise SettingsError("another process is sending this study to the same clinic")
        os.utime(folder)
        return cls(folder, head[len(_MAGIC) :] if resumed else fresh, log, resumed=resumed)

    def replay(self) -> Iterator[Spooled | Outcome | Grown]:
        """Plans and encodings in the order in which they were made, and what became of these."""
        for (kind, content), _ in self._log.replay():
            try:
                if kind == _Kind.ENCODING:
                    yield _unpack(content)
                elif kind == _Kind.GROWN:
                    yield _unpack_grown(content)
                else:
                    (number,) = _NUMBER.unpack(content)
                    yield Outcome(number, kind == _Kind.SETTLED)
            except (struct.error, UnicodeDecodeError, RemoteProtocolError):
                return

    def put(self, offer: m.LayerOffer, payload: bytes, fidelity: Fidelity) -> None:
        """Keep an encoding.

        Raises:
            OSError: the disk does not take it.
        """
        said = pack_message(offer)
        head = _FIDELITY.pack(
            fidelity.voxels, fidelity.squared_error, fidelity.max_error, len(said)
        )
        self._log.append([Record(_Kind.ENCODING, head + said + payload)])

    def note(self, outcome: Outcome) -> None:
        """Keep what became of an encoding.

        Raises:
            OSError: the disk does not take it.
        """
        kind = _Kind.SETTLED if outcome.settled else _Kind.WRONG
        self._log.append([Record(kind, _NUMBER.pack(outcome.number))], sync=False)

    def put_plan(self, grown: Grown) -> None:
        """Keep a plan that has grown.

        Raises:
            OSError: the disk does not take it.
        """
        reason = grown.reason.encode()[:_REASON_BYTES]
        head = _GROWN.pack(grown.last, len(reason))
        self._log.append([Record(_Kind.GROWN, head + reason + pack_message(grown.plan))])

    def start_over(self, session: bytes, plans: Iterable[Grown] = ()) -> None:
        """Forget everything but how far plans have grown: the receiver has.

        Raises:
            OSError: the disk does not take it.
        """
        self._log.close()
        self._log = RecordLog(self._folder / _NAME, _MAGIC + session)
        self._log.lock()
        self.session = session
        for grown in plans:
            self.put_plan(grown)

    def close(self) -> None:
        """Leave it for another process."""
        self._log.close()

    def remove(self) -> None:
        """Nothing of it is needed here: the study is stored at the clinic, or kept no longer.

        Raises:
            OSError: it cannot be taken away; it is emptied where that can be.
        """
        self._log.close()
        with suppress(OSError):  # what cannot be taken away must not be gone on with
            os.truncate(self._folder / _NAME, 0)
        _remove(self._folder)


def _name(study: Study, settings: SendSettings, to: str) -> str:
    """Two studies, plans or settings that make other layers have other names; so have clinics."""
    state = hashlib.sha256(study.manifest.study)
    for series in study.series:
        state.update(pack_message(series.plan))
    state.update(repr((settings, to, limits.PROTOCOL_VERSION)).encode())
    return state.hexdigest()[:_NAME_DIGITS]


def _unpack(content: bytes) -> Spooled:
    voxels, squared_error, max_error, said = _FIDELITY.unpack_from(content)
    start = _FIDELITY.size
    offer = unpack_message(content[start : start + said])
    payload = content[start + said :]
    if not isinstance(offer, m.LayerOffer) or len(payload) != offer.size_bytes:
        raise RemoteProtocolError("a spooled encoding that is not what its offer says")
    return Spooled(offer, payload, Fidelity(voxels, squared_error, max_error))


def _unpack_grown(content: bytes) -> Grown:
    last, size = _GROWN.unpack_from(content)
    start = _GROWN.size
    plan = unpack_message(content[start + size :])
    if not isinstance(plan, m.Plan):
        raise RemoteProtocolError("a spooled plan that is none")
    return Grown(plan, content[start : start + size].decode(errors="replace"), bool(last))


def _forget_old(base: Path) -> None:
    """Take away what is ours and has lain there for too long, and nothing else."""
    for path in base.glob(f"*/{_NAME}"):
        ours = read_head(path, len(_MAGIC)) == _MAGIC
        with suppress(OSError):  # another process has just taken it away
            if ours and time.time() - path.parent.stat().st_mtime > _KEPT_S:  # by the calendar
                _remove(path.parent)


def _remove(folder: Path) -> None:
    (folder / _NAME).unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it
        folder.rmdir()
