"""Models on disk: one sealed folder per version.

What belongs here: writing a bundle in one step, and refusing every bundle that is not exactly what
was written. Which version has which role is `deployment`.

A flipped bit in a model file can kill the process or change scores without a word, so digests are
checked before any library parses a byte. This guards against damage and mix-ups; who wrote the
bundle is not proven by it.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_platform.adapters.deployment import Pointer
from fraud_platform.adapters.first_parse import parse_in_child
from fraud_platform.adapters.golden_rows import decode_golden, encode_golden, require_golden_bits
from fraud_platform.adapters.model_card_page import card_markdown
from fraud_platform.adapters.sealed_folder import (
    publish_folder,
    read_regular,
    require_plain_name,
    sha256,
)
from fraud_platform.calibration import Calibration
from fraud_platform.errors import BundleIntegrityError, DataContractError
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.model import Model
from fraud_platform.model_card import ModelCard, decode_card, encode_card
from fraud_platform.recipe import Recipe

MANIFEST = "manifest.json"
_CALIBRATION, _GOLDEN, _REFERENCE = "calibration.json", "golden.npz", "reference.parquet"
CARD, CARD_TEXT = "card.json", "card.md"
_MODEL_FILES = {"xgboost": "model.ubj", "lightgbm": "model.txt"}

_UNCALIBRATED = (
    "the version is from before bundles said what a score means; train and publish again "
    "(materialize both models and what follows)."
)


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model comes from and how its score is cut; the part of the manifest callers know.

    Attributes:
        review_threshold: lowest score that is reviewed.
        decline_threshold: lowest score that is declined.
        trained_as_of: the moment whose knowledge it was trained on, ISO 8601 with zone.
        training_set_digest: digest of the training set's document.
        run_id: the registry's run.
        report: `EvaluationReport.to_dict` on the test slice.
        without: groups of features (`fallbacks.GROUPS`) that it was trained without; a manifest
            says nothing of it where there are none.
        trees_of: the version whose trees it has with other cuts, and whose fallbacks stand in for
            it, too; "" for one that was trained itself.
        alert_rate_by_hour: the report's `alert_rate` by hour of the day, UTC; () in bundles from
            before it was measured.
        recipe: what else it takes to make the model again; None in bundles from before that.
        trained_by: who had its trees trained, a person or a run; "" in bundles from before that.
            They cannot approve it.
    """

    review_threshold: float
    decline_threshold: float
    trained_as_of: str
    training_set_digest: str
    run_id: str
    report: dict[str, float]
    without: tuple[str, ...] = ()
    trees_of: str = ""
    alert_rate_by_hour: tuple[float, ...] = ()
    recipe: Recipe | None = None
    trained_by: str = ""


class Manifest(Lineage, frozen=True, kw_only=True, omit_defaults=True):
    """Everything a scorer must know about one version.

    Attributes:
        version: the registry's version, which is also the folder's name.
        model_digest: SHA-256 of the model file.
        library: "xgboost" or "lightgbm".
        library_version: the version that wrote the model file; an older one refuses it.
        feature_names: columns of the matrix, in order.
        feature_spec_digest: digest of the features' declaration.
        parameters: what the search chose.
        rounds: number of trees.
        files: file name -> SHA-256. The entry of the manifest itself is the digest of the manifest
            without that entry.
    """

    version: str
    model_digest: str
    library: str
    library_version: str
    feature_names: tuple[str, ...]
    feature_spec_digest: str
    parameters: dict[str, float | int | str]
    rounds: int
    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a bundle holds beside its model.

    Attributes:
        calibration: what the model's scores mean, fitted on the rows that set the thresholds.
        golden: shape (n, k), n >= 1, rows that every scorer must score to the same bits.
        reference: rows with a column per feature, without `score`; it is added when written.
        card: what must be known of the model, without its version; None in bundles that are no
            registered version.
    """

    calibration: Calibration
    golden: NDArray[np.float64]
    reference: pl.DataFrame
    card: ModelCard | None = None


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        manifest: its facts.
        model: the model, ready to score.
        calibration: what its scores mean.
        golden: shape (n, k), the rows whose scores were compared.
        path: its folder.
    """

    manifest: Manifest
    model: Model
    calibration: Calibration
    golden: NDArray[np.float64] = field(compare=False, repr=False)
    path: Path

    def reference(self) -> pl.DataFrame:
        """A sample of the training features and a column `score`: what drift is measured against.

        Raises:
            BundleIntegrityError: the file changed since the bundle was verified.
        """
        content = _verified_file(self.path, _REFERENCE, self.manifest.files[_REFERENCE])
        return pl.read_parquet(io.BytesIO(content))


def write_bundle(
    models_dir: Path, version: str, model: Model, lineage: Lineage, evidence: Evidence
) -> Path:
    """Write one version's folder, whole or not at all.

    Writing the same version again with the same content changes nothing.

    Args:
        models_dir: folder of all bundles; made if absent.
        version: name of the version: letters, digits, `-`, `_`, `.`.
        model: the model, over exactly `FEATURE_NAMES`.
        lineage: the caller's part of the manifest.
        evidence: what is written beside the model.

    Returns:
        `models_dir / version`.

    Raises:
        PermanentError: the version exists with other content, or its name is no plain name.
    """
    require_plain_name(version)
    files = {
        _MODEL_FILES[model.library]: model.payload,
        _CALIBRATION: msgspec.json.encode(evidence.calibration),
        _GOLDEN: encode_golden(evidence.golden, model.score(evidence.golden)),
        _REFERENCE: _reference_bytes(model, evidence.reference),
        **_card_files(evidence.card, version),
    }
    manifest = Manifest(
        version=version,
        model_digest=model.digest,
        library=model.library,
        library_version=model.library_version,
        feature_names=model.feature_names,
        feature_spec_digest=spec_digest(),
        parameters=dict(model.parameters),
        rounds=model.rounds,
        files={name: sha256(content) for name, content in files.items()},
        **msgspec.structs.asdict(lineage),
    )
    files[MANIFEST] = _sealed(manifest)
    return publish_folder(models_dir, version, files, seal=MANIFEST)


def load_bundle(path: Path) -> Bundle:
    """Verify a bundle and make it ready to score.

    Checked in this order: the manifest against its own digest, the set of files, every file's
    digest, the declaration of the features, the library's version, that the calibration's numbers
    fit together, that a child process survives the model file and gives the golden rows their
    scores, and last that they get the same bits here.

    Raises:
        BundleIntegrityError: something differs; the message says what.
        UnavailableError: the disk does not answer, or no child could be started.
    """
    return _loaded(path, read_manifest(path))


def load_pointed(models_dir: Path, pointer: Pointer) -> Bundle:
    """`load_bundle` of what the pointer names; the manifest's digest is checked before all else.

    Raises:
        BundleIntegrityError: the bundle is damaged, or is not the one the pointer was made for.
        UnavailableError: the disk does not answer, or no child could be started.
    """
    path = models_dir / pointer.path
    content = read_regular(path / MANIFEST)
    if sha256(content) != pointer.manifest_digest:
        raise BundleIntegrityError(
            f"The pointer names version {pointer.version} with manifest "
            f"{pointer.manifest_digest[:12]}; found {sha256(content)[:12]} in {path}.",
            hint="publish the champion again from the registry.",
        )
    manifest = _parsed_manifest(content, path)
    if manifest.version != pointer.version:
        raise BundleIntegrityError(
            f"The pointer names version {pointer.version}; found {manifest.version} in {path}.",
            hint="publish the champion again from the registry.",
        )
    return _loaded(path, manifest)


def _loaded(path: Path, manifest: Manifest) -> Bundle:
    contents = _verified_files(path, manifest)
    _require_our_features(manifest)
    _require_readable_by_us(manifest)
    calibration = _calibration(contents[_CALIBRATION], path)
    model = Model(
        library=manifest.library,
        payload=contents[_MODEL_FILES[manifest.library]],
        feature_names=manifest.feature_names,
        library_version=manifest.library_version,
        parameters=manifest.parameters,
        rounds=manifest.rounds,
    )
    golden, scores = decode_golden(contents[_GOLDEN], path / _GOLDEN)
    parse_in_child(model.library, model.payload, model.rounded(golden), scores)
    require_golden_bits(model, golden, scores, path)
    return Bundle(manifest, model, calibration, golden, path)


def read_manifest(path: Path) -> Manifest:
    """The manifest of a bundle's folder, checked against its own digest; files are not read.

    Raises:
        BundleIntegrityError: it is absent, changed, no manifest, or belongs to another version.
    """
    return _parsed_manifest(read_regular(path / MANIFEST), path)


def read_card(path: Path) -> ModelCard | None:
    """The card in a bundle, checked against its manifest; None in one from before cards.

    Raises:
        BundleIntegrityError: the manifest or the card is not what was sealed.
        DataContractError: the card is none that this code can read.
    """
    digest = read_manifest(path).files.get(CARD)
    return None if digest is None else decode_card(_verified_file(path, CARD, digest))


def trees_of(path: Path) -> str:
    """The version that was trained for these trees: the bundle's own, or the one it recalibrates.

    A bundle whose manifest is damaged is taken for a trained one: its fallbacks may still be sound.
    """
    try:
        return read_manifest(path).trees_of or path.name
    except BundleIntegrityError:
        return path.name


def _parsed_manifest(content: bytes, path: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
        intact = content == _sealed(manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleIntegrityError(f"{path / MANIFEST} is no manifest: {error}.") from error
    if not intact:
        raise BundleIntegrityError(f"{path / MANIFEST} differs from what was sealed.")
    if manifest.version != path.name or manifest.library not in _MODEL_FILES:
        raise BundleIntegrityError(
            f"{path} holds the manifest of version {manifest.version!r}, library "
            f"{manifest.library!r}; expected version {path.name!r} and one of "
            f"{sorted(_MODEL_FILES)}."
        )
    return manifest


def model_file_name(library: str) -> str:
    """The name of the model file of a library: UBJSON for XGBoost, text for LightGBM."""
    return _MODEL_FILES[library]


def list_manifests(models_dir: Path) -> tuple[list[Manifest], list[str]]:
    """The manifests of all bundles, oldest first, and the folders whose manifest is damaged."""
    manifests, damaged = [], []
    for path in models_dir.iterdir() if models_dir.is_dir() else ():
        if not path.is_dir() or path.name.startswith("."):
            continue
        try:
            manifests.append(read_manifest(path))
        except BundleIntegrityError:
            damaged.append(path.name)
    manifests.sort(key=lambda manifest: (len(manifest.version), manifest.version))
    return manifests, sorted(damaged)


def manifest_digest(path: Path) -> str:
    """SHA-256 of the bytes of a bundle's manifest."""
    return sha256(read_regular(path / MANIFEST))


def _sealed(manifest: Manifest) -> bytes:
    """The one form of a manifest on disk, with its own digest among the files'."""
    files = {name: value for name, value in manifest.files.items() if name != MANIFEST}
    bare = msgspec.structs.replace(manifest, files=files)
    own = sha256(msgspec.json.encode(bare, order="deterministic"))
    complete = msgspec.structs.replace(bare, files={**files, MANIFEST: own})
    return msgspec.json.encode(complete, order="deterministic")


def _verified_files(path: Path, manifest: Manifest) -> dict[str, bytes]:
    expected = {_MODEL_FILES[manifest.library], _CALIBRATION, _GOLDEN, _REFERENCE, MANIFEST}
    if CARD in manifest.files:
        expected |= {CARD, CARD_TEXT}
    if path.is_symlink():
        raise BundleIntegrityError(f"{path} is a link; expected a folder.")
    found = {entry.name for entry in path.iterdir()}
    if found != expected or set(manifest.files) != expected:
        raise BundleIntegrityError(
            f"{path} holds {sorted(found)} and its manifest lists {sorted(manifest.files)}; "
            f"expected {sorted(expected)} in both.",
            hint=None if _CALIBRATION in manifest.files else _UNCALIBRATED,
        )
    names = expected - {MANIFEST}
    contents = {name: _verified_file(path, name, manifest.files[name]) for name in names}
    if manifest.model_digest != manifest.files[_MODEL_FILES[manifest.library]]:
        raise BundleIntegrityError(f"{path}: model_digest is not the digest of the model file.")
    return contents


def _verified_file(path: Path, name: str, expected: str) -> bytes:
    content = read_regular(path / name)
    found = sha256(content)
    if found != expected:
        raise BundleIntegrityError(
            f"{path / name} has SHA-256 {found[:12]}; the manifest says {expected[:12]}.",
            hint="restore the folder, or promote or roll back to another version.",
        )
    return content


def _calibration(content: bytes, path: Path) -> Calibration:
    try:
        return msgspec.json.decode(content, type=Calibration)
    except DataContractError as error:
        raise BundleIntegrityError(f"{path / _CALIBRATION}: {error.message}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleIntegrityError(f"{path / _CALIBRATION} is no calibration: {error}.") from error


def _require_our_features(manifest: Manifest) -> None:
    expected = spec_digest()
    if manifest.feature_spec_digest != expected or manifest.feature_names != FEATURE_NAMES:
        raise BundleIntegrityError(
            f"Version {manifest.version} was trained on {len(manifest.feature_names)} features of "
            f"declaration {manifest.feature_spec_digest[:12]}; this code computes "
            f"{len(FEATURE_NAMES)} of {expected[:12]}.",
            hint="retrain, or run the code that the version was trained with.",
        )


def _require_readable_by_us(manifest: Manifest) -> None:
    if manifest.library == "xgboost":
        import xgboost as library
    else:
        import lightgbm as library
    if _release(manifest.library_version) > _release(library.__version__):
        raise BundleIntegrityError(
            f"Version {manifest.version} was written by {manifest.library} "
            f"{manifest.library_version}; installed is the older {library.__version__}.",
            hint="install the locked dependencies of the training side.",
        )


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:3])


def _card_files(card: ModelCard | None, version: str) -> dict[str, bytes]:
    """A card for programs and the same for people."""
    if card is None:
        return {}
    whole = msgspec.structs.replace(card, version=version)
    return {CARD: encode_card(whole), CARD_TEXT: card_markdown(whole).encode()}


def _reference_bytes(model: Model, reference: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    model.scored(reference.select(model.feature_names)).write_parquet(buffer)
    return buffer.getvalue()
