"""What must change for a detector to lose a box, to see one, or to call it something else, and how much must."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from onelip.certify.boxes.judges import check_score
from onelip.core.errors import InputError, explain
from onelip.explain.dense_result import BoxCounterfactual
from onelip.explain.dense_search import Walk
from onelip.explain.goals import Flat
from onelip.explain.questions import NAME, Question
from onelip.models.detection import Detections, Detector

_MODES = ("vanish", "appear", "relabel")


def box_counterfactual(
    model: Detector,
    x: Tensor,
    boxes: Any,
    mode: str = "vanish",
    *,
    label: Any = None,
    to: Any = None,
    threshold: float = 0.5,
    overshoot: float = 1.0,
    steps: int = 200,
    box: bool = False,
    mask: Tensor | None = None,
    refine: int = 3,
    seed: int = 0,
    batch_size: int = 8,
) -> BoxCounterfactual:
    r"""The nearest image found in which a detector finds something else at a box, and how near one could be at all.

    A class is found at a box when a location inside of it has a score strictly above the threshold, as in
    `DetectionCertificate.location_radius`. "vanish": no location finds the class any more; "appear": one location finds
    the class; "relabel": no location finds the class any more, and one finds another.

    Sphere tracing, bisection and refinement as `counterfactual` does, with the distance of the logits to the goal,
    :math:`d^2 = \sum_i (z_{iy} - \theta)_+^2 + \min_i (\theta - z_{it})_+^2`, each sum where it is asked for.

    Args:
        model: a detector in eval mode; it is not changed.
        x: (B, C, H, W) in [0, 1].
        boxes: (4,) or (B, 4) xyxy in pixels, one box an image.
        mode: "vanish", "appear" or "relabel".
        label: class found at the box now, an int or (B,); None: that of the highest logit in it.
        to: class that appears, an int or (B,); None: any, for "relabel" any other one.
        threshold: of the scores, in (0, 1).
        overshoot: 1: just across the boundary; t: `x + t (boundary - x)`.
        steps: cap on the steps of each tracing.
        box: keep images in [0, 1].
        mask: (H, W), (B, H, W), (B, 1, H, W) or (B, C, H, W), bool or 0 and 1: where images may change.
        refine: rounds of refinement.
        seed: of directions where the gradient is zero.
        batch_size: images searched at a time.

    Returns:
        `.images`, `.distance`, `.lower_bound`, `.gap`, `.crossed`, `.path`, `.before`, `.after`, `.overlap` and
        more. A model without a proven bound is explained too; then `.lower_bound` is nan and `.refusal` says why.

    Guarantee: no image nearer than `lower_bound` is what was asked for: for "vanish" `location_radius`, the root of the
        sum of the squared margins over the proven constants of the logits; for "appear" the cheapest single location,
        as for `alarm_radius`; for "relabel" `mislabel_radius`. Nothing is said about boxes of detections, which another
        location may put there. Float64, rounded down, for exact arithmetic.

    Raises:
        InputError: images, boxes, classes, masks or models that do not fit; a goal that is reached already, and for
            "vanish" and "relabel" a class that is not found.
        NonFiniteError: NaN in images, logits or gradients.
        TrainModeError: when any part of the model is in train mode.
        UnsoundError: a change below the lower bound: a wrong constant, never expected.

    Example:
        >>> import onelip, torch
        >>> _ = torch.manual_seed(0)
        >>> model = onelip.models.create("fcos", classes=1, size="XS").eval()
        >>> x, box = torch.rand(1, 3, 32, 32), torch.tensor([4.0, 4.0, 28.0, 28.0])
        >>> top = torch.sigmoid(model.raw(x).logits.max() / model.temperature).item()
        >>> found = box_counterfactual(model, x, box, "appear", threshold=0.5 + top / 2)
        >>> bool(found.crossed.all()), bool((found.gap >= 1).all())
        (True, True)

    Source: the bounds are those of `onelip.certify.detection`.
    """
    if mode not in _MODES:
        raise InputError(
            explain(f"{NAME}: `mode` is unknown", received=repr(mode), expected=", ".join(_MODES))
        )
    if not isinstance(model, Detector):
        raise InputError(
            explain(
                f"{NAME}: this is no detector",
                received=type(model).__name__,
                expected='a onelip.models.detection.Detector, as onelip.models.create("fcos", classes=1)',
                fix="for segmentation see onelip.explain.region_counterfactual",
            )
        )
    level = check_score(threshold, "threshold")
    walk = Walk(
        Flat(model, NAME, 3, "(B, N, K)"),
        x,
        mask,
        overshoot=overshoot,
        steps=steps,
        box=box,
        refine=refine,
        seed=seed,
        batch_size=batch_size,
    )
    question = Question(model, walk.images, walk.outputs, boxes, mode, label, to, level)
    proof = question.proof(walk.images, batch_size)
    fields, boundary = walk.to(replace(question.goal, constant=proof.constant), proof)
    like = next(model.parameters())

    def seen(images: Tensor) -> list[Detections]:
        return [d for part in images.split(batch_size) for d in model.detect(part.to(like), level)]

    return BoxCounterfactual(
        **fields,
        predicted=question.at(walk.outputs, question.label),
        to=question.at(walk.answer(boundary), None),
        boxes=question.boxes,
        mode=mode,
        threshold=level,
        before=seen(walk.images),
        after=seen(boundary),
    )
