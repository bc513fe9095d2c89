"""The demonstration as a sequence: train, serve, an incident, its healing, and a broken feed.

Everything happens in real processes: Dagster's daemon runs the real sensors on a real instance, the
scorer is a server of its own. This only sends traffic and watches.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl

from fraud_platform import processes
from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.deployment import read_deployment
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.file_acts import recorded_file
from fraud_platform.adapters.heal_ledger import HealLedger
from fraud_platform.adapters.home import (
    occupied,
    start_demo_home,
    write_demo_facts,
    write_settings,
)
from fraud_platform.adapters.ingest import IngestSummary, Progress, ingest, read_mapping
from fraud_platform.adapters.model_bundle import Bundle, load_bundle
from fraud_platform.adapters.operator import operator_of
from fraud_platform.adapters.orders_file import read_orders
from fraud_platform.adapters.tables import Tables
from fraud_platform.adapters.world_file import write_world
from fraud_platform.demo.healed import held, ledger_lines, quarantined
from fraud_platform.demo.plan import BROKEN_DAYS, HEALTHY_DAYS, Plan, in_cents, make_plan
from fraud_platform.demo.proof import before_and_after, card, span
from fraud_platform.demo.screen import Screen, model_line
from fraud_platform.demo.traffic import Traffic
from fraud_platform.errors import PermanentError, UnavailableError
from fraud_platform.events import moment_of
from fraud_platform.features import parity
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.heal.actions import Action
from fraud_platform.heal.records import Kind, Record
from fraud_platform.mapping import Mapping as Mapped
from fraud_platform.orders import Orders
from fraud_platform.retraining import patience, refusal
from fraud_platform.settings import Settings

REQUESTS_PER_DAY = 500
"""Payments a day that are sent over HTTP; the others of the day enter by file."""

_INCIDENT, _BROKEN = "covariate_shift", "unit_change"
_PATIENCE_SECONDS = 480
_LOOK_SECONDS = 0.3
_LAG = timedelta(days=2)  # so far may payments be ahead of what was made of them
_TRICKLE = 4  # payments per look while waiting, so that the scorer is never idle


def run_demo(
    *, home: Path, data: Path | None, mapping_path: Path | None, days: int | None, as_json: bool
) -> bool:
    """Play the whole loop once and print what happened.

    Args:
        home: the platform's home; an earlier demonstration in it is replaced.
        data: the user's file, or None for a simulated world.
        mapping_path: what its columns mean.
        days: use the first so many days.
        as_json: print only the facts, as JSON.

    Returns:
        Whether the loop closed: the bound on disturbed customers held, causes named, the scorer
        swapped to new cuts, a broken feed quarantined and not learnt from, and no request left
        without an answer.

    Raises:
        PermanentError: the home is in use or holds something else; the data are too short.
        UnavailableError: a process ended, or did not do its part in time.
    """
    screen = Screen(quiet=as_json)
    with occupied(home), ExitStack() as stack:
        if data is not None and home.resolve() in data.resolve().parents:
            raise PermanentError(
                f"found the data inside {home}, which a demonstration empties first",
                hint="move the file, or name another home: FRAUD_HOME=...",
            )
        processes.end_strays(home)
        start_demo_home(home)
        told = Settings(home=home)
        key = told.token_key.get_secret_value().encode() if told.token_key else None
        plan = make_plan(home, data, mapping_path, days, key)
        write_settings(home, plan.settings())
        settings = Settings(home=home, scorer_port=processes.free_port())
        facts = Story(plan, settings, screen, stack).play()
    write_demo_facts(home, facts)
    if as_json:
        screen.print(json.dumps(facts, indent=1))
    else:
        screen.table(facts)
    return bool(facts["loop_closed"])


class Story:
    """One run of the demonstration.

    Args:
        plan: the days and their data.
        settings: of the demonstration's home.
        screen: where people look.
        stack: ends the processes.
    """

    def __init__(self, plan: Plan, settings: Settings, screen: Screen, stack: ExitStack) -> None:
        self._plan = plan
        self._settings = settings
        self._screen = screen
        self._stack = stack
        self._facts: dict[str, object] = {}
        self._log = EventLog(settings.log_path)
        self._tables = Tables(settings.tables_dir)
        self._running: dict[str, processes.Child] = {}
        self._traffic = Traffic(f"http://{settings.scorer_host}:{settings.scorer_port}")
        self._next_day = self._broken_from = plan.stream_from
        self._labels_told = 0
        self._is_in_cents = False
        self._reserve: Iterator[pl.DataFrame] | None = None

    def play(self) -> dict[str, object]:
        """Everything, in order; returns the facts."""
        self._take_history()
        self._start("daemon", processes.daemon_command())
        first = self._first_champion()
        self._start_scorer()
        while self._next_day < self._plan.drift_from:
            self._stream_day()
        self._wait("a health report", lambda: self._report(self._newest_closed()))
        cause = self._health()[-1]["cause"]
        self._screen.say(f"{HEALTHY_DAYS} ordinary days streamed; health: {cause}")
        self._incident(first)
        self._broken_feed()
        return self._conclude(first)

    def _take_history(self) -> None:
        with self._screen.bar("history into the event log") as progress:
            summary = self._ingest(self._plan.history, self._plan.mapping, progress)
        # It holds the user's rows as they came, perhaps with card numbers that were refused.
        self._plan.history.unlink()
        # One payment of the next day closes the last day of the history.
        self._enter(self._plan.of(self._next_day).head(1))
        self._facts["history"] = summary.to_dict()
        self._screen.say(
            f"history: {summary.rows_in:,} rows in, {summary.accepted:,} accepted,"
            f" {sum(summary.quarantined.values()):,} quarantined,"
            f" {summary.labels_accepted:,} labels"
        )

    def _first_champion(self) -> Bundle:
        self._screen.say("Dagster's sensors turn the days into tables and train the first model")
        self._wait(
            "the first champion", lambda: read_deployment(self._settings.models_dir).champion
        )
        champion = self._champion()
        self._facts["first_champion"] = card(champion)
        self._screen.say(f"first champion: {model_line(card(champion))}")
        return champion

    def _start_scorer(self) -> None:
        self._start("scorer", processes.scorer_command())
        self._wait("the scorer", self._scorer_is_ready, trickle=False)
        self._screen.say(f"scorer ready at {self._traffic.address}")

    def _scorer_is_ready(self) -> bool:
        try:
            return httpx.get(f"{self._traffic.address}/health/ready", timeout=5).is_success
        except httpx.TransportError:
            return False

    def _incident(self, first: Bundle) -> None:
        """Stream the incident until a remedy is verified, or refuted."""
        self._screen.say(
            f"from {self._plan.drift_from} on everything costs 30 % more, 45 % of the payments move"
            " to the web and to wallets, and 28 % to new countries"
        )
        told, end = 0, self._plan.last_day - timedelta(days=BROKEN_DAYS)
        while self._next_day <= end and not self._judged():
            self._stream_day()
            self._wait(f"the verdict on {self._newest_closed()}", self._is_settled)
            told = self._tell_of_healing(told)
        now = self._champion()
        if now.manifest.version != first.manifest.version:
            self._screen.say(f"the running scorer decides with {model_line(card(now))}")

    def _judged(self) -> bool:
        """Whether a remedy of the incident was verified or refuted."""
        return any(
            record.kind in (Kind.VERIFIED, Kind.REFUTED) and record.cause == _INCIDENT
            for record in self._ledger.records()
        )

    def _broken_feed(self) -> None:
        """A sender changes the unit of amounts: a training now would learn the mistake."""
        self._is_in_cents, self._reserve = True, None
        self._broken_from = self._next_day
        self._screen.say(f"from {self._next_day} on a sender multiplies all amounts by 100")
        told = len(ledger_lines(self._ledger.records()))
        self._stream_day()
        self._wait("healing to decide without amounts", lambda: self._orders.set_aside)
        self._wait("the scorer to obey", lambda: self._traffic.last_arm == "fallback")
        self._traffic.ask(self._unsent(self._next_day).head(REQUESTS_PER_DAY))
        # A few values beyond all bounds are seen first; that all are in cents takes some more.
        self._wait("the unit to be named", lambda: self._is_named(_BROKEN))
        self._tell_of_healing(told)

    def _is_named(self, cause: str) -> bool:
        return any(
            record.kind is Kind.DIAGNOSED and record.cause == cause
            for record in self._ledger.records()
        )

    def _tell_of_healing(self, told: int) -> int:
        """Say what the ledger has more than was told; how many lines are told now."""
        lines = ledger_lines(self._ledger.records())
        for line in lines[told:]:
            self._screen.say(" ".join(filter(None, (line["kind"], line["cause"], line["act"]))))
        return len(lines)

    def _conclude(self, first: Bundle) -> dict[str, object]:
        now, plan = self._champion(), self._plan
        days = [d for d in self._tables.days("transaction_features") if d >= plan.stream_from]
        features = self._tables.read("transaction_features", days)
        sound = features.filter(pl.col("event_timestamp").dt.date() < self._broken_from)
        served = parity.compare(features, self._log.decisions(*span(days[0], days[-1])))
        found: dict[str, object] = {
            "loop_closed": False,
            "second_champion": card(now),
            "features": len(FEATURE_NAMES),
            "labels_told": self._labels_told,
            "requests_answered": sum(self._traffic.answered.values()),
            "requests_failed": sum(self._traffic.failed.values()),
            "failures": dict(self._traffic.failed),
            "answered_by_version": dict(self._traffic.answered),
            "outcomes": dict(self._traffic.outcomes),
            "health": self._health(),
            "before_and_after": before_and_after(sound, plan.payments, first, now),
            "served_features": served.to_dict(),
            **self._healed(now),
            "alerts": Alerts(self._settings.alerts_path).read(),
            "seconds": round(self._screen.elapsed(), 1),
            "home": str(self._settings.home),
        }
        exact = served.mismatches == 0 and served.missing == 0
        swapped = {first.manifest.version, now.manifest.version} <= set(self._traffic.answered)
        closed = exact and swapped and not self._traffic.failed
        return self._facts | found | {"loop_closed": closed and _is_healed(found)}

    def _healed(self, now: Bundle) -> dict[str, object]:
        """What healing held and did."""
        plan, end = self._plan, self._broken_from - timedelta(days=1)
        orders = self._orders
        in_cents = self._log.decisions(*span(self._broken_from, self._next_day))
        return {
            "held": held(self._log.decisions(*span(plan.drift_from, end)), plan.payments),
            "ledger": ledger_lines(self._ledger.records()),
            "broken_feed": {
                "quarantined": list(orders.set_aside),
                "learning_frozen": orders.learning_frozen,
                **quarantined(in_cents, now),
            },
        }

    @property
    def _ledger(self) -> HealLedger:
        return HealLedger(self._settings.heal_ledger_path)

    @property
    def _orders(self) -> Orders:
        return read_orders(self._settings.orders_path)

    def _stream_day(self) -> None:
        """One day: most payments by file, an even sample over HTTP, then what became known."""
        day, self._reserve = self._next_day, None
        payments = self._unsent(day)
        over_http = payments.gather_every(max(1, payments.height // REQUESTS_PER_DAY))
        self._enter(payments.join(over_http, on="transaction_id", how="anti"))
        with self._screen.bar(f"payments of {day}") as progress:
            self._traffic.ask(over_http, progress)
        self._next_day = day + timedelta(days=1)
        known = self._plan.payments.filter(
            "is_fraud", pl.col("label_timestamp").dt.date() == day
        ).filter(pl.col("event_timestamp").dt.date() <= day)
        self._labels_told += self._traffic.tell(known)

    def _enter(self, payments: pl.DataFrame) -> None:
        """Payments that reach the platform by file, without their labels."""
        path = self._settings.home / "demo" / "arrivals.parquet"
        mapping = write_world(payments.with_columns(is_fraud=pl.lit(value=False)), path)
        self._ingest(path, read_mapping(mapping))

    def _ingest(
        self, path: Path, mapping: Mapped, progress: Progress | None = None
    ) -> IngestSummary:
        """As the command `ingest` does it: the audit log has the digest before any row is taken."""
        settings, key = self._settings, self._settings.token_key
        operator = operator_of(settings, "ingest")
        with recorded_file("log.ingest", path, operator, settings) as counts:
            summary = ingest(
                path,
                mapping,
                log=self._log,
                policy=settings.validation,
                received=datetime.now(UTC),
                token_key=key.get_secret_value().encode() if key else None,
                progress=progress,
            )
            counts.update(summary.to_dict())
        return summary

    def _unsent(self, day: date) -> pl.DataFrame:
        """The day's payments that the log does not have yet; waiting may have sent some."""
        known = self._log.transactions(*span(day, day)).select("transaction_id")
        payments = self._plan.of(day)
        if self._is_in_cents:
            payments = in_cents(payments)
        return payments.join(known, on="transaction_id", how="anti", maintain_order="left")

    def _newest_closed(self) -> date:
        """The newest day that is complete: the log has payments of the day after."""
        newest = self._log.newest_event_timestamp()
        assert newest is not None  # noqa: S101 -- the history is in
        return newest.date() - timedelta(days=1)

    def _champion(self) -> Bundle:
        pointer = read_deployment(self._settings.models_dir).champion
        assert pointer is not None  # noqa: S101 -- waited for
        return load_bundle(self._settings.models_dir / pointer.path)

    def _report(self, day: date) -> dict[str, object] | None:
        """The health report of one day, or None while there is none."""
        if day not in self._tables.days("health_report"):
            return None
        return self._tables.read("health_report", [day]).row(0, named=True)

    def _health(self) -> list[dict[str, str]]:
        """The days on which the diagnosis changed, since streaming began."""
        days = [d for d in self._tables.days("health_report") if d >= self._plan.stream_from]
        changes: list[dict[str, str]] = []
        for row in self._tables.read("health_report", days).iter_rows(named=True):
            if not changes or changes[-1]["cause"] != row["cause"]:
                changes.append({"from": str(row["day"]), "cause": row["cause"]})
        return changes

    def _is_settled(self) -> bool:
        """Whether more days may come: nothing is under way but what waits for them."""
        day = self._newest_closed()
        asked = self._ledger.state().asked.values()
        if asked:
            return all(self._must_wait(one, day) for one in asked)
        return self._report(day - _LAG) is not None

    def _must_wait(self, planned: Record, day: date) -> bool:
        """Whether it learns what the data do not hold yet, or rests since its last try."""
        assert planned.act is not None  # noqa: S101 -- that is what was planned
        action, policy = planned.act.action, self._settings.retraining
        if patience(day, moment_of(planned.event_us).date(), policy.days_before(action)):
            return True
        tries = [d for d in self._tables.days("model_comparison") if d >= self._plan.stream_from]
        return action is Action.RETRAIN and bool(refusal(day, tries, policy))

    def _wait(self, what: str, done: Callable[[], object], *, trickle: bool = True) -> None:
        """Watch until something is there; the payment system goes on asking meanwhile.

        Raises:
            UnavailableError: a process ended, a run failed, or it takes too long.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not done():
            self._must_be_well(what)
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"found nothing of {what} after {_PATIENCE_SECONDS} s",
                    hint=f"read the logs in {self._settings.home / 'logs'}",
                )
            if trickle and "scorer" in self._running:
                self._trickle()
            time.sleep(_LOOK_SECONDS)

    def _trickle(self) -> None:
        """A few payments of the day that is next."""
        if self._reserve is None:
            self._reserve = self._unsent(self._next_day).iter_slices(_TRICKLE)
        payments = next(self._reserve, None)
        if payments is not None:
            self._traffic.ask(payments)

    def _must_be_well(self, what: str) -> None:
        logs = self._settings.home / "logs"
        for name, process in self._running.items():
            if process.poll() is not None:
                raise UnavailableError(
                    f"found the {name} ended with code {process.returncode} while waiting for"
                    f" {what}",
                    hint=f"read {logs / name}.log",
                )
        if alerts := Alerts(self._settings.alerts_path).read():
            raise UnavailableError(
                f"found an alert while waiting for {what}: {alerts[-1]['text']}",
                hint=f"read {self._settings.alerts_path} and {logs}",
            )

    def _start(self, name: str, command: list[str]) -> None:
        log = self._settings.home.resolve() / "logs" / f"{name}.log"
        environment = processes.environment(self._settings)
        self._running[name] = self._stack.enter_context(
            processes.running(command, environment, log)
        )


def _is_healed(found: Mapping[str, Any]) -> bool:
    """Whether the bound held, every cause was named by its own name, and the feed set aside."""
    told = {(line["kind"], line["cause"]) for line in found["ledger"]}
    feed, share = found["broken_feed"], found["held"]
    return (
        {(Kind.DONE, _INCIDENT), (Kind.DIAGNOSED, _BROKEN)} <= told
        and share["with_governor"] < share["models_alone"]
        and feed["learning_frozen"]
        and feed["decided_by_fallback"] > 0
    )
