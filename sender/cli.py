"""medroi-send: flags become settings, settings a transfer, its end an exit code."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sender.commands import subcommand
from shared.audit_command import SENT, add_audit_flag
from shared.edge import run_command
from shared.errors import ExitCode, SettingsError
from shared.metrics_server import add_metrics_flag
from shared.software import SOFTWARE
from shared.transports.webrtc.flags import Choice, add_transport_flags, ways_of
from shared.trust.flags import add_trust_flags, credentials_of, name_site

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sender.segment.options import RoiOptions
    from sender.settings import SendSettings
    from sender.transfer import Transfer

KEPT_WORDS = ("serve", "config", "echo", "doctor")
"""Subcommands to come: a study of that name is written ./serve."""

_QUEUE = "queue"
"""``medroi-send queue`` shows who sends from here; a study of that name is ./queue."""
_FOREVER_S = 1e9

_EXIT_CODES = """
exit codes: 0 stored and verified, 2 usage, 3 input refused, 4 peer refused,
            5 interrupted and resumable, 6 integrity
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)

    def run() -> ExitCode:
        other = subcommand(words[0]) if words else None
        return other(words[1:]) if other else _run(_parser().parse_args(words))

    return run_command("medroi-send", run, stopped="stopped; the same command goes on from here")


def _run(options: argparse.Namespace) -> ExitCode:
    if options.study == [_QUEUE]:
        return _show_queue()
    return _send(options)


def _show_queue() -> ExitCode:
    import time

    from sender.turns import queued
    from shared.folders import state_folder

    rows = queued(state_folder() / "queue")
    for row in rows:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.since_s))
        state = "sends or waits its turn" if row.ready else "reads, or has no line"
        print(f"{row.urgency:8} since {since}  {state:24} {row.study}")
    if not rows:
        print("nothing is being sent from here")
    return ExitCode.OK


def _send(options: argparse.Namespace) -> ExitCode:
    from sender.dryrun import dry_run
    from sender.settings import Background, SendSettings
    from sender.transfer import send, send_each
    from sender.write.rois import check_roi_out
    from shared.loop import run_on_loop

    for path in options.study:
        if path in (*KEPT_WORDS, _QUEUE) or subcommand(path):
            raise SettingsError(f"{path!r} is kept for a subcommand; the file is ./{path}")
    if options.report is not None:
        _check_report(options.report)
    if options.roi_csv is not None:
        return _list_boxes(options)
    if options.roi_out is not None:
        check_roi_out(options.roi_out)
    settings = SendSettings(
        roi=options.roi,
        exact_codec=options.exact_codec,
        preview_codec=options.preview_codec,
        background=Background(options.background),
        roi_options=_roi_options(options),
        roi_out=options.roi_out,
    )
    transfer = _transfer(options, settings.checked())
    if options.dry_run:
        return dry_run(transfer)
    if not transfer.where:
        raise SettingsError("--to URL says where to; medroi-recv prints it")
    if not options.each:
        return run_on_loop(send(transfer))
    if options.report is not None and len(transfer.paths) > 1:
        raise SettingsError("--report is of one study; with --each there are several")
    return run_on_loop(send_each([replace(transfer, paths=(path,)) for path in transfer.paths]))


def _transfer(options: argparse.Namespace, settings: SendSettings) -> Transfer:
    from protocol.limits import PROTOCOL_VERSION
    from sender.bwlimit import parse_bwlimit
    from sender.transfer import Transfer
    from sender.turns import Urgency
    from shared.role import Role
    from shared.trust.proof import Claim

    name_site(options, "to")
    ways = ways_of(options)
    claim = Claim(Role.SENDER, PROTOCOL_VERSION)
    if options.listen and (options.to or options.link):
        raise SettingsError("--listen waits for a receiver that dials: without --to and --link")
    if options.link and ways.choice is Choice.WEBRTC:
        raise SettingsError("--link shapes a WebSocket: it does not go with --transport webrtc")
    return Transfer(
        paths=tuple(Path(path) for path in options.study),
        url=options.to or "",
        settings=settings,
        link=options.link,
        series=options.series,
        volume=options.volume,
        report=options.report,
        quiet=options.quiet,
        spool=options.spool,
        give_up_s=options.give_up,
        credentials=credentials_of(options, claim, listens=bool(options.listen)),
        listen=options.listen or "",
        ways=ways,
        bwlimit=parse_bwlimit(options.bwlimit) if options.bwlimit else None,
        urgency=Urgency(options.priority),
        audit=options.audit,
        metrics=options.metrics,
    )


def _list_boxes(options: argparse.Namespace) -> ExitCode:
    from sender.segment.listing import list_boxes
    from sender.segment.tissue import TissueRule

    rules = {"tissue:paper": [TissueRule.PAPER], "tissue:code": [TissueRule.CODE]}
    target: Path = options.roi_csv
    if target.is_dir() or not target.parent.is_dir():
        raise SettingsError(f"--roi-csv {target}: expected a file in a folder that is there")
    paths = [Path(path) for path in options.study]
    boxes = list_boxes(paths, rules.get(options.roi, list(TissueRule)), target)
    if not options.quiet:
        print(f"{boxes} boxes in {target}")
    return ExitCode.OK if boxes else ExitCode.INPUT_REFUSED


def _roi_options(options: argparse.Namespace) -> RoiOptions:
    from sender.segment.options import MOST_MARGIN_VOXELS, RoiOptions
    from sender.segment.ranks import Ranks, read_ranks

    if not 0 <= options.roi_margin <= MOST_MARGIN_VOXELS:
        raise SettingsError(
            f"--roi-margin {options.roi_margin}: 0 to {MOST_MARGIN_VOXELS} expected"
        )
    ranks = Ranks() if options.roi_ranks is None else read_ranks(options.roi_ranks)
    return RoiOptions(options.roi_margin, ranks)


def _check_report(path: Path) -> None:
    if path.is_dir():
        raise SettingsError(f"--report {path}: expected a file, this is a folder")
    if not path.parent.is_dir():
        raise SettingsError(f"--report {path}: there is no such folder to put it in")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < _FOREVER_S:
        raise ValueError(text)
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medroi-send",
        description="Send a study to a clinic, its region of interest first, down to the last bit. "
        "Also: medroi-send pair, sites, audit (each has --help).",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "study",
        nargs="+",
        metavar="STUDY",
        help="NIfTI files, DICOM files or folders of them; 'queue' lists who sends from here",
    )
    parser.add_argument(
        "--to", metavar="SITE|URL", help="a paired site, or what medroi-recv printed"
    )
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="instead: wait for medroi-recv --dial"
    )
    _add_roi_flags(parser)
    parser.add_argument(
        "--link",
        default="",
        metavar="LINK",
        help="shape our own traffic: rate=1M,rtt=100ms,loss=1%% | a preset | trace:FILE",
    )
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="leave a report")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, send nothing")
    parser.add_argument("--series", type=int, metavar="N", help="only this series, from 1")
    parser.add_argument("--volume", type=int, metavar="N", help="of a 4-D file, from 0")
    parser.add_argument("--exact-codec", default="auto", metavar="NAME")
    parser.add_argument("--preview-codec", default="hevc", metavar="NAME")
    parser.add_argument("--background", choices=("keep", "discard"), default="keep")
    _add_queue_flags(parser)
    add_audit_flag(parser, SENT)
    add_metrics_flag(parser)
    add_trust_flags(parser)
    add_transport_flags(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="only errors")
    parser.add_argument("--version", action="version", version=SOFTWARE)
    return parser


def _add_roi_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--roi",
        default="tissue",
        metavar="HOW",
        help="auto | unet | mask:FILE (NIfTI, NRRD, DICOM SEG, RTSTRUCT) | box:Z0:Z1,Y0:Y1,X0:X1 | "
        "tissue | tissue:code | none (default: tissue)",
    )
    parser.add_argument(
        "--roi-margin", type=int, default=3, metavar="VOXELS", help="around lesions (default: 3)"
    )
    parser.add_argument(
        "--roi-ranks", type=Path, metavar="FILE.toml", help="which label of a mask comes first"
    )
    parser.add_argument(
        "--roi-out", type=Path, metavar="FILE", help="write the ROI used: .nii, .nii.gz, .dcm (SEG)"
    )
    parser.add_argument(
        "--roi-csv",
        type=Path,
        metavar="FILE.csv",
        help="only list MedROI's tissue boxes, by both rules or by that of --roi",
    )


def _add_queue_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spool", type=Path, metavar="DIR", help="where encodings wait for a restarted process"
    )
    parser.add_argument(
        "--give-up",
        type=_seconds,
        metavar="SECONDS",
        help="end when the clinic could not be reached for so long (default: try on)",
    )
    parser.add_argument(
        "--priority",
        choices=("stat", "urgent", "routine"),
        default="routine",
        help="against other studies that are sent from here to the same clinic (default: routine)",
    )
    parser.add_argument(
        "--each", action="store_true", help="each STUDY is a study of its own, one after the other"
    )
    parser.add_argument(
        "--bwlimit",
        metavar="RATE",
        help='bit/s, such as 256k, or by the time of day: "08:00,256k 20:00,off"',
    )


if __name__ == "__main__":
    sys.exit(main())
