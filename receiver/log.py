"""What has come of a session, on the disk, so that no byte of it comes twice.

A `RecordLog` behind the head ``medroi-log-2`` and the session's 16 bytes. A message record holds
what a control frame held: manifest, plans, offers, and our own verdicts, wants and receipt. A
fragment record holds a fragment. Blocking; one worker at a time uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from protocol import limits
from protocol.frames import FrameKind, pack_fragment, unpack_fragment
from protocol.payloads import pack_message, unpack_message
from shared.errors import RemoteProtocolError
from shared.recordlog import Record, RecordLog, read_head

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from protocol import messages as m
    from protocol.frames import Fragment

NAME = "session.log"
_MAGIC = b"medroi-log-2"
_HEAD_BYTES = len(_MAGIC) + limits.TOKEN_BYTES


class _Piece(NamedTuple):
    """Where a fragment's bytes lie."""

    offset: int
    """In its encoding."""
    at: int
    """In the log."""
    size: int


class SessionLog:
    """The log of one session, open for appending. `close` must follow."""

    def __init__(self, session: bytes, records: RecordLog) -> None:
        self.session = session
        self._records = records
        self._pieces: dict[int, list[_Piece]] = {}

    @classmethod
    def create(cls, folder: Path, session: bytes, items: Iterable[Record] = ()) -> SessionLog:
        """A new one, in place of any other that lies in the folder.

        Raises:
            OSError: the disk does not take it.
        """
        return cls(session, RecordLog(folder / NAME, _MAGIC + session, items))

    @classmethod
    def reopen(cls, folder: Path, session: bytes) -> SessionLog:
        """The one that lies in the folder; `replay` must follow, to its end.

        Raises:
            OSError: it cannot be opened.
        """
        return cls(session, RecordLog.reopen(folder / NAME, _MAGIC + session))

    @property
    def is_empty(self) -> bool:
        """Whether no piece of any encoding is in it."""
        return not self._pieces

    @property
    def damaged(self) -> list[bytes]:
        """Records that the disk has spoilt, once they have been passed over by `replay`."""
        return self._records.damaged

    def replay(self) -> Iterator[m.Message | Fragment]:
        """All that it holds, in the order in which it came, up to what is torn or no record of
        ours."""
        for record, at in self._records.replay():
            try:
                if record.kind == FrameKind.CONTROL:
                    yield unpack_message(record.content)
                else:
                    yield unpack_fragment(record.content)
                    self._note(record.content, at)  # not of one that is refused and cut off
            except RemoteProtocolError:
                return

    def append(self, records: Sequence[Record]) -> None:
        """Write records and have them on the disk when this returns.

        Raises:
            OSError: the disk does not take them; the log is as it was.
        """
        places = self._records.append(records)
        for record, at in zip(records, places, strict=True):
            if record.kind == FrameKind.FRAGMENT:
                self._note(record.content, at)

    def payload(self, number: int, size_bytes: int) -> bytes:
        """An encoding of which every byte is stored; of two pieces the later one counts."""
        whole = bytearray(size_bytes)
        for piece in self._pieces[number]:
            content = self._records.read(piece.at, piece.size)
            whole[piece.offset : piece.offset + piece.size] = content
        return bytes(whole)

    def conclude(self, receipt: Iterable[Record]) -> None:
        """Keep nothing but the receipt, for a sender that did not hear it.

        Raises:
            OSError: the disk does not take it; the log is as it was.
        """
        SessionLog.create(self._records.path.parent, self.session, receipt).close()
        self.close()

    def remove(self) -> None:
        """Take it away."""
        self.close()
        self._records.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Safe to call twice."""
        self._records.close()

    def _note(self, content: bytes, at: int) -> None:
        fragment = unpack_fragment(content)
        size = len(fragment.content)
        piece = _Piece(fragment.offset, at + len(content) - size, size)
        self._pieces.setdefault(fragment.number, []).append(piece)


def session_of(path: Path) -> bytes | None:
    """Which session a log is of; None where there is none, or it is not one. Blocking."""
    head = read_head(path, _HEAD_BYTES)
    if len(head) != _HEAD_BYTES or not head.startswith(_MAGIC):
        return None
    return head[len(_MAGIC) :]


def message_record(message: m.Message) -> Record:
    """A message as a log has it."""
    return Record(FrameKind.CONTROL, pack_message(message))


def fragment_record(fragment: Fragment) -> Record:
    """A fragment as a log has it."""
    return Record(FrameKind.FRAGMENT, pack_fragment(fragment))
