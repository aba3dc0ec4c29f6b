"""Paired sites: files that nobody else may read, found by name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from shared.errors import SettingsError
from shared.trust import sites
from shared.trust.keys import SharedKey
from shared.trust.sites import (
    Site,
    SiteKeys,
    check_free,
    check_name,
    forget_site,
    read_site,
    read_sites,
    site_folder,
    store_site,
)

if TYPE_CHECKING:
    from pathlib import Path

LAB = Site("lab", b"k" * 32, "wss://clinic:8765/#" + "ab" * 32, "0123456789abcdef", 1_800_000_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return site_folder(tmp_path / "medroi")


def named(name: str, secret: bytes = b"k" * 32) -> Site:
    return Site(name, secret, "", "0" * 16, 0)


def test_what_is_stored_is_read_again_and_is_private(folder: Path) -> None:
    store_site(folder, LAB)
    assert read_site(folder, "lab") == LAB
    assert read_sites(folder) == [LAB]
    assert LAB.key.name == "lab"
    assert (folder / "lab.site").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.listdir(folder) == ["lab.site"]
    assert "kkkk" not in repr(LAB)


def test_a_site_that_is_known_is_replaced_on_purpose_only(folder: Path) -> None:
    store_site(folder, LAB)
    with pytest.raises(SettingsError, match="a site called lab already; --replace"):
        store_site(folder, named("lab"))
    assert read_site(folder, "lab") == LAB
    store_site(folder, named("lab", b"n" * 32), replace=True)
    assert read_site(folder, "lab").secret == b"n" * 32


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a b", "x" * 65, "ä", "a\n"])
def test_a_name_never_leads_out_of_the_folder(folder: Path, name: str) -> None:
    for use in (lambda: check_name(name), lambda: read_site(folder, name)):
        with pytest.raises(SettingsError, match="a site's name is"):
            use()
    with pytest.raises(SettingsError, match="a site's name is"):
        check_free(folder, name, replace=True)


def test_a_site_that_is_not_there_is_told_with_those_that_are(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"no site is called lab here \(there are: none yet\)"):
        read_site(folder, "lab")
    store_site(folder, named("one"))
    store_site(folder, named("two"))
    with pytest.raises(SettingsError, match="there are: one, two"):
        forget_site(folder, "lab")
    assert read_sites(folder.parent / "nothing") == []


def test_a_file_that_others_may_read_is_refused_and_so_is_its_folder(folder: Path) -> None:
    store_site(folder, LAB)
    (folder / "lab.site").chmod(0o640)
    with pytest.raises(SettingsError, match="others may use it; chmod 600"):
        read_site(folder, "lab")
    (folder / "lab.site").chmod(0o600)
    folder.chmod(0o755)
    with pytest.raises(SettingsError, match="others may use it; chmod 700"):
        read_sites(folder)
    with pytest.raises(SettingsError, match="others may use it; chmod 700"):
        store_site(folder, named("other"))


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"key": "ab", "url": "", "invitation": "", "paired_s": 0}', "[" * 4000],
)
def test_a_file_that_holds_something_else_is_refused(folder: Path, content: str) -> None:
    store_site(folder, LAB)
    (folder / "lab.site").write_text(content)
    with pytest.raises(SettingsError, match="expected a site as pairing writes it"):
        read_site(folder, "lab")


def test_a_site_that_is_forgotten_is_gone(folder: Path) -> None:
    store_site(folder, LAB)
    forget_site(folder, "lab")
    assert read_sites(folder) == []


def test_there_is_an_end_to_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "MAX_SITES", 2)
    store_site(folder, named("one"))
    store_site(folder, named("two"))
    with pytest.raises(SettingsError, match="there are 2 sites already"):
        store_site(folder, named("three"))
    store_site(folder, named("two", b"n" * 32), replace=True)


def test_what_a_crash_has_left_does_not_hinder_the_next_pairing(folder: Path) -> None:
    store_site(folder, named("one"))
    (folder / f".lab.{LAB.invitation}").write_text("torn")
    store_site(folder, LAB)
    assert [site.name for site in read_sites(folder)] == ["lab", "one"]


def test_keys_of_named_sites_follow_it_too_and_key_files_stay(folder: Path) -> None:
    key = SharedKey("file", b"f" * 32)
    for name in ("one", "two", "three"):
        store_site(folder, named(name))
    keys = SiteKeys(folder, ["two", "one", "two"], [key])
    assert [each.name for each in keys] == ["file", "two", "one"]
    forget_site(folder, "two")
    assert [each.name for each in keys] == ["file", "one"]
    (folder / "one.site").chmod(0o644)
    os.utime(folder, ns=(1, 1))
    assert list(keys) == [key]
    with pytest.raises(SettingsError, match="no site is called two"):
        SiteKeys(folder, ["two"])


def test_keys_follow_the_folder(folder: Path) -> None:
    keys = SiteKeys(folder)
    assert not keys
    store_site(folder, LAB)
    assert [key.name for key in keys] == ["lab"]
    assert keys[0].secret == LAB.secret
    assert keys[0:1] == (LAB.key,)
    os.utime(folder, ns=(1, 1))
    (folder / "lab.site").chmod(0o644)
    assert len(keys) == 0  # what others may read lets nobody in
    (folder / "lab.site").chmod(0o600)
    os.utime(folder, ns=(2, 2))
    assert len(keys) == 1
    forget_site(folder, "lab")
    assert not keys
