# ruff: noqa: E501
"""What tensors share: accounts of pieces, sums and joins against explicit matrices."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from account_oracles import (
    add,
    budget_program,
    cat,
    check,
    cut,
    fork,
    linear,
    node,
    orthogonal,
    random_program,
    scale,
    start,
    truth,
)  # fmt: skip
from bound_oracles import NORMS
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.bounds import sums
from onelip.bounds import value as values
from onelip.bounds.value import Part, Value

SEEDS = st.integers(0, 10**9)
LEFT, RIGHT = (slice(None), slice(0, 2)), (slice(None), slice(2, None))
OVER = (slice(None), slice(1, None))


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS, p=st.sampled_from(NORMS))
def test_no_random_program_moves_further_than_its_accounts_say(seed, p):
    nodes = random_program(seed, p)
    for i, found in enumerate(nodes):
        check(found, f"seed {seed}, node {i}")
    draw = np.random.default_rng(seed)
    check(cat([nodes[int(i)] for i in draw.integers(0, len(nodes), 5)]), f"seed {seed}, outputs")


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS)
def test_programs_that_spend_each_tensor_once_keep_norm_one(seed):
    """However the weights of forks and blends stand: this is what a trained pyramid relies on."""
    outputs = cat(budget_program(seed, 14))
    check(outputs, f"seed {seed}")
    assert outputs.value.constant <= 1 + 1e-9


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_isometric_trees_are_bounded_exactly(seed):
    outputs = cat(budget_program(seed, 14, lossless=True))
    assert truth(outputs) == pytest.approx(1.0)
    assert outputs.value.constant == pytest.approx(1.0, rel=1e-9)


def base(p=2.0):
    return start(1, 4, p)


def nested(x):
    """A piece beside pieces of the map of the other piece."""
    left, right = cut(x, LEFT), linear(cut(x, RIGHT), orthogonal(np.random.default_rng(0), 2), (1, 2))
    return cat([scale(left, 2), scale(cut(right, (slice(None), slice(0, 1))), 3), cut(right, OVER)])


ADVERSARIAL = {
    # what is joined, and its bound for p = 1, 2, infinity
    "the same piece twice": (lambda x: cat([cut(x, LEFT), cut(x, LEFT)]), (2, math.sqrt(2), 1)),
    "overlapping pieces": (lambda x: cat([cut(x, LEFT), cut(x, OVER)]), (2, math.sqrt(2), 1)),
    "disjoint pieces": (lambda x: cat([scale(cut(x, LEFT), 2), scale(cut(x, RIGHT), 3)]), (3, 3, 3)),
    "whole and pieces": (lambda x: cat([x, scale(cut(x, LEFT), 2), cut(x, RIGHT)]), (3, math.sqrt(5), 2)),
    "whole and its flattened pieces": (lambda x: cat([cut(scale(x, 1), LEFT), cut(x, LEFT)]), (2, math.sqrt(2), 1)),
    "a chain of three, no two at one entry": (
        lambda x: cat([cut(x, LEFT), cut(x, (slice(None), slice(1, 3))), cut(x, RIGHT)]), (2, math.sqrt(2), 1),
    ),
    "copies of a piece": (lambda x: cat(fork(cut(x, LEFT), (0.6, 0.8))), (1.4, 1, 0.8)),
    "cut before and after a join": (
        lambda x: cat([cut(cat([cut(x, LEFT), cut(x, RIGHT)]), LEFT), cut(x, RIGHT)]), (2, math.sqrt(2), 1),
    ),
    "the sum of both halves": (lambda x: add([1, 1], [cut(x, LEFT), cut(x, RIGHT)]), (1, math.sqrt(2), 2)),
    "the sum of one half and itself": (lambda x: add([1, 1], [cut(x, LEFT), cut(x, LEFT)]), (2, 2, 2)),
    "a difference counts as a sum": (lambda x: add([1, -2], [cut(x, LEFT), cut(x, RIGHT)]), (2, math.sqrt(5), 3)),
    "a sum beside one of its branches": (
        lambda x: cat([add([0.6, 0.8], [cut(x, LEFT), cut(x, RIGHT)], joint=True), cut(x, LEFT)]), (1.6, math.sqrt(2), 1.4),
    ),
    "nothing": (lambda x: cat([scale(x, 0), scale(cut(x, LEFT), 0)]), (0, 0, 0)),
    "pieces of pieces": (nested, None),
}  # fmt: skip


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("p", NORMS)
def test_adversarial_cases(name, p):
    make, expected = ADVERSARIAL[name]
    result = make(base(p))
    check(result, name)
    if expected is not None:
        assert result.value.constant == pytest.approx(expected[NORMS.index(p)], rel=1e-12)


def test_pieces_of_pieces_meet_at_the_first_base():
    x = base()
    left, right = cut(x, LEFT), cut(x, RIGHT)
    inner = [cut(right, (slice(None), slice(i, i + 1))) for i in (0, 1)]
    assert cat([scale(left, 2), scale(inner[0], 3), scale(inner[1], 5)]).value.constant == pytest.approx(5)
    again = cat([cat([left, inner[0]]), inner[1]])  # joined step by step, like levels appended to a list
    assert again.value.constant == pytest.approx(1)


def test_pieces_of_different_bases_share_what_the_bases_share():
    x = base()
    first, second = scale(cut(x, LEFT), 2), scale(cut(x, RIGHT), 3)
    ends = [cut(n, (slice(None), slice(i, i + 1))) for n in (first, second) for i in (0, 1)]
    assert cat(ends).value.constant == pytest.approx(3)
    assert cat([ends[0], ends[0], ends[2]]).value.constant == pytest.approx(3)  # 2 sqrt(2) < 3
    assert cat([ends[0], ends[0], ends[0]]).value.constant == pytest.approx(2 * math.sqrt(3))


@given(weights=st.lists(st.floats(1e-3, 10), min_size=2, max_size=5), seed=SEEDS, p=st.sampled_from(NORMS))
@settings(max_examples=100, deadline=None)
def test_a_sum_costs_no_more_than_its_branches_and_no_more_than_hoelder(weights, seed, p):
    draw = np.random.default_rng(seed)
    pool = random_program(seed, p, 8)
    like = [n for n in pool if n.shape == pool[-1].shape]
    branches = [like[int(i)] for i in draw.integers(0, len(like), len(weights))]
    q = {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[p]
    together = values.join([n.value for n in branches]).constant
    triangle = sum(w * n.value.constant for w, n in zip(weights, branches, strict=True))
    found = add(weights, branches, joint=True)
    check(found, f"seed {seed}")
    limit = min(triangle, float(np.linalg.norm(weights, q)) * together)
    assert found.value.constant <= limit * (1 + 1e-12)


def test_the_heaviest_overlap_is_found():
    """Against all subsets: the weight of the heaviest set of pieces that overlap pairwise."""
    draw = np.random.default_rng(2)
    tensor = Value(1.0)
    for _ in range(200):
        parts = []
        for _ in range(int(draw.integers(1, 8))):
            a, b = sorted(draw.integers(0, 7, 2))
            rows = (
                frozenset(range(a, b + 1))
                if draw.random() < 0.7
                else frozenset(draw.integers(0, 7, 3).tolist())
            )
            held = (
                {1: rows} if draw.random() < 0.5 else {1: rows, 2: frozenset(draw.integers(0, 3, 1).tolist())}
            )
            parts.append(Part(tensor, held, float(draw.uniform(0.1, 3))))
        best = 0.0
        for mask in range(1, 2 ** len(parts)):
            chosen = [part for i, part in enumerate(parts) if mask >> i & 1]
            if all(not a.disjoint(b) for a in chosen for b in chosen):
                best = max(best, math.hypot(*(part.factor for part in chosen)))
        assert values.heaviest(parts, 2.0) == pytest.approx(best, rel=1e-12)


def test_many_pieces_fall_back_to_disjoint_groups():
    x = start(1, 90, 2.0)
    windows = [cut(x, (slice(None), slice(i, i + 3))) for i in range(88)]
    assert cat(windows).value.constant == pytest.approx(math.sqrt(3))
    pixels = [scale(cut(x, (slice(None), slice(i, i + 1))), 1 + i / 90) for i in range(90)]
    assert cat(pixels).value.constant == pytest.approx(1 + 89 / 90)


def test_accounts_stay_short_and_deep_programs_cheap():
    begun = time.process_time()
    x = start(8, 4, 2.0)
    for level in range(120):  # every level cuts, copies and joins what the last one joined
        top, low = cut(x, (slice(0, 4), slice(None))), cut(x, (slice(4, None), slice(None)))
        mixed = add([0.6, 0.8], [top, low], joint=True)
        x = node(cat([mixed, *fork(low, (0.6, 0.8))]).value, np.zeros((8, 4, 1)))
        assert all(len(x.value.parts(way)) <= values.LONGEST for way in (0, 1)), level
    assert time.process_time() - begun < 5
    assert x.value.constant >= 1


def test_long_accounts_are_settled_without_a_loss_at_hand():
    x = start(1, 160, 2.0)
    pieces = [
        cut(scale(cut(x, (slice(None), slice(i, i + 2))), 1.0), (slice(None), slice(0, 1)))
        for i in range(0, 160, 2)
    ]
    joined = cat(pieces)
    assert joined.value.constant == pytest.approx(1)
    assert max(len(joined.value.parts(way)) for way in (0, 1)) <= values.LONGEST


def test_extreme_constants_stay_bounds():
    for tiny in (1e-200, 1e-320, 1e200):
        for p in NORMS:
            x = base(p)
            parts = [scale(cut(x, LEFT), tiny), cut(x, RIGHT)]
            assert cat(parts).value.constant >= max(1.0, tiny)
            assert add([1, 1], parts).value.constant >= max(1.0, tiny)
            assert cat([add([1, 1], parts), parts[0]]).value.constant >= max(1.0, tiny)


def test_what_a_sum_cannot_tell_it_does_not_guess():
    """Branches of one tensor, cut out differently: no equal pieces, so the triangle inequality."""
    x = base()
    turned = linear(x, orthogonal(np.random.default_rng(1), 4), (1, 4))
    for joint in (False, True):
        result = add([1, 1], [x, turned], joint=joint)
        assert result.value.constant == pytest.approx(2)
    assert sums.add([(1, x.value), (1, turned.value)]).local == 2
