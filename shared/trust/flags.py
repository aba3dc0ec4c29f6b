"""The flags of trust, the same for both commands, and the credentials they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ExitCode, MedroiError, SettingsError
from shared.role import Role
from shared.trust.credentials import Credentials
from shared.trust.identity import default_folder, open_identity, parse_pin
from shared.trust.keys import make_key, read_key
from shared.trust.pki import open_pki
from shared.trust.sites import SiteKeys, read_site, site_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.trust.keys import SharedKey
    from shared.trust.pki import Pki
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
        "--site",
        action="append",
        default=[],
        metavar="NAME",
        help="a paired site, by its name; who listens may give several (medroi-recv: all of them)",
    )
    group.add_argument(
        "--plain",
        action="store_true",
        help="on loopback, in plaintext and without a key, although there are paired sites",
    )
    group.add_argument(
        "--make-key", action=_MakeKey, metavar="FILE", help="write a new key there, and end"
    )
    group.add_argument(
        "--identity",
        type=Path,
        metavar="DIR",
        help="the listening end's certificate, made on first use, and the paired sites "
        "(default: the state folder)",
    )
    for name, what in (
        ("ca", "a hospital's authority (PEM) in the place of shared keys, at both ends"),
        ("cert", "our certificate of that authority, and those between (PEM)"),
        ("key", "the key of that certificate (PEM, readable by us only)"),
    ):
        group.add_argument(f"--pki-{name}", type=Path, metavar="FILE", help=what)
    group.add_argument(
        "--pki-peer",
        action="append",
        default=[],
        metavar="NAME",
        help="whose certificate is taken: who listens may give several and must give one; who "
        "dials needs none, as the host that is dialled is its name",
    )
    group.add_argument(
        "--pin",
        metavar="HEX",
        help="the listening end's certificate hash, where its address does not carry it",
    )


def name_site(options: argparse.Namespace, flag: str) -> None:
    """Where a flag that takes an address has a site's name instead: its address, and its key.

    Raises:
        SettingsError: there is no such site, or it has no address.
    """
    named = getattr(options, flag)
    if not named or ":" in named or "/" in named:  # an address, or what should have been one
        return
    site = read_site(_sites(options), named)
    if not site.url:
        raise SettingsError(f"--{flag} {named}: that site dials here, so it has no address")
    setattr(options, flag, site.url)
    options.site = [*options.site, site.name]


def credentials_of(
    options: argparse.Namespace, claim: Claim, *, listens: bool
) -> Credentials | None:
    """What the flags name; None where there is no key, and so only loopback in plaintext.

    A receiver that listens takes all paired sites where no key and no site is named.

    Raises:
        SettingsError: a file that is not what it should be, or flags that do not go together.
    """
    if options.plain:
        if options.key or options.site:
            raise SettingsError("--plain goes without --key and --site")
        return None
    if (pki := _pki(options, listens=listens)) is not None:
        return Credentials(claim, (), pki=pki)
    keys = _keys(options, claim, listens=listens)
    if not keys:
        for flag in ("identity", "pin"):
            if getattr(options, flag) is not None:
                raise SettingsError(f"--{flag} goes with --key FILE, or with a paired site")
        return None
    idle = "pin" if listens else "identity"
    if getattr(options, idle) is not None and not (options.site and idle == "identity"):
        raise SettingsError(f"--{idle} is for the end that {'dials' if listens else 'listens'}")
    pin = parse_pin(options.pin) if options.pin is not None else None
    identity = open_identity(_folder(options)) if listens else None
    return Credentials(claim, keys, identity, pin)


def _pki(options: argparse.Namespace, *, listens: bool) -> Pki | None:
    files = [options.pki_ca, options.pki_cert, options.pki_key]
    if not any(files):
        if options.pki_peer:
            raise SettingsError("--pki-peer goes with --pki-ca, --pki-cert and --pki-key")
        return None
    if not all(files):
        raise SettingsError("--pki-ca, --pki-cert and --pki-key go together")
    if options.key or options.site or options.pin or options.identity:
        raise SettingsError("--pki-ca goes without --key, --site, --pin and --identity")
    if listens and not options.pki_peer:
        raise SettingsError("who listens names whose certificate is taken: --pki-peer NAME")
    return open_pki(options.pki_ca, options.pki_cert, options.pki_key, options.pki_peer)


def _keys(options: argparse.Namespace, claim: Claim, *, listens: bool) -> Sequence[SharedKey]:
    if options.key or options.site:
        files = tuple(read_key(path) for path in options.key)
        return SiteKeys(_sites(options), options.site, files) if options.site else files
    if listens and claim.role is Role.RECEIVER:
        return SiteKeys(_sites(options))
    return ()


def _folder(options: argparse.Namespace) -> Path:
    return options.identity or default_folder()


def _sites(options: argparse.Namespace) -> Path:
    return site_folder(_folder(options))


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
