"""Making a model of this home again: its bundle and the tables that it learnt from.

What belongs here: finding the inputs. What is compared, and how a model is made again, is
`reproduction`.
"""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from fraud_platform.adapters.machine import lock_digest, machine_kind
from fraud_platform.adapters.model_bundle import (
    Bundle,
    Lineage,
    Manifest,
    load_bundle,
    read_manifest,
)
from fraud_platform.adapters.tables import Tables
from fraud_platform.errors import BundleIntegrityError, NotReadyError
from fraud_platform.recipe import Recipe, recipe_of, tree_digest
from fraud_platform.reproduction import (
    Reproduction,
    changed_inputs,
    changed_rows,
    compared,
    model_again,
    rows_again,
    told_otherwise,
)
from fraud_platform.settings import Settings
from fraud_platform.training_document import TABLE, TrainingSetDocument

_NO_RECIPE = "the manifest names no seed, commit, lock or machine; the settings' seed counts"


def recipe_here(settings: Settings) -> Recipe:
    """The recipe of a training that happens here and now."""
    return recipe_of(
        settings.model, settings.code_commit, lock_digest=lock_digest(), machine=machine_kind()
    )


def reproduce(settings: Settings, version: str) -> Reproduction:
    """Make a version again from what its manifest names, and compare.

    Of a version that has another's trees with other cuts, the other's training is repeated.

    Args:
        settings: of the home.
        version: a bundle, champion or not, or a fallback.

    Raises:
        BundleIntegrityError: the bundle is damaged, or of other features than this code computes.
    """
    bundle, tables = load_bundle(settings.models_dir / version), Tables(settings.tables_dir)
    now = recipe_here(settings)
    try:
        source = _trained(settings.models_dir, bundle.manifest)
        told = document_of(tables, source)
    except (BundleIntegrityError, NotReadyError) as error:
        return _ended(bundle, (error.message,))
    then = source.recipe
    notes = (_NO_RECIPE,) if then is None else told_otherwise(then, now)
    inputs = {name: _stored(tables, name, days) for name, days in told.inputs.items()}
    if changed := changed_inputs(told, inputs):
        return _ended(bundle, changed, notes)
    rows = rows_again(told, inputs)
    if changed := changed_rows(told, rows):
        return _ended(bundle, changed, notes)
    again = model_again(bundle.model, rows, then or now, source.without)
    return compared(version, bundle.model, again, bundle.golden, notes)


def document_of(tables: Tables, source: Lineage) -> TrainingSetDocument:
    """What a training set was made of, if it is still the document that a lineage names.

    Raises:
        NotReadyError: it is gone, or another one by now.
    """
    last = datetime.fromisoformat(source.trained_as_of) - timedelta(microseconds=1)
    told = tables.read_document(TABLE, last.date(), TrainingSetDocument)
    if told.digest != source.training_set_digest:
        raise NotReadyError(
            f"the training set of {last.date()} was made again: its document is "
            f"{told.digest[:12]}, the manifest names {source.training_set_digest[:12]}"
        )
    return told


def _trained(models_dir: Path, manifest: Manifest) -> Manifest:
    """The manifest of the version whose training made the trees."""
    return read_manifest(models_dir / manifest.trees_of) if manifest.trees_of else manifest


def _stored(tables: Tables, name: str, days: Iterable[str]) -> dict[date, pl.DataFrame]:
    """The days of a table that are still there."""
    there = set(tables.days(name))
    wanted = [date.fromisoformat(day) for day in days]
    return {day: tables.read(name, [day]) for day in wanted if day in there}


def _ended(
    bundle: Bundle, differences: tuple[str, ...], notes: tuple[str, ...] = ()
) -> Reproduction:
    """What is told of a model that cannot be made again."""
    return Reproduction(
        version=bundle.manifest.version,
        differences=differences,
        notes=notes,
        expected_trees=tree_digest(bundle.model),
    )
