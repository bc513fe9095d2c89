"""MLflow as the record of trainings and the holder of aliases.

What belongs here: trainings, versions and their bundles. Who has which role is `model_roles`.

MLflow keeps runs, versions and aliases; what is scored are the bundles (`model_bundle`). MLflow's
own model loaders are never used: they run classes named in a file, and check no digest. All calls
go through `MlflowClient` with explicit addresses, so a run that someone else has open in this
process is neither used nor disturbed.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from fraud_platform.adapters.evaluation_page import evaluation_page
from fraud_platform.adapters.governance import UNGOVERNED, Governance, governance_of
from fraud_platform.adapters.lock_file import locked
from fraud_platform.adapters.mlflow_calls import aliases_of, translated
from fraud_platform.adapters.model_bundle import (
    Bundle,
    Evidence,
    Lineage,
    load_bundle,
    model_file_name,
    write_bundle,
)
from fraud_platform.adapters.model_card_page import card_description, card_markdown
from fraud_platform.adapters.model_roles import CHAMPION, REGISTERED_MODEL, ModelRoles
from fraud_platform.errors import BundleIntegrityError
from fraud_platform.evaluation import EvaluationReport
from fraud_platform.features.spec import spec_digest
from fraud_platform.model import Model
from fraud_platform.model_card import ModelCard, encode_card, require_whole
from fraud_platform.search import CHECKPOINT_ROUNDS, Trial
from fraud_platform.settings import Settings

EXPERIMENT = "fraud"
FALLBACK_MODEL = "fraud_fallback"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a training run came from; becomes the run's tags.

    Attributes:
        training_set_digest: digest of the training set's document.
        trained_as_of: ISO 8601 with zone.
        code_commit: commit of the code, with a mark if the tree was dirty; None if unknown.
        dagster_run_id: the Dagster run that trained it, or None.
        parent_run_id: an MLflow run to hang this one under (dagster-mlflow's), or None.
        is_search_cut: whether the clock ended the search (`ModelPolicy.max_seconds`): the same
            inputs may then give another model.
        without: groups of features that it was trained without.
    """

    training_set_digest: str
    trained_as_of: str
    code_commit: str | None = None
    dagster_run_id: str | None = None
    parent_run_id: str | None = None
    is_search_cut: bool = False
    without: tuple[str, ...] = ()

    def tags(self) -> dict[str, str]:
        """The tags of the run; unknown facts have none."""
        tags = {
            "fraud/training_set_digest": self.training_set_digest,
            "fraud/trained_as_of": self.trained_as_of,
            "fraud/feature_spec_digest": spec_digest(),
            "mlflow.source.git.commit": self.code_commit,
            "dagster.run_id": self.dagster_run_id,
            "mlflow.parentRunId": self.parent_run_id,
            "fraud/is_search_cut": str(self.is_search_cut),
            "fraud/without": ", ".join(self.without) or None,
        }
        return {name: value for name, value in tags.items() if value is not None}


@dataclass(frozen=True)
class ModelVersion:
    """One registered version: its number, the run that made it, the aliases that point at it."""

    version: str
    run_id: str
    aliases: tuple[str, ...]


def registry_of(settings: Settings) -> "ModelRegistry":
    """The registry of a home; every process that moves a home's models takes it from here."""
    uri = settings.mlflow_uri.get_secret_value() if settings.mlflow_uri else None
    governance = governance_of(settings)
    return ModelRegistry(uri, settings.mlflow_dir, settings.models_dir, governance)


class ModelRegistry(ModelRoles):
    """Runs, versions and, through `ModelRoles`, roles. Cheap to make; connects on first use.

    Args:
        uri: MLflow tracking and registry address; None for SQLite under `home`.
        home: folder of MLflow's database and artifacts when `uri` is None.
        models_dir: folder of the bundles, the deployment and the lock.
        governance: whose approval a promotion needs, and where acts are recorded.

    Every method may raise `RegistryUnavailableError` (try again), or `PermanentError` for a request
    that MLflow refuses.
    """

    def __init__(
        self,
        uri: str | None,
        home: Path,
        models_dir: Path,
        governance: Governance = UNGOVERNED,
    ) -> None:
        self._home = home.resolve()
        self._uri = uri
        super().__init__(models_dir, governance)

    @property
    def tracking_uri(self) -> str:
        """The address in use, for an MLflow UI or dagster-mlflow."""
        return self._uri or f"sqlite:///{self._home / 'mlflow.db'}"

    def experiment_name(self) -> str:
        """The experiment's name, after making sure that it exists with our place for artifacts.

        Call it before another tool opens `tracking_uri`: a tool that creates the experiment itself
        would have its artifacts land in the working directory.
        """
        with translated("open the experiment"):
            self._experiment()
        return EXPERIMENT

    def log_training(
        self,
        model: Model,
        report: EvaluationReport,
        provenance: Provenance,
        trials: Sequence[Trial] = (),
    ) -> str:
        """Record one training as an MLflow run: tags, parameters, metrics, page, model file.

        Args:
            model: what was trained.
            report: its evaluation on the test slice.
            provenance: tags.
            trials: of the search that found the model's parameters; each becomes a child run.

        Returns:
            The run's id.
        """
        client = self._client
        with translated("record a training"):
            run = client.create_run(
                self._experiment(),
                run_name=f"{model.library} {provenance.trained_as_of}",
                tags=provenance.tags(),
            )
            run_id = str(run.info.run_id)
            status = "FAILED"
            try:
                self._log_facts(run_id, int(run.info.start_time), model, report)
                self._log_files(run_id, model, report)
                self._log_trials(run_id, int(run.info.start_time), trials)
                status = "FINISHED"
            finally:
                client.set_terminated(run_id, status)
        return run_id

    def register(self, model: Model, lineage: Lineage, evidence: Evidence) -> str:
        """Give a logged training a version number and write its bundle; moves no alias.

        Registering the same run again returns its version, and writes the bundle if that is still
        missing.

        Args:
            model: the model of the run.
            lineage: the bundle's facts; `lineage.run_id` is the run from `log_training`.
            evidence: what the bundle holds beside the model; its card must be whole.

        Raises:
            DataContractError: a required field of the card is missing; nothing was registered.
        """
        card = require_whole(evidence.card)
        with translated("register a model"):
            version = self._registered(REGISTERED_MODEL, model, lineage.run_id)
        with translated("write a bundle"):
            write_bundle(self._models_dir, version, model, lineage, evidence)
        with translated("describe a model"):
            self._describe(lineage.run_id, version, msgspec.structs.replace(card, version=version))
        return version

    def register_fallback(
        self, version: str, model: Model, lineage: Lineage, evidence: Evidence
    ) -> None:
        """Write the bundle of a fallback; MLflow keeps it under a model of its own.

        It gets no version number among those that may become champion.

        Args:
            version: its `fallbacks.fallback_version`.
            model: the model of the run.
            lineage: the bundle's facts, `without` among them.
            evidence: what the bundle holds beside the model; its card must be whole.

        Raises:
            DataContractError: a required field of the card is missing; nothing was registered.
        """
        require_whole(evidence.card)
        with translated("register a fallback"):
            self._registered(FALLBACK_MODEL, model, lineage.run_id, {"fraud/version": version})
        with translated("write a bundle"):
            write_bundle(self._models_dir, version, model, lineage, evidence)

    def champion(self) -> Bundle | None:
        """The verified bundle of the alias `champion`, or None while there is none."""
        version = self.alias(CHAMPION)
        return None if version is None else load_bundle(self._models_dir / version)

    def usable(self, alias: str) -> tuple[Bundle | None, str | None]:
        """The verified bundle of an alias, or else why it cannot be used; None twice without one.

        For whoever must go on: a bad champion could never be replaced if all who look at it failed.
        """
        if (version := self.alias(alias)) is None:
            return None, None
        try:
            return self.bundle(version), None
        except BundleIntegrityError as error:
            problem = f"Version {version} ({alias}) cannot be used: {error.message}"
            logging.getLogger(__name__).warning(problem)
            return None, problem

    def bundle(self, version: str) -> Bundle:
        """The verified bundle of a version."""
        return load_bundle(self._models_dir / version)

    def alias(self, name: str) -> str | None:
        """The version an alias points at, or None."""
        with translated("read an alias"):
            return aliases_of(self._client, REGISTERED_MODEL).get(name)

    def versions(self) -> list[ModelVersion]:
        """Every registered version, oldest first."""
        with translated("list versions"):
            aliases = aliases_of(self._client, REGISTERED_MODEL)
            found = self._client.search_model_versions(f"name='{REGISTERED_MODEL}'")
        return [
            ModelVersion(
                version=str(entry.version),
                run_id=str(entry.run_id),
                aliases=tuple(sorted(a for a, v in aliases.items() if v == str(entry.version))),
            )
            for entry in sorted(found, key=lambda entry: int(entry.version))
        ]

    @cached_property
    def _client(self) -> Any:  # mlflow is skipped by the type checker
        from mlflow import MlflowClient

        # Building a new database is announced line by line at INFO.
        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with translated("connect"), locked(self._home / ".connect.lock"):
            client = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
            # Two processes must not build the same database: ask something while locked.
            client.get_experiment_by_name(EXPERIMENT)
        return client

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        place = None if self._uri else (self._home / "artifacts").as_uri()
        try:
            return str(self._client.create_experiment(EXPERIMENT, artifact_location=place))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return str(self._client.get_experiment_by_name(EXPERIMENT).experiment_id)

    def _registered(
        self, name: str, model: Model, run_id: str, tags: Mapping[str, str] = MappingProxyType({})
    ) -> str:
        """The version number of a run's model; it gets one if it has none."""
        client = self._client
        self._ensure_registered_model(name)
        if found := client.search_model_versions(f"name='{name}' and run_id='{run_id}'"):
            return str(found[0].version)
        created = client.create_model_version(
            name,
            source=f"{client.get_run(run_id).info.artifact_uri}/model",
            run_id=run_id,
            tags={"fraud/model_digest": model.digest, "fraud/library": model.library, **tags},
        )
        return str(created.version)

    def _describe(self, run_id: str, version: str, card: ModelCard) -> None:
        """Show the card where MLflow shows the version."""
        self._client.log_text(run_id, card_markdown(card), "model_card.md")
        self._client.log_text(run_id, encode_card(card).decode(), "model_card.json")
        self._client.update_model_version(REGISTERED_MODEL, version, card_description(card))

    def _ensure_registered_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _log_facts(
        self, run_id: str, started_ms: int, model: Model, report: EvaluationReport
    ) -> None:
        from mlflow.entities import Metric, Param

        parameters = {**model.parameters, "library": model.library, "rounds": model.rounds}
        numbers = report.to_dict()
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, started_ms, 0) for name, value in numbers.items()],
            params=[Param(name, str(value)) for name, value in parameters.items()],
        )
        self._client.set_tag(run_id, "fraud/model_digest", model.digest)
        self._client.set_tag(run_id, "fraud/library_version", model.library_version)

    def _log_trials(self, run_id: str, started_ms: int, trials: Sequence[Trial]) -> None:
        """One child run per trial, as long as the trial took; all seem to begin with the parent."""
        from mlflow.entities import Metric, Param

        for trial in trials:
            child = self._client.create_run(
                self._experiment(),
                start_time=started_ms,
                tags={"mlflow.parentRunId": run_id, "fraud/is_pruned": str(trial.is_pruned)},
                run_name=f"trial {trial.number}",
            )
            ended = started_ms + round(1000 * trial.seconds)
            numbers = {"quality": trial.quality, "rounds": trial.rounds, "seconds": trial.seconds}
            points = [(name, value, 0) for name, value in numbers.items()]
            points += [
                ("quality_by_round", quality, CHECKPOINT_ROUNDS * step)
                for step, quality in enumerate(trial.checkpoints, start=1)
            ]
            self._client.log_batch(
                child.info.run_id,
                metrics=[Metric(name, value, ended, step) for name, value, step in points],
                params=[Param(name, str(value)) for name, value in trial.parameters.items()],
            )
            self._client.set_terminated(child.info.run_id, "FINISHED", end_time=ended)

    def _log_files(self, run_id: str, model: Model, report: EvaluationReport) -> None:
        client = self._client
        client.log_text(run_id, evaluation_page(report, model.library), "evaluation.html")
        client.log_text(run_id, report.to_markdown(), "evaluation.md")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / model_file_name(model.library)
            path.write_bytes(model.payload)
            client.log_artifact(run_id, str(path), "model")
