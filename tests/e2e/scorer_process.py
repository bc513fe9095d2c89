"""One real scorer, `python -m serving`, on a home of its own: started, watched, ended, read."""

import contextlib
import json
import os
import re
import selectors
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from fraud_platform.adapters.deployment import Deployment
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.log_writer import pack
from fraud_platform.events import Transaction, TransactionEvent
from fraud_platform.features.rings import FeatureRings
from serving.ruling import REASON_TEXTS
from serving.schemas import decision_out
from tests.e2e.history import Kept
from tests.small_bundles import deploy, pointer_to, trained, write_small_bundle

PATIENCE_SECONDS = 120.0
"""Longest wait for anything that must happen: the machine may be busy with something else."""
SCORER = ("-m", "serving")


def wait_for(
    condition: Callable[[], Any],
    what: str,
    *,
    seconds: float = PATIENCE_SECONDS,
    pause: float = 0.02,
) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(pause)
    return found


@dataclass
class Scorer:
    """A running scorer."""

    popen: subprocess.Popen[bytes]
    said: Path
    url: str = ""
    start_seconds: float = 0.0
    """From the command to the first line that says where it listens: ready to decide."""
    first_word: int = 0
    """Where its own words begin in `said`."""

    @property
    def words(self) -> str:
        """Everything it has written to its log."""
        return self.said.read_text("utf-8")[self.first_word :]

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:  # noqa: S310 -- ours
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def health(self) -> dict[str, Any]:
        """What it says about itself, with its status."""
        status, _, body = self.get("/health/ready")
        return {"code": status, **json.loads(body)}

    def is_ready(self) -> bool:
        return bool(self.health()["code"] == 200)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        page = self.get("/metrics")[2].decode()
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)
        return sum(map(float, found))

    def mode(self) -> str:
        page = self.get("/metrics")[2].decode()
        [mode] = re.findall(r'^fraud_mode{mode="(\w+)"} 1\.0$', page, re.MULTILINE)
        return str(mode)

    def child(self, word: str) -> int | None:
        """The process beside it whose command line has a word."""
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.popen.pid and word in (path / "cmdline").read_text():
                    return int(path.name)
        return None

    def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""
        self.popen.kill()
        self.popen.wait()

    def terminate(self) -> int:
        """End it in order; its exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(PATIENCE_SECONDS)


@dataclass
class Home:
    """A place for scorers; what still runs there at the end is killed.

    Attributes:
        path: the home.
        said: where their words go; not into the home, which may be full or read-only.
        settings: of all of them.
        started: all of them.
    """

    path: Path
    said: Path
    settings: dict[str, str] = field(default_factory=dict)
    started: list[Scorer] = field(default_factory=list)

    @property
    def log_path(self) -> Path:
        return self.path / "log" / "events.db"

    @property
    def models_dir(self) -> Path:
        return self.path / "models"

    @property
    def journal(self) -> Path:
        return self.path / "log" / "journal"

    @property
    def segments(self) -> list[Path]:
        return sorted(self.journal.glob("*.seg"))

    def begun(self, *, program: Sequence[str] = SCORER, **changes: str) -> Scorer:
        """A scorer that was just started; nothing is known about it yet."""
        self.path.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "FRAUD_HOME": str(self.path),
            "FRAUD_SCORER_PORT": "0",
            "FRAUD_CHAMPION_POLL_SECONDS": "0.2",
            "OMP_NUM_THREADS": "1",
            **self.settings,
            **changes,
        }
        with self.said.open("ab") as words:
            popen = subprocess.Popen(
                [sys.executable, *program], env=environment, stdout=subprocess.PIPE, stderr=words
            )
            scorer = Scorer(popen, self.said, first_word=self.said.stat().st_size)
        self.started.append(scorer)
        return scorer

    def start(self, *, program: Sequence[str] = SCORER, **changes: str) -> Scorer:
        """A scorer that listens."""
        began = time.monotonic()
        scorer = self.begun(program=program, **changes)
        line = _line(scorer.popen)
        assert b"http://127.0.0.1:" in line, f"printed {line!r} and said:\n{scorer.words[-3000:]}"
        scorer.url = line.split()[-1].decode()
        scorer.start_seconds = time.monotonic() - began
        return scorer

    def deploy(self, *seeds: int) -> list[Path]:
        """Write a bundle per seed, and let the first one decide."""
        bundles = [write_small_bundle(self.models_dir, str(s), trained(s)) for s in seeds]
        deploy(self.models_dir, Deployment(champion=pointer_to(bundles[0])))
        return bundles


@contextmanager
def home_at(path: Path, **settings: str) -> Iterator[Home]:
    """A home whose scorers end with the block."""
    home = Home(path, path.parent.with_name(f"{path.parent.name}-said.log"), settings)
    try:
        yield home
    finally:
        for scorer in home.started:
            scorer.kill()
            if scorer.popen.stdout is not None:
                scorer.popen.stdout.close()


def kept(log_path: Path) -> list[Kept]:
    """The whole log, as its tables have it once the journal is drained."""
    log = EventLog(log_path)
    log.drain()
    with closing(sqlite3.connect(f"file:{log_path}?mode=ro", uri=True)) as tables:
        columns = ", ".join(Transaction._fields)
        payments = tables.execute(f"SELECT seq, {columns} FROM transactions").fetchall()  # noqa: S608 -- our names
        labels = tables.execute(
            "SELECT seq, transaction_id, verdict, label_source, known_us, reason FROM labels"
        ).fetchall()
    found = []
    for seq, *values in payments:
        transaction = Transaction(*values)
        decision = log.decision(transaction.transaction_id)
        answer = None
        if decision is not None:
            wire = decision_out(decision, REASON_TEXTS, replayed=False)
            answer = json.loads(msgspec.json.encode(wire))
        found.append(Kept(seq, "decision", transaction.transaction_id, transaction, answer))
    found += [Kept(seq, "label", tuple(key), reason, {"seq": seq}) for seq, *key, reason in labels]
    log.close()
    return sorted(found, key=lambda one: one.seq)


def features_unlike_a_fold(log_path: Path) -> list[str]:
    """Decisions whose recorded features are not, to the bit, what the log alone says."""
    log, rings, wrong = EventLog(log_path), FeatureRings(), []
    for event in log.follow(0):
        if isinstance(event, TransactionEvent):
            name = event.transaction.transaction_id
            decision = log.decision(name)
            if decision and pack(decision.features) != pack(rings.read(event.transaction)):
                wrong.append(name)
        rings.apply(event)
    log.close()
    return wrong


def tell(test: str, **figures: object) -> None:
    """One line for whoever collects figures."""
    print(json.dumps({"test": test, **figures}), flush=True)


def _line(popen: subprocess.Popen[bytes]) -> bytes:
    """The first line of a program, or what came until it ended."""
    stream = popen.stdout
    assert stream is not None
    with selectors.DefaultSelector() as ready:
        ready.register(stream, selectors.EVENT_READ)
        assert ready.select(PATIENCE_SECONDS), "printed nothing"
    return stream.readline()
