from __future__ import annotations

import pytest

from shared.errors import SettingsError
from shared.role import Role
from shared.trust.credentials import Credentials
from shared.trust.keys import SharedKey
from shared.trust.proof import Claim

CLAIM = Claim(Role.SENDER, 1)


def test_credentials_without_a_key_are_none() -> None:
    with pytest.raises(SettingsError, match="TLS goes with a shared key"):
        Credentials(CLAIM, ())


def test_to_dial_takes_one_key() -> None:
    keys = SharedKey("a", b"a" * 32), SharedKey("b", b"b" * 32)
    assert Credentials(CLAIM, keys[:1]).key_to_dial() is keys[0]
    with pytest.raises(SettingsError, match="to dial takes one --key"):
        Credentials(CLAIM, keys).key_to_dial()


def test_no_secret_is_shown() -> None:
    shown = repr(Credentials(CLAIM, (SharedKey("a", b"\xab" * 32),)))
    assert "xab" not in shown
    assert "'a'" in shown
