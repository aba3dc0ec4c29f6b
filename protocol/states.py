"""The states of a session and the one table of what may happen in which.

A missing entry *is* the protocol error: of the peer, if a message came out of turn, or of our own
code, if a call did. Nothing else in this package changes a state.
"""

from __future__ import annotations

from enum import Enum

from protocol import messages as m
from shared.errors import LocalProtocolError, RemoteProtocolError


class State(Enum):
    """Where a session stands; the same words at both ends."""

    NEW = "new"
    GREETING = "greeting"
    """Our hello is out, or due."""
    CALLING = "calling"
    """We have said what we want before the peer has greeted."""
    READY = "ready"
    """Both have greeted."""
    ATTACHED = "attached"
    """It is known of which session this connection is, and not yet where that stands."""
    OFFERED = "offered"
    """The manifest is out or in, and not yet answered; layers may already flow."""
    STREAMING = "streaming"
    ENDING = "ending"
    """The end is out or in; only the receipt is missing."""
    DONE = "done"
    CLOSED = "closed"
    """One end has left."""


class Act(Enum):
    """What our own code asks of a connection."""

    GREET = "greet"
    ATTACH = "attach"
    STAND = "say where a session stands"
    GO_ON = "go on with a session"
    OFFER = "offer a manifest"
    PLAN = "send a plan"
    END = "end"
    ACCEPT = "accept"
    REFUSE = "refuse"
    ANSWER = "answer"
    """Acknowledge, judge a layer, report a stage, ask for something."""
    SIGNAL = "offer a channel"
    FINISH = "finish"
    LEAVE = "leave"


Cause = Act | type[m.Message]
Table = dict[tuple[State, Cause], State]

_OPEN = (
    State.GREETING,
    State.CALLING,
    State.READY,
    State.ATTACHED,
    State.OFFERED,
    State.STREAMING,
    State.ENDING,
)

_GREETED = (State.READY, State.ATTACHED, State.OFFERED, State.STREAMING, State.ENDING)


def _stay(states: tuple[State, ...], causes: tuple[Cause, ...]) -> Table:
    return {(state, cause): state for state in states for cause in causes}


_LEAVING: Table = {
    **{(state, cause): State.CLOSED for state in (*_OPEN, State.NEW) for cause in (Act.LEAVE,)},
    **{(state, m.Farewell): State.CLOSED for state in (*_OPEN, State.NEW)},
}

SENDER: Table = {
    (State.NEW, Act.GREET): State.GREETING,
    (State.GREETING, m.Hello): State.READY,
    (State.GREETING, Act.ATTACH): State.CALLING,
    (State.CALLING, m.Hello): State.ATTACHED,
    (State.READY, Act.ATTACH): State.ATTACHED,
    (State.ATTACHED, Act.ATTACH): State.ATTACHED,
    (State.ATTACHED, Act.OFFER): State.OFFERED,
    (State.ATTACHED, Act.GO_ON): State.STREAMING,
    (State.OFFERED, m.Accept): State.STREAMING,
    (State.STREAMING, m.Accept): State.STREAMING,
    (State.OFFERED, m.Refuse): State.CLOSED,
    (State.STREAMING, Act.END): State.ENDING,
    (State.ENDING, m.Accept): State.ENDING,
    (State.ENDING, m.Done): State.DONE,
    **_stay((State.OFFERED, State.STREAMING), (Act.PLAN,)),
    **_stay(_GREETED, (Act.SIGNAL, m.ChannelAnswer)),
    (State.DONE, m.ChannelAnswer): State.DONE,
    **_stay((State.ATTACHED, State.OFFERED), (m.Standing,)),
    **_stay((State.GREETING, State.READY, State.ATTACHED, State.DONE), (m.Ack,)),
    **_stay(
        (State.OFFERED, State.STREAMING, State.ENDING),
        (
            m.Ack,
            m.Stored,
            m.LayerVerdict,
            m.StageReached,
            m.Focus,
            m.Pause,
            m.Resume,
            m.Again,
            m.Want,
        ),
    ),
    **_LEAVING,
}

RECEIVER: Table = {
    (State.NEW, m.Hello): State.GREETING,
    (State.GREETING, Act.GREET): State.READY,
    (State.READY, m.Attach): State.ATTACHED,
    (State.ATTACHED, m.Attach): State.ATTACHED,
    (State.ATTACHED, Act.STAND): State.ATTACHED,
    (State.ATTACHED, Act.GO_ON): State.STREAMING,
    (State.ATTACHED, m.Manifest): State.OFFERED,
    (State.OFFERED, Act.ACCEPT): State.STREAMING,
    (State.OFFERED, Act.REFUSE): State.CLOSED,
    (State.STREAMING, m.End): State.ENDING,
    (State.ENDING, Act.FINISH): State.DONE,
    **_stay((State.OFFERED, State.STREAMING), (m.Plan, m.LayerOffer, m.Withdraw)),
    **_stay(_GREETED, (Act.ANSWER, m.ChannelOffer)),
    (State.DONE, m.ChannelOffer): State.DONE,
    **_LEAVING,
}


def advance(table: Table, state: State, cause: Cause) -> State:
    """The state that follows.

    Raises:
        LocalProtocolError, RemoteProtocolError: the table has no entry for it.
    """
    following = table.get((state, cause))
    if following is not None:
        return following
    if isinstance(cause, Act):
        raise LocalProtocolError(f"cannot {cause.value} while {state.value}")
    raise RemoteProtocolError(f"{cause.__name__} while {state.value}")
