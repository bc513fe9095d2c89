"""How a scorer looks at each control: not whether it is configured, but whether it works.

The guard is shown card numbers, the audit log is opened for a row, and what should move is watched
whether it moves. Each probe says what is wrong in one sentence without moving numbers, or None.
"""

import json
import time
from collections.abc import Callable, Mapping
from functools import partial

from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.control_runs import last_run
from fraud_platform.adapters.log_file import LogFile
from fraud_platform.adapters.log_seals import seals_of
from fraud_platform.controls import Control, Standstill
from fraud_platform.events import moment_of
from serving.context import Edge
from serving.controls import Probe
from serving.engine import Engine
from serving.intake import payment_from
from serving.refusals import RefusedError

_CARD_NUMBER = "4111111111111111"
"""A number of no card, which is printed in manuals everywhere."""
_BUSY_SECONDS = 2.0


class ControlProbes:
    """The probes of one scorer; for one thread beside its event loop.

    Args:
        edge: reads payments as those of senders are read.
        engine: records decisions.
        refused: how many groups the log has refused so far.
    """

    def __init__(self, edge: Edge, engine: Engine, refused: Callable[[], int]) -> None:
        settings, policy = edge.settings, edge.settings.controls
        self._edge = edge
        self._engine = engine
        self._refused = refused
        self._refused_before = 0
        self._log = LogFile(settings.log_path, busy_seconds=_BUSY_SECONDS)
        self._audit = audit_log_of(settings)
        self._seals = seals_of(settings)
        self._drain = Standstill(policy.drain_seconds)
        self._sealing = Standstill(policy.seal_seconds)
        self._runs = {
            Control.AUDIT_CHECK: (policy.check_seconds, Standstill(policy.grace_seconds)),
            Control.CARD_SCAN: (policy.scan_seconds, Standstill(policy.grace_seconds)),
        }

    @property
    def all(self) -> Mapping[Control, Probe]:
        """Every control with its probe."""
        return {
            Control.PAN_GUARD: self._pan_guard,
            Control.JOURNAL_SYNC: self._journal_sync,
            Control.JOURNAL_DRAIN: self._journal_drain,
            Control.AUDIT_LOG: self._audit.require_writable,
            Control.AUDIT_SEALS: self._audit_seals,
            **{control: partial(self._ran, control) for control in self._runs},
        }

    def _pan_guard(self) -> str | None:
        """Whether the way of every payment refuses card numbers, or keeps their tokens alone."""
        if not self._takes({}):
            return "a payment without a card number is refused, so the guard cannot be tried"
        fields = self._edge.settings.validation.no_card_numbers_in
        taken = [name for name in ("card_id", *fields) if self._takes({name: _CARD_NUMBER})]
        if taken:
            return f"a card number in {', '.join(taken)} of a payment is taken"
        return None if fields else "no field beside card_id is looked at for card numbers"

    def _takes(self, fields: Mapping[str, str]) -> bool:
        """Whether a payment with these fields is taken as it is; none is decided."""
        now_us = self._edge.clock()
        wire = {
            "transaction_id": "control",
            "event_timestamp": moment_of(now_us).isoformat(),
            "card_id": "control",
            "terminal_id": "control",
            "amount_minor": 100,
            "currency": "EUR",
        }
        try:
            payment = payment_from(json.dumps({**wire, **fields}).encode(), now_us, self._edge)
        except RefusedError:
            return False
        return all(value in repr(payment) for value in fields.values())

    def _journal_sync(self) -> str | None:
        refused, before = self._refused(), self._refused_before
        self._refused_before = refused
        if self._engine.fault is not None:
            return f"decisions cannot be recorded: {self._engine.fault.message}"
        return "groups of decisions could not be recorded" if refused > before else None

    def _journal_drain(self) -> str | None:
        rings = self._engine.rings
        if rings is None:
            return None  # nothing is decided, and another probe says so
        done, now = self._log.drained().last_seq, time.monotonic()
        stands = self._drain.stands(done=done, wanted=rings.last_seq, now=now)
        return "decisions wait in the journal, and nothing is drained" if stands else None

    def _audit_seals(self) -> str | None:
        newest = self._seals.newest(self._log.identity())
        wanted, done = self._log.drained().last_seq, newest.last if newest else 0
        stands = self._sealing.stands(done=done, wanted=wanted, now=time.monotonic())
        return "decisions wait for their seal, and none is sealed" if stands else None

    def _ran(self, control: Control) -> str | None:
        now_us = self._edge.clock()
        seconds, lateness = self._runs[control]
        run = last_run(self._edge.settings, control, now_us)
        if run.fault is not None:
            return run.fault
        # Nothing runs on a machine that is off or asleep. What is due comes soon after, and the
        # monotonic clock, which slept too, says how long it was waited for.
        due_us = now_us - int(seconds * 1e6)
        stands = lateness.stands(done=run.at_us, wanted=due_us, now=time.monotonic())
        return f"it has not run for {seconds:,.0f} seconds" if stands else None
