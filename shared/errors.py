"""Every error, one family per owner of the fault, and the exit code that each family ends with.

    MedroiError
    ├── SettingsError            the user: a flag, an address, a name              exit 2
    ├── InputError               the file: not ours to send, or damaged            exit 3
    │   └── DiskError            the disk does not take it; there may be room later
    ├── ProtocolError                                                              exit 4
    │   ├── LocalProtocolError   our own code called a connection out of turn
    │   └── RemoteProtocolError  the peer broke the protocol or its limits
    │       └── DamagedFrame     bytes that are no frame: a line's fault, or a stranger's
    ├── PeerRefused              the peer said no, and why                         exit 4
    ├── AuthenticationError      the peer did not prove who it is                  exit 4
    ├── TransportClosed          the link went away; the study can be resumed      exit 5
    ├── CodecError               bytes that do not decode to what was declared     exit 6
    └── IntegrityError           voxels that are not the ones that were sent       exit 6

An error carries fields; ``str(error)`` is the one sentence a user reads: what was expected, what
came, where.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a command's exit status says."""

    OK = 0
    """Stored and verified at the clinic."""
    UNEXPECTED = 1
    """A fault of medroi itself."""
    USAGE = 2
    INPUT_REFUSED = 3
    PEER_REFUSED = 4
    INTERRUPTED = 5
    """Interrupted; what has arrived is kept and the same command resumes."""
    INTEGRITY = 6


class MedroiError(Exception):
    """The root of every error this project raises on purpose."""

    exit_code: ClassVar[ExitCode] = ExitCode.UNEXPECTED


class SettingsError(MedroiError):
    """A setting that cannot be used, such as a flag, an address or a codec's name."""

    exit_code = ExitCode.USAGE


class InputError(MedroiError):
    """A file or folder that is not sent: ``where`` names it, ``why`` is the reason."""

    exit_code = ExitCode.INPUT_REFUSED

    def __init__(self, where: object, why: str) -> None:
        super().__init__(where, why)
        self.where = str(where)
        self.why = why

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


class DiskError(InputError):
    """A disk of this end's that does not take what has come. ``words`` name no file: the peer may
    hear them."""

    def __init__(self, where: object, words: str) -> None:
        super().__init__(where, f"the study is not taken: {words}")
        self.words = words


class ProtocolError(MedroiError):
    """The protocol was broken, by us or by the peer."""

    exit_code = ExitCode.PEER_REFUSED


class LocalProtocolError(ProtocolError):
    """Our own code asked a connection for something its state does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol does not allow."""


class DamagedFrame(RemoteProtocolError):
    """Bytes that are no whole frame. From a peer whose frames were good before, it was the line:
    the session goes on over another."""


class PeerRefused(MedroiError):
    """The peer declined; its reason is the message."""

    exit_code = ExitCode.PEER_REFUSED


class AuthenticationError(MedroiError):
    """The peer is not who it should be: another certificate, or no proof of the shared key.

    Nothing of a study has left. To dial again by itself is safe, and is seldom of use.
    """

    exit_code = ExitCode.PEER_REFUSED


class TransportClosed(MedroiError):
    """The transport is gone: no more frames go out or come in."""

    exit_code = ExitCode.INTERRUPTED


class CodecError(MedroiError):
    """An encoding that its codec cannot make, or that does not decode to what was declared."""

    exit_code = ExitCode.INTEGRITY


class IntegrityError(MedroiError):
    """Rebuilt voxels whose digest is not the one that the sender declared."""

    exit_code = ExitCode.INTEGRITY
