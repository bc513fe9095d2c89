"""The HTTP edge of the scorer: bodies, batches, sandbox, scopes, paths, headers."""

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest
from click.testing import CliRunner
from litestar import get

from fraud_platform.access import ApiKey, digest_of, id_of
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.key_store import KeyStore
from fraud_platform.card_number import is_card_number, token
from fraud_platform.cli import main
from fraud_platform.errors import (
    JournalBusyError,
    JournalFullError,
    LogUnavailableError,
    PermanentError,
    ScorerClosedError,
    ScorerFullError,
)
from fraud_platform.events import microseconds
from fraud_platform.settings import Settings
from serving import body, sandbox
from serving.app import assemble, build_scorer, create_app
from serving.logs import JsonLines, Plain
from serving.refusals import RefusedError
from serving.schemas import ErrorOut
from serving.scopes import refuse_undeclared
from tests.integration.scorer.asgi import JSON, calling

SECRET = "x" * 32
CARD = "4111111111111111"


def key_of(settings, *scopes, subject="checkout"):
    """A new key of this installation, as a header."""

    def make(text):
        return ApiKey(
            id=id_of(text),
            environment="live",
            digest=digest_of(text),
            subject=subject,
            scopes=scopes,
            created_us=0,
        )

    text, _ = KeyStore(settings.access_dir).create(make, environment="live")
    return ("authorization", f"Bearer {text}")


@pytest.fixture
def clock(now):
    return lambda: microseconds(now)


@pytest.fixture
def scorer(settings, publish, clock):
    """Builds the started application of changed settings."""
    publish("1")

    def build(**changes):
        return calling(create_app(settings.model_copy(update=changes), clock=clock))

    return build


@pytest.fixture
def parts(settings, publish, clock):
    """The parts of a scorer, for a test to put together and to break."""
    publish("1")
    return build_scorer(settings, clock)


@pytest.fixture
def edge(scorer):
    with scorer() as caller:
        yield caller


def test_a_body_that_drips_is_given_up(edge, monkeypatch):
    monkeypatch.setattr(body.read_body, "__kwdefaults__", {"seconds": 0.05})

    async def dripping():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    answer = edge.run(edge.sending("POST", "/v1/decisions", [], [JSON], receive=dripping))
    assert (answer.status, answer.json()["error"]) == (408, "body_too_slow")
    assert answer.header("connection") == "close"


@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/decisions/batch", "/v1/labels"])
def test_a_body_that_never_begins_is_given_up(edge, monkeypatch, path):
    monkeypatch.setattr(body.read_body, "__kwdefaults__", {"seconds": 0.05})
    waited = edge.sending("POST", path, [], [JSON], receive=asyncio.Event().wait)
    answer = edge.run(asyncio.wait_for(waited, 10))
    assert (answer.status, answer.json()["error"]) == (408, "body_too_slow")
    assert answer.header("connection") == "close"


@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/decisions/batch", "/v1/labels"])
def test_a_sender_that_leaves_in_the_middle_of_a_body_is_no_defect(edge, path, caplog):
    left = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def leaving():
        return left.pop(0)

    answer = edge.run(edge.sending("POST", path, [], [JSON], receive=leaving))
    assert (answer.status, answer.json()["error"]) == (400, "body_incomplete")
    assert not caplog.records


# --- batches


def batch_of(edge, items, wrap=True):
    return edge.post("/v1/decisions/batch", {"transactions": items} if wrap else items)


@pytest.mark.parametrize("wrap", [True, False])
def test_a_batch_decides_in_its_order_and_in_one_commit(edge, payment, wrap):
    answer = batch_of(edge, [payment(n) for n in range(6)], wrap).json()
    assert [r["decision"]["transaction_id"] for r in answer["results"]] == [
        f"t{n}" for n in range(6)
    ]
    assert [r["decision"]["seq"] for r in answer["results"]] == [1, 2, 3, 4, 5, 6]
    assert (answer["decided"], answer["replayed"], answer["refused"]) == (6, 0, 0)
    assert "fraud_group_requests_sum 6.0" in edge.get("/metrics").text
    assert "fraud_group_requests_count 1.0" in edge.get("/metrics").text


def test_one_bad_payment_of_a_batch_does_not_stop_the_others(edge, payment):
    bad = [
        payment(1, amount_minor="1"),
        payment(2, amount_minor=-1),
        payment(3, card_id=CARD),
        payment(4, card_id="sandbox_decline"),
        5,
        None,
        [],
        payment(0, amount_minor=7),
    ]
    answer = batch_of(edge, [payment(0), *bad, payment(9), payment(0)]).json()
    assert (answer["decided"], answer["replayed"], answer["refused"]) == (2, 1, 8)
    errors = [(r.get("status"), r["error"]["error"]) for r in answer["results"] if "error" in r]
    assert errors == [
        (422, "invalid_field"),
        (422, "rule_broken"),
        (422, "rule_broken"),
        (422, "sandbox_disabled"),
        (422, "invalid_field"),
        (422, "invalid_field"),
        (422, "invalid_field"),
        (422, "idempotency_conflict"),
    ]
    fields = [r["error"]["fields"][0]["field"] for r in answer["results"][1:8]]
    assert fields == [
        "transactions[1].amount_minor",
        "transactions[2].amount_minor",
        "transactions[3].card_id",
        "transactions[4].card_id",
        "transactions[5]",
        "transactions[6]",
        "transactions[7]",
    ]
    assert answer["results"][10]["decision"]["replayed"]


def test_a_batch_answers_as_single_payments_would(edge, scorer, payment, settings, tmp_path):
    items = [payment(n) for n in range(40)]
    together = [r["decision"] for r in batch_of(edge, items).json()["results"]]
    for name in ("models", "keys"):
        shutil.copytree(settings.home / name, tmp_path / "other" / name)
    with scorer(home=tmp_path / "other") as other:
        alone = [other.post("/v1/decisions", item).json() for item in items]
    assert together == alone


def test_a_batch_has_bounds(edge, payment):
    assert batch_of(edge, []).status == 422
    assert batch_of(edge, [payment(n) for n in range(256)]).json()["decided"] == 256
    answer = batch_of(edge, [payment(n) for n in range(257)])
    assert (answer.status, answer.json()["fields"][0]["field"]) == (422, "transactions")
    long = batch_of(edge, [payment(300, merchant_category="x" * 1_100_000)])
    assert (long.status, long.json()["error"]) == (413, "body_too_large")
    twice = json.dumps({"transactions": [payment()]})[:-1] + ', "transactions": []}'
    assert edge.post("/v1/decisions/batch", twice.encode()).status == 422
    twice = json.dumps({"transactions": []})[:-1] + f', "transactions": [{json.dumps(payment())}]}}'
    assert edge.post("/v1/decisions/batch", twice.encode()).json()["error"] == "repeated_field"


def test_a_batch_of_as_many_names_as_fit_is_read_in_no_time(edge, payment):
    names = ",".join(f'"{number:x}":0' for number in range(80_000))
    blanks = '{"transactions":[{' + names + '}],"transactions":[{}]}'
    began = time.monotonic()
    answer = edge.post("/v1/decisions/batch", blanks.encode())
    assert answer.json()["error"] == "repeated_field"
    # Of the whole body only its own names are compared: payments are read one by one.
    twice = json.dumps(payment())[:-1] + ', "currency": "EUR"}'
    items = f'{{"transactions":[{twice},{json.dumps(payment(1))}],"transactions":[]}}'
    assert edge.post("/v1/decisions/batch", items.encode()).json()["fields"][0]["field"] == (
        "transactions"
    )
    assert time.monotonic() - began < 20, "quadratic, it takes minutes"


def failing(engine, errors):
    """An engine that refuses payments of these ids, and has recorded one of them all the same."""
    decide = engine.decide

    async def act(transaction, **more):
        if error := errors.get(transaction.transaction_id):
            raise error
        return await decide(transaction, **more)

    engine.decide = act


def test_what_cannot_be_decided_now_stands_at_its_place_in_a_batch(parts, payment):
    away = RefusedError(503, ErrorOut(error="outcome_unknown", message="m"))
    with calling(assemble(parts)) as caller:
        kept = parts.engine.decide
        failing(parts.engine, {"t1": LogUnavailableError("found secret"), "t3": away})
        items = [payment(n) for n in range(4)] + [{}]
        answer = batch_of(caller, items)
        assert answer.status == 200
        told = answer.json()
        counts = {name: told[name] for name in ("decided", "replayed", "refused", "unavailable")}
        assert counts == {"decided": 2, "replayed": 0, "refused": 1, "unavailable": 2}
        errors = [(r["index"], r["status"]) for r in told["results"] if "error" in r]
        assert errors == [(1, 503), (3, 503), (4, 422)]
        assert told["results"][1]["error"]["error"] == "log_unavailable"
        assert told["results"][3]["error"]["error"] == "outcome_unknown"
        assert "secret" not in answer.text
        assert caller.get("/v1/decisions/t0").status == 200

        none = batch_of(caller, [payment(1), payment(3)])
        assert (none.status, none.json()["error"]) == (503, "log_unavailable")
        assert int(none.header("retry-after")) >= 1
        bad = batch_of(caller, [payment(1), {}])
        assert (bad.status, bad.json()["unavailable"]) == (200, 1)

        parts.engine.decide = kept
        again = batch_of(caller, items).json()
        assert (again["decided"], again["replayed"], again["unavailable"]) == (2, 2, 0)


def test_a_batch_counts_as_the_payments_that_it_holds(scorer, payment, settings):
    access = settings.access.__class__(requests_per_second=0.001, burst=10)
    with scorer(access=access) as edge:
        assert batch_of(edge, [payment(n) for n in range(20)]).json()["decided"] == 20
        answer = edge.post("/v1/decisions", payment(30))
        assert (answer.status, answer.json()["error"]) == (429, "rate_limited")


# --- answers


def test_the_fields_of_a_decision_stand_in_the_documented_order(edge, payment):
    answer = edge.post("/v1/decisions", payment()).json()
    document = edge.get("/schema/openapi.json").json()
    documented = document["components"]["schemas"]["DecisionOut"]["properties"]
    assert [name for name in documented if name in answer] == list(answer)
    assert list(answer)[:6] == [
        "decision_id",
        "transaction_id",
        "decision",
        "score",
        "probability",
        "expected_fpr",
    ]
    decided, expires = (datetime.fromisoformat(answer[n]) for n in ("decided_at", "expires_at"))
    assert expires - decided == timedelta(seconds=300)


@pytest.mark.parametrize(
    "name",
    ["batch", "batch/", "batches", "a/b", "a%2Fb", "/", "//", "a b", "%", "ü☃", "..", "a?b#c", "+"],
)
def test_a_decision_is_found_under_any_id(edge, payment, name):
    decided = edge.post("/v1/decisions", payment(transaction_id=name)).json()
    found = edge.get("/v1/decisions/" + quote(name, safe=""))
    assert found.json() == {**decided, "replayed": True}
    explained = edge.get(f"/v1/decisions/{quote(name, safe='')}/explanation")
    assert explained.json()["transaction_id"] == name
    assert edge.get("/v1/decisions/" + quote(name + "x", safe="")).status == 404


def test_a_label_says_when_it_happened_and_who_reported_it(scorer, payment, settings):
    headers = [JSON, key_of(settings, "score", "label", subject="disputes")]
    with scorer() as edge:
        edge.post("/v1/decisions", payment(), headers)
        label = {
            "transaction_id": "t0",
            "verdict": "fraud",
            "source": "dispute",
            "happened_at": "2026-03-02T09:00:00Z",
        }
        assert edge.post("/v1/labels", label, headers).json() == {"seq": 2, "recorded": True}


@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/decisions/batch", "/v1/labels"])
def test_ids_with_blanks_around_them_are_refused_and_named(edge, payment, path):
    label = {"transaction_id": "t0\u2003", "verdict": "fraud", "source": "analyst"}
    bad = label if path == "/v1/labels" else payment(transaction_id="t0\u2003")
    body = [bad] if path.endswith("batch") else bad
    answer = edge.post(path, body).json()
    error = answer["results"][0]["error"] if path.endswith("batch") else answer
    assert error["fields"][0]["field"].endswith("transaction_id")
    assert "blank" in error["message"]


def test_every_answer_carries_the_security_headers(edge, payment):
    answers = [
        edge.post("/v1/decisions", payment()),
        edge.post("/v1/decisions", b"{"),
        edge.get("/v1/nothing"),
        edge.get("/metrics"),
        edge.get("/schema"),
        edge.get("/"),
        edge.get("/schema/nothing"),
        edge.send("OPTIONS", "/v1/decisions", []),
        edge.send("DELETE", "/v1/labels", []),
    ]
    for answer in answers:
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("cache-control") == "no-store"
        assert answer.header("server") is None
    assert edge.get("/schema/nothing").json()["error"] == "not_found"
    page = edge.get("/schema")
    assert page.header("x-frame-options") == "DENY"
    assert "default-src 'none'" in page.header("content-security-policy")
    assert "unsafe" not in page.header("content-security-policy")


# --- sandbox


def decisions_counted(edge):
    lines = edge.get("/metrics").text.splitlines()
    return [line for line in lines if line.startswith(("fraud_decision", "fraud_group"))]


def test_the_sandbox_plays_every_outcome_and_leaves_no_trace(scorer, payment, monkeypatch):
    monkeypatch.setattr(sandbox, "SLOW_SECONDS", 0.01)
    with scorer(sandbox=True) as edge:
        before = decisions_counted(edge)
        for name in ("approve", "review", "decline"):
            answer = edge.post("/v1/decisions", payment(card_id=f"sandbox_{name}")).json()
            assert (answer["decision"], answer["mode"]) == (name, "sandbox")
            assert answer["decision_id"] == "sandbox_t0"
            assert bool(answer["reasons"]) == (name != "approve")
        assert edge.post("/v1/decisions", payment(card_id="sandbox_slow")).status == 200
        away = edge.post("/v1/decisions", payment(card_id="sandbox_unavailable"))
        assert (away.status, away.header("retry-after")) == (503, "1")
        broken = edge.post("/v1/decisions", payment(card_id="sandbox_approve", amount_minor=-1))
        assert broken.status == 422
        assert edge.get("/v1/decisions/t0").status == 404
        assert edge.get("/health/ready").json()["seq"] == 0
        assert decisions_counted(edge) == before
        assert edge.post("/v1/decisions", payment()).json()["mode"] == "normal"


def test_without_a_sandbox_its_card_ids_are_refused(edge, payment):
    for card in sandbox.CARDS:
        answer = edge.post("/v1/decisions", payment(card_id=card))
        assert (answer.status, answer.json()["error"]) == (422, "sandbox_disabled")
    assert edge.get("/health/ready").json()["seq"] == 0


# --- access


def test_a_route_without_a_scope_does_not_start(settings):
    @get("/backdoor")
    async def backdoor() -> str:
        return ""

    @get("/misspelled", opt={"scope": ("scores",)})
    async def misspelled() -> str:
        return ""

    for handler, path in ((backdoor, "/backdoor"), (misspelled, "/misspelled")):
        app = create_app(settings)
        app.register(handler)
        with pytest.raises(PermanentError, match=path):
            refuse_undeclared(app.routes)


def test_a_probe_without_a_key_learns_the_status_and_no_more(scorer, settings):
    reader = key_of(settings, "read")
    with scorer() as edge:
        assert edge.get("/health/ready").json() == {"status": "ready"}
        assert edge.get("/health/ready", [reader]).json()["model_version"] == "1"
        wrong = ("authorization", "Bearer nonsense")
        assert edge.get("/health/ready", [wrong]).json() == {"status": "ready"}


def _broken(*_):
    raise TypeError(CARD)


def test_a_scorer_whose_path_is_broken_is_not_ready(scorer, monkeypatch):
    with scorer() as edge:
        assert edge.get("/health/ready").status == 200
        monkeypatch.setattr("serving.golden.payment_from", _broken)
        deadline = time.monotonic() + 60
        while edge.get("/health/ready").status == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        answer = edge.get("/health/ready")
        assert answer.status == 503
        assert "made-up payment" in answer.json()["problems"][0]


def test_a_made_up_payment_leaves_no_trace(edge):
    for _ in range(3):
        assert edge.get("/health/ready").json()["seq"] == 0
    assert edge.get("/v1/decisions/golden").status == 404


# --- card numbers


def test_card_numbers_become_tokens_where_that_is_the_policy(settings, publish, clock, payment):
    publish("1")
    told = Settings(home=settings.home, card_numbers="tokenize", token_key=SECRET)
    with calling(create_app(told, clock=clock)) as edge:
        first = edge.post("/v1/decisions", payment(card_id=CARD))
        again = edge.post("/v1/decisions", payment(card_id="4111 1111 1111 1111"))
        assert (first.status, again.json()["replayed"]) == (200, True)
        assert edge.post("/v1/decisions", payment(1, terminal_id=CARD)).status == 422
        batch = edge.post("/v1/decisions/batch", [payment(2, card_id=CARD)]).json()
        assert batch["decided"] == 1
    stored = b"".join(p.read_bytes() for p in settings.home.rglob("*") if p.is_file())
    assert CARD.encode() not in stored


def test_a_changed_key_keeps_known_cards_and_names_new_ones_anew(settings, publish, clock, payment):
    """T-KEY: a scorer that starts again with another key, the old one beside it."""
    publish("1")
    old, new = SECRET, "y" * 32
    bodies = [f"4{number:014d}" for number in range(10_000)]
    cards = [next(b + d for d in "0123456789" if is_card_number(b + d)) for b in bodies]

    def paid(told, begin, some):
        changed = {"card_numbers": "tokenize", "journal_mode": "written", **told}
        with calling(create_app(Settings(home=settings.home, **changed), clock=clock)) as edge:
            for start in range(0, len(some), 100):
                batch = [
                    payment(n % 1_000, transaction_id=f"{begin}{n}", card_id=some[n])
                    for n in range(start, start + 100)
                ]
                assert edge.post("/v1/decisions/batch", batch).json()["decided"] == 100

    paid({"token_key": old}, "before", cards[:5_000])
    paid({"token_key": new, "previous_token_keys": [old]}, "after", cards)
    log = EventLog(settings.log_path)
    log.drain()
    always = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    rows = log.transactions(*always).select("transaction_id", "card_id")
    log.close()
    stored = dict(rows.iter_rows())
    wrong = sum(
        stored[f"after{n}"] != token(card, (old if n < 5_000 else new).encode())
        for n, card in enumerate(cards)
    )
    print(json.dumps({"test": "T-KEY", "payments": len(stored), "mismatches": wrong}))
    assert (len(stored), wrong) == (15_000, 0)


@pytest.mark.parametrize("name", ["cvv", "CVV2", "track2_data", "pin_block", "card-security-code"])
def test_what_nobody_may_keep_is_refused_under_a_code_of_its_own(edge, payment, name):
    answer = edge.post("/v1/decisions", payment(**{name: "123"})).json()
    assert answer["error"] == "sensitive_field_refused"


# --- the command


def test_serve_can_be_told_where_to_listen_and_says_how_to_use_it(monkeypatch, settings):
    served = []
    monkeypatch.setattr("serving.__main__.run", served.append)
    monkeypatch.setattr("fraud_platform.cli.get_settings", lambda: settings)
    runner = CliRunner()
    assert runner.invoke(main, ["serve", "--host", "::1", "--port", "0"]).exit_code == 0
    assert runner.invoke(main, ["serve"]).exit_code == 0
    assert [(s.scorer_host, s.scorer_port) for s in served] == [("::1", 0), ("127.0.0.1", 8080)]
    assert runner.invoke(main, ["serve", "--port", "70000"]).exit_code == 2
    text = runner.invoke(main, ["serve", "--help"]).output
    assert all(word in text for word in ("keys create", "SIGTERM", "/health/ready", "8080"))


# --- when nothing can be decided


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LogUnavailableError("found /srv/secret/path full"), "log_unavailable"),
        (JournalFullError("found /srv/secret/path full"), "journal_full"),
        (JournalBusyError("found /srv/secret/path busy"), "log_unavailable"),
        (ScorerClosedError("found the scorer closed"), "mode_closed"),
        (ScorerFullError("found too much waiting"), "scorer_full"),
    ],
)
def test_what_cannot_be_decided_now_says_so_and_when_to_come_back(parts, payment, error, code):
    async def refuse(*_, **__):
        raise error

    with calling(assemble(parts)) as caller:
        parts.engine.decide = parts.engine.label = refuse
        label = {"transaction_id": "t0", "verdict": "fraud", "source": "analyst"}
        answers = [
            caller.post("/v1/decisions", payment()),
            caller.post("/v1/decisions/batch", [payment(), payment(1)]),
            caller.post("/v1/labels", label),
        ]
        for answer in answers:
            assert (answer.status, answer.json()["error"]) == (503, code)
            assert int(answer.header("retry-after")) >= 1
            assert "secret" not in answer.text
            assert "decision" not in answer.json()
            assert "nothing was" not in answer.text, "it may have come as far as the disk"
            assert "at most once" in answer.json()["hint"]


# --- the log


@pytest.mark.parametrize("form", [JsonLines(), Plain()])
def test_the_log_shows_where_a_failure_came_from_and_not_what_it_says(form):
    try:
        raise ValueError(CARD)
    except ValueError:
        failure = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", None, failure, "deciding")
    text = form.format(record)
    assert "ValueError" in text
    assert "test_edge.py" in text
    assert CARD not in text
    if isinstance(form, JsonLines):
        assert json.loads(text)["event"] == "test_edge.deciding"


# --- the process


@pytest.fixture
def process(settings, publish):
    """A scorer as a process, with a sandbox and its log in JSON; the log is returned, too."""
    publish("1")
    log = settings.home / "said.log"
    environment = {
        **os.environ,
        "FRAUD_HOME": str(settings.home),
        "FRAUD_SCORER_PORT": "0",
        "FRAUD_SANDBOX": "true",
        "FRAUD_LOG_FORMAT": "json",
    }
    with log.open("w") as said:
        popen = subprocess.Popen(
            [sys.executable, "-m", "serving"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        line = popen.stdout.readline()
        assert "http://" in line, log.read_text()
        yield popen, httpx.URL(line.split()[-1]), log
        popen.kill()
        popen.wait()


def raw_request(payment, **changes):
    now = datetime.now(UTC) - timedelta(minutes=5)
    content = json.dumps(payment(event_timestamp=now.isoformat(), **changes)).encode()
    head = "POST /v1/decisions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(content) + content


def errors_of(log):
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines, "the start says who is let in"
    for line in lines:
        assert {"time", "level", "event", "message"} <= set(line)
        assert "left-" not in line["message"], "the log holds no ids"
    return [line for line in lines if line["level"] == "error"]


def test_a_payment_whose_sender_left_is_decided_and_no_defect(process, payment):
    _, url, log = process
    for number in range(20):
        with socket.create_connection((url.host, url.port)) as sender:
            sender.sendall(raw_request(payment, transaction_id=f"left-{number}"))
    with httpx.Client(base_url=url) as client:
        deadline = time.monotonic() + 60
        while client.get("/v1/decisions/left-19").status_code == 404:
            assert time.monotonic() < deadline, "a decision whose sender left was not recorded"
            time.sleep(0.02)
        statuses = {client.get(f"/v1/decisions/left-{n}").status_code for n in range(20)}
        assert statuses == {200}
        assert "server" not in client.get("/health/live").headers
    assert errors_of(log) == []


def test_a_scorer_told_to_stop_takes_nobody_new_and_answers_who_waits(process, payment):
    popen, url, log = process
    answers, sent = [], threading.Event()

    def wait_for_slow():
        with socket.create_connection((url.host, url.port)) as sender:
            sender.sendall(raw_request(payment, transaction_id="s", card_id="sandbox_slow"))
            sent.set()
            answers.append(sender.recv(65_536))

    waiting = threading.Thread(target=wait_for_slow)
    waiting.start()
    assert sent.wait(60)
    assert httpx.get(f"{url}/health/live").is_success, "it has read what was sent before"
    time.sleep(0.5)
    popen.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 60
    with pytest.raises(OSError, match=r"refused|reset"):  # noqa: PT012 -- until then
        while time.monotonic() < deadline:
            socket.create_connection((url.host, url.port)).close()
            time.sleep(0.02)
    waiting.join(timeout=60)
    assert answers[0].startswith(b"HTTP/1.1 200"), "what is in flight is answered"
    assert popen.wait(timeout=60) in {0, -signal.SIGTERM}
    assert errors_of(log) == []
