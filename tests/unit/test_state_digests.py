"""Digests of the online state: the same from wherever it was folded, and different after damage."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.events import Event, TransactionEvent
from fraud_platform.features.past import Entry, Past, Ring
from fraud_platform.features.rings import SHARDS, FeatureRings
from fraud_platform.features.shards import shard_of
from fraud_platform.schemas import LARGEST_AMOUNT
from tests.unit.test_features import ALL, DAY, payment, random_log


def digests(rings: FeatureRings) -> list[str]:
    return [rings.digest(shard) for shard in range(SHARDS)]


def folded(events: list[Event], rings: FeatureRings | None = None) -> FeatureRings:
    rings = rings or FeatureRings(ALL)
    for event in events:
        rings.apply(event)
    return rings


def long_log(seed: int) -> list[Event]:
    """Several logs one after the other: long enough for the oldest to be forgotten."""
    events: list[Event] = []
    for part in range(4):
        for event in random_log(seed + part, size=60):
            about = event.transaction
            moved = about._replace(
                transaction_id=f"{part}-{about.transaction_id}",
                event_us=about.event_us + part * 60 * DAY,
            )
            changes = {"transaction": moved, "seq": event.seq + 1_000 * part}
            if not isinstance(event, TransactionEvent):
                changes["transaction_seq"] = event.transaction_seq + 1_000 * part
                changes["known_us"] = event.known_us + part * 60 * DAY
            events.append(event._replace(**changes))
    return events


@pytest.mark.parametrize("seed", [1, 50])
def test_a_state_has_one_digest_wherever_it_was_folded_from(seed):
    log = long_log(seed)
    rng = random.Random(seed)
    for cut in rng.sample(range(len(log) // 2, len(log)), 4):
        whole = folded(log[:cut])
        first = rng.randrange(cut)
        resumed = folded(log[first:cut], FeatureRings.restore(folded(log[:first]).snapshot(), ALL))
        since = whole.newest_us - whole._reader.horizon_us
        recent = folded([e for e in log[:cut] if e.transaction.event_us >= since])
        assert digests(whole) == digests(resumed) == digests(recent)
        assert len(whole._pasts["card"]["c0"].rings[0].times) > 10
        later = folded([*log, TransactionEvent(9_999, payment(0, 290 * DAY, 0, 0, 1))])
        assert digests(whole) != digests(later)


def test_most_shards_of_few_cards_are_empty_and_each_is_told_by_its_own():
    rings = folded(random_log(seed=3))
    found = digests(rings)
    [most] = {digest for digest in found if found.count(digest) > 1}
    empty = FeatureRings(ALL)
    empty.newest_us = rings.newest_us
    assert most == empty.digest(0)
    assert 4 <= sum(digest != most for digest in found) <= 6


def damage_time(past: Past) -> None:
    past.rings[0].times[-1] += 1


def damage_sum(past: Past) -> None:
    past.rings[0].sums[-1] += 1


def damage_order(past: Past) -> None:
    ring = past.rings[0]
    ring.ordered(0, 0, len(ring.times))[0] -= 1


def damage_marked_ring(past: Past) -> None:
    past.rings[2].amounts[-1] ^= 64


def damage_value(past: Past) -> None:
    past.rings[0].values[0][-1] ^= 1


def damage_mark(past: Past) -> None:
    past.rings[0].marks[-1] ^= 1


def lose_a_payment(past: Past) -> None:
    for column in past.rings[0].columns:
        column.pop()


def damage_verdict(past: Past) -> None:
    past.frauds.verdicts[-1] = past.frauds.verdicts[-1]._replace(is_fraud=True, known_us=1)


def damage_span(past: Past) -> None:
    past.frauds.spans.pop()


@pytest.mark.parametrize(
    "damage",
    [damage_time, damage_sum, damage_marked_ring, damage_value, damage_mark, damage_order,
     lose_a_payment, damage_verdict, damage_span],
)  # fmt: skip
@pytest.mark.parametrize("entity", ["card", "terminal"])
def test_damage_changes_the_digest_of_its_shard_and_of_no_other(entity, damage):
    rings = folded(random_log(seed=4))
    before = digests(rings)
    key = {"card": "c1", "terminal": "m2"}[entity]
    damage(rings._pasts[entity][key])
    changed = [shard for shard in range(SHARDS) if rings.digest(shard) != before[shard]]
    assert len(changed) == 1
    assert changed == [shard_of(key, SHARDS)]


@pytest.mark.parametrize("shards", [512, 4_096, 65_536])
def test_finer_shards_are_parts_of_the_coarse_ones(shards):
    rings = folded(random_log(seed=4))
    before = [rings.digest(shard, shards) for shard in range(shards)]
    damage_sum(rings._pasts["card"]["c1"])
    changed = [shard for shard in range(shards) if rings.digest(shard, shards) != before[shard]]
    assert changed == [shard_of("c1", shards)]
    assert changed[0] % SHARDS == shard_of("c1", SHARDS)


def test_a_shard_holds_few_pasts_however_many_there_are():
    rings = FeatureRings(ALL)
    assert rings.shards == SHARDS
    for pasts, shards in ((16_383, 256), (16_384, 512), (1_000_000, 16_384), (9**9, 65_536)):
        rings._pasts["card"] = range(pasts)
        assert rings.shards == shards
        assert pasts / shards < 64 or shards == 65_536


@pytest.mark.parametrize("fault", [1, -1, 1 << 50])
def test_a_wrong_newest_time_changes_every_digest(fault):
    rings = folded(random_log(seed=4))
    before = digests(rings)
    rings.newest_us += fault
    assert not set(digests(rings)) & set(before)


def test_a_past_that_is_gone_changes_the_digest():
    rings = folded(random_log(seed=4))
    before = digests(rings)
    del rings._pasts["card"]["c1"]
    assert digests(rings) != before


@given(
    amounts=st.lists(
        st.one_of(st.integers(-LARGEST_AMOUNT, LARGEST_AMOUNT), st.just(LARGEST_AMOUNT)),
        min_size=15,
        max_size=25,
    )
)
def test_a_filled_ring_has_the_sums_of_one_that_grew(amounts):
    grown, filled = Ring(1), Ring(1)
    for seq, amount in enumerate(amounts):
        grown.insert(Entry(seq, seq, amount, 0, (seq,)))
    filled.fill(grown.pack())
    assert filled.columns == grown.columns
    assert filled.running == grown.running
    assert filled.squares(0, len(amounts)) == sum(amount**2 for amount in amounts)
