# ruff: noqa: E501
"""Wrong accounting must be seen: each perturbation has to fail the oracles of accounts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from account_oracles import run_account_oracles

from onelip.bounds import sums
from onelip.bounds import value as values


def patched(module, **changes):
    """Return a mutant that replaces attributes; each change is made from the original."""

    def mutate(monkeypatch):
        for name, change in changes.items():
            monkeypatch.setattr(module, name, change(getattr(module, name)))

    return mutate


def constant(result):
    return lambda original: lambda *args, **kwargs: result


MUTANTS = {
    "overlapping pieces cost their maximum": patched(
        values, heaviest=lambda f: lambda parts, p: max(part.factor for part in parts)
    ),
    "of many pieces only one group": patched(values, _disjoint_groups=lambda f: lambda items: f(items)[:1]),
    "a set of overlapping pieces weighs as its heaviest": patched(
        values, _clique=lambda f: lambda weights, meets, left: max((weights[i] for i in left), default=0.0)
    ),
    "equal pieces count once": patched(
        values, merged=lambda f: lambda parts, p: f({(id(q.base), frozenset(q.cells.items())): q for q in parts}.values(), p)
    ),
    "bases lose the factor of their pieces": patched(
        values, settled=lambda f: lambda account, way, p: f(tuple(replace(q, factor=min(q.factor, 1.0)) for q in account), way, p)
    ),
    "the last base moves by one": patched(values, cost=lambda f: lambda a, way, p: values.heaviest(a, p) if a else 0.0),
    "maps leave accounts as they are": patched(values, scaled=lambda f: lambda account, factor: account),
    "pieces of one tensor are equal": patched(values.Part, same=lambda f: lambda a, b: a.base is b.base),
    "all pieces are disjoint": patched(values.Part, disjoint=constant(True)),
    "no pieces are disjoint": patched(values.Part, disjoint=constant(False)),
    "pieces move half as far": patched(
        values.Value, piece=lambda f: lambda v, cells, why: replace(
            f(v, cells, why), accounts=tuple(values.scaled(a, 0.5) for a in f(v, cells, why).accounts)
        )
    ),
    "sums without their weights": patched(sums, p_sum=constant(1.0)),
    "sums with the conjugate exponents swapped": patched(
        sums, p_sum=lambda f: lambda numbers, q: f(numbers, {1.0: math.inf, math.inf: 1.0}.get(q, q))
    ),
    "sums of equal pieces cost their maximum": patched(
        sums, _one_piece=lambda f: lambda terms, way: None if f(terms, way) is None else (
            max((replace(v.parts(way)[0], factor=w * v.parts(way)[0].factor) for w, v in terms), key=lambda q: q.factor),
        ) if terms else ()
    ),
    "blends choose what is smallest now": patched(sums, _steady=lambda f: lambda terms, p, joint: f(terms, p, False)),
    "bases in order of creation": patched(
        values, settled=lambda f: lambda account, way, p: f(
            tuple(replace(q, depth=-q.depth if q.base is not None else -999) for q in account), way, p)
    ),
    "no account outlives a join": patched(values, LONGEST=lambda original: 1),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_detected(name, monkeypatch):
    MUTANTS[name](monkeypatch)
    with pytest.raises(AssertionError):
        run_account_oracles()


def test_the_oracles_pass_without_mutants():
    run_account_oracles()
