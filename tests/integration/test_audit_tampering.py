"""Whoever changes the audit log is found, and what they did and where; twice, independently.

T-AUD-1 and T-AUD-2 of the design.
"""

import importlib.util
import json
import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fraud_platform.adapters.audit_keys import AuditKeys, read_key
from fraud_platform.adapters.audit_log import AuditLog
from fraud_platform.adapters.audit_sqlite import SqliteAudit
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.signatures import Signer, is_signed
from fraud_platform.audit_log.acts import ACTIONS, ROUTINE, Act
from fraud_platform.audit_log.diagnosis import Finding
from fraud_platform.audit_log.heads import MOST_ROWS, Head, parse_heads
from fraud_platform.audit_log.rows import MacKey, next_row, start_of
from fraud_platform.audit_log.verification import Trust, verified
from fraud_platform.errors import AuditUnavailableError
from tests.integration.audit_forgery import (
    FORGERIES,
    Copy,
    add_a_head,
    cut_the_end,
    drop_the_last_head,
    step_an_epoch_without_a_head,
    write_it_anew,
    write_with_the_keys_of_now,
)

TRIES = 30
ROWS = 100


@dataclass(frozen=True)
class Original:
    """A log as it was written, and what was kept of it elsewhere."""

    path: Path
    anchor: Path
    first_key: MacKey
    first_key_path: Path
    key_of_now: MacKey
    signer: Signer
    older: list[Path]

    @property
    def anchors(self) -> list[Head]:
        return list(parse_heads(self.anchor.read_text("utf-8")))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    keys = AuditKeys(folder)
    now = iter(range(10**15, 10**18, 1_000))
    store = SqliteAudit(folder / "audit.db")
    log = AuditLog(store, keys, now_us=lambda: next(now))
    draw, older = random.Random(0), []
    for number in range(ROWS):
        names = sorted(ROUTINE) if draw.random() < 0.9 else sorted(ACTIONS)
        log.record(
            Act(
                actor=draw.choice(["ann", "bob"]),
                role="auditor",
                action=draw.choice(names),
                object=f"model:{number}",
                origin="cli",
                reason=f"since {number}",
                facts={"n": str(number)},
            )
        )
        if number % 3 == 2:
            older.append(_copied(folder / "audit.db", folder / f"older-{number}.db"))
    log.head()
    anchor = folder / "elsewhere.heads"
    anchor.write_text("".join(store.heads()), "utf-8")
    store.close()
    whole = _copied(folder / "audit.db", folder / "whole.db")
    now_key = read_key(folder / "mac.key")
    first = keys.first_path
    return Original(whole, anchor, read_key(first), first, now_key, keys.signer, older)


def _copied(source: Path, target: Path) -> Path:
    """A copy in one file."""
    with closing(sqlite3.connect(source)) as log, closing(sqlite3.connect(target)) as copy:
        log.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
    return target


@pytest.fixture(scope="module")
def stand_alone():
    path = Path(__file__).parents[2] / "deploy" / "verify_audit.py"
    spec = importlib.util.spec_from_file_location("verify_audit", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _ours(path: Path, original: Original, *, anchored=False, keyed=True) -> Finding | None:
    store = SqliteAudit(path)
    trust = Trust(
        public=original.signer.public,
        is_signed=is_signed,
        first_key=original.first_key if keyed else None,
        anchors=original.anchors if anchored else (),
    )
    rows = lambda after: store.rows(RowFilter(after=after))  # noqa: E731
    report = verified(rows, store.heads(), store.tail(), trust)
    store.close()
    return report.finding


def _theirs(module, path: Path, original: Original, *, anchored=False) -> tuple[int, int] | None:
    try:
        module.check_log(
            path,
            original.signer.public,
            str(original.first_key_path),
            str(original.anchor) if anchored else "",
        )
    except module.Bad as bad:
        return bad.first, bad.last
    return None


def test_a_log_that_nobody_changed_is_intact(original, stand_alone):
    assert _ours(original.path, original, anchored=True) is None
    assert _theirs(stand_alone, original.path, original, anchored=True) is None


def test_every_tampering_is_found_named_and_placed(original, stand_alone, tmp_path):
    found, agreed = Counter(), 0
    for forge, kind in FORGERIES.items():
        for seed in range(TRIES):
            path = tmp_path / f"{forge.__name__}-{seed}.db"
            shutil.copy(original.path, path)
            place = forge(Copy(path), random.Random(f"{forge.__name__} {seed}"))
            ours = _ours(path, original)
            assert ours is not None, (forge.__name__, seed)
            assert (ours.seq, ours.kind) == (place, kind), (forge.__name__, seed, ours)
            assert ours.first == place
            theirs = _theirs(stand_alone, path, original)
            assert theirs == (ours.first, ours.seq), (forge.__name__, seed)
            found[forge.__name__] += 1
            agreed += 1
            path.unlink()
    tried = TRIES * len(FORGERIES)
    print(json.dumps({"test": "T-AUD-1", "tried": tried, "agreed": agreed, **found}))
    assert agreed == tried


FORGERIES_WITH_KEYS = {
    write_with_the_keys_of_now: "rewritten",
    step_an_epoch_without_a_head: "head dropped",
    add_a_head: "head forged",
}


@pytest.mark.parametrize("forge", FORGERIES_WITH_KEYS, ids=lambda forge: forge.__name__)
def test_who_has_keys_is_found_where_epochs_do_not_fit_heads(
    forge, original, stand_alone, tmp_path
):
    kind = FORGERIES_WITH_KEYS[forge]
    is_of_now = forge is write_with_the_keys_of_now
    key = original.key_of_now if is_of_now else original.first_key
    for seed in range(TRIES):
        path = tmp_path / f"{seed}.db"
        shutil.copy(original.path, path)
        place = forge(Copy(path), random.Random(seed), key, original.signer)
        ours = _ours(path, original)
        assert ours == (kind, place, place), (seed, ours)
        assert _theirs(stand_alone, path, original) == (place, place), seed
    print(json.dumps({"test": "T-AUD-1", "tried": TRIES, "agreed": TRIES, forge.__name__: TRIES}))


def test_without_the_first_key_a_rewriting_is_placed_between_two_heads(original, tmp_path):
    path = tmp_path / "rewritten.db"
    shutil.copy(original.path, path)
    forge = next(one for one, kind in FORGERIES.items() if kind == "rewritten")
    place = forge(Copy(path), random.Random(1))
    finding = _ours(path, original, keyed=False)
    assert finding.kind == "rewritten"
    assert finding.first <= place <= finding.seq


def test_only_heads_from_elsewhere_tell_that_the_end_is_missing(original, stand_alone, tmp_path):
    found = Counter()
    for seed in range(TRIES):
        forged = {
            "tail cut": (cut_the_end, ()),
            "head dropped": (drop_the_last_head, ()),
            "split view": (write_it_anew, (original.first_key, original.signer)),
        }
        for name, (forge, keys) in forged.items():
            path = tmp_path / f"{seed}-{forge.__name__}.db"
            shutil.copy(original.path, path)
            place = forge(Copy(path), random.Random(f"{name} {seed}"), *keys)
            found[name] += _is_found(path, original, stand_alone, place, (name, seed))
        path = tmp_path / f"older-{seed}.db"
        shutil.copy(original.older[seed], path)
        place = len(Copy(path).rows) + 1
        found["old copy"] += _is_found(path, original, stand_alone, place, ("old copy", seed))
    print(json.dumps({"test": "T-AUD-2", "tried": TRIES * 4, **found}))
    assert set(found.values()) == {TRIES}


def _is_found(path: Path, original: Original, module, place: int, case) -> bool:
    assert _ours(path, original) is None, case  # nothing in the file itself is wrong
    assert _theirs(module, path, original) is None, case
    ours = _ours(path, original, anchored=True)
    assert ours is not None, case
    assert ours.first <= place <= ours.seq, (case, place, ours)
    assert _theirs(module, path, original, anchored=True) == (ours.first, ours.seq), case
    return True


def test_an_anchor_of_another_key_is_no_anchor(original, tmp_path):
    path = tmp_path / "same.db"
    shutil.copy(original.path, path)
    other = replace(original, signer=Signer(bytes(32)))
    assert _ours(path, other).kind == "head forged"


def test_both_miss_a_head_that_is_long_due_even_if_the_tail_forgot_it(stand_alone):
    row, rows = start_of("log"), []
    for _ in range(MOST_ROWS):
        told = {"outcome": "done", "begun": 0, "at_us": 0, "key": MacKey(0, bytes(32))}
        rows.append(next_row(row, ACT, **told))
        row = row.after(rows[-1])
    trust = Trust(public=bytes(32), is_signed=is_signed)
    report = verified(lambda after: iter(rows[after:]), [], row, trust)
    assert report.finding.kind == "head dropped"
    told = row._asdict()
    (bad,) = stand_alone.wrong_heads([], [], {}, told, MOST_ROWS)
    assert (bad.first, bad.last) == (report.finding.first, report.finding.seq)
    assert not list(stand_alone.wrong_heads([], [], {}, told | {"size": MOST_ROWS - 1}, 0))


ACT = Act(actor="ann", role="", action="model.promote", object="model:3", origin="cli")


def test_a_crash_before_a_key_is_destroyed_costs_nothing(tmp_path):
    log = AuditLog(SqliteAudit(tmp_path / "audit.db"), AuditKeys(tmp_path))
    log.record(ACT)
    lagging = (tmp_path / "mac.key").read_bytes()
    log.record(ACT)
    (tmp_path / "mac.key").write_bytes(lagging)
    log.record(ACT)
    assert [row.epoch for row in log.rows()] == [0, 1, 2]
    assert read_key(tmp_path / "mac.key").epoch == 3


def test_a_head_that_is_not_committed_destroys_no_key(tmp_path, monkeypatch):
    log = AuditLog(SqliteAudit(tmp_path / "audit.db"), AuditKeys(tmp_path))
    appending = log.store.appending

    @contextmanager
    def on_a_full_disk():
        with appending() as end:
            yield end
            raise OSError("no space")

    monkeypatch.setattr(log.store, "appending", on_a_full_disk)
    with pytest.raises(AuditUnavailableError):
        log.record(ACT)
    monkeypatch.undo()
    assert log.record(ACT).epoch == 0


def test_nothing_is_recorded_behind_an_end_that_was_cut_off_with_all_traces(tmp_path):
    log = AuditLog(SqliteAudit(tmp_path / "audit.db"), AuditKeys(tmp_path))
    log.record(ACT)
    kept = _copied(tmp_path / "audit.db", tmp_path / "older.db")
    log.record(ACT)
    later = AuditLog(SqliteAudit(kept), AuditKeys(tmp_path))
    with pytest.raises(AuditUnavailableError, match="epoch 2"):
        later.record(ACT)
