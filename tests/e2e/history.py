"""Was the scorer one register per payment: written once, never lost, never told otherwise?

A history is what senders saw (`Asked`), a log what is recorded in the end (`Kept`). An answer is
`ok` (it must hold for ever), a refusal (nothing may have come of it), or unknown: the connection
ended, or the scorer said that it could not tell (5xx). What is unknown may be in the log or not,
but once, and as it was asked; it is resolved by asking again.

The idea is Jepsen's: https://jepsen.io. Time is one clock of the test's process.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SHOWN = 20


@dataclass
class Asked:
    """One request: what it asked for, when, and what its sender was told.

    Attributes:
        kind: "decision" or "label".
        key: what may be recorded once: a transaction id, or what makes a verdict one.
        value: what was sent under the key, in a form that compares.
        begun: when it was sent.
        ended: when its answer came, or its connection ended; None: never.
        status: of the answer; 0 when there was none.
        answer: its body.
    """

    kind: str
    key: Hashable
    value: Any
    begun: int
    ended: int | None = None
    status: int = 0
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        return self.status == 200

    @property
    def is_unknown(self) -> bool:
        return self.status == 0 or self.status >= 500

    @property
    def told(self) -> dict[str, Any]:
        """The part of the answer that must be the same each time."""
        varying = {"replayed", "recorded"}
        return {name: value for name, value in self.answer.items() if name not in varying}

    @property
    def is_first(self) -> bool:
        """Whether the answer says that nothing was recorded under the key before."""
        return not self.answer["replayed"] if self.kind == "decision" else self.answer["recorded"]

    @property
    def code(self) -> str:
        return str(self.answer.get("error", ""))


class Kept(NamedTuple):
    """One record of the log; `answer` is what its sender is to be told."""

    seq: int
    kind: str
    key: Hashable
    value: Any
    answer: dict[str, Any] | None


def faults(history: Sequence[Asked], log: Sequence[Kept]) -> list[str]:
    """Everything that is wrong with a log, or with what was told about it; the first ones."""
    records: dict[tuple[str, Hashable], list[Kept]] = defaultdict(list)
    for record in log:
        records[record.kind, record.key].append(record)
    asked: dict[tuple[str, Hashable], list[Asked]] = defaultdict(list)
    for one in history:
        asked[one.kind, one.key].append(one)
    found = [*_in_order(log)]
    for name in records.keys() | asked.keys():
        found += (f"{name}: {fault}" for fault in _of_one(asked[name], records[name]))
    return found[:SHOWN]


def unresolved(history: Iterable[Asked]) -> dict[tuple[str, Hashable], Asked]:
    """The newest unknown request of each key that nobody has had a definite answer about."""
    newest = {(one.kind, one.key): one for one in history if one.is_unknown}
    settled = {(one.kind, one.key) for one in history if one.is_ok or one.code == _CONFLICT}
    return {name: one for name, one in newest.items() if name not in settled}


_CONFLICT = "idempotency_conflict"
_TOO_MANY = 429  # says nothing about what is recorded


def _in_order(log: Sequence[Kept]) -> Iterator[str]:
    seqs = sorted(record.seq for record in log)
    if seqs != list(range(1, len(log) + 1)):
        twice = [seq for seq, count in Counter(seqs).items() if count > 1]
        gaps = sorted(set(range(1, len(log) + 1)) - set(seqs))
        yield f"the order of the log is not gapless: missing {gaps[:5]}, twice {twice[:5]}"


def _of_one(asked: list[Asked], records: list[Kept]) -> Iterator[str]:
    """What is wrong with one register."""
    if len(records) > 1:
        yield f"recorded {len(records)} times"
    record = records[0] if records else None
    ok = [one for one in asked if one.is_ok]
    if record is None:
        if ok:
            yield "lost: it was acknowledged and is not in the log"
        elif any(one.code == _CONFLICT for one in asked):
            yield "refused as another payload, and none is in the log"
        return
    if not any(one.value == record.value and _may_have_written(one) for one in asked):
        yield "in the log, and nobody asked for that"
    yield from _of_answers(ok, record)
    yield from _of_refusals(asked, ok, record)
    yield from _of_firsts(ok)


def _may_have_written(one: Asked) -> bool:
    return one.is_ok or one.is_unknown


def _of_answers(ok: list[Asked], record: Kept) -> Iterator[str]:
    for one in ok:
        if one.value != record.value:
            yield "acknowledged with another payload than is in the log"
        elif one.kind == "decision" and record.answer is None:
            yield "acknowledged, and in the log without a decision"
        else:
            expected = {n: v for n, v in (record.answer or {}).items() if n != "replayed"}
            differing = [
                n for n in expected.keys() | one.told if expected.get(n) != one.told.get(n)
            ]
            if differing:
                yield f"told otherwise than recorded: {sorted(differing)}"


def _of_refusals(asked: list[Asked], ok: list[Asked], record: Kept) -> Iterator[str]:
    for one in asked:
        if one.is_ok or one.is_unknown or one.status == _TOO_MANY:
            continue
        if one.code == _CONFLICT:
            if one.value == record.value:
                yield "refused as another payload, and the log has this very one"
        elif any(done.ended is not None and done.ended < one.begun for done in ok):
            yield f"refused with {one.status} {one.code} after it was acknowledged"


def _of_firsts(ok: list[Asked]) -> Iterator[str]:
    firsts = [one for one in ok if one.is_first]
    if len(firsts) > 1:
        yield f"{len(firsts)} senders were told that theirs was the first"
    for first in firsts:
        if any(one.ended is not None and one.ended < first.begun for one in ok if one is not first):
            yield "told to be the first after another had been acknowledged"
