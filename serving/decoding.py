"""Strict reading of request bodies: what is not exactly the contract is refused with the field.

Litestar's own decoding coerces strings to numbers, lets the last of two equal keys win and answers
invalid UTF-8 with a 500, so bodies are decoded here. A message never repeats a value: values can be
card numbers.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import astuple

from fraud_platform.card_number import holds_card_number
from fraud_platform.card_tokens import is_sensitive_field
from serving.refusals import WHOLE_BODY, RefusedError, refused_field
from serving.schemas import ErrorOut, FieldOut

Wire = TypeVar("Wire")

BLANKS = frozenset(
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
"""The blanks of `validation`'s rule on ids."""

_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_PLACE = re.compile(r"^(\.[a-z_]{1,40}|\[\d{1,6}\])*$")
_GOT = re.compile(r"^Expected (?P<expected>.+), got `(?P<found>\w+)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>\w+)`$")
_PLAIN_NAME = re.compile(r"^[A-Za-z_]{1,40}$")
_JSON_TYPE = re.compile(rb"application/json(;charset=\"?utf-?8\"?)?;?")
_SPACES = b" \t\r\n"
_BROKEN = (msgspec.DecodeError, ValueError, RecursionError)
"""ValueError: broken UTF-8 and numbers too long to be converted, which msgspec lets through."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_IDS = ("transaction_id", "card_id", "terminal_id")


def refuse_other_content(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a body that is not declared as plain JSON in UTF-8.

    Args:
        headers: of the request, names in lower case.

    Raises:
        RefusedError: 415.
    """
    declared = []
    for name, value in headers:
        if name == b"content-type":
            declared.append(value)
        elif name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            raise _unsupported(
                "unsupported_content_encoding",
                "The body is compressed, which is not read here",
                "Send the body as it is, without content-encoding",
            )
    if declared != [b"application/json"] and not _is_json(declared):
        raise _unsupported(
            "unsupported_content_type",
            "The body is not declared as JSON in UTF-8",
            "Send one header `content-type: application/json`, without another charset than utf-8",
        )


def decoded(body: bytes, decoder: msgspec.json.Decoder[Wire], names: Sequence[str]) -> Wire:
    """One decoded body.

    Args:
        body: the raw bytes.
        decoder: a strict decoder of the wire type.
        names: the wire type's field names, for messages.

    Raises:
        RefusedError: 400 or 422, with the offending field where there is one.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise RefusedError(422, _explain(str(error), names)) from None
    except _BROKEN:
        raise _malformed() from None


def refuse_broken_text(body: bytes) -> None:
    """Refuse a body that is not UTF-8 as a whole, where its parts are decoded one by one.

    Raises:
        RefusedError: 400.
    """
    try:
        body.decode()
    except UnicodeDecodeError:
        raise _malformed() from None


def refuse_repeated_envelope(body: bytes, name: str, raws: Sequence[msgspec.Raw]) -> None:
    """Refuse an object that names its only field twice.

    Args:
        body: the raw bytes.
        name: the field, a list.
        raws: what the last list of that name holds.
    """
    # Without blanks, one list is exactly this long; anything else is looked at closely.
    once = len(f'{{"{name}":[]}}') + len(raws) - 1
    inside = sum(len(bytes(raw).translate(None, _SPACES)) for raw in raws)
    if len(body.translate(None, _SPACES)) != once + inside:
        _refuse_repeated(_loaded(body, _names_of))  # what it holds is looked at one by one


def refuse_outer_blanks(wire: Struct) -> None:
    """Refuse an id with blanks around it: `a` and `a ` would be two payments to us only.

    Files are trimmed as they come in; a live sender is told, so that its ids stay its own.
    """
    for name in _IDS:
        value = getattr(wire, name, None)
        if value is not None and (value[0] in BLANKS or value[-1] in BLANKS):
            raise refused_field(
                "invalid_field",
                "An id begins or ends with a blank",
                field=name,
                found="a blank at an end",
                expected="an id without blanks around it",
            )


def refuse_repeated_keys(body: bytes, *wires: Struct) -> None:
    """Refuse an object that names a field twice, where readers would disagree on the value.

    Args:
        body: the raw bytes that the wires were decoded from: one flat object, or an array of them.
        wires: the decoded objects, whose optional fields are UNSET when left out.
    """
    present = 0
    for wire in wires:
        present += len(wire.__struct_fields__) - astuple(wire).count(UNSET)
    # Every pair but the first needs a comma, so as many commas as known fields is proof enough;
    # the full scan is left to bodies with commas inside strings, and to offenders.
    if body.count(b",") + 1 > present:
        _look_for_repeated(body)


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


def refuse_control_characters(wire: Struct) -> None:
    """Refuse any text with a control character in it; for wires without a rule of their own."""
    for name in wire.__struct_fields__:
        value = getattr(wire, name)
        if isinstance(value, str) and _CONTROL.search(value):
            raise refused_field(
                "invalid_field",
                "A field breaks the contract",
                field=name,
                found="a control character",
                expected="a text without line breaks or other control characters",
            )


def _look_for_repeated(body: bytes) -> None:
    _loaded(body, lambda pairs: _refuse_repeated(_names_of(pairs)))


def _loaded(body: bytes, hook: Callable[[list[tuple[str, Any]]], Any]) -> Any:
    try:
        return json.loads(body, object_pairs_hook=hook)
    except _BROKEN:
        raise _malformed() from None


def _names_of(pairs: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in pairs]


def _refuse_repeated(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise refused_field(
                "repeated_field",
                "A field is named more than once",
                field=_shown(name),
                found="two values",
                expected="one value",
            )
        seen.add(name)


def _unknown_field(name: str, path: str, names: Sequence[str]) -> ErrorOut:
    """A field that is no part of the contract; what nobody may send has a code of its own."""
    if is_sensitive_field(name):
        field = FieldOut(field=path, found="a security code, track or PIN", expected="nothing")
        message = "A field holds what nobody may keep; it was not stored"
        return ErrorOut(error="sensitive_field_refused", message=message, fields=[field])
    field = FieldOut(field=path, found="an unknown field", expected=", ".join(names))
    return ErrorOut(error="invalid_field", message="A field breaks the contract", fields=[field])


def _explain(message: str, names: Sequence[str]) -> ErrorOut:
    """The body for a decoder's message, without the value it may quote."""
    at = _AT.search(message)
    # A sender's own field name may imitate a path; only what looks like ours is repeated.
    place = at["path"].lstrip(".") if at and _PLACE.match(at["path"]) else ""
    rule = _AT.sub("", message)
    if unknown := _UNKNOWN.match(rule):
        path = ".".join(part for part in (place, _shown(unknown["name"])) if part)
        return _unknown_field(unknown["name"], path, names)
    if missing := _MISSING.match(rule):
        field, found, expected = missing["name"], "nothing", "a value"
    elif got := _GOT.match(rule):
        field, found, expected = "", got["found"], got["expected"].replace("`", "")
    else:
        field, found, expected = "", "a value outside its rule", _expected(rule)
    path = ".".join(part for part in (place, field) if part) or WHOLE_BODY
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


def _is_json(declared: list[bytes]) -> bool:
    """Whether one content type was declared, and it is JSON in UTF-8, however it is spelled."""
    plain = [value.replace(b" ", b"").lower() for value in declared]
    return len(plain) == 1 and _JSON_TYPE.fullmatch(plain[0]) is not None


def _unsupported(code: str, message: str, hint: str) -> RefusedError:
    return RefusedError(415, ErrorOut(error=code, message=message, hint=hint))


def _malformed() -> RefusedError:
    hint = "Send one JSON document in UTF-8 without a byte order mark"
    message = "The body is not well-formed JSON in UTF-8"
    return RefusedError(400, ErrorOut(error="malformed_json", message=message, hint=hint))


def _shown(name: str) -> str:
    """A sender's own field name where it is harmless to repeat."""
    return name if _PLAIN_NAME.match(name) else "(a field name that is not repeated here)"
