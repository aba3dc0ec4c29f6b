"""What the clinic writes down and counts: the audit log, and figures for a monitor.

Studies are named by their digest and peers by what their key is called here, so neither says
anything of a patient. A log that cannot be written to is told, counted and shown by the health
endpoint; it does not keep a study from arriving.
"""

from __future__ import annotations

import shutil
import time
from functools import partial
from typing import TYPE_CHECKING

from shared.errors import ExitCode, MedroiError
from shared.folders import SPARE_BYTES
from shared.layer import Quality
from shared.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from protocol.messages import Mark
    from receiver.counts import Count
    from receiver.session import ReceivingSession
    from shared.audit import AuditLog, Fact
    from shared.workers import Workers


_LOOK = "studies"
_SEEN_EVERY_S = 10.0
_MOST_SEEN = 1024


class Books:
    """A `Watcher` of every session of a clinic."""

    def __init__(
        self, audit: AuditLog, workers: Workers, out: Path, say: Callable[[str], None]
    ) -> None:
        self._audit = audit
        self._workers = workers
        self._out = out
        self._say = say
        self._is_failing = False
        self._concluded_bytes = 0
        self._seen: dict[tuple[str, bytes], tuple[float, tuple[bool | None, tuple[int, ...]]]] = {}
        """By viewer and session: when it was last written down what was shown, and what it was."""
        self._sessions: Callable[[], Iterable[ReceivingSession]] = tuple
        self.metrics = metrics = Metrics()
        self._ended = metrics.counter(
            "medroi_sessions_ended_total", "Sessions that are over, by their exit code", "outcome"
        )
        self._errors = metrics.counter(
            "medroi_errors_total", "What ended sessions and connections, by its family", "kind"
        )
        self._reached = metrics.counter(
            "medroi_marks_reached_total", "Series that have reached a mark", "mark"
        )
        self._refused = metrics.counter(
            "medroi_refused_connections_total", "Strangers, told of at most once a second"
        )
        self._views = metrics.counter("medroi_views_total", "What viewers have asked for", "asked")
        metrics.gauge("medroi_sessions", "Studies under way", self._open)
        metrics.total("medroi_received_bytes_total", "Frame bytes of all sessions", self._bytes)
        metrics.gauge(
            "medroi_voxels", "Of studies under way, at least so good", self._voxels, "quality"
        )
        metrics.gauge("medroi_disk_free_bytes", "Where studies are put", self._free_bytes)

    def follow(self, sessions: Callable[[], Iterable[ReceivingSession]]) -> None:
        """Count these from now on."""
        self._sessions = sessions

    # -- moments of a session -----------------------------------------------------------------

    async def began(self, session: ReceivingSession) -> None:
        """See `Watcher`."""
        assert session.manifest is not None  # it has been accepted
        await self._note(
            "accepted",
            **_which(session),
            series=[entry.digest.hex() for entry in session.manifest.series],
        )

    async def reached(self, session: ReceivingSession, series: int, mark: Mark) -> None:
        """See `Watcher`."""
        self._reached.add(word=mark.value)
        volume = session.volumes[series]
        await self._note(
            "reached",
            **_which(session),
            of=series,
            mark=mark.value,
            roi=_counts(volume.roi),
            whole=_counts(volume.whole),
        )

    async def demoted(self, session: ReceivingSession, series: int, layers: int) -> None:
        """See `Watcher`."""
        self._errors.add(layers, "Demoted")
        await self._note("demoted", **_which(session), of=series, layers=layers)

    async def ended(self, session: ReceivingSession) -> None:
        """See `Watcher`: the receipt goes out behind this record."""
        assert session.manifest is not None  # it has been stored
        await self._note(
            "stored",
            **_which(session),
            exact=session.exact,
            series=[entry.digest.hex() for entry in session.manifest.series],
            whole=[_counts(volume.whole) for volume in session.volumes],
            received_bytes=session.visits.received_bytes,
        )

    def concluded(self, session: ReceivingSession, code: ExitCode) -> None:
        """A session is over, for better or worse. A loop that is stopping waits for no worker."""
        self._concluded_bytes += session.visits.received_bytes
        self._ended.add(word=code.name.lower())
        self._note_now("ended", sync=True, **_which(session), outcome=code.name.lower())

    def troubled(self, error: MedroiError) -> None:
        """A connection has ended by an error."""
        self._errors.add(word=type(error).__name__)

    def refused(self, sentence: str) -> None:
        """A connection was refused; the sentence has an address and a reason of ours."""
        self._refused.add()
        self._note_now("refused", sync=False, why=sentence)
        self._say(sentence)

    def viewed(self, asked: str, session: ReceivingSession, by: str) -> None:
        """A viewer was shown where a study stands, or has had it change its order.

        Viewers look several times a second: what one was shown is written down when it has changed,
        and no more often than every `_SEEN_EVERY_S`, unless it has become exact.
        """
        self._views.add(word=asked)
        seen = session.exact, tuple(volume.whole.at[Quality.VERIFIED] for volume in session.volumes)
        key, now_s = (by, session.inbox.session), time.monotonic()
        before = self._seen.get(key)
        if asked == _LOOK and before is not None:
            at_s, (was_exact, _) = before
            recently = now_s - at_s < _SEEN_EVERY_S and was_exact == session.exact
            if recently or before[1] == seen:
                return
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[key] = now_s, seen
        self._note_now(
            "viewed",
            sync=False,
            **_which(session),
            by=by,
            asked=asked,
            exact=session.exact,
            whole=[_counts(volume.whole) for volume in session.volumes],
        )

    def deleted(self, folder: str, why: str) -> None:
        """A study was taken off the disk. Blocking."""
        self._note_now("deleted", sync=True, folder=folder, why=why)

    def ills(self) -> list[str]:
        """What is wrong now, for the health endpoint."""
        wrong = []
        if self._is_failing:
            wrong.append("the audit log cannot be written to")
        if self._free_bytes() < SPARE_BYTES:
            wrong.append("the disk is full: no study is taken")
        return wrong

    # -- writing ------------------------------------------------------------------------------

    async def _note(self, what: str, **facts: Fact) -> None:
        error: OSError | MedroiError | None = None
        try:
            await self._workers.run(partial(self._audit.note, what, facts))
        except (OSError, MedroiError) as caught:
            error = caught
        self._judge(error)

    def _note_now(self, what: str, *, sync: bool, **facts: Fact) -> None:
        error: OSError | MedroiError | None = None
        try:
            self._audit.note(what, facts, sync=sync)
        except (OSError, MedroiError) as caught:
            error = caught
        self._judge(error)

    def _judge(self, error: OSError | MedroiError | None) -> None:
        if error is not None:
            self._errors.add(word="AuditLog")
            if not self._is_failing:
                self._say(f"nothing is written down in {self._audit.path}: {error}")
        self._is_failing = error is not None

    # -- figures ------------------------------------------------------------------------------

    def _open(self) -> float:
        return sum(1 for _ in self._sessions())

    def _bytes(self) -> float:
        return self._concluded_bytes + sum(each.visits.received_bytes for each in self._sessions())

    def _voxels(self) -> dict[str, float]:
        found = dict.fromkeys((each.word for each in Quality), 0.0)
        for session in self._sessions():
            for volume in session.volumes:
                for name, count in _counts(volume.whole).items():
                    found[name] = found.get(name, 0.0) + count
        return found

    def _free_bytes(self) -> float:
        return float(shutil.disk_usage(self._out).free)


def _which(session: ReceivingSession) -> dict[str, Fact]:
    study = session.manifest.study.hex() if session.manifest else None
    return {"study": study, "session": session.inbox.session.hex(), "peer": session.visits.peer}


def _counts(count: Count) -> dict[str, int]:
    return {"of": count.total, **{each.name.lower(): n for each, n in count.at.items()}}
