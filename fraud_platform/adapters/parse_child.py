"""The program that parses a model file first: alone, limited, and allowed to die.

A damaged or hostile model file can crash, hang or exhaust the process that parses it, so
`first_parse` runs this file in a child before any process of the platform touches the bytes. It
uses the standard library and the booster's own C functions only, so that it starts in a tenth of a
second.

Input on stdin: one JSON line `{library, shared_object, model_bytes, rows, columns}`, the model's
bytes, then the golden rows (float32 for XGBoost, float64 for LightGBM). Answer on stdout: one JSON
line, `{"scores": hex}` or `{"refused": why}`.
"""

import ctypes
import json
import math
import os
import resource
import sys
from collections.abc import Iterator
from typing import Any

CPU_SECONDS = 10
MEMORY_BYTES = 4 << 30
ANSWER_BYTES = 64 << 20
_EXPLAINED_ROWS = 4
_XGBOOST_PREDICTION = {
    "training": False,
    "iteration_begin": 0,
    "iteration_end": 0,
    "missing": math.nan,
    "strict_shape": False,
    "cache_id": 0,
}


class RefusedError(Exception):
    """The library refuses the file, or the model cannot be meant to be used."""


def limit_this_process() -> None:
    """Bound what the parser may take, and let no core file hold the golden rows."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (ANSWER_BYTES, ANSWER_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class XGBoostFile:
    """A model file under XGBoost's C functions; `shared_object` is the library's path."""

    def __init__(self, shared_object: str, model: bytes) -> None:
        self._library = ctypes.CDLL(shared_object)
        self._library.XGBGetLastError.restype = ctypes.c_char_p
        self._booster = ctypes.c_void_p()
        self._call("XGBoosterCreate", None, ctypes.c_uint64(0), ctypes.byref(self._booster))
        self._call(
            "XGBoosterLoadModelFromBuffer", self._booster, model, ctypes.c_uint64(len(model))
        )
        self._call("XGBoosterSetParam", self._booster, b"nthread", b"1")

    def leaves(self) -> Iterator[float]:
        """Every leaf's value."""
        length, text = ctypes.c_uint64(), ctypes.POINTER(ctypes.c_char)()
        self._call(
            "XGBoosterSaveModelToBuffer",
            self._booster,
            b'{"format": "json"}',
            ctypes.byref(length),
            ctypes.byref(text),
        )
        learner = json.loads(ctypes.string_at(text, length.value))["learner"]
        for tree in learner["gradient_booster"]["model"]["trees"]:
            for left, value in zip(tree["left_children"], tree["split_conditions"], strict=True):
                if left == -1:
                    yield value

    def scores(self, rows: bytes, count: int, columns: int) -> bytes:
        """The scores of rows of float32, as float32."""
        shape, dimensions = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
        found = ctypes.POINTER(ctypes.c_float)()
        self._call(
            "XGBoosterPredictFromDense",
            self._booster,
            _array(rows, count, columns),
            _json({"type": 0, **_XGBOOST_PREDICTION}),
            ctypes.c_void_p(),
            ctypes.byref(shape),
            ctypes.byref(dimensions),
            ctypes.byref(found),
        )
        return ctypes.string_at(found, 4 * count)

    def explain(self, rows: bytes, count: int, columns: int) -> None:
        """Walk the trees as contributions do; the answer does not matter."""
        matrix, shape = ctypes.c_void_p(), ctypes.POINTER(ctypes.c_uint64)()
        dimensions, found = ctypes.c_uint64(), ctypes.POINTER(ctypes.c_float)()
        config = _json({"missing": math.nan, "nthread": 1})
        table = _array(rows, count, columns)
        self._call("XGDMatrixCreateFromDense", table, config, ctypes.byref(matrix))
        self._call(
            "XGBoosterPredictFromDMatrix",
            self._booster,
            matrix,
            _json({"type": 2, **_XGBOOST_PREDICTION}),
            ctypes.byref(shape),
            ctypes.byref(dimensions),
            ctypes.byref(found),
        )

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._library, name)(*arguments):
            raise RefusedError(self._library.XGBGetLastError().decode(errors="replace"))


class LightGBMFile:
    """A model file under LightGBM's C functions; `shared_object` is the library's path."""

    def __init__(self, shared_object: str, model: bytes) -> None:
        self._library = ctypes.CDLL(shared_object)
        self._library.LGBM_GetLastError.restype = ctypes.c_char_p
        self._text = model
        self._booster = ctypes.c_void_p()
        self._call(
            "LGBM_BoosterLoadModelFromString",
            ctypes.c_char_p(model),
            ctypes.byref(ctypes.c_int()),
            ctypes.byref(self._booster),
        )
        features = ctypes.c_int()
        self._call("LGBM_BoosterGetNumFeature", self._booster, ctypes.byref(features))
        self._features = features.value

    def leaves(self) -> Iterator[float]:
        """Every leaf's value."""
        for line in self._text.splitlines():
            if line.startswith(b"leaf_value="):
                yield from map(float, line.partition(b"=")[2].split())

    def scores(self, rows: bytes, count: int, columns: int) -> bytes:
        """The scores of rows of float64, as float64."""
        return self._predicted(rows, count, columns, kind=0, width=1)

    def explain(self, rows: bytes, count: int, columns: int) -> None:
        """Walk the trees as contributions do; the answer does not matter."""
        self._predicted(rows, count, columns, kind=3, width=columns + 1)

    def _predicted(self, rows: bytes, count: int, columns: int, *, kind: int, width: int) -> bytes:
        if self._features != columns:  # the library would read beyond the row
            raise RefusedError(f"found a model of {self._features} features, expected {columns}")
        found, length = (ctypes.c_double * (count * width))(), ctypes.c_int64()
        self._call(
            "LGBM_BoosterPredictForMat",
            self._booster,
            ctypes.c_char_p(rows),
            ctypes.c_int(1),
            ctypes.c_int32(count),
            ctypes.c_int32(columns),
            ctypes.c_int(1),
            ctypes.c_int(kind),
            ctypes.c_int(0),
            ctypes.c_int(-1),
            b"num_threads=1",
            ctypes.byref(length),
            found,
        )
        return bytes(found)

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._library, name)(*arguments):
            raise RefusedError(self._library.LGBM_GetLastError().decode(errors="replace"))


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _array(rows: bytes, count: int, columns: int) -> bytes:
    address = ctypes.cast(ctypes.c_char_p(rows), ctypes.c_void_p).value
    return _json(
        {"data": [address, True], "shape": [count, columns], "typestr": "<f4", "version": 3}
    )


def _answer(task: dict[str, Any], model: bytes, rows: bytes) -> dict[str, str]:
    kind = XGBoostFile if task["library"] == "xgboost" else LightGBMFile
    count, columns = task["rows"], task["columns"]
    try:
        file = kind(task["shared_object"], model)
        scores = file.scores(rows, count, columns)
        file.explain(rows, min(count, _EXPLAINED_ROWS), columns)
        if not all(map(math.isfinite, file.leaves())):
            raise RefusedError("a leaf of the model is not a finite number")
    except (RefusedError, KeyError, TypeError, ValueError) as error:
        return {"refused": f"{error}"[:300]}
    return {"scores": scores.hex()}


def main() -> None:
    """Read one task, answer it in one line."""
    limit_this_process()
    task = json.loads(sys.stdin.buffer.readline())
    model = sys.stdin.buffer.read(task["model_bytes"])
    rows = sys.stdin.buffer.read()
    # The libraries print to both outputs; the answer keeps a way of its own.
    with os.fdopen(os.dup(1), "w") as answers:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        answers.write(json.dumps(_answer(task, model, rows)) + "\n")
        answers.flush()
        # The libraries' own clean-up of a damaged model must not take the answer with it.
        os._exit(0)


if __name__ == "__main__":
    main()
