# ruff: noqa: E501 - tables read better in long lines
"""Brute force beside the engine: dense matrices of small layers and networks, and their norms in float64.

`run_oracles()` is the compact suite that the mutation tests must see fail for every perturbed rule.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import onelip
from onelip.bounds import Value, norms, rules_linear, rules_pool, rules_resize

NORMS = (1.0, 2.0, math.inf)
TINY = 1e-12


@torch.no_grad()
def matrix(linear, shape):
    """Return the matrix (outputs, inputs) of an affine map of one input of this shape, float64."""
    size = math.prod(shape)
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    return flat(linear(basis)).sub(flat(linear(torch.zeros_like(basis[:1])))).T


def flat(outputs):
    if isinstance(outputs, torch.Tensor):
        return outputs.reshape(outputs.shape[0], -1)
    outputs = list(outputs.values()) if isinstance(outputs, dict) else outputs
    return torch.cat([flat(o) for o in outputs], dim=1)


def dense_norm(m, p):
    if m.numel() == 0:
        return 0.0
    if p == 2:
        return float(torch.linalg.svdvals(m)[0])
    return float(m.abs().sum(dim=1 if math.isinf(p) else 0).max())


def sound(bound, truth):
    return bound >= truth * (1 - TINY)


def fill(weight, kind, draw):
    """Fill a kernel: what makes bounds loose, tight or tied."""
    data = torch.from_numpy(draw.standard_normal(tuple(weight.shape)))
    if kind == "constant":
        data = torch.full_like(data, float(draw.uniform(0.1, 2)))
    elif kind == "positive":
        data = data.abs()
    elif kind == "sparse":
        data = data * (torch.from_numpy(draw.random(tuple(weight.shape))) < 0.3)
    elif kind == "orthogonal":
        rows = data.flatten(1)
        q = torch.linalg.qr(rows.T if rows.shape[0] < rows.shape[1] else rows)[0]
        data = (q.T if rows.shape[0] < rows.shape[1] else q).reshape(weight.shape)
    with torch.no_grad():
        weight.copy_(data)


KINDS = ("gaussian", "constant", "positive", "orthogonal", "sparse")
MODES = ("zeros", "circular", "reflect", "replicate")


def random_conv(draw, *, largest=170):
    """Draw a convolution of 1 to 3 dimensions, and an input shape with few enough entries for a dense matrix."""
    while True:
        axes = int(draw.choice([1, 2, 3], p=[0.3, 0.6, 0.1]))
        groups = int(draw.choice([1, 1, 2, 3]))
        ins, outs = (groups * int(draw.integers(1, 6 // groups + 1)) for _ in range(2))
        top = 6 if axes < 3 else 3
        kernel = [int(k) for k in draw.integers(1, top, axes)]
        stride = [int(s) for s in draw.integers(1, 5 if axes < 3 else 3, axes)]
        dilation = [int(d) for d in draw.integers(1, 4, axes)]
        sides = [int(n) for n in draw.integers(4, 10 if axes == 2 else (24 if axes == 1 else 5), axes)]
        if ins * math.prod(sides) > largest:
            continue
        transposed = bool(draw.random() < 0.3)
        name = f"Conv{'Transpose' if transposed else ''}{axes}d"
        extra = {}
        if transposed:
            padding = [int(p) for p in draw.integers(0, 3, axes)]
            tops = [max(s, d) for s, d in zip(stride, dilation, strict=True)]
            extra["output_padding"] = [int(draw.integers(0, t)) for t in tops]
        else:
            extra["padding_mode"] = str(draw.choice(MODES))
            padding = [int(p) for p in draw.integers(0, 4, axes)]
            if draw.random() < 0.2 and max(stride) == 1:
                padding = "same"
        cls = getattr(nn, name)
        layer = cls(
            ins, outs, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, **extra
        )
        layer = layer.double().eval()
        fill(layer.weight, str(draw.choice(KINDS)), draw)
        try:
            with torch.no_grad():
                out = layer(torch.zeros(1, ins, *sides, dtype=torch.float64))
        except (RuntimeError, AssertionError, ValueError):
            continue  # torch refuses: the kernel is larger than the padded image, or the padding than the image
        if 0 < out.numel() <= 4 * largest:
            return layer, (ins, *sides)


def conv_bound(layer, shape, p):
    """Ask the rule of the layer, without tracing (thousands of times)."""
    x = Value(1.0, p, shape=(2, *shape))
    rule = rules_linear.conv_transpose if "Transpose" in type(layer).__name__ else rules_linear.conv
    if rule is rules_linear.conv:
        return rules_linear.conv_rule(layer, x, layer.weight).constant
    return rules_linear.conv_transpose(layer, x).constant


def check_convs(seed, count):
    """Compare `count` random convolutions with their dense matrices; return bound / truth for p = 2."""
    draw = np.random.default_rng(seed)
    ratios = []
    for _ in range(count):
        layer, shape = random_conv(draw)
        m = matrix(layer, shape)
        for p in NORMS:
            bound, truth = conv_bound(layer, shape, p), dense_norm(m, p)
            assert sound(bound, truth), f"{layer} on {shape}, p={p}: bound {bound!r} < {truth!r}"
            if p == 2 and truth > 0:
                ratios.append(bound / truth)
    return ratios


def check_layer(layer, shape, p, loosest=None):
    """Compare one linear layer or network, through the front door."""
    layer = layer.double().eval()
    bound, truth = onelip.lipschitz(layer, shape, p=p).value, dense_norm(matrix(layer, shape), p)
    assert sound(bound, truth), f"{layer} on {shape}, p={p}: bound {bound!r} < {truth!r}"
    if loosest is not None:
        assert bound <= truth * loosest + 1e-12, (
            f"{layer} on {shape}, p={p}: {bound!r} is loose for {truth!r}"
        )


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.register_buffer("like", torch.empty(0))

    def forward(self, x):
        return self.function(x)


POOLS = [
    (nn.AvgPool2d(2), (1, 6, 6)), (nn.AvgPool2d(3, 1), (1, 6, 5)), (nn.AvgPool2d(3, 2, 1), (2, 5, 6)),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (1, 7, 6)), (nn.AvgPool2d(2, ceil_mode=True), (1, 5, 7)),
    (nn.AvgPool2d((3, 2), (2, 1), (1, 0), ceil_mode=True), (1, 6, 7)), (nn.AvgPool2d(3, divisor_override=2), (1, 6, 7)),
    (nn.AdaptiveAvgPool2d((3, 2)), (1, 7, 5)), (nn.AdaptiveAvgPool2d(1), (1, 4, 5)),
    (nn.AdaptiveAvgPool2d((None, 3)), (1, 4, 5)),
]  # fmt: skip


def check_pools():
    for layer, shape in POOLS:
        for p in NORMS:
            check_layer(layer, shape, p, loosest=1 + 1e-8)


def resize(**options):
    return Apply(lambda x: F.interpolate(x, **options))


RESIZES = [
    (resize(scale_factor=2), (1, 4, 5)), (resize(scale_factor=1.5), (1, 4, 6)), (resize(size=(7, 3)), (1, 4, 5)),
    (resize(scale_factor=2, mode="bilinear"), (1, 4, 5)), (resize(size=(9, 7), mode="bilinear", align_corners=True), (1, 4, 5)),
    (resize(scale_factor=(1.7, 0.6), mode="bilinear"), (1, 5, 6)), (resize(scale_factor=2, mode="bicubic"), (1, 4, 5)),
    (resize(size=(5, 8), mode="area"), (1, 7, 4)), (resize(scale_factor=1.3, mode="nearest-exact"), (1, 7, 4)),
    (resize(size=(3, 4), mode="bilinear", antialias=True), (1, 7, 9)), (nn.Upsample(scale_factor=3), (1, 3, 2)),
    (resize(size=(3, 5), mode="bicubic", antialias=True), (1, 7, 9)),
    (resize(scale_factor=2.3, mode="bilinear", recompute_scale_factor=True), (1, 4, 5)),
]  # fmt: skip


def check_resizes(all_norms=NORMS):
    for layer, shape in RESIZES:
        for p in all_norms:
            check_layer(layer, shape, p, loosest=1 + 1e-8)


MAX_POOLS = [
    (2, 2, 0, 1),
    (3, 1, 1, 1),
    (3, 2, 1, 1),
    (5, 2, 2, 1),
    (3, 2, 0, 2),
    (2, 4, 0, 2),
    (3, 3, 0, 3),
    (2, 1, 0, 3),
]


def check_max_pools():
    """The most windows that share a pixel, counted; and a pair that attains the constant: one bright pixel."""
    for k, s, pad, d in MAX_POOLS:
        n = 15
        pool = nn.MaxPool2d(k, s, pad, d).eval()
        hits = torch.zeros(n, n)
        for i in range(n):
            for j in range(n):
                bright = torch.zeros(1, 1, n, n)
                bright[..., i, j] = 1
                hits[i, j] = pool(bright).sum()
        for p in NORMS:
            truth = float(hits.max()) ** (1 / p) if p != math.inf else 1.0
            bound = onelip.lipschitz(pool, (1, n, n), p=p).value
            assert sound(bound, truth), f"max pool {k, s, pad, d}, p={p}: {bound} < {truth}"
            assert bound <= truth * (1 + 1e-9), (
                f"max pool {k, s, pad, d}, p={p}: {bound} is loose for {truth}"
            )


# name, module, functional (or None), range; slopes are measured on a grid, jumps show as huge ones
SLOPES = {
    "relu": nn.ReLU(), "relu6": nn.ReLU6(), "leaky": nn.LeakyReLU(1.7), "leaky-": nn.LeakyReLU(-1.3), "elu": nn.ELU(1.6),
    "celu": nn.CELU(0.7), "selu": nn.SELU(), "gelu": nn.GELU(), "gelu_tanh": nn.GELU(approximate="tanh"),
    "silu": nn.SiLU(), "mish": nn.Mish(), "hardswish": nn.Hardswish(), "hardsigmoid": nn.Hardsigmoid(),
    "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "softsign": nn.Softsign(), "logsigmoid": nn.LogSigmoid(),
    "softplus": nn.Softplus(), "softplus2": nn.Softplus(beta=2.0), "tanhshrink": nn.Tanhshrink(),
    "softshrink": nn.Softshrink(), "hardtanh": nn.Hardtanh(-0.5, 0.7), "prelu": nn.PReLU(1, init=-1.9),
    "sin": Apply(torch.sin), "cos": Apply(torch.cos), "atan": Apply(torch.atan), "abs": Apply(torch.abs),
    "f_silu": Apply(F.silu), "f_gelu": Apply(F.gelu), "f_elu": Apply(lambda x: F.elu(x, 1.4)),
    "f_leaky": Apply(lambda x: F.leaky_relu(x, 2.5)), "clamp": Apply(lambda x: x.clamp(-1, 2)),
    "f_softplus": Apply(lambda x: F.softplus(x, beta=3.0)), "scaled": Apply(lambda x: 0.3 * x), "neg": Apply(lambda x: -x),
    "divided": Apply(lambda x: x / 0.7), "shifted": Apply(lambda x: 1.5 - 2.5 * x), "lerp": Apply(lambda x: torch.lerp(x, -x, 0.3)),
}  # fmt: skip


def check_slopes(all_norms=NORMS):
    h = 2e-4
    grid = torch.arange(-12, 12, h, dtype=torch.float64).reshape(1, -1)
    for name in SLOPES:
        module = SLOPES[name].double().eval()
        with torch.no_grad():
            y = module(grid)
        truth = float(((y[:, 1:] - y[:, :-1]).abs() / (grid[:, 1:] - grid[:, :-1])).max())
        for p in all_norms:
            bound = onelip.lipschitz(module, (3,), p=p).value
            assert bound >= truth * (1 - 1e-9), f"{name}, p={p}: {bound} < {truth}"
            if name != "lerp":  # two branches of one tensor: a sum
                assert bound <= truth * (1 + 1e-3), f"{name}, p={p}: {bound} is loose for {truth}"


def jacobian(module, x):
    return torch.autograd.functional.jacobian(lambda v: flat(module(v[None]))[0], x).reshape(-1, x.numel())


def check_softmax(counts=(2, 3, 7)):
    draw = torch.Generator().manual_seed(0)
    for module, limit in ((nn.Softmax(dim=1).eval(), 1e-6), (nn.LogSoftmax(dim=1).eval(), 1e-6)):
        for classes in counts:
            points = [torch.zeros(classes), torch.tensor([1.0, 1.0] + [-40.0] * (classes - 2))]
            points += [s * torch.randn(classes, generator=draw) for s in (0.3, 1, 5) for _ in range(5)]
            points += [40.0 * torch.nn.functional.one_hot(torch.tensor(0), classes)]
            for p in NORMS:
                bound = onelip.lipschitz(module, (classes,), p=p).value
                truth = max(dense_norm(jacobian(module, x.double()), p) for x in points)
                assert sound(bound, truth), f"{module} of {classes}, p={p}: {bound} < {truth}"
                assert bound <= truth * (1 + limit) or classes == 2, (
                    f"{module} of {classes}, p={p}: {bound} loose"
                )


def check_norm_layers(all_norms=NORMS):
    draw = torch.Generator().manual_seed(1)
    for eps in (1e-5, 0.5):
        layer = nn.BatchNorm2d(3, eps=eps)
        layer.running_var.uniform_(1e-6, 2, generator=draw)
        layer.running_mean.normal_(generator=draw)
        layer.weight.data.normal_(generator=draw)
        for p in all_norms:
            check_layer(layer, (3, 2, 2), p, loosest=1 + 1e-9)
    for shape, function in REDUCTIONS:
        for p in all_norms:
            check_layer(Apply(function), shape, p)


M53 = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
REDUCTIONS = [
    ((2, 3, 4), lambda x: x.mean(dim=(2, 3))), ((2, 3, 4), lambda x: x.sum(1)), ((2, 3, 4), lambda x: x.mean(-1, keepdim=True)),
    ((3, 2, 2), lambda x: x * torch.tensor([1.0, -3.0, 2.0], dtype=torch.float64)[:, None, None]),
    ((1, 2, 2), lambda x: x + torch.ones(3, 1, 1, dtype=torch.float64)), ((1, 2, 2), lambda x: x * torch.ones(4, 1, 1, dtype=torch.float64)),
    ((1, 2, 2), lambda x: x.expand(-1, 3, -1, -1)), ((2, 2, 2), lambda x: x.repeat(1, 2, 3, 1)),
    ((2, 2, 2), lambda x: x.repeat_interleave(2, dim=1)), ((3, 2, 2), lambda x: x[:, [0, 2][0] :: 2]),
    ((3, 2, 2), lambda x: torch.index_select(x, 1, torch.tensor([0, 1, 1, 2, 1]))),
    ((2, 4, 4), lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2).flip(2).roll(1, 3).permute(0, 3, 1, 2).transpose(1, 2)),
    ((2, 4, 4), lambda x: F.pad(x, (2, 1, 0, 3), mode="reflect")), ((2, 4, 4), lambda x: F.pad(x, (-1, 2))),
    ((2, 4, 4), lambda x: F.pad(x, (3, 0, 1, 2), mode="replicate")), ((2, 4, 3), lambda x: F.pad(x, (2, 3, 1, 0), mode="circular")),
    ((2, 9, 9), lambda x: F.unfold(x, 3, stride=2)), ((1, 9, 2), lambda x: x.unfold(2, 4, 2)),
    ((1, 3, 2), lambda x: M53 @ x), ((2, 2, 3), lambda x: x @ M53.T),
    ((2, 3, 2), lambda x: torch.where(torch.tensor([True, False]), x, -2 * x)),
]  # fmt: skip


def check_structure():
    """Known constants of graphs: disjoint parts share their budget, overlapping ones do not."""
    two, three = 2.0, 3.0
    cases = [
        (lambda x: torch.cat([two * x[:, :2], three * x[:, 2:]], 1), {1: 3, 2: 3, math.inf: 3}),
        (lambda x: torch.cat([two * x[:, :3], three * x[:, 1:]], 1), {1: 5, 2: math.sqrt(13), math.inf: 3}),
        (lambda x: torch.cat([two * x[:, ::2], three * x[:, 1::2]], 1), {1: 3, 2: 3, math.inf: 3}),
        (lambda x: (two * x, three * x), {1: 5, 2: math.sqrt(13), math.inf: 3}),
        (lambda x: two * x - three * x.flip(1), {1: 5, 2: 5, math.inf: 5}),
        (lambda x: torch.stack([x[:, 0], x[:, 1]], 1) + x[:, :2], {1: 2, 2: 2, math.inf: 2}),
    ]
    for function, expected in cases:
        for p in NORMS:
            bound = onelip.lipschitz(Apply(function).eval(), (4, 2, 2), p=p).value
            assert abs(bound / expected[p] - 1) < 1e-9, (bound, expected[p], p)


def check_wide_kernels():
    """Kernels that take each branch of the convolution bound, against a fine grid of their symbol."""
    draw = np.random.default_rng(5)
    for rows, columns, k, stride in ((3, 4, 3, 1), (60, 55, 3, 1), (8, 8, 5, 2), (70, 60, 2, 1)):
        weight = torch.empty(rows, columns, k, k, dtype=torch.float64)
        fill(weight, "gaussian", draw)
        fold = weight if stride == 1 else polyphase_by_hand(weight, stride)
        symbol = torch.fft.fft2(fold, s=(19, 19)).permute(2, 3, 0, 1)  # another grid than the engine's
        truth = float(torch.linalg.svdvals(symbol)[..., 0].max())
        bound = norms.spectral_conv_norm(weight, stride=(stride, stride), dilation=(1, 1))
        assert sound(bound, truth), f"{weight.shape}: {bound} < {truth}"
        assert bound <= truth * 1.12, f"{weight.shape}: {bound} is loose for {truth}"


def polyphase_by_hand(weight, s):
    """Fold the phases of a stride into channels, written out."""
    out, ins, k, _ = weight.shape
    side = -(-k // s)
    folded = torch.zeros(out, ins * s * s, side, side, dtype=weight.dtype)
    for i in range(k):
        for j in range(k):
            phase = (i % s) * s + j % s
            folded[:, phase * ins : (phase + 1) * ins, i // s, j // s] = weight[:, :, i, j]
    return folded


def worst_polynomials():
    """One-channel kernels whose symbol peaks between the points of coarse grids."""
    for k in (2, 3, 4, 5):
        for shift in np.linspace(0, np.pi, 7):
            taps = torch.cos(torch.arange(k, dtype=torch.float64) * float(shift))
            weight = taps.reshape(1, 1, k).clone()
            w = torch.linspace(0, 2 * math.pi, 20001, dtype=torch.float64)
            phases = torch.exp(1j * w[:, None] * torch.arange(k))
            truth = float((phases @ taps.to(torch.complex128)).abs().max())
            bound = norms.spectral_conv_norm(weight, stride=(1,), dilation=(1,))
            assert sound(bound, truth), f"k={k}, shift={shift}: {bound!r} < {truth!r}"


def near_orthogonal():
    """Kernels whose Gram matrix is nearly a multiple of one: the cheap residual branch must pay for the rest."""
    for spread in (1e-3, 5e-3):
        for k in (2, 3):
            weight = torch.zeros(1, 1, k, dtype=torch.float64)
            weight[..., 0], weight[..., 1:] = 1.0, spread
            bound = norms.spectral_conv_norm(weight, stride=(1,), dilation=(1,))
            assert sound(bound, 1 + spread * (k - 1)), f"spread {spread}, k={k}: {bound!r}"
            assert bound <= 1.03 * (1 + spread * (k - 1)), "loose"


def run_oracles(first=None):
    """Run everything compactly, with no memory of earlier norms; `first` names what to begin with."""
    norms._CACHE.clear()
    for cached in (rules_pool._average_norm, rules_pool._adaptive_norm, rules_resize._resize_norm):
        getattr(cached, "cache_clear", int)()
    suite = {
        "polynomials": worst_polynomials,
        "orthogonal": near_orthogonal,
        "convs": lambda: check_convs(0, 80),
        "max pools": check_max_pools,
        "pools": check_pools,
        "structure": check_structure,
        "slopes": lambda: check_slopes((2.0,)),
        "reductions": lambda: check_norm_layers((2.0,)),
        "resizes": lambda: check_resizes((2.0,)),
        "softmax": lambda: check_softmax((3,)),
        "wide": check_wide_kernels,
    }
    for name in sorted(suite, key=lambda n: n != first):
        suite[name]()
