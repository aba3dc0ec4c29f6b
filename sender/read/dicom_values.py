"""Values of DICOM elements, straight from their bytes, and what a damaged file raises.

pydicom finds the elements; the few that every slice needs are decoded here, because converting them
through pydicom costs more than the rest of the parse (30 us each, measured). An element that is
absent or empty gives None or nothing; one that cannot be what its keyword says raises ValueError.
"""

from __future__ import annotations

import math
import struct
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError

from protocol import limits
from shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pydicom.dataset import Dataset

DAMAGE = (
    ArithmeticError, AttributeError, EOFError, InvalidDicomError, LookupError, MemoryError, OSError,
    RuntimeError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
"""What pydicom and the image codecs raise for files that are not as the standard says. RuntimeError
covers RecursionError (nested sequences), NotImplementedError and every imagecodecs error."""
FARTHEST_MM = 1e6
"""No scanner is a kilometre long; a number beyond this is damage."""
_CODE_CHARACTERS = 16
_REASON_CHARACTERS = 120


@contextmanager
def refusing_damage(path: Path) -> Iterator[None]:
    """Turn what a damaged file makes libraries raise into one sentence.

    Raises:
        InputError: the body raised one of `DAMAGE`.
    """
    try:
        yield
    except RecursionError:
        raise InputError(path, "damaged: its sequences nest too deeply") from None
    except MemoryError:
        raise InputError(path, "damaged: it asks for more memory than there is") from None
    except struct.error:
        raise InputError(path, "damaged: it ends in the middle of a value") from None
    except DAMAGE as error:
        reason = printable(str(error)) or type(error).__name__
        raise InputError(path, f"damaged: {reason[:_REASON_CHARACTERS]}") from None


def stored(data_set: Dataset, keyword: str) -> bytes:
    """An element's bytes as they stand in the file; none where it is absent or empty."""
    element = _element(data_set, keyword)
    if element is None:
        return b""
    if element.value is None and element.length:
        raise ValueError(f"{keyword} is {element.length} bytes long")
    return element.value or b""


def text(data_set: Dataset, keyword: str) -> str:
    """A code string or UID."""
    return stored(data_set, keyword).decode("ascii", "replace").strip(" \0")


def code(data_set: Dataset, keyword: str) -> str:
    """A code string (CS) fit to be shown: 16 characters at most (PS3.5 6.2)."""
    return printable(text(data_set, keyword))[:_CODE_CHARACTERS]


def texts(data_set: Dataset, keyword: str) -> tuple[str, ...]:
    """A multi-valued code string."""
    whole = text(data_set, keyword)
    return tuple(part.strip(" \0") for part in whole.split("\\")) if whole else ()


def numbers(data_set: Dataset, keyword: str) -> tuple[float, ...]:
    """Decimal strings (DS), all of them finite."""
    parts = texts(data_set, keyword)
    values = tuple(float(part) for part in parts if part)
    if len(values) != len(parts) or not all(map(math.isfinite, values)):
        raise ValueError(f"{keyword} holds {text(data_set, keyword)!r}")
    return values


def number(data_set: Dataset, keyword: str) -> float | None:
    """One decimal string (DS)."""
    values = numbers(data_set, keyword)
    return values[0] if values else None


def vector(data_set: Dataset, keyword: str, *, length: int) -> tuple[float, ...] | None:
    """Decimal strings of a fixed number, such as a place in millimetres."""
    values = numbers(data_set, keyword)
    if values and len(values) != length:
        raise ValueError(f"{keyword} has {len(values)} values, {length} belong there")
    if values and max(map(abs, values)) > FARTHEST_MM:
        raise ValueError(f"{keyword} holds {text(data_set, keyword)!r}")
    return values or None


def integer(data_set: Dataset, keyword: str) -> int | None:
    """An integer string (IS); the first of several."""
    parts = texts(data_set, keyword)
    return int(parts[0]) if parts and parts[0] else None


def ordinal(data_set: Dataset, keyword: str) -> int:
    """An integer string that only orders files: 0 where it is absent or no number."""
    with suppress(ValueError):
        return integer(data_set, keyword) or 0
    return 0


def short(data_set: Dataset, keyword: str, *, signed: bool = False) -> int | None:
    """An unsigned (US) or signed short (SS)."""
    value = stored(data_set, keyword)
    if not value:
        return None
    if len(value) != 2:
        raise ValueError(f"{keyword} has {len(value)} bytes, 2 belong there")
    return int.from_bytes(value, _byte_order(data_set, keyword), signed=signed)


def longs(data_set: Dataset, keyword: str) -> tuple[int, ...]:
    """Unsigned longs (UL), such as the dimension indices of a frame."""
    value = stored(data_set, keyword)
    order = "<" if _byte_order(data_set, keyword) == "little" else ">"
    return struct.unpack(f"{order}{len(value) // 4}L", value)


def very_longs(data_set: Dataset, keyword: str) -> tuple[int, ...]:
    """Unsigned 64-bit values (OV), such as an extended offset table."""
    value = stored(data_set, keyword)
    return struct.unpack(f"<{len(value) // 8}Q", value)


def items(data_set: Dataset, keyword: str) -> Iterable[Dataset]:
    """The items of a sequence."""
    return data_set.get(_tag(keyword)).value if _tag(keyword) in data_set else ()


def first_item(data_set: Dataset | None, keyword: str) -> Dataset | None:
    """The only item of a sequence, if it has any."""
    return next(iter(items(data_set, keyword)), None) if data_set is not None else None


def shown(data_set: Dataset, keyword: str) -> str:
    """A text for people, decoded by its character set, without control characters, cut."""
    value = data_set.get(keyword)
    return printable("" if value is None else str(value))


def printable(words: str) -> str:
    """The text without control characters, cut to what a message may carry."""
    clean = "".join(c if c.isprintable() else " " for c in words)
    return " ".join(clean.split())[: limits.MAX_TEXT]


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


def _element(data_set: Dataset, keyword: str) -> RawDataElement | None:
    element: object = data_set.get_item(_tag(keyword), keep_deferred=True)
    if element is None or isinstance(element, RawDataElement):
        return element
    raise ValueError(f"{keyword} is a sequence")


def _byte_order(data_set: Dataset, keyword: str) -> Literal["little", "big"]:
    element = _element(data_set, keyword)
    return "little" if element is not None and element.is_little_endian else "big"
