"""Random linear programs on values and on their matrices at once: the accounts of the engine beside brute force."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from onelip.bounds import rules_structure, sums
from onelip.bounds import value as values
from onelip.bounds.value import Value


@dataclass(frozen=True)
class Node:
    """A tensor of one image, (C, N): what the engine knows of it, and its matrix, one row an entry."""

    value: Value
    rows: np.ndarray  # (C, N, inputs)

    @property
    def shape(self):
        return self.rows.shape[:2]


def node(value, rows):
    return Node(replace(value, shape=(2, *rows.shape[:2])), rows)


def start(channels, pixels, p):
    size = channels * pixels
    return node(Value(1.0, p, because="input"), np.eye(size).reshape(channels, pixels, size))


def norm(matrix, p):
    """Return the l_p norm of a matrix."""
    if matrix.size == 0:
        return 0.0
    return float(np.linalg.norm(matrix, {1.0: 1, 2.0: 2, math.inf: np.inf}[p]))


def cut(x, index):
    return node(rules_structure.getitem(x.value, (slice(None), *index)), x.rows[index])


def linear(x, matrix, shape):
    """Apply a matrix to the flattened tensor."""
    rows = (matrix @ x.rows.reshape(-1, x.rows.shape[-1])).reshape(*shape, -1)
    return node(x.value.times(norm(matrix, x.value.p)), rows)


def scale(x, factor):
    return node(x.value.times(abs(factor)), x.rows * factor)


def reshape(x, shape):
    return node(x.value.times(1.0), x.rows.reshape(*shape, -1))


def cat(nodes):
    """Concatenate along the entries, flattened."""
    rows = np.concatenate([n.rows.reshape(1, -1, n.rows.shape[-1]) for n in nodes], axis=1)
    return node(values.join([n.value for n in nodes]), rows)


def add(weights, nodes, *, joint=False):
    rows = sum(w * n.rows for w, n in zip(weights, nodes, strict=True))
    return node(sums.add(zip(weights, [n.value for n in nodes], strict=True), joint=joint), rows)


def fork(x, weights):
    return [scale(x, w) for w in weights]


def orthogonal(draw, size):
    return np.linalg.qr(draw.standard_normal((size, size)))[0]


def truth(x):
    return norm(x.rows.reshape(-1, x.rows.shape[-1]), x.value.p)


def check(x, about=""):
    """Check a node: its constant, and each of its two accounts by itself."""
    found, p = truth(x), x.value.p
    assert x.value.constant >= found * (1 - 1e-12), f"{about}: {x.value.constant!r} < {found!r}, p={p}"
    for way in (0, 1):
        told = values.cost(x.value.parts(way), way, p)
        assert told >= found * (1 - 1e-12), f"{about}: account {way} says {told!r} < {found!r}, p={p}"


def random_index(draw, shape):
    """Draw a cut: overlapping or disjoint ranges, strides, one row, both axes."""

    def one(n):
        a, b = sorted(int(i) for i in draw.integers(0, n + 1, 2))
        choices = [
            slice(None),
            slice(a, max(b, a + 1)),
            slice(int(draw.integers(0, 2)), None, 2),
            slice(n // 2, None),
        ]
        return choices[int(draw.integers(0, 4))]

    return one(shape[0]), one(shape[1])


def random_program(seed, p, steps=12):
    """Return the nodes of a random program; pieces meet pieces of pieces, of sums, of concatenations."""
    draw = np.random.default_rng(seed)
    nodes = [start(int(draw.integers(1, 5)), int(draw.integers(1, 5)), p)]
    while len(nodes) < steps:
        x = nodes[-1 - min(int(draw.geometric(0.4)) - 1, len(nodes) - 1)]
        kind = draw.choice(
            ["cut", "cut", "linear", "orthogonal", "scale", "cat", "cat", "add", "add", "fork", "reshape"]
        )
        if 0 in x.shape:
            continue
        if kind == "cut":
            nodes.append(cut(x, random_index(draw, x.shape)))
        elif kind == "linear":
            size = x.shape[0] * x.shape[1]
            rows = int(draw.integers(1, 6))
            nodes.append(linear(x, draw.standard_normal((rows, size)), (rows, 1)))
        elif kind == "orthogonal":
            size = x.shape[0] * x.shape[1]
            nodes.append(linear(x, orthogonal(draw, size), x.shape))
        elif kind == "scale":
            nodes.append(scale(x, float(draw.choice([0.0, -1.0, 0.3, 2.0]))))
        elif kind == "reshape":
            nodes.append(reshape(x, (x.shape[1], x.shape[0])))
        elif kind == "fork":
            nodes += fork(x, unit(draw, 2))
        elif kind == "cat":
            others = [nodes[int(i)] for i in draw.integers(0, len(nodes), int(draw.integers(1, 4)))]
            nodes.append(cat([x, *others]))
        else:
            like = [n for n in nodes if n.shape == x.shape]
            chosen = [x, *(like[int(i)] for i in draw.integers(0, len(like), int(draw.integers(1, 3))))]
            joint = bool(draw.random() < 0.5)
            nodes.append(add([float(w) for w in draw.normal(size=len(chosen))], chosen, joint=joint))
    return nodes


def unit(draw, parts):
    weights = np.abs(draw.standard_normal(parts)) + 0.05
    return [float(w) for w in weights / np.linalg.norm(weights)]


def budget_program(seed, steps=10, *, lossless=False):
    """Return the outputs of a program of norm 1: every tensor is used once, in disjoint pieces, or through a fork.

    `lossless`: without sums, so that the whole is an isometry.
    """
    draw = np.random.default_rng(seed)
    open_ends = [start(4, 3, 2.0)]
    for _ in range(steps):
        x = open_ends.pop(int(draw.integers(0, len(open_ends))))
        kind = draw.choice(["split", "split", "fork", "orthogonal", "cat", "cat", "blend", "blend"])
        size = x.shape[0] * x.shape[1]
        if kind == "split" and size > 1:
            flat, at = reshape(x, (1, size)), int(draw.integers(1, size))
            pieces = [(slice(None), slice(0, at)), (slice(None), slice(at, None))]
            if draw.random() < 0.5:
                pieces = [(slice(None), slice(0, None, 2)), (slice(None), slice(1, None, 2))]
            open_ends += [cut(flat, index) for index in pieces]
        elif kind == "fork":
            parts = int(draw.integers(2, 4))
            open_ends += fork(x, unit(draw, parts))
        elif kind == "cat" and open_ends:
            open_ends.append(cat([x, open_ends.pop(int(draw.integers(0, len(open_ends))))]))
        elif kind == "blend" and not lossless and open_ends:
            y = open_ends.pop(int(draw.integers(0, len(open_ends))))
            most = max(size, y.shape[0] * y.shape[1])  # zero padding is an isometry
            both = [linear(n, np.eye(most, n.shape[0] * n.shape[1]), (1, most)) for n in (x, y)]
            open_ends.append(add(unit(draw, 2), both, joint=True))
        else:
            open_ends.append(linear(x, orthogonal(draw, size), x.shape))
    return open_ends


def run_account_oracles():
    """Run everything compactly; the mutation tests must see it fail for every perturbed rule."""
    for seed in range(120):
        for p in (1.0, 2.0, math.inf):
            nodes = random_program(seed, p)
            for found in [*nodes, cat(nodes[-5:])]:
                check(found, f"seed {seed}")
    for seed in range(150):
        outputs = cat(budget_program(seed, 14))
        check(outputs, f"budget {seed}")
        assert outputs.value.constant <= 1 + 1e-9, f"budget {seed}: {outputs.value.constant}"
    x = start(1, 60, 2.0)
    windows = [cut(x, (slice(None), slice(i, i + 3))) for i in range(58)]
    check(cat(windows), "windows")
