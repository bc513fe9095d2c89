"""Which parameter sets are tried: Optuna's TPE, seeded, cut short where hopeless, resumable.

What belongs here: making trials one after the other, and which of them wins. What a trial fits is
`boosting`; where finished trials are kept is `adapters.study_store`.

Trial n depends on the trials before it and on nothing else: the sampler is seeded anew for each, by
the search's seed and n. So a search that was killed goes on from its finished trials and ends with
the same answer as one that was not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from fraud_platform.boosting import Span, Trainer
from fraud_platform.errors import PermanentError

CHECKPOINT_ROUNDS = 10
"""After each so many rounds a trial is compared with the others."""
_EARLIEST_ROUND = 30
"""No trial is cut short before; slow learning rates start low."""
_RANDOM_TRIALS = 4
"""Trials before TPE has enough to learn from; its default of 10 is more than our default budget."""
RULES = (CHECKPOINT_ROUNDS, _EARLIEST_ROUND, _RANDOM_TRIALS)
"""What a trial depends on besides the trainer and the budget."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One finished parameter set.

    Attributes:
        number: from 0, without a hole.
        parameters: the library's, by name.
        rounds: the best number of trees.
        quality: the area under the precision-recall curve there.
        checkpoints: that area after each `CHECKPOINT_ROUNDS` rounds.
        is_pruned: whether it was cut short; then it cannot win.
        seconds: how long it took; 0 if nobody looked.
    """

    number: int
    parameters: Mapping[str, float | int | str]
    rounds: int
    quality: float
    checkpoints: tuple[float, ...]
    is_pruned: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How far a search goes; `model.ModelPolicy` says what each field means."""

    trials: int
    max_seconds: float
    full_trials: int
    seed: int


class Study(Protocol):
    """Where a search keeps its finished trials, with a clock."""

    def trials(self) -> Sequence[Trial]:
        """What is finished, by number."""

    def add(self, trial: Trial) -> None:
        """Keep one more, for good."""

    def seconds(self) -> float:
        """What a clock shows that only goes forward."""


def search(trainer: Trainer, budget: Budget, study: Study | None) -> tuple[Trial, ...]:
    """Make trials until the budget is spent; those that the study has are not made again.

    Args:
        trainer: what fits, what may be searched, and the proven set that is tried first.
        budget: how many trials, and how long. Time is looked at between trials only, and the first
            is always made.
        study: finished trials of this very search, or None to keep nothing.

    Returns:
        By number; fewer than `budget.trials` only if `budget.max_seconds` is spent.

    Raises:
        PermanentError: a ceiling of seconds without a study, which has the clock.
    """
    if budget.max_seconds and study is None:
        raise PermanentError(
            "Found a ceiling of seconds for a search that nobody times.",
            hint="give `fit` a study, or set FRAUD_MODEL__MAX_SECONDS=0.",
        )
    finished = list(study.trials())[: budget.trials] if study else []
    optuna = _Sampler(trainer, budget, finished)
    while len(finished) < budget.trials and not _is_late(finished, budget):
        started = study.seconds() if study else 0.0
        asked = optuna.ask(len(finished))
        watched = _Watched(asked)
        rounds, quality = trainer.judge(dict(asked.params), watched)
        trial = Trial(
            number=len(finished),
            parameters=dict(asked.params),
            rounds=rounds,
            quality=quality,
            checkpoints=tuple(watched.checkpoints),
            is_pruned=watched.is_pruned,
            seconds=study.seconds() - started if study else 0.0,
        )
        optuna.tell(asked, trial)
        finished.append(trial)
        if study:
            study.add(trial)
    return tuple(finished)


def best(trials: Sequence[Trial]) -> Trial:
    """The trial of the highest quality that was not cut short; the first among equals."""
    return max((t for t in trials if not t.is_pruned), key=lambda trial: trial.quality)


def _is_late(finished: Sequence[Trial], budget: Budget) -> bool:
    spent = sum(trial.seconds for trial in finished)
    return bool(finished) and 0.0 < budget.max_seconds <= spent


@dataclass
class _Watched:
    """Sees a fit's rounds, and ends it where Optuna says that it is hopeless."""

    asked: Any
    checkpoints: list[float] = field(default_factory=list)
    is_pruned: bool = False

    def __call__(self, rounds: int, quality: float) -> bool:
        if rounds % CHECKPOINT_ROUNDS:
            return False
        self.checkpoints.append(quality)
        self.asked.report(quality, rounds)
        self.is_pruned = bool(self.asked.should_prune())
        return self.is_pruned


class _Sampler:
    """Optuna's study of the finished trials, which draws the next one."""

    def __init__(self, trainer: Trainer, budget: Budget, finished: Sequence[Trial]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._trainer, self._seed = optuna, trainer, budget.seed
        self._spans = {name: _distribution(optuna, s) for name, s in trainer.space.items()}
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=budget.full_trials, n_warmup_steps=_EARLIEST_ROUND
        )
        self._study = optuna.create_study(direction="maximize", pruner=pruner)
        for trial in finished:
            self._study.add_trial(self._told(trial))

    def ask(self, number: int) -> Any:
        """The trial of this number, which must be the next; the first is the proven set."""
        if number == 0:
            self._study.enqueue_trial(self._trainer.proven)
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        self._study.sampler = self._optuna.samplers.TPESampler(
            n_startup_trials=_RANDOM_TRIALS, seed=seed
        )
        return self._study.ask(self._spans)

    def tell(self, asked: Any, trial: Trial) -> None:
        """Close a trial that was asked for."""
        value = None if trial.is_pruned else trial.quality
        self._study.tell(asked, value, self._state(trial))

    def _told(self, trial: Trial) -> Any:
        steps = {CHECKPOINT_ROUNDS * (at + 1): q for at, q in enumerate(trial.checkpoints)}
        return self._optuna.trial.create_trial(
            state=self._state(trial),
            value=None if trial.is_pruned else trial.quality,
            params=dict(trial.parameters),
            distributions=self._spans,
            intermediate_values=steps,
        )

    def _state(self, trial: Trial) -> Any:
        states = self._optuna.trial.TrialState
        return states.PRUNED if trial.is_pruned else states.COMPLETE


def _distribution(optuna: Any, span: Span) -> Any:
    whole = isinstance(span.low, int) and isinstance(span.high, int)
    kind = "IntDistribution" if whole else "FloatDistribution"
    return getattr(optuna.distributions, kind)(span.low, span.high, log=span.log)
