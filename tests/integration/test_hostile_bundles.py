"""Damaged, forged and hostile bundles: every one is refused, and the process that looked lives."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from fraud_platform.adapters import first_parse, model_bundle, parse_child
from fraud_platform.adapters.deployment import Pointer
from fraud_platform.adapters.model_bundle import (
    MANIFEST,
    Evidence,
    Lineage,
    load_bundle,
    load_pointed,
    manifest_digest,
    read_manifest,
    write_bundle,
)
from fraud_platform.adapters.sealed_folder import sha256
from fraud_platform.calibration import Calibration
from fraud_platform.errors import BundleIntegrityError, UnavailableError
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.model import LIBRARIES, Model

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
TRIES = 500


def test_five_hundred_damaged_or_forged_bundles_are_refused_and_a_sound_one_is_not(tmp_path):
    """Each is asked for by the pointer that was published, and again as if it had been resealed."""
    sound = {library: written(tmp_path / library, trained(library)) for library in LIBRARIES}
    published = {
        library: Pointer(version="1", path="1", manifest_digest=manifest_digest(path))
        for library, path in sound.items()
    }
    for number in range(TRIES):
        library, kind = LIBRARIES[number % 2], KINDS[number // 2 % len(KINDS)]
        random = np.random.default_rng(number)
        models = tmp_path / "tried"
        path = Path(shutil.copytree(sound[library], models / "1"))
        name = str(random.choice(sorted(entry.name for entry in path.iterdir())))
        kind(path, name, random)
        told = f"number {number}: {kind.__name__} of {name}"
        for load in (partial(load_pointed, models, published[library]), partial(load_bundle, path)):
            try:
                load()
            except BundleIntegrityError:
                continue
            pytest.fail(f"loaded {told}")
        shutil.rmtree(models)
    for library, path in sound.items():
        assert load_pointed(path.parent, published[library]).model == trained(library)


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
def test_a_well_sealed_file_that_kills_its_reader_kills_a_child_only(library, tmp_path):
    path = written(tmp_path, trained(library))
    for payload in killers(library, 10):
        (path / FILES[library]).write_bytes(payload)
        sealed_again(path)
        with pytest.raises(BundleIntegrityError, match=r"a child process .* was killed by SIG"):
            load_bundle(path)
    (path / FILES[library]).write_bytes(trained(library).payload)
    sealed_again(path)
    assert load_bundle(path).model == trained(library)


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
    load_bundle(path)
    monkeypatch.setattr(first_parse, "_asked", lambda _: pytest.fail("a second child"))
    load_bundle(path)


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


def test_nothing_that_the_scorer_reaches_runs_code_from_a_file():
    import ast
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
