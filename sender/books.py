"""What a sender writes down and counts: the audit log, and figures for a monitor.

A study is named by its digest and its destination by the site's name, or the address that was
dialled: file names may have patients' names in them, and are left out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.errors import ExitCode, MedroiError
from shared.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.messages import Mark
    from sender.prepare import Study
    from sender.session import SendingSession
    from shared.audit import AuditLog, Fact
    from shared.trust.credentials import Credentials


class Books:
    """Of one transfer. `began` and `ended` block for a sync, some milliseconds each."""

    def __init__(
        self,
        audit: AuditLog,
        where: str,
        credentials: Credentials | None,
        say: Callable[[str], None],
    ) -> None:
        self._audit = audit
        names = [key.name for key in credentials.keys] if credentials else []
        self._to: dict[str, Fact] = {"to": urlsplit(where).netloc, "peers": names}
        self._say = say
        self._study: str | None = None
        self._session: SendingSession | None = None
        self._in_trouble = self._is_failing = False
        self.metrics = metrics = Metrics()
        self._errors = metrics.counter(
            "medroi_errors_total", "What kept it from going on, by its family", "kind"
        )
        self._marks = metrics.counter("medroi_marks_reached_total", "At the clinic", "mark")
        metrics.gauge("medroi_sessions", "1 once a study is being sent", self._is_open)
        metrics.total("medroi_sent_bytes_total", "Frame bytes of all connections", self._sent)
        metrics.gauge("medroi_connected", "1 while there is a line", self._connected)
        metrics.gauge(
            "medroi_verified_fraction", "Of voxels, proven at the clinic", self._done, "region"
        )

    def began(self, study: Study) -> None:
        """A study was read and is sent from now on."""
        self._study = study.manifest.study.hex()
        digests = [entry.digest.hex() for entry in study.manifest.series]
        self._note("sending", sync=True, **self._to, series=digests, user=os.getuid())

    def follow(self, session: SendingSession) -> None:
        """Count what this one does."""
        self._session = session

    def reached(self, mark: Mark) -> None:
        """The clinic says that a mark is reached."""
        self._marks.add(word=mark.value)
        if self._study is not None:  # a line may be there before the study is read
            self._note("reached", sync=False, mark=mark.value)

    def troubled(self, error: MedroiError | None) -> None:
        """There is no line, and why; None once there is one again."""
        self._in_trouble = error is not None
        if error is not None:
            self._errors.add(word=type(error).__name__)

    def ended(self, code: ExitCode) -> None:
        """However it ended."""
        exact = self._session.exact if self._session else None
        self._note("ended", sync=True, **self._to, outcome=code.name.lower(), exact=exact)

    def ills(self) -> list[str]:
        """What is wrong now, for the health endpoint."""
        wrong = ["there is no line to the clinic"] if self._in_trouble else []
        return wrong + (["the audit log cannot be written to"] if self._is_failing else [])

    def _note(self, what: str, *, sync: bool, **facts: Fact) -> None:
        try:
            self._audit.note(what, {"study": self._study, **facts}, sync=sync)
        except (OSError, MedroiError) as error:
            self._errors.add(word="AuditLog")
            if not self._is_failing:
                self._say(f"nothing is written down in {self._audit.path}: {error}")
            self._is_failing = True

    def _is_open(self) -> float:
        return float(self._study is not None)

    def _sent(self) -> float:
        return float(self._session.sent_bytes) if self._session else 0.0

    def _connected(self) -> float:
        return float(self._session is not None and self._session.call is not None)

    def _done(self) -> dict[str, float]:
        if self._session is None:
            return {}
        progress = self._session.progress()
        return {"roi": progress.roi_fraction, "whole": progress.whole_fraction}
