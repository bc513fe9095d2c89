"""The command and the asset `backtest` over real tables and bundles."""

import json
import shutil
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from fraud_platform.adapters.deployment import Deployment, write_deployment
from fraud_platform.adapters.policy_file import read_policy
from fraud_platform.adapters.tables import Tables
from fraud_platform.cli import main
from fraud_platform.decision import strongest_reasons
from fraud_platform.definitions import build_definitions
from fraud_platform.errors import PermanentError
from fraud_platform.features.spec import FEATURE_NAMES, FEATURES
from fraud_platform.labels import OUTCOME_COLUMNS, LabelPolicy, mature_by_day
from fraud_platform.model import matrix
from fraud_platform.outcome_policy import OutcomePolicy
from fraud_platform.schemas import LABELS
from fraud_platform.settings import Settings
from tests.small_bundles import pointer_to, trained, write_small_bundle

FIRST, DAYS, PER_DAY, MATURITY = date(2026, 1, 5), 20, 40, 7
LAST = FIRST + timedelta(days=DAYS - 1)
PERIOD = ("--from", "2026-01-06", "--to", "2026-01-17")  # the last five are not mature
LABEL_COLUMNS = LABELS.columns
LATE = f"t{5 * PER_DAY}"
"""A payment that silence called genuine, and that a verdict calls fraud on the last day."""


def midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def payments():
    """Payments whose amount is the first feature, which the small models suspect."""
    random = np.random.default_rng(7)
    size = DAYS * PER_DAY
    values = random.gamma(1.0, 2000.0, (size, len(FEATURE_NAMES)))
    start = midnight(FIRST)
    facts = pl.DataFrame(
        {
            "transaction_id": [f"t{row}" for row in range(size)],
            "event_timestamp": [start + timedelta(days=row / PER_DAY) for row in range(size)],
            "card_id": [f"c{card}" for card in random.integers(0, 90, size)],
            "terminal_id": "m",
            "amount_minor": values[:, 0].astype(np.int64),
            "currency": "EUR",
            "is_fraud": values[:, 0] > 4_000,
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )
    return facts, facts.hstack(pl.DataFrame(values, schema=list(FEATURE_NAMES)))


def verdict(paid, days, of="fraud"):
    known = pl.col("event_timestamp") + timedelta(days=days)
    told = {"verdict": of, "label_source": "chargeback", "label_timestamp": known}
    return paid.with_columns(received_timestamp=known, **{
        name: pl.lit(value) if isinstance(value, str) else value for name, value in told.items()
    })  # fmt: skip


def said(facts):
    """A verdict two days after each fraud, and one that comes after its payment came of age."""
    late = verdict(facts.filter(pl.col("transaction_id") == LATE), days=14)
    rows = pl.concat([verdict(facts.filter("is_fraud"), days=2), late])
    rows = rows.with_row_index("seq").with_columns(
        reason=pl.lit(None), reported_by=pl.lit(None), happened_timestamp=pl.lit(None)
    )
    return rows.select(pl.col(name).cast(kind) for name, kind in LABEL_COLUMNS.items())


def write_days(tables, name, rows, day):
    for age in range(DAYS):
        one = FIRST + timedelta(days=age)
        tables.write(name, one, rows.filter(day == one))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A home with tables and two bundles; read it only."""
    home = tmp_path_factory.mktemp("backtest") / "home"
    tables, (facts, wide) = Tables(home / "tables"), payments()
    labels = said(facts)
    declined = facts.filter(pl.col("transaction_id").is_in([f"t{PER_DAY}", f"t{PER_DAY + 1}"]))
    nobody = dict.fromkeys(("pass_propensity", "audit_propensity"), pl.lit(None, pl.Float64))
    decisions = declined.select("transaction_id", decision=pl.lit("decline"), **nobody)
    mature = mature_by_day(
        facts, labels, decisions.cast(OUTCOME_COLUMNS), policy=LabelPolicy(), first=FIRST, last=LAST
    )
    day = pl.col("event_timestamp").dt.date()
    write_days(tables, "validated_transactions", facts.drop("is_fraud"), day)
    write_days(tables, "transaction_features", wide.drop("is_fraud"), day)
    write_days(tables, "mature_labels", mature, day + timedelta(days=MATURITY))
    write_days(tables, "labels", labels, pl.col("label_timestamp").dt.date())
    bundles = [
        write_small_bundle(home / "models", version, trained(int(version))) for version in "12"
    ]
    roles = Deployment(champion=pointer_to(bundles[1]), previous=pointer_to(bundles[0]))
    write_deployment(home / "models", roles)
    return home


@pytest.fixture
def home(kept, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(kept, tmp_path / "home")


@pytest.fixture
def run(monkeypatch, request):
    def run(home, *words):
        monkeypatch.setattr(
            "fraud_platform.backtest_commands.get_settings", lambda: Settings(home=home)
        )
        return CliRunner().invoke(main, ["backtest", *words])

    return run


def told(done):
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(done, *texts):
    assert done.exit_code == 1, done.output
    assert all(text in done.stderr for text in ("Hint: ", *texts)), done.stderr


def test_two_models_are_compared_on_the_same_mature_payments(run, kept, tmp_path):
    page = tmp_path / "report.html"
    found = told(run(kept, "--candidate", "2", "--against", "1", *PERIOD, "--json",
                     "--out", str(page)))  # fmt: skip
    left = found["payments"]
    assert left["left_out_immature"] == 0
    assert left["judged"] + left["left_out_censored"] == 12 * PER_DAY
    assert (found["candidate"]["name"], found["against"]["name"]) == ("version 2", "version 1")
    moved = sum(part["moved"]["payments"] for part in found["swap_set"])
    assert moved == sum(part["payments"] for part in found["newly"].values()) > 0
    shown = [sample for part in found["swap_set"] for sample in part["samples"]]
    assert shown
    assert all(sample["reasons"] for sample in shown)
    assert "card" not in str([sorted(sample) for sample in shown])
    assert page.read_text().startswith("<!doctype html>")


def test_the_same_model_with_other_thresholds_and_rules_is_another_candidate(run, kept, tmp_path):
    path = tmp_path / "new.yaml"
    path.write_text(
        "review: 0.2\ndecline: 0.9\nrules:\n"
        "  - {name: small, outcome: approve, amount_below_minor: 4500}\n"
    )
    words = ("--candidate", "champion", "--policy", str(path), *PERIOD)
    found = told(run(kept, *words, "--json"))
    assert found["candidate"]["thresholds"] == {"review": 0.2, "decline": 0.9}
    assert found["against"]["thresholds"] == {"review": 0.3, "decline": 0.8}
    assert found["newly"]["approve"]["payments"] > 0
    assert found["difference"]["decline_rate"] < 0
    text = run(kept, *words).stdout
    assert "but for the rules small" in text
    assert "| newly approved |" in text


def test_thresholds_may_be_spelt_out_as_false_positive_rates(run, kept):
    policy = "review_fpr=0.1,decline_fpr=0.01"
    found = told(run(kept, "--candidate", "1", "--policy", policy, *PERIOD, "--json"))
    cuts = found["candidate"]["thresholds"]
    assert cuts["review"] not in (0.1, 0.3)
    assert cuts["review"] <= cuts["decline"]
    assert found["candidate"]["numbers"]["false_positive_rate"] <= 0.1


def test_the_reasons_of_a_sample_are_those_of_its_own_payment(run, kept):
    words = ("--candidate", "1", "--against", "1", *PERIOD, "--json", "--policy")
    runs = [told(run(kept, *words, cuts)) for cuts in ("review=0,decline=0", "review=2,decline=2")]
    parts = [part for found in runs for part in found["swap_set"]]
    samples = [sample for part in parts for sample in part["samples"]]
    features = payments()[1].select("transaction_id", *FEATURE_NAMES)
    for sample in samples:
        row = features.filter(pl.col("transaction_id") == sample["transaction_id"])
        shares = trained(1).explain(matrix(row, FEATURE_NAMES)).contributions[0]
        codes = strongest_reasons(shares, [one.reason_code for one in FEATURES], limit=3)
        assert [reason.split()[0] for reason in sample["reasons"]] == list(codes)
    assert len({tuple(sample["reasons"]) for sample in samples}) > 1


def test_features_in_another_order_change_nothing(run, kept, home):
    for path in (home / "tables" / "transaction_features").iterdir():
        pl.read_parquet(path).reverse().write_parquet(path)
    words = ("--candidate", "2", "--against", "1", *PERIOD, "--json")
    assert told(run(home, *words)) == told(run(kept, *words))


def test_a_payment_without_features_is_refused(run, home):
    path = Tables(home / "tables").path("transaction_features", date(2026, 1, 15), "parquet")
    pl.read_parquet(path)[1:].write_parquet(path)
    refused(run(home, "--candidate", "2", *PERIOD), "found features of 479 of 480 payments")


def test_a_champion_against_itself_changes_nothing(run, kept):
    found = told(run(kept, "--candidate", "champion", *PERIOD, "--json"))
    assert found["newly"]["decline"]["payments"] == found["difference"]["saved_minor"] == 0


def test_the_young_and_the_declined_are_counted_and_left_out(run, kept):
    found = told(run(kept, "--candidate", "2", "--from", "2026-01-06", "--to", "2026-01-19",
                     "--json"))["payments"]  # fmt: skip
    assert found["left_out_immature"] == 2 * PER_DAY
    frauds = payments()[0].filter(pl.col("transaction_id").is_in(["t40", "t41"]))["is_fraud"]
    assert found["left_out_censored"] == 2 - frauds.sum() > 0
    assert found["judged"] == 12 * PER_DAY - found["left_out_censored"]


def test_a_verdict_counts_once_it_was_known(run, kept):
    words = ("--candidate", "2", "--from", "2026-01-10", "--to", "2026-01-10", "--json")
    before = told(run(kept, *words, "--as-of", "2026-01-23"))["payments"]["frauds"]
    assert told(run(kept, *words, "--as-of", "2026-01-24"))["payments"]["frauds"] == before + 1


def test_a_bundle_outside_the_home_is_found_by_its_folder(run, kept, tmp_path):
    bundle = write_small_bundle(tmp_path, "stranger", trained(3))
    found = told(run(kept, "--candidate", str(bundle), *PERIOD, "--json"))
    assert found["candidate"]["name"] == "version stranger"


def test_reviews_are_set_against_the_capacity_that_was_stated(run, kept):
    found = told(run(kept, "--candidate", "2", *PERIOD, "--capacity", "1", "--json"))
    assert found["candidate"]["reviews_per_day"]["capacity"] == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--candidate", "17", *PERIOD), "found no model '17'"),
        (("--candidate", "challenger", *PERIOD), "no model with the role challenger"),
        (("--candidate", "2", "--from", "2026-01-17", "--to", "2026-01-06"), "first day before"),
        (("--candidate", "2", "--from", "2026-01-20", "--to", "2026-01-21"), "up to 2026-01-17"),
        (("--candidate", "2", "--from", "2025-12-01", "--to", "2026-01-06"), "found payments of"),
        (("--candidate", "2", *PERIOD, "--as-of", "2026-03-01"), "days of labels missing"),
        (("--candidate", "2", *PERIOD, "--policy", "gone.yaml"), "no readable policy"),
        (("--candidate", "2", *PERIOD, "--policy", "revue=0.3"), "unknown field `revue`"),
        (("--candidate", "2", *PERIOD, "--policy", "review=0.9"), "review <= decline"),
    ],
    ids=str,
)
def test_what_cannot_be_answered_says_why_and_what_to_do(run, kept, words, text):
    refused(run(kept, *words), text)


def test_a_policy_may_disturb_only_where_it_pays(run, kept):
    words = ("--candidate", "champion", *PERIOD, "--json", "--policy")
    found = told(run(kept, *words, "review=0,decline=0.5,worth_multiplier=1"))
    without = told(run(kept, *words, "review=0,decline=0.5"))
    alerts = [one["candidate"]["counts"]["approve"] for one in (found, without)]
    assert alerts[0]["genuine"] > alerts[1]["genuine"] == 0


def test_friction_that_costs_nothing_is_no_policy(run, kept):
    refused(run(kept, "--candidate", "2", *PERIOD, "--policy", "worth_multiplier=0"), "above 0")


def test_json_with_tabs_and_short_numbers_is_a_policy(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text('{\n\t"review_fpr": 1e-3,\n\t"decline": 0.9\n}')
    assert read_policy(str(path)) == OutcomePolicy(review_fpr=0.001, decline=0.9)


def test_yaml_may_write_a_share_without_a_point(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("review_fpr: 1e-3")
    assert read_policy(str(path)) == OutcomePolicy(review_fpr=0.001)


def test_yaml_makes_no_objects(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(f"review: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]")
    with pytest.raises(PermanentError, match="neither JSON nor YAML"):
        read_policy(str(path))
    assert not (tmp_path / "made").exists()


def test_a_page_that_cannot_be_written_is_refused_in_words(run, kept, tmp_path):
    page = tmp_path / "gone" / "report.html"
    refused(run(kept, "--candidate", "2", *PERIOD, "--out", str(page)), "found no way to write")


@pytest.mark.parametrize(
    "text",
    [
        "review: [",
        "review: 2026-06-31",
        "review: .inf",
        "review: .nan",
        "3",
        '{"rules": [{"name": "a", "outcome": "block"}]}',
    ],
    ids=str,
)
def test_a_file_that_is_no_policy_is_refused(run, kept, tmp_path, text):
    path = tmp_path / "policy.json"
    path.write_text(text)
    refused(run(kept, "--candidate", "2", *PERIOD, "--policy", str(path)), "policy.json")


@pytest.mark.parametrize("name", ["validated_transactions", "transaction_features",
                                  "mature_labels", "labels"])  # fmt: skip
def test_a_missing_day_is_named(run, home, name):
    day = date(2026, 1, 15)
    Tables(home / "tables").path(name, day, "parquet").unlink()
    refused(run(home, "--candidate", "2", *PERIOD), f"of {name} missing", "2026-01-15")


def test_features_of_other_code_are_refused(run, home):
    for path in (home / "tables" / "transaction_features").iterdir():
        pl.read_parquet(path).rename({FEATURE_NAMES[0]: "old_name"}).write_parquet(path)
    refused(run(home, "--candidate", "2", *PERIOD), f"without {FEATURE_NAMES[0]}")


def test_a_bundle_of_another_declaration_of_the_features_is_refused(run, kept, monkeypatch):
    monkeypatch.setattr("fraud_platform.adapters.model_bundle.spec_digest", lambda: "0" * 64)
    refused(run(kept, "--candidate", "2", *PERIOD), "declaration")


def test_the_asset_compares_the_champion_with_the_one_before_over_the_mature_days(home):
    definitions = build_definitions(Settings(home=home))
    whole = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        done = whole.get_subset(asset_selection={dg.AssetKey("backtest")}).execute_in_process(
            instance=instance, partition_key=str(LAST)
        )
        (event,) = done.asset_materializations_for_node("backtest")
    assert event.metadata["fraud/compared"].value == "version 2 against version 1"
    kept = json.loads((home / "tables" / "backtest" / f"{LAST}.json").read_text())
    assert (kept["report"]["from"], kept["report"]["to"]) == (str(FIRST), "2026-01-17")
    assert "Swap set" in event.metadata["fraud/backtest"].value


@pytest.mark.xdist_group("graph")  # where the story is told already
def test_a_home_that_went_through_the_whole_graph_can_be_asked(run, story):
    days = [date(2026, 1, 8) + timedelta(days=age) for age in range(20)]
    words = ("--candidate", "champion", "--policy", "review_fpr=0.05", "--json")
    period = ("--from", str(days[0]), "--to", str(days[-1]))
    found = told(run(story.settings.home, *words, *period))
    paid = story.tables.read("validated_transactions", days)
    mature = story.tables.read("mature_labels", [day + timedelta(days=7) for day in days])
    assert found["payments"]["judged"] == mature.height == paid.height
    assert found["payments"]["frauds"] >= mature["is_fraud"].sum() > 0
    assert found["candidate"]["numbers"]["false_positive_rate"] == pytest.approx(0.05, abs=0.005)
    assert found["candidate"]["judged_before_training"] == paid.height


def test_no_job_runs_the_backtest_by_itself(home):
    definitions = build_definitions(Settings(home=home))
    key = dg.AssetKey("backtest")
    jobs = ("daily", "retrain", "monitor", "roll_back")
    layers = [definitions.resolve_job_def(job).asset_layer for job in jobs]
    assert all(key not in layer.selected_asset_keys for layer in layers)
    assert definitions.resolve_asset_graph().get(key).automation_condition is None
