"""Tests that last by the clock and need little of a core run beside the others.

A test marked ``beside(MODULE, ARGUMENTS...)`` is about what that module prints. Its process is
begun before the first test, and the test, which asks for `printed`, comes last.
"""

from __future__ import annotations

import subprocess
from tempfile import TemporaryFile
from typing import IO

import pytest

from tests.commands import command, environment

_END_S = 600.0
"""Beyond what it was asked to last: other tests want the cores too."""
_Begun = dict[str, tuple[subprocess.Popen[str], IO[str]]]
_BEGUN = pytest.StashKey[_Begun]()
"""By the test's name."""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line("markers", "beside(module, *arguments): judges what that has printed")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that run beside the others are judged last."""
    items.sort(key=lambda item: item.get_closest_marker("beside") is not None)


def pytest_runtestloop(session: pytest.Session) -> None:
    """Begin what the chosen tests are about."""
    begun = session.config.stash[_BEGUN] = {}
    if session.config.option.collectonly:
        return
    for item in session.items:
        if (mark := item.get_closest_marker("beside")) is not None:
            module, *arguments = mark.args
            said = TemporaryFile("w+")  # noqa: SIM115 -- closed when the session is over
            process = subprocess.Popen(
                command(module, *arguments), env=environment(), stdout=said, text=True
            )
            begun[item.nodeid] = process, said


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What nobody has waited for is not left behind."""
    for process, said in session.config.stash.get(_BEGUN, {}).values():
        process.terminate()
        process.wait()
        said.close()


@pytest.fixture
def printed(request: pytest.FixtureRequest) -> str:
    """What the process that runs beside this test has printed, once it has ended well."""
    process, said = request.config.stash[_BEGUN][request.node.nodeid]
    assert process.wait(_END_S) == 0
    said.seek(0)
    return said.read()
