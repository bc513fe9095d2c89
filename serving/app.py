"""Puts the scorer together: settings in, Litestar application out.

The only place of the scorer with a real clock.
"""

import asyncio
import contextlib
import gc
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

from litestar import get
from litestar.di import Provide
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.drain import readable
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.exploration_key import explorer_at
from fraud_platform.adapters.journal_disk import FolderDisk
from fraud_platform.adapters.ledger import Ledger
from fraud_platform.adapters.live_file import live_path
from fraud_platform.adapters.log_file import JOURNAL_FOLDER, LogFile
from fraud_platform.adapters.past_policies import seal_policies
from fraud_platform.adapters.promotion_signature import Depot, keys_of
from fraud_platform.adapters.state_snapshots import StateSnapshots
from fraud_platform.errors import LogUnavailableError
from fraud_platform.heal.configuration import settings_of
from fraud_platform.settings import Settings
from fraud_platform.worth import Worth
from serving.access import Access
from serving.audit_metrics import AuditMetrics
from serving.audit_pages import search_decisions, show_decision, take_proof
from serving.audit_queue import read_audits
from serving.batch import decide_payments
from serving.children import Child
from serving.context import Edge, Scorer
from serving.control_probes import ControlProbes
from serving.controls import ControlWatch
from serving.decisions import decide_payment, read_decision
from serving.docs import described
from serving.engine import Engine
from serving.explanation import explain_decision
from serving.exploration import count_audits, show_exposure
from serving.governing import Governing, governing_of
from serving.governor_metrics import GovernorMetrics
from serving.harm import HarmWatch, Told
from serving.headers import add_headers
from serving.health import Readiness, live, metrics, ready
from serving.hot_route import HotDecisions
from serving.labels import record_labels
from serving.metrics import Metrics
from serving.mirror_metrics import MirrorMetrics
from serving.model_metrics import ModelMetrics
from serving.models import read_models
from serving.orders import OrdersWatch
from serving.orders_metrics import OrdersMetrics
from serving.owner_socket import OwnerSocket
from serving.parts import Parts
from serving.paths import ScorerApp
from serving.process_metrics import watched_process
from serving.proposal_pages import show_proposal, show_proposals, vote
from serving.refusals import Refusals
from serving.residents import Residents
from serving.ruling import resident_of
from serving.scopes import Guard, document_keys, for_everybody, refuse_undeclared
from serving.stance import StanceWatch
from serving.state_check import StateCheck
from serving.surroundings import Surroundings
from serving.upkeep import Named

_BUSY_SECONDS = 2.0
"""A payment waits no longer for another writer; its sender is told to come back instead."""


def wall_clock() -> int:
    """Microseconds since 1970-01-01 UTC, now."""
    return time.time_ns() // 1_000


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], int] = wall_clock,
    children: tuple[Child, ...] = (),
    door: OwnerSocket | None = None,
) -> ScorerApp:
    """The scorer of one installation.

    Args:
        settings: paths, policies and the polling interval.
        clock: microseconds since 1970-01-01 UTC; tests pass their own.
        children: programs to keep running beside it.
        door: where its fronts come in; None: it has none.

    Raises:
        PermanentError: a route does not say who may use it, or the access policy cannot hold.
    """
    return assemble(build_scorer(settings, clock, children, door))


def assemble(scorer: Scorer) -> ScorerApp:
    """The application around the parts of a scorer, which are not started yet."""
    readiness = Readiness(scorer)
    return application(
        scorer,
        [
            decide_payment,
            decide_payments,
            read_decision,
            explain_decision,
            record_labels,
            read_models,
            read_audits,
            search_decisions,
            show_decision,
            take_proof,
            show_proposals,
            show_proposal,
            vote,
            live,
            ready,
            metrics,
            root,
        ],
        Provide(lambda: readiness, sync_to_thread=False, use_cache=True),
        refused=scorer.metrics.refused,
        running=lambda: _running(scorer),
    )


def assemble_edge(
    edge: Edge,
    *,
    refused: Callable[[str], None],
    running: Callable[[], AbstractAsyncContextManager[None]],
) -> ScorerApp:
    """The application of a front: the routes that need no more than an edge.

    Args:
        edge: the parts.
        refused: counts a refusal by its code.
        running: holds what the application needs while it runs.
    """
    routes = [decide_payment, decide_payments, read_decision, record_labels]
    return application(edge, routes, None, refused=refused, running=running)


def application(
    edge: Edge,
    routes: Sequence[ControllerRouterHandler],
    readiness: Provide | None,
    *,
    refused: Callable[[str], None],
    running: Callable[[], AbstractAsyncContextManager[None]],
) -> ScorerApp:
    """These routes with everything that all of them have in common.

    Args:
        edge: what routes are handed as `scorer`.
        routes: the handlers.
        readiness: what routes are handed by this name; None: no route asks.
        refused: counts a refusal by its code.
        running: holds what the application needs while it runs.
    """
    provided = {"scorer": Provide(lambda: edge, sync_to_thread=False, use_cache=True)}
    refusals = Refusals(refused)
    app = ScorerApp(
        routes,
        before_send=[add_headers],
        dependencies=provided if readiness is None else {**provided, "readiness": readiness},
        exception_handlers=refusals.handlers(),
        guards=[Guard(edge.access, audit_log_of(edge.settings))],
        lifespan=[lambda _: running()],
        logging_config=None,
        openapi_config=described(),
    )
    refuse_undeclared(app.routes)
    document_keys(app.routes)
    app.hot = HotDecisions(edge, refusals)
    return app


def build_scorer(
    settings: Settings,
    clock: Callable[[], int],
    children: tuple[Child, ...] = (),
    door: OwnerSocket | None = None,
) -> Scorer:
    """The parts of one scorer, not started yet; its policies are kept for those who ask later."""
    seal_policies(settings)
    counted = Metrics()
    champion = Residents(
        Depot(settings.models_dir, settings.promotion_keys or keys_of(settings.models_dir)),
        settings.decision,
        poll_seconds=settings.champion_poll_seconds,
        metrics=counted,
        ready=partial(
            resident_of,
            policy=settings.decision,
            explorer=explorer_at(settings.exploration_key_path, settings.exploration),
            governor=settings.governor,
            worth=Worth.of(settings.worth, settings.money),
        ),
    )
    governing = governing_of(settings)
    counted.registry.register(ModelMetrics(champion))
    counted.registry.register(MirrorMetrics(settings.log_path))
    counted.registry.register(AuditMetrics(settings.audit_dir / "audit.db"))
    orders = OrdersWatch(settings.orders_path, lambda: champion.ruling)
    counted.registry.register(OrdersMetrics(orders))
    if governing is not None:
        counted.registry.register(GovernorMetrics(governing))
    engine = Engine(
        Parts(
            ledger=lambda: open_ledger(settings.log_path),
            log=EventLog(settings.log_path, busy_seconds=_BUSY_SECONDS),
            snapshots=StateSnapshots(settings.state_dir),
            ruling=lambda: orders.ruling,
            stance=lambda: stance.stance,
            clock=clock,
            metrics=counted,
            durability=settings.journal_mode,
            queue_limit=settings.queue_limit,
            governing=governing,
        )
    )
    show_exposure(counted, engine, clock)
    stance = StanceWatch(
        settings.mode_path,
        settings.modes,
        Surroundings(settings, engine, orders, clock).situation,
        clock=time.monotonic,
        changed=counted.took_stance,
    )
    told = partial(_told, orders, stance, governing, _deciding(settings))
    harm = HarmWatch(live_path(settings.home), settings.harm, told, clock)
    counted.harm = harm
    counted.registry.register(harm)
    access = Access(settings, clock=clock)
    edge = Edge(settings, engine, access, settings.edge_token_keys, clock)
    probes = ControlProbes(edge, engine, lambda: counted.groups_refused)
    controls = ControlWatch(settings, probes.all, clock)
    counted.registry.register(controls)
    return Scorer(
        settings=settings,
        engine=engine,
        access=access,
        token_keys=settings.edge_token_keys,
        clock=clock,
        champion=champion,
        orders=orders,
        stance=stance,
        metrics=counted,
        governing=governing,
        harm=harm,
        controls=controls,
        children=children,
        door=door,
    )


def _deciding(settings: Settings) -> dict[str, str]:
    """The settings that decisions follow from."""
    return settings_of(
        decision=settings.decision,
        exploration=settings.exploration,
        governor=settings.governor,
        worth=settings.worth,
        **({"money": settings.money} if settings.worth.is_on else {}),
    )


def _told(
    orders: OrdersWatch,
    stance: StanceWatch,
    governing: Governing | None,
    deciding: Mapping[str, str],
) -> Told:
    """What is written about a scorer beside its harm."""
    governor = governing.arms.get(orders.ruling.lead) if governing else None
    numbers = governor.cuts._asdict() if governor else {}
    return Told(
        ruling=orders.ruling,
        mode=stance.stance.mode,
        orders_sequence=orders.orders.sequence if orders.orders else 0,
        governor={name: float(value) for name, value in numbers.items() if value is not None},
        configuration=deciding,
    )


def open_ledger(path: Path) -> Ledger:
    """The log at this path, to be written by this process alone.

    Raises:
        LogUnavailableError: the folder or the file cannot be used.
        PermanentError: another scorer owns it.
    """
    disk = FolderDisk(path.with_name(JOURNAL_FOLDER))
    with readable():
        return Ledger(disk, LogFile(path, busy_seconds=_BUSY_SECONDS))


@get("/", include_in_schema=False, opt=for_everybody())
async def root() -> Redirect:
    """The page that describes the API."""
    return Redirect("/schema")


@contextlib.asynccontextmanager
async def _running(scorer: Scorer) -> AsyncIterator[None]:
    """Take the log, the state, the models and a mode, serve, and let go in the opposite order."""
    with watched_process(scorer.metrics.registry), _looking_on_sighup(scorer.champion):
        async with _started(scorer):
            yield


@contextlib.asynccontextmanager
async def _started(scorer: Scorer) -> AsyncIterator[None]:
    await scorer.engine.start()
    await scorer.orders.look()
    await scorer.champion.look()
    await scorer.stance.look()
    if scorer.governing is not None:
        # Without a log nothing is decided either; the first group asks again.
        with contextlib.suppress(LogUnavailableError):
            await scorer.governing.look_at_audits(scorer.clock())
            scorer.governing.begin(scorer.orders.ruling)
    if scorer.door is not None:
        await scorer.door.open(scorer.engine, scorer.metrics)
    try:
        async with scorer.upkeep.lasting(_lasting(scorer)):
            # What lives now lives long: a full collection over the state would pause all requests.
            gc.collect()
            gc.freeze()
            yield
    finally:
        await scorer.engine.stop()
        if scorer.door is not None:
            scorer.door.close()


def _lasting(scorer: Scorer) -> list[Named]:
    """What goes on beside the answers."""
    found = [
        ("the watch over the models", scorer.champion.run()),
        ("the watch over the orders", scorer.orders.run()),
        ("the watch over the mode", scorer.stance.run()),
        ("the count of harm", scorer.harm.run()),
        ("the watch over the controls", scorer.controls.run()),
        *((f"keeping {child.name} running", child.run()) for child in scorer.children),
    ]
    if scorer.governing is not None:
        found.append(("the look at the audits", scorer.governing.follow_audits(scorer.clock)))
    if scorer.settings.exploration.is_on:
        counting = count_audits(scorer.settings.log_path, scorer.metrics)
        found.append(("the count of open audits", counting))
    seconds = scorer.settings.state_check_seconds
    if seconds:
        check = StateCheck(
            scorer.settings.home, scorer.engine, seconds=seconds, metrics=scorer.metrics
        )
        found.append(("the check of the state", check.run()))
    return found


@contextlib.contextmanager
def _looking_on_sighup(champion: Residents) -> Iterator[None]:
    """Look at the deployed models at once when a person or a supervisor says so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # embedded in another program, whose signals are its own
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, champion.nudge)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
