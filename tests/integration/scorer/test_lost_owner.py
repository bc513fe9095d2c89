"""What a front says when its owner goes away or breaks in the middle of an answer."""

import asyncio
import json
import tempfile
from pathlib import Path

import pytest

from fraud_platform.settings import Settings
from serving.app import build_scorer, wall_clock
from serving.owner_socket import OwnerSocket, requests_path
from serving.passing import Passing
from serving.remote_engine import OwnerDefectError, RemoteEngine

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(prefix="owner-") as folder:  # short: it is a socket's path
        yield Path(folder)


async def passed(place, method, said):
    """What a caller gets when the owner says so much and then is gone."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        writer.close()

    sent, refused = [], []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "raw_path": b"/v1/decisions/x/explanation",
        "query_string": b"",
        "headers": [],
        "client": ("1.2.3.4", 1),
    }
    async with await asyncio.start_unix_server(serve, place / "owner.sock"):
        await Passing(place / "owner.sock", refused.append)(scope, receive, send)
    [start, body] = sent
    return start["status"], dict(start["headers"]), body["body"], refused


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200",
        HEAD,
        HEAD + b'{"half":',
        HEAD + b"x" * 999,
        CHUNKED + b"5\r\n12345\r\n",
        CHUNKED + b"5\r\n12345\r\n0\r\n",
    ],
)
def test_an_owner_that_dies_in_the_middle_of_an_answer_has_given_none(place, said):
    status, headers, body, refused = asyncio.run(passed(place, "GET", said))
    assert (status, refused) == (503, ["owner_away"])
    assert b"retry-after" in headers
    assert json.loads(body)["error"] == "owner_away"


def test_a_whole_answer_and_the_head_of_one_are_handed_back(place):
    whole = b"x" * 1_000
    status, headers, body, _ = asyncio.run(passed(place, "GET", HEAD + whole))
    assert (status, headers[b"content-length"], body) == (200, b"1000", whole)
    status, headers, body, _ = asyncio.run(passed(place, "HEAD", HEAD))
    assert (status, headers[b"content-length"], body) == (200, b"1000", b"")
    assert asyncio.run(passed(place, "HEAD", HEAD[:-4]))[0] == 503


def test_a_defect_while_a_decision_is_looked_up_is_answered_and_said(place, caplog, monkeypatch):
    scorer = build_scorer(Settings(home=place), wall_clock)

    async def broken(_):
        raise KeyError("c3")

    async def story():
        path = requests_path(place)
        path.parent.mkdir()
        door = OwnerSocket(path, expected=1)
        await scorer.engine.start()
        await door.open(scorer.engine, scorer.metrics)
        front = RemoteEngine(path, limit=10)
        await front.start()
        assert await front.decision("t1") is None
        monkeypatch.setattr(scorer.engine, "decision", broken)
        async with asyncio.timeout(10):
            with pytest.raises(OwnerDefectError):
                await front.decision("t1")
        assert not front._under_way
        await front.stop()
        door.close()
        await scorer.engine.stop()

    asyncio.run(story())
    assert "looking for a decision ended with a defect: found KeyError at" in caplog.text
    assert "c3" not in caplog.text
