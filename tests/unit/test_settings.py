"""Where a setting comes from, who wins, and what is never shown."""

import json
import re
from dataclasses import fields
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from fraud_platform.evaluation import EvaluationPolicy
from fraud_platform.settings import Settings, settings_table

HIDDEN = "nobody-may-read-this"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that the environment names."""
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
    return tmp_path


def store(home: Path, **settings: object) -> None:
    (home / "settings.json").write_text(json.dumps(settings), "utf-8")


def test_the_defaults_are_the_policies_own(home):
    settings = Settings()
    assert settings.home == home
    assert settings.first_day == date(2026, 1, 1)
    assert settings.promotion == type(settings.promotion)()
    assert settings.dagster_postgres_url is None


def test_the_environment_wins_over_the_home_and_an_argument_over_both(home, monkeypatch):
    store(home, scorer_port=9001, sensor_seconds=7)
    assert (Settings().scorer_port, Settings().sensor_seconds) == (9001, 7)
    monkeypatch.setenv("FRAUD_SCORER_PORT", "9002")
    assert (Settings().scorer_port, Settings().sensor_seconds) == (9002, 7)
    assert Settings(scorer_port=9003).scorer_port == 9003


def test_the_home_given_as_an_argument_is_the_one_whose_file_counts(home, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    store(home, scorer_port=9001)
    store(other, scorer_port=9002)
    assert Settings(home=other).scorer_port == 9002


def test_one_field_of_a_policy_is_set_by_its_path_and_the_others_stay(home, monkeypatch):
    monkeypatch.setenv("FRAUD_PROMOTION__MIN_AVERAGE_PRECISION", "0.2")
    policy = Settings().promotion
    assert policy.min_average_precision == 0.2
    assert policy.max_average_precision == type(policy)().max_average_precision


def test_a_list_in_a_policy_comes_from_the_environment_as_json(home, monkeypatch):
    store(home, validation={"no_card_numbers_in": ["country"]})
    assert Settings().validation.no_card_numbers_in == ("country",)
    monkeypatch.setenv("FRAUD_VALIDATION__NO_CARD_NUMBERS_IN", '["terminal_id"]')
    assert Settings().validation.no_card_numbers_in == ("terminal_id",)


def test_the_home_and_the_environment_may_each_set_fields_of_one_policy(home, monkeypatch):
    store(home, model={"trials": 3, "threads": 2})
    monkeypatch.setenv("FRAUD_MODEL__TRIALS", "5")
    assert (Settings().model.trials, Settings().model.threads) == (5, 2)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FRAUD_SCORER_PORT", "many"),
        ("FRAUD_FIRST_DAY", "yesterday"),
        ("FRAUD_MODEL__TRIALS", "a few"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(home, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError, match=variable.split("_")[-1].lower()):
        Settings()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("FRAUD_DECISION__REVIEW_FPR", "2.0", "decline_fpr <= review_fpr < 1"),
        ("FRAUD_DECISION__REVIEW_FPR", "nan", "decline_fpr <= review_fpr < 1"),
        ("FRAUD_DECISION__DECLINE_FPR", "0.5", "decline_fpr <= review_fpr < 1"),
        ("FRAUD_DECISION__MAX_REASONS", "0", "at least 1"),
        ("FRAUD_LABELS__MATURITY_DAYS", "-3", "at least 0"),
        ("FRAUD_TRAINING__TEST_DAYS", "0", "at least 1"),
        ("FRAUD_TRAINING__TRAIN_DAYS", "2", "at least min_train_days=7"),
        ("FRAUD_MODEL__TRIALS", "0", "at least 1"),
        ("FRAUD_PROMOTION__MIN_AVERAGE_PRECISION", "0.99", "0 <= min < max <= 1"),
        ("FRAUD_PROMOTION__MARGIN", "-0.1", "0 to 1"),
        ("FRAUD_DRIFT__BINS", "1", "at least 2"),
        ("FRAUD_DRIFT__MAJOR_PSI", "nan", "above 0"),
        ("FRAUD_DRIFT__MAX_NULL_SHARE_GAIN", "1.5", "0 to below 1"),
        ("FRAUD_HEALTH__WINDOW_DAYS", "0", "at least 1"),
        ("FRAUD_HEALTH__MAX_ALERT_RATE_RATIO", "nan", "at least 1"),
        ("FRAUD_HEALTH__CONFIDENCE", "1.0", "between 0 and 1"),
        ("FRAUD_VALIDATION__MAX_AMOUNT_MINOR", "0", "at least 1"),
        ("FRAUD_VALIDATION__OLDEST_EVENT", "yesterday", "ISO 8601 with a zone"),
        ("FRAUD_VALIDATION__OLDEST_EVENT", "2000-01-01T00:00:00", "ISO 8601 with a zone"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_its_name_and_what_is_allowed(
    home, monkeypatch, variable, value, expected
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError) as error:
        Settings()
    _, policy, name = re.split("__?", variable.lower(), maxsplit=2)
    (problem,) = error.value.errors()
    assert problem["loc"] == (policy,)
    assert f"found {name}=" in problem["msg"] or f"and {name}=" in problem["msg"]
    assert value in problem["msg"]
    assert expected in problem["msg"]


def test_a_column_that_no_payment_has_is_refused_in_the_homes_file(home):
    store(home, validation={"no_card_numbers_in": ["shop"]})
    with pytest.raises(ValidationError, match=r"found no_card_numbers_in=\['shop'\]"):
        Settings()


def test_the_working_point_of_an_evaluation_has_the_same_bounds():
    with pytest.raises(ValueError, match="cards_per_day=0"):
        EvaluationPolicy(cards_per_day=0)
    with pytest.raises(ValueError, match=r"review_fpr=0\.5"):
        EvaluationPolicy(review_fpr=0.5, decline_fpr=0.6)


def test_a_misspelt_name_in_the_homes_file_is_refused(home):
    store(home, scorer_prot=9001)
    with pytest.raises(ValidationError, match="scorer_prot"):
        Settings()


def test_settings_do_not_change_while_the_platform_runs(home):
    with pytest.raises(ValidationError, match="frozen"):
        Settings().scorer_port = 1


@pytest.mark.parametrize("name", ["token_key", "jwt_secret", "dagster_postgres_url", "mlflow_uri"])
def test_a_secret_is_never_shown(home, monkeypatch, name):
    monkeypatch.setenv(f"FRAUD_{name.upper()}", HIDDEN)
    settings = Settings()
    assert getattr(settings, name).get_secret_value() == HIDDEN
    shown = (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump()))
    assert not [text for text in shown if HIDDEN in text]
    assert HIDDEN not in settings_table()


def test_the_table_has_a_row_with_a_meaning_for_every_setting():
    names = []
    for name, field in Settings.model_fields.items():
        policy = field.annotation if field.default_factory else None
        parts = [f"__{part.name.upper()}" for part in fields(policy)] if policy else [""]
        names += [f"FRAUD_{name.upper()}{part}" for part in parts]
    rows = [line.split("|")[1:4] for line in settings_table().splitlines()[2:]]
    assert [row[0].strip(" `") for row in rows] == names
    assert all(len(meaning.strip()) > 10 for _, _, meaning in rows), "say what the setting does"
    assert len(names) > 40


def test_every_path_lies_in_the_home(home):
    settings = Settings()
    paths = [
        getattr(settings, name)
        for name, value in vars(Settings).items()
        if isinstance(value, property) and name.endswith(("_dir", "_path"))
    ]
    assert len(paths) >= 7
    assert all(path.is_relative_to(home) for path in paths)


@pytest.mark.parametrize("seconds", ["-1", "-0.001", "nan", "inf"])
def test_checks_without_a_pause_are_refused(home, monkeypatch, seconds):
    monkeypatch.setenv("FRAUD_STATE_CHECK_SECONDS", seconds)
    with pytest.raises(ValidationError, match=r"expected 0 \(never\) or a number of seconds"):
        Settings()


def test_checks_can_be_switched_off(home):
    assert Settings(state_check_seconds=0).state_check_seconds == 0
