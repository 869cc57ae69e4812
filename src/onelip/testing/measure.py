"""Measured lower bounds of Lipschitz constants, and a test that tries to falsify a registered rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..bounds import input_shape, lipschitz
from ..bounds.shapes import twin
from ..core import checks
from ..core.errors import TrainModeError, UnsoundError, explain
from ..core.runtime import generator

_STEPS = {torch.float64: (1e-4, 1e-2, 1.0, 10.0), torch.float32: (1e-1, 1.0, 10.0)}  # norms of what is added
_SCALES = (1e-2, 1.0, 30.0)


def lower_bound(
    model: nn.Module,
    size: Sequence[int],
    *,
    p: float = 2.0,
    seed: int = 0,
    iterations: int = 25,
    starts: int = 4,
    in_channels: int | None = None,
) -> float:
    """Measure how far a model can be made to move: a lower bound of its Lipschitz constant.

    max ||f(x + d) - f(x)||_p / ||d||_p over pairs found by power iteration on J^T J at several points x, J being the
    Jacobian of all outputs jointly (for p = 1 and infinity: Boyd's p-norm iteration).

    Args:
        model: any module in eval mode that keeps the images of a batch apart; it is not changed.
        size: (H, W), or the full shape of one input.
        p: 1, 2 or infinity.
        seed: of the points and directions.
        iterations: power iterations.
        starts: number of points, followed as one batch.
        in_channels: C, when it cannot be read off the model.

    Guarantee: a true lower bound up to rounding (float64 where the model allows it, and less what rounding may add):
        each figure is the quotient of a real pair. How close it comes to the constant is not guaranteed.

    Raises:
        TrainModeError: the model is in train mode.

    >>> layer = nn.Linear(2, 2, bias=False).eval()
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    >>> round(lower_bound(layer, (2,)), 6)
    3.0

    Source: power method; D. W. Boyd, The power method for l_p norms, 1974.
    """
    p = checks.norm(p)
    run, like = _prepare(model)
    shape = input_shape(model, size, in_channels)
    draw = generator(seed)
    x = torch.rand((starts, *shape), generator=draw, dtype=torch.float64)
    x[1::2] = torch.randn((starts, *shape), generator=draw, dtype=torch.float64)[1::2]
    x = x.to(like)
    v = _normed(torch.randn(x.shape, generator=draw, dtype=torch.float64).to(like), p)
    best = 0.0
    for _ in range(max(1, iterations)):
        best = max(best, _quotients(run, x, v, p))
        try:
            forward, backward = _jacobian(run, x)
            v = _steepest(backward(_dual(forward(v), p)), p)
        except RuntimeError:  # the code cannot be differentiated; pairs along the first direction remain
            break
        if not bool(v.any()):  # flat here: nothing moves to first order
            break
    return max(best, _quotients(run, x, v, p))


def check_rule(
    layer: nn.Module, size: Sequence[int], *, p: float = 2.0, seed: int = 0, trials: int = 20
) -> float:
    """Try to falsify the rule of a layer: measure pairs that move further than the bound allows.

    Random pairs, near pairs, single-entry, constant and sign differences at several scales, and power iteration.

    Args:
        layer: a layer (or model) in eval mode.
        size: (C, H, W), (H, W) or (N,), the shape of one input.
        p: the norm.
        seed: of the pairs.
        trials: pairs of each kind.

    Returns:
        The largest measured quotient over the bound, at most about one.

    Guarantee: a failure is proof that the rule is wrong (up to rounding); a pass proves nothing.

    Raises:
        UnsoundError: a pair moves further than the bound.

    >>> check_rule(nn.ReLU().eval(), (3, 4, 4)) <= 1
    True
    """
    claimed = lipschitz(layer, size, p=p).value
    run, like = _prepare(layer)
    measured = lower_bound(layer, size, p=p, seed=seed)
    for x, d in _pairs(input_shape(layer, size), seed, trials):
        measured = max(measured, _quotient(run, x.to(like), (x + d).to(like), p))
    slack = 1e-9 if like.dtype == torch.float64 else 1e-5
    if measured > claimed * (1 + slack) + 1e-12:
        raise UnsoundError(
            explain(
                f"the rule of {type(layer).__name__} is wrong: a pair of inputs moves further than it allows",
                received=f"a measured constant of {measured:.9g}",
                expected=f"at most the bound {claimed:.9g} (p={p:g})",
                why="every certificate that contains this layer would be wrong",
                fix="correct the constant that the rule passes to x.times",
            )
        )
    return measured / claimed if claimed > 0 else 0.0


def _prepare(model: nn.Module) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return the joint output of a copy of the model, in float64 if its code allows it, and a tensor of that type."""
    if any(module.training for module in model.modules()):
        raise TrainModeError(explain("the model is in train mode", fix="model.eval()"))
    tensors = [*model.parameters(), *model.buffers()]
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0, dtype=torch.float64))
    copied = twin(model)
    try:
        copied = copied.double()
        fixed = all(t.dtype == torch.float64 for m in copied.modules() if (t := _weight(m)) is not None)
        like64 = like.detach().new_empty(0, dtype=torch.float64)
    except (RuntimeError, TypeError, ValueError):
        fixed = False
    if not fixed:
        copied, like64 = twin(model), like.detach().new_empty(0, dtype=torch.float32)
    copied.requires_grad_(False)
    return (lambda x: _joint(copied(x))), like64


def _weight(module: nn.Module) -> Tensor | None:
    """Return an effective weight, computed now: some parametrisations fail, or fall back to float32, in float64."""
    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, Tensor) else None


def _joint(outputs: Any) -> Tensor:
    """Lay all output tensors of a model side by side, one row an image."""
    if isinstance(outputs, Tensor):
        return outputs.reshape(outputs.shape[0], -1)
    items = list(outputs.values()) if isinstance(outputs, dict) else list(outputs)
    return torch.cat([_joint(item) for item in items if item is not None], dim=1)


def _norm(x: Tensor, p: float) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x.flatten(1), ord=p, dim=1)
    return norms


def _normed(x: Tensor, p: float) -> Tensor:
    return x / _norm(x, p).clamp_min(1e-300 if x.dtype == torch.float64 else 1e-30).reshape(
        -1, *[1] * (x.dim() - 1)
    )


def _quotient(run: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, p: float) -> float:
    """Return the largest ||f(y) - f(x)|| / ||y - x|| of a batch of pairs, less what rounding may have added."""
    with torch.no_grad():
        fx, fy = run(x), run(y)
    rounding = 8 * torch.finfo(x.dtype).eps * (_norm(fx, p) + _norm(fy, p))
    moved, step = _norm(fy - fx, p) - rounding, _norm(y - x, p)
    quotients = torch.where(step > 0, moved / step, torch.zeros_like(step))
    return max(0.0, float(quotients.nan_to_num(nan=0.0).max()))


def _quotients(run: Callable[[Tensor], Tensor], x: Tensor, v: Tensor, p: float) -> float:
    return max(_quotient(run, x, x + h * v, p) for h in _STEPS[x.dtype])


def _jacobian(
    run: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return v -> J v and u -> J^T u at x."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        y = run(x)
        u = torch.zeros_like(y, requires_grad=True)
        pulled = (
            torch.autograd.grad(y, x, u, create_graph=True, allow_unused=True)[0] if y.requires_grad else None
        )

    def backward(w: Tensor) -> Tensor:
        if not y.requires_grad:
            return torch.zeros_like(x)
        pulled_back: Tensor | None
        pulled_back = torch.autograd.grad(y, x, w.reshape(y.shape), retain_graph=True, allow_unused=True)[0]
        return torch.zeros_like(x) if pulled_back is None else pulled_back

    def forward(v: Tensor) -> Tensor:
        if pulled is not None and pulled.requires_grad:
            try:  # J v is the derivative of u -> J^T u, against v
                found: Tensor = torch.autograd.grad(pulled, u, v, retain_graph=True)[0]
                return found
            except RuntimeError:  # an operation without second derivative
                pass
        h = 1e-5 if x.dtype == torch.float64 else 1e-2
        with torch.no_grad():
            return (run(x + h * v) - run(x - h * v)) / (2 * h)

    return forward, backward


def _dual(y: Tensor, p: float) -> Tensor:
    """Return the functional that norms y: <dual, y> = ||y||_p."""
    if p == 2:
        return y
    return y.sign() if p == 1 else _peak(y)


def _steepest(g: Tensor, p: float) -> Tensor:
    """Return the direction of norm one along which <g, .> is largest."""
    if p == 2:
        return _normed(g, 2.0)
    return _peak(g) if p == 1 else g.sign()


def _peak(x: Tensor) -> Tensor:
    """Keep the sign of the largest entry of each row, and nothing else."""
    flat = x.flatten(1)
    at = flat.abs().argmax(dim=1, keepdim=True)
    return torch.zeros_like(flat).scatter(1, at, flat.gather(1, at).sign()).reshape(x.shape)


def _pairs(shape: Sequence[int], seed: int, trials: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of points and differences, float64."""
    draw = generator(seed)
    full = (max(1, trials), *shape)
    for scale in _SCALES:
        x = scale * torch.randn(full, generator=draw, dtype=torch.float64)
        noise = torch.randn(full, generator=draw, dtype=torch.float64)
        yield x, scale * noise
        yield x, 1e-3 * scale * noise
        yield x, scale * _peak(noise)
        yield x, scale * noise.sign()
        yield x, scale * torch.ones(full, dtype=torch.float64)
        yield x, -2 * x
