"""Which version is champion, challenger or previous champion, and every move between them.

**Invariant:** only this module moves an alias or the deployment; every move is in the history with
who, when and why, and in the audit log before that; a version gets a role only after its bundle
passed its verification; and where approval is required, nothing decides that was not approved.

A move is written to the history first, then the registry's aliases follow, then the deployment that
scorers read, all under one file lock. Whoever dies on the way leaves a history that is ahead of the
deployment: the next move, or `publish`, finishes what was begun, and the history says when it came
to pass. Nothing was begun and aliases differ: somebody moved them by hand. The next move records
that as found, by nobody it knows, and `publish` follows; where approval is required, a champion
that nobody approved is put back, and so is one to return to. The lock is one machine's.
"""

import logging
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from fraud_platform.adapters.clearance import Clearance
from fraud_platform.adapters.deployment import (
    Deployment,
    Pointer,
    read_deployment,
    write_deployment,
)
from fraud_platform.adapters.governance import UNGOVERNED, Governance
from fraud_platform.adapters.lock_file import locked
from fraud_platform.adapters.mlflow_calls import aliases_of, require_a_memory, translated
from fraud_platform.adapters.model_bundle import load_bundle
from fraud_platform.adapters.model_history import (
    COMPLETE,
    FOUND,
    RESTORE,
    Entry,
    Mandate,
    append_entry,
    read_history,
)
from fraud_platform.adapters.model_pointers import fallbacks_of, pointer_to
from fraud_platform.adapters.model_proposals import Docket
from fraud_platform.adapters.promotion_signature import Authority, sign_roles
from fraud_platform.approval_rules import Tier
from fraud_platform.errors import (
    BundleIntegrityError,
    NoChampionError,
    NotReadyError,
    PermanentError,
)

REGISTERED_MODEL = "fraud"
CHAMPION, CHALLENGER, PREVIOUS_CHAMPION = "champion", "challenger", "previous_champion"
_ROLES = {"champion": CHAMPION, "challenger": CHALLENGER, "previous": PREVIOUS_CHAMPION}
PLATFORM = Mandate(by="platform")
"""The mandate of a move for which nobody gave one."""
WHOEVER = "whoever"
"""The champion to replace may be any, or none."""
_BY_HAND = Mandate(by="unknown", why="The registry's aliases were moved by hand.")
_BY_RULE = Mandate(by="platform", why="Nobody approved the champion that was set by hand.")


class ModelRoles:
    """The moves of one registered model's roles.

    Args:
        models_dir: folder of the bundles, the deployment, the history and the lock.
        governance: whose approval a promotion needs, and where acts are recorded.

    Every method may raise `RegistryUnavailableError` (try again), `AuditUnavailableError` (nothing
    moved), or `PermanentError` for a request that MLflow refuses.
    """

    def __init__(self, models_dir: Path, governance: Governance = UNGOVERNED) -> None:
        self._models_dir = models_dir.resolve()
        self.docket = Docket(self._models_dir, governance)
        self.clearance = Clearance(self._models_dir, self.docket)

    @property
    @abstractmethod
    def _client(self) -> Any:  # mlflow is skipped by the type checker
        """MLflow's client."""

    @property
    def models_dir(self) -> Path:
        """Folder of the bundles."""
        return self._models_dir

    def history(self) -> tuple[Entry, ...]:
        """Every act, oldest first; reads the disk only."""
        return read_history(self._models_dir)

    def set_challenger(self, version: str, mandate: Mandate = PLATFORM) -> None:
        """Let a version whose bundle is sound score along with the champion.

        A canary of another challenger ends.

        Raises:
            BundleIntegrityError: the bundle is damaged or missing.
        """
        with self._moving() as client:
            self._require_sound(client, version)
            aliases = {**aliases_of(client, REGISTERED_MODEL), CHALLENGER: version}
            self._move(client, _act("challenge", mandate, version), aliases)

    def dismiss(self, version: str, mandate: Mandate = PLATFORM) -> None:
        """Let a rejected version no longer score along, nor decide for a canary's cards.

        If it is not the challenger, this is `publish`.
        """
        with self._moving() as client:
            aliases = dict(aliases_of(client, REGISTERED_MODEL))
            is_challenger = aliases.get(CHALLENGER) == version
            if is_challenger:
                del aliases[CHALLENGER]
            act = "dismiss" if is_challenger else "publish"
            self._move(client, _act(act, mandate, version if is_challenger else None), aliases)

    def set_canary(self, share: float, mandate: Mandate = PLATFORM) -> None:
        """Let the challenger decide on a share of the cards; 0 ends the canary.

        Args:
            share: in [0, 1].
            mandate: on whose behalf.

        Raises:
            PermanentError: the share is none, or the challenger must be approved before it decides.
            NotReadyError: there is no challenger.
        """
        if not 0.0 <= share <= 1.0:
            raise PermanentError(f"found a canary share of {share}; expected one in [0, 1].")
        with self._moving() as client:
            aliases = aliases_of(client, REGISTERED_MODEL)
            challenger = aliases.get(CHALLENGER)
            act = _act("canary", mandate, challenger, self.clearance.approval(challenger))
            found = self._move(client, act, aliases, canary_share=share)
        if share and found.challenger is None:
            raise NotReadyError(
                "There is no usable challenger to give cards to.",
                hint="register one: `fraud-platform models show` names the versions.",
            )

    def promote(
        self, version: str, mandate: Mandate = PLATFORM, *, replacing: str | None = WHOEVER
    ) -> str:
        """Make a version the champion; the champion so far becomes `previous_champion`.

        Whoever was challenger no longer is: it asked to replace another champion. Promoting the
        champion moves nothing, but publishes the deployment if that is behind.

        Args:
            version: which.
            mandate: on whose behalf.
            replacing: the champion that it was judged against, None for none.

        Returns:
            The champion's version.

        Raises:
            BundleIntegrityError: the bundle is damaged or missing; nothing has moved.
            PermanentError: the champion is another by now, or approval is required and the version
                has not got it; nothing has moved.
        """
        with self._moving() as client:
            self._require_champion(client, version, replacing)
            approval = self.clearance.approval(version)
            self._promote(client, _act("promote", mandate, version, approval))
        return version

    def propose(
        self,
        version: str,
        mandate: Mandate,
        *,
        replacing: str | None = WHOEVER,
        is_wider: bool = True,
    ) -> str | None:
        """Ask people to promote a version, with its fallbacks; moves nothing. Again is once.

        Args:
            version: which.
            mandate: on whose behalf.
            replacing: the champion that it was judged against, None for none.
            is_wider: whether it disturbs more payments than the champion, or nobody knows.

        Returns:
            The digest of the proposal; None if the version is the champion already, and it and all
            that stands in for it were approved.

        Raises:
            PermanentError: the champion is another by now.
        """
        with self._moving() as client:
            self._require_sound(client, version)
            champion = self._require_champion(client, version, replacing)
            if champion == version and self.clearance.covers(version):
                return None
            tier = Tier.WIDENING if is_wider else Tier.REFRESH
            tier = tier if champion else Tier.FIRST_CHAMPION
            return self.clearance.propose("model", version, tier, mandate, replacing=champion)

    def break_glass(self, version: str, mandate: Mandate) -> str:
        """Promote a version that nobody approved; another must confirm it, or it is undone.

        Returns:
            The digest of the proposal to confirm it.

        Raises:
            PermanentError: no reason is given, or there is no champion to return to.
            BundleIntegrityError: the bundle is damaged or missing; nothing has moved.
        """
        with self._moving() as client:
            self._require_sound(client, version)
            champion = aliases_of(client, REGISTERED_MODEL).get(CHAMPION)
            act = _act("break_glass", mandate, version)
            if not mandate.why.strip():
                self.docket.governance.refuse(act.told(), "whoever breaks the glass must say why")
            if champion in (None, version):
                self.docket.governance.refuse(act.told(), "there is no other champion to return to")
            digest = self.clearance.propose(
                "break_glass", version, Tier.EMERGENCY, mandate, replacing=champion
            )
            self._promote(client, msgspec.structs.replace(act, proposal=digest))
        return digest

    def roll_back(self, from_version: str | None = None, mandate: Mandate = PLATFORM) -> str:
        """Make `previous_champion` the champion again, and forget that there was another.

        A second roll-back therefore never brings the bad version back: it finds nothing to return
        to and raises. With `from_version` a repeated call is a no-op: once the champion is another
        version, only the deployment is published.

        Returns:
            The version that is champion now.

        Raises:
            NoChampionError: there is no earlier champion to return to.
            BundleIntegrityError: the earlier champion's bundle is damaged; nothing has moved.
        """
        with self._moving() as client:
            aliases = dict(aliases_of(client, REGISTERED_MODEL))
            champion, previous = aliases.get(CHAMPION), aliases.get(PREVIOUS_CHAMPION)
            if champion is not None and from_version not in (None, champion):
                self._move(client, _act("publish", mandate), aliases)
                return champion
            if champion is None or previous is None or previous == champion:
                raise NoChampionError(
                    f"The champion is {champion or 'none'} and no earlier champion is recorded.",
                    hint="promote a version by name, or retrain.",
                )
            self._require_sound(client, previous)
            del aliases[PREVIOUS_CHAMPION]
            act = _act("roll_back", mandate, previous)
            self._move(client, act, aliases | {CHAMPION: previous})
            return previous

    def publish(self, mandate: Mandate = PLATFORM, *, anew: bool = False) -> str | None:
        """Make the deployment agree with the aliases; return the champion's version, or None.

        Finishes a move that was killed, heals a damaged deployment; `anew`: scorers load again.

        Raises:
            BundleIntegrityError: the champion's bundle is damaged or missing.
        """
        with self._moving() as client:
            aliases = aliases_of(client, REGISTERED_MODEL)
            if (version := aliases.get(CHAMPION)) is not None:
                load_bundle(self._models_dir / version)
            champion = self._move(client, _act("publish", mandate), aliases, anew=anew).champion
            return None if champion is None else champion.version

    @contextmanager
    def _moving(self) -> Iterator[Any]:
        client = self._client
        with locked(self._models_dir / ".registry.lock"), translated("move an alias"):
            told = entries[-1].aliases if (entries := self.history()) else {}
            require_a_memory(client, REGISTERED_MODEL, told)
            self.docket.adopt()
            self._finish(client)
            self.clearance.settle()
            self._note_moves_by_hand(client)
            yield client

    def _promote(self, client: Any, act: Entry) -> None:
        version = act.version or ""
        self._require_sound(client, version)
        aliases = dict(aliases_of(client, REGISTERED_MODEL))
        champion = aliases.get(CHAMPION)
        if champion != version or aliases.get(CHALLENGER) == version:
            aliases.pop(CHALLENGER, None)
        pointer = self._pointer(champion)
        if pointer is not None and champion != version and self.clearance.may_decide(pointer):
            aliases[PREVIOUS_CHAMPION] = pointer.version
        is_renewed = champion == version and act.proposal is not None
        self._move(client, act, aliases | {CHAMPION: version}, anew=is_renewed)

    def _move(
        self,
        client: Any,
        act: Entry,
        aliases: Mapping[str, str],
        canary_share: float | None = None,
        anew: bool = False,
    ) -> Deployment:
        """Record and make a move to these aliases; nothing, if all is as they say."""
        before = self._deployed()
        wanted = self._wanted(before or Deployment(), aliases, canary_share)
        authority = Authority(act.by, act.proposal, self.docket.rules().digest)
        wanted = sign_roles(self._models_dir, wanted, authority, before)
        if not anew and wanted == before and aliases == aliases_of(client, REGISTERED_MODEL):
            return wanted
        self.clearance.require(wanted, act)
        entries = self.history()
        reached = max(wanted.sequence, entries[-1].deployment.sequence if entries else 0)
        found = msgspec.structs.replace(wanted, sequence=reached + 1)
        self._do(client, act, aliases, found)
        return found

    def _do(
        self, client: Any, act: Entry, aliases: Mapping[str, str], deployment: Deployment
    ) -> None:
        """Audit, then history, then registry, then what scorers read."""
        entry = msgspec.structs.replace(
            act, at_us=time.time_ns() // 1000, aliases=dict(aliases), deployment=deployment
        )
        with self.docket.governance.recording(entry.told(self._deployed())) as row:
            entry = msgspec.structs.replace(entry, audit=row)
            self._apply(client, append_entry(self._models_dir, entry))

    def _finish(self, client: Any) -> None:
        """Do what the history says was begun, and record that it came to pass only now."""
        entries, deployed = self.history(), self._deployed()
        if not entries or deployed is None:
            return
        last = entries[-1]
        if last.deployment.sequence > deployed.sequence:
            logging.getLogger(__name__).warning("finishing an interrupted %s", last.act)
            act = msgspec.structs.replace(last, act=COMPLETE)
            self._do(client, act, last.aliases, last.deployment)

    def _note_moves_by_hand(self, client: Any) -> None:
        """Record roles that are not as the last entry left them."""
        entries, deployed = self.history(), self._deployed()
        found = aliases_of(client, REGISTERED_MODEL)
        told = entries[-1].aliases if entries else found
        if deployed is None or all(told.get(a) == found.get(a) for a in _ROLES.values()):
            return
        self._note(_act(FOUND, _BY_HAND), found, deployed)
        pointers = (self._pointer(found.get(alias)) for alias in (CHAMPION, PREVIOUS_CHAMPION))
        if any(one is not None and not self.clearance.may_decide(one) for one in pointers):
            self._do(client, _act(RESTORE, _BY_RULE), told, deployed)

    def _note(self, act: Entry, aliases: Mapping[str, str], deployment: Deployment) -> None:
        """Record what is so, without moving anything."""
        entry = msgspec.structs.replace(
            act, at_us=time.time_ns() // 1000, aliases=dict(aliases), deployment=deployment
        )
        with self.docket.governance.recording(entry.told(deployment)) as row:
            append_entry(self._models_dir, msgspec.structs.replace(entry, audit=row))

    def _apply(self, client: Any, entry: Entry) -> None:
        found = aliases_of(client, REGISTERED_MODEL)
        for alias in _ROLES.values():
            version = entry.aliases.get(alias)
            if version is None and alias in found:
                client.delete_registered_model_alias(REGISTERED_MODEL, alias)
            elif version is not None and version != found.get(alias):
                client.set_registered_model_alias(REGISTERED_MODEL, alias, version)
        write_deployment(self._models_dir, entry.deployment)

    def _deployed(self) -> Deployment | None:
        """What scorers read; None when it is damaged."""
        try:
            return read_deployment(self._models_dir)
        except BundleIntegrityError as error:
            logging.getLogger(__name__).warning("writing the deployment anew: %s", error.message)
            return None

    def _wanted(
        self, before: Deployment, aliases: Mapping[str, str], canary_share: float | None
    ) -> Deployment:
        """What the aliases say; a canary goes on only between the same two models."""
        roles = {role: self._pointer(aliases.get(alias)) for role, alias in _ROLES.items()}
        champion, challenger = roles["champion"], roles["challenger"]
        is_same_contest = (champion, challenger) == (before.champion, before.challenger)
        if canary_share is None:
            canary_share = before.canary_share if is_same_contest else 0.0
        return Deployment(
            sequence=before.sequence,
            champion=champion,
            challenger=challenger,
            previous=roles["previous"],
            canary_share=0.0 if challenger is None else canary_share,
            fallbacks={} if champion is None else self._fallbacks(champion.version),
        )

    def _fallbacks(self, champion: str) -> dict[str, Pointer]:
        """What may stand in for a champion's trees."""
        found = fallbacks_of(self._models_dir, champion)
        cleared = {n: p for n, p in found.items() if self.clearance.may_stand_in(p)}
        if waiting := sorted(set(found) - set(cleared)):
            logging.getLogger(__name__).warning(
                "version %s has no fallback without %s: nobody approved it", champion, waiting
            )
        return cleared

    def _pointer(self, version: str | None) -> Pointer | None:
        return pointer_to(self._models_dir, version)

    def _require_sound(self, client: Any, version: str) -> None:
        """Refuse before anything is recorded: the bundle is damaged, or MLflow does not know it."""
        load_bundle(self._models_dir / version)
        client.get_model_version(REGISTERED_MODEL, version)

    def _require_champion(self, client: Any, version: str, replacing: str | None) -> str | None:
        """The champion of now: whom the version was judged against, or the version itself."""
        champion = aliases_of(client, REGISTERED_MODEL).get(CHAMPION)
        if replacing != WHOEVER and champion not in (replacing, version):
            raise PermanentError(
                f"Version {version} was judged against {replacing or 'no champion'}; the champion "
                f"is {champion or 'none'} by now.",
                hint="compare them again: materialize model_comparison and what follows.",
            )
        return champion


def _act(
    name: str, mandate: Mandate, version: str | None = None, proposal: str | None = None
) -> Entry:
    """An entry that still lacks its time, its place and what it leads to."""
    return Entry(
        at_us=0,
        act=name,
        version=version,
        by=mandate.by,
        why=mandate.why,
        evidence=mandate.evidence,
        proposal=proposal,
        role=mandate.role,
        origin=mandate.origin,
        aliases={},
        deployment=Deployment(),
    )
