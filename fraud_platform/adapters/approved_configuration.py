"""Which settings a person approved to decide payments by: one line per approval, never changed."""

from collections.abc import Mapping
from pathlib import Path

from fraud_platform.adapters.hash_chain import Chain, Link

APPROVED = "configuration.jsonl"


class Approval(Link, frozen=True, kw_only=True):
    """One approval.

    Attributes:
        at_us: when, microseconds UTC of the wall.
        by: a person.
        why: the reason given.
        values: setting -> its value as text; see `heal.configuration.settings_of`.
    """

    at_us: int
    by: str
    why: str
    values: Mapping[str, str]


def read_approval(heal_dir: Path) -> Approval | None:
    """The approval in force; None: nobody ever approved.

    Raises:
        HistoryDamagedError: a line was changed, lost or swapped.
        UnavailableError: the disk does not answer.
    """
    approvals, _ = Chain(heal_dir / APPROVED, Approval).since()
    return approvals[-1] if approvals else None


def append_approval(heal_dir: Path, approval: Approval) -> None:
    """Approve durably; it replaces the approval before.

    Raises:
        HistoryDamagedError: a line above was changed, lost or swapped.
        UnavailableError: the disk refuses; nothing was approved.
    """
    Chain(heal_dir / APPROVED, Approval).append([approval])
