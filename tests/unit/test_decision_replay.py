"""What a replay compares: each rule by a small case, the order of reading by random logs."""

import random
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_platform.cuts import Cuts, capped
from fraud_platform.decision import (
    LARGE_AMOUNT,
    NO_MODEL,
    SET_ASIDE,
    STATE_IN_DOUBT,
    UNUSABLE_SCORE,
    DecisionPolicy,
    explored,
    policy_digest,
)
from fraud_platform.decision_replay import (
    DOUBTED,
    FIRST_VERSION,
    LATE,
    Asked,
    Case,
    Finding,
    Page,
    compared,
    judged,
    replay,
)
from fraud_platform.events import Decision, LabelEvent, Transaction, TransactionEvent
from fraud_platform.features.rings import FeatureRings
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.money import MoneyPolicy
from fraud_platform.native_score import ROWS
from fraud_platform.replay_report import Tally
from fraud_platform.selective_labels import ExplorationPolicy, Explorer, Spent
from fraud_platform.worth import Worth, WorthPolicy, weighed

T0 = 1_772_323_200_000_000  # 2026-03-01
HOUR = 3_600_000_000
POLICY = DecisionPolicy(rules_decline_from_minor=5_000)
VECTOR = tuple(float(place) for place in range(1, len(FEATURE_NAMES) + 1))
PAYMENT = Transaction("t", T0, "card", "terminal", 4_000, "EUR")
NOTHING = Spent()


class Verdict(NamedTuple):
    outcome: str = "review"
    score: float | None = 0.5
    probability: float | None = 0.25
    expected_fpr: float | None = 0.01
    reasons: tuple[str, ...] = ("P01",)


SURE = Verdict()


class FirstFeature:
    """A model whose score is the first feature's share of a thousand."""

    def score(self, rows: np.ndarray) -> np.ndarray:
        return np.nan_to_num(rows[:, 0]) / 1_000


@dataclass
class Judge:
    """Says what it is told to say; scores come from the model."""

    version: str = "1"
    verdict: Verdict | None = SURE
    policy_digest: str = "p" * 64
    policy: DecisionPolicy = POLICY
    explorer: Explorer | None = None
    worth: Worth | None = None
    without: tuple[str, ...] = ()
    calls: tuple[int, ...] = ()

    @cached_property
    def model(self):
        return FirstFeature()

    def seen(self, features):
        return features

    def verdicts(self, features, arm):
        self.calls += (len(features),)
        if self.verdict is not None:
            return [self.verdict] * len(features)
        return [Verdict(score=score) for score in self.model.score(features).tolist()]


def decision(**changes) -> Decision:
    """A record that the judge above would write again."""
    return Decision(
        **{
            "transaction_id": "t",
            "decision_id": "dec_3",
            "seq": 3,
            "seen_seq": 2,
            "event_us": T0,
            "decided_us": T0 + HOUR,
            "decision": "review",
            "score": 0.5,
            "reasons": ("P01",),
            "probability": 0.25,
            "expected_fpr": 0.01,
            "mode": "normal",
            "missing": (),
            "arm": "champion",
            "is_late": False,
            "model_version": "1",
            "model_digest": "m" * 64,
            "policy_digest": "p" * 64,
            "feature_spec_digest": spec_digest(),
            "features": (500.0, *VECTOR[1:]),
            "latency_us": 900,
            "expires_us": T0 + HOUR + 300_000_000,
        }
        | changes
    )


def banded(**changes) -> Decision:
    """A record of a payment that no model judged."""
    told = dict.fromkeys(("score", "probability", "expected_fpr", "model_version", "model_digest"))
    told |= {"mode": "rules_only", "arm": "none", "reasons": (NO_MODEL,)}
    return decision(**{**told, "policy_digest": policy_digest(POLICY, None), **changes})


def found(
    record: Decision, *, judge=None, features=None, is_late=False, payment=PAYMENT, spent=NOTHING
):
    asked = Asked(3, 2, payment, record, spent)
    case = Case(asked, features or record.features, is_late)
    judgement = None
    if record.model_digest is not None:
        [judgement] = judged([record], judge or Judge())
    return compared(case, judgement, [POLICY])


def fields(finding: Finding) -> list[str]:
    return [one.field for one in finding.differences]


def test_a_record_as_it_would_be_written_again_is_equal():
    for record in (decision(), decision(arm="canary"), decision(mode="degraded"), banded()):
        finding = found(record)
        assert (finding.differences, finding.gaps) == ([], [])
        assert finding.compared > len(FEATURE_NAMES) + 9


@pytest.mark.parametrize(
    ("recorded", "replayed"), [(0.1 + 0.2, 0.3), (0.0, -0.0), (None, 0.0), (1.0, None)]
)
def test_a_feature_differs_by_any_bit_and_by_being_there(recorded, replayed):
    record = decision(features=(500.0, recorded, *VECTOR[2:]))
    [difference] = found(record, features=(500.0, replayed, *VECTOR[2:])).differences
    assert difference == ("t", FEATURE_NAMES[1], recorded, replayed)


def test_each_way_to_a_score_is_held_against_the_record_by_itself():
    above = float(np.nextafter(0.5, 1))
    assert fields(found(decision(), judge=Judge(verdict=Verdict(score=above)))) == [
        "score as served"
    ]
    assert fields(found(decision(features=(501.0, *VECTOR[1:])))) == ["score"]
    assert fields(found(decision(score=above))) == ["score", "score as served"]


def test_what_a_judge_says_is_compared_one_by_one():
    for changes in (
        {"decision": "decline"},
        {"reasons": ("P01", "C01")},
        {"probability": None},
        {"expected_fpr": 0.02},
        {"expires_us": 0},
        {"model_version": "2"},
    ):
        assert fields(found(decision(**changes))) == list(changes)


def test_a_score_that_is_none_is_recorded_as_none_with_its_reason():
    verdict = Verdict("review", None, None, None, (UNUSABLE_SCORE,))
    nothing = dict.fromkeys(("score", "probability", "expected_fpr"))
    record = decision(**nothing, reasons=(UNUSABLE_SCORE,), features=(-1.0, *VECTOR[1:]))
    assert fields(found(record, judge=Judge(verdict=verdict))) == []


def test_another_policy_leaves_the_score_comparable_and_nothing_that_it_ruled():
    finding = found(decision(policy_digest="q" * 64, decision="decline", reasons=(), expires_us=0))
    assert finding.differences == []
    assert finding.gaps == [f"another policy than those known ({'q' * 12})"]
    assert fields(found(decision(policy_digest="q" * 64, score=0.4)))[0] == "score"


def test_a_missing_judge_is_a_gap_and_the_features_are_compared_all_the_same():
    record = decision(features=(7.0, *VECTOR[1:]))
    finding = compared(Case(Asked(3, 2, PAYMENT, record), VECTOR, False), "it is gone", [POLICY])
    assert (fields(finding), finding.gaps) == ([FEATURE_NAMES[0]], ["it is gone"])


DECLINED = Judge(verdict=Verdict(outcome="decline"))


def exploring(**rates):
    return replace(DECLINED, explorer=Explorer(ExplorationPolicy(**rates), b"key"))


def drawn(judge, spent=NOTHING):
    """The record that a scorer would write of the payment."""
    told = decision(decision="decline")
    return explored(told, judge.explorer.draw("decline", PAYMENT, spent), POLICY)


@pytest.mark.parametrize(
    ("rates", "outcome", "what"),
    [
        ({"pass_rate": 1.0}, "approve", "passed"),
        ({"audit_rate": 1.0}, "decline", "audited"),
        ({"pass_rate": 1e-9}, "decline", None),
    ],
    ids=str,
)
def test_what_was_drawn_is_drawn_again(rates, outcome, what):
    judge = exploring(**rates)
    record = drawn(judge)
    assert (record.decision, record.explored) == (outcome, what)
    assert fields(found(record, judge=judge)) == []
    forged = record._replace(pass_propensity=0.5, explored=None if what else "audited")
    assert fields(found(forged, judge=judge)) == ["pass_propensity", "explored"]


@pytest.mark.parametrize(
    ("cuts", "answer"),
    [
        (Cuts(0.1, 0.2, 0.049, 0.04), "decline"),
        (Cuts(0.1, 1.1, 0.049, 0.05, is_held=True, price_minor=9.5), "review"),
        (Cuts(1.1, 1.1, 0.049, 0.0, is_held=True), "approve"),
    ],
    ids=["slack", "the decline cut", "both cuts"],
)
def test_what_a_cap_let_go_is_derived_from_the_cuts_of_the_record(cuts, answer):
    record = capped(decision(decision="decline"), cuts)
    milder = answer != "decline"
    assert (record.decision, record.governed) == (answer, "decline" if milder else None)
    assert fields(found(record, judge=DECLINED)) == []
    forged = record._replace(decision="approve" if answer == "review" else "review")
    assert "decision" in fields(found(forged, judge=DECLINED))
    unsaid = record._replace(governed="review")
    assert fields(found(unsaid, judge=DECLINED)) == ["governed"]


@pytest.mark.parametrize("amount", [100, 4_000])
def test_what_was_not_worth_disturbing_is_weighed_again(amount):
    judge = replace(DECLINED, worth=Worth(WorthPolicy(), MoneyPolicy(false_decline_minor=2_000)))
    payment = PAYMENT._replace(amount_minor=amount)
    capped_at = Cuts(0.1, 0.9, 0.049, 0.05, is_held=True)
    record = weighed(capped(decision(decision="decline"), capped_at), payment, judge.worth)
    assert (record.governed, record.worth_multiplier) == ("decline", 1.0)
    assert fields(found(record, judge=judge, payment=payment)) == []
    unweighed = record._replace(worth_multiplier=None)
    assert fields(found(unweighed, judge=judge, payment=payment)) == ["worth_multiplier"]
    assert fields(found(record, judge=DECLINED, payment=payment))[-1] == "worth_multiplier"


def test_recorded_cuts_never_make_an_answer_stricter():
    approved = Judge(verdict=Verdict(outcome="approve", reasons=()))
    record = capped(decision(decision="approve", reasons=()), Cuts(0.0, 0.0, 0.1, is_held=True))
    assert record.decision == "approve"
    assert fields(found(record, judge=approved)) == []


def test_a_milder_answer_without_cuts_is_found_out():
    told = decision(decision="review", governed="decline")
    assert fields(found(told, judge=DECLINED)) == ["decision", "governed"]


def test_a_pass_that_nobody_drew_is_found_out():
    record = drawn(exploring(pass_rate=1.0))
    assert {"decision", "reasons", "explored"} <= set(fields(found(record, judge=DECLINED)))


def test_a_pass_beyond_the_ceiling_is_found_out():
    judge, spent = exploring(pass_rate=1.0, pass_ceiling_minor=4_000), Spent(1)
    assert fields(found(drawn(judge), judge=judge)) == []
    beyond = fields(found(drawn(judge), judge=judge, spent=spent))
    assert beyond == ["decision", "reasons", "pass_propensity", "explored"]
    assert fields(found(drawn(judge, spent), judge=judge, spent=spent)) == []


@pytest.mark.parametrize("cause", [NO_MODEL, STATE_IN_DOUBT, SET_ASIDE])
def test_without_a_model_the_amount_bands_are_derived_again(cause):
    large = PAYMENT._replace(amount_minor=5_000)
    declined = banded(decision="decline", reasons=(cause, LARGE_AMOUNT))
    assert fields(found(declined, payment=large)) == []
    assert fields(found(declined)) == ["decision", "reasons"]
    assert fields(found(banded(reasons=(cause,)), payment=large)) == ["decision", "reasons"]


def test_without_a_model_there_must_be_a_cause_and_no_trace_of_a_model():
    assert fields(found(banded(reasons=("P01",)))) == ["reasons"]
    assert fields(found(banded(reasons=()))) == ["reasons"]
    assert fields(found(banded(mode="normal", probability=0.1))) == ["mode", "probability"]
    assert fields(found(banded(missing=("mirror",)))) == ["missing"]
    other = found(banded(policy_digest="q" * 64, decision="approve"))
    assert (fields(other), len(other.gaps)) == ([], 1)


def test_with_a_model_there_must_be_an_arm_a_mode_and_a_digest():
    assert fields(found(decision(mode="rules_only"))) == ["mode"]
    assert fields(found(decision(mode="closed"))) == ["mode"]
    assert fields(found(decision(arm="shadow"))) == ["arm"]
    assert fields(found(decision(missing=("mirror",)))) == ["missing"]
    assert fields(found(decision(mode="degraded", missing=("mirror",)))) == []
    assert fields(found(decision(model_digest=None))) == ["model_digest"]


def test_a_record_must_stand_at_its_own_place_behind_what_it_saw():
    assert fields(found(decision(seq=4))) == ["seq"]
    assert fields(found(decision(decision_id="dec_4"))) == ["decision_id"]
    assert fields(found(decision(seen_seq=0))) == []
    for seen_seq in (3, -1):
        assert fields(found(decision(seen_seq=seen_seq))) == ["seen_seq"]
    assert fields(found(decision(event_us=T0 + 1))) == ["event_us"]
    assert fields(found(decision(), is_late=True)) == ["is_late"]


def test_a_late_vector_may_be_equal_and_proves_nothing_when_it_is_not():
    late = decision(is_late=True)
    assert found(late, is_late=True).gaps == []
    finding = found(late, features=VECTOR, is_late=True)
    assert (finding.differences, finding.gaps) == ([], [LATE])
    pretended = found(late, features=VECTOR)
    assert fields(pretended) == ["is_late", FEATURE_NAMES[0]], "nobody calls himself late"


def test_a_doubted_vector_may_be_equal_and_proves_nothing_when_it_is_not():
    doubted = banded(reasons=(STATE_IN_DOUBT,))
    assert found(doubted).gaps == []
    finding = found(doubted, features=VECTOR)
    assert (finding.differences, finding.gaps) == ([], [DOUBTED])
    assert fields(found(banded(), features=VECTOR)) == [FEATURE_NAMES[0]]


def test_vectors_of_other_definitions_are_not_compared():
    other = found(decision(feature_spec_digest="e" * 64), features=VECTOR)
    assert (fields(other), other.gaps) == ([], [f"other feature definitions ({'e' * 12})"])


def test_a_record_of_the_first_version_is_compared_as_far_as_it_says():
    nothing = {"probability": None, "expected_fpr": None, "arm": "none", "expires_us": 0}
    record = decision(mode="champion", policy_digest="q" * 64, **nothing)
    finding = found(record)
    assert finding.differences == []
    assert finding.gaps[0] == FIRST_VERSION
    assert fields(found(record._replace(score=0.4))) == ["score", "score as served"]
    assert fields(found(record, features=VECTOR)) == [FEATURE_NAMES[0]]


def test_rows_are_judged_in_their_order_and_never_more_than_the_fast_way_takes():
    records = [decision(features=(float(n), *VECTOR[1:])) for n in range(2 * ROWS + 3)]
    judge = Judge(verdict=None)
    scores = [one.score for one in judged(records, judge)]
    assert scores == [n / 1_000 for n in range(2 * ROWS + 3)]
    assert judge.calls == (ROWS, ROWS, 3)


# Reading in order: a random log whose decisions remember where they were read.


def world(seed: int, length: int = 60) -> tuple[list[TransactionEvent | LabelEvent], list[Asked]]:
    """Events, and a decision on most payments, read up to three positions before its own."""
    chance = random.Random(seed)
    events: list[TransactionEvent | LabelEvent] = []
    asked: list[Asked] = []
    for seq in range(1, length + 1):
        payments = [event for event in events if isinstance(event, TransactionEvent)]
        if payments and chance.random() < 0.2:
            about = chance.choice(payments)
            known = about.transaction.event_us + HOUR
            events.append(LabelEvent(seq, about.seq, about.transaction, "fraud", known))
            continue
        at = T0 + seq * HOUR // 2
        payment = Transaction(f"t{seq}", at, f"c{seq % 3}", f"m{seq % 2}", seq * 7, "EUR")
        if chance.random() < 0.8:
            read_at = max(0, seq - 1 - (chance.randrange(4) if chance.random() < 0.3 else 0))
            asked.append(Asked(seq, read_at, payment, recorded(events, seq, read_at, payment)))
        events.append(TransactionEvent(seq, payment))
    return events, sorted(asked, key=lambda one: (one.read_at, one.seq))


def recorded(events, seq: int, read_at: int, payment: Transaction) -> Decision:
    rings = FeatureRings()
    for event in events:
        if event.seq <= read_at:
            rings.apply(event)
    features = rings.read(payment)
    return decision(
        transaction_id=payment.transaction_id,
        decision_id=f"dec_{seq}",
        seq=seq,
        seen_seq=read_at,
        event_us=payment.event_us,
        features=features,
        score=(features[0] or 0.0) / 1_000,
        model_version=str(seq % 2),
        model_digest=str(seq % 2) * 64,
    )


def cut(events, asked, size: int) -> list[Page]:
    pages, start = [], 0
    for place in range(0, len(events), size):
        part = events[place : place + size]
        end = part[-1].seq
        pages.append(Page(part, [one for one in asked if start <= one.read_at < end]))
        start = end
    return pages


def report(pages, judge_of=None):
    judges = {version: Judge(version, None) for version in "01"}
    tally = Tally()
    honest = judge_of or (lambda record: judges[record.model_version])
    replay(pages, FeatureRings(), honest, [POLICY], tally.add)
    return tally.report()


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 80))
def test_decisions_are_read_where_they_were_read_however_the_log_is_cut(seed, size):
    events, asked = world(seed)
    told = report(cut(events, asked, size))
    assert (told.decisions, told.equal) == (len(asked), len(asked))
    assert told.overtaken == sum(one.read_at < one.seq - 1 for one in asked)


def test_a_decision_that_is_read_one_position_too_early_is_noticed():
    events, asked = world(1)
    early = [one._replace(read_at=max(0, one.read_at - 1)) for one in asked]
    told = report(cut(events, sorted(early, key=lambda one: one.read_at), 7))
    assert told.different >= 5, "the others share nothing with the event before"


def test_models_are_asked_for_by_what_decisions_name_and_their_answers_are_not_mixed():
    events, asked = world(2)
    told = report(
        cut(events, asked, 20),
        lambda record: "it is gone" if record.model_version == "1" else Judge("0", None),
    )
    of_one = sum(one.decision.model_version == "1" for one in asked)
    assert (told.different, told.not_replayed, told.equal) == (0, of_one, len(asked) - of_one)
    first = min(one.seq for one in asked if one.decision.model_version == "1")
    assert told.gaps == {
        "it is gone": {"decisions": of_one, "first": {"transaction_id": f"t{first}"}}
    }


def test_a_tally_keeps_the_first_of_each_kind_and_counts_the_rest():
    tally = Tally()
    for number in range(1_000):
        record = decision(transaction_id=f"t{number}", score=0.5 + number / 10_000)
        tally.add(Asked(3, 2, PAYMENT, record), found(record))
    told = tally.report()
    assert (told.decisions, told.equal, told.different) == (1_000, 1, 999)
    assert told.differences["score"] == {
        "decisions": 999,
        "first": {"transaction_id": "t1", "recorded": 0.5001, "replayed": 0.5},
    }
    assert len(tally.first) == 2


def test_a_difference_counts_whatever_could_not_be_compared_beside_it():
    tally = Tally()
    record = decision(policy_digest="q" * 64, score=0.4)
    tally.add(Asked(3, 2, PAYMENT, record), found(record))
    told = tally.report()
    assert (told.different, told.not_replayed, told.equal) == (1, 0, 0)
    assert len(told.gaps) == 1


def test_decisions_of_which_nothing_is_left_are_counted_and_never_equal():
    tally = Tally()
    tally.lack("lost", "t7", 3)
    told = tally.report()
    assert (told.decisions, told.not_replayed, told.equal) == (3, 3, 0)
    assert told.gaps == {"lost": {"decisions": 3, "first": {"transaction_id": "t7"}}}


def test_the_share_in_force_is_told_only_of_canaries():
    tally = Tally()
    tally.canary(decision(arm="canary"), "champion")
    tally.canary(decision(arm="canary"), "canary")
    tally.canary(decision(arm="canary"), None)
    tally.canary(decision(), "champion")
    assert tally.report().canary_otherwise_now == 1
