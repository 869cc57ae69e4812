"""The abstract value of the bound engine: how far a tensor can move when the input moves by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..core.errors import BoundError, explain


@dataclass(frozen=True)
class Part:
    """One term of an account: `factor` times as far as the entries `cells` of the tensor `base` move.

    Attributes:
        base: the tensor that was cut; None is the input of the model as a whole, which moves by one.
        cells: the kept indices per dimension, all of them where a dimension is missing.
        factor: how often the movement of the piece counts.
        depth: number of cuts between the input and the piece, along the longest way.
    """

    base: Value | None
    cells: dict[int, frozenset[int]]
    factor: float
    depth: int = 0

    def disjoint(self, other: Part) -> bool:
        """Return whether the two pieces share no entry of their base."""
        shared = self.cells.keys() & other.cells.keys()
        return self.base is other.base and any(self.cells[d].isdisjoint(other.cells[d]) for d in shared)

    def same(self, other: Part) -> bool:
        """Return whether the two are pieces of one tensor at the same entries."""
        return self.base is other.base and self.cells == other.cells


Account = tuple[Part, ...]
"""Parts with ||t(x) - t(y)||^p <= sum_i factor_i^p ||piece_i(x) - piece_i(y)||^p for all x, y (p-norms)."""

LONGEST = 64
"""Parts an account may have; longer ones are settled, from the latest cut on."""

_EXACT = 20
"""Pieces of one tensor whose overlaps are searched; more are put into disjoint groups, one after the other."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that depends on the input, with a proven constant.

    Attributes:
        constant: L such that ||t(x) - t(y)||_p <= L ||x - y||_p for all inputs x, y of one image.
        p: the norm, 1, 2 or infinity.
        shape: shape of the tensor, a batch of two images first (rules may read all but the first entry).
        because: why the last step has its constant.
        local: the constant of the last step alone.
        accounts: what the tensor depends on, told in two ways that both hold (`onelip.bounds.sums` tells how they
            differ). None: nothing is known but the constant.
    """

    constant: float
    p: float = 2.0
    shape: tuple[int, ...] = ()
    because: str = ""
    local: float = 1.0
    accounts: tuple[Account, Account] | None = field(default=None, repr=False)

    def parts(self, way: int) -> Account:
        """Return one of the accounts; without any, the whole input counts `constant` times."""
        return (Part(None, {}, self.constant),) if self.accounts is None else self.accounts[way]

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
        accounts = self.accounts
        if accounts is not None and factor != 1.0:
            accounts = (scaled(accounts[0], factor), scaled(accounts[1], factor))
        return replace(
            self, constant=self.constant * factor, local=factor, because=because, accounts=accounts
        )

    def piece(self, cells: dict[int, frozenset[int]], because: str) -> Value:
        """Return the entries at `cells` (indices per dimension): a contraction that remembers its origin."""
        if not all(cells.values()):  # no entries
            return self.times(0.0, because)
        depth = 1 + max((part.depth for way in (0, 1) for part in self.parts(way)), default=0)
        account = (Part(self, cells, 1.0, depth),)
        return replace(self, local=1.0, because=because, accounts=(account, account))


Step = Value


def scaled(account: Account, factor: float) -> Account:
    """Return the account of a tensor that moves `factor` times as far."""
    return tuple(replace(part, factor=part.factor * factor) for part in account) if factor > 0 else ()


def p_sum(constants: Iterable[float], p: float) -> float:
    """Return (sum_i c_i^p)^(1/p), the maximum for p = infinity."""
    items = list(constants)
    if math.isinf(p):
        return max(items)
    return math.fsum(items) if p == 1 else math.hypot(*items)


def merged(parts: Iterable[Part], p: float) -> Account:
    """Return the parts with equal pieces counted once, with the p-sum of their factors."""
    pieces: dict[object, list[Part]] = {}
    for part in parts:
        pieces.setdefault((id(part.base), frozenset(part.cells.items())), []).append(part)
    sums = ((group[0], p_sum([part.factor for part in group], p)) for group in pieces.values())
    return tuple(replace(part, factor=factor) for part, factor in sums if factor != 0)


def settled(account: Account, way: int, p: float) -> Account:
    """Replace all pieces of the latest base by that base, and the base by its own account.

    Every entry of the base lies in pieces that overlap pairwise, so that it counts at most as often as the heaviest
    set of such pieces: sum_i f_i^p ||piece_i||^p <= F^p ||base||^p, and the base has an account of its own.
    """
    base = max(account, key=lambda part: part.depth).base
    assert base is not None
    factor = heaviest([part for part in account if part.base is base], p)
    rest = [part for part in account if part.base is not base]
    return merged([*rest, *scaled(base.parts(way), factor)], p)


def cost(account: Account, way: int, p: float) -> float:
    """Return how far the tensor of an account moves at most when the input moves by one.

    Bases are settled in reverse order of their creation: when the turn of one comes, everything that rests on it is
    on the table. The last one leaves the input.
    """
    while account:
        base = account[0].base
        if all(part.base is base for part in account):
            return heaviest(account, p) * (1.0 if base is None else base.constant)
        account = settled(account, way, p)
    return 0.0


def heaviest(parts: Iterable[Part], p: float) -> float:
    """Return the largest p-sum of factors over sets of pieces of one tensor that overlap pairwise.

    For more than a few pieces: the p-sum of the maxima of disjoint groups, which is no smaller.
    """
    items = list(parts)
    top = max(part.factor for part in items)
    if math.isinf(p) or len(items) == 1 or math.isinf(top):
        return top
    if len(items) > _EXACT:
        return p_sum([max(part.factor for part in group) for group in _disjoint_groups(items)], p)
    meets = [[i for i in range(j) if not part.disjoint(items[i])] for j, part in enumerate(items)]
    weights = [(part.factor / top) ** p for part in items]
    return top * math.pow(_clique(weights, meets, range(len(items))), 1.0 / p)


def _clique(weights: list[float], meets: list[list[int]], left: Iterable[int]) -> float:
    """Return the weight of the heaviest set of nodes in `left` that are neighbours of each other."""
    best, nodes = 0.0, list(left)
    while nodes and math.fsum(weights[i] for i in nodes) > best:
        last = nodes.pop()
        near = set(meets[last])
        best = max(best, weights[last] + _clique(weights, meets, [i for i in nodes if i in near]))
    return best


def _disjoint_groups(items: list[Part]) -> list[list[Part]]:
    groups: list[list[Part]] = []
    for item in items:
        for group in groups:
            if all(item.disjoint(other) for other in group):
                group.append(item)
                break
        else:
            groups.append([item])
    return groups


def join(values: Iterable[Value], because: str = "") -> Value:
    """Combine tensors side by side (concatenation, several outputs): their accounts add up.

    Functions f_i of disjoint pieces x_i of one tensor x share its budget, so that together they cost
    max_i factor_i * L(x): sum_i ||f_i||^p <= sum_i factor_i^p ||x_i||^p <= max factor^p ||x||^p. What shares nothing
    costs L = (sum_i L_i^p)^(1/p).
    """
    items = list(values)
    if len(items) == 1:
        return items[0].times(1.0, because or "one branch")
    p = items[0].p
    alone = p_sum([v.constant for v in items], p)
    accounts = [merged([part for v in items for part in v.parts(way)], p) for way in (0, 1)]
    result = accounted(alone, (accounts[0], accounts[1]), p)
    shared = result.constant < alone * (1 - 1e-12)
    how = "parts share their budget" if shared else f"p-sum of {len(items)} branches"
    return replace(result, because=f"{because or 'concatenation'}: {how}")


def accounted(constant: float, accounts: tuple[Account, Account], p: float) -> Value:
    """Return the value of a proven constant and two proven accounts: the smallest of the three numbers holds."""
    first, second = (cost(account, way, p) for way, account in enumerate(accounts))
    short: list[Account] = []
    for way, account in enumerate(accounts):
        while len(account) > LONGEST:
            account = settled(account, way, p)  # noqa: PLW2901
        short.append(account)
    least = min(constant, first, second)
    if first > constant * (1 + 1e-9):  # an account that is no use: say what is known instead
        short[0] = (Part(None, {}, least),)
    return Value(least, p, accounts=(short[0], short[1]))


def cells(dim: int, indices: Iterable[int]) -> dict[int, frozenset[int]]:
    """Return the cells of a cut along one dimension."""
    return {dim: frozenset(indices)}


def offsets(sizes: Iterable[int]) -> list[range]:
    """Return the index ranges of consecutive blocks of the given sizes."""
    ends = list(itertools.accumulate(sizes, initial=0))
    return [range(a, b) for a, b in itertools.pairwise(ends)]
