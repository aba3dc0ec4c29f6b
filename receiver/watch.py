"""Who looks on while a study arrives: screen, pictures, reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from protocol.messages import Mark
    from receiver.session import ReceivingSession


class Watcher(Protocol):
    """Is told of a session's moments. What takes long goes elsewhere: the session waits for it."""

    async def began(self, session: ReceivingSession) -> None:
        """The manifest has come and is accepted."""
        ...

    async def reached(self, session: ReceivingSession, series: int, mark: Mark) -> None:
        """A series has reached a mark. Nothing is painted until this returns."""
        ...

    async def demoted(self, session: ReceivingSession, series: int, layers: int) -> None:
        """Layers of a series were proven and are not what they were: they come again."""
        ...

    async def ended(self, session: ReceivingSession) -> None:
        """The study is on disk; the receipt goes out when this returns."""
        ...


class NoWatcher:
    """Looks away."""

    async def began(self, session: ReceivingSession) -> None:
        """See `Watcher`."""

    async def reached(self, session: ReceivingSession, series: int, mark: Mark) -> None:
        """See `Watcher`."""

    async def demoted(self, session: ReceivingSession, series: int, layers: int) -> None:
        """See `Watcher`."""

    async def ended(self, session: ReceivingSession) -> None:
        """See `Watcher`."""


class Both:
    """Two who look on, one after the other."""

    def __init__(self, first: Watcher, second: Watcher) -> None:
        self._watchers = first, second

    async def began(self, session: ReceivingSession) -> None:
        """See `Watcher`."""
        for watcher in self._watchers:
            await watcher.began(session)

    async def reached(self, session: ReceivingSession, series: int, mark: Mark) -> None:
        """See `Watcher`."""
        for watcher in self._watchers:
            await watcher.reached(session, series, mark)

    async def demoted(self, session: ReceivingSession, series: int, layers: int) -> None:
        """See `Watcher`."""
        for watcher in self._watchers:
            await watcher.demoted(session, series, layers)

    async def ended(self, session: ReceivingSession) -> None:
        """See `Watcher`."""
        for watcher in self._watchers:
            await watcher.ended(session)
