"""The subcommands of medroi-send, a file each: ``medroi-send WORD ...``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.edge import shared_subcommand
from shared.role import Role

if TYPE_CHECKING:
    from shared.edge import Subcommand


def subcommand(word: str) -> Subcommand | None:
    """What runs it on the rest of the command line; None where the word is no subcommand."""
    match word:
        case "pair":
            from sender.commands.pair import pair as run
        case _:
            return shared_subcommand(word, Role.SENDER)
    return run
