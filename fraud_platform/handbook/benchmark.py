"""The benchmark itself: every model on every fold, beside what is published.

What belongs here: which model runs on which folds, and the report. The protocol, the models and
the published figures are the other modules of this package.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass
from statistics import fmean, pstdev

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.handbook import baselines, challenger, protocol, published
from fraud_platform.handbook.protocol import CARDS_PER_DAY, ROW_COLUMNS, Cut, Fold, cut
from fraud_platform.handbook.published import PROOFS, TOLERANCE, Published, Quality
from fraud_platform.metrics import auc_roc, average_precision, card_precision
from fraud_platform.model import ModelPolicy


@dataclass(frozen=True)
class Benchmark:
    """Folds, and what the handbook publishes about them."""

    name: str
    folds: tuple[Fold, ...]
    published: tuple[Published, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """What is fitted on its folds: the baselines that can be made again, and ours."""
        told = (result.model for result in self.published)
        return (*(model for model in told if model in baselines.MODELS), challenger.NAME)


P1 = Benchmark("P1", protocol.CHAPTER_3, published.CHAPTER_3)
P2_TEST = Benchmark("P2 test", protocol.TEST, published.TEST)
P2_VALIDATION = Benchmark("P2 validation", protocol.VALIDATION, published.VALIDATION)


@dataclass(frozen=True)
class Line:
    """One model on one benchmark.

    Attributes:
        model: its name.
        origin: "published", "re-made" or "ours".
        mean: over the folds.
        spread: standard deviation over the folds (divided by their number); None: not published.
        folds: by the first judged day, ISO; empty where only the mean is published.
    """

    model: str
    origin: str
    mean: Quality
    spread: Quality | None
    folds: dict[str, Quality]


@dataclass(frozen=True)
class HandbookReport:
    """What came out.

    Attributes:
        lines: by the benchmark's name.
    """

    lines: dict[str, tuple[Line, ...]]

    @property
    def alarms(self) -> tuple[str, ...]:
        """What cannot be true: results too good for these weeks."""
        return tuple(
            f"LEAK: {line.model} on {name} reaches AP {line.mean.average_precision:.3f} and CP@100 "
            f"{line.mean.card_precision:.3f}; nothing that is known in time gives more than "
            f"{published.LEAK_AVERAGE_PRECISION} and {published.LEAK_CARD_PRECISION}"
            for name, lines in self.lines.items()
            for line in lines
            if line.mean.is_too_good
        )

    @property
    def disproofs(self) -> tuple[str, ...]:
        """Baselines that should have come out as published and did not."""
        return tuple(
            f"NOT AS PUBLISHED: {line.model} on {name} is {_off(line.mean, told):.4f} off"
            for name, lines in self.lines.items()
            for line in lines
            for told in (_published(lines, line.model),)
            if line.origin == "re-made" and line.model in PROOFS
            if told is not None and _off(line.mean, told) > TOLERANCE
        )

    def to_dict(self) -> dict[str, object]:
        """The report as plain values, for JSON."""
        benchmarks = {name: [asdict(line) for line in lines] for name, lines in self.lines.items()}
        return {"benchmarks": benchmarks, "alarms": self.alarms, "disproofs": self.disproofs}

    def to_text(self) -> str:
        """Tables for people, and what is wrong below them."""
        tables = [_table(name, lines) for name, lines in self.lines.items()]
        return "\n\n".join([*tables, *self.alarms, *self.disproofs])


def run(
    rows: pl.DataFrame, benchmarks: Sequence[Benchmark], policy: ModelPolicy, jobs: int = 1
) -> HandbookReport:
    """Fit and judge every model of every benchmark; what two of them share is done once.

    Args:
        rows: what `rows.rows` returns.
        benchmarks: which.
        policy: seed and threads of our fits; the baselines have the handbook's seed.
        jobs: fits at the same time, in threads: the libraries let go of the interpreter.

    Raises:
        DataContractError: a week lacks frauds or genuine payments.
    """
    folds = {fold: cut(rows, fold) for each in benchmarks for fold in each.folds}
    tasks = list(
        dict.fromkeys(
            (fold, model) for each in benchmarks for fold in each.folds for model in each.models
        )
    )
    with ThreadPoolExecutor(jobs) as pool:
        judged = pool.map(lambda task: _judged(task[1], folds[task[0]], policy), tasks)
        found = dict(zip(tasks, judged, strict=True))
    return HandbookReport({each.name: _lines(each, found) for each in benchmarks})


def quality(judged: pl.DataFrame, scores: NDArray[np.float64]) -> Quality:
    """The handbook's three measures of one fold's scores, shape (rows,)."""
    is_fraud = judged["is_fraud"].to_numpy()
    scored = judged.select(ROW_COLUMNS).with_columns(score=pl.Series(scores))
    return Quality(
        auc_roc(is_fraud, scores),
        average_precision(is_fraud, scores),
        card_precision(scored, CARDS_PER_DAY),
    )


def _judged(model: str, fold: Cut, policy: ModelPolicy) -> Quality:
    if model == challenger.NAME:
        return quality(fold.judged, challenger.scores(fold, policy))
    return quality(fold.judged, baselines.scores(model, fold))


def _lines(benchmark: Benchmark, found: dict[tuple[Fold, str], Quality]) -> tuple[Line, ...]:
    lines = []
    for told in benchmark.published:
        lines.append(Line(told.model, "published", told.mean, told.spread, {}))
        if told.model in benchmark.models:
            lines.append(_measured(benchmark, told.model, "re-made", found))
    return (*lines, _measured(benchmark, challenger.NAME, "ours", found))


def _measured(
    benchmark: Benchmark, model: str, origin: str, found: dict[tuple[Fold, str], Quality]
) -> Line:
    folds = {fold.judged_start.isoformat(): found[fold, model] for fold in benchmark.folds}
    return Line(model, origin, _over(folds, fmean), _over(folds, pstdev), folds)


def _over(folds: dict[str, Quality], summary: Callable[[list[float]], float]) -> Quality:
    columns = zip(*(astuple(each) for each in folds.values()), strict=True)
    return Quality(*(summary(list(column)) for column in columns))


def _published(lines: Sequence[Line], model: str) -> Quality | None:
    found = (line.mean for line in lines if (line.model, line.origin) == (model, "published"))
    return next(found, None)


def _off(mean: Quality, told: Quality) -> float:
    pairs: zip[tuple[float, float]] = zip(astuple(mean), astuple(told), strict=True)
    return max(abs(one - other) for one, other in pairs)


def _table(name: str, lines: Sequence[Line]) -> str:
    head = f"{name:<26}{'':<12}{'AUC ROC':>14}{'AP':>14}{'CP@100':>14}"
    told = [head]
    for line in lines:
        told.append(f"{line.model:<26}{line.origin:<12}{_cells(line.mean, line.spread)}")
        if len(line.folds) > 1 and line.model in (*PROOFS, challenger.NAME):
            told += [f"  {day:<36}{_cells(each, None)}" for day, each in line.folds.items()]
    return "\n".join(told)


def _cells(mean: Quality, spread: Quality | None) -> str:
    around = (f"±{value:.3f}" for value in astuple(spread)) if spread else ("", "", "")
    return "".join(
        f"{value:>8.3f}{beside:<6}" for value, beside in zip(astuple(mean), around, strict=True)
    )
