"""What went wrong in a task group, as one error."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.errors import MedroiError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def one_error() -> Iterator[None]:
    """A task group inside raises its leading error instead of a group of them."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise leading_error(group) from None


def leading_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell: a fault of medroi itself before a named error, the first of each."""
    leaves = list(_leaves(group))
    unexpected = [leaf for leaf in leaves if not isinstance(leaf, MedroiError)]
    return (unexpected or leaves)[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for inner in group.exceptions:
        found += _leaves(inner) if isinstance(inner, BaseExceptionGroup) else [inner]
    return found
