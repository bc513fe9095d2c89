"""The two boosting libraries behind one face: suggest, judge, refit.

What belongs here: each library's parameters and its way of binning, stopping early and writing
itself down. Which rows are used, and which trial wins, is `model`.

Source: bins, start values and bounds of the search follow measurements on the Fraud Detection
Handbook's data: rare high amounts and tiny shares drown in the libraries' default of 256 bins.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Parameters = dict[str, float | int | str]

_BINS = 4096


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


class Trainer(Protocol):
    """One library's part in the search."""

    proven: ClassVar[Parameters]
    version: str

    def suggest(self, trial: Any) -> Parameters:
        """Draw one parameter set from an Optuna trial."""

    def judge(self, chosen: Parameters) -> tuple[int, float]:
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

    def suggest(self, trial: Any) -> Parameters:
        """Draw one parameter set from an Optuna trial."""
        return {
            "learning_rate": trial.suggest_float("learning_rate", 0.04, 0.2, log=True),
            "max_depth": trial.suggest_int("max_depth", 3, 5),
            "min_child_weight": trial.suggest_float("min_child_weight", 0.5, 10.0, log=True),
            "subsample": trial.suggest_float("subsample", 0.6, 1.0),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.5, 10.0, log=True),
        }

    def judge(self, chosen: Parameters) -> tuple[int, float]:
        """Fit with early stopping; the best number of trees and the PR area there."""
        booster = self._library.train(
            self._fixed(chosen),
            self._learn,
            num_boost_round=self._plan.max_rounds,
            evals=[(self._judged, "judged")],
            early_stopping_rounds=self._plan.early_stopping_rounds,
            verbose_eval=False,
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
            "objective": "binary:logistic",
            "eval_metric": "aucpr",
            "tree_method": "hist",
            "max_bin": _BINS,
            "base_score": 0.5,  # an estimated start value costs precision on rare frauds
            "seed": self._plan.seed,
            "nthread": self._plan.threads,
            "verbosity": 0,
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

    def suggest(self, trial: Any) -> Parameters:
        """Draw one parameter set from an Optuna trial."""
        return {
            "learning_rate": trial.suggest_float("learning_rate", 0.04, 0.2, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 6, 24),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 60, log=True),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.6, 1.0),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 0.5, 10.0, log=True),
        }

    def judge(self, chosen: Parameters) -> tuple[int, float]:
        """Fit with early stopping; the best number of trees and the PR area there."""
        stop = self._library.early_stopping(self._plan.early_stopping_rounds, verbose=False)
        booster = self._library.train(
            self._fixed(chosen),
            self._learn,
            num_boost_round=self._plan.max_rounds,
            valid_sets=[self._judged],
            valid_names=["judged"],
            callbacks=[stop],
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
            "objective": "binary",
            "metric": "average_precision",
            "bagging_freq": 1,
            "max_bin": _BINS,
            "min_data_in_bin": 1,
            "feature_pre_filter": False,  # the bins are shared by trials with other leaf sizes
            "deterministic": True,
            "force_col_wise": True,
            "seed": self._plan.seed,
            "num_threads": self._plan.threads,
            "verbosity": -1,
        }
