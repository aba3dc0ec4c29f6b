from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from shared import errors
from shared.errors import ExitCode, InputError, MedroiError

EXIT_CODES = {
    "MedroiError": 1,
    "SettingsError": 2,
    "InputError": 3,
    "DiskError": 3,
    "ProtocolError": 4,
    "LocalProtocolError": 4,
    "RemoteProtocolError": 4,
    "DamagedFrame": 4,
    "PeerRefused": 4,
    "AuthenticationError": 4,
    "TransportClosed": 5,
    "CodecError": 6,
    "IntegrityError": 6,
}
"""As every command's help says it."""


def test_every_family_has_the_exit_code_that_is_promised() -> None:
    families = {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, MedroiError)
    }
    assert {name: int(kind.exit_code) for name, kind in families.items()} == EXIT_CODES


def test_success_is_zero_and_no_error_ends_with_it() -> None:
    assert int(ExitCode.OK) == 0
    assert 0 not in EXIT_CODES.values()


@pytest.mark.parametrize(
    "name", [name for name in EXIT_CODES if name not in ("InputError", "DiskError")]
)
def test_an_error_says_its_sentence(name: str) -> None:
    assert str(getattr(errors, name)("7 voxels, 8 expected")) == "7 voxels, 8 expected"


def test_an_input_error_names_where_and_why() -> None:
    error = InputError(Path("scan.nii"), "is torn")
    assert (error.where, error.why) == ("scan.nii", "is torn")
    assert str(error) == "scan.nii: is torn"
