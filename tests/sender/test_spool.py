"""The sender's own copy of what it has encoded, on a real disk."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sender import spool as spool_module
from sender.settings import SendSettings
from sender.spool import Grown, Outcome, Spool, Spooled, default_spool
from shared.errors import SettingsError
from shared.fidelity import Fidelity
from shared.recordlog import read_head
from tests.protocol import examples
from tests.protocol.examples import ENCODING
from tests.sender.studies import brain, series_of, study_of

if TYPE_CHECKING:
    from pathlib import Path

    from sender.prepare import Study

FRESH, LATER = b"first-session-16", b"later-session-16"
CLINIC = "wss://clinic:1/"
SEEN = Fidelity(12, 3.5, 17.5)


@pytest.fixture(scope="module")
def study() -> Study:
    return study_of(series_of(brain()))


def opened(
    base: Path,
    study: Study,
    fresh: bytes = FRESH,
    *,
    settings: SendSettings | None = None,
    to: str = CLINIC,
) -> Spool:
    return Spool.open(base, study, settings or SendSettings(), to, fresh)


def test_another_process_goes_on_with_the_same_session_and_the_same_bytes(
    tmp_path: Path, study: Study
) -> None:
    spool = opened(tmp_path, study)
    assert (spool.session, spool.resumed) == (FRESH, False)
    first, second = examples.offer(0), examples.offer(1)
    spool.put(first, ENCODING, SEEN)
    spool.note(Outcome(0, settled=True))
    spool.put_plan(Grown(examples.PLAN, "Found in 2 places: über", last=True))
    spool.put(second, ENCODING, Fidelity(1, 0.0, 0.0))
    spool.note(Outcome(1, settled=False))
    spool.close()
    again = opened(tmp_path, study, LATER)
    assert (again.session, again.resumed) == (FRESH, True)
    assert list(again.replay()) == [
        Spooled(first, ENCODING, SEEN),
        Outcome(0, settled=True),
        Grown(examples.PLAN, "Found in 2 places: über", last=True),
        Spooled(second, ENCODING, Fidelity(1, 0.0, 0.0)),
        Outcome(1, settled=False),
    ]
    again.close()


def test_other_studies_clinics_and_settings_have_spools_of_their_own(
    tmp_path: Path, study: Study
) -> None:
    other = study_of(series_of(brain(seed=1)))
    spools = [
        opened(tmp_path, study),
        opened(tmp_path, other),
        opened(tmp_path, study, to="wss://elsewhere:1/"),
        opened(tmp_path, study, settings=replace(SendSettings(), exact_codec="jpegls")),
        opened(tmp_path, study_of(series_of(brain(), [examples.ROI]))),
    ]
    assert not any(spool.resumed for spool in spools)
    assert len({path.name for path in tmp_path.iterdir()}) == len(spools)
    for spool in spools:
        spool.close()


def test_two_processes_do_not_send_the_same_study_to_one_clinic(
    tmp_path: Path, study: Study
) -> None:
    spool = opened(tmp_path, study)
    with pytest.raises(SettingsError, match="another process is sending this study"):
        opened(tmp_path, study, LATER)
    spool.put(examples.offer(), ENCODING, SEEN)
    spool.close()
    again = opened(tmp_path, study, LATER)
    assert len(list(again.replay())) == 1
    again.close()


def test_a_spool_torn_at_any_byte_gives_what_is_whole_and_goes_on_behind_it(
    tmp_path: Path, study: Study
) -> None:
    spool = opened(tmp_path, study)
    for number in range(2):
        spool.put(examples.offer(number), ENCODING, SEEN)
    spool.close()
    (path,) = tmp_path.glob("*/encoded.log")
    whole = path.read_bytes()
    for size in range(len(whole) - 1, 30, -31):
        path.write_bytes(whole[:size])
        torn = opened(tmp_path, study, LATER)
        found = list(torn.replay())
        assert all(isinstance(each, Spooled) and each.payload == ENCODING for each in found)
        assert len(found) < 2
        torn.put(examples.offer(7), ENCODING, SEEN)
        torn.close()
        again = opened(tmp_path, study, LATER)
        assert len(list(again.replay())) == len(found) + 1
        again.close()


def test_where_the_receiver_has_forgotten_only_grown_plans_are_kept(
    tmp_path: Path, study: Study
) -> None:
    grown = Grown(examples.PLAN, "Found.", last=False)
    spool = opened(tmp_path, study)
    spool.put(examples.offer(), ENCODING, SEEN)
    spool.start_over(LATER, [grown])
    assert spool.session == LATER
    with pytest.raises(SettingsError):  # it is still ours alone
        opened(tmp_path, study)
    spool.close()
    again = opened(tmp_path, study, FRESH)
    assert (again.session, list(again.replay())) == (LATER, [grown])
    again.close()


def test_a_stored_study_leaves_nothing_behind(tmp_path: Path, study: Study) -> None:
    spool = opened(tmp_path, study)
    spool.put(examples.offer(), ENCODING, SEEN)
    spool.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_lay_there_for_a_month_is_forgotten_and_what_is_not_ours_stays(
    tmp_path: Path, study: Study
) -> None:
    opened(tmp_path, study).close()
    (old,) = tmp_path.iterdir()
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "encoded.log").write_bytes(b"somebody's")
    month_ago_s = time.time() - 31 * 86_400
    for folder in (old, strange):
        os.utime(folder, (month_ago_s, month_ago_s))
    opened(tmp_path, study_of(series_of(np.zeros((2, 8, 8), "<i2")))).close()
    assert not old.exists()
    assert (strange / "encoded.log").exists()


def test_a_study_that_another_process_takes_away_meanwhile_keeps_nobody_from_a_spool(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path, study).close()
    (folder,) = tmp_path.iterdir()
    monkeypatch.setattr(spool_module, "read_head", lambda path, size: _taken_away(path, size))
    spool = opened(tmp_path, study_of(series_of(np.zeros((2, 8, 8), "<i2"))))
    assert not folder.exists()
    assert not spool.resumed
    spool.close()


def _taken_away(path: Path, size: int) -> bytes:
    head = read_head(path, size)
    if head:
        shutil.rmtree(path.parent)
    return head


def test_a_spool_that_is_still_used_is_not_old_however_long_ago_it_began(
    tmp_path: Path, study: Study
) -> None:
    opened(tmp_path, study).close()
    (folder,) = tmp_path.iterdir()
    month_ago_s = time.time() - 29 * 86_400
    os.utime(folder, (month_ago_s, month_ago_s))
    opened(tmp_path, study).close()
    assert time.time() - folder.stat().st_mtime < 3600


def test_a_folder_that_others_can_write_into_is_not_used(tmp_path: Path, study: Study) -> None:
    opened(tmp_path, study).close()
    (folder,) = tmp_path.iterdir()
    folder.chmod(0o777)
    with pytest.raises(OSError, match="not ours alone"):
        opened(tmp_path, study)


def test_a_bare_head_is_no_session_of_an_earlier_process_but_a_file_to_write_anew(
    tmp_path: Path, study: Study
) -> None:
    opened(tmp_path, study).close()
    (path,) = tmp_path.glob("*/encoded.log")
    path.write_bytes(path.read_bytes()[:20])
    spool = opened(tmp_path, study, LATER)
    assert (spool.session, spool.resumed) == (LATER, False)
    spool.close()


def test_by_default_spools_lie_in_the_users_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_spool() == tmp_path / "medroi" / "spool"
