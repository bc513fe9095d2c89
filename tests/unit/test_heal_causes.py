from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.heal.causes import (
    BLIND,
    CAUSES,
    EXACT,
    HEALTHY,
    NAMES,
    UNKNOWN,
    as_markdown,
    diagnose,
    table,
)
from fraud_platform.heal.evidence import TIERS, Evidence, Signal, Standing, Tier
from fraud_platform.heal.sights import explained_by
from tests.unit.heal_evidence import evidence

S = Signal
INVARIANTS = [signal for signal in Signal if TIERS[signal] is Tier.INVARIANT]
BREAKAGE = (
    *("unit_change", "mixed_history", "null_flood", "schema_change", "range_break"),
    *("duplicate_feed", "clock_skew", "stale_features", "serving_skew"),
)
DRIFTED = (S.FEATURE_SHIFT, S.DISTURBED_RATE)

ROWS = [
    # what is breached, what is blind, the cause
    ((), (), HEALTHY),
    ((S.GOLDEN_ROWS,), (), "model_artifact"),
    ((S.ARTIFACT, S.LATENCY), (), "model_artifact"),
    ((S.CONFIGURATION, S.DISTURBED_RATE), (), "configuration_error"),
    ((S.HEARTBEAT,), (), BLIND),
    (DRIFTED, (S.HEARTBEAT,), BLIND),
    ((), tuple(Signal), BLIND),
    (tuple(INVARIANTS[5:12]), (), BLIND),
    ((S.LATENCY,), (), "latency"),
    ((S.ERRORS, S.CHANGE), (), "latency"),
    ((S.UNITS, S.RANGES, *DRIFTED), (), "unit_change"),
    ((S.NULLS, *DRIFTED), (), "null_flood"),
    ((S.CATEGORIES, S.FEATURE_SHIFT), (), "schema_change"),
    ((S.SCHEMA,), (), "schema_change"),
    ((S.RANGES,), (), "range_break"),
    ((S.CROSS_FIELDS, *DRIFTED), (), "range_break"),
    ((S.DUPLICATES, S.VOLUME, S.CONCENTRATION), (), "duplicate_feed"),
    ((S.CLOCK, S.FEATURE_AGE, S.VOLUME), (), "clock_skew"),
    ((S.FEATURE_AGE, S.PARITY, *DRIFTED), (), "stale_features"),
    ((S.PARITY, *DRIFTED), (), "serving_skew"),
    ((S.LABEL_ARRIVALS,), (), "label_pipeline"),
    ((S.LABEL_CONFLICTS, S.MISSED_FRAUD), (), "label_pipeline"),
    ((S.REPLAY, S.CHANGE, S.DISTURBED_RATE), (), "bad_release"),
    ((S.REPLAY, S.CHANGE, S.LATENCY, S.ERRORS, S.DISTURBED_RATE), (), "bad_release"),
    ((S.REPLAY, S.LATENCY), (), "latency"),
    ((S.CANARY,), (), "bad_release"),
    ((S.AUDITED_SURGE, S.CONCENTRATION, S.DISTURBED_RATE), (), "attack"),
    ((S.AUDITED_SURGE, S.VOLUME), (), "attack"),
    ((S.AUDITED_SURGE, *DRIFTED), (), "attack"),
    ((S.CONCENTRATION, S.DISTURBED_RATE, S.VOLUME), (), "bots"),
    ((S.VOLUME, S.FEATURE_SHIFT), (), "demand_surge"),
    ((S.VOLUME, *DRIFTED), (), "demand_surge"),
    ((S.VOLUME,), (S.AUDITED_SURGE,), "demand_surge"),
    ((S.MISSED_FRAUD,), (), "concept_drift"),
    ((S.AUDITED_PRECISION,), (), "concept_drift"),
    (DRIFTED, (), "covariate_shift"),
    ((S.FEATURE_SHIFT, S.AUDITED_PRECISION), (), "covariate_shift"),
    ((S.FEATURE_SHIFT, S.QUIET_RATE), (), "covariate_shift"),
    (DRIFTED, (S.MISSED_FRAUD, S.LABEL_ARRIVALS), "covariate_shift"),
    ((S.DISTURBED_RATE,), (), UNKNOWN),
    ((S.REPLAY,), (), UNKNOWN),
    ((S.AUDITED_PRECISION,), (S.FEATURE_SHIFT,), UNKNOWN),
    ((S.CONCENTRATION,), (S.AUDITED_SURGE,), UNKNOWN),
    ((S.FEATURE_SHIFT, S.SCORE_SHIFT), (), "benign_shift"),
    ((S.CHANGE,), (), HEALTHY),
    ((S.AUDITED_SURGE,), (), HEALTHY),
]


@pytest.mark.parametrize(
    ("breached", "blind", "cause"), ROWS, ids=[f"{n}-{row[2]}" for n, row in enumerate(ROWS)]
)
def test_every_symptom_has_its_cause(breached: tuple, blind: tuple, cause: str):
    assert diagnose(evidence(*breached, blind=blind)).cause == cause


def test_every_cause_is_named_by_some_symptom():
    assert {cause for _, _, cause in ROWS} == set(NAMES) - {"mixed_history"}


def test_a_unit_that_only_windows_remember_is_no_change_of_what_is_sent():
    now = evidence(S.UNITS, *DRIFTED)
    told = replace(now.readings[S.UNITS], details={"sent": 0.0})
    found = diagnose(replace(now, readings={**now.readings, S.UNITS: told}))
    assert found.cause == "mixed_history"
    assert "unit_change" in found.refuted


@pytest.mark.parametrize(
    ("signals", "share", "is_unit"),
    [
        ((S.CONCENTRATION, S.UNITS), 0.06, False),
        ((S.CONCENTRATION, S.UNITS), 0.5, True),
        ((S.UNITS,), 0.06, True),
    ],
)
def test_tiny_amounts_of_one_burst_are_no_other_unit(
    signals: tuple[Signal, ...], share: float, is_unit: bool
):
    seen = evidence(*signals)
    told = replace(seen.readings[S.UNITS], value=share, details={"sent": 1.0})
    found = diagnose(replace(seen, readings={**seen.readings, S.UNITS: told}))
    assert (found.cause == "unit_change") is is_unit


@pytest.mark.parametrize("name", BREAKAGE)
def test_breakage_dominates_drift(name: str):
    found = explained_by(frozenset({name}))
    assert {"bad_release", "attack", "concept_drift", "covariate_shift", UNKNOWN} <= found


def test_a_change_alone_accuses_nobody_however_bad_the_times_are():
    found = diagnose(evidence(*DRIFTED, S.CHANGE))
    assert found.cause == "covariate_shift"
    assert "bad_release" in found.refuted


def test_a_release_is_not_judged_while_nobody_could_replay():
    found = diagnose(evidence(S.DISTURBED_RATE, S.CHANGE, blind=[S.REPLAY, S.CANARY]))
    assert found.cause == UNKNOWN
    assert "bad_release" not in found.refuted


@pytest.mark.parametrize(
    ("cards_per_payment", "blind", "cause"),
    [
        (0.9, [S.AUDITED_SURGE], "attack"),
        (0.5, [S.AUDITED_SURGE], UNKNOWN),
        (0.9, [], "bots"),
    ],
)
def test_many_cards_of_few_devices_are_an_attack_until_audits_say_otherwise(
    cards_per_payment: float, blind: list[Signal], cause: str
):
    seen = evidence(S.CONCENTRATION, blind=blind)
    told = {"cards_per_payment": cards_per_payment}
    burst = replace(seen.reading(S.CONCENTRATION), details=told)
    readings = {**seen.readings, S.CONCENTRATION: burst}
    assert diagnose(replace(seen, readings=readings)).cause == cause


def test_what_nobody_could_name_is_over_though_nobody_audits_or_replays():
    found = diagnose(evidence(blind=[S.AUDITED_PRECISION, S.AUDITED_SURGE, S.REPLAY]))
    assert UNKNOWN in found.refuted


def test_a_golden_row_counts_though_nothing_else_is_seen():
    unseen = set(Signal) - {S.GOLDEN_ROWS}
    assert diagnose(evidence(S.GOLDEN_ROWS, blind=unseen)).cause == "model_artifact"


def test_an_exact_law_counts_though_a_monitor_is_silent():
    found = diagnose(evidence(S.UNITS, S.HEARTBEAT))
    assert (found.cause, found.standing) == ("unit_change", ("unit_change", BLIND))


def test_statistics_wait_while_a_monitor_is_silent():
    assert diagnose(evidence(*DRIFTED, S.HEARTBEAT)).standing == (BLIND,)


def test_before_the_first_payment_nobody_is_blind():
    assert diagnose(Evidence(readings={}, event_us=0, now_us=0, rows=0)).cause == HEALTHY


def test_two_faults_that_do_not_follow_from_each_other_both_stand():
    found = diagnose(evidence(S.LATENCY, S.UNITS, S.LABEL_ARRIVALS, *DRIFTED))
    assert found.standing == ("latency", "unit_change", "label_pipeline")


def test_a_cause_says_what_it_is_about():
    assert diagnose(evidence(S.UNITS, S.NULLS)).subjects["null_flood"] == ("amount_minor",)


def test_the_storm_is_as_the_policy_says():
    many = evidence(*INVARIANTS[5:12])
    assert diagnose(many, table(storm_share=0.4)).cause == BLIND
    assert diagnose(many, table(storm_share=0.9)).cause != BLIND


def test_what_a_cause_explains_comes_after_it():
    for place, cause in enumerate(CAUSES):
        later = {other.name for other in CAUSES[place + 1 :]}
        assert set(cause.explains) <= later, cause.name


def test_what_a_cause_leaves_it_explains():
    for cause in CAUSES:
        assert set(cause.leaves or ()) <= set(cause.explains), cause.name


def test_after_a_sale_wrong_alarms_are_its_own_and_missed_fraud_is_not():
    left = explained_by(frozenset({"demand_surge"}), is_over=True)
    assert left == {"concept_drift", "covariate_shift", "benign_shift"}
    missed = diagnose(evidence(S.MISSED_FRAUD)).places["concept_drift"]
    assert not explained_by(frozenset({"demand_surge"}), missed, is_over=True)


def test_exact_causes_are_those_of_laws():
    assert {"model_artifact", "configuration_error", "label_pipeline", *BREAKAGE} == EXACT


STANDINGS = st.fixed_dictionaries({signal: st.sampled_from(Standing) for signal in Signal})


def of(standings: dict[Signal, Standing]) -> Evidence:
    breached = [s for s, standing in standings.items() if standing is Standing.BREACHED]
    blind = [s for s, standing in standings.items() if standing is Standing.BLIND]
    return evidence(*breached, blind=blind)


@given(STANDINGS)
def test_a_diagnosis_is_one_of_the_names_and_contradicts_nothing(standings):
    found = diagnose(of(standings))
    assert found.cause in NAMES
    assert set(found.standing) <= set(found.matched)
    assert not found.refuted & set(found.matched)
    assert (found.cause == HEALTHY) == (not found.matched)


@given(STANDINGS)
def test_harm_is_never_called_healthy_or_benign(standings):
    found = diagnose(of(standings))
    harms = set(found.harms)
    assert not harms or found.cause not in {HEALTHY, "benign_shift"}


@pytest.mark.parametrize("cause", [c for c in CAUSES if c.name != BLIND], ids=lambda c: c.name)
def test_a_cause_whose_signals_nobody_sees_is_neither_found_nor_refuted(cause):
    rows = (row for row in CAUSES if row.name == cause.name)
    found = diagnose(evidence(blind={s for row in rows for s in row.when.signals}))
    assert cause.name not in {*found.matched, *found.refuted}


def test_the_table_of_the_documentation_is_the_table():
    page = Path(__file__).parents[2] / "docs" / "healing.md"
    assert as_markdown() in page.read_text("utf-8")
