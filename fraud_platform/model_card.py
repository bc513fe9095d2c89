"""What must be known of a model before anybody may rely on it: its card, and what a card must say.

What belongs here: the fields of a card, which of them must be told, and how it reads. Where the
facts come from is `model_card_facts`; where a card is kept is `adapters.model_bundle`.

Source: the headings follow Mitchell et al., "Model Cards for Model Reporting" (2019).
"""

from collections.abc import Mapping

import msgspec

from fraud_platform.errors import DataContractError
from fraud_platform.recipe import Recipe

FORMAT = 1
REQUIRED = (
    "purpose",
    "limits",
    "library",
    "data.as_of",
    "data.period",
    "data.training_set_digest",
    "features",
    "metrics.rows",
    "metrics.frauds",
    "metrics.average_precision",
    "metrics.auc_roc",
    "metrics.recall",
    "metrics.alert_rate",
    "calibration.genuine",
    "failure_modes",
    "lineage.run_id",
    "lineage.model_digest",
    "lineage.training_set_digest",
    "lineage.feature_spec_digest",
    "lineage.judged_rows_digest",
)
"""Fields that every card must tell; those of segments and fairness only where groups are set."""
_OF_GROUPS = ("segments", "fairness")


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a card: facts, and nothing else."""


class CardSlice(_Part, frozen=True, kw_only=True):
    """One slice of the training set: its name, first and last day (ISO 8601), rows and frauds."""

    name: str
    first_day: str
    last_day: str
    rows: int
    frauds: int


class CardData(_Part, frozen=True, kw_only=True):
    """What the model learnt from.

    Attributes:
        as_of: the moment whose knowledge it holds, ISO 8601 with zone.
        period: first and last day of its rows, or up to when they reach.
        training_set_digest: digest of the training set's document.
        slices: train, delay and test; () where the document was gone.
        left_out: why and when labelled payments were kept out.
    """

    as_of: str
    period: str
    training_set_digest: str
    slices: tuple[CardSlice, ...] = ()
    left_out: tuple[str, ...] = ()


class CardSegment(_Part, frozen=True, kw_only=True):
    """One part of the traffic, with its counts.

    Attributes:
        column: what cut the rows.
        name: value or band.
        rows: payments in it.
        frauds: how many of them are fraud.
        recall: share of them at or above the review threshold; None: too few to say.
        false_positive_rate: share of the genuine ones there; None: too few to say.
    """

    column: str
    name: str
    rows: int
    frauds: int
    recall: float | None = None
    false_positive_rate: float | None = None


class CardFairness(_Part, frozen=True, kw_only=True):
    """Whether the parts that one column makes are disturbed and declined alike.

    Attributes:
        column: what cut the rows.
        verdict: "ok", "gap" or "cannot judge".
        gaps: the parts with a gap.
    """

    column: str
    verdict: str
    gaps: tuple[str, ...] = ()


class CardCalibration(_Part, frozen=True, kw_only=True):
    """What scores mean: rows that the calibration rests on, and how true it is on others."""

    frauds: int
    genuine: int
    states_probability: bool
    expected_calibration_error: float | None = None
    brier: float | None = None
    slope: float | None = None


class CardApproval(_Part, frozen=True, kw_only=True):
    """What was decided of the version: the act, by whom, when (ISO 8601) and why."""

    act: str
    by: str
    at: str
    why: str = ""


class FailureMode(_Part, frozen=True, kw_only=True):
    """What the model is known to do badly, and what the platform does about it."""

    name: str
    what: str


class CardLineage(_Part, frozen=True, kw_only=True):
    """Digests that lead from the model to what it was made of.

    Attributes:
        run_id: the registry's run.
        model_digest: SHA-256 of the model file.
        training_set_digest: of the training set's document.
        judged_rows_digest: of the rows that the metrics are of.
        feature_spec_digest: of the declaration of the features.
        trees_of: the version whose trees it has with other cuts; "" for one trained itself.
        recipe: seed, commit, lock and machine of the training; None: nobody told them.
    """

    run_id: str
    model_digest: str
    training_set_digest: str
    judged_rows_digest: str
    feature_spec_digest: str
    trees_of: str = ""
    recipe: Recipe | None = None


class ModelCard(_Part, frozen=True, kw_only=True):
    """The card of one version.

    Attributes:
        version: the registry's; "" until it has one.
        library: and its version, and the number of trees.
        purpose: what the model is for.
        limits: what it is not for.
        data: what it learnt from.
        features: their names, in order.
        without: groups of features that it does without.
        metrics: of the evaluation, by name, all rows together.
        groups: what was asked to cut the traffic; () where nothing was.
        segments: the parts, with counts.
        unjudged: columns of `groups` that the rows did not have.
        fairness: per column of the parts.
        calibration: what scores mean.
        approvals: what was decided of it so far.
        failure_modes: what it is known to do badly.
        lineage: digests.
        format: of this document.
    """

    version: str = ""
    library: str
    purpose: str
    limits: tuple[str, ...]
    data: CardData
    features: tuple[str, ...]
    without: tuple[str, ...] = ()
    metrics: Mapping[str, float]
    groups: tuple[str, ...] = ()
    segments: tuple[CardSegment, ...] = ()
    unjudged: tuple[str, ...] = ()
    fairness: tuple[CardFairness, ...] = ()
    calibration: CardCalibration
    approvals: tuple[CardApproval, ...] = ()
    failure_modes: tuple[FailureMode, ...]
    lineage: CardLineage
    format: int = FORMAT


def missing_fields(card: ModelCard) -> tuple[str, ...]:
    """The required fields that a card does not tell, by their paths; () for a whole one."""
    wanted = [*REQUIRED]
    if set(card.groups) - set(card.unjudged):
        wanted += _OF_GROUPS
    return tuple(path for path in wanted if not _told(card, path))


def require_whole(card: ModelCard | None) -> ModelCard:
    """The card, if it tells everything that a registration asks for.

    Raises:
        DataContractError: there is none, or fields are missing; the message names them.
    """
    if card is None:
        raise DataContractError(
            "found a model without a card, expected one with purpose, data, metrics and lineage",
            hint="give `Evidence.card`: `model_card_facts.card_of` makes it.",
        )
    if missing := missing_fields(card):
        raise DataContractError(
            f"found a model card that does not tell {', '.join(missing)}",
            hint="a version is registered with a whole card only; see docs/model-risk.md.",
        )
    return card


def decode_card(content: bytes) -> ModelCard:
    """A card from its JSON.

    Raises:
        DataContractError: it is none.
    """
    try:
        return msgspec.json.decode(content, type=ModelCard)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataContractError(f"found no model card: {error}") from error


def encode_card(card: ModelCard) -> bytes:
    """The one form of a card as a file: JSON in the order of the fields, for people indented."""
    return msgspec.json.format(msgspec.json.encode(card), indent=1) + b"\n"


def _told(card: ModelCard, path: str) -> bool:
    """Whether a field says anything; 0 does, where a number is asked for."""
    found: object = card
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else getattr(found, name)
    if isinstance(found, int | float):
        return found == found  # a figure that is not a number says nothing
    return bool(found.strip() if isinstance(found, str) else found)
