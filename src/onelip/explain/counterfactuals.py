"""Counterfactuals: near images with another class, and the proof of how near there can be any."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onelip.attacks.projection import norms
from onelip.certify.labels import ClassificationCertificate
from onelip.core import checks
from onelip.core.errors import InputError, UnsoundError, explain
from onelip.explain.aims import Aim, Boundary
from onelip.explain.classifier import Classifier
from onelip.explain.result import Counterfactual
from onelip.explain.tracing import Search, pursue

_NAME = "explain.counterfactual"
NEARER = "a nearer counterfactual than the one found may exist, but none nearer than the lower bound"


def counterfactual(
    model: nn.Module,
    x: Tensor,
    to: Any = None,
    overshoot: float = 1.0,
    steps: int = 100,
    *,
    box: bool = False,
    mask: Tensor | None = None,
    refine: int = 10,
    seed: int = 0,
    batch_size: int = 128,
) -> Counterfactual:
    r"""The nearest image found that the model takes for another class, and how near one could be at all.

    Sphere tracing: from z the next point is :math:`z - (h / L) \nabla h / \|\nabla h\|`, with the margin h of the two
    classes that decide and the proven constant L of their difference. No such step can miss a crossing on its way, and
    it is recomputed with the best rival each time. Then bisection to the boundary along the straight way from x, and
    refinement: half way to the foot of the tangent plane of the boundary, tracing again, keeping what is nearer.

    Args:
        model: a classifier, (B, C, H, W) to (B, K), in eval mode; it is not changed. For a dense model, see
            `RegionLogits`.
        x: (B, C, H, W) in [0, 1].
        to: the class wanted, an int or (B,); None: any class but the predicted one.
        overshoot: 1: to the boundary and just across, by about 1e-5 of the largest logit, so that float32 agrees;
            t: `x + t (boundary - x)`.
        steps: cap on the steps of each tracing.
        box: keep images in [0, 1].
        mask: (H, W), (B, H, W), (B, 1, H, W) or (B, C, H, W), bool or 0 and 1: where images may change.
        refine: rounds of refinement.
        seed: of directions where the gradient is zero.
        batch_size: images searched at a time.

    Returns:
        `.images`, `.distance`, `.lower_bound`, `.gap`, `.crossed`, `.path` and more. A model without a proven bound is
        explained too; then `.lower_bound` is nan and `.refusal` says why.

    Guarantee: no image nearer than `lower_bound` has a prediction that was asked for: for any other class
        :math:`\min_j (f_y - f_j) / L_{yj}`, for the class t :math:`\max_k (f_k - f_t) / L_{kt}`; float64, rounded
        down, for exact arithmetic.

    Raises:
        InputError: images outside [0, 1], a class out of range or predicted already, a mask that does not fit, a
            model that is no classifier.
        NonFiniteError: NaN in images, logits or gradients.
        TrainModeError: when any part of the model is in train mode.
        UnsoundError: a flip below the lower bound: a wrong constant, never expected.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).eval()
        >>> _ = model[1].weight.data.copy_(torch.eye(2))
        >>> found = counterfactual(model, torch.tensor([0.6, 0.4]).reshape(1, 1, 1, 2))
        >>> round(found.distance.item(), 4), round(found.lower_bound.item(), 4), found.crossed.item()
        (0.1414, 0.1414, True)

    Source: the margin's gradient as a counterfactual: Serrurier et al., On the explainable properties of 1-Lipschitz
        neural networks, NeurIPS 2023; sphere tracing: Hart 1996; the refinement resembles SuperDeepFool, Abdollahpoor
        et al. 2023.
    """
    ready = Classifier(model, _NAME)
    far = checks.number("overshoot", overshoot, low=0.0)
    for name, value in (("steps", steps), ("refine", refine + 1), ("batch_size", batch_size)):
        checks.positive_int(name, value)
    images = ready.take(x)
    free = allowed(mask, images)
    logits = torch.cat([ready.logits(part) for part in images.split(batch_size)])
    ready.agrees(images[:batch_size], logits[:batch_size])
    aim, proof = _aim(ready, images, _wanted(ready, to, logits), logits, batch_size)
    lower = torch.full_like(aim.error, torch.nan) if proof is None else aim.lower(logits)
    boundary, found, path = pursue(
        Search,
        ready,
        images,
        aim,
        free,
        box=box,
        dtype=x.dtype,
        proven=proof is not None,
        steps=steps,
        refine=refine,
        seed=seed,
        batch_size=batch_size,
    )
    further = beyond(images, boundary, far, box).to(x.dtype)
    sound(ready, aim, images, boundary, found, lower)
    return Counterfactual(
        images=further,
        x=images.to(x.dtype),
        boundary=boundary.to(x.dtype),
        found=found,
        crossed=crossed(ready, aim, further.double(), batch_size),
        lower_bound=lower,
        path=path,
        predicted=aim.start,
        to=torch.cat([ready.logits(part).argmax(1) for part in boundary.split(batch_size)]),
        overshoot=far,
        assumptions=() if proof is None else (*proof.assumptions, NEARER),
        refusal=ready.refusal,
    )


def allowed(mask: Tensor | None, images: Tensor, caller: str = _NAME) -> Tensor:
    """(B, C, H, W) float64, 1 where images may change; a mask is checked, every image must keep a value to change."""
    if mask is None:
        return torch.ones_like(images)
    batch, channels, height, width = images.shape
    shapes = ((height, width), (batch, height, width), *((batch, c, height, width) for c in (1, channels)))
    usable = isinstance(mask, Tensor) and tuple(mask.shape) in shapes
    if not usable or not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError(
            explain(
                f"{caller}: `mask` does not fit",
                received=f"{tuple(mask.shape)}, {mask.dtype}" if isinstance(mask, Tensor) else repr(mask),
                expected=f"zeros and ones, {' or '.join(map(str, dict.fromkeys(shapes)))}",
            )
        )
    free = mask.to(images)
    free = (free[:, None] if free.dim() == 3 else free).expand(images.shape)
    empty = ~free.flatten(1).any(1)
    if bool(empty.any()):
        raise InputError(
            explain(
                f"{caller}: `mask` lets nothing change",
                received=f"no ones for the images {empty.nonzero().flatten().tolist()[:8]}",
            )
        )
    return free


def _wanted(ready: Classifier, to: Any, logits: Tensor) -> Tensor | None:
    if to is None:
        return None
    wanted = ready.classes(to, logits, "to")
    same = wanted == logits.argmax(1)
    if bool(same.any()):
        rows = same.nonzero().flatten().tolist()
        raise InputError(
            explain(
                f"{_NAME}: already in the target class",
                received=f"images {rows[:8]} predicted as {sorted(set(wanted[same].tolist()))[:8]}",
                expected="`to` other than the predicted class",
                fix="to=None asks for any other class",
            )
        )
    return wanted


def _aim(
    ready: Classifier, images: Tensor, to: Tensor | None, logits: Tensor, size: int
) -> tuple[Aim, ClassificationCertificate | None]:
    """The aim, with the constants of a certificate if there can be one."""
    start, classes = logits.argmax(1), logits.shape[1]
    proofs = []
    for part in images.split(size):
        proof = ready.certificate(part)
        if proof is None:
            unit = torch.ones(classes, classes, dtype=torch.float64, device=images.device)
            return Aim(start, to, unit, torch.zeros_like(logits[:, 0]), 0.0), None
        proofs.append(proof)
    error = torch.cat([proof.error for proof in proofs])
    rounding = max(proof.rounding for proof in proofs)
    return Aim(start, to, proofs[0].constants, error, rounding), proofs[0]


def beyond(images: Tensor, boundary: Tensor, far: float, box: bool) -> Tensor:
    """(B, C, H, W) images that are `far` times as far as the boundary."""
    if far == 1:
        return boundary
    found = images + far * (boundary - images)
    return found.clamp(0.0, 1.0) if box else found


def crossed(ready: Classifier, aim: Boundary, images: Tensor, size: int) -> Tensor:
    """(B,) bool: both the model as given and its float64 copy say what was wanted."""
    parts = []
    for rows in torch.arange(len(images), device=images.device).split(size):
        z, part = images[rows], aim.of(rows)
        parts.append(part.reached(ready.logits(z)) & part.reached(ready.answers(z)))
    return torch.cat(parts)


def sound(
    ready: Classifier, aim: Boundary, images: Tensor, boundary: Tensor, found: Tensor, lower: Tensor
) -> None:
    """Raise UnsoundError where a flip lies below its lower bound: some constant is wrong."""
    below = found & (norms(boundary - images, 2) < lower)
    if bool(below.any()):
        rows = below.nonzero().flatten()
        flipped = aim.of(rows).reached(ready.logits(boundary[rows]))
        raise UnsoundError(
            explain(
                f"{_NAME}: a counterfactual lies below the proven lower bound",
                received=f"{int(flipped.sum())} of {len(images)} images, first {int(rows[0])}",
                why="a Lipschitz constant is too small",
                fix="report this; onelip.testing.check_rule tells which rule registered by you is wrong",
            )
        )
