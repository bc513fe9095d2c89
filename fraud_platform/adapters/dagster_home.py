"""Dagster's own home: its instance configuration, written from the settings."""

from pathlib import Path

import yaml

from fraud_platform.settings import Settings

_TEMPLATE = Path(__file__).parents[2] / "dagster.yaml"


def prepare(settings: Settings) -> Path:
    """Write `dagster.yaml` under the home and return the folder to use as DAGSTER_HOME.

    Everything but the storage comes from the repository's `dagster.yaml`. Storage is SQLite in that
    folder, or PostgreSQL when `dagster_postgres_url` is set. The address is not written down: the
    file names the environment variable that holds it.
    """
    home = settings.dagster_dir.resolve()
    home.mkdir(parents=True, exist_ok=True)
    instance = yaml.safe_load(_TEMPLATE.read_text("utf-8"))
    instance["local_artifact_storage"]["config"]["base_dir"] = str(home)
    instance["compute_logs"]["config"]["base_dir"] = str(home / "compute_logs")
    if settings.dagster_postgres_url is None:
        instance["storage"] = {"sqlite": {"base_dir": str(home / "storage")}}
    else:
        instance["storage"] = {"postgres": {"postgres_url": {"env": "FRAUD_DAGSTER_POSTGRES_URL"}}}
    part = home / ".dagster.yaml.part"
    part.write_text(yaml.safe_dump(instance, sort_keys=False), "utf-8")
    part.replace(home / "dagster.yaml")
    return home
