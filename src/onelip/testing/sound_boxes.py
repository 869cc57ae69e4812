"""Certificates of detections against attacks: what is proven, beside what is measured on the attacked heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InputError, explain
from .boxes import LOWEST, Attacked, average_precision
from .violation import Violation

CRITERIA = ("recall", "precision", "average_precision")
_ROUNDING = 1e-9


def violations(
    certificate: Any, adversarial: Any, size: Tensor, criteria: Sequence[str] | None = None
) -> Iterator[Violation]:
    """Everything that an attack did and a certificate of detections excludes.

    Args:
        certificate: a `DetectionCertificate`.
        adversarial: result of an attack on the same detector.
        size: (E, B) norms of the perturbations, measured.
        criteria: of "recall", "precision", "average_precision", over the batch; by default those that are certified.
    """
    norms = size.cpu()
    rows = [_row(certificate, heads) for heads in adversarial.outputs]
    claims = _counts(certificate, norms)
    for e, row in enumerate(rows):
        for b, image in enumerate(row):
            for what, (sign, proven, measure) in claims.items():
                most, measured = float(proven[e, b]), float(measure(image))
                if sign * measured > sign * most:  # nan where nothing is claimed
                    yield Violation(what, e, b, most, measured)
            yield from _radii(certificate, image, e, b, float(norms[e, b]))
    if certificate.targets is not None:
        yield from _batch(certificate, adversarial, rows, norms.amax(1), criteria)


def check_same(certificate: Any, adversarial: Any) -> None:
    """Raise InputError unless both are about one detector, the same images, targets and norm."""
    mine, clean = certificate.images, adversarial.clean.cpu().double()
    images = mine is not None and mine.shape == clean.shape and torch.equal(mine.double(), clean)
    logits = None if adversarial.outputs is None else adversarial.clean_outputs.logits.cpu().double()
    proven = certificate.raw.logits
    model = (
        logits is not None
        and logits.shape == proven.shape
        and torch.allclose(logits, proven, rtol=1e-3, atol=1e-3 * float(proven.abs().max()))
    )
    targets = certificate.targets is None or (
        len(certificate.targets) == len(adversarial.target or ())
        and all(
            torch.equal(a["labels"].cpu(), b["labels"].cpu())
            and torch.allclose(a["boxes"].cpu().double(), b["boxes"].cpu().double(), atol=1e-3)
            for a, b in zip(certificate.targets, adversarial.target, strict=True)
        )
    )
    norm = float(certificate.p) == float(adversarial.p)
    for same, what in ((images, "images"), (model, "detector"), (targets, "targets"), (norm, "norm p")):
        if not same:
            raise InputError(
                explain(
                    f"assert_sound: certificate and attack are not about the same {what}",
                    why="a comparison would mean nothing",
                    fix="attack the very images, targets and norm of the certificate, with judge=certifier.model",
                )
            )


def _row(certificate: Any, heads: Any, theta: float | None = None) -> list[Attacked]:
    """The attacked images of one eps, at the threshold and the limit of suppression of the certificate."""
    level = certificate.theta if theta is None else theta
    found = heads.at(level, nms=certificate.settings.nms).predictions()
    logits = heads.logits.detach().cpu().double()
    return [
        Attacked(
            scene, level, z, {k: v.cpu().double() if v.is_floating_point() else v.cpu() for k, v in f.items()}
        )
        for scene, z, f in zip(certificate.scenes, logits, found, strict=True)
    ]


Claim = tuple[float, Tensor, Callable[[Attacked], int]]


def _counts(certificate: Any, norms: Tensor) -> dict[str, Claim]:
    """Certified counts at the norm of each perturbation itself, (E, B); sign 1: at most so many, -1: at least."""
    values, index = norms.flatten().unique(return_inverse=True)
    image = torch.arange(norms.shape[1]).expand_as(norms)

    def at(call: Callable[..., Tensor], **options: Any) -> Tensor:
        table: Tensor = call(values.tolist(), **options).double()
        return table[index.reshape(norms.shape), image]

    free = certificate.settings.kappa is None
    found: dict[str, Claim] = {
        "number of new candidates": (1.0, at(certificate.new_detections), lambda a: int(a.fresh.sum())),
        "number of new labels": (1.0, at(certificate.relabelled), lambda a: a.relabelled()),
        "number of detections": (1.0, at(certificate.reported), lambda a: a.reported(free)),
    }
    if certificate.targets is not None:
        found |= {
            "number of new candidates outside": (
                1.0,
                at(certificate.new_detections, outside=True),
                lambda a: int((a.fresh & a.scene.outside).sum()),
            ),
            "number of objects found": (-1.0, at(certificate.found), lambda a: int(a.hit(free).sum())),
            "number of false alarms": (1.0, at(certificate.alarms), lambda a: a.alarms(free)),
        }
    return found


def _radii(certificate: Any, image: Attacked, e: int, b: int, norm: float) -> Iterator[Violation]:
    """Radii that an attack with this norm undercut."""
    claims = {
        "silent radius": (certificate.silent_radius[b], image.fresh.any()),
        "presence radius": (certificate.presence_radius[b], ~image.fires.any(0)),
    }
    if certificate.targets is not None:
        hit = image.hit(certificate.settings.kappa is None)
        claims |= {
            "alarm radius": (certificate.alarm_radius[b], (image.fresh & image.scene.outside).any()),
            "location radius": (certificate.location_radius[b], ~image.held),
            "vanish radius": (certificate.vanish_radius[b], ~hit),
            "label radius": (certificate.label_radius[b], image.taken()),
            "mislabel radius": (certificate.mislabel_radius[b], image.mislabelled()),
        }
    for what, (radii, lost) in claims.items():
        for radius, gone in zip(radii.reshape(-1).tolist(), lost.reshape(-1).tolist(), strict=True):
            if gone and norm < radius:
                yield Violation(what, e, b, radius, norm)


def _batch(
    certificate: Any,
    adversarial: Any,
    rows: Sequence[Sequence[Attacked]],
    norms: Tensor,
    criteria: Sequence[str] | None,
) -> Iterator[Violation]:
    """Shares over all images of an eps, certified at the largest of their norms."""
    eps, free = norms.tolist(), certificate.settings.kappa is None
    boxes = CRITERIA[1:] if certificate.settings.by_logit else CRITERIA[1:2]
    chosen = (CRITERIA[:1] if free else (CRITERIA[0], *boxes)) if criteria is None else tuple(criteria)
    if unknown := set(chosen) - set(CRITERIA):
        raise InputError(
            explain("assert_sound: unknown criteria", received=sorted(unknown), expected=", ".join(CRITERIA))
        )
    for name in chosen:
        proven = getattr(certificate, name)(eps).tolist()
        for e, row in enumerate(rows):
            measured = _measured(name, certificate, adversarial.outputs[e], row)
            if measured < proven[e] - _ROUNDING:
                yield Violation(f"{name} of the batch", e, 0, proven[e], measured)


def _measured(name: str, certificate: Any, heads: Any, row: Sequence[Attacked]) -> float:
    free = certificate.settings.kappa is None
    if name == "average_precision":
        low = min(certificate.theta, certificate.logit(LOWEST))
        return average_precision(_row(certificate, heads, low))
    hits = sum(int(a.hit(free).sum()) for a in row)
    whole = sum(len(a.scene.labels) for a in row) if name == "recall" else sum(a.reported(free) for a in row)
    return hits / whole if whole else float("nan")
