"""What no honest sender sends: every such request gets a 4xx with a code, never a value back."""

import json
import random
import re

import pytest

from fraud_platform.adapters.card_scan import scan
from fraud_platform.card_number import holds_card_number
from fraud_platform.events import microseconds
from serving.app import create_app
from tests.integration.scorer.asgi import JSON, calling
from tests.unit.test_card_number import NOTATIONS, made_cards

CANARY = "CANARY7"
"""Stands in hostile values; no answer may hold it."""
PAN = "4111111111111111"
SEED = 20_260_302


@pytest.fixture
def edge(settings, publish, now):
    publish("1")
    # Whether records survive a power cut is tested elsewhere.
    quick = settings.model_copy(update={"journal_mode": "written"})
    with calling(create_app(quick, clock=lambda: microseconds(now))) as caller:
        yield caller


def good_label(number=0):
    return {
        "transaction_id": f"t{number}",
        "verdict": "fraud",
        "source": "chargeback",
        "known_at": "2026-03-02T10:00:00Z",
    }


def text_of(value):
    return json.dumps(value).encode("utf-8", "surrogatepass")


def with_raw(item, field, raw):
    """The item with a field's value replaced by raw JSON text."""
    marker = "@@@"
    return text_of({**item, field: marker}).replace(b'"@@@"', raw)


# Raw JSON values that break the contract wherever a text is expected.
NO_TEXTS = {
    "null": b"null",
    "true": b"true",
    "integer": b"7",
    "float": b"1.5",
    "huge integer": b"1" + b"0" * 400,
    "longest integer": b"9" * 5000,
    "overflow": b"1e999",
    "object": b'{"a": "CANARY7"}',
    "list": b'["CANARY7"]',
    "deep list": b"[" * 3000 + b"]" * 3000,
    "deeper list": b"[" * 20_000 + b"]" * 20_000,
    "deep object": b'{"a":' * 3000 + b"1" + b"}" * 3000,
    "unclosed": b'"CANARY7',
    "lone surrogate": rb'"CANARY7\ud800"',
    "swapped surrogates": rb'"CANARY7\udc00\ud800"',
    "raw surrogate": b'"CANARY7\xed\xa0\x80"',
    "overlong slash": b'"CANARY7\xc0\xaf"',
    "latin-1": b'"CANARY7\xe9"',
    "cut utf-8": b'"CANARY7\xe2\x82"',
    "bad escape": rb'"CANARY7\x41"',
    "short escape": rb'"CANARY7\u12"',
    "raw newline": b'"CANARY7\n"',
    "raw nul": b'"CANARY7\x00"',
    "single quotes": b"'CANARY7'",
    "bare word": b"CANARY7",
    "undefined": b"undefined",
    "nothing": b"",
    "comment": b'/* CANARY7 */ "a"',
}
# Raw texts that are JSON and break the contract as an id.
NO_IDS = {
    "empty id": b'""',
    "long id": b'"' + b"x" * 65 + b'"',
    "endless id": b'"' + b"CANARY7" * 2000 + b'"',
    "nul": rb'"CANARY7\u0000"',
    "line break": rb'"CANARY7\nx"',
    "escape character": rb'"CANARY7\u001b[31m"',
    "delete": rb'"CANARY7\u007f"',
    "leading blank": b'" CANARY7"',
    "trailing blank": b'"CANARY7 "',
    "wide blank": rb'"CANARY7\u3000"',
    "joiner": rb'"\u2060CANARY7"',
    "byte order mark": rb'"\ufeffCANARY7"',
    "only blanks": b'"   "',
    "card number": b'"4111111111111111"',
    "grouped card number": b'"4111 1111 1111 1111"',
}
NO_INTEGERS = {
    "text": b'"1"',
    "nan": b"NaN",
    "infinity": b"Infinity",
    "minus infinity": b"-Infinity",
    "overflow": b"1e999",
    "float32 overflow": b"1e39",
    "scientific": b"1e3",
    "fraction": b"1.5",
    "whole float": b"1.0",
    "negative": b"-1",
    "over the maximum": b"100000001",
    "int64": b"9223372036854775807",
    "past int64": b"9223372036854775808",
    "past uint64": b"18446744073709551616",
    "400 digits": b"9" * 400,
    "5000 digits": b"9" * 5000,
    "leading zero": b"01",
    "plus": b"+1",
    "hexadecimal": b"0x10",
    "underscore": b"1_000",
    "dot at the end": b"1.",
    "dot at the start": b".5",
    "minus alone": b"-",
    "boolean": b"true",
    "null": b"null",
    "list": b"[1]",
    "full-width digit": "\uff11".encode(),
}
NO_DEGREES = {
    "text": b'"1"',
    "nan": b"NaN",
    "infinity": b"Infinity",
    "float32 overflow": b"1e39",
    "overflow": b"1e999",
    "negative overflow": b"-1e999",
    "too far": b"180.0000001",
    "far too far": b"-1e300",
    "boolean": b"false",
    "list": b"[]",
    "minus": b"-",
}
NO_CURRENCIES = {
    "lower case": b'"eur"',
    "long": b'"EURO"',
    "short": b'"EU"',
    "cyrillic": '"\u0415UR"'.encode(),
    "full-width": '"\uff25\uff35\uff32"'.encode(),
    "greek": '"\u0395UR"'.encode(),
    "combining": '"EU\u0301"'.encode(),
    "digits": b'"978"',
    "blank": b'"EU "',
    "line break": rb'"EU\n"',
    "sign": '"\u20ac\u20ac\u20ac"'.encode(),
    "null": b"null",
}
NO_TIMES = {
    "no zone": b'"2026-03-01T12:00:00"',
    "day": b'"2026-03-01"',
    "number": b"1772366400",
    "words": b'"CANARY7"',
    "february 30th": b'"2026-02-30T00:00:00Z"',
    "hour 24": b'"2026-03-01T24:00:00Z"',
    "second 61": b'"2026-03-01T12:00:61Z"',
    "zone of 99 hours": b'"2026-03-01T12:00:00+99:00"',
    "year 0": b'"0000-01-01T00:00:00Z"',
    "year 1": b'"0001-01-01T00:00:00+14:00"',
    "year 9999": b'"9999-12-31T23:59:59-14:00"',
    "year 12026": b'"12026-03-01T12:00:00Z"',
    "negative year": b'"-2026-03-01T12:00:00Z"',
    "future": b'"2027-01-01T00:00:00Z"',
    "full-width digits": '"\uff12026-03-01T12:00:00Z"'.encode(),
    "null": b"null",
    "empty": b'""',
}
NO_DOCUMENTS = {
    "empty": b"",
    "blanks": b" \n\t",
    "nul": b"\x00",
    "null": b"null",
    "true": b"true",
    "number": b"7",
    "text": b'"CANARY7"',
    "brace": b"{",
    "bracket": b"[",
    "empty object": b"{}",
    "empty list": b"[]",
    "nested list": b"[[]]",
    "list of null": b"[null]",
    "deep": b"[" * 50_000,
    "deep and closed": b"[" * 30_000 + b"]" * 30_000,
    "deep objects": b'{"a":' * 10_000,
    "words": b"CANARY7",
    "xml": b"<?xml version='1.0'?><a>CANARY7</a>",
    "form": b"transaction_id=CANARY7&amount_minor=1",
    "msgpack": b"\x86\xaetransaction_id\xa2t0",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "random": bytes(random.Random(SEED).randbytes(300)),
}


def wrapped_documents(good):
    """A good document with something around it."""
    return {
        "byte order mark": b"\xef\xbb\xbf" + good,
        "utf-16": good.decode().encode("utf-16"),
        "utf-16 without mark": good.decode().encode("utf-16-le"),
        "utf-32": good.decode().encode("utf-32"),
        "trailing word": good + b"CANARY7",
        "trailing nul": good + b"\x00",
        "two documents": good + good,
        "two lines": good + b"\n" + good,
        "trailing comma": good[:-1] + b",}",
        "leading comma": b"{," + good[1:],
        "cut": good[:-1],
        "cut in a key": good[:7],
        "cut in a value": good[: len(good) // 2],
        "twice the same": good[:-1] + b"," + good[1:],
        "key twice": good[:-1] + b', "transaction_id": "CANARY7"}',
        "key twice, escaped": good[:-1] + rb', "\u0074ransaction_id": "CANARY7"}',
        "unknown key": good[:-1] + b', "CANARY7": 1}',
        "empty key": good[:-1] + b', "": 1}',
        "card number as key": good[:-1] + b', "4111111111111111": 1}',
        "path as key": good[:-1] + b', "x` - at `$.CANARY7": 1}',
        "prototype": good[:-1] + b', "__proto__": {"CANARY7": 1}}',
        "security code": good[:-1] + b', "cvv": "CANARY7"}',
        "track": good[:-1] + b', "track2": "%B4111111111111111^CANARY7"}',
        "upper-case key": good.replace(b"transaction_id", b"Transaction_Id"),
        "key with nul": good[:-1] + rb', "a\u0000": 1}',
        "deep unknown key": good[:-1] + b', "x": ' + b"[" * 9_000 + b"]" * 9_000 + b"}",
    }


def hostile_payments(payment):
    """Name -> body and the field that the answer must name, or None."""
    good = text_of(payment())
    bodies = {name: (raw, None) for name, raw in NO_DOCUMENTS.items()}
    bodies |= {name: (raw, None) for name, raw in wrapped_documents(good).items()}
    values = [("transaction_id", NO_TEXTS), ("transaction_id", NO_IDS), ("card_id", NO_IDS)]
    values += [("amount_minor", NO_INTEGERS), ("currency", NO_CURRENCIES)]
    values += [("event_timestamp", NO_TIMES), ("latitude", NO_DEGREES), ("longitude", NO_DEGREES)]
    for field, raws in values:
        for name, raw in raws.items():
            bodies[f"{field}: {name}"] = (with_raw(payment(), field, raw), field)
    long = b'"' + b"x" * 201 + b'"'
    for field in ("country", "device_id", "merchant_category", "payment_method", "entry_mode"):
        bodies[f"{field}: too long"] = (with_raw(payment(), field, long), field)
        bodies[f"{field}: list"] = (with_raw(payment(), field, b'["CANARY7"]'), field)
        bodies[f"{field}: card number"] = (with_raw(payment(), field, b'"%d"' % int(PAN)), field)
        left = {n: v for n, v in payment().items() if n != field}
        bodies[f"{field}: escape"] = (with_raw(left, field, rb'"\u001b[31m"'), field)
    for field in payment():
        bodies[f"{field}: left out"] = (
            text_of({n: v for n, v in payment().items() if n != field}),
            field,
        )
    return bodies


def hostile_labels():
    good = text_of(good_label())
    bodies = {name: (raw, None) for name, raw in NO_DOCUMENTS.items()}
    bodies |= {name: (raw, None) for name, raw in wrapped_documents(good).items()}
    words = {"unknown word": b'"CANARY7"', "upper case": b'"FRAUD"', "empty": b'""'}
    values = [("transaction_id", NO_TEXTS), ("transaction_id", NO_IDS)]
    values += [("verdict", NO_TEXTS | words), ("source", NO_TEXTS | words)]
    times = {name: raw for name, raw in NO_TIMES.items() if name != "null"}
    for field, raws in values:
        for name, raw in raws.items():
            bodies[f"{field}: {name}"] = (with_raw(good_label(), field, raw), field)
    for name, raw in times.items():
        bodies[f"known_at: {name}"] = (with_raw(good_label(), "known_at", raw), None)
    reasons = {
        "long": b'"' + b"x" * 201 + b'"',
        "line break": rb'"a\nb"',
        "card": b'"%d"' % int(PAN),
    }
    for name, raw in reasons.items():
        bodies[f"reason: {name}"] = (with_raw(good_label(), "reason", raw), "reason")
    for field in ("transaction_id", "verdict", "source"):
        left = {n: v for n, v in good_label().items() if n != field}
        bodies[f"{field}: left out"] = (text_of(left), field)
    return bodies


def assert_is_refusal(name, status, error, text):
    assert 400 <= status < 500, (name, status, text[:300])
    assert re.fullmatch("[a-z_]{3,40}", error["error"]), name
    assert error["message"], name
    for secret in (CANARY, PAN, "111111111111"):
        assert secret not in text, (name, text[:300])
    for field in error.get("fields", []):
        assert field["field"], name
        assert field["found"], name
        assert field["expected"], name


def assert_names(name, error, field):
    if field is None or error["error"] == "malformed_json":
        return
    named = [part for found in error["fields"] for part in found["field"].split(", ")]
    assert any(part.split(".")[-1] == field for part in named), (name, named)


def test_no_hostile_payment_is_decided_or_quoted(edge, payment):
    bodies = hostile_payments(payment)
    assert len(bodies) >= 120
    for name, (body, field) in bodies.items():
        answer = edge.post("/v1/decisions", body)
        assert_is_refusal(name, answer.status, answer.json(), answer.text)
        assert_names(name, answer.json(), field)
    assert edge.get("/health/ready").json()["seq"] == 0, "nothing was recorded"


def test_a_hostile_payment_in_a_batch_is_refused_alone_or_with_the_whole_batch(edge, payment):
    alone = 0
    for number, (name, (body, field)) in enumerate(hostile_payments(payment).items()):
        first, last = (payment(number + n) for n in (1, 2))
        first["transaction_id"], last["transaction_id"] = f"a{number}", f"b{number}"
        parts = b", ".join([text_of(first), body, text_of(last)])
        answer = edge.post("/v1/decisions/batch", b'{"transactions": [' + parts + b"]}")
        if answer.status == 200:
            alone += 1
            results = answer.json()["results"]
            assert "decision" in results[0], name
            assert "decision" in results[-1], name
            [bad] = [r for r in results if "error" in r] or [None]
            assert bad is not None or "two documents" in name, name
            if bad is not None:
                assert_is_refusal(name, bad["status"], bad["error"], answer.text)
                paths = [part for f in bad["error"]["fields"] for part in f["field"].split(", ")]
                assert paths, name
                assert all(path.startswith("transactions[1]") for path in paths), (name, paths)
                assert_names(name, bad["error"], field)
        else:
            assert_is_refusal(name, answer.status, answer.json(), answer.text)
    assert alone >= 100, "most bad payments stop nobody else"


def test_a_hostile_batch_is_refused_as_a_whole(edge, payment):
    good = text_of(payment())
    bodies = {name: raw for name, raw in NO_DOCUMENTS.items() if "list" not in name}
    bodies |= {
        "empty": b'{"transactions": []}',
        "null": b'{"transactions": null}',
        "object": b'{"transactions": {"CANARY7": 1}}',
        "text": b'{"transactions": "CANARY7"}',
        "other name": b'{"CANARY7": [' + good + b"]}",
        "one payment": good,
        "two names": b'{"transactions": [' + good + b'], "CANARY7": 1}',
        "name twice": b'{"transactions": [' + good + b'], "transactions": [' + good + b"]}",
        "name twice, escaped": b'{"\\u0074ransactions": [], "transactions": [' + good + b"]}",
        "trailing comma": b"[" + good + b",]",
        "cut": b"[" + good + b",",
        "not utf-8": b'[{"\xff": 1}, ' + good + b"]",
        "nested": b"[[" + good + b"]]",
    }
    for name, body in bodies.items():
        answer = edge.post("/v1/decisions/batch", body)
        if name == "nested":
            assert answer.json()["refused"] == 1
            continue
        assert_is_refusal(name, answer.status, answer.json(), answer.text)
    assert edge.get("/health/ready").json()["seq"] == 0, "nothing was recorded"


@pytest.mark.parametrize("form", ["single", "list"])
def test_no_hostile_label_is_recorded_or_quoted(edge, payment, form):
    edge.post("/v1/decisions", payment())
    bodies = hostile_labels()
    assert len(bodies) >= 120
    for name, (body, field) in bodies.items():
        sent = body if form == "single" else b"[" + body + b"]"
        if form == "list" and name in NO_DOCUMENTS and name not in {"null", "text", "number"}:
            continue
        answer = edge.post("/v1/labels", sent)
        if form == "list" and answer.status == 200:
            assert answer.json()["recorded"] == 0, name
            assert CANARY not in answer.text, name
            continue
        assert_is_refusal(name, answer.status, answer.json(), answer.text)
        assert_names(name, answer.json(), field)
    assert edge.get("/health/ready").json()["seq"] == 1, "nothing was recorded"


def mutated(good, chance):
    """The good body with one to four of its bytes changed, left out, doubled or put in."""
    body = bytearray(good)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(body))
        kind = chance.randrange(5)
        if kind == 0:
            body[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            body[place] = chance.choice(b'\x00\xff"{}[]:,\\0-9e.\x80 ')
        elif kind == 2:
            del body[place]
        elif kind == 3:
            body.insert(place, chance.randrange(256))
        else:
            cut = place + chance.randrange(1, 20)
            body[place:place] = body[place:cut]
    return bytes(body)


@pytest.mark.parametrize(
    ("path", "cases"), [("/v1/decisions", 2_000), ("/v1/decisions/batch", 500), ("/v1/labels", 500)]
)
def test_a_good_body_with_some_bytes_changed_never_upsets_the_scorer(edge, payment, path, cases):
    chance = random.Random(f"{SEED} {path}")
    edge.post("/v1/decisions", payment(0, transaction_id="t0"))
    counted = {"taken": 0, "refused": 0}
    for case in range(cases):
        number = 1 + case
        item = good_label() if path == "/v1/labels" else payment(number % 900)
        good = text_of({"transactions": [item, item]} if path.endswith("batch") else item)
        body = mutated(good, chance)
        answer = edge.post(path, body)
        if answer.status == 200:
            counted["taken"] += 1
            json.loads(body)
        else:
            counted["refused"] += 1
            name = f"{SEED} {path} {case}"
            assert_is_refusal(name, answer.status, answer.json(), answer.text)
    assert counted["refused"] > cases / 2, counted
    assert counted["taken"] > 0, counted


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("content-type", "text/plain")],
        [("content-type", "application/json; charset=utf-16")],
        [("content-type", "application/json; charset=iso-8859-1")],
        [("content-type", "application/json; boundary=x")],
        [("content-type", "application/x-json")],
        [("content-type", "multipart/form-data")],
        [("content-type", "application/msgpack")],
        [("content-type", "application/json, text/plain")],
        [("content-type", "x" * 10_000)],
        [("content-type", "\xff")],
        [JSON, ("content-type", "text/plain")],
        [JSON, ("content-encoding", "gzip")],
        [JSON, ("content-encoding", "br")],
        [JSON, ("content-encoding", "deflate, gzip")],
        [JSON, ("content-encoding", "identity"), ("content-encoding", "gzip")],
    ],
)
@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/decisions/batch", "/v1/labels"])
def test_a_body_that_is_not_declared_as_plain_json_is_not_read(edge, payment, path, headers):
    answer = edge.post(path, payment(), headers)
    assert answer.status == 415
    assert answer.json()["error"] in {"unsupported_content_type", "unsupported_content_encoding"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/decisions/%ff",
        "/v1/decisions/%00",
        "/v1/decisions/%2F",
        "/v1/decisions/..%2f..%2fetc%2fpasswd",
        "/v1/decisions/%ed%a0%80",
        "/v1/decisions/%",
        "/v1/decisions/%zz",
        "/v1/decisions/" + "x" * 60_000,
        "/v1/decisions/" + PAN,
        "/v1/decisions/'; drop table decisions; --",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/decisions/a/b/c",
        "/" + "a/" * 3000,
    ],
)
def test_a_hostile_path_is_not_found(edge, path):
    answer = edge.get(path)
    assert answer.status == 404
    assert_is_refusal(path, answer.status, answer.json(), answer.text)
    assert "etc" not in answer.text


# --- card numbers (T-PAN)

IN_A_BODY = {
    **{
        name: lambda text, _, name=name: {name: text}
        for name in ("transaction_id", "card_id", "terminal_id", "currency", "entry_mode")
    },
    "amount_minor": lambda _, card: {"amount_minor": int(card)},
    "nested": lambda text, _: {"more": {"of": [{"it": text}]}},
    "a name": lambda text, _: {text: 1},
}
"""Where a card number stands in a payment -> the changes that bring it there."""


def test_no_card_number_in_any_field_is_decided_and_none_leaves_a_trace(
    edge, payment, settings, caplog
):
    notations, places = list(NOTATIONS.values()), list(IN_A_BODY.values())
    cards = list(made_cards(5_000))
    taken, told = [], []
    for number, card in enumerate(cards):
        text = notations[number % len(notations)](card)
        changes = places[number % len(places)](text, card)
        answer = edge.post("/v1/decisions", payment(number % 1_000, **changes))
        told.append(answer.text)
        if answer.status not in (400, 422):
            taken.append((answer.status, number % len(places), number % len(notations)))
    for number, card in enumerate(cards[:200]):
        sent = json.dumps(payment(number)).encode()
        headers = (JSON, ("x-card", card), ("user-agent", f"shop {card}"), ("x-request-id", card))
        told.append(edge.send("POST", f"/v1/decisions?pan={card}", [sent], headers).text)
        told.append(edge.get(f"/v1/decisions/{card}").text)
    told += [edge.get("/metrics").text, caplog.text]
    recall = 1 - len(taken) / len(cards)
    spoken = {run for text in told for run in re.findall("[0-9]{13,19}", text)} & set(cards)
    stored = scan(settings.home)
    figures = {"numbers": len(cards), "recall": recall, "stored": len(stored.finds)}
    print(json.dumps({"test": "T-PAN", "at": "edge", **figures, "repeated": len(spoken)}))
    assert recall >= 0.999, taken[:5]
    assert not spoken
    assert not any(holds_card_number(text) for text in told[: len(cards)])
    assert stored.is_clean, stored.to_text()
