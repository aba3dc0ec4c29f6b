"""A recorded link as a table with a bitrate for each second, as cellular loggers write it.

The 5G data set of Raca et al. (MMSys 2020; G-NetTrack's log) has one row a second and its bitrates
in kbit/s. It was recorded while files were downloaded: ``DL_bitrate`` is what the link could do,
``UL_bitrate`` only the acknowledgements of that, so the former is taken, also for a link that
carries the other way. Where a log repeats or skips a second of its own clock, a row is a second
all the same.
"""

from __future__ import annotations

import csv
from array import array
from typing import TYPE_CHECKING

from shared.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMN = "DL_bitrate"
MAX_KBPS = 100_000_000
"""Of one second: 100 Gbit/s, the most that a link may have."""
MAX_OPPORTUNITIES = 1 << 24
"""Of a whole trace: 64 MiB of memory, nine minutes at 400 Mbit/s."""
_OPPORTUNITY_BITS = 1500 * 8


def parse_bitrates(content: bytes, name: str) -> array[int]:
    """The moments, in ms, at which such a link delivers 1500 bytes; they never fall.

    Raises:
        SettingsError: no such column, a field that is no bitrate, or a link that delivers nothing
            or too much.
    """
    times_ms = array("I")
    waiting_bits = 0.0
    for second, bits in enumerate(_bits(content, name)):
        if len(times_ms) + bits // _OPPORTUNITY_BITS > MAX_OPPORTUNITIES:
            raise SettingsError(f"link: {name} delivers too much, expected up to 24 GiB")
        due_bits = _OPPORTUNITY_BITS - waiting_bits
        while due_bits <= bits:
            times_ms.append(round(1000 * (second + due_bits / bits)))
            due_bits += _OPPORTUNITY_BITS
        waiting_bits = _OPPORTUNITY_BITS - (due_bits - bits)
    if not times_ms or times_ms[-1] == 0:
        raise SettingsError(f"link: {name} delivers nothing, expected bitrates in {COLUMN}")
    return times_ms


def _bits(content: bytes, name: str) -> Iterator[int]:
    """The bits of each second."""
    rows = csv.reader(content.decode("utf-8", "replace").splitlines())
    try:
        header = next(rows, [])
        if COLUMN not in header:
            raise SettingsError(
                f"link: {name}: expected a column {COLUMN} (kbit/s, one row a second)"
            )
        place = header.index(COLUMN)
        for row in rows:
            text = row[place].strip() if place < len(row) else ""
            if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_KBPS))):
                raise SettingsError(
                    f"link: {name}, line {rows.line_num}: expected a bitrate in kbit/s as a whole "
                    f"number, got {text[:20]!r}"
                )
            if int(text) > MAX_KBPS:
                raise SettingsError(
                    f"link: {name}, line {rows.line_num}: expected up to {MAX_KBPS} kbit/s"
                )
            yield int(text) * 1000
    except csv.Error as error:
        raise SettingsError(
            f"link: {name}, line {rows.line_num}: no row of a table: {error}"
        ) from error
