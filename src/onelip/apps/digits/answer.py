"""What the demo says of an image of a digit: class, certificate, saliency, and the counterfactual to another class."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from onelip import explain
from onelip.certify import ClassificationCertifier
from onelip.core import errors
from onelip.core.numbers import round_down, round_up
from onelip.layers import fold
from onelip.models import LipModel

ZOOM = 8


class Answers:
    """A classifier of digits that explains itself.

    Args:
        model: images (B, 1, 28, 28) to logits (B, 10), in eval mode.

    Raises:
        InputError: a model of other images or classes.
    """

    def __init__(self, model: LipModel) -> None:
        if model.dense or model.classes != 10 or model.in_channels != 1:
            raise errors.InputError(
                errors.explain(
                    "the model is no classifier of digits",
                    received=f"{model.in_channels} channels, {model.classes} classes",
                    expected="1 channel, 10 classes",
                )
            )
        self.model = fold(model)
        self.certifier = ClassificationCertifier(self.model)

    def __call__(self, image: Tensor, to: int | None = None) -> dict[str, Any]:
        """Explain one image.

        Args:
            image: (1, 1, 28, 28) in [0, 1].
            to: the class that is asked for; None: whichever is nearest.

        Returns:
            JSON-ready: `predicted`, `logits`, `radius`, `runner_up`, pictures as data URIs, and `other` about the
            counterfactual: `to`, `distance`, `at_least`, `gap`, pictures. Proven numbers are rounded down.

        Raises:
            InputError: a class out of range, or the one that is predicted.
        """
        certificate = self.certifier(image)
        logits, predicted = certificate.logits[0], int(certificate.predicted[0])
        radii = certificate.radii[0]
        found = explain.counterfactual(self.model, image, to, box=True)
        far, least = float(found.distance[0]), float(found.lower_bound[0])
        gradient = explain.saliency(self.model, image, predicted)[0, 0]
        return {
            "predicted": predicted,
            "logits": [round(v, 4) for v in logits.tolist()],
            "radius": round_down(float(certificate.radius[0]), 3),
            "radii": [None if j == predicted else round_down(float(r), 3) for j, r in enumerate(radii)],
            "runner_up": int(radii.argmin()),
            "lipschitz": round_up(certificate.lipschitz, 4),
            "image": grey(image[0, 0]),
            "saliency": signed(gradient),
            "other": {
                "to": int(found.to[0]),
                "found": bool(found.found[0]),
                "distance": round_up(far, 3) if bool(found.found[0]) else None,
                "at_least": round_down(least, 3),
                "gap": round_up(far / least, 3) if bool(found.found[0]) and least > 0 else None,
                "image": grey(found.images[0, 0]),
                "change": signed(found.images[0, 0] - image[0, 0]),
                "beyond": grey(image[0, 0] + 4 * (found.images[0, 0] - image[0, 0])),
            },
            "assumptions": list(certificate.assumptions),
        }


def grey(image: Tensor) -> str:
    """An image (H, W) in [0, 1] as a data URI."""
    values = (image.double().clamp(0, 1) * 255).round().byte().cpu().numpy()
    return _uri(np.stack([values] * 3, -1))


def signed(values: Tensor) -> str:
    """Values (H, W) as a data URI: positive ones red, negative ones blue, zero white."""
    share = (values.double() / values.abs().max().clamp_min(1e-12)).cpu().numpy()
    fade = 1.0 - np.abs(share)
    red, blue = np.where(share > 0, 1.0, fade), np.where(share < 0, 1.0, fade)
    return _uri((np.stack([red, fade, blue], -1) * 255).round().astype(np.uint8))


def _uri(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    picture.resize((pixels.shape[1] * ZOOM, pixels.shape[0] * ZOOM), 0).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
