"""Farewells: what an error here tells the peer, and what a peer's farewell means here."""

from __future__ import annotations

from typing import assert_never

from protocol import messages as m
from shared.errors import (
    DiskError,
    IntegrityError,
    MedroiError,
    PeerRefused,
    RemoteProtocolError,
    TransportClosed,
)


def farewell_of(error: BaseException | None, end: m.Role) -> tuple[m.Why, str]:
    """What to tell the peer when this end leaves because of an error, or of none (told to stop).

    Only faults of the peer are told in full: our own errors may name files or patients. A disk's
    words do not.
    """
    match error:
        case RemoteProtocolError():
            return m.Why.FAULT, str(error)
        case IntegrityError():
            return m.Why.INTEGRITY, str(error)
        case DiskError():
            return m.Why.STOPPED, f"its disk does not take the study: {error.words}"
        case None:
            return m.Why.STOPPED, f"the {end.value} was stopped"
        case _:
            return m.Why.STOPPED, f"the {end.value} cannot go on"


def error_of(farewell: m.Farewell, peer: m.Role) -> MedroiError:
    """The error that a peer's farewell is for this end."""
    match farewell.why:
        case m.Why.STOPPED:
            return TransportClosed(f"the {peer.value} left: {farewell.reason}")
        case m.Why.FAULT:
            return PeerRefused(f"the {peer.value} ended the session: {farewell.reason}")
        case m.Why.INTEGRITY:
            return IntegrityError(f"the {peer.value} ended the session: {farewell.reason}")
        case _:
            assert_never(farewell.why)
