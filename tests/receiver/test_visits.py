from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from protocol import messages as m
from receiver.visits import Visits
from shared.errors import TransportClosed

if TYPE_CHECKING:
    from receiver.visit import Visit
    from shared.errors import MedroiError

STATS = object()


class Line:
    """A connection that writes down what is done to it."""

    def __init__(self, generation: int, *, key: str | None = None, received: int = 0) -> None:
        self.generation = generation
        self.connection = SimpleNamespace(received_bytes=received)
        self.transport = SimpleNamespace(stats=lambda: STATS)
        if key is not None:
            self.transport.proven = SimpleNamespace(key_name=key)
        self.done: list[object] = []

    def retire(self) -> None:
        self.done.append("retired")

    def say(self, message: m.Message) -> None:
        self.done.append(message)

    def leave(self, error: MedroiError | None) -> None:
        self.done.append(error)

    async def last_words(self) -> None:
        self.done.append("closed")


def joined(*lines: Line) -> Visits:
    visits = Visits()
    for line in lines:
        visits.join(cast("Visit", line))
    return visits


def test_the_newest_that_has_brought_anything_has_the_session() -> None:
    old, new = Line(1), Line(2)
    visits = joined(old, new)
    assert not visits.is_late(cast("Visit", old))  # the new one may be no better
    visits.go_with(cast("Visit", new))
    assert old.done == ["retired"]
    assert new.done == []
    assert visits.is_late(cast("Visit", old))
    assert not visits.is_late(cast("Visit", new))


def test_a_connection_that_goes_on_retires_nobody() -> None:
    old, new = Line(1), Line(2)
    visits = joined(old, new)
    visits.go_with(cast("Visit", old))
    visits.go_with(cast("Visit", old))
    assert new.done == ["retired"]  # once: what it brings now is of a generation not met before


def test_bytes_of_connections_that_have_left_count() -> None:
    old, new = Line(1, received=100), Line(2, received=20)
    visits = joined(old, new)
    visits.leave(cast("Visit", old))
    assert visits.there == [cast("Visit", new)]
    assert visits.received_bytes == 120
    assert visits.stats is STATS


def test_a_data_channel_leaves_the_peers_name_as_it_was_proven() -> None:
    assert joined().peer is None
    assert joined(Line(1, key="lab"), Line(2)).peer == "lab"


def test_every_connection_hears_and_all_are_parted_with() -> None:
    lines, gone = [Line(1), Line(2)], TransportClosed("gone")
    visits, said = joined(*lines), m.Want(3)
    visits.say(said)
    asyncio.run(visits.part(gone))
    assert [line.done for line in lines] == [[said, gone, "closed"]] * 2


def test_why_they_are_parted_with_is_settled_before_any_is_waited_for() -> None:
    class Dead(Line):
        async def last_words(self) -> None:
            self.done.append(list(other.done))

    gone = TransportClosed("gone")
    dead, other = Dead(1), Line(2)
    asyncio.run(joined(dead, other).part(gone))
    assert dead.done == [gone, [gone]]
