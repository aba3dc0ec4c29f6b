"""Whole runs of medroi-recv as a process are in tests/endtoend."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from receiver.reception import Reception, receive
from shared.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


def reception(out: Path, **changes: Any) -> Reception:
    return replace(Reception("127.0.0.1", 0, out, True, None, False, True), **changes)


def test_what_cannot_be_used_is_a_setting_to_change(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for wrong in (
            reception(file),
            reception(file / "below"),
            reception(tmp_path / "out", host="192.0.2.1"),
            reception(tmp_path / "out", host="0.0.0.0"),
            reception(tmp_path / "out", host="example.org"),
            reception(tmp_path / "out", port=port),
        ):
            with pytest.raises(SettingsError):
                asyncio.run(receive(wrong))
