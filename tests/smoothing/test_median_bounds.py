"""Ranks against exact binomial sums and simulated coverage; slots against a plain loop with padding."""

from __future__ import annotations

from fractions import Fraction
from math import comb, inf

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from onelip.smoothing.median_bounds import STATISTICS, Ranks
from onelip.smoothing.median_slots import BINNINGS, SORTINGS, Layout, Samples


def tail(n, k, p):
    """P(Bin(n, p) >= k), exactly for the float p."""
    p = Fraction(p)
    return sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(max(k, 0), n + 1))


@pytest.mark.parametrize("n", [1, 5, 40])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("slot", [0, 1, 3])
def test_ranks_are_the_tightest_that_the_binomial_law_allows(n, ratio, slot):
    alpha, families = 0.2, 3
    risk = alpha / (families * STATISTICS) / (slot * (slot + 1) or 1)
    ranks = Ranks(n, [ratio * 0.25], 0.25, alpha, families)
    (upper,), (lower,) = ranks.upper(slot), ranks.lower(slot)
    high, low = norm.cdf(ratio), norm.cdf(-ratio)
    assert 1 <= upper <= n + 1
    assert tail(n, int(upper), high) <= risk  # that the sample is below the quantile
    assert tail(n, int(upper) - 1, high) > risk
    assert 1 - tail(n, int(lower), low) <= risk  # that fewer than `lower` samples are at or below it
    assert 1 - tail(n, int(lower) + 1, low) > risk


def test_nothing_is_bounded_where_the_share_is_one():
    ranks = Ranks(1000, [100.0], 0.25, 0.5, 1)
    assert ranks.upper(1) == 1001
    assert ranks.lower(1) == 0


def test_all_risks_together_are_alpha():
    ranks = Ranks(10, [0.1, 0.2], 0.25, 0.01, families=7)
    places = np.arange(1, 10**5)
    slots = ranks.slot_risk(1) * 2 / (places * (places + 1))
    assert [ranks.slot_risk(int(j)) for j in places[:9]] == pytest.approx(slots[:9].tolist())
    total = 7 * (ranks.slot_risk(0) + (STATISTICS - 1) * slots.sum())
    assert 0.9999 * 0.01 < total <= 0.01


def fill(samples, rows):
    """Give one list of rows (x1, y1, x2, y2, label, score) a copy."""
    for copy in rows:
        table = torch.as_tensor(copy, dtype=torch.float64).reshape(-1, 6)
        boxes, labels, scores = table[:, :4], table[:, 4].long(), table[:, 5]
        samples.add([{"boxes": boxes, "labels": labels, "scores": scores}], 1)


def test_simulated_coverage_is_what_the_ranks_promise_and_one_rank_further_is_not():
    # Sides are normal, so that the quantiles at x are known: they fail as often as the binomial law says. A rank
    # that is wrong by one fails at another rate.
    n, sigma, eps, trials = 20, 1.0, 0.4, 4000
    ranks = Ranks(n, [eps], sigma, 0.9, 1)
    samples, generator = Samples(Layout("label", "objectness", trials, (8, 8))), np.random.default_rng(0)
    rows = np.tile([0, 0, 9, 9, 0, 0.9], (trials, 1))
    rows[:, 4] = np.arange(trials)  # each label is a trial of its own
    for _ in range(n):
        rows[:, 0] = generator.normal(size=trials)
        fill(samples, [rows])
    slots = samples.slots(0.5, ranks)
    assert slots.upper.shape == (1, trials, 6)
    above, below = (slots.upper[0, :, 0] < eps).sum(), (slots.lower[0, :, 0] > -eps).sum()
    k, share = int(ranks.upper(1)[0]), norm.cdf(eps)
    rates = [binom.sf(rank - 1, n, share) for rank in (k - 1, k, k + 1)]
    assert rates[1] <= ranks.slot_risk(1) < rates[0]
    spread = 4 * np.sqrt(rates[1] / trials)
    assert min(rates[0] - rates[1], rates[1] - rates[2]) > spread  # the test can tell them apart
    assert float(above) / trials == pytest.approx(rates[1], abs=spread)
    assert float(below) / trials == pytest.approx(rates[1], abs=spread)


def reference(rows, layout, threshold, ranks, n):
    """Medians, bounds and counts by padding: {(bin, place): (median, lower, upper)}, {bin: upper counts}."""
    table, counts = {}, {}
    for index, copy in enumerate(rows):
        bins = {}
        for row in copy:
            if row[5] <= threshold:
                continue
            x, y = (row[0] + row[2]) / 2, (row[1] + row[3]) / 2
            cell = min(int(3 * y / 9), 2) * 3 + min(int(3 * x / 18), 2) if "location" in layout.binning else 0
            label = int(row[4]) if "label" in layout.binning else 0
            cells = 9 if "location" in layout.binning else 1
            bins.setdefault(label * cells + cell, []).append((x, y, row))
        for name, found in bins.items():
            key = (lambda f: -f[2][5]) if layout.sorting == "objectness" else (lambda f: f[:2])
            counts.setdefault(name, [0] * n)[index] = len(found)
            for place, (_, _, row) in enumerate(sorted(found, key=key), 1):
                table.setdefault((name, place), np.full((n, 6), inf))[index] = row

    def at(values, rank):
        return np.concatenate([np.full_like(values[:1], -inf), values, np.full_like(values[:1], inf)])[rank]

    bounds = {}
    for (name, place), padded in table.items():
        rising = np.sort(padded, axis=0)
        low, high = (at(rising, rank(place)) for rank in (ranks.lower, ranks.upper))
        bounds[name, place] = (rising[(n - 1) // 2], low, high)
    return bounds, {b: at(np.sort(np.array(c, dtype=float)), ranks.upper()) for b, c in counts.items()}


@pytest.mark.parametrize("binning", BINNINGS)
@pytest.mark.parametrize("sorting", SORTINGS)
@pytest.mark.parametrize("eps", [[0.0, 0.05], [0.1, 0.6]])
def test_slots_are_those_of_a_loop_over_padded_copies(binning, sorting, eps):
    n, generator = 60, np.random.default_rng(7)
    rows = []
    for _ in range(n):
        corner = generator.random((generator.integers(0, 6), 2)) * [18, 9]
        size = generator.random((len(corner), 2)) * 4
        rest = np.stack([generator.integers(0, 2, len(corner)), generator.random(len(corner))], 1)
        rows.append(np.concatenate([corner, corner + size, rest], 1))
    layout = Layout(binning, sorting, 2, (9, 18))
    samples, ranks = Samples(layout), Ranks(n, eps, 0.25, 0.9, 1)
    fill(samples, rows)
    for threshold in (0.3, 0.7):
        slots = samples.slots(threshold, ranks)
        bounds, counts = reference(rows, layout, threshold, ranks, n)
        empty = np.where(ranks.upper() > n, inf, 0.0)
        assert slots.counts.shape == (2, layout.bins)
        for b in range(layout.bins):
            assert slots.counts[:, b].tolist() == counts.get(b, empty).tolist()
        names = list(zip(slots.bins.tolist(), slots.places.tolist(), strict=True))
        for slot, name in enumerate(names):
            median, low, high = bounds[name]
            assert np.array_equal(slots.medians[slot], median)
            assert np.array_equal(slots.lower[:, slot], low)
            assert np.array_equal(slots.upper[:, slot], high)
        for name, (median, low, _) in bounds.items():
            if name not in names:  # what is left out is surely empty, at every radius
                assert name[1] > counts[name[0]].max()
                assert np.isinf(median).all()
                assert (low > -inf).all()
