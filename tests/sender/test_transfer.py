"""What a user asked for; whole transfers are in `tests.endtoend`."""

from __future__ import annotations

from pathlib import Path

import pytest

from sender.settings import SendSettings
from sender.transfer import Transfer
from sender.turns import clinic_folder
from shared.role import Role
from shared.transports.webrtc.flags import PASTE, Ways
from shared.trust.credentials import Credentials
from shared.trust.keys import SharedKey
from shared.trust.proof import Claim

MEET = f"wss://meet:8770/#{'ab' * 32}"


def transfer(*, url: str = "", listen: str = "", signal: str = "", key: str = "") -> Transfer:
    credentials = Credentials(Claim(Role.SENDER, 2), (SharedKey(key, bytes(32)),)) if key else None
    return Transfer(
        paths=(Path("study"),),
        url=url,
        settings=SendSettings(),
        link="",
        series=None,
        volume=None,
        report=None,
        quiet=True,
        credentials=credentials,
        listen=listen,
        ways=Ways(signal=signal),
    )


def test_a_clinic_is_called_by_its_address_or_where_it_has_none_by_its_key() -> None:
    assert transfer(url="ws://127.0.0.1:1").where == "ws://127.0.0.1:1"
    assert transfer(listen="0.0.0.0:1").where == "//0.0.0.0:1"
    assert transfer(signal=PASTE, key="clinic").where == "signal://clinic"
    assert not transfer().where


def test_lines_by_hand_and_by_a_rendezvous_lead_to_the_same_clinic_and_go_on_with_its_spool() -> (
    None
):
    by_hand, by_meeting = (transfer(signal=how, key="clinic").where for how in (PASTE, MEET))
    assert by_hand == by_meeting != transfer(signal=MEET, key="other").where


@pytest.mark.parametrize("name", ["two words", "a/b", "[odd", "ünder", "#1"])
def test_clinics_are_told_apart_whatever_their_key_is_called(name: str) -> None:
    where = transfer(signal=MEET, key=name).where
    assert clinic_folder(Path(), where) != clinic_folder(
        Path(), transfer(signal=MEET, key="x").where
    )
