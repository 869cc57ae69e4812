"""The abstract value of the bound engine: how far a tensor can move when the input moves by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..core.errors import BoundError, explain


@dataclass(frozen=True)
class Part:
    """Where a tensor comes from when it is a function of one piece of another tensor.

    `base` is the tensor that was cut, `cells` the kept indices per dimension, and the tensor at hand moves at most
    `factor` times as far as the piece does. Disjoint pieces share one budget, so their concatenation costs the
    maximum of the factors instead of their p-sum.
    """

    base: Value
    cells: dict[int, frozenset[int]]
    factor: float

    def disjoint(self, other: Part) -> bool:
        """Return whether the two pieces share no entry of their base."""
        shared = self.cells.keys() & other.cells.keys()
        return self.base is other.base and any(self.cells[d].isdisjoint(other.cells[d]) for d in shared)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that depends on the input, with a proven constant.

    Attributes:
        constant: L such that ||t(x) - t(y)||_p <= L ||x - y||_p for all inputs x, y of one image.
        p: the norm, 1, 2 or infinity.
        shape: shape of the tensor, a batch of two images first (rules may read all but the first entry).
        because: why the last step has its constant.
        local: the constant of the last step alone.
        part: the piece of another tensor that this one is a function of, if known.
    """

    constant: float
    p: float = 2.0
    shape: tuple[int, ...] = ()
    because: str = ""
    local: float = 1.0
    part: Part | None = field(default=None, repr=False)

    def times(self, factor: float, because: str = "") -> Value:
        """Return the value after a map that moves at most `factor` times as far as this value.

        Raises:
            BoundError: the factor is negative, NaN or infinite.
        """
        factor = float(factor)
        if not math.isfinite(factor) or factor < 0:
            raise BoundError(
                explain("a rule gave an unusable constant", received=factor, expected="a finite number >= 0")
            )
        part = None if self.part is None else replace(self.part, factor=self.part.factor * factor)
        return replace(self, constant=self.constant * factor, local=factor, because=because, part=part)

    def piece(self, cells: dict[int, frozenset[int]], because: str) -> Value:
        """Return the entries at `cells` (indices per dimension): a contraction that remembers its origin."""
        return replace(self, local=1.0, because=because, part=Part(self, cells, 1.0))


Step = Value


def add(values: Iterable[tuple[float, Value]], because: str = "sum of branches") -> Value:
    """Combine a weighted sum: L = sum_i |a_i| L_i."""
    terms = [(abs(weight), value) for weight, value in values]
    constant = math.fsum(weight * value.constant for weight, value in terms)
    first = terms[0][1]
    part = first.part
    same = part is not None and all(
        v.part is not None and v.part.base is part.base and v.part.cells == part.cells for _, v in terms
    )
    if part is not None and same:
        part = replace(part, factor=math.fsum(w * v.part.factor for w, v in terms if v.part is not None))
    else:
        part = None
    return Value(constant, first.p, because=because, local=math.fsum(w for w, _ in terms), part=part)


def join(values: Iterable[Value], because: str = "") -> Value:
    """Combine tensors side by side (concatenation, several outputs): L = (sum_i L_i^p)^(1/p).

    Functions f_i of disjoint pieces x_i of one tensor x share its budget, so that together they cost
    max_i factor_i * L(x): sum_i ||f_i||^p <= sum_i factor_i^p ||x_i||^p <= max factor^p ||x||^p.
    """
    items = list(values)
    if len(items) == 1:
        return items[0].times(1.0, because or "one branch")
    groups = _disjoint_groups(items)
    merged = [_merge(group) for group in groups]
    constant = p_sum([m.constant for m in merged], items[0].p)
    reason = because or "concatenation"
    reason += ": disjoint parts, maximum" if len(merged) == 1 else f": p-sum of {len(merged)} branches"
    return Value(constant, items[0].p, because=reason, part=merged[0].part if len(merged) == 1 else None)


def p_sum(constants: Iterable[float], p: float) -> float:
    """Return (sum_i c_i^p)^(1/p), the maximum for p = infinity."""
    items = list(constants)
    if math.isinf(p):
        return max(items)
    return math.fsum(items) if p == 1 else math.hypot(*items)


def _disjoint_groups(items: list[Value]) -> list[list[Value]]:
    groups: list[list[Value]] = []
    for item in items:
        for group in groups:
            if item.part is not None and all(
                o.part is not None and item.part.disjoint(o.part) for o in group
            ):
                group.append(item)
                break
        else:
            groups.append([item])
    return groups


def _merge(group: list[Value]) -> Value:
    if len(group) == 1:
        return group[0]
    parts = [v.part for v in group if v.part is not None]
    factor = max(part.factor for part in parts)
    base = parts[0].base.times(factor)
    alone = p_sum([v.constant for v in group], base.p)
    return base if base.constant <= alone else replace(base, constant=alone)


def cells(dim: int, indices: Iterable[int]) -> dict[int, frozenset[int]]:
    """Return the cells of a cut along one dimension."""
    return {dim: frozenset(indices)}


def offsets(sizes: Iterable[int]) -> list[range]:
    """Return the index ranges of consecutive blocks of the given sizes."""
    ends = list(itertools.accumulate(sizes, initial=0))
    return [range(a, b) for a, b in itertools.pairwise(ends)]
