"""From linear colours to the bytes of a picture: tone curve, noise, rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .sampling import Array

if TYPE_CHECKING:
    from .scene import Scene

_GAMMA = 1 / 1.12


def expose(image: Array, scene: Scene) -> NDArray[np.uint8]:
    """Return the bytes (H, W, 3) of `image` (H, W, 3) in [0, 1]: gamma 1/1.12 and Gaussian noise of 0.3-1.4 %."""
    rng = scene.rng("sensor")
    level = np.float32(rng.uniform(0.003, 0.014))
    toned = np.clip(image, 0, 1).astype(np.float32) ** np.float32(_GAMMA)
    toned += level * rng.standard_normal(toned.shape, np.float32)
    return np.asarray(np.clip(toned * 255 + 0.5, 0, 255), np.uint8)
