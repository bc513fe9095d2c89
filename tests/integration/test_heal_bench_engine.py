"""The engine of the scenario benchmark, in a world so small that it takes seconds."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from fraud_platform.heal.actions import Action
from fraud_platform.heal.records import Kind, Record
from fraud_platform.heal_bench import baselines
from fraud_platform.heal_bench.dealt import Dealt, costs, known
from fraud_platform.heal_bench.faults import FAST as FAST_SCENARIOS
from fraud_platform.heal_bench.faults import SCENARIOS
from fraud_platform.heal_bench.loop import Journal, heal
from fraud_platform.heal_bench.results import Policy
from fraud_platform.heal_bench.scoring import (
    Bill,
    Deeds,
    Scored,
    deeds_of,
    window_fprs,
)
from fraud_platform.heal_bench.stage import NEVER_US, Stage, staged
from fraud_platform.heal_bench.world import Ground, Size, ground

TINY = Size(1_500)


@pytest.fixture(scope="module")
def tiny() -> Ground:
    return ground(1, TINY)


@pytest.fixture(scope="module")
def quiet(tiny: Ground) -> Stage:
    return staged(SCENARIOS["quiet"].drafted(tiny))


@pytest.fixture(scope="module")
def cents(tiny: Ground) -> Stage:
    return staged(SCENARIOS["cents"].drafted(tiny))


@pytest.fixture(scope="module")
def healing(cents: Stage) -> Journal:
    return heal(cents)


def test_the_same_seed_draws_the_same_run(tiny: Ground, quiet: Stage) -> None:
    again = staged(SCENARIOS["quiet"].drafted(tiny))
    assert again.sent.equals(quiet.sent)
    assert np.array_equal(again.verdicts.report_us, quiet.verdicts.report_us)


@pytest.mark.parametrize("name", [*FAST_SCENARIOS, "duplicates", "time_zone", "drift_and_cents"])
def test_every_scenario_leaves_the_day_before_its_onset_alone(
    tiny: Ground, quiet: Stage, name: str
) -> None:
    stage = staged(SCENARIOS[name].drafted(tiny))
    before = min(stage.onset, quiet.onset) - 1
    assert stage.sent[:before].equals(quiet.sent[:before])
    assert np.array_equal(stage.served[:before], quiet.served[:before], equal_nan=True)


def test_cents_change_what_is_sent_and_served_but_neither_worth_nor_truth(
    quiet: Stage, cents: Stage
) -> None:
    hit = slice(cents.onset, cents.fixed)
    sent = cents.sent["amount_minor"].to_numpy()
    assert np.array_equal(sent[hit], 100 * cents.true_minor[hit])
    assert np.array_equal(cents.true_minor, quiet.true_minor)
    assert np.array_equal(cents.right, quiet.served, equal_nan=True)


def test_a_sale_breaks_no_law_of_how_people_pay(tiny: Ground) -> None:
    sent = staged(SCENARIOS["flash_sale"].drafted(tiny)).sent
    online = sent.filter(payment_method="online")
    assert online["device_id"].null_count() == 0
    assert online["latitude"].null_count() == online.height


def test_repetitions_are_decided_but_cost_nothing(tiny: Ground) -> None:
    stage = staged(SCENARIOS["duplicates"].drafted(tiny))
    cost = costs(stage, Dealt.plain(np.ones(stage.rows, dtype=bool)))
    assert 0 < (~stage.counts).sum() < stage.rows
    assert cost[~stage.counts].sum() == 0.0


def test_what_was_blocked_and_not_drawn_is_never_known(quiet: Stage) -> None:
    dealt = Dealt.plain(np.ones(quiet.rows, dtype=bool))
    assert not known(quiet, dealt, 0, quiet.rows).rows.size


def test_a_report_is_known_when_it_comes_and_not_before(quiet: Stage) -> None:
    dealt = Dealt.plain(np.zeros(quiet.rows, dtype=bool))
    now = quiet.rows // 2
    told = known(quiet, dealt, 0, now)
    reported = told.rows[told.is_fraud]
    assert (quiet.verdicts.report_us[reported] <= quiet.arrived_us[now]).all()
    assert reported.size < quiet.is_fraud[:now].sum()


def test_an_outage_withholds_verdicts_until_its_end(tiny: Ground) -> None:
    stage = staged(SCENARIOS["label_outage"].drafted(tiny))
    begin, end = (stage.arrived_us[row] for row in (stage.onset, stage.fixed))
    told = stage.verdicts.report_us[stage.verdicts.report_us < NEVER_US]
    assert not ((told > begin + 10**9) & (told < end - 10**9)).any()


def test_the_oracle_blocks_its_share_of_genuine_payments_in_every_check(cents: Stage) -> None:
    dealt = baselines.oracle(cents).dealt
    fprs = window_fprs(cents, dealt.blocked, TINY.check)
    assert min(fprs) > 0.03
    assert max(fprs) <= 0.05


def test_the_recipe_learns_from_broken_units_and_doing_nothing_blocks_nearly_everybody(
    cents: Stage,
) -> None:
    hit = slice(cents.onset, cents.fixed)
    assert baselines.nothing(cents).dealt.blocked[hit].mean() > 0.3
    assert all(row >= cents.onset for row in baselines.retrain_on_drift(cents).retrains)


def test_a_fault_is_named_acted_on_and_blocks_fewer_than_doing_nothing(
    cents: Stage, healing: Journal
) -> None:
    deeds = deeds_of(healing, cents.onset)
    assert "unit_change" in {cause for _, cause in deeds.named}
    assert Action.QUARANTINE in {act for _, act in deeds.acted}
    assert healing.dealt.blocked.mean() < baselines.nothing(cents).dealt.blocked.mean() / 3


def test_a_controller_that_dies_after_an_act_does_it_once_and_writes_it_down(
    cents: Stage, healing: Journal
) -> None:
    torn = heal(replace(cents, draft=replace(cents.draft, crashes=True)))
    done = [
        [r.act.act_id for _, r in journal.records if r.kind is Kind.DONE and r.act is not None]
        for journal in (healing, torn)
    ]
    assert len(set(done[1])) == len(done[1])
    assert set(done[0]) <= set(done[1])


def test_the_same_run_heals_the_same_way(cents: Stage, healing: Journal) -> None:
    again = heal(cents)
    assert np.array_equal(healing.dealt.blocked, again.dealt.blocked)
    assert healing.records == again.records


def test_scores_of_a_policy_follow_from_its_deeds_by_hand(cents: Stage) -> None:
    scenario, first = SCENARIOS["cents"], cents.onset
    blocked = np.zeros(cents.rows, dtype=bool)
    dealt = Dealt.plain(blocked)
    bill = Bill(none=costs(cents, dealt) + 1.0, oracle=costs(cents, dealt))
    deeds = Deeds(
        noticed=(10, first + 700),
        named=((first + 900, "blind"), (first + 1_000, "unit_change")),
        acted=((first + 1_100, Action.RETRAIN), (first + 1_200, Action.ROLL_BACK)),
        retrains=(5, first + 1_100),
    )
    found = Scored(scenario, cents, bill).result(Policy.DIAGNOSIS, dealt, deeds)
    assert (found.detection_transactions, found.first_aid_transactions) == (700, 1_100)
    assert (found.diagnosed, found.wrong, found.forbidden) == ("unit_change", 1, 1)
    assert (found.false_alarms, found.windows_over, found.healed_transactions) == (1, 0, 0)
    assert found.recovered == 1.0
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found


def test_records_name_the_row_they_were_written_at(cents: Stage) -> None:
    record = Record(kind=Kind.DIAGNOSED, event_us=0, now_us=0, cause="unit_change")
    journal = Journal(Dealt.blank(1), records=[(7, record)])
    assert deeds_of(journal, 0).named == ((7, "unit_change"),)
