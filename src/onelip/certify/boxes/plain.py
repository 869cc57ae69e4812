"""From raw heads to a certificate, whatever network made them: checks and assembly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from onelip.certify.boxes.certificate import DetectionCertificate
from onelip.certify.boxes.judges import check_score
from onelip.certify.boxes.scene import Settings
from onelip.certify.boxes.sums import Constants
from onelip.certify.boxes.targets import checked_targets
from onelip.core import checks, errors
from onelip.models.decoding import postprocess
from onelip.models.detection import Detections, Raw, Target


def detection_from_raw(
    raw: Raw,
    targets: Sequence[Target] | None = None,
    *,
    size: Sequence[int],
    lipschitz: Any,
    logits: Constants | None = None,
    boxes: Constants | None = None,
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
        logits: constants of the logits alone, of all levels and of each, where they are known to be smaller.
        boxes: those of distances / kappa alone; with `kappa` both are given or none.
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

    Guarantee: sound if `lipschitz`, `logits` and `boxes` are constants of the network that made the heads.

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
    parts = _parts(logits, boxes, kappa, heads, constant)
    least = min([constant, *(c for part in parts if part for c in (part.joint, *part.levels.values()))])
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
        logits=parts[0],
        boxes=parts[1],
    )
    objects = None if targets is None else checked_targets(targets, heads, (height, width))
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


def _parts(
    logits: Constants | None, boxes: Constants | None, kappa: float | None, raw: Raw, lipschitz: float
) -> list[Constants | None]:
    """Checked constants of logits and boxes."""
    parts = [_part(name, part, raw, lipschitz) for name, part in (("logits", logits), ("boxes", boxes))]
    if (parts[1] is None) != (parts[0] is None or kappa is None):
        raise errors.InputError(
            errors.explain(
                "`logits` and `boxes` are not usable together",
                received=f"kappa={kappa}, {parts}",
                expected="with `kappa` both or none, without it no `boxes`",
            )
        )
    return parts


def _part(name: str, part: Constants | None, raw: Raw, lipschitz: float) -> Constants | None:
    """Checked constants, at least a thousandth of the joint one: the rounding of heads is in their units."""
    if part is None:
        return None
    strides = set(raw.strides.tolist())
    if unknown := set(part.levels) - strides:
        raise errors.InputError(
            errors.explain(
                f"`{name}` names strides that are not there",
                received=sorted(unknown),
                expected=sorted(strides),
            )
        )

    def known(what: str, value: float) -> float:
        return min(lipschitz, max(checks.number(what, value, low=0.0), lipschitz / 1000.0))

    levels = {float(s): known(f"{name}.levels[{s:g}]", value) for s, value in part.levels.items()}
    return Constants(known(f"{name}.joint", part.joint), levels)


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
