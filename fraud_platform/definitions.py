"""The composition root of the asset graph: the only place where its objects are wired."""

from collections.abc import Iterator
from importlib import import_module

import dagster as dg

from assets import STAGES
from assets.io import TableIOManager
from assets.recorder import Recorder
from fraud_platform.adapters.alerts import Alerts
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.feature_store import FeatureStore
from fraud_platform.adapters.lineage_store import LineageStore
from fraud_platform.adapters.model_registry import ModelRegistry, registry_of
from fraud_platform.adapters.tables import Tables
from fraud_platform.settings import Settings, get_settings
from sensors.approvals import approvals
from sensors.arrivals import new_transactions
from sensors.failures import run_failures
from sensors.healing import heal, label_volume
from sensors.jobs import JOBS
from sensors.label_feed import label_feed
from sensors.rollout import canary_ramp
from sensors.schedules import (
    hourly_verification,
    nightly_purge,
    nightly_replay,
    nightly_scan,
    six_hourly_monitoring,
    weekly_retraining,
)
from serving.replaying import Replayer


def build_definitions(settings: Settings) -> dg.Definitions:
    """Assemble the code location for one configuration; tests pass a temporary home.

    Every Dagster process runs this again, so constructors connect on first use only.
    """
    modules = {stage: import_module(f"assets.{stage}") for stage in STAGES}
    log = EventLog(settings.log_path)
    recorder = Recorder(LineageStore(settings.lineage_path), log, settings)
    tables = Tables(settings.tables_dir, recorder)
    registry = registry_of(settings)
    return dg.Definitions(
        assets=[
            asset
            for stage, module in modules.items()
            for asset in dg.load_assets_from_modules([module], group_name=stage, include_specs=True)
        ],
        asset_checks=[
            check
            for module in modules.values()
            for check in dg.load_asset_checks_from_modules([module])
        ],
        jobs=JOBS,
        schedules=[
            weekly_retraining,
            six_hourly_monitoring,
            nightly_replay,
            nightly_scan,
            nightly_purge,
            hourly_verification,
        ],
        sensors=[
            new_transactions,
            label_volume,
            label_feed,
            heal,
            canary_ramp,
            approvals,
            run_failures,
            dg.AutomationConditionSensorDefinition(
                "automation",
                target=dg.AssetSelection.all(),
                description="Requests what follows by itself once its upstream is there and sound.",
                default_status=dg.DefaultSensorStatus.RUNNING,
                minimum_interval_seconds=settings.sensor_seconds,
            ),
        ],
        resources={
            "io_manager": TableIOManager(tables, recorder),
            "settings": settings,
            "tables": tables,
            "event_log": log,
            "feature_store": _feature_store(settings),
            "registry": registry,
            "replayer": Replayer(settings),
            "alerts": Alerts(settings.alerts_path),
            "mlflow": _mlflow(registry),
        },
        executor=dg.in_process_executor,
    )


def _feature_store(settings: Settings) -> FeatureStore:
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    history = settings.tables_dir / "transaction_features"
    return FeatureStore(settings.feast_dir, history=history, redis_url=redis_url)


def _mlflow(registry: ModelRegistry) -> dg.ResourceDefinition:
    """dagster-mlflow's run per Dagster run, on our registry; imported late, it costs seconds."""

    @dg.resource(description="The MLflow run that the trainings of one Dagster run belong to.")
    def mlflow(context: dg.InitResourceContext) -> Iterator[object]:
        from dagster_mlflow import mlflow_tracking

        config = {
            "experiment_name": registry.experiment_name(),
            "mlflow_tracking_uri": registry.tracking_uri,
            "env": {},
            "extra_tags": {},
        }
        yield from mlflow_tracking.resource_fn(context.replace_config(config))

    return mlflow


@dg.definitions
def defs() -> dg.Definitions:
    """The code location named in workspace.yaml, configured by the environment."""
    return build_definitions(get_settings())
