"""The champion against the one before, on past payments: started by hand, with any two models."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import dagster as dg

from assets import MODEL_RISK
from assets.timing import DAILY, MATURITY_DAYS, day_of, days_back
from fraud_platform.adapters.backtest_page import backtest_markdown
from fraud_platform.adapters.backtest_run import Contender, find_bundle, run_backtest
from fraud_platform.adapters.backtest_source import read_past
from fraud_platform.adapters.tables import Tables
from fraud_platform.backtest import BacktestPolicy
from fraud_platform.backtest_report import BacktestReport
from fraud_platform.settings import Settings

_DAYS = 28
_OLDEST, _NEWEST = MATURITY_DAYS + _DAYS - 1, MATURITY_DAYS


class BacktestConfig(dg.Config):
    """What to compare; the default is the last change of the champion."""

    candidate: str = "champion"
    """A role (champion, challenger, previous), a version, or the folder of a bundle."""
    against: str = "previous"
    """The same."""
    first: str | None = None
    """First day of payments, UTC; unset: 28 days that are mature at the end of the partition."""
    last: str | None = None
    """Last day, included; unset: the last mature one."""


@dataclass(frozen=True)
class Backtest:
    """What was compared and found."""

    candidate_version: str
    against_version: str
    report: dict[str, Any]


@dg.asset(
    partitions_def=DAILY,
    deps=[
        dg.AssetDep(name, partition_mapping=days_back(oldest, newest))
        for name, oldest, newest in (
            ("validated_transactions", _OLDEST, _NEWEST),
            ("transaction_features", _OLDEST, _NEWEST),
            ("mature_labels", _DAYS - 1, 0),
            ("labels", _OLDEST, 0),
        )
    ],
    kinds={"polars"},
    owners=[MODEL_RISK],
)
def backtest(
    context: dg.AssetExecutionContext,
    config: BacktestConfig,
    tables: dg.ResourceParam[Tables],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult[Backtest]:
    """What one model would have done to past payments, beside another: swap set, money, reviews.

    Only payments with mature labels, by what was known at the end of this day. Nothing waits for
    it; `fraud-platform backtest` asks the same with another policy.
    """
    as_of = day_of(context.partition_key)
    first, last = _period(config, as_of, tables)
    candidate, against = (
        Contender(bundle=find_bundle(settings.models_dir, told))
        for told in (config.candidate, config.against)
    )
    past = read_past(tables, first, last, as_of=as_of, maturity_days=MATURITY_DAYS)
    policy = BacktestPolicy(money=settings.money, reviews_per_day=settings.evaluation.cards_per_day)
    found = run_backtest(past, candidate, against, policy)
    return dg.MaterializeResult(
        value=Backtest(
            candidate.bundle.manifest.version, against.bundle.manifest.version, found.to_dict()
        ),
        metadata=_shown(found),
    )


def _period(config: BacktestConfig, as_of: date, tables: Tables) -> tuple[date, date]:
    last = date.fromisoformat(config.last) if config.last else as_of - timedelta(days=_NEWEST)
    if config.first:
        return date.fromisoformat(config.first), last
    known = tables.days("validated_transactions")[:1]
    return max([last - timedelta(days=_DAYS - 1), *known]), last


def _shown(found: BacktestReport) -> dict[str, Any]:
    names = (found.candidate.name, found.against.name)
    return {
        "fraud/compared": " against ".join(names),
        "fraud/judged": found.judged,
        "fraud/left_out": found.immature + found.censored,
        "fraud/saved_minor": found.difference["saved_minor"],
        "fraud/backtest": dg.MetadataValue.md(backtest_markdown(found)),
    }
