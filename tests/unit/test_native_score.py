import gc
import threading
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fraud_platform import native_score
from fraud_platform.errors import DataContractError
from fraud_platform.model import LIBRARIES, Model
from fraud_platform.native_score import ROWS, NativeScorer

WIDTH = 7
both = pytest.mark.parametrize("library", LIBRARIES)
ANY = st.one_of(
    st.floats(width=64),  # also NaN, infinities, subnormals and what float32 cannot hold
    st.sampled_from([0.0, -0.0, 1e-46, 3.4028235e38, 3.4028236e38, -1e300, np.nan, np.inf]),
    st.floats(-4, 4),
)


@cache
def model(library: str) -> Model:
    """A real booster over rows with gaps."""
    random = np.random.default_rng(5)
    rows = random.normal(size=(1500, WIDTH))
    is_fraud = (rows[:, 0] + rows[:, 1] * rows[:, 2] > 1).astype(np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    if library == "xgboost":
        import xgboost

        matrix = xgboost.DMatrix(rows.astype(np.float32), is_fraud, nthread=1)
        parameters = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1}
        payload = bytes(xgboost.train(parameters, matrix, num_boost_round=30).save_raw("ubj"))
    else:
        import lightgbm

        parameters = {"objective": "binary", "num_threads": 1, "verbosity": -1}
        data = lightgbm.Dataset(rows.astype(np.float32).astype(np.float64), is_fraud)
        text = lightgbm.train(parameters, data, num_boost_round=30).model_to_string()
        payload = (text[: text.index("\nparameters:")] + "\n").encode()
    return Model(
        library=library,
        payload=payload,
        feature_names=tuple(f"f{column}" for column in range(WIDTH)),
        library_version="0",
        parameters={},
        rounds=30,
    )


def some_rows(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, WIDTH))
    rows[rows > 1.5] = np.nan
    return rows


@cache
def scorer(library: str) -> NativeScorer:
    found = NativeScorer(model(library), some_rows(32))
    assert found.fallback is None
    return found


@both
@settings(max_examples=150, deadline=None)
@given(data=st.data(), count=st.integers(1, ROWS))
def test_any_matrix_gets_the_bits_of_the_public_call(library, data, count):
    rows = data.draw(arrays.arrays(np.float64, (count, WIDTH), elements=ANY, fill=ANY))
    assert scorer(library).score(rows).tobytes() == model(library).score(rows).tobytes()


@both
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, ROWS), singles=st.integers(0, ROWS))
@example(seed=1, count=ROWS, singles=ROWS)
def test_one_by_one_and_all_at_once_give_the_same_bits(library, seed, count, singles):
    found = NativeScorer(model(library), some_rows(3))
    found.singles = singles
    rows = some_rows(count, seed)
    assert found.score(rows).tobytes() == model(library).score(rows).tobytes()


@both
@pytest.mark.parametrize("count", [0, ROWS + 1, 500])
def test_more_rows_than_the_buffers_hold_and_none_take_the_public_call(library, count):
    rows = some_rows(count)
    assert scorer(library).score(rows).tobytes() == model(library).score(rows).tobytes()


@both
@pytest.mark.parametrize("order", ["F", "C"])
def test_the_layout_of_the_matrix_does_not_matter(library, order):
    rows = np.array(some_rows(40), order=order)[::2]
    assert scorer(library).score(rows).tobytes() == model(library).score(rows).tobytes()


@both
def test_a_matrix_of_another_width_is_refused_as_by_the_model(library):
    with pytest.raises(DataContractError, match=r"expected \(n, 7\)"):
        scorer(library).score(np.zeros((1, WIDTH + 1)))


@both
def test_a_result_survives_the_next_call(library):
    one, two = some_rows(4, 1), some_rows(4, 2)
    first = scorer(library).score(one)
    kept = first.tobytes()
    scorer(library).score(two)
    assert first.tobytes() == kept


@both
def test_a_difference_of_one_bit_leads_to_the_public_call(library, monkeypatch):
    kind = {"xgboost": native_score._XGBoost, "lightgbm": native_score._LightGBM}[library]
    honest = kind.one
    monkeypatch.setattr(kind, "one", lambda self, row: float(np.nextafter(honest(self, row), 2)))
    found = NativeScorer(model(library), some_rows(5))
    assert found.fallback is not None
    assert "5 rows score differently" in found.fallback
    rows = some_rows(6)
    assert found.score(rows).tobytes() == model(library).score(rows).tobytes()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_without_the_private_names_is_called_in_public(library, monkeypatch):
    module = pytest.importorskip(library)
    monkeypatch.delattr(module.core if library == "xgboost" else module.basic, "_LIB")
    found = NativeScorer(model(library), some_rows(5))
    assert found.fallback is not None
    assert "_LIB" in found.fallback


@both
def test_two_scorers_of_one_model_work_in_two_threads(library):
    expected = [model(library).score(some_rows(9, seed)).tobytes() for seed in range(30)]
    wrong: list[int] = []

    def work() -> None:
        own = NativeScorer(model(library), some_rows(3))
        for seed in list(range(30)) * 10:
            if own.score(some_rows(9, seed)).tobytes() != expected[seed]:
                wrong.append(seed)  # noqa: PERF401 -- shared by two threads

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@both
def test_scorers_that_come_and_go_leave_nothing_behind(library):
    from pathlib import Path

    def kilobytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4

    for _ in range(20):
        NativeScorer(model(library), some_rows(3))
    gc.collect()
    before = kilobytes()
    for _ in range(100):
        NativeScorer(model(library), some_rows(3))
    gc.collect()
    assert kilobytes() - before < 4_000
