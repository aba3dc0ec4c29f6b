from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from protocol import messages as m
from protocol.limits import PROTOCOL_VERSION
from receiver import clinic as clinic_module
from receiver import painting
from receiver import session as sessions
from receiver.clinic import Clinic
from receiver.decode import InlineDecoder
from receiver.log import SessionLog
from receiver.publish import Publisher
from receiver.reception import Reception
from receiver.shelf import Rules, Shelf
from receiver.store import open_volumes
from shared.clock import LoopClock
from shared.errors import ExitCode, TransportClosed
from shared.link import parse_link
from shared.role import Role
from shared.transports.simulated import simulated_pair
from shared.trust.credentials import Credentials
from shared.trust.proof import Claim, Proven
from shared.trust.sites import Site as Paired
from shared.trust.sites import SiteKeys, forget_site, site_folder, store_site
from shared.workers import InlineWorkers
from tests.receiver.studies import PLAN, REGIONS, Peer, Study, send_all, study
from tests.receiver.test_publish import Said
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from receiver.decode import DecodeTask


@pytest.fixture(autouse=True)
def _virtual_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clinic_module, "SystemClock", LoopClock)


class Site:
    """A clinic on virtual time, and the peers that connect to it."""

    def __init__(self, out: Path, *, once: bool = True, **changes: Any) -> None:
        self.said = Said()
        reception = Reception("127.0.0.1", 0, out, once, out / "recv.json", False, False)
        self.reception = replace(reception, **changes)
        self.decoder = InlineDecoder()
        self.clinic = Clinic(self.reception, InlineWorkers(), self.decoder, self.said)
        self.visits = 0

    async def __aenter__(self) -> Site:
        await self.clinic.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.clinic.__aexit__(*error)

    async def visit(
        self, script: Callable[[Peer], Coroutine[Any, Any, None]], proven: Proven | None = None
    ) -> None:
        """One connection, of a key if it has proven one, from its first byte to its last."""
        near, far = simulated_pair(parse_link("rate=100M,rtt=2ms"), self.visits)
        far.proven = proven  # type: ignore[attr-defined]
        self.visits += 1
        peer = Peer(near)

        async def take() -> None:
            await self.clinic.take(far)
            await far.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(take())
            listening = group.create_task(peer.listen())
            playing = group.create_task(script(peer))
            await listening
            playing.cancel()

    @property
    def is_done(self) -> bool:
        return self.clinic._done.done()

    def report(self) -> dict[str, Any]:
        assert self.reception.report is not None
        content: dict[str, Any] = json.loads(self.reception.report.read_text())
        return content


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(main(), limit_s=3600)


def whole(sent: Study) -> Callable[[Peer], Coroutine[Any, Any, None]]:
    return lambda peer: send_all(peer, sent, sent.layers())


async def silence(_peer: Peer) -> None:
    await asyncio.sleep(3600)


async def nonsense(peer: Peer) -> None:
    await peer.transport.send(b"GET / HTTP/1.1\r\n\r\n")


async def hello_only(peer: Peer) -> None:
    await peer.say(m.Hello(PROTOCOL_VERSION, m.Role.SENDER, "x"))
    await peer.hear(m.Hello)
    await peer.transport.close()


async def attached_only(peer: Peer) -> None:
    await peer.attach(bytes(16))
    await peer.transport.close()


async def wrong_version(peer: Peer) -> None:
    await peer.say(m.Hello(99, m.Role.SENDER, "x"))
    await silence(peer)


def inside(folder: Path, pattern: str = "*") -> list[Path]:
    return list(folder.glob(pattern))


GARBAGE = (silence, nonsense, hello_only, attached_only, wrong_version)


def test_one_study_and_it_is_done(tmp_path: Path) -> None:
    async def main() -> None:
        async with Site(tmp_path) as site:
            await site.visit(whole(study()))
            assert await site.clinic.until_done() is ExitCode.OK
            assert site.said.lines[-1].startswith("stored and verified: every voxel is exact, in ")
            assert site.report()["exact"] is True
            assert site.report()["exit_code"] == 0
            folder = tmp_path / study().manifest.study.hex()[:16]
            assert json.loads((folder / "report.json").read_text()) == site.report()

    run(main)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_connections_that_bring_no_study_end_nothing(
    tmp_path: Path, garbage: Callable[[Peer], Coroutine[Any, Any, None]]
) -> None:
    async def main() -> None:
        async with Site(tmp_path) as site:
            await site.visit(garbage)
            assert not site.is_done
            assert site.said.lines[-1].startswith("a connection without a study: ")
            assert not inside(tmp_path)
            await site.visit(whole(study()))
            assert await site.clinic.until_done() is ExitCode.OK

    run(main)


@pytest.mark.parametrize(
    ("last", "code", "words"),
    [
        (m.Farewell(m.Why.STOPPED, "enough"), ExitCode.INTERRUPTED, "the sender left: enough"),
        (m.End(bytes(32)), ExitCode.PEER_REFUSED, "an end that is not the manifest's"),
        (None, ExitCode.INTERRUPTED, "the sender has not come back"),
    ],
)
def test_how_the_one_study_ends_is_how_the_command_ends(
    tmp_path: Path, last: m.Message | None, code: ExitCode, words: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.begin(study().manifest, PLAN)
        await peer.offer(*study().layer(0, "roi0"))
        if last is None:
            await peer.transport.close()
        else:
            await peer.say(last)
            await silence(peer)

    async def main() -> None:
        async with Site(tmp_path) as site:
            await site.visit(script)
            assert await site.clinic.until_done() is code
            assert words in site.said.lines[-1]
            assert site.report()["exit_code"] == int(code)
            assert site.report()["outcome"] == site.said.lines[-1]
            assert not site.report()["exact"]

    run(main)


def test_without_once_it_goes_on_whatever_happens(tmp_path: Path) -> None:
    async def main() -> None:
        async with Site(tmp_path, once=False) as site:
            for number in range(3):
                for script in (*GARBAGE, whole(study(seed=number))):
                    await site.visit(script)
            assert not site.is_done
            assert len(inside(tmp_path, "*/series-1.nii")) == 3

    run(main)


def test_studies_arrive_side_by_side(tmp_path: Path) -> None:
    async def main() -> None:
        async with Site(tmp_path, once=False) as site:
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(site.visit(whole(study(seed=number))))
                    group.create_task(site.visit(GARBAGE[number % 4]))
            assert len(inside(tmp_path, "*/series-1.nii")) == 5

    run(main)


def test_a_discarded_background_is_named_in_the_outcome(tmp_path: Path) -> None:
    plan = replace(PLAN, regions=(*REGIONS[:3], replace(REGIONS[3], discarded=True)))
    sent = study(plan=plan)
    layers = [sent.layer(0, "roi0"), sent.layer(1, "tissue")]

    async def main() -> None:
        async with Site(tmp_path) as site:
            await site.visit(lambda peer: send_all(peer, sent, layers))
            assert await site.clinic.until_done() is ExitCode.OK
            assert "the background was not sent" in site.said.lines[-1]
            assert site.report()["exact"] is False
            assert site.report()["sha256"] is None

    run(main)


def test_a_study_is_not_tidied_away_from_under_a_session_that_is_about_to_open_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new session, and one that comes back to a receiver that was away for months."""
    sent = study()
    rules = Rules(keep_s=86400.0, keep_unfinished_s=86400.0)
    folder = tmp_path / sent.manifest.study.hex()[:16]
    tidied: list[list[tuple[str, str]]] = []

    def aged(site: Site) -> Shelf:
        for path in folder.iterdir():
            os.utime(path, (time.time() - 100 * 86400,) * 2)
        return site.clinic._shelf

    async def some(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*sent.layer(0, "roi0"))
        await peer.hear(m.LayerVerdict)
        await peer.transport.close()

    async def rest(peer: Peer) -> None:
        assert (await peer.attach(sent.manifest.study[:16], 2, accepted=True)).known
        for number, region in enumerate(("tissue", "background"), 1):
            await peer.offer(*sent.layer(number, region))
        await peer.end(sent.manifest)

    async def main() -> None:
        async with Site(tmp_path, rules=rules) as site:
            await site.visit(some)

        def opened(*where: Any) -> Any:
            tidied.append(aged(site).tidy(lambda *_: None))
            return open_volumes(*where)

        monkeypatch.setattr(sessions, "open_volumes", opened)
        async with Site(tmp_path, once=False, rules=rules) as site:
            await asyncio.sleep(1)  # it has tidied
            await site.visit(rest)
            await site.visit(lambda peer: send_all(peer, sent, [], session=b"another session!"))
            await asyncio.sleep(100)
            assert tidied == [[], []]
            assert (folder / "series-1.nii").exists()
            assert len(aged(site).tidy(lambda *_: None)) == 1

    run(main)


def test_whoever_is_forgotten_is_dropped_and_gets_no_other_session(tmp_path: Path) -> None:
    """With a connection that works, and with one that has proven its key and waits."""
    sent = study()
    sites = site_folder(tmp_path / "identity")
    for name in ("lab", "hill"):
        store_site(sites, Paired(name, name[:1].encode() * 32, "", "0" * 8, 0))
    credentials = Credentials(Claim(Role.RECEIVER, 1), SiteKeys(sites, ["lab", "hill"]))
    ended: dict[str, float] = {}

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def visit(
            site: Site, name: str, script: Callable[[Peer], Coroutine[Any, Any, None]]
        ) -> None:
            await site.visit(script, Proven("hill" if name == "hill" else "lab", bytes(32)))
            ended[name] = loop.time()

        async def busy(peer: Peer) -> None:
            await peer.begin(sent.manifest, sent.plan)
            await silence(peer)

        async def late(peer: Peer) -> None:
            await asyncio.sleep(5.01)  # the listener has seen it through just before
            await peer.attach(b"another session!")
            ended["attached"] = loop.time()

        async with Site(tmp_path / "out", once=False, credentials=credentials) as site:
            start_s = loop.time()
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(visit(site, "lab", busy))
                group.create_task(visit(site, "late", late))
                other = group.create_task(visit(site, "hill", silence))
                await asyncio.sleep(5.005)
                assert not ended
                forget_site(sites, "lab")
                await asyncio.sleep(1.5)
                assert set(ended) == {"lab", "late"}
                assert ended["late"] - start_s < 5.1
                assert ended["lab"] - start_s < 6.1
                assert any("its key is forgotten here" in line for line in site.said.lines)
                other.cancel()

    run(main)


# -- one connection a study -----------------------------------------------------------------------


def test_a_newer_connection_of_a_session_goes_on_where_the_old_one_hangs(tmp_path: Path) -> None:
    """And what still comes over the old one is dropped once the new one has brought something."""
    sent = study()
    roi, tissue = sent.layer(0, "roi0"), sent.layer(1, "tissue")
    hung: list[Peer] = []

    async def hanging(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*roi)
        await peer.hear(m.LayerVerdict)
        await peer.say(tissue[0])
        hung.append(peer)
        await silence(peer)

    async def newer(peer: Peer) -> None:
        standing = await peer.attach(sent.manifest.study[:16], 2, accepted=True)
        assert standing.known
        assert (standing.generation, standing.next_number, standing.plans) == (1, 2, (1,))
        assert standing.settled == ((0, 1),)
        assert standing.under_way == (m.Received(1, ()),)
        await peer.hear(m.StageReached)  # said again
        await peer.say(sent.layer(2, "background")[0])
        await asyncio.sleep(1)
        with pytest.raises(TransportClosed):
            await hung[0].send(1, bytes(len(tissue[1])))
        await peer.send(1, tissue[1])
        await peer.send(2, sent.layer(2, "background")[1])
        await peer.end(sent.manifest)

    async def main() -> None:
        async with Site(tmp_path) as site:
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(site.visit(hanging))
                await asyncio.sleep(1)
                await site.visit(newer)
            assert await site.clinic.until_done() is ExitCode.OK

    run(main)


def test_a_newer_session_takes_a_study_over(tmp_path: Path) -> None:
    """The old one hangs; its end is not the end of the command."""
    sent = study()
    ended: list[str] = []

    async def hanging(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*sent.layer(0, "roi0"))
        await peer.hear(m.LayerVerdict)
        await silence(peer)

    async def newer(peer: Peer) -> None:
        accept = await peer.begin(sent.manifest, sent.plan, session=b"another session!")
        assert len(accept.held) == 1  # what the old one proved
        ended.append("taken over")
        for number, region in enumerate(("tissue", "background")):
            await peer.offer(*sent.layer(number, region))
        await peer.end(sent.manifest)

    async def main() -> None:
        async with Site(tmp_path) as site:
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(site.visit(hanging))
                await asyncio.sleep(1)
                await site.visit(newer)
            assert ended == ["taken over"]
            assert await site.clinic.until_done() is ExitCode.OK

    run(main)


def test_of_many_sessions_with_one_study_never_two_have_it(tmp_path: Path) -> None:
    sent = study()
    began: list[int] = []

    def contender(number: int) -> Callable[[Peer], Coroutine[Any, Any, None]]:
        async def script(peer: Peer) -> None:
            await peer.begin(sent.manifest, sent.plan, session=bytes([number]) * 16)
            began.append(number)
            await peer.offer(*sent.layer(0, "roi0"))
            await silence(peer)

        return script

    async def main() -> None:
        async with Site(tmp_path, once=False) as site:
            having = 0
            claim, conclude = site.clinic._claim, site.clinic._conclude

            async def claimed(attended: Any, study: bytes) -> None:
                nonlocal having
                await claim(attended, study)
                having += 1
                assert having == 1

            def concluded(attended: Any, outcome: str, code: ExitCode) -> None:
                nonlocal having
                having -= site.clinic._current.get(sent.manifest.study) is attended
                conclude(attended, outcome, code)

            site.clinic._claim = claimed  # type: ignore[method-assign]
            site.clinic._conclude = concluded  # type: ignore[method-assign]
            async with asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(site.visit(contender(number)))
                await asyncio.sleep(60)
                await site.visit(whole(sent))
            assert having == 0
            assert began
            assert (tmp_path / sent.manifest.study.hex()[:16] / "series-1.nii").exists()

    run(main)


# -- sessions that end while connections are there ------------------------------------------------


def fails_from(monkeypatch: pytest.MonkeyPatch, append: int) -> None:
    """The disk takes no record of any log from that append on, once."""
    orderly, appends = SessionLog.append, 0

    def failing(log: SessionLog, records: Any) -> None:
        nonlocal appends
        appends += 1
        if appends == append:
            raise OSError(28, "No space left on device")
        orderly(log, records)

    monkeypatch.setattr(SessionLog, "append", failing)


def test_a_connection_that_waits_for_room_is_let_go_when_its_session_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = study()
    small, large = sent.layer(0, "roi0"), sent.layer(1, "background")
    monkeypatch.setattr(painting, "_BACKLOG_BYTES", len(small[1]))

    class Stuck(InlineDecoder):
        count = 1

        async def decode(self, task: DecodeTask) -> Any:
            await asyncio.sleep(3600)

    async def script(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*small)
        await asyncio.sleep(1)
        fails_from(monkeypatch, 1)
        await peer.offer(*large)
        await silence(peer)

    async def main() -> None:
        site = Site(tmp_path, once=False)
        site.clinic._decoder = Stuck()
        async with site, asyncio.timeout(60):
            await site.visit(script)  # it would never return
            await asyncio.sleep(1)
            assert "No space left" in site.said.lines[-1]
            assert not any("waiting for the sender" in line for line in site.said.lines)

    run(main)


def test_who_comes_while_a_session_ends_goes_on_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's pictures take a while, and it would answer nobody any more."""
    sent = study()
    drain = Publisher.drain

    async def slow(publisher: Publisher) -> None:
        await asyncio.sleep(10)
        await drain(publisher)

    monkeypatch.setattr(Publisher, "drain", slow)

    async def first(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*sent.layer(0, "roi0"))
        await peer.hear(m.LayerVerdict)
        fails_from(monkeypatch, 1)
        await peer.offer(*sent.layer(1, "tissue"))
        await silence(peer)

    async def second(peer: Peer) -> None:
        standing = await peer.attach(sent.manifest.study[:16], 2, accepted=True)
        assert standing.settled == ((0, 1),)
        await peer.offer(*sent.layer(2, "tissue"))
        await peer.offer(*sent.layer(3, "background"))
        await peer.hear(m.LayerVerdict, 2)
        await peer.end(sent.manifest)

    async def main() -> None:
        async with Site(tmp_path, once=False) as site, asyncio.timeout(60):
            await site.visit(first)
            assert site.clinic._attended
            await site.visit(second)
            await asyncio.sleep(15)
            assert site.said.lines[-1].startswith("stored and verified")

    run(main)


def test_a_log_that_cannot_be_opened_ends_one_connection_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been tidied away meanwhile, or there are too many open files."""
    sent = study()

    async def broken(peer: Peer) -> None:
        await peer.begin(sent.manifest, sent.plan)
        await peer.offer(*sent.layer(0, "roi0"))
        await peer.hear(m.LayerVerdict)
        await peer.transport.close()

    async def back(peer: Peer) -> None:
        await peer.say(
            m.Hello(PROTOCOL_VERSION, m.Role.SENDER, "x"),
            m.Attach(sent.manifest.study[:16], 2, accepted=True),
        )
        farewell = await peer.hear(m.Farewell)
        told = "its disk does not take the study: Too many open files"
        assert farewell == m.Farewell(m.Why.STOPPED, told)

    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    async def main() -> None:
        async with Site(tmp_path, once=False) as site:
            await site.visit(broken)
            await asyncio.sleep(1000)
            with monkeypatch.context() as patch:
                patch.setattr(SessionLog, "reopen", fail)
                await site.visit(back)
            with monkeypatch.context() as patch:  # and the log is not left open, or this test fails
                patch.setattr(sessions, "open_volumes", fail)
                await site.visit(back)
            await site.visit(whole(sent))
            assert site.said.lines[-1].startswith("stored and verified")

    run(main)


# -- what is left behind --------------------------------------------------------------------------


def test_a_report_that_cannot_be_written_is_said_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()

    async def main() -> None:
        async with Site(tmp_path, report=tmp_path / "taken") as site:
            await site.visit(whole(study()))
            assert await site.clinic.until_done() is ExitCode.OK
            assert site.said.lines[-1].startswith(f"no report in {tmp_path / 'taken'}")

    run(main)


def test_a_study_of_which_nothing_came_leaves_no_folder_for_a_report(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.begin(study().manifest, PLAN)
        await peer.transport.close()

    async def main() -> None:
        async with Site(tmp_path, once=False) as site:
            await site.visit(script)
        assert inside(tmp_path) == [tmp_path / "recv.json"]

    run(main)


def test_nothing_is_written_through_a_link_in_the_out_folder(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / study().manifest.study.hex()[:16]).symlink_to(elsewhere)

    async def script(peer: Peer) -> None:
        await peer.attach()
        await peer.say(study().manifest)
        await peer.hear(m.Refuse)

    async def main() -> None:
        async with Site(tmp_path) as site:
            await site.visit(script)
            assert await site.clinic.until_done() is ExitCode.INPUT_REFUSED
            assert not inside(elsewhere)

    run(main)


def test_being_stopped_is_written_down(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.begin(study().manifest, PLAN)
        await peer.offer(*study().layer(0, "roi0"))
        await silence(peer)

    async def main() -> None:
        async with asyncio.TaskGroup() as group, Site(tmp_path) as site:
            group.create_task(site.visit(script))
            await asyncio.sleep(1)
        assert site.report()["outcome"] == "the receiver was stopped"
        assert site.report()["exit_code"] == int(ExitCode.INTERRUPTED)

    run(main)


def test_a_fault_of_our_own_is_not_hidden(tmp_path: Path) -> None:
    class Broken(InlineDecoder):
        async def decode(self, task: DecodeTask) -> Any:
            raise ZeroDivisionError(task.codec)

    async def main() -> None:
        site = Site(tmp_path)
        site.clinic._decoder = Broken()
        with pytest.raises(ExceptionGroup) as caught:
            async with site:
                await site.visit(whole(study()))
        assert caught.group_contains(ZeroDivisionError)
        assert site.report()["outcome"] == "a fault of medroi itself"
        assert site.report()["exit_code"] == int(ExitCode.UNEXPECTED)

    run(main)


def test_progress_counts_all_series_and_nothing_before_it_has_come(tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []

    class Seeing(Said):
        def show(self, progress: Any, now_s: float) -> None:
            seen.append((progress.roi_fraction, progress.whole_fraction))

    async def script(peer: Peer) -> None:
        sent = study()
        await peer.attach()
        await peer.say(sent.manifest)
        await asyncio.sleep(1)
        await peer.say(sent.plan)
        await asyncio.sleep(1)
        for number, region in enumerate(("roi0", "tissue", "background")):
            await peer.offer(*sent.layer(number, region))
            await asyncio.sleep(1)
        await peer.end(sent.manifest)

    async def main() -> None:
        async with Site(tmp_path) as site:
            site.clinic._display = Seeing()
            await site.visit(script)

    run(main)
    shares = [whole for _, whole in seen]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert {0, 32 / 480, 192 / 480, 1} == set(shares)
