"""Cards of this home's models: made for a registration, read with what was decided since.

What belongs here: where a card's facts are kept. What a card says is `model_card`.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fraud_platform.adapters.model_bundle import Lineage, read_card, read_manifest
from fraud_platform.adapters.model_history import Entry, effective, read_history
from fraud_platform.adapters.model_proposals import Docket
from fraud_platform.adapters.reproduction_run import document_of
from fraud_platform.adapters.tables import Tables
from fraud_platform.approvals import Case, Standing
from fraud_platform.calibration import Calibration
from fraud_platform.errors import NotReadyError, PermanentError
from fraud_platform.evaluation import EvaluationReport
from fraud_platform.events import moment_of
from fraud_platform.model import Model
from fraud_platform.model_card import CardApproval, CardData, ModelCard
from fraud_platform.model_card_facts import card_of, data_of, data_until, lineage_of
from fraud_platform.settings import Settings

_IN_VAIN = (Standing.REJECTED, Standing.EXPIRED, Standing.OVERTAKEN)
_MOVES = frozenset({"promote", "break_glass", "roll_back", "dismiss"})


def card_for(
    settings: Settings,
    model: Model,
    report: EvaluationReport,
    calibration: Calibration,
    facts: Lineage,
) -> ModelCard:
    """The card of a model that is about to be registered.

    Args:
        settings: of the home.
        model: which.
        report: what it is worth on the test slice.
        calibration: what its scores mean there.
        facts: its part of the manifest; where it names `trees_of`, that training is told.
    """
    trained = read_manifest(settings.models_dir / facts.trees_of) if facts.trees_of else facts
    lineage = lineage_of(
        model,
        report,
        facts.run_id,
        facts.training_set_digest,
        trained.recipe,
        facts.trees_of,
    )
    data = _data(settings, trained)
    return card_of(model, report, calibration, data, lineage, facts.without)


def card_of_version(models_dir: Path, version: str) -> ModelCard:
    """The sealed card of a version, and what was decided of it until now.

    Raises:
        PermanentError: the version was registered before there were cards.
        BundleIntegrityError: there is no such version, or its card is not what was sealed.
        HistoryDamagedError: the history of the roles was changed.
    """
    card = read_card(models_dir / version)
    if card is None:
        raise PermanentError(
            f"Version {version} has no card: it was registered before there were any.",
            hint="train again; every version that is registered now has one.",
        )
    moves = [e for e in effective(read_history(models_dir)) if e.version == version]
    told = [_of_move(entry) for entry in moves if entry.act in _MOVES]
    told += [one for case in cases_of(models_dir, version) for one in _of_case(case)]
    return msgspec.structs.replace(card, approvals=tuple(sorted(told, key=lambda one: one.at)))


def cases_of(models_dir: Path, version: str) -> list[Case]:
    """What was proposed of a version, with the votes on it, oldest first.

    Raises:
        HistoryDamagedError: what was proposed, or the history of the roles, was changed.
    """
    found = Docket(models_dir).cases().values()
    return [case for case in found if case.proposal.version == version]


def _data(settings: Settings, trained: Lineage) -> CardData:
    """What the model learnt from; less of it where the training set's document is gone."""
    try:
        return data_of(document_of(Tables(settings.tables_dir), trained))
    except NotReadyError:
        return data_until(trained.trained_as_of, trained.training_set_digest)


def _of_move(entry: Entry) -> CardApproval:
    return CardApproval(act=entry.act, by=entry.by, at=entry.at.isoformat(), why=entry.why)


def _of_case(case: Case) -> Iterator[CardApproval]:
    """What was asked and answered; what led to nothing, and votes that do not count, say so."""
    asked, standing = case.proposal, case.standing(time.time_ns() // 1000)
    over = f" ({standing})" if standing in _IN_VAIN else ""
    at = moment_of(asked.proposed_us).isoformat()
    yield CardApproval(act=f"propose{over}", by=asked.proposer, at=at, why=asked.why)
    for vote in case.votes:
        at = moment_of(vote.at_us).isoformat()
        counts = over if vote.answer == "approve" else ""
        counts = counts if vote in case.counted else " (did not count)"
        yield CardApproval(act=f"{vote.answer}{counts}", by=vote.subject, at=at, why=vote.reason)
