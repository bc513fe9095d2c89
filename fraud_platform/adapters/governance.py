"""Acts and their audit rows: none happens without, and one that was interrupted is settled.

What belongs here: the two rows around an act. What the audit log is, is `audit_log`; which files
tell whether an act came to pass, their owners know.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NoReturn

from fraud_platform.adapters.audit_log import AuditLog, audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.approval_rules import Rules
from fraud_platform.audit_log.acts import Act
from fraud_platform.audit_log.rows import Row
from fraud_platform.errors import HistoryDamagedError, PermanentError
from fraud_platform.settings import Settings

_LOOK_BACK = 200
"""Rows of a kind in which an interrupted act is looked for: the next act of the kind settles it."""


@dataclass(frozen=True)
class Governance:
    """What holds for the changes of one home.

    Attributes:
        rules: of approval, as the settings ask for them.
        audit: where acts are recorded; None: nowhere, as in a benchmark.
    """

    rules: Rules = field(default_factory=Rules)
    audit: AuditLog | None = None

    @contextmanager
    def recording(self, act: Act) -> Iterator[int]:
        """Let an act happen between its two audit rows; gives the number of the first, or 0.

        Raises:
            AuditUnavailableError: the audit log cannot be written: nothing happened.
        """
        if self.audit is None:
            yield 0
            return
        with self.audit.recording(act) as row:
            yield row.seq

    def settle(self, actions: str, happened: Callable[[Row], bool]) -> None:
        """Record what became of acts that were interrupted between their rows.

        Callers hold the lock under which such acts are done: none is under way.

        Args:
            actions: which, e.g. "model.*".
            happened: whether the act that a first row announces came to pass.

        Raises:
            AuditUnavailableError: the audit log does not answer.
        """
        newest = self._newest(actions)
        ended = {row.begun for row in newest}
        for row in newest:
            if self.audit and row.outcome == "begun" and row.seq not in ended:
                self.audit.settle(row, "done" if happened(row) else "failed: interrupted")

    def require_kept(self, actions: str, numbers: Collection[int]) -> None:
        """Refuse to go on with a file that lacks what the audit log says was done.

        Args:
            actions: which acts the file keeps.
            numbers: of the first rows of those that it has, or that were given up.

        Raises:
            HistoryDamagedError: its end was cut off.
        """
        if lost := _lost(self._newest(actions), numbers):
            raise HistoryDamagedError(
                f"The audit log has {actions} acts that no file has; the first is row "
                f"{lost[-1].begun}.",
                hint="a file was cut off or replaced: keep it as evidence, restore a backup of the"
                " same moment as the audit log; an older one: `fraud-platform accept-restore`.",
            )

    def lost(self, actions: str, numbers: Collection[int]) -> list[Row]:
        """Every act that the audit log has as done and a file lacks: its last row, newest first.

        Args:
            actions: which acts the file keeps.
            numbers: of the first rows of those that it has, or that were given up.

        Raises:
            AuditUnavailableError: the audit log does not answer.
        """
        return _lost(self._newest(actions, None), numbers)

    def _newest(self, actions: str, limit: int | None = _LOOK_BACK) -> list[Row]:
        if self.audit is None:
            return []
        return list(self.audit.rows(RowFilter(action=actions), limit=limit, newest=True))

    def refuse(self, act: Act, why: str) -> NoReturn:
        """Record that an act was refused, and refuse it.

        Raises:
            PermanentError: always.
            AuditUnavailableError: not even that can be recorded.
        """
        if self.audit is not None:
            self.audit.record(replace(act, facts={**act.facts, "refused": why}), outcome="refused")
        raise PermanentError(
            f"Refused: {why}.", hint="`fraud-platform proposals` shows what waits."
        )


UNGOVERNED = Governance()
"""Of a folder of models that belongs to no home: a benchmark, a test."""


def _lost(newest: Iterable[Row], numbers: Collection[int]) -> list[Row]:
    kept = {*numbers}
    done = [row for row in newest if row.begun and row.outcome == "done"]
    return [row for row in done if row.begun not in kept]


def governance_of(settings: Settings) -> Governance:
    """What holds for the changes of a home."""
    rules = Rules(is_required=settings.promotion.approval_required, policy=settings.approvals)
    return Governance(rules, audit_log_of(settings))
