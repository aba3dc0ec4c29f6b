"""``make demo``: a real scan crosses an emulated thin link, and everything one can see is left.

    out/study/series-1.nii          the rebuilt volume        out/pictures/*.png   each stage
    out/send.json, out/recv.json    both reports              out/timeline.png     the course of it

The scan is one that ships inside nibabel (an echo-planar MR volume, 128 x 96 x 24), with a box the
size of a lesion as its ROI; or the study that is named.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.commands import Receiver, command, environment

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROI = "box:9:15,34:56,70:96"
_TITLES = {
    "roi_preview": "ROI preview",
    "roi_exact": "ROI exact",
    "whole_preview": "whole preview",
    "whole_exact": "whole exact",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the sender's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--link", default="rate=1M,rtt=100ms")
    parser.add_argument("--study", type=Path)
    parser.add_argument("--roi")
    options = parser.parse_args(arguments)
    study, choice = _study(options.study, options.roi)
    out: Path = options.out
    for folder in ("study", "pictures", "demo"):
        shutil.rmtree(out / folder, ignore_errors=True)
    print(f"sending {study} over {options.link}", flush=True)
    with Receiver(out / "demo", ("--once", "--pictures")) as receiver:
        sending = command(
            "sender.cli", study, *choice, "--to", receiver.url, "--link", options.link
        )
        code = subprocess.run(
            [*sending, "--report", str(out / "send.json")], env=environment(), check=False
        ).returncode
        if code == 0:
            receiver.wait()
            _tidy(out, receiver)
            _plot(out)
    return code


def _study(path: Path | None, roi: str | None) -> tuple[Path, list[str]]:
    """What to send, and with which flags."""
    if path is not None:
        return path, ["--roi", roi] if roi else []
    import nibabel

    scan = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    return scan, ["--volume", "0", "--roi", roi or _ROI]


def _tidy(out: Path, receiver: Receiver) -> None:
    """Put what the receiver left where a visitor finds it."""
    (folder,) = receiver.out.iterdir()
    pictures = out / "pictures"
    pictures.mkdir()
    for picture in folder.glob("*.png"):
        picture.replace(pictures / picture.name)
    folder.replace(out / "study")
    receiver.report_path.replace(out / "recv.json")
    shutil.rmtree(receiver.folder)
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        if "bench" not in path.parts:
            print(f"  {path}  {path.stat().st_size:,} bytes")


def _plot(out: Path) -> None:
    import json

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    report: dict[str, Any] = json.loads((out / "send.json").read_text())
    seconds, roi, whole, sent = zip(*report["course"], strict=True)
    figure, axes = pyplot.subplots(figsize=(9, 4.2), layout="constrained")
    axes.plot(seconds, [100 * share for share in roi], label="ROI proven exact")
    axes.plot(seconds, [100 * share for share in whole], label="whole proven exact")
    axes.plot(seconds, [100 * size / max(sent) for size in sent], ":", label="bytes sent")
    for place, (name, title) in enumerate(_TITLES.items()):
        if (mark_s := report["times_s"][name]) is not None:
            line = axes.axvline(mark_s, color=f"C{place + 3}", linewidth=1.2, linestyle="--")
            line.set_label(f"{title}: {mark_s:.2f} s")
    axes.set(xlabel="seconds since medroi-send was started", ylabel="%", ylim=(0, 101))
    axes.set_title(f"{report['series'][0]['label']} over {report['link']['emulated']}")
    figure.legend(loc="outside right center")
    figure.savefig(out / "timeline.png", dpi=120)
    print(f"  {out / 'timeline.png'}")


if __name__ == "__main__":
    sys.exit(main())
