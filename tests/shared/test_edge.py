from __future__ import annotations

import logging
from typing import NoReturn

import pytest

from shared.audit_command import receiver_audit, sender_audit
from shared.edge import run_command, shared_subcommand
from shared.errors import ExitCode, InputError, MedroiError, SettingsError
from shared.role import Role
from shared.trust.sites_command import receiver_sites, sender_sites


def raising(error: BaseException) -> int:
    def run() -> NoReturn:
        raise error

    return run_command("medroi-x", run, stopped="stopped; all is kept")


def test_a_command_that_ends_well_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("medroi-x", lambda: ExitCode.OK, stopped="") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (SettingsError("--to: expected a URL"), 2, "medroi-x: --to: expected a URL\n"),
        (InputError("head.nii", "it is empty"), 3, "medroi-x: head.nii: it is empty\n"),
        (KeyboardInterrupt(), 5, "medroi-x: stopped; all is kept\n"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(
    error: MedroiError | KeyboardInterrupt,
    code: int,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert raising(error) == code
    assert capsys.readouterr() == ("", sentence)


def test_to_be_stopped_may_be_how_a_command_ends_well() -> None:
    def run() -> NoReturn:
        raise KeyboardInterrupt

    assert run_command("medroi-x", run, stopped="stopped", stopped_code=ExitCode.OK) == 0


def test_a_fault_of_our_own_is_told_whole(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "medroi"):
        assert raising(ValueError("ours")) == ExitCode.UNEXPECTED
    assert "a fault of medroi itself" in caplog.text
    assert "ValueError: ours" in caplog.text


def test_a_usage_that_argparse_has_told_passes() -> None:
    with pytest.raises(SystemExit):
        raising(SystemExit(2))


def test_what_both_ends_have_is_of_the_end_that_asks() -> None:
    assert shared_subcommand("sites", Role.SENDER) is sender_sites
    assert shared_subcommand("sites", Role.RECEIVER) is receiver_sites
    assert shared_subcommand("audit", Role.SENDER) is sender_audit
    assert shared_subcommand("audit", Role.RECEIVER) is receiver_audit
    assert shared_subcommand("head.nii", Role.SENDER) is None
