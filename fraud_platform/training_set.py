"""The rows a model learns from and is judged on: a point-in-time join, split by time."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainingPolicy:
    """How the mature past is cut into train, delay and test."""

    train_days: int = 21
    """Days of transactions that models are fitted on."""
    delay_days: int = 7
    """Days left out between train and test: in production their labels would not be known yet."""
    test_days: int = 7
    """The newest mature days; no model sees them before it is judged on them."""
    min_train_frauds: int = 50
    """Fewest frauds in the train slice; below, training waits (`LabelsNotMatureError`)."""
    min_test_frauds: int = 20
    """Fewest frauds in the test slice; below, nothing can be compared."""
