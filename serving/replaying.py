"""Replays of recorded decisions over one home: for commands, for the nightly check, for a dossier.

Reads nothing but files: the log, the bundles of the models and the policy in force. What a replay
compares is `decision_replay`.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass

from fraud_platform.adapters.decision_source import Choice, DecisionSource
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.state_snapshots import StateSnapshots
from fraud_platform.decision_replay import CUT, ORPHANED, Asked, Finding, replay
from fraud_platform.replay_report import ReplayReport, Tally
from fraud_platform.settings import Settings
from serving.past_models import PastModels

Progress = Callable[[int], None]
"""Told of each position that was reached."""


@dataclass(frozen=True)
class Replayed:
    """What a replay found, and how.

    Attributes:
        report: what it found.
        started_from: the position of the snapshot that it began with; 0: the log alone.
        positions: the first and the last position at which features were read; () for none.
        cpu_seconds: what it took.
    """

    report: ReplayReport
    started_from: int
    positions: tuple[int, ...]
    cpu_seconds: float


class Replayer:
    """Decides again on what was decided.

    Args:
        settings: of the home.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def replay(
        self,
        choice: Choice,
        *,
        from_log: bool = False,
        watched: Callable[[int, int], AbstractContextManager[Progress]] | None = None,
        found: Callable[[Asked, Finding], None] | None = None,
    ) -> Replayed:
        """Replay the chosen decisions.

        Args:
            choice: which.
            from_log: whether to begin with no snapshot.
            watched: shows the progress from one position to another.
            found: told of each decision.
        """
        tally, started = Tally(), time.process_time()
        models, snapshots = PastModels(self._settings), StateSnapshots(self._settings.state_dir)
        with closing(DecisionSource(self._settings.log_path, choice)) as source:
            with closing(EventLog(self._settings.log_path)) as log:
                state = source.state(log, None if from_log else snapshots)
            start, extent = state.last_seq, source.extent
            if extent.orphan is not None:
                tally.lack(ORPHANED, extent.orphan, extent.orphans)
            if extent.one_cut is not None:
                tally.lack(CUT, extent.one_cut, extent.cut)
            with (watched or _unwatched)(start, extent.last) as progress:

                def take(one: Asked, what: Finding) -> None:
                    tally.add(one, what)
                    tally.canary(one.decision, models.arm_now(one))
                    if found is not None:
                        found(one, what)
                    progress(one.read_at)

                replay(source.pages(start), state, models.judge_of, models.policies, take)
        positions = (extent.first, extent.last) if extent.decisions else ()
        return Replayed(tally.report(), start, positions, time.process_time() - started)


def _unwatched(start: int, end: int) -> AbstractContextManager[Progress]:
    return nullcontext(lambda _: None)
