"""The controls whose failure is itself to be noticed, and how long each may stand still.

PCI DSS v4.0.1, 10.7.2: failures of critical security controls are detected, alerted and addressed
promptly. What a control is made of is its owner's; how it is looked at is `serving.control_probes`.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from math import inf


class Control(StrEnum):
    """What protects, and would fail in silence."""

    PAN_GUARD = "pan_guard"  # a card number in a payment is refused
    JOURNAL_SYNC = "journal_sync"  # an answered decision is on the disk
    JOURNAL_DRAIN = "journal_drain"  # the journal reaches the log's tables
    AUDIT_LOG = "audit_log"  # an act can be recorded
    AUDIT_SEALS = "audit_seals"  # decisions enter the audit log
    AUDIT_CHECK = "audit_check"  # the audit log is checked, and nothing is found
    CARD_SCAN = "card_scan"  # the home is scanned for card numbers, and none is found


@dataclass(frozen=True, kw_only=True)
class ControlPolicy:
    """How often controls are looked at, and what counts as standing still."""

    look_seconds: float = 10.0
    """How often a scorer looks at every control, seconds."""
    drain_seconds: float = 60.0
    """How long the drain may bring nothing while records wait, seconds."""
    seal_seconds: float = 300.0
    """How long no decision may enter the audit log while some wait, seconds."""
    check_seconds: float = 7_200.0
    """How old the last check of the audit log may be, seconds."""
    scan_seconds: float = 93_600.0
    """How old the last scan for card numbers may be, seconds."""
    grace_seconds: float = 3_600.0
    """How long an older one may still take to come after a scorer starts or its machine wakes."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            if not 0 < getattr(self, name) < inf:
                raise ValueError(f"found {name}={getattr(self, name)}, expected a time in seconds")


class Standstill:
    """Whether work that waits is not done.

    Args:
        seconds: how long nothing may be done while something waits.

    Examples:
        >>> drain = Standstill(60.0)
        >>> [drain.stands(done=5, wanted=9, now=second) for second in (0.0, 30.0, 61.0)]
        [False, False, True]
        >>> drain.stands(done=6, wanted=9, now=62.0)
        False
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._done = -1
        self._since = -inf

    def stands(self, *, done: int, wanted: int, now: float) -> bool:
        """Whether it stands still now.

        Args:
            done: how far the work is.
            wanted: how far it is to come.
            now: seconds of a clock that never jumps.
        """
        if done != self._done or done >= wanted:
            self._done, self._since = done, now
        return now - self._since > self._seconds
