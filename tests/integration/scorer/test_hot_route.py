"""Payments that connections answer by themselves: exactly as the application would, byte by byte.

Two scorers with the same content listen, and one of them has no hot way. Over real sockets.
"""

import asyncio
import json
import shutil
import socket
import threading
import time
from contextlib import contextmanager, suppress
from itertools import pairwise

import pytest
import uvicorn
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fraud_platform.access import ApiKey, digest_of, id_of
from fraud_platform.adapters.key_store import KeyStore
from fraud_platform.errors import LogUnavailableError
from fraud_platform.events import microseconds
from serving import body as reading
from serving.app import assemble, build_scorer
from serving.listening import server_config
from serving.refusals import RefusedError
from serving.schemas import ErrorOut
from tests.integration.scorer.test_hostile_input import hostile_payments

PATIENCE = 20.0
PATH = "/v1/decisions"
JSON = ("content-type", "application/json")
CARD = "4111111111111111"


class Listening:
    """A scorer on a port of its own; `asked` is what its connections decided by themselves."""

    def __init__(self, settings, clock, *, is_hot):
        self.parts = build_scorer(settings, clock)
        app = assemble(self.parts)
        self.asked = []
        if is_hot:
            self._ask, app.hot.ask = app.hot.ask, self._note
        else:
            app.hot = None
        self.server = uvicorn.Server(server_config(app, settings, port=0))
        self._thread = threading.Thread(target=self.server.run)

    def _note(self, headers, host, body):
        self.asked.append(body)
        return self._ask(headers, host, body)

    def __enter__(self):
        self._thread.start()
        deadline = time.monotonic() + PATIENCE
        while not self.server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.stop()
        self._thread.join()

    def stop(self):
        self.server.should_exit = True

    def connect(self):
        address = self.server.servers[0].sockets[0].getsockname()
        sender = socket.create_connection(address, timeout=PATIENCE)
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sender

    def send(self, *pieces, count=1, pause=0.0):
        """The answers to so many requests, and what comes behind them if the connection closes."""
        with self.connect() as sender, sender.makefile("rb") as file:
            for piece in pieces:
                sender.sendall(piece)
                time.sleep(pause)
            answers = [answer_of(file) for _ in range(count)]
            closes = b"connection: close" in (answers[-1][1] if answers[-1] else ())
            return [*answers, rest_of(file) if closes else None]


def rest_of(file):
    """What comes until the connection is closed, in whatever way."""
    with suppress(ConnectionResetError):
        return file.read()
    return b""


def answer_of(file):
    """Status line, headers without the date, and body of one answer."""
    status, headers, length = file.readline(), [], 0
    while line := file.readline().strip():
        if not line.startswith(b"date: "):
            headers.append(line)
        if line.startswith(b"content-length: "):
            length = int(line.partition(b" ")[2])
    return status, tuple(headers), file.read(length)


def status_of(answer):
    return int(answer[0].split()[1])


def request(body, headers=(JSON,), *, method="POST", path=PATH, length=True):
    """One request as it goes over the wire; chunks of a body make it chunked."""
    content = body if isinstance(body, list | bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: scorer", *(f"{n}: {v}" for n, v in headers)]
    if isinstance(content, list):
        lines.append("transfer-encoding: chunked")
        content = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*content, b""])
    elif length:
        lines.append(f"content-length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


def key_of(settings, *scopes):
    """A new key of this installation, as a header."""

    def make(text):
        told = {"environment": "live", "subject": "checkout", "created_us": 0}
        return ApiKey(id=id_of(text), digest=digest_of(text), scopes=scopes, **told)

    text, _ = KeyStore(settings.access_dir).create(make, environment="live")
    return ("authorization", f"Bearer {text}")


@pytest.fixture
def both(settings, publish, now, tmp_path):
    """A scorer with the hot way and one without, with the same content."""
    publish("1")

    @contextmanager
    def build(**changes):
        kept = settings.model_copy(update=changes)
        other = kept.model_copy(update={"home": tmp_path / "twin"})
        shutil.copytree(kept.home, other.home)
        clock = lambda: microseconds(now)  # noqa: E731 -- it stands still
        with Listening(kept, clock, is_hot=True) as hot, Listening(other, clock, is_hot=False) as t:
            yield hot, t

    return build


def requests_of_the_contract(payment):
    """Name -> one request, and whether its connection answers it."""
    good = json.dumps(payment()).encode()
    large = b" " * 70_000
    texts = {
        "decided": good,
        "again": good,
        "conflict": payment(amount_minor=2),
        "empty": b"",
        "broken": b'{"transaction_id"',
        "not utf-8": b'{"transaction_id": "\xff"}',
        "wrong type": payment(amount_minor="1"),
        "unknown field": payment(cvv="1"),
        "broken rule": payment(amount_minor=-1),
        "repeated key": good[:-1] + b', "currency": "EUR"}',
        "blank": payment(transaction_id=" t"),
        "card number": payment(card_id=CARD),
        "no sandbox": payment(card_id="sandbox_approve"),
        "as large as may be": good + b" " * (64 * 1024 - len(good)),
    }
    table = {name: (request(text), True) for name, text in texts.items()}
    types = ["text/plain", "application/json; charset=utf-8", 'application/json;charset="UTF-8"']
    types += ["application/json; charset=latin-1", "application/jsonx", "APPLICATION/JSON", ""]
    for one in types:
        table[f"type {one}"] = (request(good, [("Content-Type", one)]), True)
    table |= {
        "no type": (request(good, []), True),
        "two types": (request(good, [JSON, JSON]), False),
        "gzip": (request(good, [JSON, ("content-encoding", "gzip")]), False),
        "identity": (request(good, [JSON, ("content-encoding", "identity")]), False),
        "goes": (request(good, [JSON, ("connection", "close")]), True),
        "goes refused": (request(b"{", [JSON, ("connection", "close")]), True),
        "asks for an upgrade": (
            request(good, [JSON, ("connection", "upgrade"), ("upgrade", "h2c")]),
            True,
        ),
        "too large": (request(large), False),
        "endless": (request(b" " * 2**21), False),
        "chunks": (request([good[:9], good[9:]]), False),
        "chunks too large": (request([large[:40_000], large[40_000:]]), False),
        "no length": (request(b"", length=False), False),
        "wordy length": (request(good, [JSON, ("content-length", "x")], length=False), False),
        "two lengths": (request(good, [JSON, ("content-length", str(len(good)))]), False),
        "old": (request(good).replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        "trailing slash": (request(good, path=PATH + "/"), False),
        "doubled slash": (request(good, path="//v1//decisions"), False),
        "query": (request(good, path=PATH + "?a=1&a=%ff"), False),
        "encoded path": (request(good, path="/v1%2Fdecisions"), False),
        "below": (request(good, path=PATH + "/x"), False),
        "bad header": (request(good, [JSON, ("a(b", "c")]), False),
    }
    for method in ("GET", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "NONSENSE"):
        table[method] = (request(good, method=method), False)
    return table


def test_a_connection_answers_exactly_as_the_application(both, payment):
    statuses = set()
    with both() as (hot, twin):
        for name, (raw, is_hot) in requests_of_the_contract(payment).items():
            hot.asked.clear()
            found, expected = hot.send(raw), twin.send(raw)
            assert found == expected, name
            assert len(hot.asked) == is_hot, name
            statuses.add(status_of(found[0]))
        assert statuses == {200, 204, 400, 404, 405, 413, 415, 422}
        assert refusals_of(hot) == refusals_of(twin)


def test_hostile_bodies_are_refused_alike(both, payment):
    with both() as (hot, twin):
        bodies = {name: raw for name, (raw, _) in hostile_payments(payment).items()}
        for name, raw in bodies.items():
            assert hot.send(request(raw)) == twin.send(request(raw)), name
        assert hot.asked == [raw for raw in bodies.values() if len(raw) <= 64 * 1024]


def refusals_of(scorer):
    """What the scorer has counted of its refusals."""
    raw = request(b"", [], method="GET", path="/metrics")
    lines = scorer.send(raw)[0][2].splitlines()
    return sorted(line for line in lines if line.startswith(b"fraud_requests_refused_total"))


def test_what_was_expected_is_waited_for(both, payment):
    raw = request(payment(), [JSON, ("expect", "100-continue")])
    with both() as (hot, twin):
        found, expected = hot.send(raw, count=2), twin.send(raw, count=2)
        assert found == expected
        assert [status_of(answer) for answer in found[:2]] == [100, 200]


def test_both_ways_let_the_same_callers_in_and_count_them_once(both, payment, settings):
    key, other = key_of(settings, "score"), key_of(settings, "label", "read")
    wrong = ("authorization", "Bearer fp_live_abcdefgh_" + "x" * 43)
    bare = ("x-api-key", key[1].removeprefix("Bearer "))
    access = settings.access.__class__(requests_per_second=0.001, burst=6)
    with both(access=access) as (hot, twin):
        statuses = []
        for headers in ([key], [other], [wrong], [("authorization", "Basic a")], [bare], [], [key]):
            for content in (payment(), b"{", b"" if headers == [wrong] else b"{}"):
                raw = request(content, [JSON, *headers])
                found, expected = hot.send(raw), twin.send(raw)
                assert without_wait(found) == without_wait(expected)
                statuses.append(status_of(found[0]))
        assert len(hot.asked) == len(statuses)
        assert statuses[:6] == [200, 400, 422, 403, 403, 403]
        assert statuses[6:12] == [401] * 6
        assert statuses[12:] == [200, 400, 422, 401, 401, 401, 429, 429, 429]
        assert refusals_of(hot) == refusals_of(twin)


def without_wait(answers):
    """The same without the seconds to wait, which have passed in part."""
    status, headers, body = answers[0]
    return status, [h.partition(b"retry-after: ")[0] for h in headers], body, answers[1]


def test_the_sandbox_answers_on_both_ways(both, payment):
    with both(sandbox=True) as (hot, twin):
        for number, card in enumerate(
            ("sandbox_approve", "sandbox_decline", "sandbox_unavailable")
        ):
            raw = request(payment(number, card_id=card))
            assert hot.send(raw) == twin.send(raw)
        assert len(hot.asked) == 3


@pytest.mark.parametrize(
    "error",
    [
        LogUnavailableError("found /srv/secret/path full"),
        RefusedError(503, ErrorOut(error="outcome_unknown", message="m"), headers={"x-a": "b"}),
        ValueError("a defect"),
    ],
)
@pytest.mark.parametrize("is_at_once", [True, False])
def test_what_the_engine_refuses_is_refused_alike(both, payment, error, is_at_once):
    def refuse(*_, **__):
        if is_at_once:
            raise error
        future = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        return future

    with both() as (hot, twin):
        hot.parts.engine.submit = twin.parts.engine.submit = refuse
        found, expected = hot.send(request(payment())), twin.send(request(payment()))
        assert found == expected
        assert status_of(found[0]) >= 500
        assert b"secret" not in found[0][2]
        assert refusals_of(hot) == refusals_of(twin)


def test_however_requests_are_cut_and_follow_each_other_they_are_answered_alike(both, payment):
    good = [request(payment(number)) for number in range(3)]
    other = request(payment(9), [JSON, ("connection", "keep-alive")], path=PATH + "?x=1")
    health = request(b"", [], method="GET", path="/health/live")
    choice = st.sampled_from([*good, other, health, request(b"{"), request(payment(1), [])])

    with both() as (hot, twin):

        @hypothesis_settings(
            max_examples=60, deadline=None, suppress_health_check=list(HealthCheck)
        )
        @given(st.lists(choice, min_size=1, max_size=4), st.sets(st.integers(0, 2_500), max_size=4))
        def alike(requests, cuts):
            raw = b"".join(requests)
            places = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
            pieces = [raw[a:b] for a, b in pairwise(places)]
            told = {"count": len(requests), "pause": 0.002}
            assert hot.send(*pieces, **told) == twin.send(*pieces, **told)

        for raw in good:  # so that what is decided is known on both sides from here
            assert hot.send(raw) == twin.send(raw)
        alike()
        assert hot.asked


def test_a_connection_goes_on_after_any_answer(both, payment):
    requests = [request(payment()), request(b"{"), request(payment(1)), request(payment(1), [])]
    with both() as (hot, twin):
        seen = []
        for scorer in (hot, twin):
            with scorer.connect() as sender, sender.makefile("rb") as file:
                answers = []
                for raw in requests * 3:
                    sender.sendall(raw)
                    answers.append(answer_of(file))
                seen.append(answers)
        assert seen[0] == seen[1]
        assert len(hot.asked) == 12


def test_nonsense_behind_a_payment_costs_neither_its_answer_nor_another(both, payment):
    with both() as (hot, twin):
        for number, nonsense in enumerate([b"\0", b"GET /" + b"a" * 70_000]):
            raw = request(payment(number)) + nonsense
            found = hot.send(raw)
            assert found == twin.send(raw)
            assert status_of(found[0]) == 200
            assert found[-1] == b"", "closed, and nothing came behind"
        assert len(hot.asked) == 2


def test_a_body_that_comes_late_is_the_applications(both, payment, monkeypatch):
    monkeypatch.setattr(reading.read_body, "__kwdefaults__", {"seconds": 0.6})
    raw = request(payment())
    with both() as (hot, twin):
        for cut in (len(raw) - 5, raw.index(b"\r\n\r\n") + 4):
            late = hot.send(raw[:cut], raw[cut:], pause=0.4)
            assert late == twin.send(raw[:cut], raw[cut:], pause=0.4)
            assert status_of(late[0]) == 200
            never = hot.send(raw[:cut])
            assert never == twin.send(raw[:cut])
            assert status_of(never[0]) == 408
        assert hot.asked == []
        for scorer in (hot, twin):
            with scorer.connect() as sender:
                sender.sendall(raw[:-5])
                time.sleep(0.05)
        counted = b'code="body_incomplete"'
        deadline = time.monotonic() + PATIENCE
        while not any(counted in line for line in refusals_of(hot)):
            assert time.monotonic() < deadline
        assert refusals_of(hot) == refusals_of(twin)


def test_who_left_before_the_answer_costs_nothing_and_nobody_else_anything(both, payment, caplog):
    held, decided = threading.Event(), threading.Event()
    with both() as (hot, _):
        submit = hot.parts.engine.submit

        def decide(asked, answer):
            done = submit(asked)
            done.add_done_callback(chain(answer))
            done.add_done_callback(lambda _: decided.set())

        def late(asked):
            answer = asyncio.get_running_loop().create_future()
            loop = asyncio.get_running_loop()
            loop.call_later(0.3, lambda: decide(asked, answer))
            held.set()
            return answer

        hot.parts.engine.submit = late
        with hot.connect() as sender:
            sender.sendall(request(payment()))
            assert held.wait(PATIENCE)
        hot.parts.engine.submit = submit
        assert status_of(hot.send(request(payment(1)))[0]) == 200
        assert decided.wait(PATIENCE)
        found = json.loads(hot.send(request(payment()))[0][2])
        assert found["replayed"], "it was decided all the same"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def chain(answer):
    """Hands on what a future holds."""
    return lambda asked: answer.set_result(asked.result())


def test_what_is_under_way_at_the_end_is_answered_and_its_connection_closed(both, payment):
    with both() as (hot, _):
        submit, held = hot.parts.engine.submit, threading.Event()

        def late(asked):
            answer = asyncio.get_running_loop().create_future()
            loop = asyncio.get_running_loop()
            loop.call_later(0.5, lambda: submit(asked).add_done_callback(chain(answer)))
            held.set()
            return answer

        hot.parts.engine.submit = late
        with hot.connect() as idle, hot.connect() as sender, sender.makefile("rb") as file:
            sender.sendall(request(payment()))
            assert held.wait(PATIENCE)
            hot.stop()
            status, headers, _ = answer_of(file)
            assert b" 200 " in status
            assert b"connection: close" in headers
            assert file.read() == b""
            with suppress(ConnectionResetError):
                assert idle.recv(1) == b""


def test_a_connection_that_is_silent_is_closed_and_one_that_asks_is_not(both, payment, monkeypatch):
    with both() as (hot, _):
        hot.server.config.timeout_keep_alive = 3
        with hot.connect() as sender, sender.makefile("rb") as file:
            for number in range(5):
                sender.sendall(request(payment(number)))
                assert status_of(answer_of(file)) == 200
                time.sleep(0.8)
            began = time.monotonic()
            assert file.read() == b""
            assert 0.3 < time.monotonic() - began < PATIENCE / 2
