"""One decision, provable to somebody who has neither this platform nor trust in it.

Also T-AUD-7 of the design: what the audit log costs.
"""

import ast
import copy
import importlib.util
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from base64 import b64decode
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.adapters import audit_sqlite
from fraud_platform.adapters.audit_check import Wanted, check_audit_log
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.audit_store import RowFilter
from fraud_platform.adapters.decision_proof import decision_proof
from fraud_platform.adapters.log_seals import MOST_POSITIONS, seals_of
from fraud_platform.adapters.signatures import is_signed
from fraud_platform.audit_log.acts import Act
from fraud_platform.audit_log.merkle import consistency, inclusion, leaf_hash, root
from fraud_platform.audit_log.verification import Trust, verified
from fraud_platform.errors import (
    AuditUnavailableError,
    HistoryDamagedError,
    UnknownTransactionError,
)
from fraud_platform.settings import Settings
from tests.integration.sealed_logs import log_of

VERIFIER = Path(__file__).parents[2] / "deploy" / "verify_audit.py"
POSITIONS = 300


def _loaded():
    spec = importlib.util.spec_from_file_location("verify_audit", VERIFIER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stand_alone = _loaded()


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """A home whose log is sealed in two ranges, and is not written any more."""
    home = Settings(home=tmp_path_factory.mktemp("home"))
    log_of(home, POSITIONS // 2)
    seals_of(home).seal()
    log_of(home, POSITIONS // 2, start=POSITIONS // 2)
    seals_of(home).seal()
    return home


@pytest.fixture
def changed(settings, tmp_path):
    """A copy of that home that a test may spoil."""
    home = Settings(home=tmp_path)
    for folder in (settings.audit_dir, settings.log_path.parent):
        target = home.home / folder.name
        target.mkdir()
        for file in folder.iterdir():
            if file.is_file():
                shutil.copy(file, target)
    return home


def test_every_decision_is_provable_and_a_proof_is_short(settings):
    public = audit_log_of(settings).keys.public
    longest = 0
    for number in range(0, POSITIONS, 7):
        if number % 10 == 9:
            continue
        name = f"t-{number:08}"
        text = json.dumps(decision_proof(settings, name), separators=(",", ":"))
        longest = max(longest, len(text.encode()))
        assert "is under the head" in stand_alone.check_proof(json.loads(text), public)
    # A full range has five hashes more than these, an audit log of a million rows eighteen more.
    longest += 43 * (5 + 18)
    print(json.dumps({"test": "T-AUD-7", "proof_bytes": longest}))
    assert longest <= 4_000


def test_a_proof_says_what_was_decided(settings):
    proof = decision_proof(settings, "t-00000000")
    decision = proof["record"]["decision"]
    assert decision["decision"] in ("approve", "decline")
    assert proof["record"]["transaction"]["longitude"] == 0.0
    assert len(b64decode(decision["features"]["base64"])) == 46 * 8


def test_a_proof_with_anything_changed_proves_nothing(settings):
    public = audit_log_of(settings).keys.public
    proof = decision_proof(settings, "t-00000003")
    for name, fields in proof["record"].items():
        for column, value in fields.items():
            forged = copy.deepcopy(proof)
            forged["record"][name][column] = f"{value}x" if isinstance(value, str) else "x"
            with pytest.raises(stand_alone.Bad):
                stand_alone.check_proof(forged, public)
    with pytest.raises(stand_alone.Bad):
        stand_alone.check_proof(copy.deepcopy(proof) | {"transaction_id": "t-00000004"}, public)
    with pytest.raises(stand_alone.Bad):
        stand_alone.check_proof(copy.deepcopy(proof), bytes(32))


def test_whoever_kept_a_former_key_can_prove_nothing_with_it(settings):
    audit = audit_log_of(settings)
    former, proof = audit.keys.public, decision_proof(settings, "t-00000003")
    newest = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(stand_alone.Bad, match="newest of these keys"):
        stand_alone.check_proof(copy.deepcopy(proof), former + newest)
    assert stand_alone.check_proof(proof, former)


def test_whoever_kept_a_former_key_can_continue_no_head_with_it(settings, tmp_path):
    audit = audit_log_of(settings)
    head, former = audit.head().note, audit.keys.public
    newest = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    told = tmp_path / "told.json"
    told.write_text(json.dumps({"head": head, "path": ""}), "utf-8")
    assert stand_alone.check_growth(head, told, former)
    with pytest.raises(stand_alone.Bad):
        stand_alone.check_growth(head, told, former + newest)


def test_a_payment_that_nobody_knows_has_no_proof(settings):
    with pytest.raises(UnknownTransactionError):
        decision_proof(settings, "t-unknown")


SPOILED = {
    "UPDATE decisions SET decision = 'approved' WHERE seq = :seq": "changed",
    "UPDATE decisions SET score = score + 1e-16 * score WHERE seq = :seq": "changed",
    "UPDATE transactions SET amount_minor = amount_minor + 1 WHERE seq = :seq": "changed",
    "UPDATE transactions SET device_id = 'other' WHERE seq = :seq": "changed",
    "DELETE FROM decisions WHERE seq = :seq": "changed",
    "DELETE FROM transactions WHERE seq = :seq": "deleted",
}
"""What somebody does to events.db at a position, and what it is called."""


@pytest.mark.parametrize(("statement", "kind"), SPOILED.items(), ids=lambda text: text[:32])
def test_what_is_changed_in_the_event_log_is_found_at_its_position(changed, statement, kind):
    draw = random.Random(statement)
    for _ in range(5):
        seq = draw.choice([n for n in range(1, POSITIONS + 1) if n % 10])
        with _restored(changed) as database:
            database.execute(statement, {"seq": seq})
        (found,) = seals_of(changed).compare().bad
        assert (found.first, found.last, found.kind) == (seq, seq, kind)


def _restored(settings: Settings):
    """The event log as it was; the block's changes are kept until the next one."""
    path = settings.log_path
    kept = path.with_name("kept.db")
    if not kept.exists():
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(kept)) as target:
            source.backup(target)
    database = sqlite3.connect(path)
    database.execute("PRAGMA foreign_keys=OFF")
    with closing(sqlite3.connect(kept)) as source:
        source.backup(database)
    return database


def test_a_changed_verdict_is_found_and_without_leaves_within_its_range(changed):
    with _restored(changed) as database:
        database.execute("UPDATE labels SET verdict = 'genuine' WHERE seq = 40")
    (found,) = seals_of(changed).compare().bad
    assert (found.first, found.last) == (40, 40)
    (changed.audit_dir / "leaves.db").unlink()
    (found,) = seals_of(changed).compare().bad
    assert (found.first, found.last) == (1, POSITIONS // 2)


def test_a_record_that_was_changed_is_not_proven(changed):
    with _restored(changed) as database:
        database.execute("UPDATE decisions SET score = 0 WHERE seq = 41")
    with pytest.raises(HistoryDamagedError, match="position 41"):
        decision_proof(changed, "t-00000040")


def test_an_event_log_that_is_cut_off_or_gone_or_another_is_found(changed):
    with _restored(changed) as database:
        database.execute("DELETE FROM transactions WHERE seq > 290")
        database.execute("DELETE FROM labels WHERE seq > 290")
    assert [one.first for one in seals_of(changed).compare().bad] == [291]
    with _restored(changed) as database:
        database.execute("UPDATE identity SET log = 'another'")
    assert [one.kind for one in seals_of(changed).compare().bad] == ["renamed", "renamed"]
    changed.log_path.unlink()
    assert [one.kind for one in seals_of(changed).compare().bad] == ["deleted"]


def _both_find(settings: Settings) -> list[tuple[int, str]]:
    """What we find in the event log; the stand-alone verifier has to find something, too."""
    path, public = settings.audit_dir / "audit.db", audit_log_of(settings).keys.public
    with pytest.raises(stand_alone.Bad):
        stand_alone.check_log(path, public, events=settings.log_path)
    return [(one.first, one.kind) for one in seals_of(settings).compare().bad]


def test_another_name_of_the_event_log_hides_nothing_that_was_sealed(changed):
    with _restored(changed) as database:
        database.execute("UPDATE identity SET log = 'another'")
    assert seals_of(changed).seal() == POSITIONS
    assert _both_find(changed) == [(1, "renamed"), (POSITIONS // 2 + 1, "renamed")]


PLANTED = {
    "a payment": "UPDATE transactions SET seq = -1 WHERE seq = 11",
    "a verdict": "UPDATE labels SET seq = -1 WHERE seq = 10",
}


@pytest.mark.parametrize("statement", PLANTED.values(), ids=PLANTED)
def test_what_is_put_below_the_first_position_is_found(changed, statement):
    with _restored(changed) as database:
        database.execute(statement)
    assert _both_find(changed)[0] == (-1, "unsealed")


def test_nothing_is_proven_from_a_range_where_another_record_was_changed(changed):
    (changed.audit_dir / "leaves.db").unlink()
    with _restored(changed) as database:
        database.execute("UPDATE decisions SET score = 0 WHERE seq = 41")
    with pytest.raises(HistoryDamagedError, match=f"1..{POSITIONS // 2}"):
        decision_proof(changed, "t-00000004")


@pytest.mark.parametrize("place", [-7, 0, 1, 3, 99_999])
def test_a_proof_is_of_its_own_position_only(settings, place):
    public = audit_log_of(settings).keys.public
    proof = decision_proof(settings, "t-00000001")
    assert proof["position"] == 2
    # Of a range whose size is no power of two, several places lead along one path.
    with pytest.raises(stand_alone.Bad):
        stand_alone.check_proof(proof | {"position": place}, public)


SPOILED_SEALS = {
    "facts that are none": "UPDATE acts SET facts = '[' WHERE seq = 2",
    "facts without a range": "UPDATE acts SET facts = '{}' WHERE seq = 2",
    "facts of another kind": "UPDATE acts SET facts = '[1]' WHERE seq = 2",
    "a root that is none": "UPDATE acts SET after = 'x' WHERE seq = 2",
    "a text that is none": "UPDATE acts SET facts = CAST(x'ff' AS TEXT) WHERE seq = 2",
    "no tail": "DELETE FROM tail",
    "a chain that is none": "UPDATE tail SET chain = x''",
}


@pytest.mark.parametrize("statement", SPOILED_SEALS.values(), ids=SPOILED_SEALS)
def test_a_spoiled_seal_ends_no_process_with_an_error_of_python(changed, statement):
    path = changed.audit_dir / "audit.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in names.fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute(statement)
    log_of(changed, 10, start=POSITIONS)
    with pytest.raises(AuditUnavailableError):
        seals_of(changed).seal()
    with suppress(AuditUnavailableError):
        assert not check_audit_log(changed, Wanted()).is_intact


def test_the_stand_alone_verifier_sees_a_changed_event_log_too(changed):
    path, public = changed.audit_dir / "audit.db", audit_log_of(changed).keys.public
    good = stand_alone.check_log(path, public, events=changed.log_path)
    assert good.startswith("2 rows")
    with _restored(changed) as database:
        database.execute("UPDATE decisions SET score = 0 WHERE seq = 7")
    with pytest.raises(stand_alone.Bad) as found:
        stand_alone.check_log(path, public, events=changed.log_path)
    assert (found.value.first, found.value.last) == (1, POSITIONS // 2)


def test_the_stand_alone_verifier_imports_nothing_of_ours_and_is_short():
    source = VERIFIER.read_text("utf-8")
    names = {
        name.name.split(".")[0] if isinstance(node, ast.Import) else str(node.module).split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in node.names
    }
    assert names - sys.stdlib_module_names == {"cryptography"}
    code = [line for line in source.splitlines() if line.strip()]
    assert len(code) <= 350  # 300 of them are no documentation


def test_the_stand_alone_verifier_is_a_program_that_runs_anywhere(settings, tmp_path):
    proof = tmp_path / "proof.json"
    proof.write_text(json.dumps(decision_proof(settings, "t-00000001")), "utf-8")
    public = settings.audit_dir / "head.key.pub"
    command = [sys.executable, "-P", str(VERIFIER), "proof", str(proof), "--public", str(public)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    proof.write_text(proof.read_text("utf-8").replace('"EUR"', '"USD"'), "utf-8")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not what was sealed" in done.stderr


_VALUES = st.none() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary()
_VALUES |= st.floats(allow_nan=False)


@given(st.dictionaries(st.text(max_size=40), _VALUES.filter(lambda v: v is not None), max_size=20))
def test_both_write_a_record_in_the_same_bytes(fields):
    encoder = msgspec.msgpack.Encoder(order="deterministic")
    assert stand_alone.encoded(fields) == encoder.encode(fields)
    assert stand_alone.encoded(list(fields.values())) == encoder.encode(list(fields.values()))


@pytest.mark.parametrize("length", [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536])
def test_both_write_long_values_in_the_same_bytes(length):
    for value in ("x" * length, b"x" * length, list(range(length)), 2 ** min(length, 63)):
        assert stand_alone.encoded(value) == msgspec.msgpack.encode(value)


def test_both_find_the_same_proofs_right():
    leaves = [leaf_hash(bytes([n])) for n in range(70)]
    for size in range(1, 70):
        top = root(leaves[:size])
        for old in range(1, size + 1):
            path = inclusion(leaves[:size], old - 1)
            assert stand_alone.climbed(leaves[old - 1], old - 1, size, b"".join(path)) == top
            path = b"".join(consistency(leaves[:size], old))
            below = root(leaves[:old])
            assert stand_alone.both_roots(below, old, size, path) == (below, top)


def test_what_the_audit_log_costs(tmp_path, monkeypatch):
    """T-AUD-7: figures only, without what a disk takes; the design says what they may be."""
    monkeypatch.setattr(audit_sqlite, "_DURABLE", "PRAGMA synchronous=OFF")
    settings = Settings(home=tmp_path)
    log = audit_log_of(settings)
    told = {"actor": "ann", "role": "auditor", "object": "model:3", "origin": "cli"}
    rows = 3_000
    started = time.process_time()
    for number in range(rows):
        log.record(Act(action="audit.read", facts={"n": str(number)}, **told))
    append = (time.process_time() - started) / rows * 1e6
    started = time.process_time()
    for _ in range(50):
        log.record(Act(action="audit.head", **told))
    governed = (time.process_time() - started) / 50 * 1e6
    first_key = check_audit_log(settings, Wanted()).log
    started = time.process_time()
    trust = Trust(public=log.keys.public, is_signed=is_signed)
    report = verified(
        lambda a: log.rows(RowFilter(after=a)), log.store.heads(), log.store.tail(), trust
    )
    verify = report.rows / (time.process_time() - started)
    log_of(settings, MOST_POSITIONS)
    started = time.process_time()
    assert seals_of(settings).seal() == MOST_POSITIONS
    sealing = (time.process_time() - started) / MOST_POSITIONS * 1e6
    assert report.is_intact
    assert first_key.has_macs
    figures = {
        "append_cpu_us": round(append),
        "append_with_head_cpu_us": round(governed),
        "verified_rows_per_cpu_s": round(verify),
        "sealed_position_cpu_us": round(sealing, 1),
        "probe_ns": round(_probe()),
    }
    print(json.dumps({"test": "T-AUD-7", **figures}))


def _probe() -> float:
    """What one turn of an empty loop takes here and now, nanoseconds: about 20 on a quiet core."""
    started = time.process_time()
    for _ in range(1_000_000):
        pass
    return (time.process_time() - started) * 1e3
