"""The edge of a command: where errors become one sentence and an exit code.

Nothing behind it prints an error or decides how the process ends.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from shared.errors import ExitCode, MedroiError
from shared.role import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Subcommand = Callable[[Sequence[str]], ExitCode]
    """What runs on the words behind its own."""


def run_command(
    name: str,
    run: Callable[[], ExitCode],
    *,
    stopped: str,
    stopped_code: ExitCode = ExitCode.INTERRUPTED,
) -> int:
    """Run a command; its exit status.

    Args:
        stopped: what a user who stops it is told.
        stopped_code: how it ends then.
    """
    try:
        return int(run())
    except MedroiError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print(f"{name}: {stopped}", file=sys.stderr)
        return int(stopped_code)
    except Exception:  # the edge: whatever else happens is a fault of ours, and told whole
        import logging

        logging.getLogger("medroi").exception("%s: a fault of medroi itself", name)
        return int(ExitCode.UNEXPECTED)


def shared_subcommand(word: str, role: Role) -> Subcommand | None:
    """A subcommand that both ends have; None where the word is none."""
    sends = role is Role.SENDER
    match word:
        case "sites":
            from shared.trust.sites_command import receiver_sites, sender_sites

            return sender_sites if sends else receiver_sites
        case "audit":
            from shared.audit_command import receiver_audit, sender_audit

            return sender_audit if sends else receiver_audit
        case _:
            return None
