"""Everything that one tick of healing knows, gathered from where it lies.

What belongs here: looking things up. What a number means is `fraud_platform.heal`. What cannot be
looked up now makes its signal blind, and the log of the process says why.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from fraud_platform.adapters import heal_models
from fraud_platform.adapters.approved_configuration import read_approval
from fraud_platform.adapters.deployment import Deployment, Pointer, read_deployment
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.heal_money import with_money
from fraud_platform.adapters.heal_slow import slow_readings
from fraud_platform.adapters.heal_window import Newest, newest
from fraud_platform.adapters.live_file import Live, live_path, read_live
from fraud_platform.adapters.orders_file import read_orders
from fraud_platform.adapters.tables import Tables
from fraud_platform.errors import FraudPlatformError
from fraud_platform.events import moment_of
from fraud_platform.heal import clues, configuration, probes, verdicts
from fraud_platform.heal.doubt import Spans, outside
from fraud_platform.heal.evidence import Evidence, Reading, Signal, Standing
from fraud_platform.heal.monitors import payment_readings
from fraud_platform.heal.reference import MonitorPolicy, Reference, blind, floats
from fraud_platform.health import facts_from, readings_of
from fraud_platform.settings import Settings

REFERENCE_DAYS = 21
"""Days before a champion was trained whose payments are what is normal under it."""
OLDEST_REPORT_DAYS = 3
"""An older health report tells nothing of now."""
GOLDEN_US = 60_000_000
"""Stored rows are scored again in each such time of the wall, and when an artifact changed."""
_TOLD_BY_DAYS = (Signal.DISTURBED_RATE, Signal.MISSED_FRAUD, Signal.FEATURE_SHIFT, Signal.REPLAY)
_TOLD_BY_SCORERS = (Signal.DISTURBED_RATE, Signal.QUIET_RATE, Signal.LATENCY, Signal.ERRORS)
_OF_A_MODEL = (Signal.DISTURBED_RATE, Signal.QUIET_RATE)
_MOST_REFERENCE = 200_000
_NEWEST = 4_000

LOGGER = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What every look-up starts from.

    Attributes:
        settings: of the home.
        log: the event log.
        deployment: which models have a role.
        pointer: to the champion.
        newest: the newest payments.
        now_us: the clock of the wall, microseconds UTC.
        doubtful: when inputs were broken: no reference is taken from then.
        policy: bounds of the monitors.
    """

    settings: Settings
    log: EventLog
    deployment: Deployment
    pointer: Pointer
    newest: Newest
    now_us: int
    doubtful: Spans
    policy: MonitorPolicy

    @property
    def models_dir(self) -> Path:
        """Folder of the bundles."""
        return self.settings.models_dir


def gather(
    settings: Settings,
    log: EventLog,
    now_us: int,
    doubtful: Spans = (),
    policy: MonitorPolicy | None = None,
) -> Evidence | None:
    """What is known now; None while no model decides, or there is no payment: nothing to heal.

    Args:
        settings: of the home.
        log: the event log.
        now_us: the clock of the wall, microseconds UTC.
        doubtful: when inputs were broken, as the ledger says.
        policy: bounds of the monitors; None: the default ones.

    Raises:
        LogUnavailableError: the log cannot be read now.
        BundleIntegrityError: the deployment is damaged.
    """
    deployment = read_deployment(settings.models_dir)
    if deployment.champion is None:
        return None
    found = newest(log, settings.log_path, _NEWEST, deployment.champion.version)
    if not found.rows:
        return None
    scene = Scene(
        settings=settings,
        log=log,
        deployment=deployment,
        pointer=deployment.champion,
        newest=found,
        now_us=now_us,
        doubtful=doubtful,
        policy=policy or MonitorPolicy(),
    )
    told = Evidence(
        readings=_by_signal(_seen(scene), now_us),
        event_us=found.event_us,
        now_us=now_us,
        rows=found.rows,
        champion=_version(deployment.champion),
        previous=_version(deployment.previous),
        challenger=_version(deployment.challenger),
        fallbacks=tuple(deployment.fallbacks),
        orders=_tried(lambda: read_orders(settings.orders_path).digest, ""),
    )
    usable = heal_models.usable(settings.models_dir, deployment.champion)
    usual = 1.0 if usable is None else float(usable.manifest.report.get("alert_rate", 1.0))
    return _tried(lambda: with_money(told, settings, usual), told)


def _seen(scene: Scene) -> list[Reading]:
    """All readings: those of now, and of the newest day where now tells nothing, or less."""
    unread: tuple[Reading, ...] = ()
    now = [*_of_machinery(scene), *_of_payments(scene)]
    told = {one.signal for one in now if one.standing is not Standing.BLIND}
    # A scorer that speaks is asked about the present; a day of before its remedy proves nothing.
    told |= {one.signal for one in now if one.signal is Signal.DISTURBED_RATE}
    daily = _tried(lambda: _of_the_day(scene), unread)
    return [
        *(blind(signal, "no running scorer tells it") for signal in _TOLD_BY_SCORERS),
        *now,
        *(
            one
            for one in daily
            if one.signal not in told
            # Labels that came of age see missed fraud that early reports do not show yet.
            or (one.signal is Signal.MISSED_FRAUD and one.standing is Standing.BREACHED)
        ),
    ]


def _of_the_day(scene: Scene) -> tuple[Reading, ...]:
    """What the newest health report counted, if it is of this champion and not long ago."""
    tables = Tables(scene.settings.tables_dir)
    days = tables.days("health_report")[-1:]
    newest_day = moment_of(scene.newest.event_us).date()
    if not days or newest_day - days[0] > timedelta(days=OLDEST_REPORT_DAYS):
        return ()
    row = tables.read("health_report", days).row(0, named=True)
    facts = facts_from(row)
    if facts.champion_version != scene.pointer.version:
        return ()
    readings = readings_of(facts, scene.settings.health)
    return tuple(one for one in readings if one.signal in _TOLD_BY_DAYS)


def _of_machinery(scene: Scene) -> list[Reading]:
    """Signs of life, what a scorer says of itself, digests, and the age of the last change."""
    live = _tried(lambda: read_live(live_path(scene.settings.home)), None)
    heard: dict[str, int | None] = {"tick": scene.now_us}
    if live is not None:
        heard["scorer"] = live.written_us
    elif scene.newest.cards:  # a scorer decided them, and should still say so
        heard["scorer"] = None
    heartbeat = probes.heartbeat(heard, scene.now_us, scene.policy)
    if heartbeat.standing is not Standing.FINE:
        live = None  # what it said last is no news
    artifact = heal_models.artifact(scene.models_dir, scene.deployment, live)
    never: dict[str, int] = {}
    changed = _tried(lambda: heal_models.last_change(scene.models_dir), never)
    return [
        heartbeat,
        *_harms(live, scene.deployment),
        artifact,
        heal_models.golden(
            scene.models_dir, scene.pointer, scene.policy, artifact, scene.now_us // GOLDEN_US
        ),
        _tried(lambda: _configuration(scene, live), blind(Signal.CONFIGURATION, "not readable")),
        clues.change(changed, scene.now_us, scene.policy),
    ]


def _configuration(scene: Scene, live: Live | None) -> Reading:
    """What the scorer decides by, against what a person and the registry let it decide by."""
    if live is None:
        return blind(Signal.CONFIGURATION, "no scorer says what it decides by")
    approval = read_approval(scene.settings.heal_dir)
    return configuration.judged(
        None if approval is None else approval.values,
        heal_models.cuts(scene.models_dir, live.model_version),
        {**live.configuration, **live.cuts},
    )


def _harms(live: Live | None, deployment: Deployment) -> tuple[Reading, ...]:
    """What the scorer says; its rates are no news of a champion that it does not follow yet."""
    if live is None:
        return ()
    roles = (deployment.champion, *deployment.fallbacks.values())
    if live.model_version in (None, *map(_version, roles)):
        return live.readings
    why = f"the scorer still decides by version {live.model_version}"
    return tuple(
        blind(one.signal, why) if one.signal in _OF_A_MODEL else one for one in live.readings
    )


def _of_payments(scene: Scene) -> list[Reading]:
    """What payments, their decisions and their labels say."""
    unread: tuple[Reading, ...] = ()
    champion, previous = (
        heal_models.usable(scene.models_dir, pointer)
        for pointer in (scene.deployment.champion, scene.deployment.previous)
    )
    return [
        *_tried(lambda: _against_reference(scene), unread),
        probes.feature_age(scene.newest.age_us, scene.policy),
        heal_models.replay(champion, previous, scene.newest, scene.policy),
        _tried(lambda: _label_arrivals(scene), blind(Signal.LABEL_ARRIVALS, "not readable")),
        *_tried(lambda: _slow(scene), unread),
    ]


def _against_reference(scene: Scene) -> tuple[Reading, ...]:
    """The newest payments against the days before the champion was trained."""
    models_dir = str(scene.models_dir)
    reference = _learnt(scene.log, models_dir, scene.pointer, scene.doubtful, scene.policy)
    if reference is None:
        return ()
    told = payment_readings(reference, scene.newest.window, now_us=scene.now_us)
    return tuple(told.values())


def _slow(scene: Scene) -> tuple[Reading, ...]:
    return slow_readings(
        scene.settings, scene.log, scene.pointer, scene.newest, scene.now_us, scene.policy
    )


def _label_arrivals(scene: Scene) -> Reading:
    tables = Tables(scene.settings.tables_dir)
    days = tables.days("label_arrivals")[-1:]
    if not days:
        return blind(Signal.LABEL_ARRIVALS, "no day has compared its arrivals yet")
    return verdicts.label_arrivals(tables.read("label_arrivals", days))


@lru_cache(maxsize=2)
def _learnt(
    log: EventLog, models_dir: str, pointer: Pointer, doubtful: Spans, policy: MonitorPolicy
) -> Reference | None:
    """What is normal under a champion; None if its bundle is damaged, or too little is known."""
    champion = heal_models.usable(Path(models_dir), pointer)
    if champion is None:
        return None
    until = datetime.fromisoformat(champion.manifest.trained_as_of)
    known = log.transactions(until - timedelta(days=REFERENCE_DAYS), until)
    payments = outside(known.sort("event_timestamp"), doubtful).tail(_MOST_REFERENCE)
    if payments.height < policy.min_rows:
        return None
    if (payments["source"] != "scorer").any():
        payments = payments.drop("received_timestamp")  # when a file came tells nothing
    sample = champion.reference()
    return Reference(payments, sample.drop("score"), floats(sample["score"]), policy)


def _by_signal(readings: Iterable[Reading], now_us: int) -> dict[Signal, Reading]:
    """One reading a signal, each with the time of its measurement."""
    return {
        one.signal: one if one.measured_us else replace(one, measured_us=now_us) for one in readings
    }


def _version(pointer: Pointer | None) -> str | None:
    return None if pointer is None else pointer.version


def _tried(look_up: Callable[[], T], otherwise: T) -> T:
    """What is found; where it cannot be looked up now, what makes its signals blind."""
    try:
        return look_up()
    except FraudPlatformError as error:
        LOGGER.warning("healing goes on without: %s", error.message)
        return otherwise
