"""What two people must see before it comes into force: proposals, votes, and what becomes of them.

What belongs here: the rules of four eyes, without a clock or a disk. Proposals and votes are kept
by `adapters.model_proposals`; what is approved is carried out by `adapters.model_roles`.

A proposal is named by the digest of all that it says, and a vote by the proposal's digest: so a
vote is for one content, under one policy, by one evidence, and for nothing else. Votes are judged
again each time that they are counted: a vote that got past the door counts no more than at it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Literal

import msgspec

from fraud_platform.approval_rules import Rules, Tier, digest_of

HOUR_US = 3_600_000_000

Kind = Literal["model", "break_glass", "policy"]
Answer = Literal["approve", "reject"]


class Standing(StrEnum):
    """What became of a proposal."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    OVERTAKEN = "overtaken"
    STOPPED = "stopped"
    DONE = "done"


class Proposal(msgspec.Struct, frozen=True, kw_only=True, tag="proposal"):
    """A change that somebody asks for.

    Attributes:
        kind: "model": make it the champion; "break_glass": it was made champion without approval;
            "policy": ask for fewer approvals.
        object: "model:3", "policy:approvals".
        content: digest of what comes into force: a bundle's manifest, or rules.
        rules: digest of the rules that it is judged by.
        evidence: digest of the verdict behind it, or None.
        replacing: version of the champion that it was judged against, or None.
        tier: how much it may harm.
        approvals: how many people must approve it.
        proposer: who asks.
        trainer: who made it.
        fallbacks: what stands in for it when features are not to be used, by what it does without:
            digests of their bundles' manifests. They are approved with it.
        position: how many acts the history of models held.
        proposed_us: when, microseconds UTC.
        expires_us: until when votes count, microseconds UTC.
        why: the reason given.
    """

    kind: Kind
    object: str
    content: str
    rules: str
    evidence: str | None = None
    replacing: str | None = None
    tier: Tier
    approvals: int
    proposer: str
    trainer: str = ""
    fallbacks: dict[str, str] = {}
    position: int = 0
    proposed_us: int
    expires_us: int
    why: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 over all fields: its name."""
        told = msgspec.structs.asdict(self)
        if stand_ins := sorted(told.pop("fallbacks").items()):  # proposals of before name none
            told["fallbacks"] = stand_ins
        return digest_of("proposal", *(f"{name}={told[name]!s}" for name in sorted(told)))

    @property
    def is_renewal(self) -> bool:
        """Whether it is about the champion itself: as it is, and with what stands in for it."""
        return self.kind == "model" and self.version == self.replacing

    @property
    def version(self) -> str:
        """The version that it is about; empty for a policy."""
        kind, _, name = self.object.partition(":")
        return name if kind == "model" else ""

    def asks_the_same(self, other: "Proposal") -> bool:
        """Whether it differs from another only in who asked when, and in which words."""
        aside = {"proposer": "", "proposed_us": 0, "expires_us": 0, "why": "", "position": 0}
        return msgspec.structs.replace(self, **aside) == msgspec.structs.replace(other, **aside)


class Vote(msgspec.Struct, frozen=True, kw_only=True, tag="vote"):
    """What one person says to one proposal.

    Attributes:
        proposal: its digest.
        answer: "approve" or "reject".
        subject: who.
        at_us: when, microseconds UTC.
        position: how many acts the history of models held.
        reason: the reason given.
    """

    proposal: str
    answer: Answer
    subject: str
    at_us: int
    position: int = 0
    reason: str = ""


class Adopted(msgspec.Struct, frozen=True, kw_only=True, tag="adopted"):
    """Rules that came into force.

    Attributes:
        rules: which.
        at_us: when, microseconds UTC.
        by: digest of the proposal that was approved; empty: they are no looser than those before.
        serving: where they are the first that ask for approval: digests of the manifests of all
            that decided then. It may go on, and be returned to. None after a new beginning: the
            rules by which something decides without approval may be lost.
    """

    rules: Rules
    at_us: int
    by: str = ""
    serving: tuple[str, ...] = ()


class Restart(msgspec.Struct, frozen=True, kw_only=True, tag="restart"):
    """A new beginning: what was said behind this place was lost, and somebody accepted that.

    Attributes:
        by: who.
        why: the reason given.
        at_us: when, microseconds UTC.
        lost: numbers of the audit rows that announced what is given up.
    """

    by: str
    why: str
    at_us: int
    lost: tuple[int, ...] = ()


Said = Proposal | Vote | Adopted | Restart
Records = Sequence[Said]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A proposal, with all that decides what becomes of it.

    Attributes:
        proposal: the proposal.
        votes: on it, oldest first.
        barred: who may not approve it: whoever proposed the same content, ever, or made it.
        rules: in force now.
        champions: version of the champion after each act of the history of models, from the
            proposal's position on.
        canaries: version that decided on a canary's cards when it was proposed, and after each of
            these acts.
        is_given_up: whether a new beginning came after it, or whoever asked for it asked anew.
        is_carried_out: whether a champion was made by it, or rules came into force.
    """

    proposal: Proposal
    votes: tuple[Vote, ...] = ()
    barred: frozenset[str] = frozenset()
    rules: Rules
    champions: Sequence[str | None] = ()
    canaries: Sequence[str | None] = ()
    is_given_up: bool = False
    is_carried_out: bool = False

    def why_not(self, vote: Vote, earlier: Sequence[Vote] = ()) -> str:
        """Why a vote does not count; empty: it counts.

        Args:
            vote: by whomever.
            earlier: votes that count.
        """
        policy, asked = self.rules.policy, self.proposal
        person, name = policy.person(vote.subject), vote.subject or "nobody"
        if vote.proposal != asked.digest:
            return f"it is for another proposal, {vote.proposal[:12] or 'none'}"
        if not policy.is_person(vote.subject):
            return f"{name} is no person: runs and services approve nothing"
        if vote.answer == "approve" and person in self.barred:
            return f"{name} proposed or made it; another must approve it"
        has_voted = vote.answer == "approve" and any(  # whoever approved may think better of it
            policy.person(one.subject) == person for one in earlier
        )
        return f"{name} has voted on it, and counts once" if has_voted else self._why_late(vote)

    def _why_late(self, vote: Vote) -> str:
        asked = self.proposal
        until_us = asked.expires_us if vote.answer == "approve" else vote.at_us
        if not asked.proposed_us <= vote.at_us <= until_us:
            return "its time to be voted on is over"
        if (end := self.end) is not None and vote.position > end:
            return "the champion is another by now, or its canary was ended"
        return ""

    @property
    def end(self) -> int | None:
        """The position in the history of the act that ended the proposal, or None.

        Another champion did, or the end of a canary of the version: an approval is used once.
        """
        asked = self.proposal
        stays = (asked.version,) if asked.kind == "break_glass" else (asked.replacing,)
        if asked.kind == "policy":
            return None
        begun = asked.kind != "break_glass"
        lost = [begun and one == asked.version != other for one, other in pairwise(self.canaries)]
        for number, champion in enumerate(self.champions):
            begun = begun or champion == asked.version
            if any(lost[number : number + 1]) or (begun and champion not in stays):
                return asked.position + number
        return None

    @property
    def has_cards(self) -> bool:
        """Whether a canary of its version decides, and may become the champion by it."""
        is_canary = list(self.canaries[-1:]) == [self.proposal.version]
        return self.proposal.kind == "model" and is_canary and self.end is None

    @property
    def needed(self) -> int:
        """How many people must approve: what was asked for, and no fewer than the rules say."""
        return max(self.proposal.approvals, self.rules.policy.approvals(self.proposal.tier))

    @property
    def is_for_good(self) -> bool:
        """Whether what it brought into force may stay: approved before, or confirmed since."""
        answers = [vote.answer for vote in self.counted]
        return self.proposal.kind != "break_glass" or (
            "reject" not in answers and len(answers) >= self.needed
        )

    @property
    def may_be_rejected(self) -> bool:
        """Whether a person may still turn it down once it is approved: until it is in force."""
        return self.proposal.kind != "break_glass"

    @property
    def counted(self) -> tuple[Vote, ...]:
        """The votes that count: as many approvals as it takes, or a rejection, which ends it."""
        found: list[Vote] = []
        for vote in self.votes:
            is_settled = len(found) >= self.needed
            may_count = not is_settled or (vote.answer == "reject" and self.may_be_rejected)
            if not may_count or self.why_not(vote, found):
                continue
            found.append(vote)
            if vote.answer == "reject":
                break
        return tuple(found)

    def standing(self, now_us: int) -> Standing:
        """What became of the proposal.

        Args:
            now_us: the clock of the wall, microseconds UTC.
        """
        asked, counted = self.proposal, self.counted
        is_approved = len(counted) >= self.needed
        if any(vote.answer == "reject" for vote in counted):
            return Standing.REJECTED
        over = None if asked.kind == "break_glass" and is_approved else self._over()
        if is_approved or over:
            return over or Standing.APPROVED
        return Standing.EXPIRED if now_us > asked.expires_us else Standing.WAITING

    def _over(self) -> Standing | None:
        """Whether the world went on, with the proposal or without it."""
        asked, end = self.proposal, self.end
        is_policy = asked.kind == "policy"
        is_in_force = is_policy and self.rules.digest == asked.content
        if is_in_force or (self.is_carried_out and (is_policy or asked.is_renewal)):
            return Standing.DONE
        is_over = self.rules.digest != asked.rules or (end is None and self.is_given_up)
        if is_over and asked.kind != "break_glass":  # which still needs somebody to confirm it
            return Standing.OVERTAKEN
        if end is None:
            return None
        became = self.champions[end - asked.position]
        ends = {asked.replacing: Standing.STOPPED, asked.version: Standing.DONE}
        return ends.get(became, Standing.OVERTAKEN) if asked.kind == "model" else Standing.OVERTAKEN


def barred(proposal: Proposal, all_of_them: Sequence[Proposal], rules: Rules) -> frozenset[str]:
    """Who may not approve a proposal: whoever asked for the same content, ever, or made it."""
    same = [p for p in all_of_them if (p.object, p.content) == (proposal.object, proposal.content)]
    names = [name for one in (*same, proposal) for name in (one.proposer, one.trainer)]
    return frozenset(rules.policy.person(name) for name in names if name)


def rules_of(records: Records) -> Rules | None:
    """The rules that came into force last; None while none ever did."""
    found = [record.rules for record in records if isinstance(record, Adopted)]
    return found[-1] if found else None


def cases(
    records: Records,
    rules: Rules,
    champions: Sequence[str | None],
    canaries: Sequence[str | None] = (),
    carried_out: Collection[str] = (),
) -> Mapping[str, Case]:
    """Every proposal with its votes, by digest, oldest first.

    Args:
        records: as kept.
        rules: in force.
        champions: version of the champion after each act of the history of models.
        canaries: version that decides on a canary's cards, before the first act and after each.
        carried_out: digests of the proposals by which champions were made.
    """
    asked = [record for record in records if isinstance(record, Proposal)]
    begins = [place for place, record in enumerate(records) if isinstance(record, Restart)]
    before = records[: max(begins, default=0)]
    given_up = {record.digest for record in before if isinstance(record, Proposal)}
    newest = {_asks_for(one): one.digest for one in asked}
    given_up |= {one.digest for one in asked if newest[_asks_for(one)] != one.digest}
    votes = [record for record in records if isinstance(record, Vote)]
    used = {*carried_out, *(record.by for record in records if isinstance(record, Adopted))}
    return {
        one.digest: Case(
            proposal=one,
            votes=tuple(vote for vote in votes if vote.proposal == one.digest),
            barred=barred(one, asked, rules),
            rules=rules,
            champions=champions[one.position :],
            canaries=canaries[one.position :],
            is_given_up=one.digest in given_up,
            is_carried_out=one.digest in used,
        )
        for one in asked
    }


def _asks_for(one: Proposal) -> tuple[str, ...]:
    """Who asks again for the same bundle takes back what they asked before."""
    return (one.kind, one.object, one.content, one.proposer)
