"""The checker of histories finds what it is there for: each kind of fault, planted."""

from dataclasses import replace

import pytest

from tests.e2e.history import Asked, Kept, faults, unresolved


def answered(key: str, seq: int, at: int, **more: object) -> Asked:
    answer = {"seq": seq, "score": 0.25, "replayed": False}
    return Asked("decision", key, f"payload of {key}", at, at + 1, 200, answer | more)


def sound() -> tuple[list[Asked], list[Kept]]:
    """Two payments, one asked for twice, a lost answer that was recorded, a verdict, a conflict."""
    label = Asked("label", ("a", "fraud"), None, 70, 71, 200, {"seq": 4, "recorded": True})
    conflict = Asked("decision", "a", "other", 80, 81, 422, {"error": "idempotency_conflict"})
    history = [
        *(answered("a", 1, 10), answered("a", 1, 20, replayed=True), answered("b", 2, 30)),
        Asked("decision", "c", "payload of c", 40, 41),
        answered("c", 3, 50, replayed=True),
        Asked("decision", "d", "payload of d", 60, 61),
        *(label, replace(label, begun=90, ended=91, answer={"seq": 4, "recorded": False})),
        conflict,
    ]
    log = [
        Kept(seq, "decision", key, f"payload of {key}", {"seq": seq, "score": 0.25})
        for seq, key in enumerate("abc", 1)
    ]
    return history, [*log, Kept(4, "label", ("a", "fraud"), None, {"seq": 4})]


def test_a_sound_history_has_no_fault():
    history, log = sound()
    assert faults(history, log) == []
    assert [one.key for one in unresolved(history).values()] == ["d"]


def lose_a_decision(history, log):
    del log[1]
    log[1:] = [replace_seq(record, record.seq - 1) for record in log[1:]]


def lose_a_verdict(history, log):
    del log[3]


def record_twice(history, log):
    log.append(log[1]._replace(seq=5))


def alter_a_score(history, log):
    log[0] = log[0]._replace(answer={"seq": 1, "score": 0.250000001})


def alter_a_payload(history, log):
    log[1] = log[1]._replace(value="another payload")


def answer_twice_differently(history, log):
    history[1].answer["score"] = 0.5


def call_two_the_first(history, log):
    history[1].answer["replayed"] = False


def call_a_late_one_the_first(history, log):
    history[0].answer["replayed"], history[1].answer["replayed"] = True, False


def leave_a_gap(history, log):
    log[3] = log[3]._replace(seq=5, answer={"seq": 5})
    for one in history[6:8]:
        one.answer["seq"] = 5


def invent_a_record(history, log):
    log.append(Kept(5, "decision", "e", "payload of e", {"seq": 5}))


def refuse_what_is_recorded(history, log):
    history[8].value = "payload of a"


def refuse_what_is_not_recorded(history, log):
    history[8].key = "z"


def forget_for_a_verdict(history, log):
    history[7].status, history[7].answer = 404, {"error": "unknown_transaction"}


def replace_seq(record: Kept, seq: int) -> Kept:
    return record._replace(seq=seq, answer={**(record.answer or {}), "seq": seq})


PLANTED = {
    lose_a_decision: "lost",
    lose_a_verdict: "lost",
    record_twice: "recorded 2 times",
    alter_a_score: "told otherwise than recorded: ['score']",
    alter_a_payload: "acknowledged with another payload",
    answer_twice_differently: "told otherwise than recorded: ['score']",
    call_two_the_first: "2 senders were told",
    call_a_late_one_the_first: "first after another",
    leave_a_gap: "not gapless",
    invent_a_record: "nobody asked for that",
    refuse_what_is_recorded: "the log has this very one",
    refuse_what_is_not_recorded: "none is in the log",
    forget_for_a_verdict: "after it was acknowledged",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant):
    history, log = sound()
    plant(history, log)
    assert PLANTED[plant] in " ".join(faults(history, log))
