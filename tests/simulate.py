"""``make sim``: a named link against a named study, both of medroi's ends, and the course of it.

    make sim STUDY=path LINK='rate=1M,rtt=100ms,loss=1%' MODE=virtual|relay|tun [SEED=7] [ROI=...]

``virtual``: both ends' sessions in one process on virtual time; computing takes no time, waiting
none of yours, and a seed gives the same course each time. ``relay``: two real processes, joined by
the userspace relay. ``tun``: two real processes in namespaces of their own with the kernel's TCP
between them (root). Seconds count from the start of the sender. Both ends' reports and the table
as JSON are left in out/sim.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import MedroiError
from shared.link import parse_link
from tests.simulated import Asked, Simulated, over_relay, over_tun, over_virtual

if TYPE_CHECKING:
    from collections.abc import Sequence

MODES = {"virtual": over_virtual, "relay": over_relay, "tun": over_tun}
DEMO_ROI = "box:9:15,34:56,70:96"
"""The size of a lesion, in the scan that ships inside nibabel."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0 where both ends say exact."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--study", type=Path, help="as medroi-send takes it; a scan of ours if none"
    )
    parser.add_argument("--roi", help="as medroi-send takes it")
    parser.add_argument("--volume", type=int, help="of a 4-D file, from 0")
    parser.add_argument("--link", default="rate=1M,rtt=100ms")
    parser.add_argument("--mode", choices=tuple(MODES), default="virtual")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--congestion", default="", help="of the kernel's TCP, with --mode tun")
    parser.add_argument("--out", type=Path, default=Path("out/sim"))
    options = parser.parse_args(arguments)
    try:
        parse_link(options.link)
        asked = _asked(options)
        simulated = MODES[options.mode](asked)
    except MedroiError as error:
        print(f"sim: {error}", file=sys.stderr)
        return int(error.exit_code)
    print_table(asked, simulated)
    leave(simulated, options.out)
    return 0 if simulated.exact else 1


def _asked(options: argparse.Namespace) -> Asked:
    study, roi, volume = options.study, options.roi, options.volume
    if study is None:
        import nibabel

        study = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
        roi, volume = roi or DEMO_ROI, volume or 0
    return Asked(study, roi or "tissue", volume, options.link, options.seed, options.congestion)


def print_table(asked: Asked, simulated: Simulated) -> None:
    """The course as a table."""
    report = simulated.sender
    link = report.get("link") or {}
    how = f"{simulated.mode}, seed {simulated.seed}"
    if link.get("congestion"):
        how += f", {link['congestion']}"
    print(f"{asked.study} over {parse_link(asked.link)}: {how}")
    print(f"  {'seconds':>9}  {'what':<28} {'bytes sent':>12} {'ROI exact':>10} {'whole':>8}")
    for moment in simulated.moments():
        sent = "" if moment.sent_bytes is None else f"{moment.sent_bytes:,}"
        roi, whole = (
            "" if share is None else f"{share:.1%}"
            for share in (moment.roi_share, moment.whole_share)
        )
        print(f"  {moment.at_s:9.2f}  {moment.what:<28} {sent:>12} {roi:>10} {whole:>8}")
    for end in ("sender", "receiver"):
        print(f"  {end}: {getattr(simulated, end).get('outcome', 'left no report')}")


def leave(simulated: Simulated, out: Path) -> None:
    """Everything as JSON: the table, and both ends' reports."""
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "mode": simulated.mode,
        "link": simulated.link,
        "seed": simulated.seed,
        "exact": simulated.exact,
        "moments": [asdict(moment) for moment in simulated.moments()],
        "line": simulated.line,
    }
    for name, what in (
        ("timeline", content),
        ("send", simulated.sender),
        ("recv", simulated.receiver),
    ):
        path = out / f"{name}.json"
        path.write_text(json.dumps(what, indent=2) + "\n")
        print(f"  {path}")


if __name__ == "__main__":
    sys.exit(main())
