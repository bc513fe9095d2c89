"""Pages on which people vote: what waits for approval, and one proposal with a form.

Server-rendered, without a script. A vote is the same act as `fraud-platform approve|reject`: the
same rules, the same refusals, the same rows in the audit log. Nothing is promoted here: the sensor
`approvals` does what votes say.

A browser sends its password with every request, also with one that another site makes it send. So
a vote needs a proof that the form was ours, for this caller and this proposal.
"""

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import parse_qs

from litestar import MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect

from fraud_platform.access import Caller
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.model_bundle import read_card
from fraud_platform.adapters.model_history import Mandate
from fraud_platform.adapters.model_proposals import Docket
from fraud_platform.adapters.proposal_page import (
    FOLDER,
    case_page,
    is_open,
    open_page,
    vote_form,
)
from fraud_platform.approvals import Answer, Case
from fraud_platform.errors import HistoryDamagedError, PermanentError
from fraud_platform.model_card import ModelCard
from fraud_platform.roles import role_of
from fraud_platform.settings import Settings
from serving.access import ANYBODY
from serving.context import Scorer
from serving.refusals import RefusedError
from serving.schemas import ErrorOut
from serving.scopes import caller_of, needs

LOGGER = logging.getLogger("fraud_platform.scorer")

_P = ParamSpec("_P")
_T = TypeVar("_T")
_SECRET = secrets.token_bytes(32)
"""Of this process: a form of one before is refused, and the page gives another."""
_LONGEST_FORM, _MOST_FIELDS = 16_384, 8
_ANSWERS: dict[str, Answer] = {"approve": "approve", "reject": "reject"}


@get(FOLDER, opt=needs("approve"), include_in_schema=False)
async def show_proposals(scorer: NamedDependency[Scorer]) -> Response[str]:
    """Everything that waits for people."""
    cases = await _beside(_docket(scorer.settings).cases)
    return _page(open_page(cases.values(), _now_us()).html())


@get(f"{FOLDER}/{{name:str}}", opt=needs("approve"), include_in_schema=False)
async def show_proposal(
    request: Request[Any, Any, Any], name: FromPath[str], scorer: NamedDependency[Scorer]
) -> Response[str]:
    """One proposal, with a form while it may be voted on."""
    case, card = await _beside(_found, scorer.settings, name)
    now_us = _now_us()
    form = vote_form(case, _proof(caller_of(request), case)) if is_open(case, now_us) else ""
    return _page(case_page(case, now_us, card, form).html())


@post(
    f"{FOLDER}/{{name:str}}",
    opt=needs("approve"),
    include_in_schema=False,
    request_max_body_size=_LONGEST_FORM,
)
async def vote(
    request: Request[Any, Any, Any], name: FromPath[str], scorer: NamedDependency[Scorer]
) -> Redirect:
    """Say yes or no to a proposal; the page then shows the vote."""
    caller, told = caller_of(request), await _form(request)
    if caller == ANYBODY:
        raise _refused(403, "no_person", "Only who shows a key or token of their own may vote")
    if (answer := _ANSWERS.get(told.get("answer", ""))) is None:
        raise _refused(422, "invalid_field", "A vote is approve or reject")
    if not told.get("reason", "").strip():
        raise _refused(422, "invalid_field", "A vote needs a reason")
    case, _ = await _beside(_found, scorer.settings, name)
    if not hmac.compare_digest(_proof(caller, case).encode(), told.get("proof", "").encode()):
        message = "This form is not of this page, or too old; open the page again"
        raise _refused(403, "foreign_form", message)
    mandate = Mandate(
        by=caller.subject, why=told["reason"], role=role_of(caller.scopes), origin="api"
    )
    digest = case.proposal.digest
    await _beside(_docket(scorer.settings).vote, digest, answer, mandate)
    return Redirect(f"{FOLDER}/{digest}", status_code=303)


async def _beside(ask: Callable[_P, _T], *args: _P.args, **told: _P.kwargs) -> _T:
    """Ask the disk in a thread: others wait for locks there. What names files stays inside."""
    try:
        return await asyncio.to_thread(ask, *args, **told)
    except HistoryDamagedError as error:
        LOGGER.error("proposals cannot be read: %s", error.message)
        raise _refused(503, "docket_damaged", "Proposals cannot be read; see the log") from error


async def _form(request: Request[Any, Any, Any]) -> dict[str, str]:
    """The fields of a form, each once."""
    if request.content_type[0] != "application/x-www-form-urlencoded":
        raise _refused(415, "other_content", "A vote is sent by the form of the page")
    try:
        sent = (await request.body()).decode("ascii")
        found = parse_qs(sent, strict_parsing=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise _refused(422, "malformed_request", "The form cannot be read") from error
    return {name: values[0] for name, values in found.items() if len(values) == 1}


def _found(settings: Settings, name: str) -> tuple[Case, ModelCard | None]:
    """A proposal by its whole digest, and the card of its version."""
    case = _docket(settings).cases().get(name)
    if case is None:
        raise _refused(404, "unknown_proposal", "There is no proposal with this digest")
    return case, _card(settings.models_dir, case.proposal.version)


def _card(models_dir: Path, version: str) -> ModelCard | None:
    """A card that cannot be read is not shown; that its bundle is damaged, the promotion finds."""
    try:
        return read_card(models_dir / version) if version else None
    except PermanentError:
        return None


def _proof(caller: Caller, case: Case) -> str:
    """What only this process can make, for one caller and one proposal."""
    told = f"{caller.subject}\n{caller.key_id}\n{case.proposal.digest}"
    return hmac.new(_SECRET, told.encode(), sha256).hexdigest()


def _docket(settings: Settings) -> Docket:
    return Docket(settings.models_dir, governance_of(settings))


def _now_us() -> int:
    return time.time_ns() // 1000


def _page(html: str) -> Response[str]:
    return Response(html, media_type=MediaType.HTML)


def _refused(status: int, code: str, message: str) -> RefusedError:
    return RefusedError(status, ErrorOut(error=code, message=message))
