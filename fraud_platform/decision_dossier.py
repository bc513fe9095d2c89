"""Everything that can be said of one decision, as one value: for a text, a page or a program.

What belongs here: what a dossier holds, and how it follows from what was found. Finding it (log,
bundle, histories, lineage, replay) is the caller's affair.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import NamedTuple

from fraud_platform.card_number import token
from fraud_platform.decision import GENERAL_REASONS
from fraud_platform.events import Decision, Transaction, moment_of
from fraud_platform.features.declaration import Feature, Stream
from fraud_platform.features.spec import FEATURES
from fraud_platform.lineage import Graph, State

_OF_THE_MOMENT = (
    *("mode", "missing", "arm", "is_late", "governed", "review_cut", "decline_cut"),
    *("fpr_bound", "budget", "price_minor", "worth_multiplier"),
    *("explored", "pass_propensity", "audit_propensity"),
)
DECISION_ID = re.compile(r"dec_[0-9]{1,18}")
"""What the platform calls decisions; senders choose the other ids."""
MOST_PAYMENTS = 200
"""So many payments of a card or terminal are listed, the newest; all are counted."""


class PastPayment(NamedTuple):
    """A payment that the decision could see.

    Attributes:
        seq: its place in the log.
        event_us: when it happened, microseconds UTC.
        amount_minor: its amount.
        is_fraud: whether it was known to be fraud at the moment of the decision.
    """

    seq: int
    event_us: int
    amount_minor: int
    is_fraud: bool


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One feature as the decision saw it.

    Attributes:
        name: of the feature.
        value: recorded; None where it is undefined.
        meaning: one sentence.
        since: the oldest moment that it looks at, ISO 8601 UTC; None: at this payment alone.
        until: the newest one, which does not belong to it.
        of: whose past: "card", "terminal" or "transaction".
        counts: which payments count: "payments", "frauds" or "good", and where.
        events: how many of them are in the window; None where the past is not known here.
        reason_code: by which a decision names it.
        contribution: its exact share of the margin, positive towards fraud; None without a model.
    """

    name: str
    value: float | None
    meaning: str
    since: str | None
    until: str | None
    of: str
    counts: str
    events: int | None
    reason_code: str
    contribution: float | None


@dataclass(frozen=True, kw_only=True)
class Shares:
    """A score taken apart: base and contributions add up to the margin, its log-odds.

    Attributes:
        base: what every payment begins with.
        margin: the log-odds of the score.
        contributions: one per feature, in their order.
    """

    base: float
    margin: float
    contributions: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The model that decided, as its sealed bundle tells it.

    Attributes:
        version: of the registry.
        digest: SHA-256 of the model file.
        library: and its version.
        trained_as_of: the moment whose knowledge it holds.
        training_set_digest: names the document of its training set.
        training_set: what that document says of rows and days; {} where it is not here any more.
        review_threshold: the model's own cut.
        decline_threshold: likewise.
        headline: how it did on rows that it had not learnt from.
        moves: who proposed, approved or moved it, oldest first.
        card: its model card as plain values, or why there is none under `untold`.
    """

    version: str
    digest: str
    library: str
    trained_as_of: str
    training_set_digest: str
    training_set: Mapping[str, object]
    review_threshold: float
    decline_threshold: float
    headline: Mapping[str, float]
    moves: tuple[Mapping[str, object], ...]
    card: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found of one decision.

    Attributes:
        transaction: what was asked; its card and terminal as the reader may see them.
        decision: the record.
        source: by which way the payment came in.
        pasts: by entity the payments that it could see, in the order of the log.
        shares: of its score; None where no model judged or it cannot be taken apart.
        unexplained: why not.
        model: that decided, if its bundle is here.
        roles: who had which role at that moment, and who had moved it; {} before the first move.
        labels: what was said about the payment since, oldest first.
        replayed: what deciding again gave just now.
        graph: what the decision rests on.
        states: of the graph's nodes, in their order.
        runs: by node name, the Dagster run that made it and when.
    """

    transaction: Transaction
    decision: Decision
    source: str
    pasts: Mapping[str, Sequence[PastPayment]]
    shares: Shares | None
    unexplained: str
    model: ModelFacts | None
    roles: Mapping[str, object]
    labels: tuple[Mapping[str, object], ...]
    replayed: Mapping[str, object]
    graph: Graph
    states: tuple[State, ...]
    runs: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Dossier:
    """One decision, whole; every part holds plain values only.

    Attributes:
        asked: the payment.
        answer: the decision, and when it was taken on what.
        why: sentences, from the score to the answer.
        reasons: its codes with their texts and exact contributions, strongest first.
        seen: every feature.
        payments: by entity, the newest payments that it saw, and how many there were.
        margin: `base` and `margin` of the score, or why it cannot be taken apart.
        model: that decided; None if none did or its bundle is gone.
        roles: of the models at that moment.
        moment: mode, governor and price at that moment.
        labels: since.
        lineage: nodes, edges and what has become of each content.
        replayed: just now.
    """

    asked: Mapping[str, object]
    answer: Mapping[str, object]
    why: tuple[str, ...]
    reasons: tuple[Mapping[str, object], ...]
    seen: tuple[Seen, ...]
    payments: Mapping[str, Mapping[str, object]]
    margin: Mapping[str, object]
    model: ModelFacts | None
    roles: Mapping[str, object]
    moment: Mapping[str, object]
    labels: tuple[Mapping[str, object], ...]
    lineage: Mapping[str, object]
    replayed: Mapping[str, object]

    def to_dict(self) -> dict[str, object]:
        """The same as plain values, for JSON."""
        return asdict(self)


def masked(token: str) -> str:
    """The last four signs of a token.

    Examples:
        >>> masked("card-4711-0815"), masked("abc")
        ('…0815', '…')
    """
    return f"…{token[-4:]}" if len(token) > len("…") + 4 else "…"


def covered(told: str, key: bytes | None) -> str:
    """What may be a card's token, for the audit log: told again only to whoever has the key.

    Args:
        told: what was asked for.
        key: of the tokens; None: the last four signs are kept.

    Examples:
        >>> covered("card-4711-0815", None)
        '…0815'
    """
    return masked(told) if key is None else token(told, key)


def dossier(found: Found) -> Dossier:
    """Put together what was found."""
    decision, payment = found.decision, found.transaction
    shares = None if found.shares is None else found.shares.contributions
    seen = tuple(
        _seen(feature, value, payment, found.pasts, None if shares is None else shares[place])
        for place, (feature, value) in enumerate(
            zip(FEATURES, decision.features, strict=False)  # the first versions recorded fewer
        )
    )
    return Dossier(
        asked={
            **payment._asdict(),
            "happened": moment_of(payment.event_us).isoformat(),
            "seq": decision.seq,
            "source": found.source,
        },
        answer=_answer(decision),
        why=_why(found),
        reasons=tuple(_reason(code, seen) for code in decision.reasons),
        seen=seen,
        payments={entity: _listed(past) for entity, past in found.pasts.items()},
        margin=_margin(found),
        model=found.model,
        roles=found.roles,
        moment=_moment(decision),
        labels=found.labels,
        lineage=_lineage(found),
        replayed=found.replayed,
    )


def in_window(feature: Feature, event_us: int, past: Sequence[PastPayment]) -> list[PastPayment]:
    """The payments of a past that a feature of a payment of that moment counts or looks at.

    The rules are docs/semantics.md; marks and facts of `where` are not looked at here.

    Examples:
        >>> past = [PastPayment(1, 0, 500, False), PastPayment(2, 3_600_000_000, 500, True)]
        >>> hour = next(f for f in FEATURES if f.name == "card_payment_count_1h")
        >>> [payment.seq for payment in in_window(hour, 3_600_000_001, past)]
        [2]
    """
    first, end = event_us - feature.reach_us, event_us - feature.delay_us
    wanted = {Stream.FRAUDS: True, Stream.GOOD: False}.get(feature.stream)
    return [
        one
        for one in past
        if first <= one.event_us < end and (wanted is None or one.is_fraud is wanted)
    ]


def _seen(
    feature: Feature,
    value: float | None,
    payment: Transaction,
    pasts: Mapping[str, Sequence[PastPayment]],
    contribution: float | None,
) -> Seen:
    past, has_window = pasts.get(feature.entity), feature.window is not None
    known = past is not None and has_window and feature.where is None
    only = "" if feature.where is None else f" where {feature.where.fact} is {feature.where.equals}"
    return Seen(
        name=feature.name,
        value=value,
        meaning=feature.reason_text,
        since=_ago(payment, feature.reach_us) if has_window else None,
        until=_ago(payment, feature.delay_us) if has_window else None,
        of=feature.entity,
        counts=f"{feature.stream}{only}" if has_window else "this payment",
        events=len(in_window(feature, payment.event_us, past or ())) if known else None,
        reason_code=feature.reason_code,
        contribution=contribution,
    )


def _ago(payment: Transaction, age_us: int) -> str:
    return (moment_of(payment.event_us) - timedelta(microseconds=age_us)).isoformat()


def _answer(decision: Decision) -> dict[str, object]:
    told = decision._asdict()
    for name in ("features", "reasons"):
        del told[name]
    return {**told, "decided": moment_of(decision.decided_us).isoformat()}


def _reason(code: str, seen: Sequence[Seen]) -> dict[str, object]:
    features = [one for one in seen if one.reason_code == code]
    return {
        "code": code,
        "text": GENERAL_REASONS.get(code) or " ".join(one.meaning for one in features),
        "features": [one.name for one in features],
        "values": [one.value for one in features],
        "contributions": [one.contribution for one in features],
    }


def _listed(past: Sequence[PastPayment]) -> dict[str, object]:
    newest = sorted(past, key=lambda one: one.event_us)[-MOST_PAYMENTS:]
    return {"count": len(past), "newest": [one._asdict() for one in newest]}


def _margin(found: Found) -> dict[str, object]:
    if found.shares is None:
        return {"unexplained": found.unexplained}
    return {"base": found.shares.base, "margin": found.shares.margin}


def _moment(decision: Decision) -> dict[str, object]:
    return {name: getattr(decision, name) for name in _OF_THE_MOMENT}


def _why(found: Found) -> tuple[str, ...]:
    """From the score to the answer, a sentence for each step that was taken."""
    decision, model = found.decision, found.model
    if decision.score is None:
        cause = GENERAL_REASONS.get(decision.reasons[0], "") if decision.reasons else ""
        return (
            f"No model gave a score. {cause}".strip(),
            f"So the answer was {decision.decision}.",
        )
    told = [f"The model scored {decision.score:.6f}{_meaning(decision)}."]
    if model is not None:
        told.append(
            f"Its own cuts: review from {model.review_threshold:.6f}, decline from"
            f" {model.decline_threshold:.6f}."
        )
    if decision.review_cut is not None and decision.decline_cut is not None:
        told.append(
            f"The cuts in force under the cap: review from {decision.review_cut:.6f}, decline from"
            f" {decision.decline_cut:.6f}{_cap(decision)}."
        )
    if decision.governed is not None:
        weighed = decision.worth_multiplier is not None
        held = "the cap or its worth" if weighed else "the cap"
        told.append(
            f"Alone the model would have answered {decision.governed}; {held} made it milder."
        )
    if decision.explored is not None:
        told.append(f"Chance had a hand in it: {decision.explored}.")
    return (*told, f"So the answer was {decision.decision}.")


def _meaning(decision: Decision) -> str:
    told = []
    if decision.probability is not None:
        told.append(f"a chance of fraud of {decision.probability:.2%}")
    if decision.expected_fpr is not None:
        told.append(f"{decision.expected_fpr:.3%} of genuine payments score as high")
    return f": {', '.join(told)}" if told else ""


def _cap(decision: Decision) -> str:
    told = []
    if decision.budget is not None:
        told.append(f"at most {decision.budget:.1%} of payments may be disturbed")
    if decision.fpr_bound is not None:
        told.append(f"of genuine ones at most {decision.fpr_bound:.2%} can be")
    if decision.price_minor is not None:
        told.append(f"price of a false block avoided: {decision.price_minor:.0f} minor units")
    return f" ({'; '.join(told)})" if told else ""


def _lineage(found: Found) -> dict[str, object]:
    nodes = [
        {
            "kind": node.kind,
            "part": node.part,
            "digest": node.digest,
            "state": str(state),
            **found.runs.get(node.name, {}),
        }
        for node, state in zip(found.graph.nodes, found.states, strict=True)
    ]
    spans = {
        kind: {"contents": count, "first": first, "last": last}
        for kind, (count, first, last) in found.graph.spans().items()
    }
    return {"nodes": nodes, "edges": [list(edge) for edge in found.graph.edges], "spans": spans}
