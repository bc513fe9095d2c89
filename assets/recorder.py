"""What every step read and wrote, recorded as it happens: no asset can forget it.

Tables tell of each file by the digest of the very bytes; Dagster tells whose step it is. What a
record is says `lineage`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
from dagster._core.errors import DagsterInvariantViolationError
from dagster._core.execution.context.system import StepExecutionContext as Step

from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.lineage_store import LineageStore, now_us
from fraud_platform.adapters.machine import lock_digest
from fraud_platform.adapters.model_bundle import Manifest, list_manifests
from fraud_platform.adapters.tables import StoredFile
from fraud_platform.features.table_digest import digest as table_digest
from fraud_platform.lineage import MODEL, Node, Record, origins_of
from fraud_platform.settings import Settings
from fraud_platform.training_document import TrainingSetDocument

DOCUMENT_DIGEST = "training_set_digest"
"""The fact by which a model's manifest finds the document of its training set."""
_DATA = {
    *("raw_transactions", "validated_transactions", "labels", "mature_labels"),
    *("transaction_features", "training_set"),
}
"""Tables that models rest on; their rows are digested, too, as the training set's document does."""
_FROM_THE_LOG = {"raw_transactions", "labels"}
"""Tables whose rows say at which position of the log they stand."""


class Recorder:
    """The witness of the tables; one per process.

    Args:
        store: where records go.
        log: says where positions came from.
        settings: say where things are and which code runs.
    """

    def __init__(self, store: LineageStore, log: EventLog, settings: Settings) -> None:
        self._store, self._log, self._settings = store, log, settings
        self._managed: Step | None = None
        self._of: tuple[str, str] | None = None
        self._reads: dict[tuple[str, date], str] = {}
        self._sealed_before: set[tuple[str, str]] = set()

    @contextmanager
    def during(self, step: Step) -> Iterator[None]:
        """Files that are read or written inside are those of this step."""
        self._managed = step
        try:
            yield
        finally:
            self._managed = None

    def has_read(self, file: StoredFile) -> None:
        """Keep it until the step writes."""
        if self._step() is not None:
            self._reads[file.name, file.day] = file.sha256

    def has_written(self, file: StoredFile, content: object) -> None:
        """Record it with what the step had read, and say so in Dagster."""
        step, facts = self._step(), dict[str, str]()
        rows = content if isinstance(content, pl.DataFrame) else None
        inputs = self._inputs(step, file.day)
        if rows is not None and file.name in _FROM_THE_LOG:
            inputs += origins_of(rows["seq"].to_numpy(), self._log.origins)
        if isinstance(content, TrainingSetDocument):
            facts[DOCUMENT_DIGEST] = content.digest
        if rows is None:
            inputs += self._models(inputs, step)
        made = self._record(
            Record(
                node=Node(file.name, file.day.isoformat(), file.sha256),
                path=self._relative(file.path),
                rows=None if rows is None else rows.height,
                rows_digest=table_digest(rows) if rows is not None and file.name in _DATA else "",
                inputs=tuple(dict.fromkeys(inputs)),
                at_us=now_us(),
                facts=facts,
            ),
            step,
        )
        _tell(step, file, made)

    def _step(self) -> Step | None:
        """Whose file it is; another step forgets what the one before had read."""
        step = self._managed
        if step is None:
            try:
                step = dg.OpExecutionContext.get().get_step_execution_context()
            except DagsterInvariantViolationError:  # a command or a test reads: nobody's step
                return None
        if self._of != (named := (step.run_id, step.step.key)):
            self._of = named
            self._reads.clear()
            self._sealed_before = {(one.version, one.model_digest) for one in self._new_models()}
        return step

    def _inputs(self, step: Step | None, day: date) -> list[Node]:
        """What the step read, of a range of days only those that this day looks back on."""
        spans = {} if step is None else _spans(step)
        found = []
        for (name, of), digest in self._reads.items():
            first, last = spans.get(name, (None, None))
            if first is None or last is None or first <= of - day <= last:
                found.append(Node(name, of.isoformat(), digest))
        return found

    def _models(self, inputs: list[Node], step: Step | None) -> list[Node]:
        """Record every bundle that no record tells of; returns those that this step sealed."""
        sealed = []
        for one in self._new_models():
            if step is None or (one.version, one.model_digest) in self._sealed_before:
                self._model(one, [], None)  # whoever sealed it, it is nothing of this step's
            else:
                sealed.append(self._model(one, inputs, step))
        return sealed

    def _new_models(self) -> list[Manifest]:
        """Bundles that no record tells of."""
        manifests, _ = list_manifests(self._settings.models_dir)
        return [
            one
            for one in manifests
            if not self._store.records(MODEL, one.version, one.model_digest)
        ]

    def _model(self, manifest: Manifest, inputs: list[Node], step: Step | None) -> Node:
        documents = self._store.by_fact(
            "training_set_document", DOCUMENT_DIGEST, manifest.training_set_digest
        )
        rests_on = [one.node for one in documents[-1:]]
        rests_on += [one.node for one in self._store.records(MODEL, manifest.trees_of)[-1:]]
        if rests_on:
            rests_on += inputs
        else:  # nobody recorded its training set: it is from before lineage was
            step = None
        node = Node(MODEL, manifest.version, manifest.model_digest)
        facts = {
            DOCUMENT_DIGEST: manifest.training_set_digest,
            "mlflow_run_id": manifest.run_id,
            "library": f"{manifest.library} {manifest.library_version}",
            "trained_as_of": manifest.trained_as_of,
            "manifest_sha256": manifest.files["manifest.json"],
        }
        path = self._relative(self._settings.models_dir / manifest.version)
        made = Record(
            node=node, path=path, inputs=tuple(dict.fromkeys(rests_on)), at_us=now_us(), facts=facts
        )
        return self._record(made, step).node

    def _record(self, made: Record, step: Step | None) -> Record:
        told = replace(
            made,
            run_id="" if step is None else step.run_id,
            code_commit=self._settings.code_commit or "",
            lock_digest=lock_digest() or "",
        )
        return self._store.record(told)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._settings.home).as_posix()


def _spans(step: Step) -> dict[str, tuple[timedelta, timedelta]]:
    """By upstream table: how far from its own day a day of this asset looks, from and to."""
    definition = step.assets_def
    found: dict[str, tuple[timedelta, timedelta]] = {}
    for spec in () if definition is None else definition.specs:
        for dep in spec.deps:
            mapping = dep.partition_mapping
            if mapping is None or isinstance(mapping, dg.TimeWindowPartitionMapping):
                first = 0 if mapping is None else mapping.start_offset
                last = 0 if mapping is None else mapping.end_offset
                found[dep.asset_key.to_user_string()] = timedelta(first), timedelta(last)
    return found


def _tell(step: Step | None, file: StoredFile, made: Record) -> None:
    """Dagster's materialization names the content and the record, as the record names the run."""
    if step is None or step.assets_def is None:
        return
    keys = [key for key in step.assets_def.keys if key.to_user_string() == file.name]
    told = {
        "fraud/sha256": file.sha256,
        "fraud/lineage_record": made.seq,
        "fraud/path": dg.MetadataValue.path(str(file.path)),
    }
    for key in keys:
        day = file.day.isoformat() if step.assets_def.partitions_def is not None else None
        step.add_asset_metadata(told, asset_key=key, partition_key=day)
