"""Which bundles may decide where approval is required: those approved, then or now.

What belongs here: reading that from the docket and the history of models. Nothing here moves
anything; `model_roles` asks before each move.
"""

from collections.abc import Iterator
from pathlib import Path

from fraud_platform.adapters.deployment import Deployment, Pointer
from fraud_platform.adapters.model_bundle import manifest_digest, read_manifest
from fraud_platform.adapters.model_history import Entry, Mandate, read_history
from fraud_platform.adapters.model_pointers import fallbacks_of
from fraud_platform.adapters.model_proposals import Docket, model_proposal
from fraud_platform.approval_rules import Tier
from fraud_platform.approvals import Case, Kind, Standing

_GLASS = "break_glass"
_ENDED = (Standing.REJECTED, Standing.OVERTAKEN)
_PROMOTIONS = ("promote", "approve")
"""Acts that make a champion; "approve" in histories from before proposals had a file."""


class Clearance:
    """What may decide in one home.

    Args:
        models_dir: folder of the bundles.
        docket: of the home.
    """

    def __init__(self, models_dir: Path, docket: Docket) -> None:
        self._models_dir = models_dir
        self._docket = docket

    def propose(
        self, kind: Kind, version: str, tier: Tier, mandate: Mandate, *, replacing: str | None
    ) -> str:
        """Ask people to let a version decide, as its bundle is now; gives the proposal's digest."""
        bundle = self._models_dir / version
        content, trainer = manifest_digest(bundle), read_manifest(bundle).trained_by
        told: dict[str, object] = {"evidence": mandate.evidence, "replacing": replacing}
        told |= {"trainer": trainer or mandate.trainer, "fallbacks": self._stand_ins(version)}
        asked = model_proposal(kind, version, content, tier, **told)
        return self._docket.propose(asked, mandate).proposal.digest

    def approval(self, version: str | None) -> str | None:
        """Digest of the newest approved proposal of a version, or None."""
        found = [c.proposal for c in self._approved() if c.proposal.version == version]
        return found[-1].digest if found else None

    def may_decide(self, pointer: Pointer) -> bool:
        """Whether a bundle was approved, or none needs to be."""
        return not self._docket.rules().is_required or pointer.manifest_digest in self._known()

    def may_stand_in(self, fallback: Pointer) -> bool:
        """Whether a fallback was approved with what it stands in for, or none needs to be."""
        is_required = self._docket.rules().is_required
        return not is_required or fallback.manifest_digest in self._known_fallbacks()

    def covers(self, version: str) -> bool:
        """Whether a version and all of its fallbacks may decide as they are."""
        if not self._docket.rules().is_required:
            return True
        is_known = manifest_digest(self._models_dir / version) in self._known()
        return is_known and self._known_fallbacks().issuperset(self._stand_ins(version).values())

    def may_keep_cards(self, canary: Pointer) -> bool:
        """Whether a canary may go on: it may decide, and its proposal is not over.

        What was promoted once may decide; that people turned it down since ends it nevertheless.
        """
        if not self._docket.rules().is_required:
            return True
        ended = [c for s in _ENDED for c in self._docket.standing(s, "model") if c.has_cards]
        is_approved = any(case.has_cards for case in self._approved())
        return self.may_decide(canary) and (is_approved or not ended)

    def require(self, wanted: Deployment, act: Entry) -> None:
        """The one place that every move passes: what would decide must be approved.

        Raises:
            PermanentError: it is not; the audit log has it.
            AuditUnavailableError: not even that can be recorded.
        """
        if not self._docket.rules().is_required:
            return
        if act.act == "promote" and act.proposal is None:  # an approval is used once
            self._docket.governance.refuse(act.told(), f"nobody approved version {act.version}")
        known = self._known()
        glass = self._docket.standing(Standing.WAITING, _GLASS)  # until confirmed, or undone
        champions = known | {case.proposal.content for case in glass}
        canary = wanted.challenger if wanted.canary_share else None
        for pointer, may_decide in ((wanted.champion, champions), (canary, known)):
            if pointer is not None and pointer.manifest_digest not in may_decide:
                why = f"nobody approved version {pointer.version} as it is"
                self._docket.governance.refuse(act.told(), why)
        stand_ins = self._known_fallbacks()
        for pointer in wanted.fallbacks.values():
            if pointer.manifest_digest not in stand_ins:
                why = f"nobody approved the fallback {pointer.version} as it is"
                self._docket.governance.refuse(act.told(), why)

    def settle(self) -> None:
        """Record what became of moves that were interrupted between their audit rows.

        Callers hold the registry's lock, and have finished what was begun.

        Raises:
            HistoryDamagedError: the history lacks a move that the audit log has as done.
            AuditUnavailableError: the audit log does not answer.
        """
        told, governance = {one.audit for one in self._history()}, self._docket.governance
        governance.require_kept("model.*", told | self._docket.told())
        governance.settle("model.*", lambda row: row.seq in told)

    def _history(self) -> tuple[Entry, ...]:
        return read_history(self._models_dir)

    def _approved(self) -> tuple[Case, ...]:
        return self._docket.standing(Standing.APPROVED, "model")

    def _known(self) -> set[str]:
        """Manifests that were promoted for good, or may be.

        Those from the time when no approval was required are among them.
        """
        known = {case.proposal.content for case in self._approved()} | self._docket.serving()
        for entry, _ in self._made():
            if (champion := entry.deployment.champion) is not None:
                known.add(champion.manifest_digest)
        return known

    def _known_fallbacks(self) -> set[str]:
        """Manifests of what may stand in for a champion: named by what let that decide."""
        glass = self._docket.standing(Standing.WAITING, _GLASS)
        asked = [case.proposal for case in (*self._approved(), *glass)]
        asked += [case.proposal for _, case in self._made() if case is not None]
        named = {digest for one in asked for digest in one.fallbacks.values()}
        return named | self._docket.serving()

    def _made(self) -> Iterator[tuple[Entry, Case | None]]:
        """The acts that made a champion for good, with the proposals that let them."""
        cases = self._docket.cases()
        for entry in self._history():
            case = cases.get(entry.proposal or "")
            is_confirmed = entry.act == _GLASS and case is not None and case.is_for_good
            if entry.act in _PROMOTIONS or is_confirmed:
                yield entry, case

    def _stand_ins(self, version: str) -> dict[str, str]:
        """Digests of a version's fallbacks as they are, by what each does without."""
        found = fallbacks_of(self._models_dir, version)
        return {name: pointer.manifest_digest for name, pointer in found.items()}
