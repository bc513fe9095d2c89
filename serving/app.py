"""Puts the scorer together: settings in, Litestar application out.

The only place of the scorer with a real clock.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable

from litestar import Litestar, get
from litestar.di import Provide
from litestar.response import Redirect

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.state_snapshots import StateSnapshots
from fraud_platform.settings import Settings
from serving.access import Access
from serving.audit import Audit
from serving.batch import decide_payments
from serving.context import Scorer
from serving.decisions import decision_route, read_decision
from serving.docs import OPENAPI
from serving.engine import Engine
from serving.headers import add_headers
from serving.health import Readiness, live, metrics, ready
from serving.labels import record_labels
from serving.metrics import Metrics
from serving.models import read_models
from serving.paths import ScorerApp
from serving.refusals import Refusals
from serving.residents import Residents
from serving.scopes import Guard, for_everybody, refuse_undeclared

_BUSY_SECONDS = 2.0
"""A payment waits no longer for another writer; its sender is told to come back instead."""


def wall_clock() -> int:
    """Microseconds since 1970-01-01 UTC, now."""
    return time.time_ns() // 1_000


def create_app(settings: Settings, *, clock: Callable[[], int] = wall_clock) -> Litestar:
    """The scorer of one installation.

    Args:
        settings: paths, policies and the polling interval.
        clock: microseconds since 1970-01-01 UTC; tests pass their own.

    Raises:
        PermanentError: a route does not say who may use it, or the access policy cannot hold.
    """
    return assemble(build_scorer(settings, clock))


def assemble(scorer: Scorer, *, is_hot: bool = True) -> Litestar:
    """The application around the parts of a scorer.

    Args:
        scorer: the parts, not started.
        is_hot: whether decisions take the short way; tests compare it with Litestar's own.
    """
    readiness = Readiness(scorer)
    app = ScorerApp(
        [
            decision_route(scorer, is_hot=is_hot),
            decide_payments,
            read_decision,
            record_labels,
            read_models,
            live,
            ready,
            metrics,
            root,
        ],
        before_send=[add_headers],
        dependencies={
            "scorer": Provide(lambda: scorer, sync_to_thread=False, use_cache=True),
            "readiness": Provide(lambda: readiness, sync_to_thread=False, use_cache=True),
        },
        exception_handlers=Refusals(scorer.metrics.refused).handlers(),
        guards=[Guard(scorer.access)],
        lifespan=[lambda _: _running(scorer)],
        logging_config=None,
        openapi_config=OPENAPI,
    )
    refuse_undeclared(app.routes)
    return app


def build_scorer(settings: Settings, clock: Callable[[], int]) -> Scorer:
    """The parts of one scorer, not started yet; nothing is opened."""
    counted = Metrics()
    champion = Residents(
        settings.models_dir,
        settings.decision,
        poll_seconds=settings.champion_poll_seconds,
        metrics=counted,
    )
    engine = Engine(
        EventLog(settings.log_path, busy_seconds=_BUSY_SECONDS),
        lambda: champion.ruling,
        clock=clock,
        metrics=counted,
        snapshots=StateSnapshots(settings.state_dir),
    )
    access = Access(settings, clock=clock)
    return Scorer(settings, engine, champion, counted, access, settings.edge_token_keys, clock)


@get("/", include_in_schema=False, opt=for_everybody())
async def root() -> Redirect:
    """The page that describes the API."""
    return Redirect("/schema")


@contextlib.asynccontextmanager
async def _running(scorer: Scorer) -> AsyncIterator[None]:
    """Fold the history, take the champion, serve, and let go in the opposite order."""
    await scorer.engine.start()
    await scorer.champion.look()
    seconds = scorer.settings.state_check_seconds
    audit = Audit(scorer.settings.home, scorer.engine, seconds=seconds, metrics=scorer.metrics)
    tasks = [asyncio.create_task(task) for task in (scorer.champion.run(), audit.run())]
    # What lives now lives long: a full collection over the rings would pause every request.
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await scorer.engine.stop()
