"""Thresholds and p-values: exact enumeration, simulated attackers, closed forms, refusals."""

import itertools
import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from onelip.core.errors import DataError, InputError, NonFiniteError
from onelip.oneclass import (
    Threshold,
    benjamini_hochberg,
    calibrate,
    conformal_rank,
    conformal_threshold,
    false_alarm_bound,
    robust_pvalues,
    smallest_calibration,
)


@pytest.mark.parametrize(
    ("n", "alpha", "confidence", "rank"),
    [
        (1000, 0.1, None, 100),
        (1000, 0.1, 0.95, 85),
        (100, 0.05, None, 5),
        (100, 0.05, 0.95, 2),
        (99, 0.29, None, 29),  # 0.29 * 100 is 28.999... in floats
        (8, 0.1, None, 0),
        (9, 0.1, None, 1),
    ],
)
def test_ranks_of_the_reference(n, alpha, confidence, rank):
    assert conformal_rank(n, alpha, confidence) == rank


@given(n=st.integers(1, 400), alpha=st.floats(0.001, 0.999), confidence=st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_the_pac_rank_is_the_largest_that_the_binomial_law_allows(n, alpha, confidence):
    # P(Beta(k, n + 1 - k) <= alpha) = P(at least k of n uniforms are below alpha)
    holds = [k for k in range(1, n + 1) if stats.binom.sf(k - 1, n, alpha) >= confidence]
    close = any(abs(stats.binom.sf(k - 1, n, alpha) - confidence) < 1e-9 for k in range(1, n + 1))
    assert conformal_rank(n, alpha, confidence) == max(holds, default=0) or close


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05, 0.1, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize("confidence", [None, 0.5, 0.95, 0.999])
def test_the_smallest_calibration_set_is_the_smallest(alpha, confidence):
    n = smallest_calibration(alpha, confidence)
    assert conformal_rank(n, alpha, confidence) == 1 or (n == 1 and conformal_rank(n, alpha, confidence) >= 1)
    assert n == 1 or conformal_rank(n - 1, alpha, confidence) == 0
    conformal_threshold(np.arange(n), alpha, confidence=confidence)
    if n > 1:
        with pytest.raises(
            DataError, match=f"received {n - 1} for alpha.*at least {n};.*hold out {n} normal"
        ):
            conformal_threshold(np.arange(n - 1), alpha, confidence=confidence)


@pytest.mark.parametrize("values", [2, 3, 5])
@pytest.mark.parametrize("n", [1, 3, 4])
def test_every_exchangeable_law_keeps_the_promise(n, values):
    """All multisets of n + 1 values, ties included, each in every order: the extreme points of exchangeable laws."""
    reach = 0.25
    for bag in itertools.combinations_with_replacement(range(values), n + 1):
        alarms = dict.fromkeys((0.25, 0.4, 0.5, 0.8), 0)
        smaller = {Fraction(k, n + 1): 0 for k in range(1, n + 2)}
        for last in range(n + 1):
            calibration, normal = [v for i, v in enumerate(bag) if i != last], float(bag[last])
            attacked = normal - reach
            (p,) = robust_pvalues(calibration, [attacked], eps=reach, slack=0.0)
            (clean,) = robust_pvalues(calibration, [normal])
            assert p >= clean
            for level in smaller:
                smaller[level] += p <= float(level) + 1e-12
            for alpha in alarms:
                if conformal_rank(n, alpha):
                    found = conformal_threshold(calibration, alpha, eps=reach, slack=0.0)
                    alarms[alpha] += found.flag([attacked])[0]
        assert all(count <= level * (n + 1) for level, count in smaller.items())
        assert all(count <= alpha * (n + 1) for alpha, count in alarms.items())


def test_without_ties_the_promise_is_tight():
    n, alpha = 9, 0.3
    hits = 0
    for last in range(n + 1):
        calibration = [v for v in range(n + 1) if v != last]
        hits += conformal_threshold(calibration, alpha).flag([last])[0]
    assert hits == 3


@given(
    calibration=st.lists(st.integers(-30, 30).map(lambda k: k / 4), min_size=1, max_size=30),
    score=st.integers(-40, 40).map(lambda k: k / 4),
    eps=st.integers(0, 8).map(lambda k: k / 4),
    alpha=st.floats(0.05, 0.95),
)
@settings(max_examples=150, deadline=None)
def test_a_flag_is_a_small_p_value(calibration, score, eps, alpha):
    rank = conformal_rank(len(calibration), alpha)
    if rank:
        found = conformal_threshold(calibration, alpha, eps=eps, lipschitz=2.0)
        (p,) = robust_pvalues(calibration, [score], eps=eps, lipschitz=2.0)
        count = sum(s - 2 * eps <= score for s in calibration)
        assert p == pytest.approx((1 + count) / (len(calibration) + 1))
        assert found.flag([score])[0] == (round(p * (len(calibration) + 1)) <= rank)
        assert found.value <= sorted(calibration)[rank - 1] - 2 * eps
        assert found.value == pytest.approx(sorted(calibration)[rank - 1] - 2 * eps, abs=1e-7)


def test_false_alarms_under_attack_within_sampling_error():
    rng = np.random.default_rng(0)
    alpha, eps, lipschitz, n, runs = 0.1, 0.3, 1.5, 199, 400
    rates, naive = [], []
    for _ in range(runs):
        calibration, fresh = rng.normal(size=n), rng.normal(size=500)
        attacked = fresh - eps * lipschitz
        found = conformal_threshold(calibration, alpha, eps=eps, lipschitz=lipschitz)
        rates.append(found.flag(attacked).mean())
        naive.append(conformal_threshold(calibration, alpha).flag(attacked).mean())
    assert abs(np.mean(rates) - alpha) < 3 * np.std(rates) / math.sqrt(runs)  # the attack is the worst one
    assert np.mean(naive) > 1.5 * alpha  # without the shift the promise breaks: the test can fail


def test_the_pac_threshold_fails_as_seldom_as_promised():
    rng = np.random.default_rng(1)
    alpha, confidence, n, runs = 0.1, 0.9, 300, 3000
    failures = {None: 0, confidence: 0}
    for _ in range(runs):
        calibration = rng.uniform(size=n)
        for sure in failures:
            # the rate of alarms of a uniform score under the worst attack, known exactly
            found = conformal_threshold(calibration, alpha, eps=0.2, confidence=sure)
            failures[sure] += found.value + 0.2 > alpha
    assert failures[confidence] / runs < 0.1 + 3 * math.sqrt(0.09 / runs)
    assert failures[confidence] / runs > 0.05  # not idle
    assert failures[None] / runs > 0.3  # on average alone


def test_p_values_stay_superuniform_under_attack():
    rng = np.random.default_rng(2)
    n, eps = 50, 0.5
    found = np.concatenate(
        [
            robust_pvalues(rng.normal(size=n), rng.normal(size=100) - eps * rng.choice([0, 1], 100), eps=eps)
            for _ in range(400)
        ]
    )
    worst = np.concatenate(
        [robust_pvalues(rng.normal(size=n), rng.normal(size=100) - eps) for _ in range(400)]
    )
    for level in (0.02, 0.05, 0.1, 0.3, 0.7):
        assert (found <= level).mean() <= level + 0.01
    assert (worst <= 0.1).mean() > 0.15  # plain p-values break


def test_rounding_of_the_shift_favours_the_attacker():
    # 0.3 - 0.1 * 1 and 0.2 differ by one bit: an attacked score computed as 0.3 - 0.1 must not become an alarm
    scores = [0.3] * 9
    assert not conformal_threshold(scores, 0.1, eps=0.1, slack=0.0).flag([0.3 - 0.1])[0]
    assert robust_pvalues(scores, [0.3 - 0.1], eps=0.1, slack=0.0)[0] == 1.0
    exact = conformal_threshold(scores, 0.1)
    assert exact.value == 0.3
    assert not exact.flag([0.3])[0]
    # a coarser scorer is covered by a larger slack
    assert conformal_threshold(scores, 0.1, eps=0.1, slack=1e-3).value == pytest.approx(0.1987, abs=1e-6)


def test_bound_of_false_alarms_is_clopper_pearson():
    scores = np.arange(200.0)
    for cut, count in ((0.0, 0), (3.5, 4), (150.0, 150)):
        found = false_alarm_bound(scores, cut, confidence=0.9)
        assert found == pytest.approx(stats.binomtest(count, 200).proportion_ci(0.8, method="exact").high)
    assert false_alarm_bound(scores, 3.0, eps=0.5, lipschitz=2.0, confidence=0.9) == pytest.approx(
        false_alarm_bound(scores, 4.5, confidence=0.9)  # 0..4 can get to 3 or below: the tie counts
    )
    assert false_alarm_bound(scores, 1e6) == 1.0


class Toy:
    """Distance to the origin in standardised units."""

    def __init__(self):
        self.lipschitz_, self.offset_, self.scale_ = 1.0, -100.0, np.array([2.0, 4.0])

    def score_samples(self, X):
        return -np.linalg.norm(np.asarray(X) / self.scale_, axis=1)

    def predict(self, X):
        return np.where(self.score_samples(X) - self.offset_ >= 0, 1, -1)


@pytest.mark.parametrize("units", ["standardized", "raw"])
@pytest.mark.parametrize("confidence", [None, 0.95])
def test_a_calibrated_detector_holds_its_rate_on_moved_points(units, confidence):
    rng = np.random.default_rng(3)
    toy, eps, alpha = Toy(), 0.4, 0.1
    calibration, fresh = (rng.normal(size=(n, 2)) * toy.scale_ for n in (500, 20_000))
    found = calibrate(toy, calibration, alpha, eps, confidence, units=units)
    assert toy.offset_ == -100.0
    assert found.offset_ == found.threshold_.value
    assert found.threshold_.eps == pytest.approx(eps if units == "standardized" else 0.2)
    step = fresh / toy.scale_
    step *= eps / np.linalg.norm(step, axis=1, keepdims=True)
    step = step * toy.scale_ if units == "standardized" else step
    rate = (found.predict(fresh + step) == -1).mean()
    rank = found.threshold_.rank
    spread = math.sqrt(rank * (501 - rank) / 501**2 / 502)
    assert rate <= rank / 501 + 4 * spread
    assert rate > 0.02
    plain = calibrate(toy, calibration, alpha, confidence=confidence)
    assert (plain.predict(fresh + step) == -1).mean() > rate


def test_what_is_no_detector_is_refused():
    with pytest.raises(InputError, match=r"without lipschitz_, offset_.*fit"):
        calibrate(SimpleNamespace(score_samples=len), np.zeros((9, 1)), 0.1)
    with pytest.raises(InputError, match="standardized"):
        calibrate(Toy(), np.zeros((9, 2)), 0.1, units="inches")
    with pytest.raises(DataError, match="at least 9"):
        calibrate(Toy(), np.zeros((8, 2)), 0.1)


def test_benjamini_hochberg_against_scipy():
    rng = np.random.default_rng(4)
    for size in (1, 2, 7, 40):
        p = np.r_[rng.uniform(size=size), rng.uniform(size=size) ** 4]
        p[0] = p[-1]
        for q in (0.01, 0.1, 0.5):
            for dependence, method in (("positive", "bh"), ("any", "by")):
                expected = stats.false_discovery_control(p, method=method) <= q
                assert (benjamini_hochberg(p, q, dependence=dependence) == expected).all()
    assert not benjamini_hochberg([1.0, 1.0], 0.1).any()
    assert benjamini_hochberg([0.0, 0.0], 0.1).all()


def test_false_discoveries_under_an_attacker_who_sees_everything():
    """He moves the normals down and hides the anomalies whenever a normal would be flagged."""
    rng = np.random.default_rng(5)
    q, eps, shares = 0.2, 0.3, []
    for _ in range(400):
        calibration = rng.normal(size=200)
        normal, anomaly = rng.normal(size=20) - eps, np.full(20, -6.0)
        p = robust_pvalues(calibration, np.r_[normal, anomaly], eps=eps)
        if p[:20].min() < 0.02:
            p[20:] = 1.0
        flagged = benjamini_hochberg(p, q, dependence="any")
        shares.append(flagged[:20].sum() / max(flagged.sum(), 1))
    assert np.mean(shares) <= q


BAD = [
    ({"calibration_scores": [1.0, math.nan]}, NonFiniteError, "calibration_scores"),
    ({"calibration_scores": []}, InputError, "calibration_scores.*empty"),
    ({"calibration_scores": [[1.0]]}, InputError, "wrong shape"),
    ({"alpha": 0.0}, InputError, "alpha"),
    ({"alpha": 1.0}, InputError, "alpha"),
    ({"alpha": -0.1}, InputError, "alpha"),
    ({"alpha": math.nan}, InputError, "alpha"),
    ({"alpha": "few"}, InputError, "alpha.*not a number"),
    ({"eps": -1.0}, InputError, "eps"),
    ({"eps": math.inf}, InputError, "eps"),
    ({"lipschitz": 0}, InputError, "lipschitz"),
    ({"confidence": 1.0}, InputError, "confidence"),
    ({"slack": 1.0}, InputError, "slack"),
]


@pytest.mark.parametrize(("change", "error", "text"), BAD)
def test_bad_input_of_thresholds(change, error, text):
    call = {"calibration_scores": np.arange(99.0), "alpha": 0.1, **change}
    with pytest.raises(error, match=text):
        conformal_threshold(**call)


def test_bad_input_of_the_others():
    for function, call in (
        (conformal_rank, (0, 0.1)),
        (smallest_calibration, (0.0,)),
        (smallest_calibration, (0.1, 1.0)),
        (false_alarm_bound, ([1.0], math.nan)),
        (robust_pvalues, ([1.0], [])),
        (benjamini_hochberg, ([0.1, 1.1], 0.1)),
        (benjamini_hochberg, ([0.1, math.nan], 0.1)),
        (benjamini_hochberg, ([0.1], 0.0)),
    ):
        with pytest.raises(InputError):
            function(*call)
    with pytest.raises(InputError, match="'positive' or 'any'"):
        benjamini_hochberg([0.1], 0.1, dependence="no")


def test_thresholds_speak_for_themselves():
    found = conformal_threshold(np.arange(99.0), 0.1, eps=0.25, confidence=0.9)
    assert isinstance(found, Threshold)
    text = str(found)
    for part in ("false alarms <= 0.1", "norm <= 0.25", "confidence 0.9", f"rank {found.rank} of 99"):
        assert part in text
    assert Threshold(**found.to_dict()) == found
