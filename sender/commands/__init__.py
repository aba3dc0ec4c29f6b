"""The subcommands of medroi-send, a file each: ``medroi-send WORD ...``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.errors import ExitCode


def subcommand(word: str) -> Callable[[Sequence[str]], ExitCode] | None:
    """What runs it on the rest of the command line; None where the word is no subcommand."""
    match word:
        case "pair":
            from sender.commands.pair import pair as run
        case "sites":
            from shared.trust.sites_command import sender_sites as run
        case "audit":
            from shared.audit_command import sender_audit as run
        case _:
            return None
    return run
