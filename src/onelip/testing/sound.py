"""Certificates against attacks: no attack may do more than was proven to be impossible."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core import files
from ..core.errors import InputError, UnsoundError, explain
from . import sound_boxes, sound_labels
from .violation import Violation

_ROUNDING = 1e-12


def assert_sound(
    certificate: Any,
    adversarial: Any,
    criteria: Sequence[Any] | None = None,
    *,
    folder: str | Path | None = None,
) -> None:
    r"""Raise when any attack beats its certificate.

    Checked for every image and eps, with the norm n of the perturbation measured here: the image is in the box and in
    the ball; certified(n) <= attacked value of every criterion (>= for error rates); the attack did not make its own
    goal worse than on the clean image; :math:`\|f(x + \delta) - f(x)\|_p \le L n`; and where the goal has a criterion
    and a threshold, every success has n >= certified radius. Where a
    criterion is undefined (nan) on the clean image nothing is promised, and nothing is checked.

    For detections, whatever the goal of the attack was: the numbers of new candidates, detections, objects found and
    false alarms, every radius of an image and of an object, at the norm of the perturbation itself; recall, precision
    and average precision of the batch, at the largest norm of its images.

    For classifiers: every image whose class changed is at least as far away as its certified radius, and as that to the
    class it has become.

    Args:
        certificate: as of `onelip.certify.segmentation`, `classification` or `detection`.
        adversarial: an `AttackResult` on the same images, judged by the certificate's model in float64.
        criteria: what to compare; by default those of the certificate, and the goal's own. For detections names of
            "recall", "precision" and "average_precision".
        folder: where to save the offending image, should there be one.

    Guarantee: a failure is proof that a certificate is wrong (or that the attack attacked another model); a pass proves
        nothing.

    Raises:
        UnsoundError: with the figures of the worst contradiction and the file that holds its image.
        InputError: when both are not about the same images, labels and norm.

    Example:
        >>> from onelip import attacks, certify
        >>> _ = torch.manual_seed(0)
        >>> model, images, target = torch.nn.Conv2d(3, 2, 1).eval(), torch.rand(1, 3, 4, 4), torch.zeros(1, 4, 4).long()
        >>> adversarial = attacks.PGD(attacks.PixelErrors(), steps=3)(model, images, target, eps=[0.5])
        >>> assert_sound(certify.segmentation(model, images, target), adversarial)
    """
    if hasattr(certificate, "vanish_radius"):
        sound_boxes.check_same(certificate, adversarial)
        size = _norms(adversarial.images - adversarial.clean, adversarial.p)
        settings = certificate.settings
        found = [
            *_feasible(adversarial, size),
            *_moved(settings.lipschitz, settings.rounding, adversarial, size),
            *_scores(adversarial),
            *sound_boxes.violations(certificate, adversarial, size, criteria),
        ]
        if found:
            _fail(certificate, adversarial, found, size, folder)
        return
    _check_same(certificate, adversarial)
    if hasattr(certificate, "targeted"):
        size = _norms(adversarial.images - adversarial.clean, adversarial.p)
        found = [
            *_feasible(adversarial, size),
            *_moved(certificate.lipschitz, certificate.rounding, adversarial, size),
            *_scores(adversarial),
            *sound_labels.violations(certificate, adversarial, size),
        ]
        if found:
            _fail(certificate, adversarial, found, size, folder)
        return
    chosen = list(certificate.criteria if criteria is None else criteria)
    own = getattr(adversarial.goal, "criterion", None)
    if criteria is None and own is not None and own not in chosen:
        chosen.append(own)
    size = _norms(adversarial.images - adversarial.clean, adversarial.p)
    found = [
        *_feasible(adversarial, size),
        *_moved(certificate.lipschitz, certificate.rounding, adversarial, size),
        *_scores(adversarial),
        *(v for criterion in chosen for v in _values(certificate, adversarial, criterion, size)),
        *_radii(certificate, adversarial, size),
    ]
    if found:
        _fail(certificate, adversarial, found, size, folder)


def _norms(delta: Tensor, p: float) -> Tensor:
    """(E, B) l_p norms, float64."""
    found: Tensor = torch.linalg.vector_norm(delta.flatten(2).double(), ord=p, dim=2)
    return found


def _check_same(certificate: Any, adversarial: Any) -> None:
    """Both must be about the same images, labels and norm."""
    same_images = certificate.images.shape == adversarial.clean.shape and torch.equal(
        certificate.images.cpu().double(), adversarial.clean.cpu().double()
    )
    name = "targets" if hasattr(certificate, "targeted") else "target"
    mine, other = getattr(certificate, name), adversarial.target
    same_target = mine is None or other is None or torch.equal(mine.cpu(), other.cpu())
    same_norm = float(certificate.p) == float(adversarial.p)
    for same, what in ((same_images, "images"), (same_target, "labels"), (same_norm, "norm p")):
        if not same:
            raise InputError(
                explain(
                    f"assert_sound: certificate and attack are not about the same {what}",
                    why="a comparison would mean nothing",
                    fix="attack the very images, labels and norm of the certificate",
                )
            )


def _where(what: str, bad: Tensor, proven: Tensor, measured: Tensor) -> Iterator[Violation]:
    """A violation for every (eps, image) marked."""
    proven, measured = proven.expand(bad.shape), measured.expand(bad.shape)
    for e, b in bad.nonzero().tolist():
        yield Violation(what, e, b, float(proven[e, b]), float(measured[e, b]))


def _feasible(adversarial: Any, size: Tensor) -> Iterator[Violation]:
    eps = adversarial.eps.to(size)[:, None]
    yield from _where("norm of the perturbation", ~(size <= eps), eps, size)
    flat = adversarial.images.flatten(2)
    outside = torch.maximum(flat.amax(2) - 1.0, -flat.amin(2))
    yield from _where("distance from the unit box", ~(outside <= 0), torch.zeros_like(outside), outside)


def _moved(lipschitz: float, rounding: float, adversarial: Any, size: Tensor) -> Iterator[Violation]:
    limit = lipschitz * (size + rounding) * (1 + 1e-9)
    moved = adversarial.moved.to(limit)
    yield from _where("displacement of the logits", ~(moved <= limit), limit, moved)


def _scores(adversarial: Any) -> Iterator[Violation]:
    if getattr(adversarial, "control", False):  # noise chooses nothing
        return
    scores, clean = adversarial.scores, adversarial.clean_scores[None].expand_as(adversarial.scores)
    bad = ~(scores >= clean) & ~(scores.isnan() & clean.isnan())
    yield from _where(f"score of the goal {adversarial.goal.name}", bad, clean, scores)


def _values(certificate: Any, adversarial: Any, criterion: Any, size: Tensor) -> Iterator[Violation]:
    attacked = adversarial.values(criterion).to(size)
    certified = _certified(certificate, criterion, size)
    sign = 1.0 if criterion.higher_is_better else -1.0
    undefined = adversarial.clean_values(criterion).to(size)[None].isnan()
    promised = sign * certified > (
        0.0 if sign > 0 else -1.0
    )  # a value that is undefined after the attack breaks none
    fine = (sign * certified <= sign * attacked + _ROUNDING) | (attacked.isnan() & ~promised)
    bad = ~torch.where(certified.isnan(), undefined, fine)
    yield from _where(f"{criterion.name}", bad, certified, attacked)


def _certified(certificate: Any, criterion: Any, size: Tensor) -> Tensor:
    """(E, B) certified values at the norm of each perturbation itself: all norms in one call, then the own column."""
    values, index = size.flatten().unique(return_inverse=True)
    curve = certificate.curve(criterion, values.tolist()).certified.to(size)
    image = torch.arange(size.shape[1], device=size.device).expand_as(size)
    found: Tensor = curve[index.reshape(size.shape), image]
    return found


def _radii(certificate: Any, adversarial: Any, size: Tensor) -> Iterator[Violation]:
    """Every success of a goal with a criterion and a threshold is at least as far away as the certified radius."""
    goal = adversarial.goal
    criterion, threshold = getattr(goal, "criterion", None), getattr(goal, "threshold", None)
    if criterion is None or threshold is None:
        return
    radius = certificate.radius(criterion, threshold).to(size)[None].expand_as(size)
    bad = adversarial.success.to(size.device) & ~(radius <= size + _ROUNDING)
    yield from _where(f"radius of {criterion.name} at {threshold:g}", bad, radius, size)


def _fail(
    certificate: Any,
    adversarial: Any,
    found: Sequence[Violation],
    size: Tensor,
    folder: str | Path | None,
) -> None:
    """Save the first contradiction, and raise."""
    first = found[0]
    facts = {
        "what": first.what,
        "eps": float(adversarial.eps[first.eps]),
        "norm": float(size[first.eps, first.image]),
        "image": first.image,
        "proven": first.proven,
        "measured": first.measured,
        "p": str(adversarial.p),
        "lipschitz": float(getattr(certificate, "settings", certificate).lipschitz),
        "weights_sha256": str(getattr(certificate, "weights_hash", "")),
        "attack": adversarial.attack,
        "goal": adversarial.goal.name,
        "seed": adversarial.seed,
        "violations": len(found),
    }
    saved = "" if folder is None else f"; saved in {_save(adversarial, first, facts, Path(folder))}"
    raise UnsoundError(
        explain(
            f"an attack beats the certificate: {first.what} of image {first.image}{saved}",
            received=f"{first.measured:.9g} for a perturbation of norm {facts['norm']:.6g} (p={adversarial.p:g})",
            expected=f"on the safe side of the proven {first.proven:.9g}",
            why=f"{len(found)} contradictions in all: a rule or a certificate is wrong, or another model was attacked",
            fix="attack with judge=certifier.model; if it remains, report it with the file",
        )
    )


def _save(adversarial: Any, first: Violation, facts: dict[str, Any], folder: Path) -> Path:
    """Write the images and the figures of a contradiction."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "adversarial": adversarial.images[first.eps, first.image],
        "clean": adversarial.clean[first.image],
        **_named("prediction", adversarial.predictions[first.eps][first.image]),
    }
    if adversarial.target is not None:
        arrays |= _named("target", adversarial.target[first.image])
    path = folder / "unsound.npz"
    np.savez_compressed(path, **{name: value.cpu().numpy() for name, value in arrays.items()})
    finite = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()}
    files.write_json(folder / "unsound.json", finite)
    return path


def _named(name: str, value: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One array, or those of a dictionary with boxes."""
    return {name: value} if isinstance(value, Tensor) else {f"{name}_{k}": v for k, v in value.items()}
