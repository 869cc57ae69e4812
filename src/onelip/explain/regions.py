"""What must change for a region of a segmentation to flip, and the proof of how much must."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from onelip.certify.budget import norms_of
from onelip.certify.dense import Certifier
from onelip.core.errors import BoundError, InputError, explain
from onelip.explain.classifier import labels, undisturbed
from onelip.explain.counterfactuals import NEARER
from onelip.explain.dense_result import RegionCounterfactual
from onelip.explain.dense_search import Proof, Walk, unproven
from onelip.explain.goals import Flat, Pixels

_NAME = "explain.region_counterfactual"


def region_counterfactual(
    model: nn.Module,
    x: Tensor,
    region: Tensor | None = None,
    to: Any = None,
    *,
    vanish: Any = None,
    overshoot: float = 1.0,
    steps: int = 200,
    box: bool = False,
    mask: Tensor | None = None,
    refine: int = 3,
    seed: int = 0,
    batch_size: int = 8,
) -> RegionCounterfactual:
    r"""The nearest image found in which a whole region has other classes, and how near one could be at all.

    Three questions: `region` alone: all its pixels leave the classes they have ("flip"); `region` and `to`: all of them
    get this class ("appear"); `vanish`: no pixel of the image, or of the region, has this class any more.

    Sphere tracing, bisection and refinement as `counterfactual` does, with the distance of the logits to the goal,
    :math:`d^2 = \sum_\omega (m_\omega)_+^2 / 2` over the margins that are still to be closed, and steps d / L.

    Args:
        model: a dense model, (B, C, H, W) to (B, K, H, W), in eval mode; it is not changed.
        x: (B, C, H, W) in [0, 1].
        region: (H, W) or (B, H, W) bool.
        to: the class wanted in the region, an int or (B,).
        vanish: the class that should vanish, an int or (B,).
        overshoot: 1: just across the boundary; t: `x + t (boundary - x)`.
        steps: cap on the steps of each tracing.
        box: keep images in [0, 1].
        mask: (H, W), (B, H, W), (B, 1, H, W) or (B, C, H, W), bool or 0 and 1: where images may change. A mask outside
            of the region tells what the model takes from its surroundings.
        refine: rounds of refinement.
        seed: of directions where the gradient is zero.
        batch_size: images searched at a time.

    Returns:
        `.images`, `.distance`, `.lower_bound`, `.gap`, `.crossed`, `.path`, `.predicted`, `.to` and more. A
        model without a proven bound is explained too; then `.lower_bound` is nan and `.refusal` says why.

    Guarantee: no image nearer than `lower_bound`, :math:`\sqrt{\sum_\omega r_\omega^2}`, is what was asked for,
        whatever the mask: :math:`L r_\omega` is the exact l2 distance of the logits of a pixel to its goal, no two
        pixels share a logit, and L is the constant of all logits jointly. Float64, rounded down, for exact arithmetic.

    Raises:
        InputError: images, regions, classes, masks or models that do not fit; a goal that is reached already.
        NonFiniteError: NaN in images, logits or gradients.
        TrainModeError: when any part of the model is in train mode.
        UnsoundError: a flip below the lower bound: a wrong constant, never expected.

    Example:
        >>> model = nn.Conv2d(2, 2, 1, bias=False).eval()
        >>> _ = model.weight.data.copy_(torch.eye(2)[..., None, None])
        >>> x = torch.tensor([0.6, 0.4]).reshape(1, 2, 1, 1).expand(1, 2, 1, 4)
        >>> found = region_counterfactual(model, x, torch.ones(1, 4, dtype=torch.bool))
        >>> round(found.distance.item(), 4), round(found.lower_bound.item(), 4)  # sqrt(4 * 0.2 ** 2 / 2)
        (0.2829, 0.2828)

    Source: the bound is that of `onelip.certify.segmentation`, for a region instead of the cheapest pixels.
    """
    walk = Walk(
        Flat(model, _NAME, 4, "(B, K, H, W)"),
        x,
        mask,
        overshoot=overshoot,
        steps=steps,
        box=box,
        refine=refine,
        seed=seed,
        batch_size=batch_size,
    )
    shape = _shape(walk.images, walk.outputs)
    goal = _goal(shape, walk.outputs, region, to, vanish)
    proof = _proof(model, walk.images, goal, batch_size)
    fields, boundary = walk.to(replace(goal, constant=proof.constant), proof)
    mode = "vanish" if vanish is not None else "flip" if to is None else "appear"
    return RegionCounterfactual(
        **fields,
        predicted=walk.outputs.reshape(-1, *shape).argmax(1),
        to=walk.answer(boundary).reshape(-1, *shape).argmax(1),
        region=goal.region & ~goal.reached_pixels(walk.outputs) if mode == "vanish" else goal.region,
        mode=mode,
        labels=goal.labels,
    )


def _shape(images: Tensor, logits: Tensor) -> tuple[int, ...]:
    """(K, H, W) of logits (B, KHW) of as many pixels as the images have."""
    height, width = images.shape[-2:]
    classes, rest = divmod(logits.shape[1], height * width)
    if rest or classes < 2:
        raise InputError(
            explain(
                f"{_NAME}: the model is no segmentation of these images",
                received=f"{logits.shape[1]} logits for {height} x {width} pixels",
                expected="K >= 2 logits for each pixel",
            )
        )
    return classes, height, width


def _goal(shape: tuple[int, ...], logits: Tensor, region: Any, to: Any, vanish: Any) -> Pixels:
    """The goal, checked: every image has a pixel that is not there yet."""
    batch, (_, height, width) = len(logits), shape
    everywhere = torch.ones(batch, height, width, dtype=torch.bool, device=logits.device)
    if (region is None and vanish is None) or (to is not None and vanish is not None):
        raise InputError(
            explain(
                f"{_NAME}: it is not clear what should change",
                received=f"region={'None' if region is None else 'given'}, to={to}, vanish={vanish}",
                expected="a region, a region and `to`, or `vanish`",
            )
        )
    where = everywhere if region is None else _region(region, everywhere)
    kind = torch.empty(batch, shape[0], device=logits.device)
    if to is None and vanish is None:
        classes = logits.reshape(-1, *shape).argmax(1)
    else:
        name = "to" if vanish is None else "vanish"
        wanted = labels(to if vanish is None else vanish, kind, f"{_NAME}: `{name}`")
        classes = wanted[:, None, None].expand(batch, height, width).clone()
    goal = Pixels(shape, 1.0, classes, where, to is not None)
    done = goal.reached(logits)
    if bool(done.any()):
        raise InputError(
            explain(
                f"{_NAME}: the goal is reached already",
                received=f"images {done.nonzero().flatten().tolist()[:8]}",
                expected="a pixel of the region that is not as asked for",
            )
        )
    return goal


def _region(region: Any, like: Tensor) -> Tensor:
    usable = isinstance(region, Tensor) and region.dtype == torch.bool
    if not usable or region.shape not in (like.shape, like.shape[1:]):
        received = f"{tuple(region.shape)}, {region.dtype}" if isinstance(region, Tensor) else repr(region)
        raise InputError(
            explain(
                f"{_NAME}: `region` does not fit", received=received, expected=f"bool {tuple(like.shape[1:])}"
            )
        )
    found: Tensor = region.to(like.device).expand(like.shape)
    if not bool(found.flatten(1).any(1).all()):
        raise InputError(explain(f"{_NAME}: `region` is empty", received="no pixel of an image"))
    return found


def _proof(model: nn.Module, images: Tensor, goal: Pixels, size: int) -> Proof:
    """Roots of the sums of the squared costs of all pixels over the joint constant."""
    lower = []
    try:
        with undisturbed():
            certifier = Certifier(model)
            for rows in torch.arange(len(images), device=images.device).split(size):
                proof = certifier(images[rows])
                costs = goal.of(rows).costs(proof.logits).flatten(1).square().sum(1)
                radii = norms_of(costs, lipschitz=proof.lipschitz, p=2.0, items=proof.logits[0].numel())
                lower.append((radii - proof.rounding).clamp_min(0.0))
    except BoundError as error:
        return unproven(images, error)
    return Proof(torch.cat(lower), proof.lipschitz, (*proof.assumptions, NEARER))
