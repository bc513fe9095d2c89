"""The API's own description: what requests look like, and a page that works without the internet.

The page is rendered here from the OpenAPI document: no scripts, no fonts, no other host.
"""

import re
from dataclasses import dataclass
from html import escape
from typing import Any

import msgspec
from litestar import Request, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Components, Example, Operation, RequestBody, SecurityScheme
from litestar.routes import BaseRoute
from litestar.types import ControllerRouterHandler

from serving.schemas import DOCUMENTED, ErrorOut

KEY_SCHEME = "key"
"""The name of the way callers prove who they are."""
NEEDS_KEY: dict[int, ResponseSpec] = {
    status: ResponseSpec(ErrorOut, description=description)
    for status, description in {
        401: "No credential, or one that does not count",
        403: "The credential lacks the scope of this route",
        429: "Too many requests; wait for Retry-After seconds",
    }.items()
}
"""What a route that needs a key answers beside its result."""
REFUSALS: dict[int, ResponseSpec] = {
    **{
        status: ResponseSpec(ErrorOut, description=description)
        for status, description in {
            400: "Malformed JSON or not UTF-8",
            408: "The body did not arrive in time",
            413: "The body is too large",
            415: "The body is not declared as application/json in UTF-8, or is compressed",
            422: "A field or a rule is broken, or the id is known with another payload",
            503: "Not acknowledged; send the same again after Retry-After seconds",
        }.items()
    },
    **NEEDS_KEY,
}
"""What the writing routes answer beside their result."""

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}"
    "h2{margin-top:2.5rem;border-top:1px solid #ddd;padding-top:1rem}"
    "code{background:#f3f3f3;padding:.1em .3em;border-radius:3px}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;vertical-align:top;border-bottom:1px solid #eee;"
    "padding:.3rem .8rem .3rem 0}"
    "@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}"
    "code{background:#2a2a2a}td,th,h2{border-color:#333}}"
)


def takes(
    wire: type[msgspec.Struct], *, many: int = 0, named: str = "", single: bool = True
) -> type[Operation]:
    """An operation that documents a body which the route decodes itself.

    Args:
        wire: the body's type.
        many: also accepts a list of up to this many; 0 for one object only.
        named: also accepts that list as this field of an object.
        single: whether one object alone is accepted.
    """
    [schema], definitions = msgspec.json.schema_components([wire], ref_template="{name}")
    shape: dict[str, Any] = definitions[schema["$ref"]]
    for field in shape["properties"].values():
        field.update(field.pop(DOCUMENTED, {}))
    example = _example(shape)
    if many:
        listed = {"type": "array", "items": shape, "minItems": 1, "maxItems": many}
        shapes = [shape]
        if not single:
            listed["items"], shapes = {"anyOf": [shape, _REFUSED_ALONE]}, []
        if named:
            fields = {"properties": {named: listed}, "required": [named]}
            shapes.append({"type": "object", **fields, "additionalProperties": False})
            example = {named: [example]}
        shape = {"oneOf": [*shapes, listed]}

    @dataclass
    class Documented(Operation):
        def __post_init__(self) -> None:
            content: Any = {"application/json": {"schema": shape, "example": example}}
            self.request_body = RequestBody(content=content, required=True)

    return Documented


def returns(wire: Any, description: str, example: Any = None) -> ResponseSpec:
    """A documented answer; `wire` may be a union of types, and `example` one value of it."""
    examples = None if example is None else [Example(value=msgspec.to_builtins(example))]
    return ResponseSpec(wire, description=description, generate_examples=False, examples=examples)


_REFUSED_ALONE = {"description": "Anything else is refused at its place; the others are decided"}


def _example(shape: dict[str, Any]) -> dict[str, Any]:
    """A body that is accepted, from the fields' own examples."""
    return {
        name: field.get("examples", field.get("enum"))[0]
        for name, field in shape["properties"].items()
        if name in shape["required"]
    }


class PlainPage(OpenAPIRenderPlugin):
    """The OpenAPI document as one HTML page."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page for one document."""
        info = openapi_schema["info"]
        operations = [
            _operation(method, path, operation, openapi_schema)
            for path, methods in openapi_schema["paths"].items()
            for method, operation in methods.items()
        ]
        title = escape(info["title"])
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
            f"<body><h1>{title}</h1><p>{_prose(info.get('description', ''))}</p>"
            '<p><a href="/schema/openapi.json">OpenAPI document</a> · '
            '<a href="/health/ready">readiness</a> · <a href="/v1/models">models</a> · '
            f'<a href="/metrics">metrics</a></p>{"".join(operations)}</body></html>'
        ).encode()


class _Pages(Router):
    """Where the document is; what is not there is refused as everywhere else, not with a page."""

    def __init__(self) -> None:
        opt = {"scope": ("open",)}
        super().__init__("/schema", route_handlers=[], include_in_schema=False, opt=opt)

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        """Take Litestar's routes, except the one for everything else."""
        if isinstance(value, HTTPRouteHandler) and "/{path:str}" in value.paths:
            return []
        return super().register(value)


def described() -> OpenAPIConfig:
    """For `Litestar(openapi_config=...)`; each application needs its own."""
    return OpenAPIConfig(
        title="Fraud platform scorer",
        version="1",
        description=(
            "Decides payments with the verified champion model and records every decision "
            "durably before it answers. An error is never a decision: what is answered with a "
            "status from 500 on, or not at all, is not acknowledged, but may have been recorded. "
            "Send the same again under the same id: a payment is decided at most once. Where the "
            "scorer runs with a sandbox, the card ids sandbox_approve, sandbox_review, "
            "sandbox_decline, sandbox_unavailable and sandbox_slow force that outcome: mode is "
            "`sandbox`, nothing is recorded, and the payment cannot be looked up. Elsewhere they "
            "are refused with `sandbox_disabled`."
        ),
        components=Components(
            security_schemes={
                KEY_SCHEME: SecurityScheme(
                    type="http",
                    scheme="bearer",
                    description="An API key (fraud-platform keys create) or a signed token (JWT)",
                )
            }
        ),
        openapi_router=_Pages(),
        render_plugins=[PlainPage(), JsonRenderPlugin()],
        use_handler_docstrings=True,
    )


def _operation(method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    answers = "".join(
        f"<tr><td><code>{escape(status)}</code></td><td>{_prose(answer['description'])}</td>"
        f"<td>{_names(answer, document)}</td></tr>"
        for status, answer in sorted(operation["responses"].items())
    )
    return (
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{_prose(operation.get('description', ''))}</p>{_fields(body.get('schema'))}"
        f"<h3>Answers</h3><table><tr><th>Status</th><th>When</th><th>Body</th></tr>{answers}</table>"
    )


def _fields(schema: dict[str, Any] | None) -> str:
    """The body's fields as a table."""
    if schema is None:
        return ""
    note = ""
    if "oneOf" in schema:
        note, schema = _listed(schema["oneOf"])
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type(field))}</td>"
        f"<td>{'yes' if name in schema['required'] else 'no'}</td>"
        f"<td>{_prose(field.get('description', ''))}</td></tr>"
        for name, field in schema["properties"].items()
    )
    head = "<tr><th>Field</th><th>Type</th><th>Required</th><th>Meaning</th></tr>"
    return f"<h3>Body</h3>{note}<table>{head}{rows}</table>"


def _listed(shapes: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """How several may be sent at once, and what one of them looks like."""
    listed = shapes[-1]
    item = listed["items"].get("anyOf", [listed["items"]])[0]
    ways = [f"a list of up to {listed['maxItems']}"]
    names = [name for name in shapes[0]["properties"] if name not in item["properties"]]
    if names:
        ways.append(f"that list as the field <code>{escape(names[0])}</code> of an object")
    else:
        ways.insert(0, "one object")
    return f"<p>{', or '.join(ways).capitalize()}.</p>", item


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " | ".join(field["enum"])
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    return str(field.get("format") or field["type"])


def _names(answer: dict[str, Any], document: dict[str, Any]) -> str:
    """The names of an answer's fields, through one reference."""
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    shapes = []
    for option in schema.get("oneOf", [schema]):
        name = option.get("$ref", "").rpartition("/")[2]
        shape = document["components"]["schemas"].get(name, {})
        shapes.append(
            ", ".join(f"<code>{escape(field)}</code>" for field in shape.get("properties", {}))
        )
    return " or ".join(shape for shape in shapes if shape)


def _prose(text: str) -> str:
    """A description as HTML; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
