"""Fitting and scoring: gradient-boosted trees, deterministic for the same rows and policy.

What belongs here: from rows to a model, from a matrix to scores and contributions. How a model is
stored and checked is `adapters.model_bundle`. Both libraries see the same numbers: features are
rounded to float32 in fitting and in scoring, so a score never depends on who computed a float64.
The libraries' own settings are in `boosting`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.boosting import (
    FitPlan,
    LightGBMTrainer,
    Part,
    Trainer,
    XGBoostTrainer,
    directions,
)
from fraud_platform.errors import (
    BundleIntegrityError,
    DataContractError,
    InexactExplanationError,
    LabelsNotMatureError,
    PermanentError,
)
from fraud_platform.search import RULES, Budget, Study, best, search
from fraud_platform.training_set import feature_columns

LIBRARIES = ("xgboost", "lightgbm")
"""The libraries a model can come from."""

EXACT = 1e-4
"""How far contributions may miss the margin: float32 sums of hundreds of trees stay below 1e-5."""
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class ModelPolicy:
    """The search that finds a model's parameters."""

    trials: int = 8
    """Parameter sets tried per library; the first is always the same proven one."""
    seed: int = 20_180_401
    """Seed of the search and of every fit."""
    max_rounds: int = 400
    """Upper bound of trees; early stopping on the last train days chooses the number."""
    early_stopping_rounds: int = 30
    """Stop when this many further trees brought nothing."""
    validation_days: int = 7
    """Last days of the train slice on which the search is judged; at most a third of the slice."""
    validation_gap_days: int = 7
    """Days left out before them, as between train and test; at most a third of the slice."""
    threads: int = 1
    """Threads of a fit; results do not depend on it."""
    max_seconds: float = 0.0
    """No further trial begins when all so far took longer, interrupted trainings included; then
    the model depends on the clock, and its run says how many trials there were. 0: no ceiling."""
    full_trials: int = 4
    """Trials that are never cut short; each later one ends when it is worse than the median of
    those before it. As many as `TRIALS`: none is cut short."""
    rising: tuple[str, ...] = ()
    """Features with which the score must never fall, all else equal; a JSON list."""
    falling: tuple[str, ...] = ()
    """Features with which it must never rise, all else equal; a JSON list."""

    def __post_init__(self) -> None:
        least = {"trials": 1, "seed": 0, "max_rounds": 1, "early_stopping_rounds": 1}
        least |= {"validation_days": 1, "validation_gap_days": 0, "threads": 1}
        least |= {"max_seconds": 0, "full_trials": 1}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"found {name}={getattr(self, name)}, expected at least {bound}")
        if both := set(self.rising) & set(self.falling):
            raise ValueError(f"found {sorted(both)} in rising and falling, expected one of them")


@dataclass(frozen=True, kw_only=True)
class Explanations:
    """Exact tree SHAP of some rows: each margin (log-odds) as a sum over the features.

    Attributes:
        base: shape (n,), the margin before any feature is looked at.
        contributions: shape (n, k), each feature's share; positive means more suspicious.
        margin: shape (n,), the model's margin, computed without contributions.
        is_exact: shape (n,), whether base and contributions add up to the margin, to `EXACT`.
    """

    base: NDArray[np.float64]
    contributions: NDArray[np.float64]
    margin: NDArray[np.float64]

    @cached_property
    def is_exact(self) -> NDArray[np.bool_]:
        """Whether a row's parts add up; False also where one is not a number."""
        found: NDArray[np.bool_] = (
            np.abs(self.base + self.contributions.sum(axis=1) - self.margin) <= EXACT
        )
        return found


@dataclass(frozen=True, kw_only=True)
class Model:
    """A fitted model as bytes, with what is needed to score.

    Attributes:
        library: "xgboost" or "lightgbm".
        payload: UBJSON (XGBoost) or text without its parameter block (LightGBM, whose block names
            the thread count); never a pickle.
        feature_names: the columns of the matrix, in order.
        library_version: version of the library that wrote the payload.
        parameters: what the search chose.
        rounds: number of trees.
    """

    library: str
    payload: bytes = field(repr=False)
    feature_names: tuple[str, ...]
    library_version: str
    parameters: Mapping[str, float | int | str] = field(hash=False)
    rounds: int

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the payload, hex."""
        return hashlib.sha256(self.payload).hexdigest()

    def score(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """The suspicion of each row; one row alone gets the same bits as in any batch.

        Args:
            features: shape (n, k), columns as in `feature_names`, NaN where unknown. Values beyond
                float32's range count as its largest.

        Returns:
            Shape (n,), in [0, 1], larger is more suspicious.

        Raises:
            DataContractError: the matrix has another width.
            BundleIntegrityError: the payload is no model of this library.
        """
        rounded = self.rounded(features)
        if self.library == "xgboost":
            scores = self.booster.inplace_predict(rounded, validate_features=False)
        else:
            scores = self.booster.predict(rounded.astype(np.float64), num_threads=1)
        return np.asarray(scores, dtype=np.float64)

    def margin(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """The log-odds behind `score`: shape (n,), larger is more suspicious.

        Raises:
            DataContractError: the matrix has another width.
        """
        rows = self.rounded(features)
        if self.library == "xgboost":
            found = self.booster.inplace_predict(
                rows, predict_type="margin", validate_features=False
            )
        else:
            found = self.booster.predict(rows.astype(np.float64), raw_score=True, num_threads=1)
        return np.asarray(found, dtype=np.float64)

    def explain(self, features: NDArray[np.float64]) -> Explanations:
        """How much each feature moved each row's margin, with what proves it.

        Costs as much as tens to hundreds of scores.

        Args:
            features: as for `score`.

        Raises:
            DataContractError: the matrix has another width.
        """
        rounded = self.rounded(features)
        if self.library == "xgboost":
            import xgboost

            # One thread: the matrix would otherwise start as many as there are cores per row.
            rows = xgboost.DMatrix(rounded, nthread=1)
            parts = self.booster.predict(rows, pred_contribs=True, validate_features=False)
            margin = self.booster.predict(rows, output_margin=True, validate_features=False)
        else:
            wide = rounded.astype(np.float64)
            parts = self.booster.predict(wide, pred_contrib=True, num_threads=1)
            margin = self.booster.predict(wide, raw_score=True, num_threads=1)
        parts = np.asarray(parts, dtype=np.float64)
        return Explanations(
            base=parts[:, -1],
            contributions=parts[:, :-1],
            margin=np.asarray(margin, dtype=np.float64),
        )

    def explanation(self, row: NDArray[np.float64]) -> Explanations:
        """`explain` of one row, shape (k,), or an error when it does not add up.

        Raises:
            InexactExplanationError: base and contributions miss the margin by more than `EXACT`.
        """
        found = self.explain(row.reshape(1, -1))
        if not found.is_exact[0]:
            reached = float(found.base[0] + found.contributions[0].sum())
            raise InexactExplanationError(
                f"The contributions add up to {reached:.6f}; the margin is {found.margin[0]:.6f}.",
                hint="another version of the library may compute them; report the model's digest.",
            )
        return found

    def rounded(self, features: NDArray[np.float64]) -> NDArray[np.float32]:
        """The matrix as the libraries see it: clipped to float32's range, and rounded to it.

        Raises:
            DataContractError: the matrix has another width.
        """
        return _rounded(features, len(self.feature_names))

    def scored(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with a column `score`; it must have the model's features as columns."""
        scores = self.score(matrix(frame, self.feature_names))
        return frame.with_columns(pl.Series("score", scores, dtype=pl.Float64))

    @cached_property
    def booster(self) -> Any:  # the libraries ship no types
        """The library's own object, parsed at first use."""
        # Two threads may both parse at first use; the results are equal and one is kept.
        if self.library == "xgboost":
            return _parsed_xgboost(self.payload)
        return _parsed_lightgbm(self.payload)


def matrix(frame: pl.DataFrame, feature_names: tuple[str, ...]) -> NDArray[np.float64]:
    """The named columns as a float64 matrix, NaN for null.

    Examples:
        >>> matrix(pl.DataFrame({"a": [1.0, None], "b": [2.0, 3.0]}), ("b", "a"))
        array([[ 2.,  1.],
               [ 3., nan]])
    """
    columns = frame.select(pl.col(name).cast(pl.Float64) for name in feature_names)
    return np.ascontiguousarray(columns.fill_null(float("nan")).to_numpy())


def fit(
    library: str, training_set: pl.DataFrame, policy: ModelPolicy, study: Study | None = None
) -> Model:
    """Search parameters and rounds on the last train days, then fit on the whole train slice.

    The search (`search.search`, starting from one proven set) maximises the area under the
    precision-recall curve on the newest days of the train slice, behind a gap like the one between
    train and test. Early stopping chooses the rounds there. Delay and test rows are never read.

    Args:
        library: "xgboost" or "lightgbm".
        training_set: what `training_set.build` returns; its row order is part of the input. Where
            not every `weight` is 1, rows count by it, in fitting and in judging.
        policy: size and seed of the search.
        study: where finished trials are kept, under `study_key`; those that it already has are not
            made again. None: nothing is kept, and nothing is timed.

    Returns:
        The model; the same input gives the same payload, byte for byte, unless `max_seconds` ended
        the search.

    Raises:
        LabelsNotMatureError: the inner cut leaves a part without frauds or without genuine rows.
        PermanentError: the library is none of `LIBRARIES`, a feature of `rising` or `falling` is
            none of the set's, or the seconds have a ceiling and there is no study to count them.
    """
    rows = training_set.filter(pl.col("slice") == "train")
    names = feature_columns(rows)
    trainer = _trainer(library, _plan(rows, names, policy))
    budget = Budget(
        trials=policy.trials,
        max_seconds=policy.max_seconds,
        full_trials=policy.full_trials,
        seed=policy.seed,
    )
    won = best(search(trainer, budget, study))
    return _refitted(library, trainer, names, won.parameters, won.rounds)


def study_key(library: str, training_set_digest: str, policy: ModelPolicy) -> str:
    """Names the search that `fit` makes: SHA-256, hex, of all that a trial depends on.

    The number of trials, the ceiling of seconds and the threads are left out: with more trials the
    same search goes on.

    Raises:
        PermanentError: the library is none of `LIBRARIES`.
    """
    trainer = _trainer_of(library)
    told = asdict(policy)
    for free in ("trials", "max_seconds", "threads"):
        del told[free]
    versions = {name: version(name) for name in (library, "optuna", "numpy")}
    code = (trainer.proven, trainer.space, trainer.fixed, RULES)
    depends = (library, training_set_digest, told, *code, versions)
    return hashlib.sha256(repr(depends).encode()).hexdigest()


def refit(
    library: str,
    rows: pl.DataFrame,
    chosen: Mapping[str, float | int | str],
    rounds: int,
    policy: ModelPolicy,
) -> Model:
    """Fit on all rows with parameters and rounds that were chosen elsewhere: no search, no test.

    Directions come from the policy, and from the parameters where it names none.

    Args:
        library: "xgboost" or "lightgbm".
        rows: `is_fraud`, the features, and any of `training_set.DESCRIPTION_COLUMNS`; their order
            is part of the input.
        chosen: the library's parameters by name.
        rounds: number of trees.
        policy: seed, threads and directions of the fit.

    Raises:
        LabelsNotMatureError: the rows hold no frauds, or nothing else.
        PermanentError: the library is none of `LIBRARIES`, or a feature of `rising` or `falling` is
            not among the columns.
    """
    names = feature_columns(rows)
    whole = _part(rows, names, "train")
    trainer = _trainer(library, _effort(policy, names, learn=whole, judged=whole, whole=whole))
    return _refitted(library, trainer, names, chosen, rounds)


def _trainer_of(library: str) -> type[XGBoostTrainer] | type[LightGBMTrainer]:
    if library not in LIBRARIES:
        raise PermanentError(f"Unknown library {library!r}; expected one of {LIBRARIES}.")
    return XGBoostTrainer if library == "xgboost" else LightGBMTrainer


def _trainer(library: str, plan: FitPlan) -> Trainer:
    return _trainer_of(library)(plan)


def _refitted(
    library: str,
    trainer: Trainer,
    names: tuple[str, ...],
    chosen: Mapping[str, float | int | str],
    rounds: int,
) -> Model:
    return Model(
        library=library,
        payload=trainer.refit(dict(chosen), rounds),
        feature_names=names,
        library_version=trainer.version,
        parameters={**chosen, **trainer.constraints},
        rounds=rounds,
    )


def _rounded(features: NDArray[np.float64], width: int) -> NDArray[np.float32]:
    if features.ndim != 2 or features.shape[1] != width:
        raise DataContractError(
            f"The feature matrix has shape {features.shape}; expected (n, {width})."
        )
    clipped = np.clip(features, -_LARGEST, _LARGEST)
    return np.ascontiguousarray(clipped, dtype=np.float32)


def _parsed_xgboost(payload: bytes) -> Any:
    import xgboost

    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(payload))
    except xgboost.core.XGBoostError as error:
        raise BundleIntegrityError("The payload is no XGBoost model.") from error
    booster.set_param({"nthread": 1})
    return booster


def _parsed_lightgbm(payload: bytes) -> Any:
    import lightgbm

    try:
        return lightgbm.Booster(model_str=payload.decode())
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise BundleIntegrityError("The payload is no LightGBM model.") from error


def _part(rows: pl.DataFrame, names: tuple[str, ...], what: str) -> Part:
    frauds = int(rows["is_fraud"].sum())
    if frauds in (0, rows.height):
        raise LabelsNotMatureError(
            f"The {what} rows of the search hold {frauds} frauds among {rows.height} rows; "
            "expected both kinds.",
            hint="wait for more mature labels, or change FRAUD_MODEL__VALIDATION_DAYS and "
            "FRAUD_MODEL__VALIDATION_GAP_DAYS, which cut the train days.",
        )
    is_fraud = rows["is_fraud"].cast(pl.Float32).to_numpy()
    return Part(_rounded(matrix(rows, names), len(names)), is_fraud, _weight(rows))


def _weight(rows: pl.DataFrame) -> NDArray[np.float64] | None:
    """What each row counts; None where all count alike, so that fits without weights stay as is."""
    if "weight" not in rows.columns or (rows["weight"] == 1.0).all():
        return None
    return rows["weight"].to_numpy()


def _plan(rows: pl.DataFrame, names: tuple[str, ...], policy: ModelPolicy) -> FitPlan:
    """Rows to fit on in the search and rows to judge on, time-ordered with a gap between."""
    day = pl.col("event_timestamp").dt.epoch("d")
    first, last = rows.select(day.min().alias("first"), day.max().alias("last")).row(0)
    third = (last - first + 1) // 3 if rows.height else 0
    start = (last or 0) - min(policy.validation_days, third) + 1
    gap = min(policy.validation_gap_days, third)
    return _effort(
        policy,
        names,
        learn=_part(rows.filter(day < start - gap), names, "fitting"),
        judged=_part(rows.filter(day >= start), names, "judging"),
        whole=_part(rows, names, "train"),
    )


def _effort(
    policy: ModelPolicy, names: tuple[str, ...], *, learn: Part, judged: Part, whole: Part
) -> FitPlan:
    return FitPlan(
        learn=learn,
        judged=judged,
        whole=whole,
        feature_names=names,
        seed=policy.seed,
        threads=policy.threads,
        max_rounds=policy.max_rounds,
        early_stopping_rounds=policy.early_stopping_rounds,
        directions=directions(names, policy.rising, policy.falling),
    )
