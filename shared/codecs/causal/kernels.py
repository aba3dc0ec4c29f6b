"""How the coder's loops are compiled, and where their machine code is kept.

numba keeps the code of a function until that function's own file changes; what was inlined into it
from other files, constants among it, would stay as it was. So the code is kept under a name made of
all the sources here: another version of any of them is another place.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba

from shared.codecs.causal.compiled import place

if TYPE_CHECKING:
    from collections.abc import Callable


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled function that holds no lock, and divides by zero without a word."""
    return _compiled(function, inline=False)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, made part of every kernel that calls it."""
    return _compiled(function, inline=True)


def _compiled(function: Callable[..., Any], *, inline: bool) -> Callable[..., Any]:
    settings: Any = numba.config
    users = settings.CACHE_DIR
    settings.CACHE_DIR = str(Path(users) / place().name if users else place())
    try:
        compiled: Callable[..., Any] = numba.njit(
            nogil=True, cache=True, error_model="numpy", forceinline=inline
        )(function)
    finally:
        settings.CACHE_DIR = users
    return compiled
