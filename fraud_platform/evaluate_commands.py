"""The command `fraud-platform evaluate`: our model beside published ones, on public data.

Thin: it reads the file, lets the handbook's benchmark run and prints.
"""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from fraud_platform.adapters.replay_source import read_file
from fraud_platform.errors import DataContractError
from fraud_platform.features.journal import Journal
from fraud_platform.handbook.benchmark import P1, P2_TEST, P2_VALIDATION, run
from fraud_platform.handbook.rows import rows
from fraud_platform.mapping import Mapping
from fraud_platform.mapping_document import Columns, LabelColumns, Time
from fraud_platform.model import ModelPolicy
from fraud_platform.validation import ValidationPolicy

_AFTER_ALL = datetime(2100, 1, 1, tzinfo=UTC)
_FOLDS = {
    "validation": (P2_VALIDATION,),
    "test": (P1, P2_TEST),
    "all": (P1, P2_VALIDATION, P2_TEST),
}
_COLUMNS = Mapping(
    columns=Columns(
        transaction_id="TRANSACTION_ID",
        event_timestamp="TX_DATETIME",
        card_id="CUSTOMER_ID",
        terminal_id="TERMINAL_ID",
        amount="TX_AMOUNT",
    ),
    amount_unit="major",
    currency="EUR",
    time=Time(zone="UTC"),
    labels=LabelColumns(column="TX_FRAUD", fraud=1, genuine=0, known_after_days=7),
)
"""The handbook's raw data; its labels are known a week after the payment."""


@click.command()
@click.option(
    "--protocol",
    type=click.Choice(["handbook"]),
    required=True,
    help="The Fraud Detection Handbook's, on its simulated data.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="The handbook's transactions, raw, as one Parquet or CSV file.",
)
@click.option(
    "--folds",
    type=click.Choice(list(_FOLDS)),
    default="all",
    show_default=True,
    help="Choices are made on the validation folds; look at the test folds once.",
)
@click.option("--seed", default=ModelPolicy.seed, show_default=True, help="Of our fits.")
@click.option("--jobs", default=2, show_default=True, help="Fits at a time; changes no figure.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def evaluate(
    protocol: str,
    data: Path,
    folds: str,
    seed: int,
    jobs: int,
    as_json: bool,
) -> None:
    """Judge our model on public data, beside the published models and the same made again.

    Exit code 1 if a result is too good to be true, or if the published models do not come out as
    published: then the protocol is not theirs, and no figure of the report means anything.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    report = run(rows(read(data)), _FOLDS[folds], ModelPolicy(seed=seed), jobs)
    seconds = {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_started, 1),
    }
    told = {"protocol": protocol, "seed": seed, **seconds, **report.to_dict()}
    click.echo(json.dumps(told, indent=1) if as_json else f"{report.to_text()}\n\n{seconds}")
    sys.exit(1 if report.alarms or report.disproofs else 0)


def read(data: Path) -> Journal:
    """The handbook's raw data as a log.

    Raises:
        DataContractError: it is unusable, or not every row of it is a valid payment.
    """
    source = read_file(
        data, _COLUMNS, policy=ValidationPolicy(), received=_AFTER_ALL, token_key=None
    )
    if source.rows_refused or source.rows_repeated:
        raise DataContractError(
            f"found {source.rows_refused} rows that break a rule and {source.rows_repeated} with a"
            " repeated id, expected none: the protocol is about all of them"
        )
    return source.log
