"""The two commands as real processes: for end-to-end tests and benchmarks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parent.parent
_START_S = 30.0
_END_S = 20.0


def command(module: str, *arguments: object) -> list[str]:
    """A command line that runs a module of this checkout with this interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def environment() -> dict[str, str]:
    """The environment of a command: this checkout first on the path."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def here(arguments: Sequence[object]) -> list[str]:
    """A command line that is run where we are; `tests.emulator.namespaces.Place.command` runs one
    elsewhere."""
    return [str(argument) for argument in arguments]


@dataclass
class Receiver:
    """``medroi-recv`` in a process of its own. Use as a context manager."""

    folder: Path
    options: Sequence[str] = ("--once",)
    host: str = "127.0.0.1"
    place: Callable[[Sequence[object]], list[str]] = here
    url: str = ""
    lines: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    @property
    def out(self) -> Path:
        """Where studies are put."""
        return self.folder / "out"

    @property
    def report_path(self) -> Path:
        """Where the report of the last study is."""
        return self.folder / "recv.json"

    def __enter__(self) -> Receiver:
        self.folder.mkdir(parents=True, exist_ok=True)
        where = ("--listen", f"{self.host}:0", "--plain")  # whatever sites this user has
        listening = command("receiver.cli", *where, "--out", self.out)
        self.process = subprocess.Popen(
            self.place([*listening, "--report", self.report_path, *self.options]),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        ready = threading.Event()
        threading.Thread(target=self._read, args=(ready,), daemon=True).start()
        if not ready.wait(_START_S) or not self.url:
            raise RuntimeError(f"medroi-recv did not start: {self.lines}")
        return self

    def _read(self, ready: threading.Event) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if found := re.search(r"ws://\S+", line):
                self.url = self.url or found[0]
                ready.set()
        ready.set()

    def wait(self, timeout_s: float = _END_S) -> int:
        """Its exit status, once it has ended by itself."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def report(self) -> dict[str, Any]:
        """The report it left."""
        content: dict[str, Any] = json.loads(self.report_path.read_text())
        return content

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@dataclass(frozen=True)
class Sent:
    """How a ``medroi-send`` ended."""

    code: int
    stdout: str
    stderr: str
    report: dict[str, Any]


def send(url: str, *arguments: object, folder: Path, timeout_s: float = 120.0) -> Sent:
    """Run ``medroi-send`` to its end."""
    report = folder / "send.json"
    report.unlink(missing_ok=True)
    done = subprocess.run(
        command("sender.cli", *arguments, "--to", url, "--report", report),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=timeout_s,
        check=False,
    )
    content = json.loads(report.read_text()) if report.is_file() else {}
    return Sent(done.returncode, done.stdout, done.stderr, content)
