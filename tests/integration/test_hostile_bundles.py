"""Damaged, forged and hostile bundles: every one is refused, and the process that looked lives."""

import ast
import asyncio
import io
import json
import os
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from fraud_platform.adapters import first_parse, model_bundle, parse_child
from fraud_platform.adapters.deployment import Deployment, Pointer, write_deployment
from fraud_platform.adapters.model_bundle import (
    MANIFEST,
    Evidence,
    Lineage,
    load_bundle,
    read_manifest,
    write_bundle,
)
from fraud_platform.adapters.promotion_signature import Authority, Depot, keys_of, sign_roles
from fraud_platform.adapters.sealed_folder import sha256
from fraud_platform.calibration import Calibration
from fraud_platform.decision import DecisionPolicy
from fraud_platform.errors import BundleIntegrityError, UnavailableError
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.model import LIBRARIES, Model
from serving import residents
from serving.metrics import Metrics
from serving.residents import Residents
from tests.registered import registered_versions
from tests.small_bundles import pointer_to, write_small_bundle
from tests.small_bundles import trained as small_model

MAPS = Calibration(frauds=3, genuine=40, knots=(), chances=(), steps=(0.1, 0.3), reached=(40, 1))
both = pytest.mark.parametrize("library", LIBRARIES)
FILES = {"xgboost": "model.ubj", "lightgbm": "model.txt"}
WIDTH = len(FEATURE_NAMES)


def some_rows(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, WIDTH))


@cache
def trained(library: str, seed: int = 1) -> Model:
    rows = some_rows(800, seed)
    is_fraud = (rows[:, 0] + rows[:, 1] > 1).astype(np.float32)
    if library == "xgboost":
        import xgboost

        matrix = xgboost.DMatrix(rows.astype(np.float32), is_fraud, nthread=1)
        parameters = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1}
        booster = xgboost.train(parameters, matrix, num_boost_round=12)
        payload, version = bytes(booster.save_raw("ubj")), xgboost.__version__
    else:
        import lightgbm

        parameters = {"objective": "binary", "num_threads": 1, "verbosity": -1}
        data = lightgbm.Dataset(rows.astype(np.float32).astype(np.float64), is_fraud)
        text = lightgbm.train(parameters, data, num_boost_round=12).model_to_string()
        payload = (text[: text.index("\nparameters:")] + "\n").encode()
        version = lightgbm.__version__
    return Model(
        library=library,
        payload=payload,
        feature_names=FEATURE_NAMES,
        library_version=version,
        parameters={},
        rounds=12,
    )


def written(models_dir: Path, model: Model, version: str = "1", rows: int = 16) -> Path:
    lineage = Lineage(
        review_threshold=0.1,
        decline_threshold=0.5,
        trained_as_of="2026-01-22T00:00:00+00:00",
        training_set_digest="d" * 64,
        run_id="run",
        report={},
    )
    reference = pl.DataFrame(some_rows(20, 3), schema=list(FEATURE_NAMES))
    evidence = Evidence(calibration=MAPS, golden=some_rows(rows, 2), reference=reference)
    return write_bundle(models_dir, version, model, lineage, evidence)


def sealed_again(path: Path, **changes: object) -> None:
    """What somebody who may write the folder can do: every digest fits again."""
    manifest = read_manifest(path)
    names = [entry.name for entry in path.iterdir() if entry.name != MANIFEST]
    files = {name: sha256((path / name).read_bytes()) for name in names}
    model_digest = files[FILES[manifest.library]]
    manifest = msgspec.structs.replace(
        manifest, **{"files": files, "model_digest": model_digest, **changes}
    )
    (path / MANIFEST).write_bytes(model_bundle._sealed(manifest))


def golden_bytes(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


# --- what can be wrong, as acts on a folder that was sound -------------------------------------


def flip(path: Path, name: str, random: np.random.Generator) -> None:
    content = bytearray((path / name).read_bytes())
    content[random.integers(len(content))] ^= 1 << random.integers(8)
    (path / name).write_bytes(content)


def cut(path: Path, name: str, random: np.random.Generator) -> None:
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: random.integers(len(content))])


def grow(path: Path, name: str, random: np.random.Generator) -> None:
    with (path / name).open("ab") as file:
        file.write(random.bytes(int(random.integers(1, 100))))


def stranger(path: Path, name: str, random: np.random.Generator) -> None:
    (path / random.choice(["model.pkl", "MLmodel", ".hidden", "model.ubj.bak"])).write_bytes(b"x")


def link(path: Path, name: str, random: np.random.Generator) -> None:
    (path / name).symlink_to((path / name).rename(path.parent / f"moved-{name}"))


def linked_folder(path: Path, name: str, random: np.random.Generator) -> None:
    path.symlink_to(path.rename(path.parent / "elsewhere"))


def pipe(path: Path, name: str, random: np.random.Generator) -> None:
    (path / name).unlink()
    os.mkfifo(path / name)


def missing(path: Path, name: str, random: np.random.Generator) -> None:
    (path / name).unlink()


def other_models_file(path: Path, name: str, random: np.random.Generator) -> None:
    library = read_manifest(path).library
    (path / FILES[library]).write_bytes(trained(library, 2).payload)


def other_golden_scores(path: Path, name: str, random: np.random.Generator) -> None:
    with np.load(path / "golden.npz") as arrays:
        features, scores = arrays["features"], arrays["scores"]
    place = random.integers(len(scores))
    scores[place] = np.nextafter(scores[place], random.integers(2))
    (path / "golden.npz").write_bytes(golden_bytes(features=features, scores=scores))
    sealed_again(path)


def other_golden_form(path: Path, name: str, random: np.random.Generator) -> None:
    features, scores = some_rows(3), np.full(3, 0.5)
    forms = [
        {"features": features[:, 1:], "scores": scores},
        {"features": features.astype(np.float32), "scores": scores},
        {"features": features, "scores": scores[:2]},
        {"features": features, "scores": np.array([0.5, np.nan, 0.5])},
        {"features": features, "scores": np.array([0.5, 1.5, 0.5])},
        {"features": features[:0], "scores": scores[:0]},
        {"features": features, "scores": scores.astype(object)},
        {"features": features},
        {"features": np.zeros((5000, WIDTH)), "scores": np.zeros(5000)},
    ]
    (path / "golden.npz").write_bytes(golden_bytes(**forms[random.integers(len(forms))]))
    sealed_again(path)


def golden_bomb(path: Path, name: str, random: np.random.Generator) -> None:
    with zipfile.ZipFile(path / "golden.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for array in ("features", "scores"):
            archive.writestr(f"{array}.npy", bytes(30_000_000))
    sealed_again(path)


def golden_lie(path: Path, name: str, random: np.random.Generator) -> None:
    """An array's header promises more than there is memory."""
    buffer = io.BytesIO()
    told = {"descr": "<f8", "fortran_order": False, "shape": (2**40, WIDTH)}
    np.lib.format.write_array_header_1_0(buffer, told)
    with zipfile.ZipFile(path / "golden.npz", "w") as archive:
        for array in ("features", "scores"):
            archive.writestr(f"{array}.npy", buffer.getvalue())
    sealed_again(path)


def no_manifest(path: Path, name: str, random: np.random.Generator) -> None:
    broken = [b"", b"{}", b"[]", b"\xff", b"null", b'{"version": 1}', random.bytes(200)]
    (path / MANIFEST).write_bytes(broken[random.integers(len(broken))])


def other_code(path: Path, name: str, random: np.random.Generator) -> None:
    forged = [
        {"feature_names": FEATURE_NAMES[::-1]},
        {"feature_names": FEATURE_NAMES[1:]},
        {"feature_spec_digest": "0" * 64},
        {"library_version": "99.0.0"},
        {"model_digest": "0" * 64},
        {"version": "2"},
        {"library": "sklearn"},
    ]
    sealed_again(path, **forged[random.integers(len(forged))])


def leaf_that_is_no_number(path: Path, name: str, random: np.random.Generator) -> None:
    library = read_manifest(path).library
    payload = with_bad_leaf(trained(library))
    (path / FILES[library]).write_bytes(payload)
    with np.load(path / "golden.npz") as arrays:
        features = arrays["features"]
    scores = replace(trained(library), payload=payload).score(features)
    (path / "golden.npz").write_bytes(golden_bytes(features=features, scores=scores))
    sealed_again(path)


@cache
def with_bad_leaf(model: Model) -> bytes:
    """The model with a NaN in a leaf that no golden row reaches."""
    rows = some_rows(16, 2)
    expected = model.score(rows)
    for payload in bad_leaves(model):
        if np.array_equal(replace(model, payload=payload).score(rows), expected):
            return payload
    raise AssertionError("every leaf is reached")


def bad_leaves(model: Model):
    if model.library == "lightgbm":
        lines = model.payload.split(b"\n")
        for place in [n for n, line in enumerate(lines) if line.startswith(b"leaf_value=")]:
            for leaf in range(8):
                values = lines[place].partition(b"=")[2].split()
                # Of the same length: the library finds its trees by the sizes in the header.
                values[leaf] = b"1" + b"0" * (len(values[leaf]) - 5) + b"e999"
                forged = b"leaf_value=" + b" ".join(values)
                yield b"\n".join([*lines[:place], forged, *lines[place + 1 :]])
        return
    import xgboost

    document = json.loads(model.booster.save_raw("json"))
    for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
        leaves = [n for n, left in enumerate(tree["left_children"]) if left == -1]
        for leaf in leaves:
            kept = tree["split_conditions"][leaf]
            tree["split_conditions"][leaf] = float("nan")
            forged = xgboost.Booster(model_file=bytearray(json.dumps(document).encode()))
            tree["split_conditions"][leaf] = kept
            yield bytes(forged.save_raw("ubj"))


KINDS: list[Callable[[Path, str, np.random.Generator], None]] = [
    *(flip, cut, grow, stranger, link, linked_folder, pipe, missing, other_models_file),
    *(other_golden_scores, other_golden_form, golden_bomb, golden_lie, no_manifest, other_code),
    leaf_that_is_no_number,
]


# --- what can be wrong with a signature, as ways to deploy a bundle that is sound ----------------


def by_another_key(models: Path, pointer: Pointer) -> Deployment:
    """Somebody who may write the folder of models, and has a key of their own."""
    return sign_roles(models / "attacker" / "models", Deployment(champion=pointer), STRANGER)


def by_nobody(models: Path, pointer: Pointer) -> Deployment:
    return Deployment(champion=pointer)


def for_another_manifest(models: Path, pointer: Pointer) -> Deployment:
    honest = sign_roles(models, Deployment(champion=pointer), PROMOTION)
    other = msgspec.structs.replace(pointer, manifest_digest="0" * 64)
    return msgspec.structs.replace(honest, champion=other)


def for_another_role(models: Path, pointer: Pointer) -> Deployment:
    honest = sign_roles(models, Deployment(challenger=pointer), PROMOTION)
    signatures = {"champion": honest.signatures["challenger"]}
    return msgspec.structs.replace(Deployment(champion=pointer), signatures=signatures)


def with_our_key_named(models: Path, pointer: Pointer) -> Deployment:
    """A stranger's signature under the name of the promotion's key."""
    honest = sign_roles(models, Deployment(champion=pointer), PROMOTION).signatures["champion"]
    forged = by_another_key(models, pointer)
    mixed = msgspec.structs.replace(forged.signatures["champion"], statement=honest.statement)
    return msgspec.structs.replace(forged, signatures={"champion": mixed})


SIGNINGS = [by_another_key, by_nobody, for_another_manifest, for_another_role, with_our_key_named]
PROMOTION, STRANGER = Authority(by="the promotion"), Authority(by="a stranger")
TRIES = 500


class Scorer:
    """What a running scorer has in memory, looking when it is told to."""

    def __init__(self, models: Path) -> None:
        self.models, metrics = models, Metrics()
        self.registry = metrics.registry
        self.residents = Residents(
            Depot(models, keys_of(models)),
            DecisionPolicy(),
            poll_seconds=60.0,
            metrics=metrics,
        )

    def look(self, deployment: Deployment) -> tuple[str | None, str | None]:
        """Deploy; the version that decides then, and why the deployed one does not."""
        write_deployment(self.models, deployment)
        asyncio.run(self.residents.look())
        return self.residents.ruling.version, self.residents.load_error

    def look_signed(self, pointer: Pointer) -> tuple[str | None, str | None]:
        """The same with a role that the promotion signed."""
        return self.look(sign_roles(self.models, Deployment(champion=pointer), PROMOTION))


def hostile_deployment(number: int, models: Path, published: Pointer) -> tuple[Deployment, str]:
    """Break the bundle "1" of the folder, or the signature of its role; what was done."""
    random = np.random.default_rng(number)
    kind = [*KINDS, *SIGNINGS][number // 2 % (len(KINDS) + len(SIGNINGS))]
    if kind in SIGNINGS:
        return kind(models, published), kind.__name__
    path = models / "1"
    name = str(random.choice(sorted(entry.name for entry in path.iterdir())))
    kind(path, name, random)
    try:  # every other one is what the promotion itself would sign
        pointer = pointer_to(path) if number % 4 > 1 else published
    except BundleIntegrityError:
        pointer = published
    signed = sign_roles(models, Deployment(champion=pointer), PROMOTION)
    return signed, f"{kind.__name__} of {name}"


def swept(models: Path) -> None:
    """Take away what a try left behind."""
    for left in [models / "1", models / "elsewhere", *models.glob("moved-*")]:
        if left.is_symlink() or left.is_file():
            left.unlink()
        else:
            shutil.rmtree(left, ignore_errors=True)


def test_five_hundred_damaged_or_forged_bundles_are_refused_and_the_last_good_one_decides(tmp_path):
    """T-MOD-1: damaged, resealed, signed by us, signed by others, or not at all."""
    models, kept = tmp_path / "models", tmp_path / "kept"
    sound = {library: written(kept / library, trained(library)) for library in LIBRARIES}
    published = {library: pointer_to(path) for library, path in sound.items()}
    good = write_small_bundle(models, "good", small_model(1))
    scorer = Scorer(models)
    assert scorer.look_signed(pointer_to(good)) == ("good", None)
    before = scorer.residents.ruling.champion
    refused, cpu_ms = 0, []
    for number in range(TRIES):
        library = LIBRARIES[number % 2]
        shutil.copytree(sound[library], models / "1")
        deployment, told = hostile_deployment(number, models, published[library])
        started = time.process_time()
        decides, why = scorer.look(deployment)
        cpu_ms.append(1000 * (time.process_time() - started))
        assert (decides, bool(why)) == ("good", True), f"number {number}: loaded {told}"
        assert scorer.residents.ruling.champion is before
        refused += 1
        swept(models)
    figures = {"bundles": TRIES, "refused": refused, "loaded": 0, "crashed": 0}
    figures |= {"cpu_ms_median": statistics.median(cpu_ms), "cpu_ms_p95": sorted(cpu_ms)[-25]}
    print(json.dumps({"test": "T-MOD-1", **figures}))
    for library in LIBRARIES:
        swept(models)
        shutil.copytree(sound[library], models / "1")
        assert scorer.look_signed(published[library]) == ("1", None)


def test_an_old_version_that_another_key_signed_again_is_not_gone_back_to(tmp_path):
    models = tmp_path / "models"
    old, new = (write_small_bundle(models, name, small_model(int(name))) for name in "12")
    scorer = Scorer(models)
    assert scorer.look_signed(pointer_to(old))[0] == "1"
    assert scorer.look_signed(pointer_to(new))[0] == "2"
    decides, why = scorer.look(by_another_key(models, pointer_to(old)))
    assert (decides, "is signed by key" in why) == ("2", True)


def test_a_signature_is_checked_before_a_byte_of_the_bundle_is_read(tmp_path, monkeypatch):
    models = tmp_path / "models"
    bundle = write_small_bundle(models, "1", small_model(1))
    monkeypatch.setattr(residents, "load_pointed", lambda *_: pytest.fail("the bundle was read"))
    for signing in SIGNINGS:
        decides, why = Scorer(models).look(signing(models, pointer_to(bundle)))
        assert (decides, "is not to be trusted as champion" in why) == (None, True), signing


def test_the_refusal_of_a_signature_is_counted_and_said_once(tmp_path, caplog):
    models = tmp_path / "models"
    pointer = pointer_to(write_small_bundle(models, "1", small_model(1)))
    scorer = Scorer(models)
    for _ in range(3):
        scorer.look(by_another_key(models, pointer))
    said = [r.message for r in caplog.records if "not to be trusted" in r.getMessage()]
    assert len(said) == 1
    assert scorer.registry.get_sample_value("fraud_model_load_errors_total") == 1.0
    assert "models publish" in caplog.text


# --- a file that kills its reader --------------------------------------------------------------


def killers(library: str, wanted: int) -> list[bytes]:
    """Model files that kill the process that parses them: found by damaging a sound one."""
    model, rows = trained(library), some_rows(16, 2)
    expected, found = model.score(rows), []
    for seed in range(600):
        random = np.random.default_rng(seed)
        payload = bytearray(model.payload)
        if library == "lightgbm":
            del payload[random.integers(len(payload) // 4, len(payload)) :]
        else:
            payload[random.integers(len(payload))] ^= 1 << random.integers(8)
        try:
            first_parse.parse_in_child(library, bytes(payload), model.rounded(rows), expected)
        except BundleIntegrityError as refusal:
            if "was killed by SIG" in refusal.message:
                found.append(bytes(payload))
                if len(found) == wanted:
                    return found
    pytest.fail(f"only {len(found)} of {wanted} files kill their reader")


@both
def test_a_well_sealed_and_signed_file_that_kills_its_reader_kills_a_child_only(library, tmp_path):
    """T-MOD-2: the scorer goes on with its last good model, and takes the next sound one."""
    models, survived = tmp_path / "models", 0
    path, scorer = written(models, trained(library)), Scorer(models)
    good = pointer_to(write_small_bundle(models, "good", small_model(1)))
    assert scorer.look_signed(good)[0] == "good"
    for payload in killers(library, 10):
        (path / FILES[library]).write_bytes(payload)
        sealed_again(path)
        decides, why = scorer.look_signed(pointer_to(path))
        assert re.search(r"a child process .* was killed by SIG", why)
        survived += decides == "good"
    print(json.dumps({"test": "T-MOD-2", "library": library, "killers": 10, "survived": survived}))
    assert survived == 10
    (path / FILES[library]).write_bytes(trained(library).payload)
    sealed_again(path)
    assert scorer.look_signed(pointer_to(path)) == ("1", None)


ENDS = {
    "import time; time.sleep(60)": "gave no answer within 0.5 s",
    "import sys; sys.exit(3)": "ended with code 3",
    "import os; os.kill(os.getpid(), 9)": "was killed by SIGKILL",
    "print('{')": "answered something that is no answer",
    "print('[]')": "answered something that is no answer",
    'print(\'{"scores": "zz"}\')': "answered something that is no answer",
    "print('{\"scores\": 1}')": "answered something that is no answer",
    "print('{}')": "refuses it: no scores",
    'print(\'{"refused": "no tree"}\')': "refuses it: no tree",
    'print(\'{"scores": "00"}\')': "16 of 16 golden rows",
    'print(\'{"scores": ""}\')': "16 of 16 golden rows",
    "": "answered something that is no answer",
}


@pytest.mark.parametrize("program", ENDS)
def test_every_other_end_of_the_child_is_a_refusal_too(program, tmp_path, monkeypatch):
    path = written(tmp_path, trained("xgboost"))
    (tmp_path / "child.py").write_text(program)
    monkeypatch.setattr(parse_child, "__file__", str(tmp_path / "child.py"))
    monkeypatch.setattr(first_parse, "TIME_LIMIT_SECONDS", 0.5)
    monkeypatch.setattr(first_parse, "_survived", {})
    with pytest.raises(BundleIntegrityError, match=ENDS[program]):
        load_bundle(path)


def test_a_child_that_cannot_be_started_is_no_verdict_on_the_file(tmp_path, monkeypatch):
    path = written(tmp_path, trained("xgboost"))
    monkeypatch.setattr(first_parse, "_survived", {})
    monkeypatch.setattr(first_parse.sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(UnavailableError, match="No child process could be started"):
        load_bundle(path)


@both
def test_what_a_child_survived_is_not_parsed_by_another_one(library, tmp_path, monkeypatch):
    path = written(tmp_path, trained(library))
    monkeypatch.setattr(first_parse, "_survived", {})
    children = []
    ask = first_parse._asked
    monkeypatch.setattr(first_parse, "_asked", lambda task: children.append(task) or ask(task))
    load_bundle(path)
    load_bundle(path)
    assert len(children) == 1


# --- code that an artifact brings along --------------------------------------------------------


class Canary:
    """Unpickling it leaves a file behind."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return (Path.write_text, (self.place, "ran"))


def test_code_in_an_artifact_never_runs(tmp_path):
    """As a model file, as a golden array, as a stranger beside them and as MLflow's own file."""
    place = tmp_path / "canary"
    hostile = pickle.dumps(Canary(place))
    pickle.loads(hostile)  # noqa: S301 -- the canary sings
    assert place.read_text() == "ran"
    place.unlink()
    array = np.empty(1, dtype=object)
    array[0] = Canary(place)
    acts = {
        "model": lambda path: (path / "model.ubj").write_bytes(hostile),
        "golden": lambda path: (path / "golden.npz").write_bytes(hostile),
        "golden array": lambda path: (path / "golden.npz").write_bytes(
            golden_bytes(features=array, scores=array)
        ),
        "calibration": lambda path: (path / "calibration.json").write_bytes(hostile),
        "reference": lambda path: (path / "reference.parquet").write_bytes(hostile),
        "manifest": lambda path: (path / MANIFEST).write_bytes(hostile),
        "stranger": lambda path: (path / "model.pkl").write_bytes(hostile),
        "mlflow": lambda path: (path / "MLmodel").write_text(
            "flavors:\n  xgboost:\n    model_class: os.system\n    data: model.ubj\n"
        ),
    }
    for number, (name, act) in enumerate(acts.items()):
        path = written(tmp_path / str(number), trained("xgboost"))
        place.unlink(missing_ok=True)  # numpy pickled it while the test wrote it
        act(path)
        if name not in ("manifest", "stranger", "mlflow"):
            sealed_again(path)
        place.unlink(missing_ok=True)
        try:
            load_bundle(path).reference()
        except (BundleIntegrityError, pl.exceptions.PolarsError):
            pass
        else:
            pytest.fail(f"loaded a bundle whose {name} is code")
        assert not place.exists(), name


CODE_LOADERS = {
    *("pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "mlflow", "shelve", "skops"),
    *("torch", "runpy"),
}
"""Modules that run code which a file names."""


ROOT = Path(__file__).parents[2]
OURS = ("fraud_platform", "assets", "sensors", "serving", "feature_repo")
RUNS_WHAT_A_FILE_NAMES = {"load_model", "load_pyfunc", "Unpickler", "load_learner"}


def test_hostile_files_in_the_registry_are_never_run(tmp_path):
    """T-MOD-3: beside every model that MLflow keeps lie a pickle and an MLmodel that would run."""
    place, registry = tmp_path / "canary", registered_versions(tmp_path / "home", 2)
    planted = 0
    for run in [version.run_id for version in registry.versions()]:
        hostile = pickle.dumps(Canary(place))
        folder = Path(registry._client.get_run(run).info.artifact_uri.removeprefix("file://"))
        folder = folder / "model"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("model.pkl", "python_model.pkl", "model.ubj"):
            (folder / name).write_bytes(hostile)
        (folder / "MLmodel").write_text(
            "flavors:\n  python_function:\n    loader_module: os\n    python_model: model.pkl\n"
            "  xgboost:\n    model_class: os.system\n    data: model.ubj\n"
        )
        planted += 4
    registry.promote("1")
    registry.set_challenger("2")
    registry.promote("2")
    registry.roll_back()
    registry.publish()
    scorer = Scorer(registry.models_dir)
    asyncio.run(scorer.residents.look())
    assert (scorer.residents.ruling.version, scorer.residents.load_errors) == ("1", {})
    print(json.dumps({"test": "T-MOD-3", "planted": planted, "executed": int(place.exists())}))
    assert not place.exists()


def test_no_line_of_ours_calls_a_loader_that_runs_what_a_file_names():
    found = []
    for path in [path for folder in OURS for path in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in RUNS_WHAT_A_FILE_NAMES:
                found.append((path.relative_to(ROOT).as_posix(), ast.unparse(node)))
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                module = getattr(node, "module", None) or ""
                roots = {name.partition(".")[0] for name in [module, *names]}
                found += [(path.name, bad) for bad in roots & (CODE_LOADERS - {"mlflow"})]
                found += [(path.name, n) for n in names if n in ("pyfunc", "mlflow.pyfunc")]
    # XGBoost's own parser of bytes, which runs no code: it is called on verified payloads.
    assert found == [("fraud_platform/model.py", "booster.load_model")]


def test_a_running_scorer_has_no_module_that_loads_code_from_artifacts():
    """But for what the boosters import for others: scikit-learn, and LightGBM's cloudpickle."""
    program = (
        "import json, sys; sys.modules['sklearn'] = None; import serving.app, xgboost, lightgbm; "
        "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(told.stdout.splitlines()[-1]))
    assert "xgboost" in loaded
    assert loaded & {"mlflow", "joblib", "dill", "skops", "torch", "dagster"} == set()


def test_nothing_that_the_scorer_reaches_runs_code_from_a_file():
    import importlib

    import grimp

    graph = grimp.build_graph("serving", "fraud_platform", include_external_packages=True)
    reached = graph.find_upstream_modules("serving", as_package=True)
    assert reached & {"numpy", "zipfile", "xgboost"} == {"numpy", "zipfile", "xgboost"}
    assert reached & CODE_LOADERS == set()
    loads = [
        ast.unparse(node)
        for name in reached
        if name.startswith(("serving", "fraud_platform"))
        for node in ast.walk(
            ast.parse(Path(str(importlib.import_module(name).__file__)).read_text("utf-8"))
        )
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load")
    ]
    assert loads
    assert all("allow_pickle=False" in call for call in loads)
