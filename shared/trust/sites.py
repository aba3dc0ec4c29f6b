"""Sites that this one is paired with: a private file each, beside the identity.

    <state folder>/sites/NAME.site         JSON: the key, where the site listens, when it was paired

The name is what people call the pair at both ends. Files are 0600 in a folder that is 0700, read
as `private_files` reads, or refused.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

from shared.errors import SettingsError
from shared.folders import sync_folder
from shared.trust.keys import KEY_BYTES, SharedKey
from shared.trust.private_files import private_folder, read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAX_SITES = 256
"""Every key is tried on every stranger's challenge: so many take 0.3 ms."""
_SUFFIX = ".site"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Site:
    """The other end of a pair."""

    name: str
    secret: bytes = field(repr=False)
    """32 bytes."""
    url: str
    """Where it listens, pin included; empty where this end is the one that listens."""
    invitation: str
    """Of which invitation it came (`Invitation.name`)."""
    paired_s: int
    """Unix time."""

    @property
    def key(self) -> SharedKey:
        """What is proven to it."""
        return SharedKey(self.name, self.secret)


def site_folder(base: Path) -> Path:
    """Where the sites of an identity's folder are."""
    return base / "sites"


def check_name(name: str) -> str:
    """The name, if a site may have it.

    Raises:
        SettingsError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"a site's name is up to 64 letters, digits, dots, dashes and underscores, "
            f"got {name[:80]!r}"
        )
    return name


def store_site(folder: Path, site: Site, *, replace: bool = False) -> None:
    """Keep a site; it is on the disk when this returns.

    Raises:
        SettingsError: there is one of that name and it is not to be replaced, there are too many,
            or the folder is not private.
    """
    check_free(folder, site.name, replace=replace)
    fields = {
        "key": site.secret.hex(),
        "url": site.url,
        "invitation": site.invitation,
        "paired_s": site.paired_s,
    }
    part = folder / f".{site.name}.{site.invitation}"
    part.unlink(missing_ok=True)
    write_private(part, json.dumps(fields).encode() + b"\n")
    os.replace(part, _path(folder, site.name))
    sync_folder(folder)


def check_free(folder: Path, name: str, *, replace: bool) -> None:
    """May a site of this name be stored?

    Raises:
        SettingsError: it may not, and why.
    """
    private_folder(folder)
    if os.path.lexists(_path(folder, check_name(name))):
        if not replace:
            raise SettingsError(
                f"there is a site called {name} already; --replace pairs it anew, --name NAME "
                "gives this one another name"
            )
    elif len(_names(folder)) >= MAX_SITES:
        raise SettingsError(f"{folder}: there are {MAX_SITES} sites already")


def read_site(folder: Path, name: str) -> Site:
    """A site by its name.

    Raises:
        SettingsError: there is none, or its file is not private, or holds something else.
    """
    path = _path(folder, check_name(name))
    if not os.path.lexists(path):
        known = ", ".join(_names(folder)) or "none yet"
        raise SettingsError(
            f"no site is called {name} here (there are: {known}); medroi-recv pair and "
            "medroi-send pair make one known"
        )
    content = read_private(path, most_bytes=_MOST_BYTES)
    try:
        fields = json.loads(content)
        key, url, invitation = (str(fields[each]) for each in ("key", "url", "invitation"))
        paired_s = int(fields["paired_s"])
    except (ValueError, KeyError, TypeError, RecursionError):
        key = url = invitation = ""
        paired_s = 0
    if not _KEY.fullmatch(key):
        raise SettingsError(f"{path}: expected a site as pairing writes it")
    assert len(key) == 2 * KEY_BYTES
    return Site(name, bytes.fromhex(key), url, invitation, paired_s)


def read_sites(folder: Path) -> list[Site]:
    """All of them, by name; none where there is no folder.

    Raises:
        SettingsError: the folder or one of the files is not private, or holds something else.
    """
    names = _names(folder)
    if names:
        private_folder(folder)
    return [read_site(folder, name) for name in names]


def forget_site(folder: Path, name: str) -> None:
    """Take a site away: it is a stranger from now on.

    Raises:
        SettingsError: there is none.
    """
    path = _path(folder, read_site(folder, name).name)
    path.unlink()
    sync_folder(folder)


class SiteKeys(Sequence[SharedKey]):
    """The keys of sites, read again when a pairing has changed the folder.

    So a listener need not be started anew after a pairing, nor after a site is forgotten.
    """

    def __init__(
        self, folder: Path, names: Iterable[str] | None = None, others: Iterable[SharedKey] = ()
    ) -> None:
        """Of all sites, or of those that have ``names``; behind ``others``, which always stay.

        Raises:
            SettingsError: as `read_site` and `read_sites` do.
        """
        self._folder = folder
        self._names = None if names is None else tuple(dict.fromkeys(names))
        self._others = tuple(others)
        self._as_of_ns = _changed_ns(folder)
        for name in self._names or ():
            read_site(folder, name)
        self._keys = self._read()

    def __len__(self) -> int:
        return len(self._now())

    @overload
    def __getitem__(self, at: int) -> SharedKey: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[SharedKey]: ...
    def __getitem__(self, at: int | slice) -> SharedKey | Sequence[SharedKey]:
        return self._now()[at]

    def __iter__(self) -> Iterator[SharedKey]:
        return iter(self._now())

    def _now(self) -> tuple[SharedKey, ...]:
        changed_ns = _changed_ns(self._folder)
        if changed_ns != self._as_of_ns:
            self._as_of_ns = changed_ns
            try:
                self._keys = self._read()
            except SettingsError:
                self._keys = self._others  # a folder that is not ours alone any more: no site
        return self._keys

    def _read(self) -> tuple[SharedKey, ...]:
        if self._names is None:
            return self._others + tuple(site.key for site in read_sites(self._folder))
        there = set(_names(self._folder))
        sites = (read_site(self._folder, name) for name in self._names if name in there)
        return self._others + tuple(site.key for site in sites)


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    found = (name.removesuffix(_SUFFIX) for name in os.listdir(folder) if name.endswith(_SUFFIX))
    return sorted(name for name in found if _NAME.fullmatch(name))


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}{_SUFFIX}"


def _changed_ns(folder: Path) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0
