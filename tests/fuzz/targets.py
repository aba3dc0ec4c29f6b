"""Every parser of what comes from outside, as a function of bytes that may only raise what it says.

A target takes bytes, gives them to the real code, wrapped the way they travel where a checksum
would stop all that is deeper, and lets nothing but documented errors through. `run_target` knows
which these are.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from protocol import limits
from protocol import messages as m
from protocol.frames import FrameKind, decode_frame, encode_frame, unpack_fragment
from protocol.inbox import Inbox
from protocol.outbox import Outbox
from protocol.payloads import pack_message, unpack_message
from protocol.receiving import ReceivingConnection
from protocol.sending import SendingConnection
from protocol.stages import UNFOCUSED, Priority
from receiver.journal import read_entries
from receiver.log import SessionLog
from receiver.previews import read_previews
from receiver.replay import replay
from shared.codecs.parts import pack_parts
from shared.codecs.registry import CODECS
from shared.errors import MedroiError
from shared.geometry import Box
from shared.mask import unpack_mask
from shared.recordlog import Record, RecordLog
from shared.role import Role
from shared.trust.keys import SharedKey
from shared.trust.proof import Claim, DiallingProof, ListeningProof
from tests.protocol import examples

Target = Callable[[bytes], None]

SHAPE = (2, 24, 20)
"""Of what codecs are asked for."""
KEY = SharedKey("ours", bytes(range(32)))
NONCE, BINDING = b"n" * 32, b"b" * 32
SALT, NOW_S = b"s" * 32, 1_800_000_000
SESSION = bytes(range(16))
LOG_HEAD = b"medroi-log-2" + SESSION
SPOOL_HEAD = b"medroi-spool-2" + SESSION
HELLO = m.Hello(limits.PROTOCOL_VERSION, m.Role.SENDER, "x")
ATTACH = m.Attach(SESSION, 1, False)

_FOLDER = Path(tempfile.mkdtemp(prefix="medroi-fuzz-", dir=os.environ.get("MEDROI_FUZZ_TMP")))


def run_target(name: str, content: bytes) -> str:
    """Give bytes to a target; the name of the documented error that came of it, or ``fine``.

    Whatever is not documented comes through.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            TARGETS[name](content)
        except MedroiError as error:
            raised = error
        else:
            return "fine"
    assert str(raised), "an error without a sentence"
    return type(raised).__name__


def _file(name: str, content: bytes) -> Path:
    path = _FOLDER / name
    path.write_bytes(content)
    return path


# -- what a peer sends ----------------------------------------------------------------------------


def frames(content: bytes) -> None:
    frame = decode_frame(content)
    if frame.kind is FrameKind.FRAGMENT:
        unpack_fragment(frame.payload)


def messages(content: bytes) -> None:
    # As bytes: an affine of a NaN is allowed to come, and NaN is not equal to itself.
    packed = pack_message(unpack_message(content))
    assert pack_message(unpack_message(packed)) == packed


def _control(message: m.Message) -> bytes:
    return encode_frame(FrameKind.CONTROL, 0, pack_message(message))


def receiving(content: bytes) -> None:
    """A receiver in the middle of a session; the first byte says how far it has come."""
    made = ReceivingConnection(software="test")
    made.receive_frame(_control(HELLO), 0.0)
    made.greet()
    made.receive_frame(_control(ATTACH), 0.0)
    made.join(Inbox(SESSION), ATTACH)
    if content[:1] > b"\x40":
        made.receive_frame(_control(examples.MANIFEST), 0.0)
        made.accept(())
    if content[:1] > b"\x80":
        made.receive_frame(_control(examples.PLAN), 0.0)
    if content[:1] > b"\xc0":
        made.receive_frame(_control(examples.offer()), 0.0)
    kind = FrameKind.FRAGMENT if content[1:2] > b"\x80" else FrameKind.CONTROL
    made.receive_frame(encode_frame(kind, 0, content[2:]), 0.0)
    while made.next_frame(1.0) is not None:
        pass


def sending(content: bytes) -> None:
    """A sender in the middle of a session."""
    outbox = Outbox()
    box = Box.whole((1, 4, 4))
    offer = examples.offer(0, region="background", box=box, owned=16)
    outbox.put(offer, examples.ENCODING, Priority(UNFOCUSED, 0, 0, 0, 0, 0))
    made = SendingConnection(software="test")
    made.greet()
    made.receive_frame(_control(replace(HELLO, role=m.Role.RECEIVER)), 0.0)
    made.attach(SESSION, 1, accepted=False)
    made.offer(examples.MANIFEST, outbox)
    made.plan(examples.PLAN)
    if content[:1] > b"\x80":
        made.receive_frame(_control(m.Accept(())), 0.0)
    for _ in range(6):
        made.next_frame(0.0)
    made.receive_frame(encode_frame(FrameKind.CONTROL, 0, content[1:]), 0.0)
    while made.next_frame(1.0) is not None:
        pass


# -- what a stranger sends ------------------------------------------------------------------------


def hello(content: bytes) -> None:
    """The three messages of the proof; the first byte says which."""
    claim = Claim(Role.RECEIVER, 2)
    which, message = content[:1], content[1:]
    if which < b"\x55":
        ListeningProof([KEY], BINDING, claim, NONCE).reply(message)
    elif which < b"\xaa":
        DiallingProof(KEY, BINDING, Claim(Role.SENDER, 2), NONCE).answer(message)
    else:
        dialling = DiallingProof(KEY, BINDING, Claim(Role.SENDER, 2), NONCE)
        listening = ListeningProof([KEY], BINDING, claim, NONCE)
        listening.reply(dialling.challenge)
        listening.hear_proof(message)


def sdp(content: bytes) -> None:
    from shared.transports.webrtc.sdp import read_description

    text = content[1:].decode("ascii", errors="replace")
    description = read_description(text, "offer" if content[:1] < b"\x80" else "answer")
    assert read_description(description.to_sdp(), description.kind) == description


def line(content: bytes) -> None:
    """A pasted line as it is; or, behind a zero, what is sealed in one."""
    import base64
    import zlib

    from shared.transports.webrtc import sealed

    text = content.decode("ascii", errors="replace")
    if content[:1] == b"\0":
        outer = sealed._OUTER.pack(sealed.VERSION, SALT)
        whole = outer + sealed._cipher(KEY, SALT).encrypt(sealed._NONCE, content[1:], outer)
        whole += sealed._CRC.pack(zlib.crc32(whole))
        text = sealed.PREFIX + base64.urlsafe_b64encode(whole).decode("ascii").rstrip("=")
    sealed.unseal(text, [KEY], Role.SENDER, NOW_S)


def viewer(content: bytes) -> None:
    from receiver.api import Api

    class Nobody:
        def sessions(self) -> list[Any]:
            return []

    api = Api(Nobody(), "0123")
    api._knows(content)
    answer = api._answer(content)
    assert answer.keys() & {"ok", "error"}


# -- what lies on our own disk --------------------------------------------------------------------


def _records(content: bytes) -> bytes:
    """What follows a log's head: the content as it is, or, behind a zero, cut into records that
    have their checksums."""
    if content[:1] != b"\0":
        return content[1:]
    path = _FOLDER / "made.log"
    records, at = [], 1
    while at + 3 <= len(content):
        kind, size = content[at], int.from_bytes(content[at + 1 : at + 3], "big")
        records.append(Record(kind, content[at + 3 : at + 3 + size]))
        at += 3 + size
    RecordLog(path, b"", records).close()
    return path.read_bytes()


def records(content: bytes) -> None:
    _file("session.log", LOG_HEAD + _records(content))
    log = SessionLog.reopen(_FOLDER, SESSION)
    stored = replay(log, Inbox(SESSION))
    for number, offer in stored.whole.items():
        log.payload(number, offer.size_bytes)
    log.close()


def spool(content: bytes) -> None:
    from sender.spool import Spool

    path = _file("encoded.log", SPOOL_HEAD + _records(content))
    log = RecordLog.reopen(path, SPOOL_HEAD)
    for _ in Spool(_FOLDER, SESSION, log, resumed=True).replay():
        pass
    log.close()


def journal(content: bytes) -> None:
    path = _file("journal", content)
    read_entries(path)
    read_previews(path)


# -- files that a site sends ----------------------------------------------------------------------


def nifti(content: bytes) -> None:
    from sender.read.nifti import is_nifti, open_nifti, read_nifti

    suffix = ".nii.gz" if content[:2] == b"\x1f\x8b" else ".nii"
    path = _file(f"scan{suffix}", content)
    is_nifti(path)
    read_nifti(open_nifti(path), volume=0)


def dicom(content: bytes) -> None:
    from sender.read.source import read_study

    path = _file("slice.dcm", content)
    for each in read_study([path], series=None, volume=None).volumes:
        each.attachment()


# -- bitstreams -----------------------------------------------------------------------------------


def _codec(name: str) -> Target:
    def decode(content: bytes) -> None:
        """A payload; or, behind a zero, the streams of both slices, which are the same."""
        codec = CODECS[name]
        payload = content[1:]
        if content[:1] == b"\0":
            payload = pack_parts([payload, payload]) if payload else b""
        codec.decode(payload, SHAPE, np.dtype(np.uint16), {})

    return decode


def mask(content: bytes) -> None:
    unpack_mask(content, SHAPE)


TARGETS: dict[str, Target] = {
    "frames": frames,
    "messages": messages,
    "receiving": receiving,
    "sending": sending,
    "hello": hello,
    "sdp": sdp,
    "line": line,
    "viewer": viewer,
    "records": records,
    "spool": spool,
    "journal": journal,
    "nifti": nifti,
    "dicom": dicom,
    "mask": mask,
    **{f"codec_{name}": _codec(name) for name in CODECS},
}


def forget_files() -> None:
    """Take the files away that targets have made."""
    with contextlib.suppress(OSError):
        for path in _FOLDER.iterdir():
            path.unlink()
        _FOLDER.rmdir()
