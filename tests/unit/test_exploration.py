"""What is drawn for would-be declines: how often, within which limits, and how it is told."""

import hmac

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.adapters.journal_frames import (
    FORMAT,
    DecisionRecord,
    Kind,
    frame,
    frames,
    read_record,
    salt_of,
)
from fraud_platform.adapters.log_writer import Decided, row_of
from fraud_platform.decision import (
    LET_THROUGH,
    DecisionPolicy,
    Thresholds,
    explored,
    policy_digest,
)
from fraud_platform.events import Decision, Transaction
from fraud_platform.selective_labels import (
    AUDITED,
    NOT_DRAWN,
    PASSED,
    Drawn,
    ExplorationPolicy,
    Explorer,
    Spent,
    day_of,
)

POLICY = ExplorationPolicy(
    pass_rate=0.05, pass_floor=0.01, audit_rate=0.1, audit_rate_approved=0.02
)
SALT = salt_of("a log")


def payment(number=0, amount=5_000, **changes):
    return Transaction(f"t{number}", 1, "card", "m", amount, "EUR")._replace(**changes)


def decision(**changes):
    return Decision(
        *("t", "dec_1", 1, 0, 1, 2, "decline", 0.9, ("P01", "P02"), 0.7, 0.001, "normal", ()),
        *("champion", False, "1", "m", "p", "f", (0.5, None), 7, 9),
    )._replace(**changes)


def within(count, n, chance):
    """Whether a count is within 4.5 standard deviations of n draws: one alarm in 147,000."""
    return abs(count - n * chance) <= 4.5 * (n * chance * (1 - chance)) ** 0.5


def test_over_twenty_thousand_payments_the_shares_are_the_propensities():
    n, explorer = 20_000, Explorer(POLICY, b"key")
    small = [explorer.draw("decline", payment(k), Spent()) for k in range(n)]
    large = [explorer.draw("decline", payment(k, 20_000), Spent()) for k in range(n)]
    approved = [explorer.draw("approve", payment(k), Spent()) for k in range(n)]
    assert {one[:2] for one in small} == {(0.05, 0.1)}
    assert {one[:2] for one in large} == {(0.01, 0.2)}  # twice the amount, twice as often
    assert {one[:2] for one in approved} == {(None, 0.02)}
    shares = [
        (sum(one.explored == PASSED for one in small), 0.05),
        (sum(one.explored == AUDITED for one in small), 0.95 * 0.1),
        (sum(one.explored == PASSED for one in large), 0.01),
        (sum(one.explored == AUDITED for one in large), 0.99 * 0.2),
        (sum(one.explored == AUDITED for one in approved), 0.02),
    ]
    print([(count / n, chance) for count, chance in shares])
    assert all(within(count, n, chance) for count, chance in shares)


def test_no_card_sticks_to_what_was_drawn_for_it():
    """Of two payments of a card the second is let through as often as any other."""
    explorer = Explorer(ExplorationPolicy(pass_rate=0.1), b"key")
    drawn = [explorer.draw("decline", payment(k), Spent()).explored for k in range(20_000)]
    again = [later for first, later in zip(drawn[::2], drawn[1::2], strict=True) if first]
    assert within(again.count(PASSED), len(again), 0.1)


@given(
    st.lists(st.tuples(st.integers(0, 90_000), st.integers(0, 1), st.booleans()), max_size=60),
    st.integers(0, 200_000),
    st.integers(0, 20),
)
def test_whatever_comes_the_days_limits_hold_and_propensities_say_so(coming, ceiling, audits):
    policy = ExplorationPolicy(
        pass_rate=0.9,
        pass_floor=0.7,
        pass_ceiling_minor=ceiling,
        audit_rate=0.8,
        audit_rate_approved=0.8,
        audits_per_day=audits,
    )
    explorer, spent = Explorer(policy, b"key"), {}
    for number, (amount, day, declined) in enumerate(coming):
        before = spent.get(day, Spent())
        outcome = "decline" if declined else "approve"
        drawn = explorer.draw(outcome, payment(number, amount), before)
        if drawn.explored is not None:
            spent[day] = before.after(drawn.explored, amount)
        if declined and before.exposure_minor + amount > ceiling:
            assert drawn.pass_propensity == 0.0
            assert drawn.explored != PASSED
        if before.audits >= audits:
            assert drawn.audit_propensity == 0.0
    assert all(one.exposure_minor <= ceiling and one.audits <= audits for one in spent.values())


def test_other_money_is_never_let_through_but_may_be_audited():
    policy = ExplorationPolicy(pass_rate=1.0, audit_rate=1.0, pass_ceiling_minor=10**12)
    drawn = Explorer(policy, b"key").draw("decline", payment(currency="SEK"), Spent())
    assert drawn == Drawn(0.0, 1.0, AUDITED)


def test_what_goes_to_review_is_not_drawn_for_and_approvals_only_where_told():
    everything = ExplorationPolicy(pass_rate=1.0, audit_rate=1.0)
    assert Explorer(everything, b"key").draw("review", payment(), Spent()) is NOT_DRAWN
    assert Explorer(everything, b"key").draw("approve", payment(), Spent()) is NOT_DRAWN


@given(st.binary(min_size=1, max_size=100), st.text(max_size=64))
def test_the_draw_is_an_hmac_of_the_id(salt, name):
    digest = hmac.digest(salt, name.encode(), "sha256")
    to_pass = (int.from_bytes(digest[:8]) >> 11) / 2**53
    policy = ExplorationPolicy(pass_rate=0.5)
    drawn = Explorer(policy, salt).draw("decline", payment(transaction_id=name), Spent())
    assert drawn.explored == (PASSED if to_pass < 0.5 else None)


def test_a_payment_let_through_is_approved_and_says_why_first():
    let_through = explored(decision(), Drawn(0.1, 0.2, PASSED), DecisionPolicy(max_reasons=2))
    assert (let_through.decision, let_through.reasons) == ("approve", (LET_THROUGH, "P01"))
    audited = explored(decision(), Drawn(0.1, 0.2, AUDITED), DecisionPolicy())
    assert audited == decision(pass_propensity=0.1, audit_propensity=0.2, explored=AUDITED)


def test_the_digest_of_the_rules_names_exploration_and_its_key_without_telling_it():
    rules = DecisionPolicy(), Thresholds(0.3, 0.8)
    others = (Explorer(POLICY, b"a key"), Explorer(POLICY, b"another"))
    digests = {policy_digest(*rules, one.document) for one in others}
    assert len(digests | {policy_digest(*rules), policy_digest(*rules, None)}) == 3
    assert "a key" not in repr(others[0]) + str(others[0].document)


@given(st.integers(0, 2**55))
def test_a_day_is_a_utc_day(us):
    assert day_of(us) * 86_400_000_000 <= us < (day_of(us) + 1) * 86_400_000_000


@pytest.mark.parametrize(
    ("form", "later"), [(1, "pass_propensity"), (2, "governed"), (3, "worth_multiplier")]
)
def test_a_journal_of_an_older_format_is_read_with_nulls(form, later):
    assert form < FORMAT
    decided = Decided(1, payment(), 5, "scorer")
    row = row_of(decision())
    told = row[: Decision._fields.index(later)]
    old = msgspec.msgpack.encode((payment(), 5, "scorer", told))
    (found,) = frames(frame(Kind.DECISION, 1, old, SALT), SALT)
    assert read_record(found, "00000001.seg") == DecisionRecord(decided, row)


@pytest.mark.parametrize(
    "wrong",
    [{"audit_rate_approved": -0.1}, {"currency": "euro"}, {"currency": ""}],
    ids=["rate", "words", "nothing"],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="found"):
        ExplorationPolicy(**wrong)
