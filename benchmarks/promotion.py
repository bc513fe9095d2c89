"""How often the gates promote a worse, an equal and a better challenger, when the truth is known.

`python -m benchmarks.promotion` first simulates hundreds of retrains with scores whose true cost
follows from a formula, then judges a few dozen real fits of one simulated world, whose true cost is
measured on weeks that the gates never see. A difference is detectable if, with the spread that the
gate itself found, a test at the policy's confidence would see it nine times in ten.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import NormalDist, fmean

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.measure import HEADER, Row, Table, measured
from fraud_platform.evaluation import EvaluationPolicy, evaluate
from fraud_platform.features.engines import Engine, compute_by
from fraud_platform.features.journal import journal
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.model import ModelPolicy, fit, matrix
from fraud_platform.promotion import Bar, PromotionVerdict, Rivals, judge
from fraud_platform.promotion_backtest import Duel
from fraud_platform.promotion_gates import Alerts, ArtifactFacts, DataFacts, PromotionAnswer
from fraud_platform.promotion_policy import PromotionPolicy
from fraud_platform.segments import Cut, SegmentPolicy, groups
from fraud_platform.simulation.world import World, simulate

_POWER = 0.9
_ROWS, _FRAUD_SHARE, _ROWS_A_CARD = 8_000, 0.03, 7
_SIGNAL, _CARD_SPREAD, _SHARED = 2.5, 0.5, 0.8
_LOG_AMOUNT, _LOG_SPREAD = 8.5, 1.0
_WORSE = {-0.8: 30, -0.4: 40, -0.2: 40, -0.1: 50, -0.05: 50}
_SAME = {0.0: 40}
_BETTER = {0.2: 15, 0.4: 15, 0.6: 20, 0.9: 20, 1.3: 20}
_AMOUNTS = Cut("amount_minor", (1000.0, 5000.0, 20000.0))
_POINT = EvaluationPolicy(draws=0, segments=SegmentPolicy(by=()))
_POLICY = PromotionPolicy()
_BAR = Bar(policy=_POLICY, point=_POINT, maturity_days=7)
_SOUND = ArtifactFacts(problem=None, golden_rows=256)
_NORMAL = NormalDist()
_START = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Retrain:
    """One judged challenger.

    Attributes:
        kind: what sort of challenger it is.
        true_gain: what it truly saves, as a share of the champion's cost.
        error: standard error of the gain that the gate measured.
        verdict: what the gates said.
    """

    kind: str
    true_gain: float
    error: float
    verdict: PromotionVerdict

    @property
    def is_promoted(self) -> bool:
        """Whether the challenger took over."""
        return self.verdict.answer is PromotionAnswer.PROMOTE


@dataclass(frozen=True)
class Scores:
    """Rows with the scores of both models, and where each raises alerts.

    Attributes:
        rows: as `evaluate` takes them, without a score.
        new: the challenger's scores.
        old: the champion's.
    """

    rows: pl.DataFrame
    new: NDArray[np.float64]
    old: NDArray[np.float64]

    def part(self, rows: slice) -> "Scores":
        """Some of the rows."""
        return Scores(self.rows[rows], self.new[rows], self.old[rows])


def verdict_on(mature: Scores, newest: Scores) -> tuple[PromotionVerdict, float]:
    """The gates' verdict, and the standard error of the saving that the backtest found.

    Both models cut their scores where the mature rows put the review threshold.
    """
    reports = [
        evaluate(mature.rows.with_columns(score=pl.Series(scores)), _POINT)
        for scores in (mature.new, mature.old)
    ]
    new, old = (report.review_threshold for report in reports)
    names, place = groups(mature.rows, _AMOUNTS)
    rivals = Rivals(
        report=reports[1],
        data=DataFacts(
            train_rows=mature.rows.height,
            train_frauds=reports[0].frauds,
            test_rows=mature.rows.height,
            test_frauds=reports[0].frauds,
            test_fraud_cards=reports[0].fraud_cards,
            embargo_days=7,
            youngest_days=7.0,
        ),
        duel=Duel(
            rows=mature.rows,
            new_scores=mature.new,
            old_scores=mature.old,
            segments=pl.DataFrame({"amount": np.array(names)[place]}),
        ),
        mature=Alerts(new=mature.new >= new, old=mature.old >= old),
        replayed=Alerts(new=newest.new >= new, old=newest.old >= old),
    )
    found = judge(_SOUND, reports[0], rivals, _BAR)
    numbers = next(gate.numbers for gate in found.gates if gate.name == "backtest")
    reach = (numbers["saved_high"] - numbers["saved_low"]) / 2.0
    return found, reach / _NORMAL.inv_cdf(_POLICY.confidence)


def drawn(gap: float, seed: int) -> Scores:
    """Payments whose frauds stand out by `_SIGNAL`, and by `gap` more for the challenger.

    Scores of both models share most of their noise, a part of it by card, as models trained on the
    same data do.
    """
    random = np.random.default_rng(seed)
    rows = 2 * _ROWS
    cards = rows // _ROWS_A_CARD
    card = random.integers(0, cards, rows)
    per_card = 3.0 / _ROWS_A_CARD
    is_hit = random.random(cards) < _FRAUD_SHARE / per_card
    is_fraud = is_hit[card] & (random.random(rows) < per_card)
    amounts = np.exp(random.normal(_LOG_AMOUNT, _LOG_SPREAD, rows)).astype(np.int64)
    noise = _CARD_SPREAD * random.normal(size=cards)[card]
    noise += np.sqrt(_SHARED) * random.normal(size=rows)
    new, old = (
        1.0 / (1.0 + np.exp(4.0 - signal * is_fraud - noise - own * random.normal(size=rows)))
        for signal, own in ((_SIGNAL + gap, np.sqrt(1 - _SHARED)), (_SIGNAL, np.sqrt(1 - _SHARED)))
    )
    times = pl.Series([_START]).dt.cast_time_unit("us").extend_constant(_START, rows - 1)
    frame = pl.DataFrame(
        {
            "event_timestamp": times,
            "card_id": pl.Series(card).cast(pl.String),
            "amount_minor": amounts,
            "is_fraud": is_fraud,
        }
    )
    return Scores(frame, new, old)


def true_cost(signal: float) -> float:
    """Expected cost per payment of a model with this signal at the working point, minor units."""
    spread = np.sqrt(1.0 + _CARD_SPREAD**2)
    review, decline = (
        spread * _NORMAL.inv_cdf(1.0 - fpr) for fpr in (_POINT.review_fpr, _POINT.decline_fpr)
    )
    missed, not_declined = (
        _NORMAL.cdf(float((cut - signal) / spread)) for cut in (review, decline)
    )
    money = _POINT.money
    amount = np.exp(_LOG_AMOUNT + _LOG_SPREAD**2 / 2.0)
    fraud = money.fraud_loss_share * amount * missed
    fraud += money.review_cost_minor * (not_declined - missed)
    genuine = money.review_cost_minor * (_POINT.review_fpr - _POINT.decline_fpr)
    genuine += money.false_decline_minor * _POINT.decline_fpr
    return float(_FRAUD_SHARE * fraud + (1.0 - _FRAUD_SHARE) * genuine)


def simulated(share: float) -> Iterator[Retrain]:
    """Retrains whose truth is a formula; `share` of the full number."""
    for gap, times in (_WORSE | _SAME | _BETTER).items():
        gain = 1.0 - true_cost(_SIGNAL + gap) / true_cost(_SIGNAL)
        for seed in range(max(1, round(times * share))):
            scores = drawn(gap, 1000 * seed + round(gap * 100) + 500)
            half = _ROWS
            found, error = verdict_on(scores.part(slice(0, half)), scores.part(slice(half, None)))
            yield Retrain(f"signal {gap:+.2f}", gain, error, found)


def fitted(fits: int) -> Iterator[Retrain]:
    """Real fits on one simulated world, each against a champion with all features.

    Args:
        fits: worlds; each gives a champion and five challengers.
    """
    for seed in range(fits):
        rows = _world(seed)
        champion = _Fit(rows, FEATURE_NAMES, seed=0)
        poor = _Fit(rows, _without("card_amount", "amount_"), seed=0)
        challengers = {
            "another seed": _Fit(rows, FEATURE_NAMES, seed=1 + seed),
            "no terminal features": _Fit(rows, _without("terminal"), seed=0),
            "no amount features": poor,
            "a third of the days": _Fit(rows, FEATURE_NAMES, seed=0, days=7),
        }
        for kind, challenger in challengers.items():
            yield _contest(kind, challenger, champion)
        yield _contest("amount features regained", champion, poor)


def _without(*parts: str) -> tuple[str, ...]:
    return tuple(name for name in FEATURE_NAMES if not any(part in name for part in parts))


class _Fit:
    """A model of some features of a world, and its scores after the train weeks."""

    def __init__(
        self, rows: pl.DataFrame, names: tuple[str, ...], *, seed: int, days: int = 21
    ) -> None:
        train = rows.filter(pl.col("slice") == "train")
        first = train["event_timestamp"].max() - timedelta(days=days)  # type: ignore[operator]  # a world has rows
        kept = train.filter(pl.col("event_timestamp") > first).select(
            pl.all().exclude(FEATURE_NAMES), *names
        )
        policy = ModelPolicy(trials=1, max_rounds=40, seed=20_180_401 + seed)
        model = fit("lightgbm", kept, policy)
        self.later = rows.filter(pl.col("slice") != "train")
        self.scores = model.score(matrix(self.later, names))


def _world(seed: int) -> pl.DataFrame:
    """Three train weeks, a test week, and four weeks of truth, with features."""
    world = World(seed=seed, days=72, customers=900, terminals=450, fraud_rate=0.03)
    frame = simulate(world)
    verdicts = frame.filter("is_fraud").select(
        "transaction_id", "label_timestamp", verdict=pl.lit("fraud")
    )
    log = journal(frame, verdicts)
    since = world.start + timedelta(days=16)
    features = compute_by(Engine.POLARS)(log.transactions, log.labels, since=since)
    truth = frame.select("transaction_id", "amount_minor", "is_fraud")
    day = (pl.col("event_timestamp") - since).dt.total_days()
    part = pl.when(day < 21).then(pl.lit("train")).when(day < 28).then(pl.lit("test"))
    return (
        features.join(truth, on="transaction_id", how="left", maintain_order="left")
        .with_columns(slice=part.otherwise(pl.lit("truth")))
        .drop("transaction_id", "seq", "terminal_id")
    )


def _contest(kind: str, challenger: _Fit, champion: _Fit) -> Retrain:
    later = champion.later
    scores = Scores(
        later.select("event_timestamp", "card_id", "amount_minor", "is_fraud"),
        challenger.scores,
        champion.scores,
    )
    test = int((later["slice"] == "test").sum())
    truth = scores.part(slice(test, None))
    costs = [
        evaluate(truth.rows.with_columns(score=pl.Series(of)), _POINT).cost_per_transaction
        for of in (truth.new, truth.old)
    ]
    found, error = verdict_on(scores.part(slice(0, test)), scores.part(slice(test, 2 * test)))
    return Retrain(kind, 1.0 - costs[0] / costs[1], error, found)


def _lines(found: list[Retrain]) -> Iterator[str]:
    """One line per kind of challenger."""
    yield (
        f"{'challenger':<26} {'n':>4} {'true gain':>18} {'detectable':>10} "
        f"{'promote':>8} {'shadow':>7} {'reject':>7}"
    )
    for kind in dict.fromkeys(each.kind for each in found):
        group = [each for each in found if each.kind == kind]
        gains = [each.true_gain for each in group]
        answers = [each.verdict.answer for each in group]
        span = f"{min(gains):+.1%}" + (f" to {max(gains):+.1%}" if max(gains) > min(gains) else "")
        yield (
            f"{kind:<26} {len(group):>4} {span:>18} {_detectable(group):>10.1%} "
            + " ".join(
                f"{answers.count(answer):>{width}}"
                for answer, width in zip(PromotionAnswer, (8, 7, 7), strict=True)
            )
        )


def _detectable(group: list[Retrain]) -> float:
    """The smallest gain that the test would see nine times in ten."""
    reach = _NORMAL.inv_cdf(_POLICY.confidence) + _NORMAL.inv_cdf(_POWER)
    return reach * fmean(each.error for each in group)


def _summary(title: str, found: list[Retrain]) -> list[Row]:
    """What was promised: no worse one, and the better ones that can be seen."""
    worse = [each for each in found if each.true_gain < 0.0]
    taken = [each for each in worse if each.is_promoted]
    seen: list[Retrain] = []
    for kind in dict.fromkeys(each.kind for each in found):
        group = [each for each in found if each.kind == kind]
        seen += [each for each in group if each.true_gain >= _detectable(group)]
    promoted = sum(each.is_promoted for each in seen)
    losses = ", ".join(f"{each.true_gain:+.1%}" for each in taken)
    return [
        Row(
            measure=f"{title}: worse challengers promoted",
            value=float(len(taken)),
            unit="",
            at_most=0.0,
            note=f"of {len(worse)}" + (f": {losses}" if losses else ""),
        ),
        Row(
            measure=f"{title}: better challengers promoted, where detectable",
            value=promoted / len(seen) if seen else None,
            unit="",
            at_least=0.9,
            note=f"{promoted} of {len(seen)}",
        ),
    ]


def main() -> None:
    """Print both tables and the promises."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="share of the retrains, 0 to 1")
    parser.add_argument("--worlds", type=int, default=6, help="worlds with real fits, five each")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    told = parser.parse_args()
    table = Table(told.json)
    rows: list[Row] = []
    parts = {"simulated": simulated(told.share), "real fits": fitted(told.worlds)}
    for title, retrains in parts.items():
        found, cost = measured(lambda of=retrains: list(of))  # type: ignore[misc]  # bound at once
        table.say(f"\n{title}: {len(found)} retrains, {cost}")
        for line in _lines(found):
            table.say(line)
        rows += _summary(title, found)
    table.say(f"\n{HEADER}")
    table.add(rows)
    if told.json:
        print(json.dumps([row.to_dict() for row in table.rows], indent=1))  # noqa: T201
    sys.exit(any(row.verdict == "missed" for row in table.rows))


if __name__ == "__main__":
    main()
