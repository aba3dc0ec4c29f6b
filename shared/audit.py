"""Who sent, received and saw what, at which quality: a file that is only ever written on.

A JSON line a record, each with the hash of the one before it:

    {"n": 2, "at": "2026-11-24T21:00:00.123Z", "what": "stored", ..., "before": HASH, "hash": HASH}

``hash`` is SHA-256 over the line without it, as `_canonical` writes it; the first ``before`` is
zeros. So whoever changes, inserts, moves or drops a line breaks the chain (`verify`). Who cuts the
end off does not: what `verify` prints, the count and the last hash, is to be kept elsewhere now and
then. A study is named by its digest: nothing of a patient is in it.

Processes that write into one file take turns by its lock. A last line that a crash has torn was
never vouched for: it is cut off, and a record says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.errors import IntegrityError, SettingsError
from shared.folders import make_folders

if TYPE_CHECKING:
    from pathlib import Path

Fact = str | int | float | bool | None | Sequence["Fact"] | Mapping[str, "Fact"]

MAX_LINE_BYTES = 64 << 10
_HASH = re.compile(r"[0-9a-f]{64}")
_NOTHING = "0" * 64
_OWN = ("n", "at", "what", "before", "hash")


@dataclass(frozen=True, slots=True)
class Chain:
    """As far as a file goes."""

    count: int
    last: str
    """The hash of its last record, 64 hex digits."""


class AuditLog:
    """Writes records. Blocking, for a millisecond or a sync; several may share a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, what: str, facts: Mapping[str, Fact], *, sync: bool = True) -> None:
        """Write one record; with ``sync`` it is on the disk when this returns.

        Raises:
            OSError: the disk does not take it; the file is as it was.
            SettingsError: the file is no audit log, or others may read it.
        """
        assert not set(facts) & set(_OWN)  # those are the log's
        make_folders(self.path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self.path, flags, 0o600)
        try:
            if os.fstat(handle).st_mode & 0o077:
                raise SettingsError(f"{self.path}: others may use it; chmod 600 makes it private")
            fcntl.flock(handle, fcntl.LOCK_EX)
            chain, end, torn_bytes = _tail(handle, self.path)
            if torn_bytes:
                os.ftruncate(handle, end)
                line, chain = _line(chain, "cut", {"torn_bytes": torn_bytes})
                end = _append(handle, end, line)
            line, _ = _line(chain, what, facts)
            _append(handle, end, line)
            if sync:
                os.fsync(handle)
        finally:
            os.close(handle)


def verify(path: Path, *, upto: tuple[int, str] | None = None) -> Chain:
    """Go through a whole log.

    Args:
        upto: the count and last hash of an earlier look, which must be in it.

    Raises:
        IntegrityError: the chain is broken, and at which line; or its end was cut off.
        SettingsError: there is no such file.
    """
    chain = Chain(0, _NOTHING)
    is_met = upto is None
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                chain = _follow(chain, line, path)
                is_met = is_met or upto == (chain.count, chain.last)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    if not is_met:
        raise IntegrityError(f"{path}: the expected record is not in it: its end was cut off")
    return chain


def records(path: Path) -> list[dict[str, object]]:
    """What is in a log, proven by nobody; see `verify`. For tests and for people."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _follow(chain: Chain, line: bytes, path: Path) -> Chain:
    where = f"{path}, line {chain.count + 1}"
    if not line.endswith(b"\n"):
        raise IntegrityError(f"{where}: torn; the next record that is written cuts it off")
    found = _read(line)
    if found is None:
        raise IntegrityError(f"{where}: no record of an audit log")
    fields, claimed = found
    if fields["n"] != chain.count + 1 or fields["before"] != chain.last:
        raise IntegrityError(f"{where}: it does not follow on the line before it")
    if claimed != _hash(fields) or line != _text(fields, claimed):
        raise IntegrityError(f"{where}: it was changed after it was written")
    return Chain(chain.count + 1, claimed)


def _tail(handle: int, path: Path) -> tuple[Chain, int, int]:
    """The chain so far, where its last whole line ends, and how many torn bytes lie behind it."""
    size = os.fstat(handle).st_size
    start = max(0, size - 2 * MAX_LINE_BYTES)
    content = os.pread(handle, size - start, start)
    whole = content[: content.rfind(b"\n") + 1]
    end, torn_bytes = start + len(whole), len(content) - len(whole)
    if not whole:
        if start:
            raise SettingsError(f"{path}: expected an audit log, this is something else")
        return Chain(0, _NOTHING), 0, torn_bytes
    last = whole[whole.rfind(b"\n", 0, -1) + 1 :]
    found = _read(last)
    if found is None:
        raise SettingsError(f"{path}: expected an audit log, its last line is something else")
    fields, claimed = found
    count = fields["n"]
    assert isinstance(count, int)  # `_read` has seen to it
    return Chain(count, claimed), end, torn_bytes


def _read(line: bytes) -> tuple[dict[str, object], str] | None:
    """The fields of a line without its hash, and that hash; None where it is no record."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    claimed, before, count = fields.pop("hash", ""), fields.get("before"), fields.get("n")
    good = all(isinstance(each, str) and _HASH.fullmatch(each) for each in (claimed, before))
    if not good or not isinstance(count, int) or isinstance(count, bool):
        return None
    return fields, str(claimed)


def _line(chain: Chain, what: str, facts: Mapping[str, Fact]) -> tuple[bytes, Chain]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = {"n": chain.count + 1, "at": now, "what": what, **facts, "before": chain.last}
    claimed = _hash(fields)
    line = _text(fields, claimed)
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"a record of {len(line)} bytes, expected up to {MAX_LINE_BYTES}")
    return line, Chain(chain.count + 1, claimed)


def _append(handle: int, end: int, line: bytes) -> int:
    """Write a line behind the others, or leave the file as it was."""
    try:
        written = os.pwrite(handle, line, end)
        if written != len(line):
            raise OSError(28, os.strerror(28))  # ENOSPC: half a line is what a full disk takes
    except OSError:
        os.ftruncate(handle, end)
        raise
    return end + len(line)


def _canonical(fields: Mapping[str, object]) -> str:
    """JSON in the order in which it was written, without spaces, in ASCII."""
    return json.dumps(fields, separators=(",", ":"))


def _hash(fields: Mapping[str, object]) -> str:
    return hashlib.sha256(_canonical(fields).encode()).hexdigest()


def _text(fields: Mapping[str, object], claimed: str) -> bytes:
    return _canonical({**fields, "hash": claimed}).encode() + b"\n"
