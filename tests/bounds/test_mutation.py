"""Wrong rules must be seen: each perturbation of a rule has to fail the compact suite of oracles."""

import math
from types import SimpleNamespace

import pytest
import torch
from bound_oracles import run_oracles

from onelip.bounds import (
    convolution,
    matrix,
    norms,
    rules_elementwise,
    rules_linear,
    rules_pool,
    rules_resize,
    rules_structure,
    value,
)


def patched(module, **changes):
    """Return a mutant that replaces attributes; each change is made from the original."""

    def mutate(monkeypatch):
        for name, change in changes.items():
            monkeypatch.setattr(module, name, change(getattr(module, name)))

    return mutate


def fake_math(**changes):
    return lambda original: SimpleNamespace(**{**vars(math), **changes})


def constant(result):
    return lambda original: lambda *args, **kwargs: result


def times(factor):
    return lambda original: lambda *args, **kwargs: factor * original(*args, **kwargs)


def slope(name, constant):
    return lambda monkeypatch: monkeypatch.setitem(rules_elementwise._SLOPES, name, constant)


MUTANTS = {
    "grid without its Bernstein factor": patched(convolution, math=fake_math(cos=lambda x: 1.0)),
    "residual without its slack": patched(convolution, _near_orthogonal=lambda f: lambda w: (f(w)[1],) * 2),
    "residual of the identity only": patched(
        convolution, _near_orthogonal=lambda f: lambda w: (f(w)[0] * 0 + f(w)[1] * 1.0001, f(w)[1])
    ),
    "stride for every dilation": patched(
        convolution, polyphase=lambda f: lambda w, s, d: f(w, s, tuple(1 for _ in d))
    ),
    "axes of the polyphase swapped": patched(
        convolution, polyphase=lambda f: lambda w, s, d: f(w, tuple(reversed(s)), tuple(reversed(d)))
    ),
    "phases dropped": patched(convolution, polyphase=lambda f: lambda w, s, d: f(w, s, d)[:, :, : w.shape[2]]),
    "first group only": patched(convolution, _folded_norm=lambda f: lambda w: f(w[:1])),
    "wide Gram matrices short": patched(convolution, _top_eigenvalue=times(0.9)),
    "unfoldings without the taps": patched(convolution, _unfoldings=times(0.3)),
    "matrices a little small": patched(matrix, _unit_spectral_norm=times(1 - 1e-6)),
    "circular pads count once": patched(rules_linear, circular_copies=constant(1)),
    "circular pads on any side": patched(
        norms, most_copies=lambda f: lambda n, b, a, mode: 1 if mode == "circular" else f(n, b, a, mode)
    ),
    "reflected pads count once": patched(rules_linear, most_copies=constant(1)),
    "columns for rows in transposed sums": patched(
        rules_linear, conv_norm=lambda f: lambda w, transposed=False, **k: f(w, transposed=False, **k)
    ),
    "sums forget gcd": patched(norms, _sum_norm=lambda f: lambda w, s, d, g, p: f(w, s, [1 for _ in d], g, p)),
    "bounds of groups summed over inputs": patched(
        norms, _sum_norm=lambda f: lambda w, s, d, g, p: f(w[: max(1, len(w) // g)], s, d, 1, p)
    ),
    "max pool of one window": patched(rules_pool, overlapping_windows=constant(1)),
    "max pool forgets dilation": patched(
        rules_pool, overlapping_windows=lambda f: lambda x, k, s, d, axes: f(x, k, s, 1, axes)
    ),
    "average pool of whole windows": patched(
        rules_pool, _average_norm=lambda f: lambda *a: f(*a[:5], False, *a[6:])
    ),
    "sums as means": patched(rules_pool, copies_factor=constant(1.0)),
    "resizing for free": patched(rules_resize, axis_norm=constant(1.0)),
    "softmax of a quarter": patched(
        rules_elementwise, softmax=lambda f: lambda x, dim=None, *a: x.times(0.25)
    ),
    "log-softmax of two": patched(rules_elementwise, log_softmax=lambda f: lambda x, dim=None: x.times(1.4)),
    "gelu of slope one": slope("gelu", 1.0),
    "silu of slope one": slope("silu", 1.0),
    "mish a little small": slope("mish", 1.0),
    "sigmoid of a fifth": slope("sigmoid", 0.2),
    "broadcasting for free": patched(rules_elementwise, spread=constant(1.0)),
    "batch norm without eps": patched(rules_linear, _batch_norm=lambda f: lambda x, v, w, e: f(x, v, w, 0.0)),
    "batch norm without weight": patched(rules_linear, _batch_norm=lambda f: lambda x, v, w, e: f(x, v, None, e)),
    "outputs take the maximum": patched(value, p_sum=lambda f: lambda constants, p: max(constants)),
    "all parts are disjoint": patched(value.Part, disjoint=constant(True)),
    "no parts are disjoint": patched(value.Part, disjoint=constant(False)),
    "sums take the maximum": patched(
        rules_elementwise, add=lambda f: lambda terms, because="": max((v for _, v in terms), key=lambda v: v.constant)
    ),
    "repetition for free": patched(rules_structure, copies_factor=constant(1.0)),
}  # fmt: skip


# Where to look first, which saves minutes and changes no verdict.
FIRST = {
    "resizing for free": "resizes",
    "softmax of a quarter": "softmax",
    "log-softmax of two": "softmax",
    "broadcasting for free": "reductions",
    "batch norm without eps": "reductions",
    "batch norm without weight": "reductions",
    "repetition for free": "reductions",
    "gelu of slope one": "slopes",
    "silu of slope one": "slopes",
    "mish a little small": "slopes",
    "sigmoid of a fifth": "slopes",
    "outputs take the maximum": "structure",
    "all parts are disjoint": "structure",
    "no parts are disjoint": "structure",
    "sums take the maximum": "structure",
    "max pool of one window": "max pools",
    "max pool forgets dilation": "max pools",
    "average pool of whole windows": "pools",
    "sums as means": "reductions",
    "wide Gram matrices short": "wide",
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_detected(name, monkeypatch):
    MUTANTS[name](monkeypatch)
    with pytest.raises(AssertionError):
        run_oracles(first=FIRST.get(name))


def test_the_oracles_pass_without_mutants():
    run_oracles()
    assert torch.get_default_dtype() == torch.float32
