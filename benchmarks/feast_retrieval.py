"""How much point-in-time retrieval through Feast costs, by offline store.

Goal: for 50,000 rows Feast's own file store takes at least 20 times the CPU of ours, and every
value is the same. Feast's duckdb store is measured where the package ibis is installed.
"""

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.measure import Cost, found, measured
from fraud_platform.adapters.feature_store import import_feast
from fraud_platform.features.spec import FEATURES

OURS = "feature_repo.polars_offline_store.PolarsOfflineStore"
GOAL = 20
KEYS = ("card_id", "terminal_id", "event_timestamp")


def rows(
    transactions: pl.DataFrame, features: pl.DataFrame, *, entity_rows: int = 50_000
) -> list[dict[str, Any]]:
    """Retrieve three features of two views by each store; compare what it takes and answers.

    Args:
        transactions: payments; every n-th asks for its features at its own instant.
        features: rows as `features.batch.compute` answers them: the whole history.
        entity_rows: about how many payments ask.

    Returns:
        Lines of a table: name, value, unit, goal (text), and whether it is met.
    """
    asked = [*_features("card")[:2], *_features("terminal")[:1]]
    names = [reference.partition(":")[2] for reference in asked]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Of equal keys and times Feast's own store may answer any row; it merges rows that ask.
        history = _without_ties(
            features.select("card_id", "terminal_id", "event_timestamp", *names)
        )
        history.write_parquet(folder / "history.parquet")
        every = max(transactions.height // entity_rows, 1)
        entities = _without_ties(transactions.gather_every(every).select(KEYS)).with_row_index(
            "row"
        )
        answers = {}
        for store, kind in _stores().items():
            feast = _feast(folder, kind)
            _ask(feast, entities.head(1), asked)  # what is imported late is not measured
            answers[store] = measured(partial(_ask, feast, entities, asked))
    told = f"{entities.height:,} rows of {history.height:,}"
    return _lines(answers, told)


def _stores() -> dict[str, str]:
    """Offline stores by what the table calls them."""
    duckdb = {} if _absent("ibis.expr.types") else {"Feast's duckdb store": "duckdb"}
    return {"Feast's file store": "file", **duckdb, "PolarsOfflineStore": OURS}


def _absent(module: str) -> str:
    """Why a module cannot be used; nothing if it can."""
    return found(module)[1]


def _features(entity: str) -> list[str]:
    return [f"{entity}_features:{feature.name}" for feature in FEATURES if feature.entity == entity]


def _without_ties(frame: pl.DataFrame) -> pl.DataFrame:
    for key in ("card_id", "terminal_id"):
        frame = frame.unique([key, "event_timestamp"], keep="last", maintain_order=True)
    return frame


def _feast(folder: Path, kind: str) -> Any:
    """The platform's own views on the file, behind one kind of offline store."""
    import_feast()
    import feast

    from feature_repo.features import build

    name = kind.rpartition(".")[2]
    config = feast.RepoConfig(
        project="benchmark",
        provider="local",
        registry={"path": str(folder / f"{name}.db")},
        offline_store={"type": kind},
        online_store={"type": "sqlite", "path": str(folder / f"{name}-online.db")},
        entity_key_serialization_version=3,
    )
    store = feast.FeatureStore(config=config)
    store.apply(list(build(folder / "history.parquet").values()))
    return store


def _ask(store: Any, entities: pl.DataFrame, asked: list[str]) -> pl.DataFrame:
    """Retrieve as every user of Feast does: pandas in, pandas out."""
    job = store.get_historical_features(entities.to_pandas(), asked)
    return pl.from_pandas(job.to_df()).sort("row")


def _lines(answers: Mapping[str, tuple[pl.DataFrame, Cost]], told: str) -> list[dict[str, Any]]:
    ours, cost = answers["PolarsOfflineStore"]
    lines = [_line(f"PolarsOfflineStore, {told}: CPU", cost.cpu, "s")]
    lines.append(_line("PolarsOfflineStore: wall", cost.wall, "s"))
    for store, (answer, taken) in answers.items():
        if answer is ours:
            continue
        goal = GOAL if store == "Feast's file store" else None
        times, longer = taken.cpu / cost.cpu, taken.wall / cost.wall
        lines += [
            _line(f"{store}: CPU", taken.cpu, "s"),
            _line(f"{store}: wall", taken.wall, "s"),
            _line(f"{store} / PolarsOfflineStore, CPU", times, "x", at_least=goal),
            _line(f"{store} / PolarsOfflineStore, wall", longer, "x"),
            _differences(f"{store}: values that differ from ours", ours, answer),
        ]
    if why := _absent("ibis.expr.types"):
        unmeasured = {"value": None, "unit": "", "goal": "", "met": True}
        lines.append({"name": f"Feast's duckdb store: not measured, {why}"} | unmeasured)
    return lines


def _line(name: str, value: float, unit: str, at_least: float | None = None) -> dict[str, Any]:
    goal, met = ("", True) if at_least is None else (f">= {at_least:g}", value >= at_least)
    return {"name": name, "value": round(value, 3), "unit": unit, "goal": goal, "met": met}


def _differences(name: str, ours: pl.DataFrame, others: pl.DataFrame) -> dict[str, Any]:
    """How many values are not the same, bit for bit; a row that one store lost counts whole."""
    both = ours.join(others, on="row", how="full", coalesce=True, suffix="_of_other")
    columns = ours.columns[1:]
    differ = [pl.col(column).ne_missing(pl.col(f"{column}_of_other")).sum() for column in columns]
    count = sum(both.select(differ).row(0))
    unit = f"of {ours.height * len(columns):,}"
    return {"name": name, "value": count, "unit": unit, "goal": "0", "met": count == 0}
