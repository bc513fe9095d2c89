"""Bugs planted into the batch engine and into the state in memory; `pytest -s` prints the list."""

import pytest

from fraud_platform.features.state import FeatureState
from tests.unit.bug_planting import Load, Mutant, catch, planted
from tests.unit.dense_logs import ASKED, batch_difference, online_difference

BATCH = (
    Mutant(
        "a lagging terminal is taken for its card",
        "batch",
        'told[f"{entity}_seen"]',
        'told["card_seen"]',
    ),
    Mutant(
        "the newest payment a lagging reader saw is not seen",
        "batch",
        'search_sorted(newest, side="right")',
        'search_sorted(newest, side="left")',
    ),
    Mutant(
        "a reader sees what comes after its decision",
        "batch",
        "pl.min_horizontal(told[",
        "pl.max_horizontal(told[",
    ),
    Mutant(
        "a lagging reader sees one payment more",
        "sight",
        "lined.arrivals[place] < lined.seen[first]",
        "lined.arrivals[place] <= lined.seen[first]",
    ),
    Mutant(
        "a lagging reader sees all verdicts",
        "batch",
        "history.with_columns(newest, ranks)",
        'history.with_columns(before.alias("seen"), ranks)',
    ),
    Mutant(
        "Polars divides by one number",
        "batch",
        "return _over(elapsed, pl.repeat(1e6, pl.len()))",
        "return elapsed / 1e6",
    ),
    Mutant(
        "what counts is ignored",
        "batch",
        "pl.when(pl.col(where.fact) == where.equals).then(source)",
        "pl.col(source)",
    ),
    Mutant(
        "a value is looked for among payments that do not count",
        "batch",
        '{"alike": pl.col(amount).count()}',
        '{"alike": pl.len()}',
    ),
    Mutant(
        "what counts is ignored for frauds",
        "verdicts",
        "counts = pl.lit(value=True) if where is None else pl.col(where.fact) == where.equals",
        "counts = pl.lit(value=True)",
    ),
    Mutant("ties and the payment itself are seen", "batch", 'closed="left"', 'closed="both"'),
    Mutant("the old edge is left out", "batch", 'closed="left"', 'closed="right"'),
    Mutant("both edges are left out", "batch", 'closed="left"', 'closed="none"'),
    Mutant(
        "the window ends a microsecond late",
        "batch",
        'period=f"{reach_us - delay_us}i"',
        'period=f"{reach_us - delay_us + 1}i"',
    ),
    Mutant(
        "the window begins a microsecond late",
        "batch",
        'offset=f"-{reach_us}i"',
        'offset=f"-{reach_us - 1}i"',
    ),
    Mutant(
        "the delay is ignored",
        "batch",
        'window = (self.feature.delay_us, self.feature.reach_us)\n        name = f"{aggregate}',
        'window = (0, self.feature.reach_us)\n        name = f"{aggregate}',
    ),
    Mutant(
        "the median is the lower middle",
        "batch",
        "column.median()",
        'column.quantile(0.5, "lower")',
    ),
    Mutant(
        "squares are summed as floats",
        "batch",
        'pl.col("amount").cast(pl.Int128) ** 2',
        'pl.col("amount").cast(pl.Float64) ** 2',
    ),
    Mutant(
        "unknown values count as one",
        "batch",
        "column.n_unique() - (column.null_count() > 0)",
        "column.n_unique()",
    ),
    Mutant(
        "an amount of just three medians is an outlier",
        "batch",
        'OUTLIER_FACTOR * pl.col("median") < _AMOUNT',
        'OUTLIER_FACTOR * pl.col("median") <= _AMOUNT',
    ),
    Mutant(
        "a payment without a past is an outlier",
        "batch",
        ".fill_null(value=False)\n    marks",
        ".fill_null(value=True)\n    marks",
    ),
    Mutant(
        "a day of payments judges outliers",
        "batch",
        "_cut(line, 0, _REFERENCE_US,",
        "_cut(line, 0, _DAY_US,",
    ),
    Mutant(
        "withdrawn means fraud",
        "batch",
        'pl.col("verdict") == "fraud"',
        '~pl.col("verdict").is_in(["genuine"])',
    ),
    Mutant(
        "a decision misses the verdict right before it",
        "batch",
        "before = seqs - 1",
        "before = seqs - 2",
    ),
    Mutant(
        "a quotient by zero is a number", "batch", "out=found, where=denominator != 0", "out=found"
    ),
    Mutant(
        "the first with a value is new and the second too",
        "batch",
        "of.alike() == 0",
        "of.alike() <= 1",
    ),
    Mutant("weekends begin on Friday", "batch", "+ 3) % 7 >= 5", "+ 4) % 7 >= 5"),
    Mutant("nights end at six", "batch", "% 24 <= 6", "% 24 <= 5"),
    Mutant(
        "late rows are seen early",
        "sight",
        'if not (is_overtaken & ordered["is_wanted"].to_numpy()).any():',
        "if True:",
    ),
    Mutant(
        "late rows are never seen",
        "sight",
        "is_decision | (lined.arrivals[place] < lined.seen[first][run])",
        "is_decision",
    ),
    Mutant(
        "the first payment that a reader missed overtakes nobody",
        "sight",
        'is_overtaken[1:] = newest[:-1] >= (keys + ordered["seen_rank"].to_numpy())[1:]',
        'is_overtaken[1:] = newest[:-1] > (keys + ordered["seen_rank"].to_numpy())[1:]',
    ),
    Mutant(
        "a copy lacks nothing",
        "sight",
        "is_seen = is_decision | (",
        "is_seen = (place >= 0) | (",
    ),
    Mutant(
        "neighbours share a copy though others arrived between what they had seen",
        "sight",
        "& (lined.seen[1:] == lined.seen[:-1] + 1)",
        "",
    ),
    Mutant(
        "neighbours share a copy though not the first of them arrived in between",
        "sight",
        "& (lined.arrivals[:-1] == lined.seen[:-1])",
        "",
    ),
    Mutant(
        "a copy also answers for what it holds",
        "sight",
        ' & copies["is_decision"].to_numpy()',
        "",
    ),
    Mutant(
        "a copy lacks the rows at the old edge",
        "sight",
        "lined.times[first] - reach_us",
        "lined.times[first] - reach_us + 1",
    ),
    Mutant(
        "ties stand in the wrong order",
        "sight",
        'np.lexsort((history["time_us"]',
        'np.lexsort((-history["rank"].to_numpy(), history["time_us"]',
    ),
    Mutant(
        "verdicts count before they are known",
        "verdicts",
        'pl.col("known_us") <= pl.col("decided_us")',
        "pl.lit(value=True)",
    ),
    Mutant(
        "a verdict known just now does not count",
        "verdicts",
        'pl.col("known_us") <= pl.col("decided_us")',
        'pl.col("known_us") < pl.col("decided_us")',
    ),
    Mutant(
        "verdicts count before they arrive",
        "verdicts",
        'pl.col("label_seq") <= pl.col("seen")',
        "pl.lit(value=True)",
    ),
    Mutant(
        "the verdict that arrived last holds",
        "verdicts",
        '.sort("known_us", "label_seq")',
        '.sort("label_seq")',
    ),
    Mutant("the first verdict holds", "verdicts", 'keep="last"', 'keep="first"'),
    Mutant(
        "of verdicts known at once the first holds",
        "verdicts",
        '.sort("known_us", "label_seq")',
        '.sort("known_us", "label_seq", descending=[False, True])',
    ),
    Mutant(
        "a withdrawal is ignored",
        "verdicts",
        '.filter("is_fraud")\n        .with_columns(age_us',
        ".with_columns(age_us",
    ),
    Mutant(
        "frauds at the new edge count",
        "verdicts",
        "age > feature.delay_us",
        "age >= feature.delay_us",
    ),
    Mutant(
        "frauds at the old edge do not count",
        "verdicts",
        "age <= feature.reach_us",
        "age < feature.reach_us",
    ),
    Mutant(
        "a streak has gaps",
        "verdicts",
        "in_streak = frauds == newest_of[decisions] - rank",
        "in_streak = frauds <= newest_of[decisions] - rank",
    ),
    Mutant(
        "a streak starts one too early",
        "verdicts",
        "newest - streak + 1, streak > 0)",
        "np.maximum(newest - streak, 0), streak > 0)",
    ),
    Mutant(
        "the oldest payment is never the newest good one",
        "verdicts",
        "newest - streak >= oldest",
        "newest - streak > oldest",
    ),
)

RINGS = (
    Mutant(
        "what counts is ignored",
        "past",
        "if marks >> place - 1 & 1:",
        "if True:",
    ),
    Mutant(
        "a restored past ignores what counts",
        "past",
        "is_marked = [marks >> bit & 1 for marks in ring.marks]",
        "is_marked = [1 for marks in ring.marks]",
    ),
    Mutant(
        "a late row reaches only the ring of all payments",
        "past",
        "if marks >> place - 1 & 1:",
        "if marks >> place - 1 & 1 and entry[0] >= rings[0].times[-1]:",
    ),
    Mutant(
        "a score is rounded twice",
        "reading_code",
        "(amount * count - total) / root if root else None",
        "(amount - total / count) / (root / count) if root else None",
    ),
    Mutant(
        "ties see each other",
        "reading_code",
        "last = bisect_left(times, now - {delay_us})",
        "last = bisect_left(times, now - {delay_us} + 1)",
    ),
    Mutant(
        "the delay is ignored",
        "reading_code",
        "last = bisect_left(times, now - {delay_us})",
        "last = bisect_left(times, now)",
    ),
    Mutant(
        "the old edge is left out",
        "reading_code",
        "    else:\n        first = bisect_left(times, now - {reach_us}, first, last)",
        "    else:\n        first = bisect_left(times, now - {reach_us} + 1, first, last)",
    ),
    Mutant(
        "the delay is ignored for frauds",
        "reading_code",
        "known(now - {reach_us}, now - {delay_us}, now)",
        "known(now - {reach_us}, now, now)",
    ),
    Mutant(
        "prefix sums are off by one",
        "reading_code",
        "total = sums[last] - sums[first]",
        "total = sums[last] - sums[max(first - 1, 0)]",
    ),
    Mutant(
        "the root is taken of a rounded product",
        "reading_code",
        "sqrt(float(count * ring.squares(first, last) - total * total))",
        "sqrt(float(count * ring.squares(first, last)) - float(total * total))",
    ),
    Mutant(
        "seconds are multiplied",
        "reading_code",
        "(now - times[first]) / 1e6",
        "(now - times[first]) * 1e-6",
    ),
    Mutant(
        "unknown values count as one",
        "reading_code",
        " - (UNKNOWN in seen)",
        "",
    ),
    Mutant(
        "an unknown value is new",
        "reading_code",
        "None if own_{value} == UNKNOWN",
        "1.0 if own_{value} == UNKNOWN",
    ),
    Mutant(
        "a streak is one too long",
        "reading_code",
        "        last -= 1\n    return last",
        "        last -= 1\n    return max(last - 1, first)",
    ),
    Mutant(
        "the newest good payment is a fraud",
        "reading_code",
        "(now - times[streak - 1]) / 1e6 if streak > first",
        "(now - times[last - 1]) / 1e6 if last > first",
    ),
    Mutant(
        "the end of a window is not searched for",
        "reading_code",
        "if last and times[-1] >= now - {delay_us}:",
        "if last and times[-1] > now - {delay_us}:",
    ),
    Mutant(
        "a payment at the old edge of a short window is not looked for",
        "reading_code",
        "if last > first and times[last - 1] < now - {reach_us}:",
        "if last > first and times[last - 1] <= now - {reach_us}:",
    ),
    Mutant(
        "the old edge of a long window is left out",
        "reading_code",
        '_START = """\n    first = bisect_left(times, now - {reach_us},',
        '_START = """\n    first = bisect_left(times, now - {reach_us} + 1,',
    ),
    Mutant(
        "old frauds stay in shorter windows",
        "reading_code",
        "if fraud.event_us >= start_us]",
        "if fraud.event_us]",
    ),
    Mutant(
        "frauds at the old edge of a shorter window do not count",
        "reading_code",
        "if fraud.event_us >= start_us]",
        "if fraud.event_us > start_us]",
    ),
    Mutant(
        "what left a window stays in order",
        "past",
        "for amount in self.amounts[before:first]:",
        "for amount in self.amounts[before : first - 1]:",
    ),
    Mutant(
        "what came into a window is not put in order",
        "past",
        "for amount in self.amounts[after:last]:",
        "for amount in self.amounts[after + 1 : last]:",
    ),
    Mutant(
        "a window that went back keeps what it has left",
        "past",
        "if before <= first and after <= last and first",
        "if before <= first and first",
    ),
    Mutant(
        "a late row leaves the order of its places",
        "past",
        "        self._let_go()\n        event_us",
        "        event_us",
    ),
    Mutant(
        "dropping leaves the places of what is in order",
        "past",
        "self.edges[at] = edge - place",
        "pass",
    ),
    Mutant(
        "places before the first are in order",
        "past",
        "if self.edges and min(self.edges) < 0:",
        "if False:",
    ),
    Mutant(
        "squares of late rows are lost",
        "past",
        "steps = (amount, square >> _LIMB, square & _LOW)",
        "steps = (amount, square >> _LIMB, 0)",
    ),
    Mutant(
        "a payment that is not of a kind bears its mark",
        "reading_code",
        "== {where.equals!r})",
        "!= {where.equals!r})",
    ),
    Mutant(
        "an amount of just three medians is an outlier",
        "reading",
        "2 * payment.amount_minor > OUTLIER_FACTOR",
        "2 * payment.amount_minor >= OUTLIER_FACTOR",
    ),
    Mutant(
        "payments of the same instant judge outliers",
        "reading",
        "if last and times[-1] >= now:",
        "if last and times[-1] > now:",
    ),
    Mutant(
        "a day of payments judges outliers",
        "reading",
        "now - _REFERENCE_US",
        "now - _REFERENCE_US // 30",
    ),
    Mutant(
        "frauds are counted among payments that do not count",
        "reading_code",
        "fraud.marks >> bit & 1]",
        "True]",
    ),
    Mutant(
        "eviction comes too early",
        "reading",
        "(lookback + LATENESS) // MICROSECOND",
        "lookback // MICROSECOND",
    ),
    Mutant(
        "withdrawn means fraud", "reading", 'label.verdict == "fraud"', 'label.verdict != "genuine"'
    ),
    Mutant(
        "a late row is appended at the end",
        "past",
        "if times and event_us < times[-1]:",
        "if False:",
    ),
    Mutant(
        "a late tie stands in the wrong order",
        "past",
        "place, square = bisect_right(self.times, event_us),",
        "place, square = bisect_left(self.times, event_us),",
    ),
    Mutant(
        "later sums lack a late amount",
        "past",
        "[total + step for total in running[place:]]",
        "[running[place] + step, *running[place + 1 :]]",
    ),
    Mutant(
        "squares lose a bit",
        "past",
        "self.lows[-1] + (square & _LOW)",
        "self.lows[-1] + (square & _LOW >> 1)",
    ),
    Mutant(
        "the median is the lower middle",
        "reading_code",
        "ordered[count >> 1] + ordered[~(count >> 1)]",
        "2 * ordered[~(count >> 1)]",
    ),
    Mutant(
        "the median is the upper middle",
        "reading_code",
        "ordered[count >> 1] + ordered[~(count >> 1)]",
        "2 * ordered[count >> 1]",
    ),
    Mutant("a verdict takes the marks of a tie", "past", "if ring.seqs[place] == seq:", "if True:"),
    Mutant(
        "verdicts count before they are known",
        "past",
        "if s.known_us <= at_us < s.until_us",
        "if at_us < s.until_us",
    ),
    Mutant(
        "a verdict known just now does not count",
        "past",
        "s.known_us <= at_us <",
        "s.known_us < at_us <",
    ),
    Mutant(
        "a verdict holds a microsecond too long",
        "past",
        "at_us < s.until_us]",
        "at_us <= s.until_us]",
    ),
    Mutant("a withdrawal is ignored", "past", "if told.is_fraud and told", "if told"),
    Mutant(
        "the verdict that arrived last holds",
        "past",
        "insort(self.verdicts, verdict)",
        "insort(self.verdicts, verdict, key=lambda v: (v.event_us, v.payment_seq, v.seq))",
    ),
    Mutant(
        "a verdict holds for ever",
        "past",
        "(later.known_us for later in history[1:])",
        '(float("inf") for later in history[1:])',
    ),
    Mutant(
        "frauds at the new edge count",
        "past",
        "bisect_left(self.spans, end_us, first",
        "bisect_left(self.spans, end_us + 1, first",
    ),
    Mutant(
        "frauds at the old edge do not count",
        "past",
        "bisect_left(self.spans, start_us, key",
        "bisect_left(self.spans, start_us + 1, key",
    ),
    Mutant(
        "dropping takes one payment too many",
        "past",
        "place = bisect_left(self.times, horizon_us)",
        "place = bisect_left(self.times, horizon_us) + 1",
    ),
    Mutant(
        "a snapshot loses the newest payment",
        "past",
        "column.frombytes(packed[start * size : (start + 1) * size])",
        "column.frombytes(packed[start * size : (start + 1) * size - 8])",
    ),
    Mutant(
        "a restored verdict is a fraud",
        "past",
        "Verdict(*told)",
        "Verdict(*told)._replace(is_fraud=True)",
    ),
    Mutant(
        "restored sums are off by one",
        "past",
        "accumulate(amounts))",
        "accumulate([*amounts[1:], 0]))",
    ),
    Mutant(
        "an event that comes twice at once is folded twice",
        "rings",
        "if event.seq <= self.last_seq:",
        "if event.seq < self.last_seq:",
    ),
    Mutant(
        "an event that comes again later is folded twice",
        "rings",
        "if event.seq <= self.last_seq:",
        "if event.seq == self.last_seq:",
    ),
    Mutant(
        "a snapshot forgets where it was",
        "rings",
        "last_seq=self.last_seq",
        "last_seq=self.last_seq - 1",
    ),
    Mutant(
        "a restored state lacks a past",
        "rings",
        "for key, past in pasts}",
        "for key, past in pasts[1:]}",
    ),
    Mutant(
        "a verdict reaches only the card",
        "rings",
        '(("card", about.card_id), ("terminal", about.terminal_id))',
        '(("card", about.card_id),)',
    ),
)


def by_batch(load: Load) -> str:
    return batch_difference(load("batch").compute, "batch")


def by_rings(load: Load) -> str:
    rings = load("rings").FeatureRings

    def restored(state: FeatureState) -> FeatureState:
        again: FeatureState = rings.restore(state.snapshot(), ASKED)  # type: ignore[attr-defined]
        return again

    return online_difference(lambda: rings(ASKED), restored, "rings")


@pytest.mark.parametrize("caught_by", [by_batch, by_rings])
def test_without_a_planted_bug_nothing_is_caught(caught_by):
    with planted(None) as load:
        assert caught_by(load) == ""


@pytest.mark.filterwarnings("ignore:.*encountered in divide:RuntimeWarning")
@pytest.mark.parametrize("mutant", BATCH, ids=lambda mutant: mutant.bug)
def test_a_bug_in_the_batch_engine_is_caught(mutant):
    assert catch(mutant, by_batch), f"no comparison saw it: {mutant}"


@pytest.mark.parametrize("mutant", RINGS, ids=lambda mutant: mutant.bug)
def test_a_bug_in_the_state_in_memory_is_caught(mutant):
    assert catch(mutant, by_rings), f"no comparison saw it: {mutant}"


def test_at_least_25_bugs_are_planted_in_each_engine_and_each_is_another():
    for mutants in (BATCH, RINGS):
        places = {(mutant.module, mutant.place, mutant.instead) for mutant in mutants}
        assert len(places) == len(mutants) >= 25
