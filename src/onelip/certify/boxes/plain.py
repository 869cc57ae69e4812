"""From raw heads to a certificate, whatever network made them: checks and assembly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from onelip.certify.boxes.certificate import DetectionCertificate
from onelip.certify.boxes.judges import check_score
from onelip.certify.boxes.scene import Settings
from onelip.core import checks, errors
from onelip.models.decoding import postprocess
from onelip.models.detection import Detections, Raw, Target

BEYOND = 1.0
"""Pixels by which a box of an object may exceed the image: annotations are rounded."""


def detection_from_raw(
    raw: Raw,
    targets: Sequence[Target] | None = None,
    *,
    size: Sequence[int],
    lipschitz: Any,
    levels: Mapping[float, float] | None = None,
    threshold: float = 0.5,
    temperature: float = 1.0,
    kappa: float | None = None,
    nms: float = 0.6,
    by_logit: bool = True,
    per_level: int | None = 1000,
    per_image: int | None = 100,
    inside: float = 1.0,
    rounding: float = 0.0,
    detections: list[Detections] | None = None,
    assumptions: tuple[str, ...] = ("heads and their Lipschitz constant were given by the caller",),
    **facts: Any,
) -> DetectionCertificate:
    r"""Certify detections from the heads of a network: what `certify.detection` does after the forward pass.

    Args:
        raw: logits (B, N, K), distances (B, N, 4) in strides, locations (N, 2), strides (N,).
        targets: for each image a dict with boxes (G, 4) and labels (G,) int64; G may be 0.
        size: (h, w) of the images: boxes are clipped to it.
        lipschitz: joint l2 constant L of the map to all logits, with `kappa` to logits and distances / kappa.
        levels: constants of single levels by their stride, where they are known to be smaller.
        threshold: of the scores, in (0, 1).
        temperature: T in score = sigmoid(logit / T).
        kappa: scale of Lipschitz distances; None for a free regression.
        nms: IoU above which a box suppresses another of its class.
        by_logit: whether suppression goes by falling logit; False for an order that nothing is known about.
        per_level: candidates kept in each level (of equal stride), None for no cap.
        per_image: detections kept in each image, None for no cap.
        inside: size of the region of an object relative to its box, in (0, 1], for statements about locations.
        rounding: error of the heads in units of eps: added to every eps, taken from every radius.
        detections: clean detections, by default those of `onelip.models.decoding.postprocess`.
        assumptions: what the guarantee rests on, beyond what is added here.
        **facts: images, bound, versions, weights_hash and date of the certificate.

    Guarantee: sound if `lipschitz` and `levels` are constants of the network that made the heads.

    Raises:
        InputError: heads, targets or options are not usable.
        NonFiniteError: a logit, distance or box is NaN or infinite.

    Example:
        >>> at, s = torch.tensor([[4.0, 4.0], [12.0, 4.0]]), torch.tensor([8.0, 8.0])
        >>> raw = Raw(torch.tensor([[[0.3], [-0.4]]]), torch.full((1, 2, 4), 0.5), at, s)
        >>> objects = [{"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "labels": torch.tensor([0])}]
        >>> c = detection_from_raw(raw, objects, size=(8, 16), lipschitz=1.0, kappa=0.1)
        >>> round(c.vanish_radius[0].item(), 6), c.precision([0.2, 0.4]).tolist()
        (0.3, [1.0, 0.0])
    """
    heads = _heads(raw)
    area = checks.size(size)
    if len(area) != 2:
        raise errors.InputError(errors.explain("`size` is not a size", received=area, expected="(h, w)"))
    height, width = area
    constant = checks.lipschitz(lipschitz)
    score = check_score(threshold, "threshold")
    scale = checks.number("temperature", temperature, low=1e-12)
    theta = scale * torch.logit(torch.tensor(score, dtype=torch.float64)).item()
    bounded = heads.logits.flatten(1).square().sum(1)
    if kappa is not None:
        kappa = checks.number("kappa", kappa, low=1e-12)
        bounded = bounded + (heads.regression / kappa).flatten(1).square().sum(1)
    # What float64 may lose grows with the heads; 20 T is beyond every threshold that is used.
    largest = float(bounded.max().sqrt()) + abs(theta) + 20.0 * scale
    smaller = _levels(levels or {}, heads, constant)
    least = min([constant, *smaller.values()])
    error = checks.number("rounding", rounding, low=0.0) + 2.0**-40 * largest / least
    settings = Settings(
        lipschitz=constant,
        kappa=kappa,
        nms=checks.number("nms", nms, low=0.0, high=1.0),
        by_logit=by_logit,
        per_level=None if per_level is None else checks.positive_int("per_level", per_level),
        per_image=None if per_image is None else checks.positive_int("per_image", per_image),
        inside=_inside(inside),
        rounding=error,
        levels=smaller,
    )
    objects = None if targets is None else _objects(targets, heads, (height, width))
    return DetectionCertificate(
        raw=heads,
        size=(height, width),
        targets=objects,
        images=facts.pop("images", None),
        detections=_plain(heads, theta, (height, width), settings, scale)
        if detections is None
        else detections,
        threshold=score,
        theta=theta,
        temperature=scale,
        settings=settings,
        assumptions=(*assumptions, *_assumptions(settings)),
        **facts,
    )


def check_norm(p: Any) -> float:
    """Check the norm: 2."""
    if checks.norm(p) != 2.0:
        raise errors.InputError(
            errors.explain(
                "certify.detection: this norm is not supported",
                received=f"p={p!r}",
                expected="p=2",
                why="margins of logits and movements of boxes are added as squares",
            )
        )
    return 2.0


def _levels(levels: Mapping[float, float], raw: Raw, constant: float) -> dict[float, float]:
    """Checked constants of levels, at least a thousandth of the joint one: the rounding of heads is in their units."""
    strides = set(raw.strides.tolist())
    if unknown := set(levels) - strides:
        raise errors.InputError(
            errors.explain(
                "`levels` names strides that are not there",
                received=sorted(unknown),
                expected=sorted(strides),
            )
        )
    known = {float(s): checks.number(f"levels[{s:g}]", value, low=0.0) for s, value in levels.items()}
    return {s: min(constant, max(value, constant / 1000.0)) for s, value in known.items()}


def _inside(value: Any) -> float:
    share = checks.number("inside", value, low=0.0, high=1.0)
    if share == 0.0:
        raise errors.InputError(errors.explain("`inside` is zero", expected="a share in (0, 1]"))
    return share


def _heads(raw: Raw) -> Raw:
    """Heads in float64 on the CPU, checked."""
    z, r, points, strides = (t.detach().to("cpu", torch.float64) for t in raw)
    batch, count = (z.shape[0], z.shape[1]) if z.dim() == 3 else (0, 0)
    expected = ((batch, count, z.shape[-1]), (batch, count, 4), (count, 2), (count,))
    received = tuple(tuple(t.shape) for t in (z, r, points, strides))
    if not batch or not z.numel() or received != expected:
        raise errors.InputError(
            errors.explain(
                "`raw` has the wrong shapes",
                received=received,
                expected="logits (B, N, K), regression (B, N, 4), locations (N, 2), strides (N,)",
            )
        )
    for name, tensor in (("logits", z), ("regression", r), ("locations", points), ("strides", strides)):
        checks.finite(name, tensor)
    if max(float(z.abs().max()), float(r.max())) > checks.LARGEST_LOGIT:
        raise errors.InputError(
            errors.explain("`raw` is too large", expected=f"at most {checks.LARGEST_LOGIT:g} in size")
        )
    if bool((r < 0).any()) or bool((strides <= 0).any()):
        raise errors.InputError(
            errors.explain(
                "`raw` has negative distances or strides that are not positive",
                received=f"distances from {float(r.min()):.4g}, strides from {float(strides.min()):.4g}",
                expected="distances >= 0, strides > 0",
                why="a box of negative distances is inverted",
                fix="apply relu to the regression",
            )
        )
    return Raw(z, r, points, strides)


def _objects(targets: Sequence[Target], raw: Raw, size: tuple[int, int]) -> list[Target]:
    """Checked targets, boxes float64 on the CPU."""
    if isinstance(targets, Mapping) or not isinstance(targets, Sequence) or len(targets) != len(raw.logits):
        received = f"{len(targets)} entries" if isinstance(targets, Sequence) else type(targets).__name__
        raise errors.InputError(
            errors.explain(
                "`targets` does not fit the images",
                received=received,
                expected=f"a list of {len(raw.logits)} dicts, one for each image",
            )
        )
    return [_object(t, f"targets[{i}]", raw.logits.shape[-1], size) for i, t in enumerate(targets)]


def _object(target: Target, name: str, classes: int, size: tuple[int, int]) -> Target:
    fine = isinstance(target, Mapping) and {"boxes", "labels"} <= set(target)
    boxes, labels = (target["boxes"], target["labels"]) if fine else (torch.empty(0), torch.empty(0))
    if not fine or boxes.dim() != 2 or boxes.shape[1] != 4 or labels.shape != (len(boxes),):
        raise errors.InputError(
            errors.explain(
                f"`{name}` is no target",
                received=f"boxes {tuple(boxes.shape)}, labels {tuple(labels.shape)}"
                if fine
                else type(target).__name__,
                expected="a dict with boxes (G, 4) and labels (G,)",
                fix="an image without objects has boxes of shape (0, 4) and labels of shape (0,)",
            )
        )
    if labels.dtype != torch.int64:
        raise errors.InputError(
            errors.explain(
                f"`{name}` has labels of the wrong type", received=labels.dtype, expected="torch.int64"
            )
        )
    boxes, labels = boxes.detach().to("cpu", torch.float64), labels.detach().cpu()
    checks.finite(f"{name} boxes", boxes)
    wrong = (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        raise errors.InputError(
            errors.explain(
                f"`{name}` has labels outside the classes",
                received=sorted(set(labels[wrong].tolist()))[:8],
                expected=f"0..{classes - 1}",
            )
        )
    _check_boxes(boxes, name, size)
    return {"boxes": boxes, "labels": labels}


def _check_boxes(boxes: Tensor, name: str, size: tuple[int, int]) -> None:
    height, width = size
    limit = boxes.new_tensor([width, height, width, height]) + BEYOND
    inverted = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    beyond = ((boxes < -BEYOND) | (boxes > limit)).any(1)
    for bad, what, expected, fix in (
        (inverted, "a box without area", "x1 < x2 and y1 < y2", "drop it, or swap its corners"),
        (beyond, "a box outside the image", f"boxes within {size} (h, w)", "onelip.models.decoding.clip"),
    ):
        if bool(bad.any()):
            raise errors.InputError(
                errors.explain(
                    f"`{name}` has {what}", received=boxes[bad][0].tolist(), expected=expected, fix=fix
                )
            )


def _plain(
    raw: Raw, theta: float, size: tuple[int, int], settings: Settings, temperature: float
) -> list[Detections]:
    everything = raw.logits[0].numel()
    return postprocess(
        raw,
        theta,
        size,
        nms=settings.nms,
        temperature=temperature,
        per_level=settings.per_level or everything,
        per_image=settings.per_image or everything,
    )


def _assumptions(settings: Settings) -> tuple[str, ...]:
    kind = (
        "nothing is known about boxes: objects are found by locations inside them, before suppression"
        if settings.kappa is None
        else "boxes and suppression are those of exact arithmetic"
    )
    return (
        kind,
        f"every eps is enlarged and every radius reduced by {settings.rounding:.1e} for the rounding of the heads",
        "perturbations are measured by the l2 norm of the whole image with values in [0, 1]; the ball is closed",
    )
