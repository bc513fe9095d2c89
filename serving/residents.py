"""Keeping the deployed models in memory: poll the deployment, verify in a thread, swap at once.

The registry may be away, a bundle broken, or a role not signed by the promotion: the last good
model keeps deciding. Moving roles is `adapters.model_registry`; verifying a bundle is
`adapters.model_bundle`, and who signed is `adapters.promotion_signature`.
"""

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from fraud_platform.adapters.deployment import (
    DEPLOYMENT,
    Deployment,
    Pointer,
    fallback_role,
    read_deployment,
)
from fraud_platform.adapters.model_bundle import Bundle, load_pointed
from fraud_platform.adapters.promotion_signature import Depot, untrusted
from fraud_platform.decision import DecisionPolicy
from fraud_platform.errors import FraudPlatformError, PermanentError
from serving.metrics import Metrics
from serving.ruling import Resident, Ruling, resident_of, rules_only

LOGGER = logging.getLogger("fraud_platform.scorer")

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 60.0

_DEFECT_SECONDS = 1.0
"""After a look that failed in a way nobody foresaw, the next one waits so long."""

_GLANCES = 4
"""So often per poll it is asked whether the file looks otherwise, which costs almost nothing."""

Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class _Refusal:
    """Why a bundle was not taken, what it looked like then, and when to try again by itself."""

    reason: str
    fingerprint: Fingerprint
    tries: int
    again_at: float | None  # None: only when it looks otherwise


class Residents:
    """The ruling in force, and the task that replaces it.

    Args:
        depot: bundles, deployment and the keys that count.
        policy: the decision policy in force.
        poll_seconds: how often to look, seconds.
        metrics: where swaps and failures are counted.
        ready: makes a verified bundle ready to decide; None: by the policy alone.
        clock: seconds that never go back.

    Attributes:
        ruling: one frozen object; replaced as a whole, never changed.
        load_errors: role -> why the deployed model does not have it; "deployment" when the file
            itself cannot be read.
        defects: how often a look failed in a way nobody foresaw.
        fallbacks: how many models were found to be scored or explained through the library's
            slower public call.
    """

    def __init__(
        self,
        depot: Depot,
        policy: DecisionPolicy,
        *,
        poll_seconds: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        ready: Callable[[Bundle], Resident] | None = None,
    ) -> None:
        self._models_dir, self._keys_dir = depot.models_dir, depot.keys_dir
        self._untrusted: dict[str, str] = {}
        self._policy = policy
        self._poll_seconds = poll_seconds
        self._metrics = metrics
        self._ready = ready or partial(resident_of, policy=policy)
        self._clock = clock
        self._held: dict[Pointer, Resident] = {}
        self._refused: dict[Pointer, _Refusal] = {}
        self._nudged = asyncio.Event()
        self._stamp: tuple[int, ...] = ()
        self._looking = asyncio.Lock()
        self._seen = Deployment()
        self.ruling: Ruling = rules_only(policy)
        self.load_errors: dict[str, str] = {}
        self.defects = 0
        self.fallbacks = 0

    @property
    def load_error(self) -> str | None:
        """Why the deployed champion, or all, is not what decides; or None."""
        return self.load_errors.get("deployment") or self.load_errors.get("champion")

    def nudge(self) -> None:
        """Look now; called from the loop's own thread, for example by a signal handler."""
        self._nudged.set()

    async def run(self) -> None:
        """Look for ever; cancel to stop."""
        while True:
            try:
                await self._changed()
                await self.look()
            except Exception:  # a watch that ends in silence would freeze the model for ever
                self.defects += 1
                self._metrics.load_failed()
                LOGGER.exception("looking at the deployment failed; the models stay")
                await asyncio.sleep(_DEFECT_SECONDS)

    async def _changed(self) -> None:
        """Return after a nudge, when the file looks otherwise, or when a poll's time is over."""
        path = self._models_dir / DEPLOYMENT
        for _ in range(_GLANCES):
            # Not wait_for: on Python 3.11 it forgets a cancel that comes with the nudge.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds / _GLANCES):
                    await self._nudged.wait()
            is_nudged = self._nudged.is_set()
            self._nudged.clear()  # first of all: a defect below must not find it set again
            stamp = await asyncio.to_thread(_stamp, path)
            if is_nudged or stamp != self._stamp:
                break
        self._stamp = stamp

    async def look(self) -> None:
        """Take over what is deployed, as far as it is sound; what is in memory at once."""
        async with self._looking:
            try:
                deployment = await asyncio.to_thread(read_deployment, self._models_dir)
                self._untrusted = await asyncio.to_thread(untrusted, deployment, self._keys_dir)
            except (FraudPlatformError, OSError) as error:
                self._complain("deployment", _reason(error))
                return
            self.load_errors.pop("deployment", None)
            self._apply(deployment)
            if is_anew := self._is_written_again(deployment):
                LOGGER.info("the deployment was written again: its models are read again")
            for role, reason in self._untrusted.items():
                if self.load_errors.get(role) != reason:
                    self._complain(role, reason)
            for role, pointer in self._trusted(deployment):
                is_wanted = is_anew or pointer not in self._held
                if is_wanted and await self._hold(role, pointer):
                    self._apply(deployment)
            self._apply(deployment, is_settled=True)
            self._forget(deployment)

    def _trusted(self, deployment: Deployment) -> list[tuple[str, Pointer]]:
        """The roles whose signature counts, the most urgent first."""
        return [(r, p) for r, p in deployment.roles().items() if r not in self._untrusted]

    def _is_written_again(self, deployment: Deployment) -> bool:
        """Whether nothing changed but its number: somebody wants the models read again."""
        before, self._seen = self._seen, deployment
        renumbered = msgspec.structs.replace(before, sequence=deployment.sequence)
        return before.sequence < deployment.sequence and renumbered == deployment

    async def _hold(self, role: str, pointer: Pointer) -> bool:
        """Load a bundle into memory, unless it was refused and nothing has changed since."""
        before = self._refused.get(pointer)
        path = self._models_dir / pointer.path
        fingerprint = await asyncio.to_thread(_fingerprint, path)
        is_due = before is not None and (before.again_at or float("inf")) <= self._clock()
        if before is not None and before.fingerprint == fingerprint and not is_due:
            self.load_errors[role] = before.reason
            return False
        try:
            resident = await asyncio.to_thread(self._load, pointer)
        except (FraudPlatformError, OSError) as error:
            tries = before.tries + 1 if before and before.fingerprint == fingerprint else 1
            wait = min(_FIRST_WAIT_SECONDS * 2 ** (tries - 1), _LONGEST_WAIT_SECONDS)
            again_at = None if isinstance(error, PermanentError) else self._clock() + wait
            self._refused[pointer] = _Refusal(_reason(error), fingerprint, tries, again_at)
            self._complain(role, _reason(error))
            return False
        self._refused.pop(pointer, None)
        self._held[pointer] = resident
        why = {"scored": resident.scorer.fallback, "explained": resident.explainer.fallback}
        for what, reason in why.items():
            if reason is not None:
                self.fallbacks += 1
                LOGGER.warning("model %s is %s the slow way: %s", resident.version, what, reason)
        return True

    def _load(self, pointer: Pointer) -> Resident:
        return self._ready(load_pointed(self._models_dir, pointer))

    def _apply(self, deployment: Deployment, *, is_settled: bool = False) -> None:
        """Rule by what is in memory; until all was tried, a champion on its way changes nothing."""
        held = {role: self._held.get(pointer) for role, pointer in self._trusted(deployment)}
        for role, resident in held.items():
            if resident is not None:
                self.load_errors.pop(role, None)
        now, champion = self.ruling, held.get("champion")
        missing: tuple[str, ...] = ()
        if champion is None:  # also when the file was lost: a champion does not end by that
            champion, missing = now.champion, now.missing
            if is_settled and deployment.champion is not None:
                champion, missing = champion or held.get("previous"), ("champion",)
        found = Ruling(
            self._policy,
            champion,
            held.get("challenger"),
            held.get("previous"),
            deployment.canary_share,
            missing if champion is not None else (),
            tuple(r for n in deployment.fallbacks if (r := held.get(fallback_role(n))) is not None),
        )
        # Read again, a model equals the one in memory that it replaces.
        if found != now or found.champion is not now.champion:
            self._take(found)

    def _take(self, found: Ruling) -> None:
        before, self.ruling = self.ruling, found
        if found.version == before.version and found.champion == before.champion:
            return
        self._metrics.swapped()
        LOGGER.info("model %s decides from now on", found.version)
        # The garbage collector must not walk the new model's objects in the middle of a request.
        gc.collect()
        gc.freeze()

    def _forget(self, deployment: Deployment) -> None:
        """Let go of what has no role; the deciding model stays whatever happens."""
        roles = deployment.roles()
        wanted = set(roles.values())
        kept = {p: r for p, r in self._held.items() if p in wanted or r is self.ruling.champion}
        self._held = kept
        self._refused = {p: r for p, r in self._refused.items() if p in wanted}
        known = {*roles, "deployment"}
        self.load_errors = {r: why for r, why in self.load_errors.items() if r in known}

    def _complain(self, role: str, reason: str) -> None:
        """Count a failure, and say it once per cause."""
        self._metrics.load_failed()
        if self.load_errors.get(role) != reason:
            LOGGER.error("kept model %s; %s: %s", self.ruling.version, role, reason)
        self.load_errors[role] = reason


def _stamp(path: Path) -> tuple[int, ...]:
    """What a file looks like without reading it; empty when there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _fingerprint(path: Path) -> Fingerprint:
    """What a folder looks like without reading it; empty when it cannot be listed."""
    try:
        found = [(entry.name, entry.lstat()) for entry in path.iterdir()]
    except OSError:
        return ()
    return tuple(sorted((name, f.st_mtime_ns, f.st_size, f.st_ino) for name, f in found))


def _reason(error: Exception) -> str:
    return getattr(error, "message", None) or f"{type(error).__name__}: {error}"
