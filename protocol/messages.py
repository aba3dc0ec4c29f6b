"""Every control message, as data. `payloads` turns them into bytes and back.

    sender                                receiver
    Hello            ------------------>
                     <------------------  Hello
    Attach           ------------------>
                     <------------------  Standing
    Manifest, Plan   ------------------>  (of a session that the receiver does not know)
    LayerOffer,      ------------------>
      fragments      <------------------  Accept | Refuse
                     <------------------  Ack, Stored, LayerVerdict, StageReached
                     <------------------  Focus, Pause, Resume, Again, Want
    Withdraw         ------------------>
    ChannelOffer     ------------------>  (either may go unused: it is for another path)
                     <------------------  ChannelAnswer
    End              ------------------>
                     <------------------  Done
    Farewell         <----------------->  (either end, at any time, with the reason)

Fragments, the pieces of encodings, are not messages: `frames` has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.role import Role as Role  # noqa: TC001  (whoever has the messages has their words)

if TYPE_CHECKING:
    from shared.geometry import Box
    from shared.header import SeriesHeader
    from shared.intensity import PreviewWindow, SampleMap
    from shared.layer import LayerKey, Region


HEADERS_REGION = "headers"
"""The region name of headers layers, which own no voxel."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of each end."""

    version: int
    role: Role
    software: str
    """Name and version, such as ``medroi 0.1.0``; for logs."""


@dataclass(frozen=True, slots=True)
class Attach:
    """This connection is for that session: a new one, or one that an earlier connection began."""

    session: bytes
    """16 random bytes, the sender's."""
    generation: int
    """Grows with every connection of a session; the largest is the current one."""
    accepted: bool
    """The sender has had the receiver's `Accept`; otherwise it wants to hear it, once more."""


@dataclass(frozen=True, slots=True)
class Received:
    """Which bytes of an encoding the receiver has."""

    number: int
    ranges: tuple[tuple[int, int], ...]
    """Half-open, ascending."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a session stands at the receiver: all that the sender may have missed of it.

    Marks, foci and a pause are said again behind it, as at first.
    """

    known: bool
    """False: the session has to begin with its manifest; the other fields say nothing then."""
    finished: bool
    """The study is whole and the receipt was given: only its end is to be said once more."""
    generation: int
    """The largest that was attached before; one that is not larger is not the current one."""
    next_number: int
    """Above the numbers of all encodings ever offered."""
    plans: tuple[int, ...]
    """The version of each series' plan; 0 for none."""
    settled: tuple[tuple[int, int], ...]
    """Half-open ranges of the numbers of encodings that need not be sent any further."""
    wanted: tuple[int, ...]
    """Encodings that did not prove right: each has to come in another form."""
    under_way: tuple[Received, ...]


@dataclass(frozen=True, slots=True)
class SeriesManifest:
    """One series: what it is, how its values are coded, and the digest that will prove it."""

    header: SeriesHeader
    samples: SampleMap
    window: PreviewWindow
    value_range: tuple[float, float]
    """Smallest and largest finite stored value: what PSNR is measured over."""
    digest: bytes
    """`shared.volume.volume_digest`, 32 bytes."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is to come: all series of a study, in the order in which they are sent."""

    study: bytes
    """SHA-256 over the digests of the series, 32 bytes: the study's name at both ends."""
    series: tuple[SeriesManifest, ...]


@dataclass(frozen=True, slots=True)
class Accept:
    """The receiver takes the study, and says what it has of it from an earlier session."""

    held: tuple[bytes, ...]
    """Voxel digests of layers that are verified already; they need not be sent again."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The receiver does not take the study."""

    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The regions of one series. Append-only: a higher version repeats and extends the lower."""

    series: int
    version: int
    regions: tuple[Region, ...]
    record: bytes
    """MedROI's 54-byte record of the tissue box, or empty."""


@dataclass(frozen=True, slots=True)
class LayerOffer:
    """One encoding that is about to be sent: what it is of, how to decode it, what proves it."""

    number: int
    """Fragments name it; no two encodings of a session share one."""
    key: LayerKey
    box: Box | None
    """The voxels it covers; None for a headers layer."""
    owned_voxels: int
    """How many of them it owns; 0 for a headers layer."""
    codec: str
    settings: tuple[tuple[str, int], ...]
    """The codec's settings, by name, ascending."""
    size_bytes: int
    decoded_bytes: int
    """Bytes of a headers layer once decoded; 0 for voxels, whose box says it."""
    chunk_digests: bytes
    """SHA-256 of each chunk of 64 KiB, one behind the other; their SHA-256 names the encoding."""
    voxel_digest: bytes
    """`shared.volume.region_digest` of an exact layer's voxels, or SHA-256 of a headers layer's
    decoded bytes; empty for a preview."""
    max_error: float
    """Largest absolute error, stored units: of a preview measured on the decoded bytes, of a
    BOUNDED layer guaranteed; else 0."""
    base: int | None = None
    """The encoding of a BOUNDED layer of the same box that this one builds on: who decodes it needs
    that one's bytes as well. None for one that stands by itself."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The sender will not complete this encoding."""

    number: int


@dataclass(frozen=True, slots=True)
class Ack:
    """What has arrived. Feeds the sender's window; says nothing of what is stored."""

    received_bytes: int
    """All frame bytes received so far in this session, headers included."""
    echo_us: int
    """The timestamp of the newest frame counted."""
    held_us: int
    """How long that frame waited for this acknowledgement."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes that are on the receiver's disk, synced, since this was last said: they survive a power
    cut, and are never sent again."""

    parts: tuple[Received, ...]


class Verdict(StrEnum):
    """What became of a layer at the receiver."""

    SHOWN = "shown"
    """A preview is painted."""
    VERIFIED = "verified"
    """Its voxels have the sender's digest and are painted."""
    HELD = "held"
    """Every voxel it owns was verified before; the rest of it need not come."""
    FAILED = "failed"
    """A preview that did not decode; the exact layer will come. (Of an exact layer the receiver
    asks for another encoding, by `Want`.)"""


@dataclass(frozen=True, slots=True)
class LayerVerdict:
    """What became of one encoding."""

    number: int
    verdict: Verdict


class Mark(StrEnum):
    """The moments of a transfer that people wait for; the words of every report."""

    CONNECTED = "connected"
    ROI_PREVIEW = "roi_preview"
    ROI_EXACT = "roi_exact"
    WHOLE_PREVIEW = "whole_preview"
    WHOLE_EXACT = "whole_exact"


@dataclass(frozen=True, slots=True)
class StageReached:
    """A mark that the receiver's volume has reached, after verification."""

    series: int
    mark: Mark


@dataclass(frozen=True, slots=True)
class Focus:
    """The reader looks here: layers that meet the box go first, the smallest rank foremost."""

    series: int
    box: Box
    rank: int


@dataclass(frozen=True, slots=True)
class Pause:
    """The receiver asks for no more fragments for now."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The receiver takes fragments again."""


@dataclass(frozen=True, slots=True)
class Again:
    """A chunk whose hash was wrong: send these bytes of the encoding once more."""

    number: int
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Want:
    """Send this layer in another encoding: the one that came did not prove right."""

    number: int


@dataclass(frozen=True, slots=True)
class ChannelOffer:
    """The sender offers a WebRTC data channel, another path to the same receiver. Nothing of a
    session is in it: a connection over the channel begins with a hello, like any other."""

    number: int
    """Of this connection's offers; the answer repeats it."""
    secret: bytes = field(repr=False)
    """32 random bytes, which both ends prove on the channel."""
    sdp: bytes


@dataclass(frozen=True, slots=True)
class ChannelAnswer:
    """What the receiver says to an offered channel."""

    number: int
    sdp: bytes
    """Empty: there will be no channel."""
    reason: str
    """Why there will be none."""


@dataclass(frozen=True, slots=True)
class End:
    """Everything of the plan has been sent."""

    study: bytes
    """The manifest's study digest, once more."""


@dataclass(frozen=True, slots=True)
class Done:
    """The rebuilt study is on disk, synced, and was hashed from there."""

    study: bytes
    exact: bool
    """Every voxel of every series is VERIFIED and every series has the manifest's digest."""


class Why(StrEnum):
    """Why an end leaves before the study is done."""

    STOPPED = "stopped"
    """It was told to, or has nothing to send; the study can be resumed."""
    FAULT = "fault"
    """The other end broke the protocol."""
    INTEGRITY = "integrity"
    """Rebuilt voxels do not have the digest that was declared."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """This end leaves before the study is done."""

    why: Why
    reason: str


Message = (
    Hello
    | Attach
    | Standing
    | Manifest
    | Accept
    | Refuse
    | Plan
    | LayerOffer
    | Withdraw
    | Ack
    | Stored
    | LayerVerdict
    | StageReached
    | Focus
    | Pause
    | Resume
    | Again
    | Want
    | ChannelOffer
    | ChannelAnswer
    | End
    | Done
    | Farewell
)
Answer = (
    Stored | LayerVerdict | StageReached | Focus | Pause | Resume | Again | Want | ChannelAnswer
)
"""What a receiver says of its own accord while a study comes."""
