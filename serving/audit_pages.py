"""Pages of the audit: looking for a decision, and everything that can be said of one.

Plain HTML that prints: no script, no style but the house's. Each look is written down before it is
shown. What was asked for may be a card's token, typed into the wrong place: only what names a
decision, or could be nothing else, is written down as it is.
"""

import logging
import re
from collections.abc import Awaitable
from datetime import UTC, date, datetime
from html import escape
from typing import Any, TypeVar

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from pydantic import SecretStr

from fraud_platform.adapters.decision_search import MOST_FOUND, Wanted
from fraud_platform.adapters.dossier_page import dossier_page, found_page
from fraud_platform.card_number import holds_card_number
from fraud_platform.decision import Outcome
from fraud_platform.decision_dossier import DECISION_ID, covered
from fraud_platform.errors import PurgedError, UnavailableError, UnknownTransactionError
from serving.context import Scorer
from serving.looks import record_look
from serving.paths import transaction_id_of
from serving.refusals import RefusedError
from serving.schemas import ErrorOut
from serving.scopes import needs
from serving.telling import Look, LookGivenUpError, told_beside

LOGGER = logging.getLogger("fraud_platform.scorer")

_T = TypeVar("_T")
_FIELDS = {
    "id": "Payment or decision",
    "card": "Card token",
    "since": "From day",
    "until": "Before day",
    "model": "Model version",
    "outcome": "Answer",
}
_NOTE = (
    f"The newest {MOST_FOUND} at most; days are UTC and those of the payment. The link tells all."
)
_LONGEST = 256
"""Characters of what is looked for: no id in the log is longer."""
_VERSION = re.compile(r"[0-9A-Za-z._-]{1,16}")


@get("/audit", opt=needs("audit"), include_in_schema=False)
async def search_decisions(
    request: Request[Any, Any, Any], scorer: NamedDependency[Scorer]
) -> Response[str]:
    """Look for decisions by payment, card, time, model and answer."""
    asked = {name: request.query_params.get(name, "").strip() for name in _FIELDS}
    _require_fit(asked)
    wanted = Wanted(
        name=asked["id"] or None,
        card_id=asked["card"] or None,
        since=_day(asked["since"]),
        until=_day(asked["until"]),
        model=asked["model"] or None,
        outcome=asked["outcome"] or None,
    )
    told = {name: value for name, value in asked.items() if value}
    if wanted.card_id is not None:
        told["card"] = _covered(wanted.card_id, scorer.settings.token_key)
    if wanted.name is not None:
        told["id"] = await _named(wanted.name, scorer)
    await record_look(request, f"search:{','.join(told)}", told)
    found = await _told(told_beside(scorer.settings.home, Look.SEARCH, wanted))
    shown = {name: value for name, value in asked.items() if name != "card"}
    return _page(found_page(found, _form(shown), _NOTE).html())


@get("/audit/decisions/{name:str}", opt=needs("audit"), include_in_schema=False)
async def show_decision(
    request: Request[Any, Any, Any], name: FromPath[str], scorer: NamedDependency[Scorer]
) -> Response[str]:
    """Everything that can be said of one decision, taken again just now."""
    name = transaction_id_of(request)
    await record_look(request, f"decision:{await _named(name, scorer)}")
    settings = scorer.settings
    told = await _told(told_beside(settings.home, Look.DECISION, name))
    return _page(dossier_page(told, settings.dagster_url).html())


@get("/audit/decisions/{name:str}/proof", opt=needs("audit"), include_in_schema=False)
async def take_proof(
    request: Request[Any, Any, Any], name: FromPath[str], scorer: NamedDependency[Scorer]
) -> Response[bytes]:
    """A proof of what the log holds of a payment, as a file for `deploy/verify_audit.py`."""
    name = transaction_id_of(request)
    await record_look(request, f"transaction:{await _named(name, scorer)}", action="audit.prove")
    told = await _told(told_beside(scorer.settings.home, Look.PROOF, name))
    file = f'attachment; filename="proof-{told["position"]}.json"'
    return Response(
        msgspec.json.encode(told),
        media_type=MediaType.JSON,
        headers={"content-disposition": file},
    )


async def _told(look: Awaitable[_T]) -> _T:
    """What was found, or the refusal that says why not."""
    try:
        return await look
    except PurgedError as error:
        raise _refused(410, "purged_decision", error.message) from error
    except UnknownTransactionError as error:
        raise _refused(404, "unknown_decision", error.message) from error
    except LookGivenUpError as error:
        raise _refused(503, "look_given_up", f"{error.message}; try again later") from error
    except UnavailableError as error:
        # It may name files and hosts: it stays inside, as `refusals.domain_refusal` keeps it.
        LOGGER.warning("what an auditor asked for cannot be told: %s", error.message)
        message = "This cannot be told now; the scorer's log says why"
        raise _refused(503, "dossier_unavailable", message) from error


def _form(asked: dict[str, str]) -> str:
    """What to look for, filled in as it was asked; a card's token is not shown again."""
    fields = "".join(
        f'<label>{label} <input name="{name}" value="{escape(asked.get(name, ""))}"></label> '
        for name, label in _FIELDS.items()
        if name != "outcome"
    )
    options = "".join(
        f"<option{' selected' if asked['outcome'] == one else ''}>{one}</option>"
        for one in ("", *Outcome)
    )
    label = _FIELDS["outcome"]
    return (
        f'<form action="/audit" method="get">{fields}<label>{label} <select name="outcome">'
        f"{options}</select></label> <button>Look</button></form>"
    )


def _require_fit(asked: dict[str, str]) -> None:
    if any(map(holds_card_number, asked.values())):
        raise _refused(422, "card_number_refused", "Look for the token of a card, not its number")
    if any(len(value) > _LONGEST for value in asked.values()):
        raise _refused(422, "invalid_field", f"At most {_LONGEST} characters can be looked for")
    if asked["model"] and not _VERSION.fullmatch(asked["model"]):
        raise _refused(422, "invalid_field", "A model is looked for by its version, such as 3")
    if asked["outcome"] and asked["outcome"] not in set(Outcome):
        raise _refused(422, "invalid_field", f"An answer is one of {', '.join(Outcome)}")


async def _named(name: str, scorer: Scorer) -> str:
    """What names a decision or its payment as it is; anything else covered."""
    if DECISION_ID.fullmatch(name) or await scorer.engine.decision(name) is not None:
        return name
    return _covered(name, scorer.settings.token_key)


def _covered(told: str, key: SecretStr | None) -> str:
    return covered(told, None if key is None else key.get_secret_value().encode())


def _day(told: str) -> datetime | None:
    if not told:
        return None
    try:
        return datetime.combine(date.fromisoformat(told), datetime.min.time(), UTC)
    except ValueError as error:
        message = "A day is written like 2026-01-07"
        raise _refused(422, "invalid_field", message) from error


def _page(html: str) -> Response[str]:
    return Response(html, media_type=MediaType.HTML)


def _refused(status: int, code: str, message: str) -> RefusedError:
    return RefusedError(status, ErrorOut(error=code, message=message))
