"""Which of the two ends of a transfer: who has the study, and who gets it.

Not to be taken for who dials and who listens, which either of them may do.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Which end speaks."""

    SENDER = "sender"
    RECEIVER = "receiver"
