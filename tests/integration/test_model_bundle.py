import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from fraud_platform.adapters.deployment import Pointer
from fraud_platform.adapters.model_bundle import (
    MANIFEST,
    Evidence,
    Lineage,
    list_manifests,
    load_bundle,
    load_pointed,
    manifest_digest,
    read_manifest,
    write_bundle,
)
from fraud_platform.calibration import Calibration
from fraud_platform.errors import BundleIntegrityError, PermanentError
from fraud_platform.features.spec import FEATURE_NAMES, spec_digest
from fraud_platform.model import LIBRARIES, Model, ModelPolicy, fit, matrix

POLICY = ModelPolicy(trials=1, max_rounds=8, early_stopping_rounds=4)
LINEAGE = Lineage(
    review_threshold=0.1,
    decline_threshold=0.5,
    trained_as_of="2026-01-22T00:00:00+00:00",
    training_set_digest="d" * 64,
    run_id="run",
    report={"average_precision": 0.6},
    alert_rate_by_hour=(0.25, *[0.05] * 23),
)
MAPS = Calibration(
    frauds=3,
    genuine=40,
    knots=(0.0, 0.3, 1.0),
    chances=(0.01, 0.01, 0.9),
    steps=(0.1, 0.30000000000000004),
    reached=(40, 1),
)
both = pytest.mark.parametrize("library", LIBRARIES)


@cache
def rows(seed: int = 1) -> pl.DataFrame:
    """900 rows over 21 days with every feature the platform computes; the first decides."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(900, len(FEATURE_NAMES)))
    hours = pl.Series(np.sort(random.integers(0, 21 * 24, 900))).cast(pl.Duration("us"))
    start = pl.datetime(2026, 1, 1, time_zone="UTC", time_unit="us")
    return pl.DataFrame(
        {"is_fraud": values[:, 0] > 1.0, "slice": ["train"] * 900, "hours": hours}
        | {name: values[:, column] for column, name in enumerate(FEATURE_NAMES)}
    ).select(
        (start + pl.col("hours") * 3_600_000_000).alias("event_timestamp"), pl.exclude("hours")
    )


@cache
def fitted(library: str, seed: int = 1) -> Model:
    return fit(library, rows(seed), POLICY)


def written(models_dir: Path, library: str, version: str = "1", seed: int = 1) -> Path:
    return write_bundle(
        models_dir,
        version,
        fitted(library, seed),
        LINEAGE,
        Evidence(
            calibration=MAPS,
            golden=matrix(rows(), FEATURE_NAMES)[:32],
            reference=rows().head(100),
        ),
    )


@both
def test_a_bundle_comes_back_as_it_was_written(library, tmp_path):
    bundle = load_bundle(written(tmp_path, library))
    features = matrix(rows(), FEATURE_NAMES)
    assert bundle.model == fitted(library)
    assert bundle.calibration == MAPS
    assert bundle.model.score(features).tobytes() == fitted(library).score(features).tobytes()
    assert bundle.manifest.version == "1"
    assert bundle.manifest.model_digest == fitted(library).digest
    assert bundle.manifest.feature_spec_digest == spec_digest()
    assert bundle.manifest.report == {"average_precision": 0.6}
    assert bundle.manifest.alert_rate_by_hour == (0.25, *[0.05] * 23)


@both
def test_the_reference_is_the_sample_with_its_scores(library, tmp_path):
    reference = load_bundle(written(tmp_path, library)).reference()
    assert reference.columns == [*FEATURE_NAMES, "score"]
    assert reference.equals(fitted(library).scored(rows().head(100).select(FEATURE_NAMES)))


@both
def test_the_same_model_gives_the_same_bundle_bytes(library, tmp_path):
    one, two = written(tmp_path / "a", library), written(tmp_path / "b", library)
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in two.iterdir()
    }


def test_writing_the_same_version_again_changes_nothing_but_other_content_is_refused(tmp_path):
    assert written(tmp_path, "xgboost") == written(tmp_path, "xgboost")
    with pytest.raises(PermanentError, match="written once"):
        written(tmp_path, "xgboost", seed=2)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@both
def test_one_flipped_bit_anywhere_is_refused_before_any_library_parses(library, tmp_path):
    whole = written(tmp_path, library)
    random = np.random.default_rng(7)
    for name in sorted(path.name for path in whole.iterdir()):
        original = (whole / name).read_bytes()
        places = {0, len(original) - 1, *random.integers(0, len(original), 20).tolist()}
        for position in places:
            flip(whole / name, position)
            with pytest.raises(BundleIntegrityError):
                load_bundle(whole)
            (whole / name).write_bytes(original)
    load_bundle(whole)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "grown by a byte": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "deleted": lambda path: path.unlink(),
    "replaced by a link": lambda path: path.symlink_to(path.rename(path.parents[1] / "moved")),
    "replaced by a folder": lambda path: (path.unlink(), path.mkdir()),
}


@both
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("part", ["model", "calibration", "golden", "reference", "manifest"])
def test_a_damaged_file_is_refused(library, damage, part, tmp_path):
    whole = written(tmp_path, library)
    (path,) = whole.glob(f"{part}.*")
    DAMAGE[damage](path)
    with pytest.raises(BundleIntegrityError):
        load_bundle(whole)


def test_a_stranger_among_the_files_is_refused(tmp_path):
    whole = written(tmp_path, "xgboost")
    (whole / "model.pkl").write_bytes(b"")
    with pytest.raises(BundleIntegrityError, match=r"model\.pkl"):
        load_bundle(whole)


def test_the_model_file_of_another_version_is_refused(tmp_path):
    one, two = written(tmp_path, "xgboost"), written(tmp_path, "xgboost", "2", seed=2)
    shutil.copy(two / "model.ubj", one / "model.ubj")
    with pytest.raises(BundleIntegrityError, match=r"model\.ubj has SHA-256"):
        load_bundle(one)


def test_a_whole_bundle_under_another_versions_name_is_refused(tmp_path):
    written(tmp_path, "xgboost").rename(tmp_path / "2")
    with pytest.raises(BundleIntegrityError, match="expected version '2'"):
        load_bundle(tmp_path / "2")


def test_a_missing_bundle_is_refused(tmp_path):
    with pytest.raises(BundleIntegrityError, match="missing"):
        load_bundle(tmp_path / "1")


def rewritten(path: Path, **changes: object) -> None:
    """Change facts of a manifest and seal it again, as a writer with other code would have."""
    from fraud_platform.adapters import model_bundle

    manifest = msgspec.structs.replace(read_manifest(path), **changes)
    (path / MANIFEST).write_bytes(model_bundle._sealed(manifest))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"feature_spec_digest": "0" * 64}, "declaration 000000000000"),
        ({"feature_names": FEATURE_NAMES[::-1]}, "was trained on"),
        ({"library_version": "99.0.0"}, r"written by xgboost 99\.0\.0; installed is the older"),
        ({"model_digest": "0" * 64}, "not the digest of the model file"),
    ],
)
def test_a_bundle_made_for_other_code_is_refused(changes, complaint, tmp_path):
    whole = written(tmp_path, "xgboost")
    rewritten(whole, **changes)
    with pytest.raises(BundleIntegrityError, match=complaint):
        load_bundle(whole)


def test_golden_rows_that_score_otherwise_here_are_refused(tmp_path):
    whole = written(tmp_path, "xgboost")
    with np.load(whole / "golden.npz") as arrays:
        features, scores = arrays["features"], arrays["scores"]
    scores[3] = np.nextafter(scores[3], 1.0)  # the smallest difference there is
    np.savez(whole / "golden.npz", features=features, scores=scores)
    digest = hashlib.sha256((whole / "golden.npz").read_bytes()).hexdigest()
    rewritten(whole, files={**read_manifest(whole).files, "golden.npz": digest})
    with pytest.raises(BundleIntegrityError, match="1 of 32 golden rows"):
        load_bundle(whole)


def with_calibration(path: Path, content: bytes) -> Path:
    """The bundle with another calibration under a sound seal."""
    (path / "calibration.json").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    rewritten(path, files={**read_manifest(path).files, "calibration.json": digest})
    return path


NUMBERS = msgspec.to_builtins(MAPS)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is no calibration"),
        (b"\xff", "is no calibration"),
        (b'{"frauds":3}', "missing required field"),
        (msgspec.json.encode(NUMBERS | {"chances": [0.01, "0.01", 0.9]}), "got `str`"),
        (msgspec.json.encode(NUMBERS | {"knots": [0.0, None, 1.0]}), "got `null`"),
        (msgspec.json.encode(NUMBERS | {"genuine": 40.5}), "got `float`"),
        (msgspec.json.encode(NUMBERS | {"chances": [0.9, 0.01, 0.01]}), "probabilities that fall"),
        (msgspec.json.encode(NUMBERS | {"reached": [41, 1]}), "do not fall from 40"),
    ],
)
def test_a_calibration_that_makes_no_sense_is_refused_even_under_a_sound_seal(
    content, complaint, tmp_path
):
    whole = with_calibration(written(tmp_path, "xgboost"), content)
    with pytest.raises(BundleIntegrityError, match=rf"calibration\.json.*{complaint}"):
        load_bundle(whole)


def test_another_calibration_makes_another_manifest(tmp_path):
    whole = written(tmp_path, "xgboost")
    sealed = Pointer(version="1", path="1", manifest_digest=manifest_digest(whole))
    with_calibration(whole, msgspec.json.encode(NUMBERS | {"frauds": 4}))
    assert load_bundle(whole).calibration.frauds == 4
    with pytest.raises(BundleIntegrityError, match="The pointer names version 1"):
        load_pointed(tmp_path, sealed)


def test_a_bundle_from_before_calibrations_is_refused_and_says_what_to_do(tmp_path):
    whole = written(tmp_path, "xgboost")
    (whole / "calibration.json").unlink()
    files = {k: v for k, v in read_manifest(whole).files.items() if k != "calibration.json"}
    rewritten(whole, files=files)
    with pytest.raises(BundleIntegrityError, match="train and publish again"):
        load_bundle(whole)


@pytest.mark.parametrize("version", ["", "..", "a/b", ".hidden", "a b"])
def test_a_version_that_is_no_plain_name_is_refused(version, tmp_path):
    with pytest.raises(PermanentError, match="is no version"):
        written(tmp_path, "xgboost", version)


def test_manifests_are_listed_in_order_and_damaged_ones_named(tmp_path):
    for version in ("10", "2", "3"):
        written(tmp_path, "xgboost", version)
    flip(tmp_path / "3" / MANIFEST, 40)
    (tmp_path / ".4.half-written").mkdir()
    manifests, damaged = list_manifests(tmp_path)
    assert [manifest.version for manifest in manifests] == ["2", "10"]
    assert damaged == ["3"]
    assert list_manifests(tmp_path / "absent") == ([], [])


def test_a_pointer_made_for_another_manifest_is_refused(tmp_path):
    whole = written(tmp_path, "xgboost")
    sound = Pointer(version="1", path="1", manifest_digest=manifest_digest(whole))
    assert load_pointed(tmp_path, sound).manifest.version == "1"
    with pytest.raises(BundleIntegrityError, match="The pointer names version 1"):
        load_pointed(tmp_path, msgspec.structs.replace(sound, manifest_digest="0" * 64))


def test_loading_needs_neither_mlflow_nor_optuna(tmp_path):
    program = (
        "import sys; from pathlib import Path;"
        "from fraud_platform.adapters.model_bundle import load_bundle;"
        "load_bundle(Path(sys.argv[1]));"
        "print(sorted({'mlflow', 'optuna', 'matplotlib', 'dagster'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(written(tmp_path, "xgboost"))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"
