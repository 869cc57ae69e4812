"""What `onelip attack` keeps of one attacked image of a detector, and what is certain about it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from onelip.apps.boxes.detections import LOW, stored
from onelip.attacks import AttackResult, BoxGoal, VanishBoxes
from onelip.certify import DetectionCertificate
from onelip.core import errors
from onelip.testing.boxes import Attacked

if TYPE_CHECKING:
    from onelip.apps.boxes.assault import AssaultBoxes

Record = dict[str, Any]


def proven(certificate: DetectionCertificate, run: AssaultBoxes) -> Record:
    """What is certain about one image at each eps: None where a cap could bind."""
    alarms = certificate.alarms(run.asked, run.iou)[:, 0].tolist()
    found = certificate.found(run.asked, run.iou)[:, 0].tolist()
    return {
        "free": certificate.settings.kappa is None,
        "found": [0 if math.isnan(n) else int(n) for n in found],
        "alarms": [None if math.isnan(n) else int(n) for n in alarms],
        "silent_radius": finite(float(certificate.silent_radius[0])),
    }


def measured(certificate: DetectionCertificate, heads: Any, iou: float) -> Record:
    """Detections above the low score, and what is counted by locations, of heads (1, N, K)."""
    nms = certificate.settings.nms
    low = min(LOW, certificate.threshold / 2)
    seen = heads.at(certificate.logit(low), nms=nms).predictions()[0]
    scene = certificate.scenes[0]
    here = Attacked(scene, certificate.theta, heads.logits[0].detach().cpu().double(), {}, iou)
    return {
        "seen": stored(seen),
        "located": int(here.held.sum()),
        "outside": int((here.fires & scene.outside).sum()),
    }


def by_eps(certificate: DetectionCertificate, found: AttackResult, iou: float) -> list[Record]:
    """What was measured at each eps."""
    assert found.outputs is not None, "detectors leave their heads"
    return [measured(certificate, heads, iou) for heads in found.outputs]


def attacked(certificate: DetectionCertificate, found: AttackResult, iou: float, seconds: float) -> Record:
    """What an attack did to one image."""
    return {
        "attacked": by_eps(certificate, found, iou),
        "norms": found.norms[:, 0].tolist(),
        "clean_score": finite(float(found.clean_scores[0])),
        "scores": [finite(s) for s in found.scores[:, 0].tolist()],
        "reached": found.success[:, 0].tolist(),
        "queries": found.queries,
        "seconds": seconds,
    }


def finite(value: float) -> float | str | None:
    """JSON of a number: None for nan, "inf" for no limit."""
    return None if math.isnan(value) else "inf" if math.isinf(value) else value


def shortest(
    certificate: DetectionCertificate, goal: BoxGoal, found: AttackResult, seconds: float
) -> Record | None:
    """The smallest perturbation that reached a goal, and the norm below which that is impossible.

    None where the goal is reached on the clean image, or undefined.

    Raises:
        UnsoundError: it is smaller than the certificate allows.
    """
    clean = found.clean_scores
    if bool(clean.isnan().any()) or bool(goal.reached(clean, clean).any()):
        return None
    radius, proven_ = float(found.radius[0]), bound(certificate, goal)
    if proven_ is not None and radius < proven_:
        raise errors.UnsoundError(
            errors.explain(
                f"{goal.name} was reached below its certified radius",
                received=f"{radius:.6g}, certified {proven_:.6g}",
                expected="no smaller perturbation than the certified one",
                fix="report it with the model and the image",
            )
        )
    return {"radius": finite(radius), "certified": proven_, "queries": found.queries, "seconds": seconds}


def bound(certificate: DetectionCertificate, goal: BoxGoal) -> float | None:
    """Norm below which a goal is certainly not reached; None where nothing is proven about it.

    All objects are lost no earlier than the last of them, which has the largest radius.
    """
    vanish = isinstance(goal, VanishBoxes) and goal.enough == 1.0
    if not vanish or goal.threshold != certificate.threshold:
        return None
    if goal.support == "location":
        radii = certificate.location_radius[0]
    elif certificate.settings.kappa is None:
        return None
    else:
        radii = certificate.vanish_radii(goal.iou)[0]
    radii = radii[~radii.isnan()]
    return float(radii.max()) if len(radii) else None
