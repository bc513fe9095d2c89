"""MLflow as the record of trainings and the holder of aliases.

**Invariant:** only this module moves an alias or the deployment, and a version becomes champion
only after its bundle passed its verification.

MLflow keeps runs, versions and aliases; what is scored are the bundles (`model_bundle`). MLflow's
own model loaders are never used: they run classes named in a file, and check no digest. All calls
go through `MlflowClient` with explicit addresses, so a run that someone else has open in this
process is neither used nor disturbed.

The aliases are the truth, the deployment file is their copy for scorers, which never ask MLflow.
Both move under one file lock, aliases first; whoever dies between the two leaves a difference that
`publish`, or the next move, heals. The lock holds for the processes of one machine.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from fraud_platform.adapters.deployment import (
    Deployment,
    Pointer,
    read_deployment,
    write_deployment,
)
from fraud_platform.adapters.evaluation_plots import precision_recall_figure, reliability_figure
from fraud_platform.adapters.mlflow_calls import aliases_of, locked, translated
from fraud_platform.adapters.model_bundle import (
    Bundle,
    Evidence,
    Lineage,
    load_bundle,
    manifest_digest,
    model_file_name,
    write_bundle,
)
from fraud_platform.errors import (
    BundleIntegrityError,
    NoChampionError,
    NotReadyError,
    PermanentError,
)
from fraud_platform.evaluation import EvaluationReport
from fraud_platform.features.spec import spec_digest
from fraud_platform.model import Model

REGISTERED_MODEL = "fraud"
EXPERIMENT = "fraud"
CHAMPION, CHALLENGER, PREVIOUS_CHAMPION = "champion", "challenger", "previous_champion"
_ROLES = {"champion": CHAMPION, "challenger": CHALLENGER, "previous": PREVIOUS_CHAMPION}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a training run came from; becomes the run's tags.

    Attributes:
        training_set_digest: `training_set.digest` of its rows.
        trained_as_of: ISO 8601 with zone.
        code_commit: commit of the code, with a mark if the tree was dirty; None if unknown.
        dagster_run_id: the Dagster run that trained it, or None.
        parent_run_id: an MLflow run to hang this one under (dagster-mlflow's), or None.
    """

    training_set_digest: str
    trained_as_of: str
    code_commit: str | None = None
    dagster_run_id: str | None = None
    parent_run_id: str | None = None

    def tags(self) -> dict[str, str]:
        """The tags of the run; unknown facts have none."""
        tags = {
            "fraud/training_set_digest": self.training_set_digest,
            "fraud/trained_as_of": self.trained_as_of,
            "fraud/feature_spec_digest": spec_digest(),
            "mlflow.source.git.commit": self.code_commit,
            "dagster.run_id": self.dagster_run_id,
            "mlflow.parentRunId": self.parent_run_id,
        }
        return {name: value for name, value in tags.items() if value is not None}


@dataclass(frozen=True)
class ModelVersion:
    """One registered version: its number, the run that made it, the aliases that point at it."""

    version: str
    run_id: str
    aliases: tuple[str, ...]


class ModelRegistry:
    """Runs, versions, aliases and the deployment. Cheap to make; connects on first use.

    Args:
        uri: MLflow tracking and registry address; None for SQLite under `home`.
        home: folder of MLflow's database and artifacts when `uri` is None.
        models_dir: folder of the bundles, the deployment and the lock.

    Every method may raise `RegistryUnavailableError` (try again), or `PermanentError` for a request
    that MLflow refuses.
    """

    def __init__(self, uri: str | None, home: Path, models_dir: Path) -> None:
        self._home = home.resolve()
        self._uri = uri
        self._models_dir = models_dir.resolve()

    @property
    def tracking_uri(self) -> str:
        """The address in use, for an MLflow UI or dagster-mlflow."""
        return self._uri or f"sqlite:///{self._home / 'mlflow.db'}"

    @property
    def models_dir(self) -> Path:
        """Folder of the bundles."""
        return self._models_dir

    def experiment_name(self) -> str:
        """The experiment's name, after making sure that it exists with our place for artifacts.

        Call it before another tool opens `tracking_uri`: a tool that creates the experiment itself
        would have its artifacts land in the working directory.
        """
        with translated("open the experiment"):
            self._experiment()
        return EXPERIMENT

    def log_training(
        self, model: Model, report: EvaluationReport, scored: pl.DataFrame, provenance: Provenance
    ) -> str:
        """Record one training as an MLflow run: tags, parameters, metrics, plots, model file.

        Args:
            model: what was trained.
            report: its evaluation on the test slice.
            scored: the test rows with `is_fraud` and `score`, for the plots.
            provenance: tags.

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
                self._log_files(run_id, model, report, scored)
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
            evidence: what the bundle holds beside the model.
        """
        client = self._client
        with translated("register a model"):
            self._ensure_registered_model()
            found = client.search_model_versions(
                f"name='{REGISTERED_MODEL}' and run_id='{lineage.run_id}'"
            )
            if found:
                version = str(found[0].version)
            else:
                run = client.get_run(lineage.run_id)
                created = client.create_model_version(
                    REGISTERED_MODEL,
                    source=f"{run.info.artifact_uri}/model",
                    run_id=lineage.run_id,
                    tags={"fraud/model_digest": model.digest, "fraud/library": model.library},
                )
                version = str(created.version)
        with translated("write a bundle"):
            write_bundle(self._models_dir, version, model, lineage, evidence)
        return version

    def set_challenger(self, version: str) -> None:
        """Let a version whose bundle is sound score along with the champion.

        A canary of another challenger ends.

        Raises:
            BundleIntegrityError: the bundle is damaged or missing.
        """
        with self._moving() as client:
            load_bundle(self._models_dir / version)
            client.set_registered_model_alias(REGISTERED_MODEL, CHALLENGER, version)
            self._publish(client)

    def set_canary(self, share: float) -> None:
        """Let the challenger decide on a share of the cards; 0 ends the canary.

        Args:
            share: in [0, 1].

        Raises:
            PermanentError: the share is none.
            NotReadyError: there is no challenger.
        """
        if not 0.0 <= share <= 1.0:
            raise PermanentError(f"found a canary share of {share}; expected one in [0, 1].")
        with self._moving() as client:
            found = self._publish(client, canary_share=share)
        if share and found.challenger is None:
            raise NotReadyError(
                "There is no usable challenger to give cards to.",
                hint="register one: `fraud-platform models show` names the versions.",
            )

    def promote(self, version: str) -> str:
        """Make a version the champion; the champion so far becomes `previous_champion`.

        Whoever was challenger no longer is: it asked to replace another champion. Promoting the
        champion moves nothing, but publishes the deployment if that is behind.

        Returns:
            The champion's version.

        Raises:
            BundleIntegrityError: the bundle is damaged or missing; nothing has moved.
        """
        with self._moving() as client:
            load_bundle(self._models_dir / version)
            aliases = aliases_of(client, REGISTERED_MODEL)
            champion = aliases.get(CHAMPION)
            if champion != version:
                if champion is not None:
                    client.set_registered_model_alias(REGISTERED_MODEL, PREVIOUS_CHAMPION, champion)
                client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, version)
            if CHALLENGER in aliases and (champion != version or aliases[CHALLENGER] == version):
                client.delete_registered_model_alias(REGISTERED_MODEL, CHALLENGER)
            self._publish(client)
        return version

    def roll_back(self, from_version: str | None = None) -> str:
        """Make `previous_champion` the champion again, and forget that there was another.

        A second roll-back therefore never brings the bad version back: it finds nothing to return
        to and raises. With `from_version` a repeated call is a no-op: once the champion is another
        version, only the deployment is published.

        Returns:
            The version that is champion now.

        Raises:
            NoChampionError: there is no earlier champion to return to.
            BundleIntegrityError: the earlier champion's bundle is damaged; nothing has moved.
        """
        with self._moving() as client:
            aliases = aliases_of(client, REGISTERED_MODEL)
            champion, previous = aliases.get(CHAMPION), aliases.get(PREVIOUS_CHAMPION)
            if champion is not None and from_version not in (None, champion):
                self._publish(client)
                return champion
            if champion is None or previous in (None, champion):
                raise NoChampionError(
                    f"The champion is {champion or 'none'} and no earlier champion is recorded.",
                    hint="promote a version by name, or retrain.",
                )
            load_bundle(self._models_dir / previous)
            client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, previous)
            client.delete_registered_model_alias(REGISTERED_MODEL, PREVIOUS_CHAMPION)
            self._publish(client)
            return previous

    def publish(self) -> str | None:
        """Make the deployment agree with the aliases; return the champion's version, or None.

        Heals a move that was killed between aliases and deployment, and a damaged deployment.

        Raises:
            BundleIntegrityError: the champion's bundle is damaged or missing.
        """
        with self._moving() as client:
            if (version := aliases_of(client, REGISTERED_MODEL).get(CHAMPION)) is not None:
                load_bundle(self._models_dir / version)
            champion = self._publish(client).champion
            return None if champion is None else champion.version

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

    @contextmanager
    def _moving(self) -> Iterator[Any]:
        client = self._client
        with locked(self._models_dir / ".registry.lock"), translated("move an alias"):
            yield client

    def _publish(self, client: Any, canary_share: float | None = None) -> Deployment:
        """Write what the aliases say; a canary goes on only between the same two models."""
        aliases = aliases_of(client, REGISTERED_MODEL)
        try:
            before = read_deployment(self._models_dir)
        except BundleIntegrityError as error:
            logging.getLogger(__name__).warning("writing the deployment anew: %s", error.message)
            before = Deployment()
        roles = {role: self._pointer(aliases.get(alias)) for role, alias in _ROLES.items()}
        is_same_contest = (roles["champion"], roles["challenger"]) == (
            before.champion,
            before.challenger,
        )
        if canary_share is None:
            canary_share = before.canary_share if is_same_contest else 0.0
        if roles["challenger"] is None:
            canary_share = 0.0
        found = Deployment(sequence=before.sequence, canary_share=canary_share, **roles)
        if found != before:
            found = msgspec.structs.replace(found, sequence=before.sequence + 1)
            write_deployment(self._models_dir, found)
        return found

    def _pointer(self, version: str | None) -> Pointer | None:
        """The pointer to a version; None for one whose manifest is gone: no role is left to it."""
        if version is None:
            return None
        try:
            digest = manifest_digest(self._models_dir / version)
        except BundleIntegrityError as error:
            logging.getLogger(__name__).warning("version %s has no role: %s", version, error)
            return None
        return Pointer(version=version, path=version, manifest_digest=digest)

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

    def _ensure_registered_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(REGISTERED_MODEL)
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

    def _log_files(
        self, run_id: str, model: Model, report: EvaluationReport, scored: pl.DataFrame
    ) -> None:
        client = self._client
        client.log_figure(run_id, precision_recall_figure(scored), "plots/precision_recall.png")
        client.log_figure(run_id, reliability_figure(scored), "plots/reliability.png")
        client.log_text(run_id, report.to_markdown(), "evaluation.md")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / model_file_name(model.library)
            path.write_bytes(model.payload)
            client.log_artifact(run_id, str(path), "model")
