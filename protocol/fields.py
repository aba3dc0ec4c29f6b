"""Fields of messages: each packs a value for msgpack and checks what comes back.

A field knows its limits. Whatever `unpack` returns is of the right type and within them; anything
else is a `RemoteProtocolError` that says what was expected and what came.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from protocol import limits
from shared.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import Enum

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """How one kind of value travels."""

    pack: Callable[[T], object]
    unpack: Callable[[object], T]


def wrong(expected: str, came: object) -> NoReturn:
    """Say what was expected and what came, without repeating megabytes of it."""
    raise RemoteProtocolError(f"{expected} expected, got {type(came).__name__} {came!r:.60}")


def count(limit: int) -> Field[int]:
    """A whole number, 0..limit."""

    def unpack(item: object) -> int:
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= limit:
            wrong(f"a number from 0 to {limit}", item)
        return item

    return Field(int, unpack)


def whole(bits: int = 64) -> Field[int]:
    """A whole number of either sign."""

    def unpack(item: object) -> int:
        bound = 1 << (bits - 1)
        if isinstance(item, bool) or not isinstance(item, int) or not -bound <= item < 2 * bound:
            wrong(f"a {bits}-bit number", item)
        return item

    return Field(int, unpack)


def flag() -> Field[bool]:
    """True or false."""

    def unpack(item: object) -> bool:
        if not isinstance(item, bool):
            wrong("true or false", item)
        return item

    return Field(bool, unpack)


def real() -> Field[float]:
    """A float, infinities and NaN included; the range is the receiver of it to judge."""

    def unpack(item: object) -> float:
        if not isinstance(item, float):
            wrong("a float", item)
        return item

    return Field(float, unpack)


_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What moves a cursor, ends a line or turns the direction of writing: terminals and logs obey it
(Trojan Source, Boucher and Anderson 2021, for the last)."""


def text(limit: int = limits.MAX_TEXT) -> Field[str]:
    """Text of at most ``limit`` characters, none of which controls who shows it.

    Longer text of our own is cut, and such a character in it becomes a space.
    """

    def pack(value: str) -> object:
        return _CONTROLS.sub(" ", value[:limit])

    def unpack(item: object) -> str:
        if not isinstance(item, str) or len(item) > limit or _CONTROLS.search(item):
            wrong(f"a plain text of up to {limit} characters", item)
        return item

    return Field(pack, unpack)


def blob(limit: int) -> Field[bytes]:
    """Bytes, at most ``limit`` of them."""

    def unpack(item: object) -> bytes:
        if not isinstance(item, bytes) or len(item) > limit:
            wrong(f"up to {limit} bytes", item)
        return item

    return Field(bytes, unpack)


def digest(*, optional: bool = False) -> Field[bytes]:
    """A SHA-256 digest: 32 bytes, or where optional also none at all."""

    def unpack(item: object) -> bytes:
        sizes = (0, limits.DIGEST_BYTES) if optional else (limits.DIGEST_BYTES,)
        if not isinstance(item, bytes) or len(item) not in sizes:
            wrong(f"a digest of {limits.DIGEST_BYTES} bytes", item)
        return item

    return Field(bytes, unpack)


def token() -> Field[bytes]:
    """Random bytes that name a session: 16 of them."""

    def unpack(item: object) -> bytes:
        if not isinstance(item, bytes) or len(item) != limits.TOKEN_BYTES:
            wrong(f"a token of {limits.TOKEN_BYTES} bytes", item)
        return item

    return Field(bytes, unpack)


def spans(highest: int, limit: int) -> Field[tuple[tuple[int, int], ...]]:
    """Up to ``limit`` half-open ranges within 0..highest, ascending, none touching another.

    They travel as one flat list of starts and stops.
    """
    edge = count(highest)

    def pack(ranges: tuple[tuple[int, int], ...]) -> object:
        return [number for pair in ranges for number in pair]

    def unpack(item: object) -> tuple[tuple[int, int], ...]:
        if not isinstance(item, list) or len(item) % 2 or len(item) > 2 * limit:
            wrong(f"up to {limit} ranges", item)
        edges = [edge.unpack(part) for part in item]
        if any(low >= high for low, high in pairwise(edges)):
            wrong("ascending ranges", item)
        return tuple(zip(edges[::2], edges[1::2], strict=True))

    return Field(pack, unpack)


def word(kind: type[U]) -> Field[U]:
    """A member of an enum, by its value."""

    def unpack(item: object) -> U:
        try:
            return kind(item)  # type: ignore[call-arg]
        except ValueError:
            wrong(f"one of {kind.__name__}", item)

    def pack(value: U) -> object:
        member: Enum = value  # type: ignore[assignment]
        return member.value

    return Field(pack, unpack)


def maybe(field: Field[U]) -> Field[U | None]:
    """A value or none."""
    return Field(
        lambda value: None if value is None else field.pack(value),
        lambda item: None if item is None else field.unpack(item),
    )


def listing(field: Field[U], limit: int) -> Field[tuple[U, ...]]:
    """A list of at most ``limit`` items."""

    def unpack(item: object) -> tuple[U, ...]:
        if not isinstance(item, list) or len(item) > limit:
            wrong(f"a list of up to {limit}", item)
        return tuple(field.unpack(part) for part in item)

    return Field(lambda value: [field.pack(part) for part in value], unpack)


def several(field: Field[U], length: int) -> Field[Any]:
    """A tuple of exactly ``length`` values of one kind."""
    inner = listing(field, length)

    def unpack(item: object) -> tuple[U, ...]:
        values = inner.unpack(item)
        if len(values) != length:
            wrong(f"{length} values", item)
        return values

    return Field(inner.pack, unpack)


def floats(size: int) -> Field[Any]:
    """Exactly ``size`` float64 in one run of bytes, network byte order."""

    def unpack(item: object) -> tuple[float, ...]:
        if not isinstance(item, bytes) or len(item) != 8 * size:
            wrong(f"{size} packed floats", item)
        return struct.unpack(f"!{size}d", item)

    return Field(lambda values: struct.pack(f"!{size}d", *values), unpack)


def float_groups(size: int, limit: int) -> Field[Any]:
    """Up to ``limit`` tuples of ``size`` float64, in one run of bytes, network byte order."""

    def pack(groups: tuple[tuple[float, ...], ...]) -> object:
        return b"".join(struct.pack(f"!{size}d", *group) for group in groups)

    def unpack(item: object) -> tuple[tuple[float, ...], ...]:
        step = 8 * size
        if not isinstance(item, bytes) or len(item) % step or len(item) > step * limit:
            wrong(f"up to {limit} groups of {size} packed floats", item)
        return tuple(struct.iter_unpack(f"!{size}d", item))

    return Field(pack, unpack)


def settings(limit: int) -> Field[tuple[tuple[str, int], ...]]:
    """Up to ``limit`` (name, number) pairs, as one flat list."""
    names, values = text(64), whole()

    def pack(pairs: tuple[tuple[str, int], ...]) -> object:
        return [part for pair in pairs for part in pair]

    def unpack(item: object) -> tuple[tuple[str, int], ...]:
        if not isinstance(item, list) or len(item) % 2 or len(item) > 2 * limit:
            wrong(f"up to {limit} settings", item)
        pairs = zip(item[::2], item[1::2], strict=True)
        return tuple((names.unpack(name), values.unpack(value)) for name, value in pairs)

    return Field(pack, unpack)


def record(build: Callable[..., U], **fields: Field[Any]) -> Field[U]:
    """A dataclass, its fields in this order; extra or missing ones are refused."""
    names = tuple(fields)

    def unpack(item: object) -> U:
        if not isinstance(item, list) or len(item) != len(names):
            wrong(f"{len(names)} fields", item)
        parts = {name: fields[name].unpack(part) for name, part in zip(names, item, strict=True)}
        try:
            return build(**parts)
        except ValueError as error:  # such as a box without a voxel
            raise RemoteProtocolError(str(error)) from None

    def pack(value: U) -> object:
        return [fields[name].pack(getattr(value, name)) for name in names]

    return Field(pack, unpack)
