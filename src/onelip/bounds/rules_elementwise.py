"""Rules of activations and arithmetic."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ..core.errors import UnknownLayerError, explain
from .norms import copies_factor
from .rules_linear import entries, scale_norm
from .sums import add
from .table import module_rule, operation
from .value import Value, join

# Suprema of |f'|, rounded up; each is checked against a fine grid in the tests.
_SLOPES = {
    "sigmoid": 0.25,
    "softplus": 1.0,
    "gelu": 1.12905,  # erf form 1.128904; tanh form 1.128836
    "silu": 1.09984,
    "mish": 1.08885,
    "hardswish": 1.5,
    "hardsigmoid": 1 / 6 + 1e-12,
    "tanh": 1.0,
    "softsign": 1.0,
    "logsigmoid": 1.0,
    "sin": 1.0,
    "cos": 1.0,
    "atan": 1.0,
    "selu": 1.0507009873554805 * 1.6732632423543772 + 1e-9,  # slope below zero, at zero from the left
}
_CONTRACTIONS = ("relu", "relu6", "abs", "hardtanh", "softshrink", "tanhshrink")


@operation(*_CONTRACTIONS, "relu_", "abs_", "hardtanh_", "relu6_", aliases=True)
def contraction(x: Value, *_: Any, **__: Any) -> Value:
    """Bound an elementwise map of slope at most one."""
    return x.times(1.0, because="slope at most 1")


def _slope(name: str) -> None:
    @operation(name, f"{name}_", aliases=True)
    def smooth(x: Value, *_: Any, **__: Any) -> Value:
        return x.times(_SLOPES[name], because=f"largest slope of {name}")


for _name in _SLOPES:
    _slope(_name)


@operation("softplus")
def softplus(x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    """Bound softplus: slope below one, but a jump where torch switches to the identity."""
    # The switch at beta x = threshold jumps down by log(1 + e^-threshold) / beta: not Lipschitz for small thresholds.
    if threshold < 20 or beta <= 0:
        raise UnknownLayerError(
            explain("softplus with this switch jumps", received=(beta, threshold), fix="threshold=20")
        )
    return x.times(1.0, because="largest slope of softplus")


@module_rule(nn.Softplus)
def softplus_module(layer: Any, x: Value) -> Value:
    """Bound nn.Softplus."""
    return softplus(x, layer.beta, layer.threshold)


_MODULES: dict[type, str] = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.Hardtanh: "hardtanh", nn.Tanh: "tanh", nn.Softsign: "softsign",
    nn.Softshrink: "softshrink", nn.Tanhshrink: "tanhshrink", nn.Sigmoid: "sigmoid",
    nn.GELU: "gelu", nn.SiLU: "silu", nn.Mish: "mish", nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid", nn.LogSigmoid: "logsigmoid", nn.SELU: "selu",
}  # fmt: skip


@module_rule(*_MODULES, aliases=True)
def activation_module(layer: Any, x: Value) -> Value:
    """Bound an activation module by the rule of its function."""
    from .table import OPERATIONS

    name = next(n for cls, n in _MODULES.items() if isinstance(layer, cls))
    result: Value = OPERATIONS[name].function(x)
    return result


@operation("leaky_relu", "leaky_relu_", aliases=True)
def leaky_relu(x: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    """Bound leaky ReLU: max(1, |slope|)."""
    return x.times(max(1.0, abs(negative_slope)), because="larger of the two slopes")


@module_rule(nn.LeakyReLU, aliases=True)
def leaky_relu_module(layer: Any, x: Value) -> Value:
    """Bound nn.LeakyReLU."""
    return leaky_relu(x, layer.negative_slope)


@operation("elu", "elu_", aliases=True)
def elu(
    x: Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0, inplace: bool = False
) -> Value:
    """Bound ELU: max(1, |alpha|); F.elu passes `inplace` third, which is harmless here."""
    slopes = max(1.0, abs(alpha)) * max(abs(float(scale)), 1.0) * max(abs(float(input_scale)), 1.0)
    return x.times(slopes, because="larger of the two slopes")


@module_rule(nn.ELU, nn.CELU, aliases=True)
def elu_module(layer: Any, x: Value) -> Value:
    """Bound nn.ELU; CELU has slope one, but grows without bound for a negative alpha."""
    if isinstance(layer, nn.CELU) and layer.alpha <= 0:
        raise UnknownLayerError(
            explain("CELU has no constant", received=f"alpha={layer.alpha}", expected="> 0")
        )
    slope = max(1.0, abs(layer.alpha)) if isinstance(layer, nn.ELU) else 1.0
    return x.times(slope, because="larger of the two slopes")


@operation("prelu", "_prelu_kernel")
def prelu(x: Value, weight: Any) -> Value:
    """Bound PReLU with a constant slope."""
    return x.times(max(1.0, scale_norm(_constant(weight))), because="larger of the two slopes")


@module_rule(nn.PReLU)
def prelu_module(layer: Any, x: Value) -> Value:
    """Bound nn.PReLU."""
    return prelu(x, layer.weight)


@operation("clamp", "clip", "clamp_", "clamp_min", "clamp_max", aliases=True)
def clamp(x: Value, min: Any = None, max: Any = None) -> Value:
    """Bound clamping to constant limits."""
    if isinstance(min, Value) or isinstance(max, Value):
        raise UnknownLayerError(
            explain("clamping to limits that depend on the input is not covered", fix="use maximum")
        )
    limits = [limit for limit in (min, max) if limit is not None]
    return x.times(math.prod(spread(x, limit) for limit in limits), because="slope at most 1")


def _check_dim(dim: Any, x: Value, name: str) -> int:
    if dim is None:
        raise UnknownLayerError(
            explain(f"{name} without a dimension mixes the images of a batch", fix="pass dim=1")
        )
    axis = int(dim) % len(x.shape)
    if axis == 0:
        raise UnknownLayerError(
            explain(f"{name} along the batch mixes images", received=f"dim={dim}", fix="dim >= 1")
        )
    return axis


@operation("softmax", "_softmax")
def softmax(x: Value, dim: Any = None, *_: Any, **__: Any) -> Value:
    """Bound softmax: its Jacobian diag(s) - s s^T has norm at most 1/2 for every p (Gao and Pavel, 2017)."""
    _check_dim(dim, x, "softmax")
    return x.times(0.5, because="Jacobian diag(s) - s s^T")


@operation("log_softmax", "_log_softmax")
def log_softmax(x: Value, dim: Any = None, *_: Any, **__: Any) -> Value:
    """Bound log-softmax over C entries: sqrt(C), 2 or max(1, C - 1) for p = 2, infinity, 1."""
    count = x.shape[_check_dim(dim, x, "log_softmax")]
    constant = {1.0: max(1.0, count - 1.0), 2.0: math.sqrt(count), math.inf: 2.0}[x.p]
    return x.times(constant * (1 + 1e-12), because=f"Jacobian I - 1 s^T over {count} entries")


@module_rule(nn.Softmax, nn.LogSoftmax, nn.Softmax2d)
def softmax_module(layer: Any, x: Value) -> Value:
    """Bound softmax modules."""
    dim = -3 if isinstance(layer, nn.Softmax2d) else layer.dim
    return (log_softmax if isinstance(layer, nn.LogSoftmax) else softmax)(x, dim)


def _constant(value: Any) -> Any:
    if isinstance(value, Value):
        raise UnknownLayerError(
            explain(
                "a product of two tensors that both depend on the input has no global constant",
                why="it grows with the values themselves (attention and gating are of this kind)",
                fix="use a layer with bounded slope, or register a rule for the whole block",
            )
        )
    return value


def spread(x: Value, other: Any) -> float:
    """Return the factor by which broadcasting x against a constant or another value repeats its entries."""
    shape = tuple(getattr(other, "shape", ()))
    out = tuple(torch.broadcast_shapes(x.shape, shape))
    batch = x.shape[0] if isinstance(other, Value) else 1
    if len(out) != len(x.shape) or (len(shape) == len(out) and shape[0] != batch):
        raise UnknownLayerError(
            explain("broadcasting mixes the images of a batch", received=(x.shape, shape))
        )
    return copies_factor(math.prod(out) / math.prod(x.shape), x.p)


@operation("mul", "imul", "multiply")
def mul(a: Any, b: Any) -> Value:
    """Bound a product with a constant number or tensor."""
    x, scale = (a, _constant(b)) if isinstance(a, Value) else (b, _constant(a))
    return x.times(scale_norm(scale) * spread(x, scale), because="largest |scale|")


@operation("div", "itruediv", "divide", "truediv", "true_divide")
def div(x: Any, divisor: Any, rounding_mode: Any = None) -> Value:
    """Bound a division by a constant."""
    if not isinstance(x, Value) or rounding_mode is not None:
        raise UnknownLayerError(
            explain("division by a tensor that depends on the input, or rounding, has no constant")
        )
    inverse = scale_norm(1.0 / entries(_constant(divisor)))
    return x.times(inverse * (1 + 1e-12) * spread(x, divisor), because="largest |1 / divisor|")


@operation("add", "iadd", "sub", "isub", "subtract", "rsub")
def add_or_sub(a: Any, b: Any, *, alpha: float = 1.0) -> Value:
    """Bound a sum or difference: constants shift, branches add up."""
    weight = max(1.0, abs(alpha))  # which side alpha scales differs between sub and rsub
    if isinstance(a, Value) and isinstance(b, Value):
        return add([(weight * spread(a, b), a), (weight * spread(b, a), b)])
    x, constant = (a, b) if isinstance(a, Value) else (b, a)
    return x.times(weight * spread(x, constant), because="a constant shift")


@operation("neg", "neg_", "pos", "negative", "real")
def negate(x: Value) -> Value:
    """Bound a change of sign."""
    return x.times(1.0, because="a change of sign")


@operation("lerp")
def lerp(a: Any, b: Any, weight: Any) -> Value:
    """Bound (1 - w) a + w b for a constant w."""
    w = float(_constant(weight))
    terms = [(f * spread(v, o), v) for f, v, o in ((1 - w, a, b), (w, b, a)) if isinstance(v, Value)]
    return add(terms, because="weighted sum")


@operation("maximum", "minimum", "max_pair", "fmax", "fmin")
def maximum(a: Any, b: Any) -> Value:
    """Bound an elementwise maximum or minimum: |max(a, b) - max(a', b')| <= max(|a - a'|, |b - b'|)."""
    if isinstance(a, Value) and isinstance(b, Value):
        if a.shape != b.shape:
            raise UnknownLayerError(
                explain("maximum with broadcasting is not covered", received=(a.shape, b.shape))
            )
        return join([a, b], because="elementwise maximum")
    x, constant = (a, b) if isinstance(a, Value) else (b, a)
    return x.times(spread(x, constant), because="slope at most 1")


@operation("where")
def where(condition: Any, a: Any, b: Any) -> Value:
    """Bound a selection by a constant mask."""
    if isinstance(condition, Value):
        raise UnknownLayerError(explain("a selection that depends on the input jumps and has no constant"))
    values = [v for v in (a, b) if isinstance(v, Value)]
    if any(v.shape != values[0].shape for v in values) or len(tuple(getattr(condition, "shape", ()))) > len(
        values[0].shape
    ):
        raise UnknownLayerError(explain("a selection with broadcasting is not covered"))
    other = b if isinstance(a, Value) else a
    factor = spread(values[0], condition) * (1.0 if len(values) == 2 else spread(values[0], other))
    return join(values, because="constant mask").times(factor, because="constant mask")
