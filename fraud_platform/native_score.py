"""Scoring few rows fast: the libraries' own C functions with everything prepared once.

What belongs here: calling a loaded model with less around the call. What a score is, is
`model.Model.score`, which gives the same bits and is what happens whenever the fast way is not to
be had or does not agree. Only documented C functions are called; the loaded library and the
handles of models come from names of the libraries' Python sides that are not public.
"""

import ctypes
import json
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud_platform.model import Model

ROWS = 64
"""Most rows the C functions are asked for: the size of the buffers."""
_FEW = 32
"""From here on a call lets other threads run; for fewer rows handing over costs more."""
_LARGEST = float(np.finfo(np.float32).max)


class NativeScorer:
    """The scores of one model, for one thread at a time: the buffers belong to the object.

    Args:
        model: the verified model.
        check: shape (n, k), n >= 1, rows on which both ways must agree before the fast one is used.
        of_margins: give margins (log-odds, as `Model.margin`) in place of scores.

    Attributes:
        fallback: why the library's Python call is used instead, or None.
        singles: up to this many rows are scored one by one; measured here.
    """

    def __init__(
        self, model: Model, check: NDArray[np.float64], *, of_margins: bool = False
    ) -> None:
        self._public = model.margin if of_margins else model.score
        self.singles = 1
        self.fallback: str | None = None
        self._calls: _Calls | None = None
        try:
            kind = _XGBoost if model.library == "xgboost" else _LightGBM
            self._calls = kind(model, of_margins=of_margins)
            self._require_same_bits(check[:ROWS])
            self.singles = self._calls.break_even()
        except (AttributeError, OSError, TypeError, ValueError, ctypes.ArgumentError) as error:
            self._calls, self.fallback = None, f"{type(error).__name__}: {error}"

    def score(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """`Model.score`: shape (n, k) to shape (n,), the same bits."""
        calls, count = self._calls, len(features)
        if calls is None or not 0 < count <= ROWS or features.shape[1:] != calls.wide.shape[1:]:
            return self._public(features)
        calls.fill(features, count)
        if count <= self.singles:
            return np.array([calls.one(row) for row in range(count)])
        return calls.many(count)

    def _require_same_bits(self, rows: NDArray[np.float64]) -> None:
        expected = self._public(rows).tobytes()
        for self.singles in (ROWS, 0):
            if self.score(rows).tobytes() != expected:
                raise ValueError(f"{len(rows)} rows score differently through the C functions")


class _Calls:
    """One library's C calls over buffers of their own."""

    def __init__(self, model: Model, native: str) -> None:
        # The interpreter's lock stays with the caller, who is back in microseconds.
        self._held = ctypes.PyDLL(native)
        self._booster = model.booster  # its handle lives as long as the object
        self.wide = np.zeros((ROWS, len(model.feature_names)))
        self._rows = self.wide.astype(np.float32)
        self._views = [(self.wide[:count], self._rows[:count]) for count in range(ROWS + 1)]

    def fill(self, features: NDArray[np.float64], count: int) -> None:
        """Clip and round as `Model.rounded` does; NaN stays NaN."""
        wide, rows = self._views[count]
        np.minimum(features, _LARGEST, out=wide)
        np.maximum(wide, -_LARGEST, out=rows, casting="same_kind")

    def one(self, row: int) -> float:
        """The score of one row of the buffer."""
        raise NotImplementedError

    def many(self, count: int) -> NDArray[np.float64]:
        """The scores of the first rows of the buffer."""
        return np.array([self.one(row) for row in range(count)])

    def break_even(self) -> int:
        """The most rows for which one by one is not slower than one call."""
        return ROWS


class _XGBoost(_Calls):
    """`XGBoosterPredictFromDense` with its texts, its proxy and its outputs made once."""

    def __init__(self, model: Model, *, of_margins: bool) -> None:
        import xgboost

        native = xgboost.core._LIB._name  # noqa: SLF001 -- see the module
        super().__init__(model, native)
        self._free = ctypes.CDLL(native)
        proxy = ctypes.c_void_p()
        if self._held.XGProxyDMatrixCreate(ctypes.byref(proxy)):
            raise OSError("XGBoost made no proxy matrix")
        weakref.finalize(self, self._held.XGDMatrixFree, proxy)
        self._single = [self._text(row, 1) for row in range(ROWS)]
        self._batch = [self._text(0, count) for count in range(ROWS + 1)]
        self._found = ctypes.POINTER(ctypes.c_float)()
        config: dict[str, float] = {"type": int(of_margins), "training": False, "cache_id": 0}
        config |= {"iteration_begin": 0, "iteration_end": 0, "strict_shape": False}
        config["missing"] = float("nan")
        outputs = (ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64(), self._found)
        self._tail = (json.dumps(config).encode(), proxy, *map(ctypes.byref, outputs))

    def one(self, row: int) -> float:
        code = self._held.XGBoosterPredictFromDense(
            self._booster.handle, self._single[row], *self._tail
        )
        return float(self._found[0]) if code == 0 else _refused("XGBoost", 1)

    def many(self, count: int) -> NDArray[np.float64]:
        library = self._held if count < _FEW else self._free
        code = library.XGBoosterPredictFromDense(
            self._booster.handle, self._batch[count], *self._tail
        )
        return np.array(self._found[:count]) if code == 0 else _refused("XGBoost", count)

    def break_even(self) -> int:
        one = _seconds(self.one, 0)
        for count in range(2, 17):
            if _seconds(self.many, count) < count * one:
                return count - 1
        return 16

    def _text(self, row: int, count: int) -> bytes:
        place = [self._rows[row:].ctypes.data, True]
        shape = [count, self._rows.shape[1]]
        told = {"data": place, "shape": shape, "typestr": "<f4", "version": 3}
        return json.dumps(told).encode()


class _LightGBM(_Calls):
    """`LGBM_BoosterPredictForMatSingleRowFast`, row by row: no call for several is faster."""

    def __init__(self, model: Model, *, of_margins: bool) -> None:
        import lightgbm

        super().__init__(model, lightgbm.basic._LIB._name)  # noqa: SLF001 -- see the module
        self._config = ctypes.c_void_p()
        code = self._held.LGBM_BoosterPredictForMatSingleRowFastInit(
            self._booster._handle,  # noqa: SLF001 -- see the module
            # Which output, from the first tree, of all trees, rows of float64.
            *map(ctypes.c_int, (int(of_margins), 0, -1, 1)),
            ctypes.c_int32(self.wide.shape[1]),
            b"num_threads=1",
            ctypes.byref(self._config),
        )
        if code:
            _refused("LightGBM", 1)
        weakref.finalize(self, self._held.LGBM_FastConfigFree, self._config)
        self._found = ctypes.c_double()
        start = self.wide.ctypes.data
        self._places = [ctypes.c_void_p(start + r * self.wide.strides[0]) for r in range(ROWS)]
        self._tail = (ctypes.byref(ctypes.c_int64()), ctypes.byref(self._found))

    def fill(self, features: NDArray[np.float64], count: int) -> None:
        super().fill(features, count)
        wide, rows = self._views[count]
        wide[...] = rows

    def one(self, row: int) -> float:
        code = self._held.LGBM_BoosterPredictForMatSingleRowFast(
            self._config, self._places[row], *self._tail
        )
        return self._found.value if code == 0 else _refused("LightGBM", 1)


def _refused(library: str, count: int) -> Any:
    raise OSError(f"{library} did not score {count} rows")


def _seconds(call: Callable[[int], object], argument: int) -> float:
    """The least time of one call among several."""
    took = []
    for _ in range(20):
        start = time.perf_counter()
        call(argument)
        took.append(time.perf_counter() - start)
    return min(took)
