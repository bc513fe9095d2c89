import math
import time
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from fraud_platform import calibration
from fraud_platform.calibration import Calibration, CalibrationPolicy, calibrate
from fraud_platform.errors import DataContractError, LabelsNotMatureError
from fraud_platform.metrics import threshold_at_fpr

ANY = CalibrationPolicy(min_frauds=1)

# Few distinct scores and both ends of the range, so that ties and edges are common.
few = st.sampled_from([0.0, 5e-324, 0.1, 0.25, 0.3, 0.1 + 0.2, 0.7, 1.0 - 2**-53, 1.0])
scores_of_payments = st.one_of(few, st.floats(0.0, 1.0))
judged = st.lists(st.tuples(st.booleans(), scores_of_payments), min_size=2, max_size=60).filter(
    lambda rows: len({row[0] for row in rows}) == 2
)
asked = st.lists(scores_of_payments, min_size=1, max_size=40)


def arrays(rows):
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def simulated(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(is fraud, score, true chance): a model that ranks well and states far too much."""
    random = np.random.default_rng(seed)
    margin = random.normal(-6.0, 2.0, rows)
    chance = 1.0 / (1.0 + np.exp(-margin))
    score = (1.0 / (1.0 + np.exp(-(0.8 * margin + 1.5)))).astype(np.float32).astype(np.float64)
    return random.random(rows) < chance, score, chance


@cache
def fitted() -> Calibration:
    is_fraud, scores, _ = simulated(1, 60_000)
    return calibrate(is_fraud, scores, CalibrationPolicy())


@given(judged, st.floats(0.0, 1.0, exclude_min=True), asked)
def test_from_the_lowest_score_of_a_probability_on_every_score_has_it(rows, probability, asked):
    maps = calibrate(*arrays(rows), ANY)
    lowest = maps.lowest_score(probability)
    for score in [*asked, min(lowest, 1.0)]:
        assert (maps.probability(score) >= probability) == (score >= lowest)


@given(judged, asked)
def test_one_score_and_many_are_given_the_same_bits(rows, asked):
    maps = calibrate(*arrays(rows), ANY)
    scores = np.array(asked + [row[1] for row in rows])
    one_by_one = [maps.probability(score) for score in scores.tolist()]
    assert maps.probabilities(scores).tolist() == one_by_one


def test_one_score_and_many_are_given_the_same_bits_on_a_slice_of_true_size():
    scores = np.concatenate((simulated(2, 3_000)[1], np.linspace(0.0, 1.0, 2_001)))
    maps = fitted()
    assert maps.probabilities(scores).tolist() == [maps.probability(s) for s in scores.tolist()]


@given(judged, asked)
def test_a_higher_score_never_means_less_fraud_or_more_genuine_payments(rows, asked):
    maps = calibrate(*arrays(rows), ANY)
    near = [np.nextafter(score, end) for score in maps.knots for end in (0.0, 1.0)]
    scores = np.sort(np.array([*asked, *near, *maps.knots, *maps.steps]))
    assert np.all(np.diff(maps.probabilities(scores)) >= 0.0)
    assert np.all(np.diff([maps.expected_fpr(score) for score in scores.tolist()]) <= 0.0)


@given(judged, asked)
def test_a_probability_is_never_certain(rows, asked):
    maps = calibrate(*arrays(rows), ANY)
    least = 0.5 / (len(rows) + 2)
    for score in [*asked, 0.0, 1.0]:
        assert least <= maps.probability(score) <= 1.0 - least


def test_rounding_never_lifts_a_probability_above_its_knot():
    low, high = 1.5 * 2**-53, 1.0 - 2**-53  # low + (high - low) is 1.0 in floats
    maps = Calibration(
        frauds=60, genuine=90, knots=(0.0, 1.0), chances=(low, high), steps=(0.5,), reached=(90,)
    )
    assert low + (high - low) > high
    assert maps.probability(1.0) == high == maps.probabilities(np.array([1.0]))[0]


@given(judged)
def test_the_mean_probability_of_the_fitted_rows_is_their_share_of_frauds(rows):
    is_fraud, scores = arrays(rows)
    found = calibrate(is_fraud, scores, ANY).probabilities(scores)
    assert abs(math.fsum(found) - is_fraud.sum()) < 1.0 + 1e-9  # one payment among all


def test_the_mean_probability_is_the_share_of_frauds_on_a_slice_of_true_size():
    is_fraud, scores, _ = simulated(1, 60_000)
    assert fitted().frauds == is_fraud.sum()
    assert fitted().genuine == 60_000 - is_fraud.sum()
    assert abs(fitted().probabilities(scores).mean() - is_fraud.mean()) < 1 / 60_000


# The independent one takes scores closer than the float's resolution for one.
@given(judged.map(lambda rows: [(fraud, round(score, 3)) for fraud, score in rows]))
def test_the_fit_equals_an_independent_one_with_the_two_invented_rows(rows):
    is_fraud, scores = arrays(rows)
    invented = np.array([0.0, *scores, 1.0]), np.array([0.5, *is_fraud, 0.5])
    expected = IsotonicRegression().fit(*invented).predict(scores)
    assert calibrate(is_fraud, scores, ANY).probabilities(scores) == pytest.approx(
        expected, abs=1e-12
    )


@pytest.mark.parametrize("rows", [2, 50, 5_000])
def test_without_a_single_fraud_below_a_score_its_chance_is_half_a_fraud_in_one_more_row(rows):
    scores = np.concatenate((np.linspace(0.1, 0.2, rows), np.full(50, 0.9)))
    maps = calibrate(scores == 0.9, scores, ANY)
    for score in (0.0, 0.1, 0.15, 0.2):
        assert maps.probability(score) == pytest.approx(0.5 / (rows + 1), rel=1e-12)
    for score in (0.9, 1.0):
        assert maps.probability(score) == pytest.approx(50.5 / 51, rel=1e-12)


def test_a_score_far_above_all_that_were_seen_is_drawn_towards_one_half():
    scores = np.concatenate((np.full(900, 0.01), np.full(100, 0.02)))
    is_fraud = np.arange(1_000) >= 990
    maps = calibrate(is_fraud, scores, ANY)
    assert maps.probability(0.02) == pytest.approx(0.1)
    assert maps.probability(0.51) == pytest.approx(0.3, abs=1e-3)
    assert maps.probability(1.0) == 0.5


@pytest.mark.parametrize(("frauds", "genuine"), [(49, 500), (500, 49), (0, 500)])
def test_too_few_rows_of_a_kind_give_no_probability_but_an_expected_fpr(frauds, genuine):
    is_fraud = np.arange(frauds + genuine) < frauds
    maps = calibrate(is_fraud, np.where(is_fraud, 0.9, 0.1), CalibrationPolicy(min_frauds=50))
    assert (maps.frauds, maps.genuine) == (frauds, genuine)
    assert maps.probability(0.5) is None
    assert maps.probabilities(np.array([0.5])) is None
    assert [maps.expected_fpr(score) for score in (0.1, 0.5)] == [1.0, 0.0]


def test_as_many_rows_as_the_policy_asks_for_give_a_probability():
    is_fraud = np.arange(100) < 50
    maps = calibrate(is_fraud, np.where(is_fraud, 0.9, 0.1), CalibrationPolicy(min_frauds=50))
    assert maps.probability(0.9) > 0.9


@given(judged, st.one_of(st.sampled_from([0.0, 0.01, 0.1, 0.29, 0.5, 1.0]), st.floats(0.0, 1.0)))
def test_at_the_threshold_for_a_share_at_most_that_share_is_expected(rows, fpr):
    is_fraud, scores = arrays(rows)
    threshold = threshold_at_fpr(is_fraud, scores, fpr)
    if threshold <= 1.0:  # above 1 nothing is caught, and it is no score
        # The same slack as `threshold_at_fpr` has.
        assert calibrate(is_fraud, scores, ANY).expected_fpr(threshold) <= fpr + 1e-9


@given(judged, asked)
def test_a_small_slice_has_the_exact_share_for_every_score(rows, asked):
    is_fraud, scores = arrays(rows)
    maps = calibrate(is_fraud, scores, ANY)
    for score in [*asked, *scores.tolist()]:
        assert maps.expected_fpr(score) == np.mean(scores[~is_fraud] >= score)


@given(judged, asked, st.integers(1, 6), st.sampled_from([0.01, 0.2, 0.7]))
def test_a_thinned_share_never_exceeds_the_exact_one_and_falls_short_by_little(
    rows, asked, tail, resolution
):
    is_fraud, scores = arrays(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "EXACT_TAIL", tail)
        patch.setattr(calibration, "RESOLUTION", resolution)
        maps = calibrate(is_fraud, scores, ANY)
    for score in [*asked, *scores.tolist(), 0.0]:
        exact = int(np.sum(scores[~is_fraud] >= score))
        found = round(maps.expected_fpr(score) * maps.genuine)
        assert found == exact if exact <= tail else found <= exact <= found * (1 + resolution)
    assert maps.expected_fpr(0.0) == 1.0


def test_a_large_slice_is_stored_small_and_exact_in_the_tail():
    random = np.random.default_rng(3)
    scores = np.round(random.beta(0.4, 8.0, 400_000), 6)  # with ties
    is_fraud = random.random(400_000) < 0.005
    maps = calibrate(is_fraud, scores, CalibrationPolicy())
    genuine = np.sort(scores[~is_fraud])
    wanted = np.unique(scores)
    exact = genuine.size - np.searchsorted(genuine, wanted)
    found = np.rint(
        np.array([maps.expected_fpr(score) for score in wanted.tolist()]) * genuine.size
    )
    in_tail = exact <= calibration.EXACT_TAIL
    assert np.array_equal(found[in_tail], exact[in_tail])
    assert np.all((found <= exact) & (exact <= found * (1 + calibration.RESOLUTION)))
    for fpr in (0.0005, 0.002, 0.02, 0.3):
        assert maps.expected_fpr(threshold_at_fpr(is_fraud, scores, fpr)) <= fpr
    stored = len(msgspec.json.encode(maps))
    print(f"\n{genuine.size:,} genuine rows: {len(maps.steps)} steps, {stored:,} bytes of JSON")
    assert len(maps.steps) < 2_700
    assert stored < 100_000


@given(judged)
def test_a_calibration_survives_json_to_the_last_bit(rows):
    maps = calibrate(*arrays(rows), ANY)
    assert msgspec.json.decode(msgspec.json.encode(maps), type=Calibration) == maps


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, -1e-9, np.nextafter(1.0, 2.0)])
def test_what_is_no_score_has_no_meaning(score):
    asking = [
        fitted().probability,
        fitted().expected_fpr,
        lambda score: fitted().probabilities(np.array([0.5, score])),
        lambda score: calibrate(np.array([True, False]), np.array([0.5, score]), ANY),
    ]
    for ask in asking:
        with pytest.raises(DataContractError, match=r"expected a .*in \[0, 1\]"):
            ask(score)


def test_without_a_genuine_row_nothing_can_be_said():
    with pytest.raises(LabelsNotMatureError, match="No genuine transaction among 2"):
        calibrate(np.array([True, True]), np.array([0.1, 0.2]), ANY)
    with pytest.raises(LabelsNotMatureError, match="No genuine transaction among 0"):
        calibrate(np.array([], dtype=bool), np.array([]), ANY)


def test_labels_for_other_rows_are_refused():
    with pytest.raises(DataContractError, match="3 labels for 2 scores"):
        calibrate(np.array([True, False, False]), np.array([0.1, 0.2]), ANY)


def test_a_policy_needs_at_least_one_fraud():
    with pytest.raises(ValueError, match="min_frauds=0"):
        CalibrationPolicy(min_frauds=0)


SOUND = {
    "frauds": 60,
    "genuine": 90,
    "knots": (0.0, 0.5, 1.0),
    "chances": (0.1, 0.1, 0.9),
    "steps": (0.2, 0.4),
    "reached": (90, 3),
}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"frauds": -1}, "-1 frauds"),
        ({"genuine": 0}, "0 genuine"),
        ({"genuine": 91}, "do not fall from 91"),
        ({"chances": (0.1, 0.9)}, "different lengths"),
        ({"knots": ()}, "different lengths"),
        ({"steps": (0.2,)}, "different lengths"),
        ({"knots": (0.1, 0.5, 1.0)}, "from 0 to 1"),
        ({"knots": (0.0, 0.5, 0.9)}, "from 0 to 1"),
        ({"knots": (0.0, 0.0, 1.0)}, "do not ascend"),
        ({"knots": (0.0, math.nan, 1.0)}, "do not ascend"),
        ({"steps": (0.4, 0.2)}, "do not ascend"),
        ({"steps": (0.2, 1.1)}, "do not ascend"),
        ({"steps": (math.nan, 0.2)}, "do not ascend"),
        ({"chances": (0.1, 0.9, 0.2)}, "fall"),
        ({"chances": (0.1, math.nan, 0.9)}, "fall"),
        ({"chances": (0.1, 0.2, 1.2)}, "leave"),
        ({"chances": (0.0, 0.1, 0.9)}, "of 0 or 1"),
        ({"chances": (0.1, 0.1, 1.0)}, "of 0 or 1"),
        ({"reached": (90, 90)}, "do not fall"),
        ({"reached": (90, 0)}, "do not fall"),
        ({"steps": (), "reached": ()}, "do not fall"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(changes, complaint):
    Calibration(**SOUND)
    with pytest.raises(DataContractError, match=complaint):
        Calibration(**SOUND | changes)


def reliability(is_fraud: np.ndarray, stated: np.ndarray) -> tuple[float, list[tuple[int, ...]]]:
    """Mean distance between stated and found share over 10 bins of equally many rows each."""
    bins = np.array_split(np.argsort(stated, kind="stable"), 10)
    gaps = [abs(stated[rows].mean() - is_fraud[rows].mean()) * rows.size for rows in bins]
    counts = [(rows.size, round(stated[rows].sum()), int(is_fraud[rows].sum())) for rows in bins]
    return sum(gaps) / stated.size, counts


def test_on_a_later_slice_the_probability_is_what_happens():
    is_fraud, scores, chance = simulated(2, 60_000)
    found = fitted().probabilities(scores)
    raw_error, _ = reliability(is_fraud, scores)
    least_error, _ = reliability(is_fraud, chance)  # chance alone leaves this much
    error, counts = reliability(is_fraud, found)
    brier = {
        name: float(np.mean((stated - is_fraud) ** 2))
        for name, stated in (("raw score", scores), ("calibrated", found), ("true chance", chance))
    }
    print(f"\nfitted on {fitted().frauds} frauds, judged on {is_fraud.sum()} of {is_fraud.size:,}")
    errors = f"raw score {raw_error:.5f}, calibrated {error:.5f}, true chance {least_error:.5f}"
    print(f"expected calibration error: {errors}")
    print(f"Brier: {', '.join(f'{name} {value:.6f}' for name, value in brier.items())}")
    print(f"bins of rows, frauds stated, frauds found: {counts}")
    assert raw_error > is_fraud.mean()  # the raw score needs it
    assert error < 2 * least_error
    assert brier["calibrated"] < brier["raw score"]
    assert brier["calibrated"] < 1.02 * brier["true chance"]
    expected = fitted().expected_fpr(0.3)
    assert expected == pytest.approx(np.mean(scores[~is_fraud] >= 0.3), rel=0.15)


def test_one_score_costs_microseconds():
    scores = simulated(2, 5_000)[1].tolist()
    maps = fitted()
    fastest = math.inf
    for _ in range(5):  # the quietest of five: the machine may be busy
        start = time.perf_counter()
        for score in scores:
            maps.probability(score)
            maps.expected_fpr(score)
        fastest = min(fastest, time.perf_counter() - start)
    print(f"\nboth answers: {fastest / len(scores) * 1e6:.2f} us")
    assert fastest / len(scores) < 20e-6


@pytest.mark.parametrize("rows", [300, 9_000])
@pytest.mark.parametrize("fpr", [0.02, 0.002])
def test_the_expected_fpr_at_a_weighted_threshold_is_the_share_that_set_it(rows, fpr):
    random = np.random.default_rng(5)
    scores, is_fraud = random.random(rows), random.random(rows) < 0.1
    weights = np.where(scores > 0.9, 20.0, 1.0) / 3.0
    maps = calibrate(is_fraud, scores, CalibrationPolicy(), weights)
    cut = threshold_at_fpr(is_fraud, scores, fpr, weights)
    disturbed = weights[~is_fraud & (scores >= cut)].sum() / weights[~is_fraud].sum()
    assert maps.expected_fpr(cut) == pytest.approx(disturbed, rel=1e-12)
    assert maps.expected_fpr(0.0) == 1.0


def test_equal_weights_are_no_weights():
    random = np.random.default_rng(6)
    scores, is_fraud = random.random(9_000), random.random(9_000) < 0.1
    plain = calibrate(is_fraud, scores, CalibrationPolicy())
    weighed = calibrate(is_fraud, scores, CalibrationPolicy(), np.full(9_000, 2.0))
    assert weighed.steps == plain.steps
    assert weighed.reached == pytest.approx(plain.reached)
    assert weighed.chances == plain.chances
