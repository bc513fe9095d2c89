"""A scorer's home to measure: a warm log, a model that really decides, and the next payments."""

import shutil
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.data import load, thinned
from fraud_platform.adapters.deployment import Deployment, Pointer, write_deployment
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.ingest import ingest, read_mapping
from fraud_platform.adapters.model_bundle import Evidence, Lineage, manifest_digest, write_bundle
from fraud_platform.adapters.promotion_signature import Authority, sign_roles
from fraud_platform.adapters.world_file import write_world
from fraud_platform.calibration import CalibrationPolicy, calibrate
from fraud_platform.decision import DecisionPolicy
from fraud_platform.features import batch
from fraud_platform.features.journal import Journal
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.load.payments import Payments
from fraud_platform.metrics import threshold_at_fpr
from fraud_platform.model import Model, matrix
from fraud_platform.settings import Settings

_PAYMENTS = 100_000
"""Enough for windows as deep as in all of the data, and for a start within seconds."""
_STREAM = 40_000
_REQUESTS = 20_000
_LEARNED = 30_000
_DEPTH, _BINS = 6, 128
_VERSIONS = ("1", "2")
_KNOWN_AFTER = timedelta(days=7)


@dataclass(frozen=True)
class Prepared:
    """Everything that is measured on.

    Attributes:
        home: a scorer's home: the history is in its log, model 1 is its champion, 2 lies beside it.
        history: the same events as tables, in the time of the log.
        stream: the payments that come next; `Payments` moves them to follow the history.
        newest: no payment of the stream happens later.
        model: model 1.
        vectors: its features of the stream's first payments, for servers that are handed them.
        origin: what the data is.
    """

    home: Path
    history: Journal
    stream: pl.DataFrame
    newest: datetime
    model: Model
    vectors: NDArray[np.float64]
    origin: str

    def payments(self) -> Payments:
        """The stream from its beginning, under new ids."""
        return _played(self.stream, self.newest)

    def copy(self, name: str) -> Path:
        """A home of its own with the same content."""
        return Path(shutil.copytree(self.home, self.home.with_name(name)))

    def publish(self, home: Path, version: str) -> None:
        """Make a version the champion of a home."""
        models = home / "models"
        pointer = Pointer(
            version=version, path=version, manifest_digest=manifest_digest(models / version)
        )
        found = Deployment(sequence=time.time_ns(), champion=pointer)
        write_deployment(models, sign_roles(models, found, Authority(by="benchmark")))


def prepare(
    rows: int | None, folder: Path, *, trees: int, now: datetime, enough: int = _PAYMENTS
) -> Prepared:
    """Read or simulate payments, train a model, and fill a home.

    Args:
        rows: about so many payments; None: as many as are needed for deep windows.
        folder: for the home.
        trees: of the model, each up to 6 deep.
        now: payments are moved to before this moment.
        enough: of more payments, about so many are kept: those of some cards.
    """
    data = load(rows)
    parts = round(data.log.transactions.height / enough)
    log = thinned(data.log, parts) if parts > 1 else data.log
    origin = f"{data.origin}; of these one of {max(parts, 1)} cards, as dense and as long"
    stream = log.transactions.tail(min(_STREAM, log.transactions.height // 4))
    features = batch.compute(log.transactions, log.labels)
    model = _trained(features, log, stream.height, trees)
    newest = now - timedelta(minutes=1)
    shift = _played(stream, newest).shift
    history = _history(log, stream, shift)
    home = folder / "home"
    _ingest(history, home, now)
    vectors = matrix(features.tail(stream.height).head(256), FEATURE_NAMES)
    prepared = Prepared(home, history, stream, newest, model, vectors, origin)
    past = features.head(features.height - stream.height)
    is_fraud = _is_fraud(past, log)
    for version in _VERSIONS:
        _write(home / "models", version, model, past, is_fraud)
    prepared.publish(home, _VERSIONS[0])
    return prepared


def _played(stream: pl.DataFrame, newest: datetime) -> Payments:
    """Room for more rounds than a fast machine gets through: times must not run into now."""
    return Payments(stream, requests=max(4 * stream.height, _REQUESTS), newest=newest)


def _trained(features: pl.DataFrame, log: Journal, unseen: int, trees: int) -> Model:
    import xgboost

    past = features.head(features.height - unseen)
    is_fraud = _is_fraud(past, log)
    # All frauds and an even sample of the rest make trees as large as all rows do, in less time.
    every = max(past.height // _LEARNED, 1)
    rows = past.filter(pl.Series(is_fraud) | (pl.int_range(pl.len()) % every == 0))
    values = matrix(rows, FEATURE_NAMES).astype(np.float32)
    table = xgboost.QuantileDMatrix(
        values, _is_fraud(rows, log), feature_names=list(FEATURE_NAMES), max_bin=_BINS
    )
    # Slow learning lets the trees grow as deep as they may: none is empty, which would be cheap.
    parameters: dict[str, Any] = {
        "objective": "binary:logistic",
        "max_depth": _DEPTH,
        "eta": 0.03,
        "tree_method": "hist",
        "nthread": 1,
        "max_bin": _BINS,
        "min_child_weight": 0,
    }
    booster = xgboost.train(parameters, table, num_boost_round=trees)
    return Model(
        library="xgboost",
        payload=bytes(booster.save_raw("ubj")),
        feature_names=FEATURE_NAMES,
        library_version=xgboost.__version__,
        parameters={"max_depth": _DEPTH},
        rounds=trees,
    )


def _is_fraud(rows: pl.DataFrame, log: Journal) -> NDArray[np.bool_]:
    frauds = log.labels.filter(pl.col("verdict") == "fraud")["transaction_id"]
    return rows["transaction_id"].is_in(frauds.implode()).to_numpy()


def _write(
    models: Path, version: str, model: Model, rows: pl.DataFrame, is_fraud: NDArray[np.bool_]
) -> None:
    values = matrix(rows, FEATURE_NAMES)
    scores, policy = model.score(values), DecisionPolicy()
    lineage = Lineage(
        review_threshold=threshold_at_fpr(is_fraud, scores, policy.review_fpr),
        decline_threshold=threshold_at_fpr(is_fraud, scores, policy.decline_fpr),
        trained_as_of="2026-01-01T00:00:00Z",
        training_set_digest="0" * 64,
        run_id="benchmark",
        report={},
    )
    evidence = Evidence(
        calibration=calibrate(is_fraud, scores, replace(CalibrationPolicy(), min_frauds=1)),
        golden=values[:64],
        reference=rows.tail(1_000),  # the oldest have no past yet, and score low
    )
    write_bundle(models, version, model, lineage, evidence)


def _history(log: Journal, stream: pl.DataFrame, shift: timedelta) -> Journal:
    """What came before the stream, moved along with it; verdicts that came later are not known."""
    first_seq = stream["seq"].min()
    before = pl.col("seq") < first_seq
    return Journal(
        log.transactions.filter(before).with_columns(pl.col("event_timestamp") + shift),
        log.labels.filter(before).with_columns(
            pl.col("label_timestamp") + shift, pl.col("event_timestamp") + shift
        ),
    )


def _ingest(history: Journal, home: Path, now: datetime) -> None:
    """By the door that every file takes."""
    frauds = history.labels.filter(pl.col("verdict") == "fraud").unique(
        "transaction_id", keep="first"
    )
    known = history.transactions.join(
        frauds.select("transaction_id", "label_timestamp"), on="transaction_id", how="left"
    ).with_columns(is_fraud=pl.col("label_timestamp").is_not_null())
    path = home / "history.parquet"
    mapping = write_world(known.sort("seq").drop("seq", "received_timestamp", "source"), path)
    settings = Settings(home=home)
    log = EventLog(settings.log_path)
    ingest(
        path,
        read_mapping(mapping),
        log=log,
        policy=settings.validation,
        received=now,
        token_key=None,
    )
    log.close()
    path.unlink()
