"""The command `fraud-platform backtest`: what another model or policy would have done.

Thin: it finds bundles and past payments, lets `backtest` count and prints.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fraud_platform.adapters.operator import operator_of
from fraud_platform.settings import Settings, get_settings

if TYPE_CHECKING:
    from fraud_platform.backtest_report import BacktestReport

_DATE = click.DateTime(("%Y-%m-%d",))


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the command was asked for; the options' help says what each is."""

    candidate: str
    against: str
    policy: str | None
    first: datetime
    last: datetime
    as_of: datetime | None
    capacity: int | None
    samples: int
    as_json: bool
    out: Path | None


@click.command()
@click.option("--candidate", required=True, help="A version, a role, or the folder of a bundle.")
@click.option(
    "--against",
    default="champion",
    show_default=True,
    help="The same; roles are champion, challenger and previous.",
)
@click.option(
    "--policy",
    help="The candidate's thresholds and rules: a JSON or YAML file, or review=0.3,decline=0.8, or "
    "review_fpr=0.02,decline_fpr=0.002. Default: its own thresholds.",
)
@click.option("--from", "first", type=_DATE, required=True, help="First day of payments, UTC.")
@click.option("--to", "last", type=_DATE, required=True, help="Last day, included.")
@click.option("--as-of", type=_DATE, help="By labels known at its end; default: the newest day.")
@click.option(
    "--capacity",
    type=click.IntRange(min=1),
    help="Reviews that people can do in a day; default: FRAUD_EVALUATION__CARDS_PER_DAY.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Payments shown of each change of outcome.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Write it as one HTML page, too.")
def backtest(**options: object) -> None:
    """Decide on past payments again, by another model or policy, and count what changes.

    Only payments with a mature label are judged; the others are counted and left out. Both sides
    decide on the same payments, from the features that the tables keep.

    A policy file has review and decline (scores), or review_fpr and decline_fpr (shares of the
    genuine payments), and rules: each has a name, an outcome (approve, review, decline) and any of
    amount_from_minor, amount_below_minor (minor units, such as cents) and score_from. The first
    rule that fits decides. With worth_multiplier (1, say) what the cuts would disturb is disturbed
    only where that pays, by FRAUD_MONEY__* and FRAUD_WORTH__*.
    """
    asked = _Asked(**options)  # type: ignore[arg-type]  # click made each option what it says
    report = _run(asked, get_settings())
    if asked.out is not None:
        _write_page(report, asked.out, get_settings())
    click.echo(json.dumps(report.to_dict(), indent=1) if asked.as_json else report.to_markdown())


def _run(asked: _Asked, settings: Settings) -> "BacktestReport":
    from fraud_platform.adapters.backtest_run import Contender, find_bundle, run_backtest
    from fraud_platform.adapters.backtest_source import newest_labels, read_past
    from fraud_platform.adapters.home import in_use
    from fraud_platform.adapters.policy_file import read_policy
    from fraud_platform.adapters.tables import Tables
    from fraud_platform.backtest import BacktestPolicy

    policy = BacktestPolicy(
        money=settings.money,
        worth=settings.worth,
        reviews_per_day=asked.capacity or settings.evaluation.cards_per_day,
        samples=asked.samples,
    )
    told = {} if asked.policy is None else {"policy": read_policy(asked.policy)}
    with in_use(settings.home):
        tables = Tables(settings.tables_dir)
        candidate, against = (
            find_bundle(settings.models_dir, name) for name in (asked.candidate, asked.against)
        )
        past = read_past(
            tables,
            asked.first.date(),
            asked.last.date(),
            as_of=asked.as_of.date() if asked.as_of else newest_labels(tables),
            maturity_days=settings.labels.maturity_days,
        )
    challenger = Contender(bundle=candidate, note=asked.policy or "", **told)
    return run_backtest(past, challenger, Contender(bundle=against), policy)


def _write_page(report: "BacktestReport", path: Path, settings: Settings) -> None:
    from fraud_platform.adapters.backtest_page import backtest_page
    from fraud_platform.adapters.file_acts import export

    export(backtest_page(report).encode(), path, operator_of(settings, "backtest"), settings)
