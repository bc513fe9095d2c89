"""The two boosting libraries behind one face: what may be searched, judge, refit.

What belongs here: each library's parameters and its way of binning, stopping early and writing
itself down. Which trials are made, and which wins, is `search`; which rows are used is `model`.

Source: bins, start values and bounds of the search follow measurements on the Fraud Detection
Handbook's data: rare high amounts and tiny shares drown in the libraries' default of 256 bins.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fraud_platform.errors import PermanentError

Parameters = dict[str, float | int | str]
Watch = Callable[[int, float], bool]
"""Told after each round its number, from 1, and the PR area there; True ends the fit."""

_BINS = 4096


@dataclass(frozen=True)
class Span:
    """Bounds of one searched parameter, both inclusive; whole numbers if both are."""

    low: float
    high: float
    log: bool = False
    """Whether it is drawn evenly by its logarithm."""


@dataclass(frozen=True)
class Part:
    """Rows of one side of a cut: features of shape (n, k), labels 0.0 or 1.0 of shape (n,).

    `weight`, shape (n,), says how much each row counts; None: all alike.
    """

    features: NDArray[np.float32]
    is_fraud: NDArray[np.float32]
    weight: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class FitPlan:
    """What a trainer fits on, judges on, and finally fits on, with the bounds of the effort."""

    learn: Part
    judged: Part
    whole: Part
    feature_names: tuple[str, ...]
    seed: int
    threads: int
    max_rounds: int
    early_stopping_rounds: int
    directions: tuple[int, ...] = ()
    """Per feature 1 or -1 where the score must not fall or not rise with it, else 0; () is all 0.
    """


def directions(
    names: tuple[str, ...], rising: tuple[str, ...], falling: tuple[str, ...]
) -> tuple[int, ...]:
    """Per feature 1 (rising), -1 (falling) or 0; () where neither names one.

    Raises:
        PermanentError: one of them is not among the names.

    Examples:
        >>> directions(("a", "b", "c"), ("c",), ("a",))
        (-1, 0, 1)
    """
    told = dict.fromkeys(rising, 1) | dict.fromkeys(falling, -1)
    if unknown := sorted(set(told) - set(names)):
        raise PermanentError(
            f"The policy gives directions to {unknown}; the training set has no such features.",
            hint="correct FRAUD_MODEL__RISING and FRAUD_MODEL__FALLING.",
        )
    return tuple(told.get(name, 0) for name in names) if told else ()


class Trainer(Protocol):
    """One library's part in the search."""

    proven: ClassVar[Parameters]
    space: ClassVar[Mapping[str, Span]]
    version: str

    @property
    def constraints(self) -> Parameters:
        """The plan's directions as the library's parameter; empty where there are none."""

    def judge(self, chosen: Parameters, watch: Watch) -> tuple[int, float]:
        """Fit with early stopping; the best number of trees and the PR area there."""

    def refit(self, chosen: Parameters, rounds: int) -> bytes:
        """Fit on all rows and return the model as bytes."""


class XGBoostTrainer:
    """XGBoost with histograms fine enough to keep rare values apart."""

    proven: ClassVar[Parameters] = {
        "learning_rate": 0.1,
        "max_depth": 3,
        "min_child_weight": 1.0,
        "subsample": 0.8,
        "colsample_bytree": 0.6,
        "reg_lambda": 1.0,
    }
    space: ClassVar[Mapping[str, Span]] = {
        "learning_rate": Span(0.04, 0.2, log=True),
        "max_depth": Span(3, 5),
        "min_child_weight": Span(0.5, 10.0, log=True),
        "subsample": Span(0.6, 1.0),
        "colsample_bytree": Span(0.4, 1.0),
        "reg_lambda": Span(0.5, 10.0, log=True),
    }
    fixed: ClassVar[Parameters] = {
        "objective": "binary:logistic",
        "eval_metric": "aucpr",
        "tree_method": "hist",
        "max_bin": _BINS,
        "base_score": 0.5,  # an estimated start value costs precision on rare frauds
        "verbosity": 0,
    }

    def __init__(self, plan: FitPlan) -> None:
        import xgboost

        self.version = str(xgboost.__version__)
        self._library, self._plan = xgboost, plan

    @cached_property
    def _learn(self) -> Any:
        return self._binned(self._plan.learn)

    @cached_property
    def _judged(self) -> Any:
        return self._binned(self._plan.judged, self._learn)

    @property
    def constraints(self) -> Parameters:
        """The plan's directions as the library's parameter; empty where there are none."""
        told = ",".join(map(str, self._plan.directions))
        return {"monotone_constraints": f"({told})"} if told else {}

    def judge(self, chosen: Parameters, watch: Watch) -> tuple[int, float]:
        """Fit with early stopping; the best number of trees and the PR area there."""
        booster = self._library.train(
            self._fixed(chosen),
            self._learn,
            num_boost_round=self._plan.max_rounds,
            evals=[(self._judged, "judged")],
            early_stopping_rounds=self._plan.early_stopping_rounds,
            verbose_eval=False,
            callbacks=[_xgboost_callback(watch)],
        )
        return int(booster.best_iteration) + 1, float(booster.best_score)

    def refit(self, chosen: Parameters, rounds: int) -> bytes:
        """Fit on all rows and return the model as bytes."""
        whole = self._binned(self._plan.whole)
        booster = self._library.train(self._fixed(chosen), whole, num_boost_round=rounds)
        return bytes(booster.save_raw("ubj"))

    def _binned(self, part: Part, reference: Any = None) -> Any:
        return self._library.QuantileDMatrix(
            part.features,
            part.is_fraud,
            weight=part.weight,
            feature_names=list(self._plan.feature_names),
            max_bin=_BINS,
            nthread=self._plan.threads,
            ref=reference,
        )

    def _fixed(self, chosen: Parameters) -> dict[str, Any]:
        return {
            **chosen,
            **self.constraints,
            **self.fixed,
            "seed": self._plan.seed,
            "nthread": self._plan.threads,
        }


class LightGBMTrainer:
    """LightGBM with histograms fine enough to keep rare values apart."""

    proven: ClassVar[Parameters] = {
        "learning_rate": 0.1,
        "num_leaves": 8,
        "min_data_in_leaf": 10,
        "bagging_fraction": 0.8,
        "feature_fraction": 0.6,
        "lambda_l2": 1.0,
    }
    space: ClassVar[Mapping[str, Span]] = {
        "learning_rate": Span(0.04, 0.2, log=True),
        "num_leaves": Span(6, 24),
        "min_data_in_leaf": Span(5, 60, log=True),
        "bagging_fraction": Span(0.6, 1.0),
        "feature_fraction": Span(0.4, 1.0),
        "lambda_l2": Span(0.5, 10.0, log=True),
    }
    fixed: ClassVar[Parameters] = {
        "objective": "binary",
        "metric": "average_precision",
        "bagging_freq": 1,
        "max_bin": _BINS,
        "min_data_in_bin": 1,
        "feature_pre_filter": False,  # the bins are shared by trials with other leaf sizes
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }

    def __init__(self, plan: FitPlan) -> None:
        import lightgbm

        self.version = str(lightgbm.__version__)
        self._library, self._plan = lightgbm, plan

    @cached_property
    def _learn(self) -> Any:
        return self._binned(self._plan.learn)

    @cached_property
    def _judged(self) -> Any:
        return self._binned(self._plan.judged, self._learn)

    @property
    def constraints(self) -> Parameters:
        """The plan's directions as the library's parameter; empty where there are none."""
        told = ",".join(map(str, self._plan.directions))
        return {"monotone_constraints": told} if told else {}

    def judge(self, chosen: Parameters, watch: Watch) -> tuple[int, float]:
        """Fit with early stopping; the best number of trees and the PR area there."""
        stop = self._library.early_stopping(self._plan.early_stopping_rounds, verbose=False)
        booster = self._library.train(
            self._fixed(chosen),
            self._learn,
            num_boost_round=self._plan.max_rounds,
            valid_sets=[self._judged],
            valid_names=["judged"],
            callbacks=[_lightgbm_callback(watch), stop],
        )
        return int(booster.best_iteration), float(booster.best_score["judged"]["average_precision"])

    def refit(self, chosen: Parameters, rounds: int) -> bytes:
        """Fit on all rows and return the model as bytes."""
        whole = self._binned(self._plan.whole)
        booster = self._library.train(self._fixed(chosen), whole, num_boost_round=rounds)
        text = str(booster.model_to_string(num_iteration=-1))
        # The block that follows names the thread count; nothing in it is needed to score.
        return (text[: text.index("\nparameters:")] + "\n").encode()

    def _binned(self, part: Part, reference: Any = None) -> Any:
        return self._library.Dataset(
            part.features.astype(np.float64),
            part.is_fraud,
            weight=part.weight,
            feature_name=list(self._plan.feature_names),
            params=self._fixed({}),
            reference=reference,
        )

    def _fixed(self, chosen: Parameters) -> dict[str, Any]:
        return {
            **chosen,
            **self.constraints,
            **self.fixed,
            "seed": self._plan.seed,
            "num_threads": self._plan.threads,
        }


def _xgboost_callback(watch: Watch) -> Any:
    import xgboost

    class Watching(xgboost.callback.TrainingCallback):  # type: ignore[misc]  # has no types
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            return watch(epoch + 1, float(evals_log["judged"]["aucpr"][-1]))

    return Watching()


def _lightgbm_callback(watch: Watch) -> Any:
    import lightgbm

    def watching(state: Any) -> None:
        if watch(state.iteration + 1, float(state.evaluation_result_list[0][2])):
            raise lightgbm.callback.EarlyStopException(
                state.iteration, state.evaluation_result_list
            )

    return watching
