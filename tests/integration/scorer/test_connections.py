"""What a sender can take before its request is known: bytes, seconds, connections; and upgrades.

Over real sockets, on the loop and the configuration of the scorer's own servers.
"""

import asyncio
import json
import socket
import struct
import threading
import time
from contextlib import closing, suppress

import pytest
import uvicorn

from fraud_platform.settings import Settings
from serving import connections
from serving.connections import bounded
from serving.head_parser import MOST_BYTES
from serving.listening import server_config

PATIENCE = 20.0


class Served:
    """A server that answers with what it was asked, and what it heard."""

    def __init__(self, settings):
        self.asked, self.begun = [], []
        told = {"lifespan": "off", "interface": "asgi3", "port": 0}
        config = server_config(self._answer, settings, **told)
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run)

    async def _answer(self, scope, receive, send):
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.begun.append(scope["path"])
        if scope["path"] == "/slow":
            await asyncio.sleep(0.6)
        self.asked.append((scope["method"], scope["path"], body))
        told = json.dumps([scope["path"], body.decode()]).encode()
        length = (b"content-length", b"%d" % len(told))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": told})

    def __enter__(self):
        self._thread.start()
        deadline = time.monotonic() + PATIENCE
        while not self.server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.address = self.server.servers[0].sockets[0].getsockname()
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self._thread.join()

    def connect(self):
        return closing(socket.create_connection(self.address, timeout=PATIENCE))


@pytest.fixture
def served(tmp_path):
    with Served(Settings(home=tmp_path)) as server:
        yield server


@pytest.fixture
def impatient(tmp_path, monkeypatch):
    """A server that waits 0.3 seconds for headers."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with Served(Settings(home=tmp_path)) as server:
        yield server


def rest_of(sender):
    """Everything until the other side closes."""
    parts = []
    with suppress(ConnectionResetError):
        while part := sender.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def one_answer(sender):
    """One answer, of a connection that stays."""
    return answers(sender, 1)


def answers(sender, count):
    """So many answers, as they came."""
    text = b""
    while text.count(b"\r\n\r\n[") < count or not text.endswith(b"]"):
        part = sender.recv(65_536)
        assert part, text
        text += part
    return text


def flood(sender, begin, piece, most):
    """Send until the other side has enough; how many bytes went."""
    sent = 0
    with suppress(BrokenPipeError, ConnectionResetError):
        sender.sendall(begin)
        while sent < most:
            sender.sendall(piece)
            sent += len(piece)
    return sent


ENDLESS = {
    "url": (b"GET /", b"a" * 4_096),
    "header": (b"GET / HTTP/1.1\r\nx: ", b"a" * 4_096),
    "name": (b"GET / HTTP/1.1\r\n", b"a" * 4_096),
    "headers": (b"GET / HTTP/1.1\r\n", b"x-name: value\r\n" * 100),
    "blank lines": (b"", b"\r\n" * 2_048),
    "upgrade": (b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n", b"x: y\r\n" * 500),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_head_without_end_is_refused_and_its_sender_let_go(served, name):
    begin, piece = ENDLESS[name]
    with served.connect() as sender:
        sender.sendall(begin)
        for _ in range(2 * MOST_BYTES // len(piece)):
            sender.sendall(piece)
        answer = rest_of(sender)
    assert answer.startswith(b"HTTP/1.1 431 "), answer[:200]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert json.loads(body)["error"] == "headers_too_large"
    assert served.asked == []
    with served.connect() as sender:
        # No client could send all of this if anybody kept reading it.
        began = time.monotonic()
        assert flood(sender, begin, piece * 50, 2**40) < 2**40
        assert time.monotonic() - began < PATIENCE


def test_trailers_without_end_are_refused_too(served):
    head = b"POST /early HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: "
    with served.connect() as sender:
        sender.sendall(head)
        one_answer(sender)
        for _ in range(20):
            sender.sendall(b"a" * 4_096)
        assert rest_of(sender).startswith(b"HTTP/1.1 431 ")


def test_trailers_count_as_no_headers(tmp_path):
    seen = []

    async def note(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        seen.append(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    server = Served(Settings(home=tmp_path))
    server.server.config.app = note
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
    with server, server.connect() as sender:
        sender.sendall(head + b"x-api-key: secret\r\n\r\n")
        assert sender.recv(65_536).startswith(b"HTTP/1.1 204 ")
    assert seen == [{b"host": b"x", b"transfer-encoding": b"chunked"}]


NONSENSE = {
    "no HTTP": b"\0",
    "no version": b"GET / HTTP/9.9\r\n\r\n",
    "no end": b"GET /" + b"a" * 2 * MOST_BYTES,
}


@pytest.mark.parametrize("name", NONSENSE)
def test_a_refusal_is_never_taken_for_the_answer_of_the_request_before(served, name):
    slow = b"GET /slow HTTP/1.1\r\n\r\n"
    for before in (slow, slow + b"GET /next HTTP/1.1\r\n\r\n"):
        with served.connect() as sender:
            sender.sendall(before + NONSENSE[name])
            told = rest_of(sender)
        assert told.count(b"HTTP/1.1 ") == told.count(b"HTTP/1.1 200 ") == before.count(b"GET")


def test_nothing_of_a_connection_that_was_reset_waits_for_a_timer(served):
    handled = served.server.server_state.connections
    with served.connect() as sender:
        sender.sendall(b"GET /a HTTP/1.1\r\n\r\n")
        one_answer(sender)
        [mine] = handled
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    deadline = time.monotonic() + PATIENCE
    while handled and time.monotonic() < deadline:
        time.sleep(0.01)
    assert mine.timeout_keep_alive_task is None


def test_an_answer_for_a_connection_that_was_reset_is_dropped_also_before_others(served, caplog):
    with served.connect() as sender:
        sender.sendall(b"GET /slow HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n")
        deadline = time.monotonic() + PATIENCE
        while not served.begun and time.monotonic() < deadline:
            time.sleep(0.01)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    deadline = time.monotonic() + PATIENCE
    while not served.asked and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert [path for _, path, _ in served.asked] == ["/slow"]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_who_sends_faster_than_it_is_answered_is_read_no_further(served):
    longest = []
    answer = served.server.config.app

    async def note(scope, receive, send):
        longest.extend(len(one.pipeline) for one in served.server.server_state.connections)
        await answer(scope, receive, send)

    served.server.config.loaded_app = note
    count, piece = 4_000, b"GET /a HTTP/1.1\r\nx: %b\r\n\r\n" % (b"a" * 1_000)
    with served.connect() as sender:
        thread = threading.Thread(target=sender.sendall, args=(piece * count,))
        thread.start()
        answers(sender, count)
        thread.join()
    assert len(served.asked) == len(longest) == count
    assert max(longest) < 2 * 2**18 / len(piece)  # one read of the loop


def test_a_head_within_the_limit_and_a_body_beyond_it_are_read(served):
    body = b"b" * (5 * MOST_BYTES)
    head = b"POST /large HTTP/1.1\r\nx: %b\r\ncontent-length: %d\r\n\r\n"
    request = head % (b"a" * (MOST_BYTES - 200), len(body)) + body
    with served.connect() as sender:
        for _ in range(2):  # what one request took does not count against the next
            sender.sendall(request)
            assert one_answer(sender).startswith(b"HTTP/1.1 200 ")
        sender.sendall(request + request)
        assert answers(sender, 2).count(b"HTTP/1.1 200 ") == 2
    assert served.asked == [("POST", "/large", body)] * 4


@pytest.mark.parametrize("begin", [b"", b"\r\n", b"GET /", b"GET / HTTP/1.1\r\nx: y\r\n"])
def test_who_sends_no_whole_head_is_let_go(impatient, begin):
    with impatient.connect() as sender:
        began = time.monotonic()
        sender.sendall(begin)
        assert rest_of(sender) == b""
        assert 0.2 < time.monotonic() - began < PATIENCE / 2


def test_a_head_that_drips_is_let_go(impatient):
    with impatient.connect() as sender:
        sender.sendall(b"GET / HTTP/1.1\r\nx: ")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012 -- until then
            for _ in range(100):
                sender.sendall(b"a")
                time.sleep(0.05)


def test_a_second_head_that_stops_is_let_go_but_idling_between_requests_is_not(impatient):
    request = b"POST /a HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
    with impatient.connect() as sender:
        for part in (request, request[:-1], request[-1:], b"\r\n", request):
            sender.sendall(part)
            if part in (request, request[-1:]):
                one_answer(sender)
            if part != request[:-1]:
                time.sleep(0.6)
        sender.sendall(b"GET /never HTTP/1.1\r\n")
        assert rest_of(sender) == b""
    assert impatient.asked == [("POST", "/a", b"{}")] * 3


def test_a_blank_line_between_requests_buys_the_next_head_no_time(impatient):
    with impatient.connect() as sender:
        sender.sendall(b"GET /a HTTP/1.1\r\n\r\n")
        one_answer(sender)
        sender.sendall(b"\r\n")
        time.sleep(0.1)
        began = time.monotonic()
        sender.sendall(b"GET /never HTTP/1.1\r\n")
        assert rest_of(sender) == b""
        assert time.monotonic() - began < PATIENCE / 2


def test_a_slow_answer_is_waited_for_with_half_of_the_next_request_here(impatient):
    with impatient.connect() as sender:
        sender.sendall(b"GET /slow HTTP/1.1\r\n\r\nGET /next HT")
        assert b'"/slow"' in one_answer(sender)
        sender.sendall(b"TP/1.1\r\n\r\n")
        assert b'"/next"' in one_answer(sender)


def test_connections_beyond_the_limit_are_closed_and_the_others_stay(tmp_path):
    with Served(Settings(home=tmp_path, connection_limit=3)) as server:
        kept = [socket.create_connection(server.address, timeout=PATIENCE) for _ in range(3)]
        for sender in kept:
            sender.sendall(b"GET /kept HTTP/1.1\r\n\r\n")
            one_answer(sender)
        with server.connect() as late, suppress(BrokenPipeError, ConnectionResetError):
            assert rest_of(late) == b""
        for sender in kept:
            sender.sendall(b"GET /kept HTTP/1.1\r\n\r\n")
            one_answer(sender)
        kept.pop().close()
        deadline = time.monotonic() + PATIENCE
        while len(server.server.server_state.connections) == 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with server.connect() as late:
            late.sendall(b"GET /late HTTP/1.1\r\n\r\n")
            assert b'"/late"' in one_answer(late)
        for sender in kept:
            sender.close()


def test_fewer_connections_are_let_in_than_the_process_may_open_files(monkeypatch):
    for files, limit in ((1_024, 768), (100, 50), (1_000_000, 2_000)):
        monkeypatch.setattr(connections.resource, "getrlimit", lambda _, n=files: (n, n))
        assert bounded(2_000).connection_limit == limit


INNER = b"GET /v1/decisions/smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
UPGRADES = [
    b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAA\r\n",
    b"Connection: keep-alive, Upgrade\r\nUPGRADE: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
]


@pytest.mark.parametrize("wanted", UPGRADES)
@pytest.mark.parametrize("cut", [0, 1, 30])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_body_of_a_request_that_asks_for_an_upgrade_is_its_body(served, wanted, cut, chunked):
    length = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(INNER)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER) if chunked else INNER
    request = b"POST /upgrade HTTP/1.1\r\nhost: x\r\n%b%b\r\n\r\n%b" % (wanted, length, body)
    after = b"GET /after HTTP/1.1\r\nhost: x\r\n\r\n"
    place = len(request) - len(body) + cut - 1
    with served.connect() as sender:
        sender.sendall(request[:place])
        time.sleep(0.05)
        sender.sendall(request[place:])
        assert json.loads(one_answer(sender).rpartition(b"\r\n")[2]) == ["/upgrade", INNER.decode()]
        sender.sendall(request + after)
        assert answers(sender, 2).count(b"HTTP/1.1 200 ") == 2
    asked = ("POST", "/upgrade", INNER)
    assert served.asked == [asked, asked, ("GET", "/after", b"")]


@pytest.mark.parametrize("wanted", UPGRADES)
def test_a_get_that_asks_for_an_upgrade_gets_its_answer(served, wanted):
    with served.connect() as sender:
        sender.sendall(b"GET /plain HTTP/1.1\r\nhost: x\r\n%b\r\n" % wanted)
        assert one_answer(sender).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "begin", [b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
def test_what_is_nothing_but_an_upgrade_is_refused_and_nothing_after_it_is_read(served, begin):
    with served.connect() as sender:
        sender.sendall(begin + INNER)
        answer = rest_of(sender)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert served.asked == []
