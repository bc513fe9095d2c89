"""HTTP processes in front of one owner of the state, as real processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from fraud_platform.access import ApiKey, digest_of, id_of
from fraud_platform.adapters.deployment import Deployment
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.key_store import KeyStore
from fraud_platform.adapters.mode_order import ModeOrder, write_order
from fraud_platform.errors import (
    IdempotencyConflictError,
    JournalFullError,
    PermanentError,
    ScorerClosedError,
    ScorerFullError,
)
from fraud_platform.events import Transaction, TransactionEvent
from fraud_platform.features.rings import FeatureRings
from fraud_platform.modes import Mode
from fraud_platform.settings import Settings
from serving.app import assemble, build_scorer, wall_clock
from serving.front import create_front
from serving.owner_socket import OwnerSocket, bound, http_path, requests_path
from serving.passing import request_bytes
from serving.refusals import RefusedError
from serving.remote_engine import RemoteEngine
from tests.small_bundles import deploy, pointer_to, trained, write_small_bundle

FRONTS = 2
SENDERS = 8
PATIENCE = 60.0
DECISIONS = "/v1/decisions"


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)
    return found


@dataclass
class Home:
    """A home with a champion, and the scorers that were started on it."""

    path: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        bundle = write_small_bundle(self.path / "models", "1", trained(1))
        deploy(self.path / "models", Deployment(champion=pointer_to(bundle)))

    @property
    def said(self) -> Path:
        return self.path / "said.log"

    def launch(self, **changes: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "FRAUD_HOME": str(self.path),
            "FRAUD_SCORER_PORT": "0",
            "FRAUD_SCORER_FRONTS": str(FRONTS),
            "OMP_NUM_THREADS": "1",
            **changes,
        }
        with self.said.open("a") as said:
            popen = subprocess.Popen(
                [sys.executable, "-m", "serving"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,
            )
        self.started.append(popen)
        return popen

    def start(self, **changes: str) -> "Process":
        popen = self.launch(**changes)
        line = popen.stdout.readline()
        assert "http://127.0.0.1:" in line, self.said.read_text()[-2_000:]
        return Process(popen, line.split()[-1], self.path)

    def end(self) -> None:
        for popen in self.started:
            with suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()


@dataclass
class Process:
    popen: subprocess.Popen[str]
    url: str
    home: Path

    def fronts(self) -> list[int]:
        """Process ids of its fronts."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError, IndexError):
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                line = (stat.parent / "cmdline").read_bytes()
                if parent == self.popen.pid and b"serving.front" in line:
                    found.append(int(stat.parent.name))
        return found

    def owner(self) -> httpx.Client:
        """Past the fronts."""
        wire = httpx.HTTPTransport(uds=str(http_path(self.home)))
        return httpx.Client(base_url="http://owner", transport=wire, timeout=PATIENCE)

    def metric(self, name: str) -> float:
        with self.owner() as client:
            page = client.get("/metrics").text
        return float(next(li for li in page.splitlines() if li.startswith(f"{name} ")).split()[1])


@pytest.fixture(scope="module")
def running() -> Iterator[Process]:
    """One scorer with fronts, for tests that leave it as it was."""
    with tempfile.TemporaryDirectory(prefix="fronts-") as place:
        home = Home(Path(place))
        yield home.start()
        home.end()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="fronts-") as place:
        made = Home(Path(place))
        yield made
        made.end()


BASE = datetime.now(UTC) - timedelta(days=2)


def payment(number: int, prefix: str = "t", **changes: Any) -> dict[str, Any]:
    return {
        "transaction_id": f"{prefix}{number}",
        "event_timestamp": (BASE + timedelta(seconds=number)).isoformat(),
        "card_id": f"{prefix}-card-{number % 5}",
        "terminal_id": f"{prefix}-terminal-{number % 3}",
        "amount_minor": 1_000 + 7_000 * (number % 11),
        "currency": "EUR",
        **changes,
    }


@dataclass
class Traffic:
    """Senders that go on after a lost connection, until told to stop."""

    url: str
    build: Callable[[int], dict[str, Any]]
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    refusals: list[tuple[int, str]] = field(default_factory=list)
    lost: int = 0
    ends_with_connection: bool = False
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Traffic":
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(SENDERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, answers: int) -> None:
        wait_for(lambda: len(self.answers) >= answers, f"{answers} answers")

    def _send(self, offset: int) -> None:
        # One connection at a time: a front that dies takes those of its senders with it.
        client = httpx.Client(base_url=self.url, timeout=PATIENCE)
        for number in count(offset, SENDERS):
            if self._stopped.is_set():
                break
            try:
                answer = client.post(DECISIONS, json=self.build(number))
            except httpx.TransportError:
                self.lost += 1
                if self.ends_with_connection:
                    break
                time.sleep(0.05)
                continue
            if answer.status_code == 200:
                self.answers[number] = answer.json()
            else:
                self.refusals.append((answer.status_code, answer.json()["error"]))
        client.close()


def recorded(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every decision in a home's log, and the features that a fresh fold of it gives each."""
    log, rings, folded = EventLog(Settings(home=path).log_path), FeatureRings(), {}
    for event in log.follow(0):
        if isinstance(event, TransactionEvent):
            folded[event.transaction.transaction_id] = rings.read(event.transaction)
        rings.apply(event)
    decisions = {name: log.decision(name) for name in folded}
    log.close()
    return decisions, folded


CHANGING = {
    *("decision_id", "transaction_id", "seq", "decided_at", "expires_at", "latency_us"),
    "reported_by",
}
TABLE: list[tuple[str, str, Any]] = [
    ("POST", DECISIONS, lambda p: payment(1, p)),
    ("POST", DECISIONS, lambda p: payment(1, p)),
    ("POST", DECISIONS, lambda p: payment(1, p, amount_minor=5)),
    ("POST", DECISIONS, lambda p: payment(2, p, amount_minor="5")),
    ("POST", DECISIONS, lambda p: payment(2, p, amount_minor=-5)),
    ("POST", DECISIONS, lambda p: payment(2, p, card_id="4111111111111111")),
    ("POST", DECISIONS, lambda p: payment(2, p, event_timestamp="2990-01-01T00:00:00Z")),
    ("POST", DECISIONS, lambda p: payment(2, p, card_id="sandbox_decline")),
    ("POST", DECISIONS, lambda p: b"{nothing"),
    ("POST", DECISIONS, lambda p: b"x" * 100_000),
    ("POST", f"{DECISIONS}/batch", lambda p: [payment(n, p) for n in (3, 4, 3)]),
    ("POST", f"{DECISIONS}/batch", lambda p: [payment(5, p), payment(6, p, currency=1)]),
    ("POST", f"{DECISIONS}/batch", lambda p: []),
    ("POST", "/v1/labels", lambda p: {**FRAUD, "transaction_id": f"{p}1"}),
    ("POST", "/v1/labels", lambda p: {**FRAUD, "transaction_id": f"{p}1"}),
    ("POST", "/v1/labels", lambda p: {**FRAUD, "transaction_id": f"{p}-nobody"}),
    ("POST", "/v1/labels", lambda p: [FRAUD | {"transaction_id": f"{p}{n}"} for n in (3, 99)]),
    ("POST", "/v1/labels", lambda p: {**FRAUD, "transaction_id": f"{p}1", "known_at": EARLY}),
    ("GET", DECISIONS + "/{}1", None),
    ("GET", DECISIONS + "/{}-nobody", None),
    ("GET", DECISIONS + "/a%2Fb%20c", None),
    ("GET", DECISIONS + "/{}1/explanation", None),
    ("GET", DECISIONS + "/{}-nobody/explanation", None),
    ("GET", DECISIONS, None),
    ("DELETE", DECISIONS + "/{}1", None),
    ("OPTIONS", DECISIONS, None),
    ("GET", "/v1/models", None),
    ("GET", "/v1/audits?limit=5", None),
    ("GET", "/schema/openapi.json", None),
    ("GET", "/health/live", None),
    ("GET", "/nothing/here?x=1", None),
    ("GET", "/", None),
]
FRAUD = {"verdict": "fraud", "source": "analyst"}
EARLY = "2001-01-01T00:00:00Z"


def ask(client: httpx.Client, prefix: str, row: tuple[str, str, Any]) -> tuple[int, Any, Any]:
    """Status, headers and body of one row, what must differ left out."""
    method, path, build = row
    body = None if build is None else build(prefix)
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    headers = {} if build is None else {"content-type": "application/json"}
    answer = client.request(method, path.format(prefix), content=content, headers=headers)
    shown = {k: v for k, v in answer.headers.items() if k not in {"date", "content-length"}}
    text = answer.text.replace(prefix, "*")
    return answer.status_code, shown, _without(json.loads(text)) if answer.content else text


def _without(found: Any) -> Any:
    if isinstance(found, dict):
        return {k: _without(v) for k, v in found.items() if k not in CHANGING}
    return [_without(item) for item in found] if isinstance(found, list) else found


def test_a_front_answers_as_its_owner_does(running):
    with httpx.Client(base_url=running.url, timeout=PATIENCE) as front, running.owner() as owner:
        statuses = set()
        for row in TABLE:
            ours, theirs = ask(front, "ours", row), ask(owner, "them", row)
            assert ours == theirs, row[:2]
            statuses.add(ours[0])
    assert {200, 400, 404, 405, 413, 422} <= statuses


def test_a_front_knows_the_keys(home):
    def make(text: str) -> ApiKey:
        return ApiKey(
            id=id_of(text),
            environment="live",
            digest=digest_of(text),
            subject="checkout",
            scopes=("score",),
            created_us=0,
        )

    text, _ = KeyStore(home.path / "access").create(make, environment="live")
    process = home.start()
    cases = [
        {},
        {"x-api-key": "fp_wrong"},
        {"x-api-key": text},
        {"authorization": f"Bearer {text}"},
    ]
    with httpx.Client(base_url=process.url) as front, process.owner() as owner:
        for path in (DECISIONS, "/v1/labels", "/metrics", "/health/ready"):
            method = "GET" if path in {"/metrics", "/health/ready"} else "POST"
            for headers in cases:
                told = [c.request(method, path, headers=headers) for c in (front, owner)]
                assert told[0].status_code == told[1].status_code, (path, headers)
                assert told[0].text == told[1].text
    assert {401, 403, 415} <= {
        httpx.post(process.url + path, headers=headers).status_code
        for path in (DECISIONS, "/v1/labels")
        for headers in cases
    }


def test_senders_of_the_same_payment_through_several_fronts_get_one_decision(running):
    barrier = threading.Barrier(16)

    def send(_: int) -> dict[str, Any]:
        with httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
            client.get("/health/live")  # connected: by the kernel's chance to one of the fronts
            barrier.wait()
            return client.post(DECISIONS, json=payment(0, "same")).json()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(16)))
    assert len({answer["decision_id"] for answer in answers}) == 1
    assert [answer["replayed"] for answer in answers].count(False) == 1


def test_what_fronts_refuse_is_counted_by_the_owner(running):
    def refused() -> float:
        with suppress(StopIteration):
            return running.metric('fraud_requests_refused_total{code="unsupported_content_type"}')
        return 0.0

    before = refused()
    for _ in range(3):
        assert httpx.post(running.url + DECISIONS, content=b"{}").status_code == 415
    wait_for(lambda: refused() == before + 3, "three refusals")
    assert running.metric("fraud_fronts") == FRONTS


def test_the_sockets_are_nobody_elses(running):
    assert http_path(running.home).parent.stat().st_mode & 0o777 == 0o700
    for path in (http_path(running.home), requests_path(running.home)):
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("fronts", ["0", "1"])
def test_a_second_scorer_on_the_home_is_refused(running, fronts):
    second = subprocess.run(
        [sys.executable, "-m", "serving"],
        env={
            **os.environ,
            "FRAUD_HOME": str(running.home),
            "FRAUD_SCORER_PORT": "0",
            "FRAUD_SCORER_FRONTS": fronts,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert second.returncode != 0
    assert "another scorer" in second.stderr
    assert httpx.get(f"{running.url}/health/ready").status_code == 200


def test_independent_workers_are_refused(home):
    popen = home.launch(WEB_CONCURRENCY="4", FRAUD_SCORER_FRONTS="0")
    assert popen.wait(PATIENCE) != 0
    assert "WEB_CONCURRENCY=4" in home.said.read_text()
    assert "--fronts 4" in home.said.read_text()


def test_decisions_are_the_same_with_fronts_and_without(running, home):
    changing = ("decided_us", "expires_us", "latency_us", "decision_id", "seq", "seen_seq")
    alone = home.start(FRAUD_SCORER_FRONTS="0")
    for url in (running.url, alone.url):
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            for number in range(40):
                assert client.post(DECISIONS, json=payment(number, "equal")).status_code == 200
                if number % 10 == 9:
                    label = {**FRAUD, "transaction_id": f"equal{number - 3}"}
                    assert client.post("/v1/labels", json=label).json()["recorded"]
    found = []
    for process in (running, alone):
        log = EventLog(Settings(home=process.home).log_path)
        decisions = [log.decision(f"equal{number}") for number in range(40)]
        log.close()
        found.append([d._replace(**dict.fromkeys(changing, 0)) for d in decisions])
    assert found[0] == found[1]
    assert len({decision.features for decision in found[0]}) == 40


def test_a_killed_front_is_started_again_while_the_others_go_on(running):
    before = set(running.fronts())
    assert len(before) == FRONTS
    with Traffic(running.url, lambda n: payment(n, "front-killed-")) as traffic:
        traffic.wait_for(40)
        os.kill(min(before), signal.SIGKILL)
        traffic.wait_for(len(traffic.answers) + 60)
        wait_for(lambda: len(set(running.fronts()) - before) == 1, "a new front")
        wait_for(lambda: running.metric("fraud_fronts") == FRONTS, "its connection")
        traffic.wait_for(len(traffic.answers) + 40)
    assert not traffic.refusals
    assert 0 < traffic.lost < SENDERS + 1  # who was connected to it, at most
    assert max(before) in running.fronts()
    decisions, folded = recorded(running.home)
    for number, answer in traffic.answers.items():
        decision = decisions[f"front-killed-{number}"]
        assert decision.decision_id == answer["decision_id"]
        assert decision.features == folded[f"front-killed-{number}"]


def test_a_killed_owner_takes_its_fronts_along_and_forgets_nothing(home):
    process = home.start()
    fronts = process.fronts()
    with Traffic(process.url, payment, ends_with_connection=True) as traffic:
        traffic.wait_for(80)
        process.popen.kill()
        wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in fronts), "their end")
    assert {code for _, code in traffic.refusals} <= {"owner_away", "outcome_unknown"}
    again = home.start()
    with httpx.Client(base_url=again.url, timeout=PATIENCE) as client:
        for number, answer in traffic.answers.items():
            repeated = client.post(DECISIONS, json=payment(number))
            assert repeated.json() == {**answer, "replayed": True}
    decisions, folded = recorded(home.path)
    assert {f"t{number}" for number in traffic.answers} <= set(decisions)
    assert all(decision.features == folded[name] for name, decision in decisions.items())


@pytest.mark.parametrize("told", ["the owner", "all at once"])
def test_a_terminated_scorer_answers_what_its_fronts_have_under_way(home, told):
    process = home.start()
    with Traffic(process.url, payment, ends_with_connection=True) as traffic:
        traffic.wait_for(60)
        if told == "the owner":
            process.popen.terminate()
        else:  # as systemd does
            os.killpg(process.popen.pid, signal.SIGTERM)
        assert process.popen.wait(PATIENCE) in {0, -signal.SIGTERM}
    assert not traffic.refusals
    assert not process.fronts()
    assert not list((home.path / "run").glob("*.sock"))
    # Whoever sent on a connection that was closing lost at most that one request.
    unanswered = set(recorded(home.path)[0]) - {f"t{number}" for number in traffic.answers}
    assert not unanswered


def test_a_lost_owner_is_told_as_an_unknown_outcome_and_found_again(tmp_path):
    transaction = Transaction("t1", 0, "card", "terminal", 100, "EUR")

    async def refusal(engine: RemoteEngine) -> str:
        with pytest.raises(RefusedError) as told:
            await engine.decide(transaction, received_us=0)
        assert (told.value.status, told.value.headers) == (503, {"retry-after": "1"})
        return told.value.body.error

    async def leaving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(4)
        await reader.readexactly(int.from_bytes(head))  # its hello
        await reader.readexactly(4)  # and a request
        writer.close()

    async def story() -> None:
        path = tmp_path / "owner.sock"
        server = await asyncio.start_unix_server(leaving, sock=bound(path))
        engine = RemoteEngine(path, limit=10)
        await engine.start()
        assert await refusal(engine) == "outcome_unknown"
        assert await refusal(engine) == "owner_away"
        while not engine.is_connected:
            await asyncio.sleep(0.01)
        assert await refusal(engine) == "outcome_unknown"
        await engine.stop()
        server.close()

    asyncio.run(asyncio.wait_for(story(), PATIENCE))


def test_a_front_without_its_owner_is_not_ready_and_decides_nothing(tmp_path):
    front = create_front(Settings(home=tmp_path))

    async def story() -> list[httpx.Response]:
        wire = httpx.ASGITransport(app=front)
        async with httpx.AsyncClient(base_url="http://front", transport=wire) as client:
            return [
                await client.get("/health/ready"),
                await client.get("/metrics"),
                await client.post(DECISIONS, json=payment(1)),
                await client.post(f"{DECISIONS}/batch", json=[payment(1)]),
            ]

    answers = asyncio.run(story())
    assert {answer.status_code for answer in answers} == {503}
    for answer in answers:
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert answers[0].json() == {"status": "not_ready"}
    assert {answer.json()["error"] for answer in answers[1:]} == {"owner_away"}


def test_a_front_raises_what_its_owner_refuses(tmp_path):
    settings = Settings(home=tmp_path / "home")
    write_order(settings.mode_path, ModeOrder(mode=Mode.CLOSED, reason="test"))
    door = OwnerSocket(tmp_path / "owner.sock", expected=1)
    scorer = build_scorer(settings, wall_clock, door=door)
    transaction = Transaction("t1", wall_clock(), "card", "terminal", 100, "EUR")

    async def story() -> None:
        async with assemble(scorer).lifespan():
            front = RemoteEngine(door.path, limit=1)
            await front.start()
            with pytest.raises(ScorerClosedError, match="found the scorer closed"):
                await front.decide(transaction, received_us=0)
            scorer.engine.fault = JournalFullError("found /secret full", hint="make room")
            with pytest.raises(JournalFullError, match="found /secret full\n\nHint: make room"):
                await front.label([], received_us=0, latest_us=0)
            scorer.engine.fault = None
            assert await front.decision("t1") is None
            one, other = (front.decision("t1") for _ in range(2))
            with pytest.raises(ScorerFullError, match="than this front takes"):
                await asyncio.gather(one, other)
            await front.stop()

    asyncio.run(asyncio.wait_for(story(), PATIENCE))


def test_a_card_keeps_the_name_that_the_owner_knows(tmp_path):
    settings = Settings(home=tmp_path / "home")
    (tmp_path / "home").mkdir()
    door = OwnerSocket(tmp_path / "owner.sock", expected=1)
    app = assemble(build_scorer(settings, wall_clock, door=door))
    now = wall_clock()
    old = Transaction("t1", now - 1_000_000, "tok_old", "terminal", 100, "EUR")
    new = old._replace(card_id="tok_new")

    async def story() -> None:
        async with app.lifespan():
            front = RemoteEngine(door.path, limit=10)
            await front.start()
            await front.decide(old, received_us=now)
            again = await front.decide(new, received_us=now, older=("tok_none", "tok_old"))
            assert again.replayed
            with pytest.raises(IdempotencyConflictError, match="differing: card_id"):
                await front.decide(new, received_us=now)
            await front.stop()

    asyncio.run(asyncio.wait_for(story(), PATIENCE))


def test_what_a_caller_says_about_its_own_address_is_dropped():
    scope = {
        "method": "GET",
        "raw_path": b"/metrics",
        "query_string": b"a=1",
        "client": ("203.0.113.9", 5),
        "headers": [
            (b"x-forwarded-for", b"198.51.100.1"),
            (b"forwarded", b"for=198.51.100.1"),
            (b"connection", b"close, x-private"),
            (b"x-private", b"1"),
            (b"transfer-encoding", b"chunked"),
            (b"x-api-key", b"kept"),
        ],
    }
    lines = request_bytes(scope, b"body").split(b"\r\n")
    assert lines == [
        b"GET /metrics?a=1 HTTP/1.1",
        b"x-api-key: kept",
        b"x-forwarded-for: 203.0.113.9",
        b"connection: close",
        b"content-length: 4",
        b"",
        b"body",
    ]


def test_a_path_too_long_for_a_socket_is_refused(tmp_path):
    with pytest.raises(PermanentError, match="longer than the 107 bytes"):
        bound(tmp_path / ("x" * 120))
