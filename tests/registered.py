"""Small models that a real registry knows, for tests of what moves them."""

from pathlib import Path

from fraud_platform.adapters.model_bundle import load_bundle
from fraud_platform.adapters.model_registry import ModelRegistry, Provenance
from fraud_platform.settings import Settings
from tests.small_bundles import trained, write_small_bundle
from tests.small_reports import small_report


def registered_versions(home: Path, count: int, **reviews: float) -> ModelRegistry:
    """A home whose registry has so many versions, none with a role.

    Args:
        home: of the platform.
        count: versions "1", "2", ...
        reviews: review cut by `v1`, `v2`, ...; 0.3 for the others.
    """
    settings = Settings(home=home)
    registry = ModelRegistry(None, settings.mlflow_dir, settings.models_dir)
    provenance = Provenance(training_set_digest="0" * 64, trained_as_of="2026-01-01T00:00:00Z")
    for number in range(1, count + 1):
        name = str(number)
        run = registry.log_training(trained(number), small_report(), provenance)
        source = f"{settings.mlflow_dir}/{run}"
        if number == 1:
            registry._client.create_registered_model("fraud")
        registry._client.create_model_version("fraud", source=source, run_id=run)
        bundle = write_small_bundle(
            registry.models_dir, name, trained(number), review=reviews.get(f"v{name}", 0.3)
        )
        assert load_bundle(bundle).manifest.version == name
    return registry
