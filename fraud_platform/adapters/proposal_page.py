"""What waits for people, as pages: all open proposals, and one with all that a voter should see.

What belongs here: how they read. What a proposal is, and which votes count, is `approvals`.
"""

from collections.abc import Iterable
from html import escape

from fraud_platform.adapters.model_card_page import card_tables
from fraud_platform.adapters.page import Link, Page, Table
from fraud_platform.approvals import Case, Standing
from fraud_platform.events import moment_of
from fraud_platform.model_card import ModelCard

FOLDER = "/proposals"
"""Where the pages are."""
_SHOWN = 12


def is_open(case: Case, now_us: int) -> bool:
    """Whether people may still say something to a proposal that matters."""
    return case.standing(now_us) in (Standing.WAITING, Standing.APPROVED)


def open_page(cases: Iterable[Case], now_us: int) -> Page:
    """Every open proposal, oldest first.

    Args:
        cases: of the docket.
        now_us: the clock of the wall, microseconds UTC.
    """
    rows = tuple(_row(case, now_us) for case in cases if is_open(case, now_us))
    header = ("proposal", "of", "kind", "harm", "by", "standing", "votes", "until")
    note = "The link shows the model card, the gates and the votes, and takes yours."
    shown = Table("What waits for people", note, header, rows)
    said = () if rows else ("Nothing waits for approval.",)
    return Page(title="Proposals", paragraphs=said, tables=(shown,), charts=())


def case_page(case: Case, now_us: int, card: ModelCard | None, form: str) -> Page:
    """One proposal: what, by whom, why, its votes, and the card of its model.

    Args:
        case: which.
        now_us: the clock of the wall, microseconds UTC.
        card: of its version; None: it has none.
        form: HTML that takes a vote; "": it may no longer be voted on.
    """
    asked = case.proposal
    facts = (
        ("digest", asked.digest),
        ("of", asked.object),
        ("kind", asked.kind),
        ("harm", str(asked.tier)),
        ("proposed by", asked.proposer),
        ("trained by", asked.trainer or "nobody that is known"),
        ("proposed", _time(asked.proposed_us)),
        ("votes count until", _time(asked.expires_us)),
        ("standing", str(case.standing(now_us))),
        ("approvals", f"{_yes(case)} of {case.needed}"),
        ("what comes into force", asked.content),
        *((f"fallback without {name}", asked.fallbacks[name]) for name in sorted(asked.fallbacks)),
        ("judged against", asked.replacing or "no champion"),
        ("what the gates said", asked.why or "nothing"),
        ("digest of the comparison", asked.evidence or "none"),
        ("digest of the rules", asked.rules),
    )
    tables = [Table("What is proposed", "Digests are SHA-256.", ("fact", "value"), facts)]
    tables.append(_votes(case))
    said = [f"{asked.object}, {case.standing(now_us)}"]
    if card is not None:
        said += [f"Model card: {text}" for text in (card.purpose, *card.limits)]
        tables += card_tables(card)
    return Page(
        title=f"Proposal {asked.digest[:_SHOWN]}",
        paragraphs=said,
        tables=tables,
        charts=(),
        form=form,
    )


def vote_form(case: Case, proof: str) -> str:
    """HTML that sends a vote on a proposal.

    Args:
        case: which.
        proof: shows the server that the form is its own.
    """
    return (
        f'<form action="{FOLDER}/{case.proposal.digest}" method="post">'
        f'<input type="hidden" name="proof" value="{escape(proof)}">'
        '<label>Reason <input name="reason" size="60" required></label> '
        '<button name="answer" value="approve">Approve</button> '
        '<button name="answer" value="reject">Reject</button></form>'
    )


def _row(case: Case, now_us: int) -> tuple[str, ...]:
    asked = case.proposal
    return (
        Link(asked.digest[:_SHOWN], f"{FOLDER}/{asked.digest}"),
        asked.object,
        asked.kind,
        str(asked.tier),
        asked.proposer,
        str(case.standing(now_us)),
        f"{_yes(case)} of {case.needed}",
        _time(asked.expires_us),
    )


def _votes(case: Case) -> Table:
    counted = case.counted
    rows = tuple(
        (
            vote.subject,
            vote.answer,
            _time(vote.at_us),
            "yes" if vote in counted else "no",
            vote.reason,
        )
        for vote in case.votes
    )
    note = "" if rows else "Nobody voted yet."
    return Table("Votes", note, ("by", "vote", "when", "counts", "why"), rows)


def _yes(case: Case) -> int:
    return sum(vote.answer == "approve" for vote in case.counted)


def _time(at_us: int) -> str:
    return moment_of(at_us).isoformat(timespec="minutes")
