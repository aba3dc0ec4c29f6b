"""The flags of trust, the same for both commands, and the credentials they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ExitCode, MedroiError, SettingsError
from shared.trust.credentials import Credentials
from shared.trust.identity import default_folder, open_identity, parse_pin
from shared.trust.keys import make_key, read_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.trust.proof import Claim


def add_trust_flags(parser: argparse.ArgumentParser) -> None:
    """Add them to a command's."""
    group = parser.add_argument_group("trust", "beyond loopback: TLS 1.3, and a key at both ends")
    group.add_argument(
        "--key",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="the key shared with the other end; who listens may give one for each peer",
    )
    group.add_argument(
        "--make-key", action=_MakeKey, metavar="FILE", help="write a new key there, and end"
    )
    group.add_argument(
        "--identity",
        type=Path,
        metavar="DIR",
        help="the listening end's certificate, made on first use (default: the state folder's)",
    )
    group.add_argument(
        "--pin",
        metavar="HEX",
        help="the listening end's certificate hash, where its address does not carry it",
    )


def credentials_of(
    options: argparse.Namespace, claim: Claim, *, listens: bool
) -> Credentials | None:
    """What the flags name; None where there is no key, and so only loopback in plaintext.

    Raises:
        SettingsError: a file that is not what it should be, or flags that do not go together.
    """
    if not options.key:
        for flag in ("identity", "pin"):
            if getattr(options, flag) is not None:
                raise SettingsError(f"--{flag} goes with --key FILE")
        return None
    idle = "pin" if listens else "identity"
    if getattr(options, idle) is not None:
        raise SettingsError(f"--{idle} is for the end that {'dials' if listens else 'listens'}")
    keys = tuple(read_key(path) for path in options.key)
    pin = parse_pin(options.pin) if options.pin is not None else None
    identity = open_identity(options.identity or default_folder()) if listens else None
    return Credentials(claim, keys, identity, pin)


class _MakeKey(argparse.Action):
    """Does it at once, like ``--version``, whatever else the command line lacks."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        """See `argparse.Action`."""
        path = Path(str(values))
        try:
            make_key(path)
        except MedroiError as error:
            parser.exit(error.exit_code, f"{parser.prog}: {error}\n")
        print(f"{path}: a new key; the other end needs a copy, and nobody else may have one")
        parser.exit(ExitCode.OK)
