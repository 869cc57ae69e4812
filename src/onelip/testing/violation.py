"""One contradiction between a certificate and an attack."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """One contradiction: what was proven for image `image` in the ball of `eps`, and what an attack measured."""

    what: str
    eps: int
    image: int
    proven: float
    measured: float
