"""A tick of healing, and the runs that its slow remedies are; and trainings by label volume."""

import time
from collections.abc import Mapping, Sequence
from datetime import date

import dagster as dg

from assets.timing import SENSOR_SECONDS, day_of
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.governance import governance_of
from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.heal_runs import ACT_TAG, learnt
from fraud_platform.adapters.heal_standstill import tell_standstill
from fraud_platform.adapters.heal_tick import Healer, Ticked
from fraud_platform.adapters.model_history import read_history
from fraud_platform.adapters.model_proposals import Docket
from fraud_platform.adapters.model_registry import ModelRegistry
from fraud_platform.adapters.orders_file import why_frozen
from fraud_platform.adapters.tables import Tables
from fraud_platform.errors import (
    AuditUnavailableError,
    LeaseHeldError,
    PermanentError,
    UnavailableError,
)
from fraud_platform.events import moment_of
from fraud_platform.heal.actions import VERBS, Act, Action
from fraud_platform.heal.controller import Outcome
from fraud_platform.heal.doubt import Spans
from fraud_platform.heal.records import Record
from fraud_platform.retraining import Volume, patience, refusal, too_few
from fraud_platform.settings import Settings
from sensors.jobs import (
    CAUSE_TAG,
    CHAMPION,
    DAY_TAG,
    DAYS,
    REMEDY_TAG,
    range_tags,
    recalibrate,
    refold,
    retrain,
    under_way,
)
from sensors.label_feed import refusal_to_learn
from sensors.live_health import report_health

_OVER = {
    dg.DagsterRunStatus.SUCCESS: True,
    dg.DagsterRunStatus.FAILURE: False,
    dg.DagsterRunStatus.CANCELED: False,
}
_WILL_RETRY = "dagster/will_retry"
"""Dagster's tag of a run that failed and is about to be followed by another."""


@dg.sensor(
    jobs=[retrain, recalibrate, refold],
    minimum_interval_seconds=SENSOR_SECONDS,
    description="Looks, diagnoses and heals; the reason of a tick says what it found.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def heal(
    context: dg.SensorEvaluationContext,
    settings: dg.ResourceParam[Settings],
    registry: dg.ResourceParam[ModelRegistry],
    event_log: dg.ResourceParam[EventLog],
    tables: dg.ResourceParam[Tables],
) -> dg.SensorResult:
    """Tick: what runs have done is written down, then everything is looked at and acted on.

    Fast remedies are done within the tick. Slow ones are runs of their own, one per act for ever.
    """
    healer = Healer(settings, event_log, registry)
    now_us = time.time_ns() // 1000
    try:
        waiting = list(healer.ledger.state().asked)
        healer.finish(finished(context.instance, settings, waiting), now_us, by="sensor")
        ticked = healer.tick(now_us, by="sensor")
    except LeaseHeldError as error:
        return dg.SensorResult(skip_reason=error.message)
    except (PermanentError, AuditUnavailableError) as error:
        tell_standstill(settings, error, now_us)
        raise
    report_health(context.instance, settings, ticked, now_us)
    planned = healer.ledger.state().asked
    asked = [act for act in ticked.asked if act.act_id in planned]
    past = past_trainings(context.instance)
    found = [_request(act, planned[act.act_id], past, tables, settings) for act in asked]
    requests = [one for one in found if isinstance(one, dg.RunRequest)]
    waits = [one for one in found if isinstance(one, str)]
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "; ".join([told(ticked), *waits]),
    )


def told(ticked: Ticked) -> str:
    """A tick in one line: the diagnosis, what breached, and what was done."""
    if ticked.plan is None or ticked.evidence is None:
        return "no model decides yet, or no payment came"
    breached = ", ".join(signal.value for signal in ticked.evidence.breached())
    done = [record.act.action.value for record in ticked.answers if record.act]
    parts = [ticked.cause, f"breached: {breached}" if breached else ""]
    return "; ".join(filter(None, [*parts, f"did {', '.join(done)}" if done else ""]))


def finished(
    instance: dg.DagsterInstance, settings: Settings, asked: list[str]
) -> Mapping[str, Outcome]:
    """Act id -> what became of the run that is it, of those that the ledger waits for."""
    if not asked:
        return {}
    runs = instance.get_runs(dg.RunsFilter(tags={ACT_TAG: asked}))  # the newest first
    newest: dict[str, dg.DagsterRun] = {}
    for run in runs:
        newest.setdefault(run.tags[ACT_TAG], run)
    ended = {
        act_id: _ended(run, settings)
        for act_id, run in newest.items()
        if run.status in _OVER and run.tags.get(_WILL_RETRY) != "true"
    }
    return {act_id: outcome for act_id, outcome in ended.items() if outcome is not None}


def _ended(run: dg.DagsterRun, settings: Settings) -> Outcome | None:
    """What came of a run that is over; None while its version still waits."""
    if not _OVER[run.status]:
        why = f"the run {run.job_name} ended as {run.status.value}"
        return Outcome(is_done=False, after=f"run {run.run_id}", why=why)
    if run.job_name in (retrain.name, recalibrate.name):
        is_training = run.job_name == retrain.name
        docket = Docket(settings.models_dir, governance_of(settings))
        return learnt(
            run.run_id,
            read_history(settings.models_dir),
            list(docket.cases().values()),
            time.time_ns() // 1000,
            may_follow=is_training,
        )
    return Outcome(is_done=True, after=f"run {run.run_id}")


def _request(
    act: Act, planned: Record, past: Sequence[date], tables: Tables, settings: Settings
) -> dg.RunRequest | str:
    """The run that is a slow act, or what it waits for; a training may take several."""
    name = "transaction_features" if act.action is Action.REFOLD else "mature_labels"
    days = tables.days(name)
    if not days:
        return f"{act.action} waits for a day of {name}"
    day = days[-1]
    first_sign = moment_of(planned.event_us).date()
    newest_day = (tables.days("transaction_features") or days)[-1]
    waits = patience(newest_day, first_sign, settings.retraining.days_before(act.action))
    if VERBS[act.action].learns:
        waits = waits or not_now(settings, tables)
    if act.action is Action.RETRAIN:
        waits = waits or refusal(day, past, settings.retraining)
    if waits:
        return f"{act.action} waits: {waits}"
    tags = {
        REMEDY_TAG: act.action.value,
        DAY_TAG: day.isoformat(),
        CAUSE_TAG: planned.cause,
        ACT_TAG: act.act_id,
    }
    if act.action is Action.REFOLD:
        first = _first_in_doubt(HealLedger(settings.heal_ledger_path).doubtful(), days)
        return dg.RunRequest(
            run_key=act.act_id, job_name=refold.name, tags=tags | range_tags(first, day)
        )
    return dg.RunRequest(
        run_key=f"{act.act_id}:{day}" if act.action is Action.RETRAIN else act.act_id,
        job_name=act.action.value,
        partition_key=day.isoformat(),
        tags=tags,
    )


def _first_in_doubt(spans: Spans, days: Sequence[date]) -> date:
    """The first day of features that what is broken now can have reached; at least the newest."""
    broken = [moment_of(span.since_us).date() for span in spans if span.until_us is None]
    return max(days[0], min([*broken, days[-1]]))


@dg.sensor(
    job=retrain,
    minimum_interval_seconds=SENSOR_SECONDS,
    description="Starts a training when enough new frauds came of age.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def label_volume(
    context: dg.SensorEvaluationContext,
    settings: dg.ResourceParam[Settings],
    tables: dg.ResourceParam[Tables],
) -> dg.RunRequest | dg.SkipReason:
    """Train when enough new frauds came of age: the first model early, later ones by volume.

    Not while days are computed or a champion is chosen: the labels of half a history would train
    the first model, and those of the other half would ask for a second beside it.
    """
    if busy := under_way(context.instance, DAYS, CHAMPION):
        return dg.SkipReason(f"a run of {busy} is under way")
    first = read_deployment(settings.models_dir).champion is None
    trained = [] if first else tables.days("training_set")
    fresh = [day for day in tables.days("mature_labels") if not trained or day > trained[-1]]
    if not fresh:
        return dg.SkipReason("no day of labels came of age since the last training")
    labels, day = tables.read("mature_labels", fresh), fresh[-1]
    volume = Volume(days=labels["as_of_timestamp"].n_unique(), frauds=int(labels["is_fraud"].sum()))
    needed = Volume(
        days=settings.training.fewest_days if first else 1,
        frauds=settings.retraining.first_training_frauds
        if first
        else settings.retraining.retrain_new_frauds,
    )
    why_not = (
        not_now(settings, tables)
        or too_few(volume, needed)
        or refusal(day, past_trainings(context.instance), settings.retraining)
    )
    if why_not:
        return dg.SkipReason(why_not)
    return dg.RunRequest(
        run_key=f"labels:{day}",
        partition_key=day.isoformat(),
        tags={
            REMEDY_TAG: retrain.name,
            DAY_TAG: day.isoformat(),
            CAUSE_TAG: "label_volume",
            "fraud/reason": f"{volume.frauds} frauds came of age, {needed.frauds} were needed",
        },
    )


def not_now(settings: Settings, tables: Tables) -> str | None:
    """Why nothing may be learnt now: healing froze it, or verdicts have stopped; None: it may."""
    try:
        return why_frozen(settings.orders_path) or refusal_to_learn(tables)
    except UnavailableError as error:
        return error.message


def past_trainings(instance: dg.DagsterInstance) -> list[date]:
    """The days of data of trainings that ran or run, from the tags of Dagster's runs.

    A run that Dagster retries after a crash carries the same tags; it is one training.
    """
    runs = instance.get_runs(dg.RunsFilter(tags={REMEDY_TAG: retrain.name}), limit=50)
    return sorted({day_of(run.tags[DAY_TAG]) for run in runs})
