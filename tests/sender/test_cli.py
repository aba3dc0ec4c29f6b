"""`main` in this process. Whole transfers by the two commands are in tests/endtoend."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from sender import dryrun
from sender.cli import KEPT_WORDS, main
from shared.errors import IntegrityError
from shared.software import SOFTWARE
from tests.sender.read.files import nifti
from tests.sender.studies import brain

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = "ws://127.0.0.1:9"
"""Port 9 is discard: nobody listens there."""


@pytest.fixture
def head(tmp_path: Path) -> Path:
    path = tmp_path / "head.nii"
    path.write_bytes(nifti(brain((2, 8, 8))))
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["head.nii", "--no-such-flag"],
        ["head.nii", "--background", "keep it"],
        ["head.nii", "--volume", "first"],
        ["head.nii", "--to"],
    ],
)
def test_a_wrong_command_line_is_told_its_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: medroi-send" in capsys.readouterr().err


def test_the_version_and_the_exit_codes_can_be_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == SOFTWARE
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "0 stored and verified, 2 usage, 3 input refused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "--to URL says where to"),
        (["--to", NOBODY, "--exact-codec", "gif"], 2, "no codec 'gif'"),
        (["--to", NOBODY, "--exact-codec", "hevc"], 2, "hevc is not an exact codec"),
        (["--to", NOBODY, "--preview-codec", "jpegls"], 2, "jpegls makes no previews"),
        (["--to", NOBODY, "--roi", "brain"], 2, "--roi 'brain' is none of"),
        (["--to", NOBODY, "--roi", "box:0:9,0:8,0:8"], 2, "does not lie inside head"),
        (["--to", NOBODY, "--link", "fast"], 2, "link: expected rate=1M"),
        (["--to", NOBODY, "--volume", "1"], 2, "--volume 1: "),
        (["--to", NOBODY, "--series", "2"], 2, "--series 2: the choices are 1 head"),
        (["--to", "http://127.0.0.1:9"], 2, "expected an address such as ws://"),
        (["--to", NOBODY, "--give-up", "0.1"], 5, "nobody answers at ws://127.0.0.1:9"),
        (["--to", "ws://192.0.2.1:9"], 2, "plaintext does not go further, TLS with a shared key"),
        (["--to", "wss://127.0.0.1:9"], 2, "TLS goes with a shared key: --key FILE names it"),
        (["--to", NOBODY, "--pin", "0" * 64], 2, "--pin goes with --key FILE"),
        (["--to", NOBODY, "--identity", "."], 2, "--identity goes with --key FILE"),
        (["--to", NOBODY, "--key", "/no/such/key"], 2, "/no/such/key: No such file"),
    ],
)
def test_a_setting_that_cannot_be_used_ends_in_one_line_and_its_code(
    head: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    assert main([str(head), "--quiet", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("medroi-send: ")
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("word", KEPT_WORDS)
def test_words_of_subcommands_to_come_are_no_studies(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word, "--to", NOBODY]) == 2
    assert f"the file is ./{word}" in capsys.readouterr().err


def test_a_file_of_such_a_name_is_sent_when_its_folder_is_named(
    head: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    head.rename(head.with_name("queue"))
    monkeypatch.chdir(head.parent)
    assert main(["./queue", "--dry-run"]) == 0
    assert capsys.readouterr().out


def test_what_is_wrong_with_the_study_is_told_before_what_is_with_the_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "nothing.nii")
    assert main([missing, "--to", NOBODY, "--link", "fast", "-q"]) == 3
    assert capsys.readouterr().err == f"medroi-send: {missing}: no such file or folder\n"


def test_a_refused_study_leaves_its_report(tmp_path: Path) -> None:
    report = tmp_path / "send.json"
    missing = str(tmp_path / "nothing.nii")
    assert main([missing, "--to", NOBODY, "-q", "--report", str(report)]) == 3
    content: dict[str, Any] = json.loads(report.read_text())
    assert (content["exit_code"], content["exact"]) == (3, False)
    assert content["outcome"] == f"{missing}: no such file or folder"
    assert content["study"] is None


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_report_that_could_not_be_left_is_found_out_before_anything_is_sent(
    head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dry: list[str]
) -> None:
    nowhere = str(tmp_path / "no such folder" / "send.json")
    assert main([str(head), "--to", NOBODY, "-q", "--report", nowhere, *dry]) == 2
    assert "there is no such folder to put it in" in capsys.readouterr().err
    assert main([str(head), "--to", NOBODY, "-q", "--report", str(tmp_path), *dry]) == 2
    assert "expected a file, this is a folder" in capsys.readouterr().err


def test_a_dry_run_needs_no_address(head: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(head), "--dry-run", "--link", "3g"]) == 0
    assert "link: 3g (0.768 Mbit/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"), [(IntegrityError("3 voxels"), 6), (KeyboardInterrupt(), 5), (KeyError(), 1)]
)
def test_every_end_has_its_code(
    head: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(dryrun, "dry_run", fail)
    with caplog.at_level(logging.ERROR):
        assert main([str(head), "--dry-run"]) == code
    told = capsys.readouterr().err + caplog.text
    assert "medroi-send: " in told
    assert ("Traceback" in told) == (code == 1)
