"""Sums of branches: the triangle inequality, or Hoelder's over what the branches are together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from .value import Account, Part, Value, accounted, cost, merged, p_sum, scaled

Term = tuple[float, Value]


def add(values: Iterable[Term], because: str = "sum of branches", *, joint: bool = False) -> Value:
    r"""Combine a weighted sum: L is at most sum_i |w_i| L_i, and less where the branches share their budget.

    For any positive c_i, Hoelder's inequality bounds the movement of the sum by

        sum_i |w_i| ||v_i|| = sum_i (|w_i| / c_i) c_i ||v_i|| <= ||w / c||_q ||(c_1 v_1, ..., c_n v_n)||_p,

    1/p + 1/q = 1, so the accounts of the branches, counted c_i ||w / c||_q times, are an account of the sum. The first
    account of the result takes the c that gives the smallest constant now. The second keeps to one c whatever it
    gives, because what is smallest now need not be so where branches meet again: c = 1 with `joint`, when the
    weights are meant for the branches as they are (||w||_2 = 1 keeps the joint constant); else the one that gives all
    branches the same factor.
    """
    terms = [(abs(weight), value) for weight, value in values]
    p, local = terms[0][1].p, math.fsum(weight for weight, _ in terms)
    triangle = math.fsum(weight * value.constant for weight, value in terms)
    moving = [(weight, value) for weight, value in terms if weight * value.constant > 0]
    if _usable([number for weight, value in moving for number in (weight, value.constant)]):
        result = accounted(triangle, (_least(moving, p), _steady(moving, p, joint)), p)
    else:
        result = Value(triangle, p)
    return replace(result, because=because, local=local)


def _least(terms: Sequence[Term], p: float) -> Account:
    """Return the first account of a sum."""
    same = _one_piece(terms, 0)
    if same is not None:
        return same
    choices = [_hoelder(terms, scales, 0, p) for scales in _scales(terms, p) if _usable(scales)]
    return min(choices, key=lambda account: cost(account, 0, p))


def _steady(terms: Sequence[Term], p: float, joint: bool) -> Account:
    """Return the second account of a sum."""
    same = _one_piece(terms, 1)
    if same is not None:
        return same
    if p == 1:
        return _hoelder(terms, [weight for weight, _ in terms], 1, p)
    even = [1.0 / _factor(value, 1) for _, value in terms]
    return _hoelder(terms, [1.0 for _ in terms] if joint or not _usable(even) else even, 1, p)


def _one_piece(terms: Sequence[Term], way: int) -> Account | None:
    """Return the account of functions of one and the same piece, where the triangle inequality is the best."""
    accounts = [value.parts(way) for _, value in terms]
    parts: list[Part] = [part for account in accounts for part in account]
    if any(len(account) != 1 for account in accounts) or not all(part.same(parts[0]) for part in parts):
        return None
    factor = math.fsum(weight * part.factor for (weight, _), part in zip(terms, parts, strict=True))
    return (replace(parts[0], factor=factor),) if parts else ()


def _scales(terms: Sequence[Term], p: float) -> Iterator[list[float]]:
    own = 1.0 / p  # with the first of them the sum costs at most sum_i |w_i| L_i, whatever the branches share
    yield [weight**own * value.constant ** (own - 1.0) for weight, value in terms]
    if p > 1:  # for p = 1 the weights, which it is then, give each factor its smallest value
        yield [1.0 for _ in terms]
        yield [1.0 / value.constant for _, value in terms]
        yield [1.0 / _factor(value, 0) for _, value in terms]


def _factor(value: Value, way: int) -> float:
    return max((part.factor for part in value.parts(way)), default=value.constant)


def _usable(numbers: Sequence[float]) -> bool:
    """Return whether the numbers are far from where products and powers of them over- or underflow."""
    return all(1e-100 < number < 1e100 for number in numbers)


def _hoelder(terms: Sequence[Term], scales: Sequence[float], way: int, p: float) -> Account:
    q = math.inf if p == 1 else 1.0 if math.isinf(p) else p / (p - 1.0)
    norm = p_sum([weight / scale for (weight, _), scale in zip(terms, scales, strict=True)], q)
    counted = zip(terms, scales, strict=True)
    return merged([part for (_, v), c in counted for part in scaled(v.parts(way), c * norm)], p)
