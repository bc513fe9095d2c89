"""`fraud-platform decisions replay` over logs that the real scorer wrote, honest and forged."""

import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from click.testing import CliRunner, Result
from litestar.testing import TestClient

from fraud_platform.adapters.deployment import Pointer, read_deployment
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.home import write_settings
from fraud_platform.adapters.log_writer import pack
from fraud_platform.adapters.mode_order import ModeOrder, write_order
from fraud_platform.adapters.model_bundle import manifest_digest
from fraud_platform.adapters.state_snapshots import StateSnapshots
from fraud_platform.cli import main
from fraud_platform.decision_replay import DOUBTED, ORPHANED
from fraud_platform.events import microseconds
from fraud_platform.features.rings import SHARDS, FeatureRings
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.modes import Mode
from fraud_platform.schemas import LABELS, TRANSACTIONS
from fraud_platform.settings import Settings, get_settings
from serving.app import assemble, build_scorer
from tests.small_bundles import deploy

FRAUD_PLATFORM = Path(sys.executable).with_name("fraud-platform")
AMOUNT, MODEL = "transaction_amount", ("model_version", "model_digest")
CUTS = {"1": {"review": 0.3, "decline": 0.8}, "2": {"review": 0.2, "decline": 0.5}}
POLICY = {"rules_decline_from_minor": 6_000}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home whose settings every process reads."""
    home = tmp_path / "home"
    home.mkdir()
    write_settings(home, {"decision": POLICY, "champion_poll_seconds": 0.05})
    monkeypatch.setenv("FRAUD_HOME", str(home))
    get_settings.cache_clear()
    yield Settings(home=home)
    get_settings.cache_clear()


class Installation:
    """A scorer that lives several times, what it is told, and what it decided."""

    def __init__(self, settings, publish, payment, now) -> None:
        self.settings, self.publish, self.payment, self.now = settings, publish, payment, now
        self.decided: dict[str, dict] = {}
        self._next = 0

    @contextmanager
    def scorer(self):
        self.parts = build_scorer(self.settings, lambda: microseconds(self.now))
        with TestClient(assemble(self.parts)) as self.client:
            yield self.client

    def pay(self, count: int, **changes) -> list[str]:
        """One batch, which the engine decides as one group."""
        numbers = range(self._next, self._next + count)
        self._next += count
        bodies = [self.payment(n, card_id=f"card-{n % 23}", **changes) for n in numbers]
        answer = self.client.post("/v1/decisions/batch", json={"transactions": bodies}).json()
        for told in answer["results"]:
            self.decided[told["decision"]["transaction_id"]] = told["decision"]
        return [f"t{n}" for n in numbers]

    def label(self, name: str, verdict: str) -> None:
        told = {"transaction_id": name, "verdict": verdict, "source": "analyst"}
        assert self.client.post("/v1/labels", json=told).status_code == 200

    def ingest(self, count: int) -> None:
        """Rows that another process appends while the scorer runs."""
        rows = [
            {
                **self.payment(n, transaction_id=f"file-{n}", card_id=f"card-{n % 23}"),
                "event_timestamp": self.now - timedelta(days=2, minutes=n),
                "received_timestamp": self.now,
                "source": "file",
            }
            for n in range(count)
        ]
        verdicts = LABELS.empty().select(
            *("transaction_id", "verdict", "label_source", "reason"),
            *("label_timestamp", "received_timestamp"),
        )
        with closing(EventLog(self.settings.log_path)) as log:
            frame = pl.DataFrame(rows, schema={**TRANSACTIONS.columns}, orient="row", strict=False)
            log.append(frame.drop("seq"), verdicts)

    def until(self, condition) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    def champion(self, version: str) -> None:
        self.publish(version, **CUTS[version])
        self.until(lambda: self.parts.champion.ruling.version == version)
        self.mode(Mode.NORMAL)

    def canary(self, version: str, share: float) -> None:
        kept = read_deployment(self.settings.models_dir)
        path = self.publish(version, **CUTS[version])
        pointer = Pointer(version=version, path=version, manifest_digest=manifest_digest(path))
        found = msgspec.structs.replace(kept, sequence=1, challenger=pointer, canary_share=share)
        deploy(self.settings.models_dir, found)
        self.until(lambda: self.contest() == ("1", version))

    def contest(self) -> tuple[str, str] | None:
        ruling = self.parts.champion.ruling
        if ruling.champion is None or ruling.challenger is None:
            return None
        return ruling.champion.version, ruling.challenger.version

    def mode(self, mode: Mode) -> None:
        write_order(self.settings.mode_path, ModeOrder(mode=mode, reason="test"))
        self.until(lambda: self.parts.stance.stance.mode is mode)


def live(one: Installation) -> None:
    """A load run with everything that may happen between two decisions."""
    with one.scorer():
        one.pay(8)  # nobody decides yet: amount bands
        one.champion("1")
        one.pay(20)
        one.label("t9", "fraud")
        one.label("t10", "genuine")
        one.pay(20, terminal_id="terminal-0")
        one.ingest(30)
        one.canary("2", 0.5)
        one.pay(40)
    with one.scorer():  # another life: another segment, the state folded anew
        one.until(lambda: one.contest() == ("1", "2"))
        one.label("t9", "withdrawn")
        one.label("t30", "fraud")
        one.pay(30)
        one.champion("2")
        one.pay(30)
        live_on(one)


def live_on(one: Installation) -> None:
    """What no model may judge, and what comes too late for its windows."""
    one.mode(Mode.RULES_ONLY)
    one.pay(8)
    one.mode(Mode.NORMAL)
    one.parts.engine.doubtful = frozenset(range(SHARDS))
    one.pay(4)
    one.parts.engine.doubtful = frozenset()
    one.pay(1, event_timestamp=(one.now - timedelta(days=30)).isoformat())
    one.pay(10)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive") / "home"


@pytest.fixture
def installation(settings, publish, payment, now) -> Installation:
    return Installation(settings, publish, payment, now)


@pytest.fixture
def home(archive: Path, installation: Installation) -> Path:
    """The home of the load run; lived once, then copied."""
    home = installation.settings.home
    if not archive.exists():
        live(installation)
        shutil.copytree(home, archive)
    else:
        shutil.copytree(archive, home, dirs_exist_ok=True)
    return home


def replayed(*options: str) -> dict:
    done = run(*options)
    assert done.exit_code in (0, 1), done.output
    return {"exit_code": done.exit_code, **json.loads(done.stdout)}


def run(*options: str) -> Result:
    return CliRunner().invoke(main, ["decisions", "replay", "--json", *options])


def real_process(*options: str) -> subprocess.CompletedProcess[str]:
    words = [str(FRAUD_PLATFORM), "decisions", "replay", *options]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ)


@contextmanager
def tables(home: Path):
    """The log's file in the hands of somebody who forges it."""
    with closing(EventLog(home / "log" / "events.db")) as log:
        log.drain()
    with closing(sqlite3.connect(home / "log" / "events.db")) as connection:
        yield connection
        connection.commit()


def where(home: Path, condition: str) -> list[str]:
    """Ids of decisions in log order."""
    with tables(home) as connection:
        query = f"SELECT transaction_id FROM decisions WHERE {condition} ORDER BY seq"  # noqa: S608 -- ours
        return [row[0] for row in connection.execute(query)]


def forge(home: Path, name: str, **columns: object) -> None:
    """Write over columns of a decision; a function makes the new value of the old one."""
    with tables(home) as connection:
        for column, value in columns.items():
            query = f"SELECT {column} FROM decisions WHERE transaction_id = ?"  # noqa: S608 -- ours
            [old] = connection.execute(query, (name,)).fetchone()
            new = value(old) if callable(value) else value
            query = f"UPDATE decisions SET {column} = ? WHERE transaction_id = ?"  # noqa: S608 -- ours
            connection.execute(query, (new, name))


def damage(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def lose(home: Path, name: str) -> None:
    """Take a transaction out of the log, and leave its decision."""
    with tables(home) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM transactions WHERE transaction_id = ?", (name,))


def flipped(value: float) -> float:
    """The same number but for its last bit."""
    [bits] = struct.unpack("<q", struct.pack("<d", value))
    return struct.unpack("<d", struct.pack("<q", bits ^ 1))[0]


def with_flipped(blob: bytes, feature: str) -> bytes:
    """The same vector but for the last bit of one feature."""
    place = 8 * FEATURE_NAMES.index(feature)
    return blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :]


def test_a_load_run_replays_to_the_bit_in_another_process_while_the_scorer_lives(
    home, installation
):
    installation._next = 500
    with installation.scorer():
        installation.pay(12)  # only in the journal, if nobody has drained it
        done = real_process("--json", "--complete")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["decisions"] == told["equal"] == 8 + 20 + 20 + 40 + 30 + 30 + 8 + 4 + 1 + 10 + 12
    assert (told["different"], told["not_replayed"]) == (0, 0)
    assert (told["differences"], told["gaps"]) == ({}, {})
    assert told["values_compared"] > told["decisions"] * (len(FEATURE_NAMES) + 10)
    assert told["by_cause"] == {"R00": 8, "R01": 4, "R03": 8}
    assert min(told["by_arm"].values()) >= 15, "both arms and none of them decided"
    assert set(told["by_arm"]) == {"champion", "canary", "control", "none"}
    assert told["started_from"] == "the log alone"
    assert told["decisions_per_cpu_second"] > 0


def test_the_load_run_was_one_worth_replaying(home):
    with tables(home) as connection:
        models = connection.execute("SELECT DISTINCT model_version, arm FROM decisions").fetchall()
        outcomes = connection.execute("SELECT DISTINCT decision FROM decisions").fetchall()
        [labels] = connection.execute("SELECT COUNT(*) FROM labels").fetchone()
        [segments] = connection.execute("SELECT COUNT(*) FROM segments").fetchone()
        [late] = connection.execute("SELECT SUM(is_late) FROM decisions").fetchone()
    assert {
        ("1", "champion"),
        ("2", "canary"),
        ("1", "control"),
        ("2", "champion"),
        (None, "none"),
    } == {*models}
    assert {"approve", "review", "decline"} == {row[0] for row in outcomes}
    assert (labels, late) == (4, 1)
    assert segments >= 1, "the second life sealed the first one's journal"


CALM = "arm = 'champion' AND decision = 'approve' AND is_late = 0"
STRICT = "arm = 'champion' AND decision = 'decline'"
CANARY, BANDED = "arm = 'canary'", "reasons LIKE '%R00%'"
FORGERIES = [
    (CALM, {"features": lambda blob: with_flipped(blob, AMOUNT)}, {AMOUNT}),
    (CALM, {"score": lambda score: flipped(score)}, {"score", "score as served"}),
    (CALM, {"decision": "review"}, {"decision"}),
    (CALM, {"event_us": 1}, {"event_us"}),
    (CALM, {"expires_us": 1}, {"expires_us"}),
    (CALM, {"is_late": 1}, {"is_late"}),
    (CALM, {"mode": "closed"}, {"mode"}),
    (CALM, {"missing": '["mirror"]'}, {"missing"}),
    (CALM, {"model_version": None, "model_digest": None}, {"model_digest"}),
    (CALM, {"arm": "shadow"}, {"arm"}),
    (CALM, {"decision_id": "dec_0"}, {"decision_id"}),
    (CALM, {"seq": 1}, {"seq"}),
    (STRICT, {"reasons": "[]"}, {"reasons"}),
    (STRICT, {"decision": "approve"}, {"decision"}),
    (CANARY, {"probability": lambda value: flipped(value)}, {"probability"}),
    (CANARY, {"expected_fpr": lambda value: flipped(value)}, {"expected_fpr"}),
    (CANARY, {"arm": "none"}, {"mode", "score", "probability", "expected_fpr", *MODEL}),
    (BANDED, {"decision": "approve"}, {"decision"}),
    (BANDED, {"reasons": '["R07"]'}, {"reasons"}),
    (BANDED, {"reasons": '["R00", "R02"]', "decision": "decline"}, {"decision", "reasons"}),
    (BANDED, {"mode": "normal"}, {"mode"}),
    (BANDED, {"score": 0.5}, {"score"}),
]
"""Which decisions, what is written over it, and the fields that then differ."""


def test_every_planted_difference_is_named(home):
    """One forgery per decision; each is counted in its fields, the first in the log is named."""
    order = where(home, "TRUE")
    supplies = {one: iter(where(home, one)) for one in (CALM, STRICT, CANARY, BANDED)}
    expected: dict[str, list[str]] = {}
    for condition, columns, fields in FORGERIES:
        name = next(supplies[condition])
        forge(home, name, **columns)
        for field in fields:
            expected.setdefault(field, []).append(name)
    told = replayed()
    assert (told["exit_code"], told["different"], told["not_replayed"]) == (1, len(FORGERIES), 0)
    assert told["equal"] == told["decisions"] - len(FORGERIES)
    assert {
        field: (what["decisions"], what["first"]["transaction_id"])
        for field, what in told["differences"].items()
    } == {field: (len(names), min(names, key=order.index)) for field, names in expected.items()}
    first = told["differences"][AMOUNT]["first"]
    assert first["recorded"] == flipped(first["replayed"])


def test_one_flipped_bit_fails_the_real_command_and_people_can_read_where(home):
    name = where(home, "score IS NOT NULL")[0]
    with tables(home) as connection:
        query = "SELECT score FROM decisions WHERE transaction_id = ?"
        score = connection.execute(query, (name,)).fetchone()[0]
    forge(home, name, score=flipped(score))
    done = real_process("--limit", "30")
    assert (done.returncode, done.stderr) == (1, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "decisions 30" in lines
    assert "different 1" in lines
    first = f"transaction_id {name}, recorded {flipped(score)}, replayed {score}"
    assert f"differs: score: 1; first: {first}" in lines


def test_what_cannot_be_replayed_is_told_apart_from_what_is_equal(home):
    """Bundles refused and gone, other policies, other features, doubted and late vectors."""
    shutil.rmtree(home / "models" / "2")
    damage(home / "models" / "1" / "model.ubj")
    of_one, of_two = (where(home, f"model_version = '{version}'") for version in "12")
    last = of_two.pop()
    doubted, banded = where(home, "reasons LIKE '%R01%'"), where(home, "reasons LIKE '%R00%'")
    [late] = where(home, "is_late = 1")
    forge(home, doubted[0], features=pack([7.0] * len(FEATURE_NAMES)))
    forge(home, late, features=pack([7.0] * len(FEATURE_NAMES)))
    forge(home, banded[0], policy_digest="f" * 64)
    forge(home, banded[1], feature_spec_digest="e" * 64)
    forge(home, of_two[0], model_digest="d" * 64)
    lose(home, last)
    told = replayed()
    assert (told["exit_code"], told["different"]) == (0, 0), told["differences"]
    assert told["not_replayed"] == len(of_one) + len(of_two) + 4
    gaps = {
        why: (gap["decisions"], gap["first"]["transaction_id"]) for why, gap in told["gaps"].items()
    }
    [refused] = [why for why in gaps if "the bundle of version 1 is refused" in why]
    assert "model.ubj has SHA-256" in refused
    assert gaps.pop(refused) == (len(of_one), of_one[0])
    assert gaps.pop(f"its model is gone: version 2, model {'d' * 12}") == (1, of_two[0])
    [(gone, count)] = [(why, gap) for why, gap in gaps.items() if why.startswith("its model is")]
    assert gaps.pop(gone) == count == (len(of_two) - 1, of_two[1])
    assert gaps == {
        DOUBTED: (1, doubted[0]),
        "late, and its windows had been cut by then": (1, late),
        f"another policy than those known ({'f' * 12})": (1, banded[0]),
        f"other feature definitions ({'e' * 12})": (1, banded[1]),
        ORPHANED: (1, last),
    }
    assert replayed("--complete")["exit_code"] == 1


def test_a_payment_that_the_log_has_lost_shows_in_what_came_after(home):
    lose(home, where(home, "TRUE")[0])
    told = replayed()
    assert told["exit_code"] == 1
    assert told["differences"]["terminal_payment_count_1d"]["decisions"] > 1
    assert told["gaps"][ORPHANED]["decisions"] == 1


def test_a_stretch_is_replayed_from_a_snapshot_as_from_the_log_alone(home, installation):
    settings = installation.settings
    since = installation.now - timedelta(days=1) + timedelta(minutes=100)
    with closing(EventLog(settings.log_path)) as log:
        rings, snapshots = FeatureRings(), StateSnapshots(settings.state_dir)
        for event in log.follow(0):
            rings.apply(event)
            if event.seq in (90, log.last_seq()):  # the newest one is too far ahead
                snapshots.write(rings, log)
    stretch = ("--since", since.isoformat(), "--until", (since + timedelta(minutes=30)).isoformat())
    with_snapshot, alone = replayed(*stretch), replayed(*stretch, "--from-log")
    assert with_snapshot["started_from"] == "the snapshot at position 90"
    assert alone["started_from"] == "the log alone"
    timing = ("cpu_seconds", "decisions_per_cpu_second", "started_from")
    for told in (with_snapshot, alone):
        assert (told["decisions"], told["equal"]) == (30, 30)
        for name in timing:
            told.pop(name)
    assert with_snapshot == alone


def test_one_decision_or_the_first_few_can_be_asked_for(home):
    [late] = where(home, "is_late = 1")
    told = replayed(late)
    assert (told["decisions"], told["equal"]) == (1, 1)
    assert told["positions"][0] == told["positions"][1]
    few = replayed("--limit", "11", "--since", "2026-01-01")
    assert (few["decisions"], few["by_cause"]) == (11, {"R00": 8})
    nothing = replayed("--since", "2030-01-01")
    assert (nothing["exit_code"], nothing["decisions"], nothing["positions"]) == (0, 0, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nobody"], "found no decision under this transaction_id"),
        (["--since", "yesterday"], "expected a day or a time in ISO 8601"),
        (["--until", "2026-03-01T10:00:00"], "expected a time with a zone"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_a_question_without_an_answer_is_no_proof(home, options, message):
    done = run(*options)
    assert done.exit_code != 0
    assert message in done.stderr


def test_a_decision_that_others_had_overtaken_is_read_where_it_was_read_then(home, installation):
    """A log of before the journal may hold some: three payments came between reading and record."""
    name = where(home, "reasons LIKE '%R00%'")[6]
    with closing(EventLog(installation.settings.log_path)) as log:
        found = log.recorded(name)
        rings = FeatureRings()
        for event in log.follow(0, limit=found.seq - 4):
            rings.apply(event)
    forge(home, name, features=pack(rings.read(found.transaction)), seen_seq=found.seq - 4)
    told = replayed()
    assert (told["exit_code"], told["equal"], told["overtaken"]) == (0, told["decisions"], 1)
    forge(home, name, seen_seq=found.seq - 1)
    differences = replayed("--limit", "8")["differences"]
    assert differences["terminal_payment_count_1d"]["first"]["transaction_id"] == name
    forge(home, name, seen_seq=found.seq)
    assert replayed(name)["differences"]["seen_seq"]["first"]["recorded"] == found.seq


def test_another_version_of_the_same_model_does_not_answer_for_one_that_is_gone(home):
    [name, *_] = where(home, "model_version = '1'")
    forge(home, name, model_version="7")
    told = replayed(name)
    assert (told["different"], told["not_replayed"]) == (0, 1)
    [gap] = told["gaps"]
    assert gap.startswith("its model is gone: version 7, model ")


def test_the_share_in_force_is_held_against_the_canary_cards_without_judging_them(home):
    assert replayed()["canary_otherwise_now"] == 0, "the canary is over"
    models = home / "models"
    kept = read_deployment(models)
    for share in (0.5, 2**-60):
        found = msgspec.structs.replace(kept, challenger=kept.champion, canary_share=share)
        deploy(models, found)
        told = replayed()
        canaries = told["by_arm"]["canary"]
        assert told["canary_otherwise_now"] == (0 if share == 0.5 else canaries)
        assert told["exit_code"] == 0
    (models / "deployment.json").write_text("{")
    assert replayed()["equal"] == told["equal"]
