"""certify_counts against plain loops over pixels, against its own guarantee under the null, and its input checks."""

from __future__ import annotations

import math
import random
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm

from onelip.core.errors import InputError
from onelip.smoothing import FeasibilityWarning, certify_counts, smallest_n

pytestmark = pytest.mark.filterwarnings("ignore::onelip.smoothing.FeasibilityWarning")


def thresholds(correction, s, alpha, k):
    """The definitions, written out rank by rank."""
    if correction == "bonferroni":
        return [alpha / s] * s
    if correction == "holm":
        return [alpha / (s - i + 1) for i in range(1, s + 1)]
    return [k * alpha / s if i <= k else k * alpha / (s + k - i) for i in range(1, s + 1)]


def plain(counts, n, tau, alpha, correction, k):
    """One binomial test for each pixel, then a sorted step-down."""
    p = [binomtest(int(c), n, tau, alternative="greater").pvalue for c in counts]
    order = sorted(range(len(p)), key=p.__getitem__)
    out = [False] * len(p)
    for index, threshold in zip(order, thresholds(correction, len(p), alpha, k), strict=True):
        if p[index] > threshold:
            break
        out[index] = True
    return out


def configurations(number, seed):
    draw = random.Random(seed)
    for _ in range(number):
        n, s = draw.randint(1, 120), draw.randint(1, 30)
        tau, alpha = draw.uniform(0.5, 0.95), 10 ** draw.uniform(-3, -0.3)
        correction = draw.choice(["holm", "bonferroni", "kfwer"])
        k = draw.randint(1, s) if correction == "kfwer" else 1
        # nulls, clear cases and everything between, so that step-downs end in the middle
        shares = [min(1.0, tau + draw.uniform(-0.1, 0.6)) for _ in range(s)]
        counts = [sum(draw.random() < q for _ in range(n)) for q in shares]
        yield counts, n, tau, alpha, correction, k


def test_equals_the_loop_over_pixels_on_hundreds_of_configurations():
    partly = {"holm": 0, "bonferroni": 0, "kfwer": 0}
    for counts, n, tau, alpha, correction, k in configurations(400, seed=0):
        expected = plain(counts, n, tau, alpha, correction, k)
        found = certify_counts(np.array(counts), n, tau, alpha, correction, k)
        assert found.dtype == bool
        assert found.tolist() == expected, (counts, n, tau, alpha, correction, k)
        partly[correction] += 0 < sum(expected) < len(expected)
    assert min(partly.values()) > 20  # the comparison is about steps that end in the middle


def test_steps_matter():
    # two p-values of 1/32 and one of 1/2 at alpha = 1/10: Bonferroni needs 1/30, Holm then 1/20 and 1/10
    counts = np.array([5, 5, 4])
    assert certify_counts(counts, 5, 0.5, 0.1, "bonferroni").tolist() == [True, True, False]
    assert certify_counts(np.array([5, 5, 5, 4]), 5, 0.5, 0.1, "bonferroni").tolist() == [False] * 4
    # 4 of 5: p = 6/32, rejected by Holm as the last of three at alpha = 0.2, never by Bonferroni
    assert certify_counts(counts, 5, 0.5, 0.2, "holm").tolist() == [True, True, True]
    assert certify_counts(counts, 5, 0.5, 0.2, "bonferroni").tolist() == [True, True, False]


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=40),
    tau=st.floats(0.5, 0.95),
    alpha=st.floats(1e-4, 0.5),
    k=st.integers(1, 50),
)
@settings(max_examples=150, deadline=None)
def test_more_agreements_and_more_level_never_certify_less(counts, tau, alpha, k):
    array = np.array(counts)
    for correction in ("holm", "bonferroni", "kfwer"):
        certified = certify_counts(array, 40, tau, alpha, correction, k)
        if certified.any() and not certified.all():
            assert array[certified].min() > array[~certified].max()
        assert (certified <= certify_counts(array, 40, tau, min(0.9, 1.5 * alpha), correction, k)).all()
        # no pixel is certified whose own p-value is above alpha, however large k is
        assert (binom.sf(array[certified] - 1, 40, tau) <= alpha).all()
    bonferroni, holm = (certify_counts(array, 40, tau, alpha, c) for c in ("bonferroni", "holm"))
    assert (bonferroni <= holm).all()
    assert (holm == certify_counts(array, 40, tau, alpha, "kfwer", 1)).all()


def test_a_pixel_that_never_agrees_is_not_certified_by_a_large_k():
    counts = np.array([100] * 19 + [0])
    assert certify_counts(counts, 100, 0.75, 0.3, "kfwer", 5).tolist() == [True] * 19 + [False]
    assert certify_counts(counts, 100, 0.75, 0.3, "kfwer", 500).tolist() == [True] * 19 + [False]


def coupled(kind, draws, rng):
    """p-values of two true nulls and a signal, (draws, 3): exact uniforms, with the dependence that hurts."""
    u = rng.random(draws)
    if kind == "independent":
        other = rng.random(draws)
    elif kind == "equal":
        other = u
    else:  # blocks [0, .1] and [.1, .2] swapped: when one is the smallest, the other is in the next block
        other = np.where(u < 0.1, u + 0.1, np.where(u < 0.2, u - 0.1, u))
    return np.stack([np.zeros(draws), u, other], 1)


def rate_of_two_errors(p, rule):
    s, k, alpha = 3, 2, 0.1
    steps = np.array(rule(s, k, alpha))
    ordered = np.sort(p, 1)
    rejected = np.cumprod(ordered <= steps, 1).astype(bool)
    return (rejected[:, 1:].sum(1) >= 2).mean()


def test_kfwer_holds_where_the_usual_wrong_thresholds_do_not():
    """Exact p-values first: the simulation must be able to tell a wrong rule from the right one."""
    p = coupled("swapped", 20_000, np.random.default_rng(0))
    wrong = rate_of_two_errors(p, lambda s, k, a: [k * a / (s - i + 1) for i in range(1, s + 1)])
    right = rate_of_two_errors(p, lambda s, k, a: thresholds("kfwer", s, a, k))
    assert wrong > 0.12
    assert right <= 0.1


@pytest.mark.parametrize("kind", ["independent", "equal", "swapped"])
def test_kfwer_with_k_above_one_under_dependent_nulls(kind):
    draws, n, tau, alpha, k = 2000, 1500, 0.5, 0.1, 2
    p = coupled(kind, draws, np.random.default_rng(1))
    counts = binom.isf(p.clip(1e-300), n, tau).astype(np.int64)  # counts with these upper tails
    certified = np.stack([certify_counts(row, n, tau, alpha, "kfwer", k) for row in counts])
    errors = certified[:, 1:].sum(1)
    assert certified[:, 0].all()
    assert (errors >= k).mean() <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / draws)
    assert (errors >= 1).any()


@pytest.mark.parametrize("correction", ["holm", "bonferroni", "kfwer"])
@pytest.mark.parametrize("dependence", [0.0, 0.9])
def test_error_under_the_null(correction, dependence):
    draws, s, n, tau, alpha, k = 2000, 12, 60, 0.7, 0.1, 3
    rng = np.random.default_rng(2)
    shared, own = rng.standard_normal((draws, 1)), rng.standard_normal((draws, s))
    u = norm.cdf(math.sqrt(dependence) * shared + math.sqrt(1 - dependence) * own)
    counts = binom.ppf(u, n, tau).astype(np.int64)
    errors = np.array([certify_counts(row, n, tau, alpha, correction, k).sum() for row in counts])
    limit = k if correction == "kfwer" else 1
    assert (errors >= limit).mean() <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / draws)
    assert (errors >= 1).any()


def test_golden_smallest_n():
    table = {  # the megapixel of the published comparison: eps -> sigma -> n
        0.1: {0.15: 72, 0.2: 57, 0.25: 50, 0.3: 46, 0.4: 41, 0.5: 39},
        0.17: {0.15: 151, 0.2: 95, 0.25: 73, 0.3: 62, 0.4: 51, 0.5: 46},
    }
    for eps, row in table.items():
        for sigma, n in row.items():
            assert smallest_n(1024**2, float(norm.cdf(eps / sigma)), 1e-3) == n


@given(
    pixels=st.integers(1, 10**7),
    tau=st.floats(0.5, 0.999),
    alpha=st.floats(1e-6, 0.9),
    correction=st.sampled_from(["holm", "bonferroni", "kfwer"]),
    k=st.integers(1, 20),
)
@settings(max_examples=100, deadline=None)
def test_smallest_n_is_the_smallest(pixels, tau, alpha, correction, k):
    n = smallest_n(pixels, tau, alpha, correction, k)
    first = thresholds(correction, pixels, alpha, min(k, pixels))[0] if pixels < 1000 else None
    first = (min(k, pixels) if correction == "kfwer" else 1) * alpha / pixels if first is None else first
    assert tau**n <= first * (1 + 1e-9)
    assert n == 1 or tau ** (n - 1) >= first * (1 - 1e-9)


def test_smallest_n_of_an_extreme_tau_ends():
    tau = 1 - 2.0**-50
    assert smallest_n(10**6, tau, 1e-3) == pytest.approx(math.log(1e9) * 2.0**50, rel=1e-9)


def test_the_warning_says_the_n_that_works():
    counts = np.full(1000, 20)
    with pytest.warns(FeasibilityWarning, match="n >= 49"):
        assert not certify_counts(counts, 20, 0.75, 1e-3).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert certify_counts(np.full(1000, 49), 49, 0.75, 1e-3).all()
        certify_counts(np.full(1000, 0), 49, 0.75, 1e-3)


def test_shapes_and_kinds():
    counts = np.random.default_rng(0).integers(0, 51, (4, 5)).astype(np.uint8)
    expected = certify_counts(counts.astype(np.int64), 50, 0.5, 0.1)
    assert expected.shape == (4, 5)
    assert 0 < expected.sum() < 20
    assert (certify_counts(counts, 50, 0.5, 0.1) == expected).all()
    assert (certify_counts(counts.tolist(), 50, 0.5, 0.1) == expected).all()
    tensor = certify_counts(torch.from_numpy(counts.astype(np.int32)), 50, 0.5, 0.1)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.bool
    assert tensor.tolist() == expected.tolist()
    assert certify_counts(np.zeros((0, 3), int), 5, 0.5, 0.1).shape == (0, 3)


GOOD = {"agreements": np.array([3, 5]), "n": 5, "tau": 0.6, "alpha": 0.1}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"agreements": np.array([3.0])}, "`agreements` holds no counts"),
        ({"agreements": torch.tensor([math.nan])}, "`agreements` holds no counts"),
        ({"agreements": np.array([True])}, "`agreements` holds no counts"),
        ({"agreements": np.array([6])}, r"values from 6 to 6; expected 0\.\.n=5"),
        ({"agreements": np.array([-1])}, "`agreements` has counts out of range"),
        ({"n": 0}, "`n`"),
        ({"n": 2.0}, "`n`"),
        ({"tau": 0.49}, "`tau`"),
        ({"tau": 1.0}, "`tau`.*1"),
        ({"tau": math.nan}, "`tau`"),
        ({"alpha": 0.0}, "`alpha`"),
        ({"alpha": 1.0}, "`alpha`"),
        ({"alpha": math.inf}, "`alpha`"),
        ({"correction": "hochberg"}, "`correction` is unknown.*holm"),
        ({"k": 0}, "`k`"),
        ({"k": 1.5}, "`k`"),
    ],
)
def test_bad_input(change, match):
    with pytest.raises(InputError, match=match):
        certify_counts(**{**GOOD, **change})
    if "agreements" not in change and "n" not in change:
        with pytest.raises(InputError, match=match):
            smallest_n(10, **{k: v for k, v in {**GOOD, **change}.items() if k not in ("agreements", "n")})


def test_smallest_n_needs_pixels():
    with pytest.raises(InputError, match="`pixels`"):
        smallest_n(0, 0.6, 0.1)
