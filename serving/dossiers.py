"""Finding everything that a dossier of a decision holds: for a command and for a page.

Reads nothing but files: the log, the bundles, the histories and the lineage of one home.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict

import msgspec

from fraud_platform.adapters.decision_search import payment_of
from fraud_platform.adapters.decision_source import Choice
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.lineage_graph import LineageGraph
from fraud_platform.adapters.log_file import LogFile
from fraud_platform.adapters.model_bundle import read_card, read_manifest
from fraud_platform.adapters.model_cards import cases_of
from fraud_platform.adapters.model_history import live_at, read_history
from fraud_platform.adapters.purged_records import refuse_purged
from fraud_platform.adapters.seen_payments import labels_since, seen_payments
from fraud_platform.adapters.tables import Tables
from fraud_platform.approvals import Case
from fraud_platform.decision_dossier import (
    Dossier,
    Found,
    ModelFacts,
    PastPayment,
    Shares,
    dossier,
    masked,
)
from fraud_platform.decision_replay import CUT, Finding
from fraud_platform.errors import FraudPlatformError, UnknownTransactionError
from fraud_platform.events import Decision, Transaction, moment_of
from fraud_platform.features.spec import spec_digest
from fraud_platform.headlines import HEADLINES
from fraud_platform.lineage import DECISION, MODEL, Graph, Node, origins_of
from fraud_platform.settings import Settings
from fraud_platform.training_document import TrainingSetDocument
from serving.contributions import taken_apart
from serving.past_models import PastModels
from serving.replaying import Replayer

_DOCUMENT = "training_set_document"


class Dossiers:
    """The dossiers of one home.

    Args:
        settings: of the home.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models = PastModels(settings)

    def of(self, name: str, *, shows_tokens: bool = False) -> Dossier:
        """The dossier of a decision.

        Args:
            name: its decision_id, or its payment's transaction_id.
            shows_tokens: whether the reader may see the tokens of card and device whole.

        Raises:
            UnknownTransactionError: there is no such decision.
            PurgedError: there is none any more.
        """
        with closing(EventLog(self._settings.log_path)) as log:
            log.drain()
            payment, decision, source = self._recorded(log, name)
            pasts, labels = self._around(payment, decision)
            lineage = LineageGraph(self._settings, log)
            graph = _graph(lineage, log, decision, pasts)
            shares, unexplained = self._shares(decision)
            return dossier(
                Found(
                    transaction=payment if shows_tokens else _covered(payment),
                    decision=decision,
                    source=source,
                    pasts=pasts,
                    shares=shares,
                    unexplained=unexplained,
                    model=self._model(decision),
                    roles=self._roles(decision),
                    labels=tuple(labels),
                    replayed=self._replayed(payment.transaction_id),
                    graph=graph,
                    states=tuple(map(lineage.state, graph.nodes)),
                    runs=_runs(lineage, graph),
                )
            )

    def _recorded(self, log: EventLog, name: str) -> tuple[Transaction, Decision, str]:
        """The payment, its decision and the way it came in."""
        with closing(LogFile(self._settings.log_path)) as file, file.snapshot() as connection:
            transaction_id = payment_of(connection, name)
            source = connection.execute(
                "SELECT source FROM transactions WHERE transaction_id = ?", (transaction_id,)
            ).fetchone()
        found = None if transaction_id is None else log.recorded(transaction_id)
        if found is None or found.decision is None:
            refuse_purged(self._settings, name)
            raise UnknownTransactionError(
                "found no decision under this id, expected a decision_id or a transaction_id",
                hint="payments that came by file have no decision",
            )
        return found.transaction, found.decision, str(source[0])

    def _around(
        self, payment: Transaction, decision: Decision
    ) -> tuple[dict[str, list[PastPayment]], Sequence[Mapping[str, object]]]:
        seen = min(max(decision.seen_seq, 0), decision.seq - 1)
        with closing(LogFile(self._settings.log_path)) as file, file.snapshot() as connection:
            pasts = seen_payments(connection, payment, seen)
            return pasts, labels_since(connection, payment.transaction_id)

    def _shares(self, decision: Decision) -> tuple[Shares | None, str]:
        """The score taken apart, or why it cannot be."""
        if decision.model_digest is None or decision.score is None:
            return None, "no model gave a score"
        judge = self._models.judge_of(decision)
        if decision.feature_spec_digest != spec_digest():
            judge = "the decision saw features of another declaration"
        if isinstance(judge, str):
            return None, judge
        try:
            found = taken_apart(decision, judge.model, self._settings.orders_path)
        except FraudPlatformError as error:
            return None, error.message
        contributions = tuple(found.contributions[0].tolist())
        return Shares(
            base=float(found.base[0]), margin=float(found.margin[0]), contributions=contributions
        ), ""

    def _model(self, decision: Decision) -> ModelFacts | None:
        """The bundle that decided, if it is here and says that it is the one."""
        if decision.model_version is None:
            return None
        try:
            manifest = read_manifest(self._settings.models_dir / decision.model_version)
        except FraudPlatformError:
            return None
        if manifest.model_digest != decision.model_digest:
            return None
        told = manifest.report
        return ModelFacts(
            version=manifest.version,
            digest=manifest.model_digest,
            library=f"{manifest.library} {manifest.library_version}",
            trained_as_of=manifest.trained_as_of,
            training_set_digest=manifest.training_set_digest,
            training_set=self._training_set(manifest.training_set_digest),
            review_threshold=manifest.review_threshold,
            decline_threshold=manifest.decline_threshold,
            headline={name: told[name] for name in HEADLINES if name in told},
            moves=self._moves(manifest.version),
            card=self._card(manifest.version),
        )

    def _moves(self, version: str) -> tuple[Mapping[str, object], ...]:
        """What was proposed, voted and done, oldest first."""
        told: list[dict[str, object]] = [
            msgspec.to_builtins(entry) | {"at": entry.at.isoformat()}
            for entry in read_history(self._settings.models_dir)
            if entry.version == version
        ]
        for case in cases_of(self._settings.models_dir, version):
            told += _said_in(case)
        return tuple(sorted(told, key=lambda one: str(one["at"])))

    def _card(self, version: str) -> Mapping[str, object]:
        try:
            card = read_card(self._settings.models_dir / version)
        except FraudPlatformError as error:
            return {"untold": error.message}
        if card is None:
            return {"untold": "it was registered before there were model cards"}
        told: dict[str, object] = msgspec.to_builtins(card)
        return told

    def _training_set(self, digest: str) -> dict[str, object]:
        """Days and rows of a training set by its document, if that is still the one."""
        tables = Tables(self._settings.tables_dir)
        for day in reversed(tables.days(_DOCUMENT)):
            told = tables.read_document(_DOCUMENT, day, TrainingSetDocument)
            if told.digest == digest:
                slices = [asdict(part) for part in told.slices]
                return {"as_of": told.as_of, "slices": slices, "rows_digest": told.rows_digest}
        return {}

    def _roles(self, decision: Decision) -> dict[str, object]:
        entry = live_at(read_history(self._settings.models_dir), moment_of(decision.decided_us))
        if entry is None:
            return {}
        told: dict[str, object] = msgspec.to_builtins(entry)
        return {"at": entry.at.isoformat(), **told}

    def _replayed(self, transaction_id: str) -> dict[str, object]:
        """What deciding again gives now: equal, the first difference, or what cannot be told."""
        found: list[Finding] = []
        choice = Choice(transaction_id=transaction_id)
        Replayer(self._settings).replay(choice, found=lambda _, what: found.append(what))
        if not found:
            return {
                "verdict": "not compared",
                "values_compared": 0,
                "first_difference": None,
                "gaps": [CUT],
            }
        (one,) = found
        first = one.differences[0]._asdict() if one.differences else None
        verdict = "different" if one.differences else "not compared" if one.gaps else "equal"
        return {
            "verdict": verdict,
            "values_compared": one.compared,
            "first_difference": first,
            "gaps": one.gaps,
        }


def _covered(payment: Transaction) -> Transaction:
    """The payment with no token whole."""
    device = None if payment.device_id is None else masked(payment.device_id)
    return payment._replace(card_id=masked(payment.card_id), device_id=device)


def _said_in(case: Case) -> Iterator[dict[str, object]]:
    """A proposal and its votes, as moves are told."""
    asked = case.proposal
    yield {
        "at": moment_of(asked.proposed_us).isoformat(),
        "act": "propose",
        "by": asked.proposer,
        "why": asked.why,
        "proposal": asked.digest,
        "evidence": asked.evidence,
        "approvals_needed": asked.approvals,
    }
    for vote in case.votes:
        counts = "" if vote in case.counted else " (did not count)"
        yield {
            "at": moment_of(vote.at_us).isoformat(),
            "act": f"{vote.answer}{counts}",
            "by": vote.subject,
            "why": vote.reason,
            "proposal": asked.digest,
        }


def _graph(
    lineage: LineageGraph,
    log: EventLog,
    decision: Decision,
    pasts: Mapping[str, Sequence[PastPayment]],
) -> Graph:
    """All that a decision rests on: its model, and what brought the payments that it saw."""
    places = [decision.seq, *(one.seq for past in pasts.values() for one in past)]
    inputs = []
    if decision.model_version is not None and decision.model_digest is not None:
        inputs.append(Node(MODEL, decision.model_version, decision.model_digest))
    inputs += origins_of(places, log.origins)
    return lineage.upstream(Node(DECISION, decision.decision_id, ""), inputs)


def _runs(lineage: LineageGraph, graph: Graph) -> dict[str, dict[str, object]]:
    """By node, the run that made it, when, and of which code; nothing of what nobody recorded."""
    found: dict[str, dict[str, object]] = {}
    for node in graph.nodes:
        for made in lineage.store.records(*node)[:1]:
            found[node.name] = {
                "rows": made.rows,
                "run_id": made.run_id,
                "made": moment_of(made.at_us).isoformat(),
                "code_commit": made.code_commit,
                "path": made.path,
            }
    return found
