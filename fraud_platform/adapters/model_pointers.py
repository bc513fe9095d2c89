"""Pointers to what lies in the folder of models: a version, and what stands in for its trees."""

import logging
from collections.abc import Mapping
from pathlib import Path

from fraud_platform.adapters.deployment import Pointer
from fraud_platform.adapters.model_bundle import manifest_digest, trees_of
from fraud_platform.errors import BundleIntegrityError
from fraud_platform.fallbacks import FALLBACKS, fallback_version


def pointer_to(models_dir: Path, version: str | None) -> Pointer | None:
    """The pointer to a version; None for one whose manifest is gone: no role is left to it."""
    if version is None:
        return None
    try:
        digest = manifest_digest(models_dir / version)
    except BundleIntegrityError as error:
        logging.getLogger(__name__).warning("version %s has no role: %s", version, error)
        return None
    return Pointer(version=version, path=version, manifest_digest=digest)


def fallbacks_of(models_dir: Path, version: str) -> Mapping[str, Pointer]:
    """What was trained to stand in for a version's trees and no others, as far as it is there."""
    trees = trees_of(models_dir / version)
    there = {name: fallback_version(trees, name) for name in FALLBACKS}
    found = {n: pointer_to(models_dir, v) for n, v in there.items() if (models_dir / v).exists()}
    return {name: pointer for name, pointer in found.items() if pointer is not None}
