"""Certificates of classes against attacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..core.errors import InputError, explain
from .violation import Violation


def violations(certificate: Any, adversarial: Any, size: Tensor) -> Iterator[Violation]:
    """Images whose class changed within a certified radius.

    Args:
        certificate: a `ClassificationCertificate`.
        adversarial: an `AttackResult`.
        size: (E, B) norms of the perturbations.

    Raises:
        InputError: when the attack's clean predictions are not those of the certificate.
    """
    before = certificate.predicted.to(adversarial.clean_predictions.device)
    if not torch.equal(before, adversarial.clean_predictions):
        raise InputError(
            explain(
                "assert_sound: certificate and attack do not predict the same classes of the clean images",
                why="they are not about the same model, or a tie was decided by rounding",
                fix="attack with judge=certifier.model",
            )
        )
    now = adversarial.predictions.to(size.device)
    stable = certificate.stable_radius.to(size)
    towards = certificate.targeted.to(size)
    for e, b in (now != before.to(size.device)).nonzero().tolist():
        norm, limits = float(size[e, b]), (stable[b], towards[b, now[e, b]])
        for what, limit in zip(("radius", f"radius to class {int(now[e, b])}"), limits, strict=True):
            if not float(limit) <= norm:
                yield Violation(f"{what} of the class", e, b, float(limit), norm)
