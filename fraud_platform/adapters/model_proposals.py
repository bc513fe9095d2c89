"""The docket: who proposed what, who said what to it, and which rules of approval are in force.

What belongs here: keeping proposals and votes, which needs no registry, and the audit rows of both.
What they mean is `approvals`; what is approved is carried out by `model_roles`.

Rules of approval cannot be loosened by whoever sets the environment alone: rules that were in force
stay so until looser ones are approved under them.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from fraud_platform.adapters.deployment import Pointer
from fraud_platform.adapters.governance import UNGOVERNED, Governance
from fraud_platform.adapters.hash_chain import Chain, Link
from fraud_platform.adapters.lock_file import locked
from fraud_platform.adapters.model_history import Mandate, read_history
from fraud_platform.approval_rules import Rules, Tier
from fraud_platform.approvals import (
    HOUR_US,
    Adopted,
    Answer,
    Case,
    Proposal,
    Records,
    Restart,
    Said,
    Standing,
    Vote,
    cases,
    rules_of,
)
from fraud_platform.audit_log.acts import Act, one_line
from fraud_platform.errors import PermanentError

DOCKET = "proposals.jsonl"
POLICY, HEAL_POLICY = "policy:approvals", "policy:heal"
_SHORTEST, _SHOWN = 8, 12
"""Characters of a digest that name a proposal, and of one that is shown."""


class Line(Link, frozen=True, kw_only=True):
    """One line.

    Attributes:
        said: a proposal, a vote, rules that came into force, or a new beginning.
        audit: number of the audit row that announced it; 0: nobody keeps an audit log.
    """

    said: Said
    audit: int = 0


class Docket:
    """The proposals of one home, and the votes on them.

    Args:
        models_dir: folder of the bundles.
        governance: of the home.

    Every method may raise `HistoryDamagedError`, or `UnavailableError` when the disk or the audit
    log does not answer; then nothing was said.
    """

    def __init__(self, models_dir: Path, governance: Governance = UNGOVERNED) -> None:
        self._models_dir = models_dir
        self._governance = governance

    @property
    def governance(self) -> Governance:
        """Of the home."""
        return self._governance

    def rules(self) -> Rules:
        """The rules in force: as the settings ask, unless that is looser than anybody approved."""
        return self._rules([line.said for line in self._lines()])

    def cases(self) -> Mapping[str, Case]:
        """Every proposal with its votes, by digest, oldest first."""
        said = [line.said for line in self._lines()]
        return self._cases(said, self._rules(said))

    def standing(self, standing: Standing, kind: str) -> tuple[Case, ...]:
        """The proposals of a kind that stand so now."""
        found, now_us = self.cases().values(), _now_us()
        return tuple(c for c in found if c.proposal.kind == kind and c.standing(now_us) is standing)

    def find(self, name: str) -> Case:
        """The proposal with a digest, or its beginning; or the open one of a version, or its last.

        Raises:
            PermanentError: there is none, or several of the version are open.
        """
        known, now_us = list(self.cases().values()), _now_us()
        by_digest = [c for c in known if c.proposal.digest.startswith(name)]
        of_version = [c for c in known if c.proposal.version == name]
        found = by_digest if len(name) >= _SHORTEST and len(by_digest) == 1 else of_version
        still = [c for c in found if c.standing(now_us) in (Standing.WAITING, Standing.APPROVED)]
        if not found:
            raise PermanentError(
                f"Nobody proposed {name}.", hint="`fraud-platform proposals` shows what waits."
            )
        if len(still) > 1:
            digests = ", ".join(case.proposal.digest[:_SHOWN] for case in still)
            raise PermanentError(
                f"Found {len(still)} open proposals of version {name}, expected one: {digests}.",
                hint="name one by its digest.",
            )
        return (still or found)[-1]

    def propose(self, asked: Proposal, mandate: Mandate) -> Case:
        """Ask people to approve a change. Asking again is asking once.

        Args:
            asked: what for; who, when and until when, and how many must approve, are filled in.
            mandate: on whose behalf.
        """
        with self._changing():
            now_us, rules = _now_us(), self.rules()
            full = msgspec.structs.replace(
                asked,
                rules=rules.digest,
                approvals=rules.policy.approvals(asked.tier),
                proposer=mandate.by,
                position=len(read_history(self._models_dir)),
                proposed_us=now_us,
                expires_us=now_us + round(_lasts_hours(asked, rules) * HOUR_US),
                why=mandate.why,
            )
            for case in self.cases().values():
                is_open = case.standing(now_us) in (Standing.WAITING, Standing.APPROVED)
                if is_open and case.proposal.asks_the_same(full):
                    return case
            self._say(full, _act("proposal.propose", full, mandate))
            return self.cases()[full.digest]

    def vote(self, name: str, answer: Answer, mandate: Mandate) -> Case:
        """Say yes or no to a proposal; enough approvals for rules bring them into force.

        Args:
            name: digest of the proposal, its beginning, or a version.
            answer: which.
            mandate: whose vote, and why.

        Returns:
            The proposal with the vote.

        Raises:
            PermanentError: the vote would not count, or there is no such proposal; the audit log
                has that it was tried.
        """
        with self._changing():
            try:
                case = self.find(name)
            except PermanentError as error:
                self._governance.refuse(_refusal(answer, name, mandate), error.message.rstrip("."))
            asked = case.proposal
            vote = Vote(
                proposal=asked.digest,
                answer=answer,
                subject=mandate.by,
                at_us=_now_us(),
                position=len(read_history(self._models_dir)),
                reason=mandate.why,
            )
            act = _act(f"proposal.{answer}", asked, mandate)
            if why := self._why_not(case, vote):
                self._governance.refuse(act, why)
            self._say(vote, act)
        with self._changing():  # rules that this vote approved come into force
            return self.cases()[asked.digest]

    def adopt(self) -> Rules:
        """Bring the rules that the settings ask for into force, as far as they may be."""
        with self._changing():
            return self.rules()

    @property
    def lock_path(self) -> Path:
        """Who holds it is the only one who says anything."""
        return self._models_dir / ".docket.lock"

    def told(self) -> set[int]:
        """Numbers of the audit rows of all lines, and of what was given up."""
        lines = self._lines()
        given_up = (line.said.lost for line in lines if isinstance(line.said, Restart))
        return {line.audit for line in lines}.union(*given_up)

    def begin_anew(self, mandate: Mandate, row: int, lost: Sequence[int]) -> None:
        """Let what was proposed until now be over: votes on it may be lost.

        Args:
            mandate: of whoever accepts that; they hold the lock.
            row: number of the audit row that announced it.
            lost: numbers of those that announced what is given up.
        """
        said = Restart(by=mandate.by, why=mandate.why, at_us=_now_us(), lost=tuple(lost))
        self._chain().append([Line(said=said, audit=row)])

    def serving(self) -> frozenset[str]:
        """Manifests of what decided when approval was first asked for, whenever that began."""
        found = [line.said for line in self._lines() if isinstance(line.said, Adopted)]
        return frozenset(digest for one in found for digest in one.serving)

    def propose_rules(self, mandate: Mandate) -> Case:
        """Ask people to approve the rules of the settings, where those are looser.

        Raises:
            PermanentError: they are in force already.
        """
        wanted = self._governance.rules
        if self.rules() == wanted:
            raise PermanentError("Found the rules of the settings in force; nothing to propose.")
        asked = _blank("policy", POLICY, wanted.digest, Tier.POLICY)
        return self.propose(asked, mandate)

    def propose_heal_policy(self, digest: str, mandate: Mandate) -> Case:
        """Ask people to let healing act alone by a heal policy.

        Args:
            digest: of the policy (`HealPolicy.digest`).
            mandate: on whose behalf.
        """
        return self.propose(_blank("policy", HEAL_POLICY, digest, Tier.POLICY), mandate)

    def has_approved(self, policy: str, digest: str) -> bool:
        """Whether people approved a policy as it is, under the rules of now."""
        found = self.standing(Standing.APPROVED, "policy")
        return any((c.proposal.object, c.proposal.content) == (policy, digest) for c in found)

    def _why_not(self, case: Case, vote: Vote) -> str:
        """Why a vote may not be given; beyond what makes it count, the proposal must be open."""
        if why := case.why_not(vote, case.counted):
            return why
        standing = case.standing(vote.at_us)
        may_turn = vote.answer == "reject" and case.may_be_rejected
        is_open = standing is Standing.WAITING or (standing is Standing.APPROVED and may_turn)
        return "" if is_open else f"the proposal is {standing}"

    def _rules(self, said: Records) -> Rules:
        wanted, kept = self._governance.rules, rules_of(said)
        if kept is None or wanted.no_looser_than(kept):
            return wanted
        return wanted if self._approves(said, wanted, kept) else kept

    def _approves(self, said: Records, wanted: Rules, kept: Rules) -> str:
        """Digest of the proposal by which rules were approved under those in force, or ""."""
        found = (
            digest
            for digest, case in self._cases(said, kept).items()
            if case.proposal.kind == "policy"
            and case.proposal.content == wanted.digest
            and case.standing(_now_us()) is Standing.APPROVED
        )
        return next(found, "")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Nobody else says anything meanwhile; what was interrupted before is settled."""
        with locked(self.lock_path):
            lines, told = self._lines(), self.told()
            self._governance.require_kept("proposal.*", told)
            self._governance.settle("proposal.*", lambda row: row.seq in told)
            self._adopt([line.said for line in lines])
            yield

    def _adopt(self, said: Records) -> None:
        """Keep the rules in force, so that looser settings cannot undo them."""
        kept, now = rules_of(said), self._rules(said)
        if now == kept or (kept is None and not now.is_required):
            return
        by = self._approves(said, now, kept) if kept and not now.no_looser_than(kept) else ""
        act = Act(
            actor="platform",
            role="",
            action="proposal.adopt_rules",
            object=POLICY,
            origin="platform",
            before=kept.digest if kept else "",
            after=now.digest,
            facts={"proposal": by, "rules": one_line(repr(now))},
        )
        marks = [one for one in said if isinstance(one, Adopted | Restart)]
        was_lost = bool(marks) and isinstance(marks[-1], Restart)  # earlier rules may be, too
        begins = now.is_required and not (kept and kept.is_required) and not was_lost
        serving = self._serving() if begins else ()
        self._say(Adopted(rules=now, at_us=_now_us(), by=by, serving=serving), act)

    def _serving(self) -> tuple[str, ...]:
        """Manifests of all that decides by now, as the history has it."""
        if not (history := read_history(self._models_dir)):
            return ()
        now = history[-1].deployment
        canary = now.challenger if now.canary_share else None
        found = (now.champion, canary, *now.fallbacks.values())
        return tuple(pointer.manifest_digest for pointer in found if pointer is not None)

    def _say(self, said: Said, act: Act) -> None:
        with self._governance.recording(act) as row:
            self._chain().append([Line(said=said, audit=row)])

    def _lines(self) -> tuple[Line, ...]:
        return self._chain().since()[0]

    def _chain(self) -> Chain[Line]:
        return Chain(self._models_dir / DOCKET, Line)

    def _cases(self, said: Records, rules: Rules) -> Mapping[str, Case]:
        history = read_history(self._models_dir)
        after = [entry.deployment for entry in history]
        champions = [one.champion for one in after]
        canaries = [None, *(one.challenger if one.canary_share else None for one in after)]
        made = {entry.proposal for entry in history if entry.proposal and entry.act == "promote"}
        return cases(said, rules, _versions(champions), _versions(canaries), made)


def model_proposal(kind: str, version: str, content: str, tier: Tier, **told: object) -> Proposal:
    """A proposal about a version, for `Docket.propose`.

    Args:
        kind: "model" or "break_glass".
        version: which.
        content: digest of its bundle's manifest.
        tier: how much it may harm.
        told: `evidence`, `replacing`, `trainer` and `fallbacks` of `Proposal`.
    """
    return msgspec.structs.replace(_blank(kind, f"model:{version}", content, tier), **told)


def _blank(kind: str, about: str, content: str, tier: Tier) -> Proposal:
    """What `Docket.propose` fills in is empty."""
    told = {"kind": kind, "object": about, "content": content, "tier": tier}
    late = {"rules": "", "approvals": 0, "proposer": "", "proposed_us": 0, "expires_us": 0}
    return msgspec.convert({"type": "proposal", **told, **late}, Proposal)


def _lasts_hours(asked: Proposal, rules: Rules) -> float:
    policy = rules.policy
    return policy.break_glass_hours if asked.kind == "break_glass" else policy.expires_hours


def _versions(roles: Sequence[Pointer | None]) -> list[str | None]:
    return [None if role is None else role.version for role in roles]


def _act(action: str, asked: Proposal, mandate: Mandate) -> Act:
    facts = {"proposal": asked.digest, "kind": asked.kind, "tier": str(asked.tier)}
    return mandate.act(
        action, asked.object, before=asked.replacing or "", after=asked.content, facts=facts
    )


def _refusal(answer: str, name: str, mandate: Mandate) -> Act:
    return mandate.act(f"proposal.{answer}", f"proposal:{name or 'none'}")


def _now_us() -> int:
    return time.time_ns() // 1000
