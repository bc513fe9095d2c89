"""Strict reading of request bodies: what is not exactly the contract is refused with the field.

Litestar's own decoding coerces strings to numbers, lets the last of two equal keys win and answers
invalid UTF-8 with a 500, so bodies are decoded here. A message never repeats a value: values can be
card numbers.
"""

import json
import re
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct

from fraud_platform.card_number import holds_card_number
from serving.refusals import RefusedError, refused_field
from serving.schemas import ErrorOut, FieldOut

Wire = TypeVar("Wire")

_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_GOT = re.compile(r"^Expected (?P<expected>.+), got `(?P<found>\w+)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>\w+)`$")
_PLAIN_NAME = re.compile(r"^[A-Za-z_]{1,40}$")


def read_body(
    body: bytes, content_type: str, decoder: msgspec.json.Decoder[Wire], names: tuple[str, ...]
) -> Wire:
    """One decoded body.

    Args:
        body: the raw bytes.
        content_type: the request's header; only application/json is read.
        decoder: a strict decoder of the wire type.
        names: the wire type's field names, for messages.

    Raises:
        RefusedError: 415, 400 or 422, with the offending field where there is one.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        hint = "Send the header `content-type: application/json`"
        message = "The body is not declared as JSON"
        raise RefusedError(
            415, ErrorOut(error="unsupported_content_type", message=message, hint=hint)
        )
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise RefusedError(422, _explain(str(error), names)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        hint = "Send one JSON document in UTF-8 without a byte order mark"
        message = "The body is not well-formed JSON in UTF-8"
        raise RefusedError(
            400, ErrorOut(error="malformed_json", message=message, hint=hint)
        ) from None


def refuse_repeated_keys(body: bytes, *wires: Struct) -> None:
    """Refuse an object that names a field twice, where readers would disagree on the value.

    Args:
        body: the raw bytes that the wires were decoded from: one flat object, or an array of them.
        wires: the decoded objects, whose optional fields are UNSET when left out.
    """
    present = sum(
        getattr(wire, name) is not UNSET for wire in wires for name in wire.__struct_fields__
    )
    # Every pair but the first needs a comma, so as many commas as known fields is proof enough;
    # the full scan is left to bodies with commas inside strings, and to offenders.
    if body.count(b",") + 1 > present:
        json.loads(body, object_pairs_hook=_refuse_repeated)


def refuse_card_numbers(wire: Struct) -> None:
    """Refuse any text that holds a card number, naming the field only.

    For wires without a rule of their own; a transaction's texts are the affair of `validation`.
    """
    for name in wire.__struct_fields__:
        value = getattr(wire, name)
        if isinstance(value, str) and len(value) >= 13 and holds_card_number(value):
            raise refused_field(
                "card_number_refused",
                "A field holds what looks like a card number; it was not stored",
                field=name,
                found="13 to 19 digits with a valid check digit",
                expected="a text without card numbers",
            )


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise refused_field(
            "repeated_field",
            "A field is named more than once",
            field=_shown(repeated),
            found="two values",
            expected="one value",
        )


def _explain(message: str, names: tuple[str, ...]) -> ErrorOut:
    """The body for a decoder's message, without the value it may quote."""
    at = _AT.search(message)
    place = at["path"].lstrip(".") if at else ""
    rule = _AT.sub("", message)
    if unknown := _UNKNOWN.match(rule):
        field, found, expected = _shown(unknown["name"]), "an unknown field", ", ".join(names)
    elif missing := _MISSING.match(rule):
        field, found, expected = missing["name"], "nothing", "a value"
    elif got := _GOT.match(rule):
        field, found, expected = "", got["found"], got["expected"].replace("`", "")
    else:
        field, found, expected = "", "a value outside its rule", _expected(rule)
    path = ".".join(part for part in (place, field) if part) or "(the whole body)"
    fields = [FieldOut(field=path, found=found, expected=expected)]
    return ErrorOut(error="invalid_field", message="A field breaks the contract", fields=fields)


def _expected(rule: str) -> str:
    if rule.startswith("Expected "):
        return rule.removeprefix("Expected ").replace("`", "")
    if "RFC3339" in rule:
        return "an ISO 8601 time with a zone, e.g. 2026-01-31T10:00:00Z"
    if rule.startswith("Invalid enum value"):
        return "one of the documented values"
    return "a number in range"


def _shown(name: str) -> str:
    """A sender's own field name where it is harmless to repeat."""
    return name if _PLAIN_NAME.match(name) else "(a field name that is not repeated here)"
