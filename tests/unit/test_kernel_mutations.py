"""Bugs planted into the compiled batch engine; `pytest -s` prints the list.

Its loops run as the plain Python that is compiled: compiling each mutant would take minutes.
"""

import numpy as np
import pytest

from tests.unit.bug_planting import Load, Mutant, catch, planted
from tests.unit.dense_logs import batch_difference

KERNEL = (
    Mutant("ties stay behind", "kernel_lines", "times[place] < oldest:", "times[place] <= oldest:"),
    Mutant(
        "the delay is ignored",
        "kernel_past",
        "self._edge(reach_us), self._edge(delay_us))",
        "self._edge(reach_us), self._edge(0))",
    ),
    Mutant(
        "the window begins a microsecond late",
        "kernel_past",
        "self._edge(reach_us), self._edge(delay_us))",
        "self._edge(reach_us - 1), self._edge(delay_us))",
    ),
    Mutant(
        "late rows are seen early",
        "kernel_lines",
        "if not (is_overtaken & is_asked).any():",
        "if True:",
    ),
    Mutant(
        "late rows are never seen",
        "kernel_lines",
        "place >= first or lines.ranks[place] < seen[now]",
        "place >= first",
    ),
    Mutant(
        "a lagging reader sees one payment more",
        "kernel_lines",
        "lines.ranks[place] < seen[now]",
        "lines.ranks[place] <= seen[now]",
    ),
    Mutant(
        "the first payment that a reader missed overtakes nobody",
        "kernel_lines",
        "newest >= seen[rank]",
        "newest > seen[rank]",
    ),
    Mutant(
        "a copy lacks the rows at the old edge",
        "kernel_lines",
        "times[lines.ranks[start - 1]] >= times[now] - reach_us",
        "times[lines.ranks[start - 1]] > times[now] - reach_us",
    ),
    Mutant(
        "a copy lacks nothing",
        "kernel_lines",
        "if place >= first or lines.ranks[place] < seen[now]:",
        "if True:",
    ),
    Mutant(
        "neighbours share a copy though others arrived between what they had seen",
        "kernel_lines",
        "known_next != known + 1 or ",
        "",
    ),
    Mutant(
        "neighbours share a copy though not the first of them arrived in between",
        "kernel_lines",
        " or np.searchsorted(arrivals, ranks[last]) != known",
        "",
    ),
    Mutant(
        "a lagging terminal is taken for its card",
        "kernel_log",
        'told[f"{entity}_seen"]',
        'told["card_seen"]',
    ),
    Mutant(
        "an amount of just three medians is an outlier",
        "kernel_medians",
        "2 * asked.amounts[at] > factor * twice[at]",
        "2 * asked.amounts[at] >= factor * twice[at]",
    ),
    Mutant(
        "a payment without a past is an outlier",
        "kernel_medians",
        "        if window.first[at] < window.last[at]:\n            found[asked",
        "        if True:\n            found[asked",
    ),
    Mutant(
        "what is not known to be ordinary is an outlier",
        "kernel_log",
        "if where.equals else ~self.marks",
        "if where.equals else self.marks",
    ),
    Mutant(
        "the verdict that arrived last holds",
        "kernel_log",
        '.sort("rank", "known_us", "seq")',
        '.sort("rank", "seq")',
    ),
    Mutant(
        "withdrawn means fraud",
        "kernel_log",
        '== "fraud"',
        '!= "genuine"',
    ),
    Mutant(
        "verdicts count before they are known",
        "kernel_frauds",
        "frauds.known[verdict] <= now and",
        "",
    ),
    Mutant(
        "a verdict known just now does not count",
        "kernel_frauds",
        "frauds.known[verdict] <= now",
        "frauds.known[verdict] < now",
    ),
    Mutant(
        "verdicts count before they arrive",
        "kernel_frauds",
        "and frauds.seqs[verdict] <= seen",
        "",
    ),
    Mutant(
        "a withdrawal is ignored",
        "kernel_frauds",
        "return bool(frauds.is_fraud[verdict])",
        "return True",
    ),
    Mutant(
        "running sums are off by one",
        "kernel_loops",
        "sums[place + 1] = sums[place] + amounts[place]",
        "sums[place + 1] = sums[place] + amounts[max(place - 1, 0)]",
    ),
    Mutant(
        "squares lose a bit",
        "kernel_spreads",
        "lows[place] + (rest & _LOW)",
        "lows[place] + (rest & _LOW >> 1)",
    ),
    Mutant(
        "a difference of two words borrows nothing",
        "kernel_spreads",
        "one[0] - other[0] - (_U1 if one[1] < other[1] else _U0)",
        "one[0] - other[0]",
    ),
    Mutant(
        "large numbers are cut off, not rounded",
        "kernel_spreads",
        "leading = high | (_U1 if low != _U0 else _U0)",
        "leading = high & ~np.uint64(2047)",
    ),
    Mutant(
        "the median is the lower middle",
        "kernel_medians",
        "_next(bits, middle) if is_even else middle",
        "middle",
    ),
    Mutant(
        "the largest amount stays too long",
        "kernel_loops",
        "queue[head] < window.first[at]",
        "queue[head] < window.first[at] - 1",
    ),
    Mutant(
        "unknown values count as one",
        "kernel_loops",
        "if codes[end] >= 0:\n                different",
        "if codes[end] >= -1:\n                different",
    ),
    Mutant(
        "an unknown value is new",
        "kernel_loops",
        "np.nan if own[at] < 0 else",
        "1.0 if own[at] < 0 else",
    ),
    Mutant(
        "seconds are multiplied", "kernel_loops", "- times[place]) / 1e6", "- times[place]) * 1e-6"
    ),
    Mutant(
        "a median steps over a neighbour",
        "kernel_medians",
        "while below > (size - 1) >> 1:",
        "while below > size >> 1:",
    ),
    Mutant(
        "a payment that leaves is still below the median",
        "kernel_medians",
        "below -= position < middle",
        "below -= position < middle - 1",
    ),
    Mutant(
        "a reader sees what comes after its decision",
        "kernel_log",
        "np.minimum(newest.to_numpy(), self.before)",
        "np.maximum(newest.to_numpy(), self.before)",
    ),
    Mutant(
        "a streak has gaps",
        "kernel_frauds",
        "            and ranks[place] == frauds.ranks[fraud]\n",
        "",
    ),
    Mutant(
        "a streak starts one too early",
        "kernel",
        "self.window.last - self.streaks, -1)",
        "self.window.last - self.streaks - 1, -1)",
    ),
    Mutant(
        "the oldest payment is never the newest good one",
        "kernel",
        "places[places < self.window.first] = -1",
        "places[places <= self.window.first] = -1",
    ),
    Mutant("weekends begin on Friday", "kernel_loops", "+ 3) % 7 >= 5", "+ 4) % 7 >= 5"),
)

INSTRUCTIONS = {
    "_zeros_below": lambda word: (int(word) & -int(word)).bit_length() - 1,
    "_zeros_above": lambda word: 64 - int(word).bit_length(),
}
"""What compiled code has machine instructions for: zeros below and above what is set."""


def by_kernel(load: Load) -> str:
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):  # words wrap around
        for name, plain in INSTRUCTIONS.items():
            patch.setattr(load("kernel_medians"), name, plain)
        return batch_difference(load("kernel").compute, "kernel")


def test_without_a_planted_bug_nothing_is_caught():
    with planted(None) as load:
        assert by_kernel(load) == ""


@pytest.mark.parametrize("mutant", KERNEL, ids=lambda mutant: mutant.bug)
def test_a_bug_in_the_compiled_engine_is_caught(mutant):
    assert catch(mutant, by_kernel), f"no comparison saw it: {mutant}"


def test_at_least_25_bugs_are_planted_and_each_is_another():
    places = {(mutant.module, mutant.place, mutant.instead) for mutant in KERNEL}
    assert len(places) == len(KERNEL) >= 25
