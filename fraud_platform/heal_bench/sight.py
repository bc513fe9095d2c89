"""What healing can know of the simulated platform, by the real monitors.

What belongs here: handing the monitors what a home would hand them. Nothing here reads the truth:
payments as sent, features as served, decisions as made, and verdicts as told by now.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.fallbacks import FALLBACKS
from fraud_platform.features.parity import Parity
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.heal import clues, probes, verdicts
from fraud_platform.heal.evidence import Evidence, Reading, Signal
from fraud_platform.heal.harm import Harm
from fraud_platform.heal.monitors import Window, payment_readings
from fraud_platform.heal.reference import MonitorPolicy, Reference
from fraud_platform.heal_bench.dealt import reported_us
from fraud_platform.heal_bench.plant import Plant
from fraud_platform.heal_bench.stage import NEVER_US
from fraud_platform.heal_bench.world import Bools, Floats, Ground, Ints, float_matrix
from fraud_platform.label_arrivals import judge_arrivals
from fraud_platform.label_delays import ANY
from fraud_platform.labels import LabelPolicy
from fraud_platform.schemas import UTC_MICROSECONDS

_LOOK_ROWS = 500
"""Payments are looked at again after so many,"""
_SLOW_ROWS = 2_500
"""and labels and parity after so many."""
_REPLAY_ROWS = 2_000
"""A replay of another champion is at once, of the same one after so many."""
_PARITY_ROWS = 500
_REFERENCE_ROWS = 60_000
_SAMPLE = 6_000
_REPORT_DAYS, _AUDIT_DAYS = 14, 2
_ARRIVALS = LabelPolicy(arrival_days=1)
_DAY_US = 86_400_000_000


class Sight:
    """The eyes of healing on one run.

    Args:
        plant: what is looked at.
        harm: counts as the scorer's do.
        policy: bounds of the monitors.
    """

    def __init__(self, plant: Plant, harm: Harm, policy: MonitorPolicy) -> None:
        self._plant, self._harm, self._policy = plant, harm, policy
        self._reference = _first_reference(plant.stage.draft.ground, policy)
        self._looked = self._slow = -(10**9)
        self._proved: tuple[tuple[str, bool], Reading] | None = None
        self._replayed: tuple[str, int, Reading] | None = None
        self._of_payments: dict[Signal, Reading] = {}
        self._of_verdicts: dict[Signal, Reading] = {}

    def evidence(self) -> Evidence:
        """All that is known when the plant has decided its newest payment."""
        plant, now_us = self._plant, self._plant.now_us
        readings = self._machinery(now_us)
        if not self._is_silent:
            self._refresh()
            readings |= self._of_payments | self._of_verdicts
            readings |= {r.signal: r for r in self._harm.readings(now_us)}
        sent_us = plant.stage.sent["event_timestamp"][: plant.row].tail(1_000).cast(pl.Int64).max()
        return Evidence(
            readings={s: replace(r, measured_us=now_us) for s, r in readings.items()},
            event_us=int(sent_us or 0),  # type: ignore[arg-type]  # an Int64 column
            now_us=now_us,
            rows=plant.row,
            champion=plant.champion.name,
            previous=plant.previous.name,
            fallbacks=tuple(FALLBACKS),
            orders=plant.orders.digest,
        )

    def rebase(self) -> None:
        """What is normal is learnt again from the newest payments: a remedy has been verified."""
        stage, row = self._plant.stage, self._plant.row
        first = max(0, row - stage.draft.ground.size.check)
        payments = stage.sent[first:row].sort("event_timestamp")
        features = _frame(stage.served[first:row])
        scores = self._plant.replayed(self._plant.decider, first, row)
        known = pl.concat([self._reference.payments, payments]).tail(_REFERENCE_ROWS)
        self._reference = Reference(known, features, scores, self._policy)

    @property
    def _is_silent(self) -> bool:
        stage = self._plant.stage
        return stage.draft.is_silent and stage.onset <= self._plant.row < stage.fixed

    def _machinery(self, now_us: int) -> dict[Signal, Reading]:
        plant, policy = self._plant, self._policy
        silence = 3_600 if self._is_silent else 1
        readings = [
            probes.heartbeat({"scorer": now_us - silence * 1_000_000}, now_us, policy),
            clues.change(plant.changed, now_us, policy),
        ]
        if not self._is_silent:
            readings += [self._artifact(), self._configuration(), self._golden()]
            readings += [self._age(), self._replay()]
        return {reading.signal: reading for reading in readings}

    def _artifact(self) -> Reading:
        plant = self._plant
        is_wrong = plant.fault is not None and plant.fault.signal == "artifact"
        running = plant.fault.arm.name if is_wrong and plant.fault else plant.champion.name
        if is_wrong and running == "corrupt":
            running = plant.champion.name  # what was loaded was right; memory has changed since
        return probes.artifact({"champion": plant.champion.name}, {"champion": running})

    def _configuration(self) -> Reading:
        plant = self._plant
        running = plant.champion if plant.fault is None else plant.fault.arm
        is_wrong = plant.fault is not None and plant.fault.signal == "configuration"
        told = str(running.thresholds) if is_wrong else str(plant.champion.thresholds)
        return probes.configuration(
            {"thresholds": str(plant.champion.thresholds)}, {"thresholds": told}
        )

    def _golden(self) -> Reading:
        """Rows as the running model scores them, against what was recorded of its version."""
        plant = self._plant
        running = plant.champion if plant.fault is None else plant.fault.arm
        is_torn = plant.fault is not None and plant.fault.signal == "artifact"
        if self._proved is None or self._proved[0] != (running.name, is_torn):
            rows = plant.stage.draft.ground.judged.features[:512]
            sound = replace(running, distortion=None) if is_torn else running
            told = probes.golden_rows(sound.score(rows), running.score(rows), self._policy)
            self._proved = (running.name, is_torn), told
        return self._proved[1]

    def _age(self) -> Reading:
        row = self._plant.row
        ages = self._plant.stage.answers.age_us[max(0, row - 1_000) : row]
        return probes.feature_age(ages.astype(np.float64), self._policy)

    def _replay(self) -> Reading:
        plant, row = self._plant, self._plant.row
        if not plant.changed:
            none = np.zeros(0, dtype=bool)
            return clues.replay(none, none, self._policy)
        held = self._replayed
        if held and held[0] == plant.champion.name and row - held[1] < _REPLAY_ROWS:
            return held[2]
        first = max(0, row - self._policy.window)
        new, old = (
            plant.replayed(arm, first, row) >= arm.thresholds.review
            for arm in (plant.champion, plant.previous)
        )
        cards = plant.stage.sent["card_id"][first:row].to_list()
        told = clues.replay(new, old, self._policy, cards)
        self._replayed = plant.champion.name, row, told
        return told

    def _refresh(self) -> None:
        """Look again where it is due."""
        row = self._plant.row
        if row - self._looked >= _LOOK_ROWS:
            self._looked = row
            self._of_payments = payment_readings(self._reference, self._window())
            self._of_verdicts |= {reading.signal: reading for reading in self._audits()}
        if row - self._slow >= _SLOW_ROWS:
            self._slow = row
            slow = [self._missed(), self._arrivals(), self._parity()]
            self._of_verdicts |= {reading.signal: reading for reading in slow}

    def _window(self) -> Window:
        stage, row = self._plant.stage, self._plant.row
        rows = slice(max(0, row - self._policy.window), row)
        return Window(
            payments=stage.sent[rows],
            features=_frame(stage.served[rows]),
            scores=self._plant.dealt.score[rows],
        )

    def _missed(self) -> Reading:
        plant, dealt, row = self._plant, self._plant.dealt, self._plant.row
        first = self._since(_REPORT_DAYS)
        rows = np.flatnonzero(~dealt.would[first:row]) + first
        reported = reported_us(plant.stage, dealt, rows, plant.now_us)
        told = plant.stage.sent[rows].select("card_id", "event_timestamp")
        told = told.with_columns(
            probability=pl.Series(dealt.probability[rows]).fill_nan(None),
            reported_timestamp=_times(reported),
        )
        return verdicts.missed_fraud(
            told, self._known_share, plant.now_us, self._policy, usual_ratio=self._usual_ratio
        )

    def _audits(self) -> tuple[Reading, Reading]:
        plant, dealt, row = self._plant, self._plant.dealt, self._plant.row
        rows = np.arange(self._since(_AUDIT_DAYS), row)
        judged = plant.stage.verdicts.judged_us[rows] <= plant.now_us
        rows = rows[dealt.audited[rows] & judged & ~np.isnan(dealt.probability[rows])]
        return verdicts.audited(
            dealt.probability[rows],
            plant.stage.verdicts.says_fraud[rows].astype(np.float64),
            dealt.propensity[rows],
            self._policy,
        )

    def _arrivals(self) -> Reading:
        """Reports of the last day against the days before; days begin at this hour here."""
        plant, dealt, row = self._plant, self._plant.dealt, self._plant.row
        now = datetime.fromtimestamp(plant.now_us / 1e6, UTC)
        back = timedelta(microseconds=plant.now_us % _DAY_US)
        rows = np.arange(row)
        reported = reported_us(plant.stage, dealt, rows, plant.now_us)
        rows = rows[reported < NEVER_US]
        ours = plant.stage.sent[rows].select("transaction_id", "event_timestamp")
        ours = ours.with_columns(label_timestamp=_times(reported[rows]))
        before = plant.stage.draft.ground.reports.select(ours.columns)
        told = pl.concat([before.cast(ours.schema), ours]).with_columns(
            verdict=pl.lit("fraud"), label_source=pl.lit("chargeback")
        )
        clock = pl.col("event_timestamp", "label_timestamp")
        shifted = told.with_columns(clock - back)
        paid = self._paid(row).with_columns(pl.col("event_timestamp") - back)
        days = (
            paid.group_by(day=pl.col("event_timestamp").dt.date())
            .agg(payments=pl.len())
            .sort("day")
        )
        days = days.with_columns(pl.col("payments").cast(pl.Int64))
        found = judge_arrivals(shifted, days, as_of=now - back, policy=_ARRIVALS)
        return verdicts.label_arrivals(found.filter(pl.col("label_source") != ANY))

    def _paid(self, row: int) -> pl.DataFrame:
        ground = self._plant.stage.draft.ground
        first = ground.reports["event_timestamp"].min()
        history = ground.frame[: ground.start].filter(pl.col("event_timestamp") >= first)
        ours = self._plant.stage.sent[:row].select("event_timestamp")
        return pl.concat([history.select("event_timestamp"), ours])

    def _parity(self) -> Reading:
        stage, row = self._plant.stage, self._plant.row
        rows = slice(max(0, row - _PARITY_ROWS), row)
        served, again = stage.served[rows], stage.recomputed[rows]
        differs: Bools = ~((served == again) | (np.isnan(served) & np.isnan(again)))
        wrong = dict(zip(FEATURE_NAMES, differs.sum(axis=0).tolist(), strict=True))
        return probes.parity(
            Parity(
                decisions=served.shape[0],
                decisions_compared=served.shape[0],
                values_compared=served.size,
                mismatches=int(differs.sum()),
                missing=0,
                extra=0,
                sample=1.0,
                mismatches_by_feature={name: count for name, count in wrong.items() if count},
            ),
            self._policy,
        )

    def _since(self, days: int) -> int:
        begin = self._plant.now_us - days * _DAY_US
        return int(np.searchsorted(self._plant.stage.arrived_us, begin))

    @cached_property
    def _usual_ratio(self) -> float:
        """Cards to frauds among the reports of a week like that of the run."""
        reports = self._plant.stage.draft.ground.reports
        newest: datetime = reports["event_timestamp"].max()  # type: ignore[assignment]  # Datetime
        week = reports.filter(pl.col("event_timestamp") > newest - timedelta(days=7))
        return week["card_id"].n_unique() / week.height

    @cached_property
    def _delays(self) -> Floats:
        reports = self._plant.stage.draft.ground.reports
        delay = (reports["label_timestamp"] - reports["event_timestamp"]).dt.total_microseconds()
        return np.sort(delay.to_numpy() / _DAY_US)

    def _known_share(self, age_days: Floats) -> Floats:
        reached = np.searchsorted(self._delays, age_days, side="right")
        return np.asarray(reached / self._delays.size)


def _first_reference(ground: Ground, policy: MonitorPolicy) -> Reference:
    payments = ground.lately.tail(_REFERENCE_ROWS * 4).with_columns(
        received_timestamp=pl.col("event_timestamp") + timedelta(seconds=2)
    )
    every = max(1, payments.height // _SAMPLE)
    sample = float_matrix(payments.gather_every(every))
    columns = [c for c in payments.columns if c in _SENT]
    return Reference(
        payments.select(columns), _frame(sample), ground.champion.score(sample), policy
    )


_SENT = (
    "transaction_id",
    "event_timestamp",
    "card_id",
    "terminal_id",
    "amount_minor",
    "currency",
    "merchant_category",
    "payment_method",
    "country",
    "device_id",
    "entry_mode",
    "latitude",
    "longitude",
    "received_timestamp",
)


def _frame(features: NDArray[np.float32]) -> pl.DataFrame:
    wide = features.astype(np.float64)
    return pl.DataFrame(wide, schema=list(FEATURE_NAMES)).fill_nan(None)


def _times(us: Ints) -> pl.Series:
    """Microseconds as moments, null for never."""
    at = pl.Series(us)
    return pl.select(pl.when(at < NEVER_US).then(at).cast(UTC_MICROSECONDS)).to_series()
