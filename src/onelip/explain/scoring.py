"""Scores of perturbed images: baselines, the class whose score is taken, temperature."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onelip.attacks.projection import Noise
from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.explain.classifier import Classifier

BASELINES = ("zero", "uniform", "blur", "mean")
_BATCH = 256


def baseline_images(x: Tensor, baseline: str | Tensor = "zero", *, seed: int = 0) -> Tensor:
    """What removed pixels are replaced by, (B, C, H, W).

    Args:
        x: (B, C, H, W).
        baseline: "zero"; "uniform", noise in [0, 1], one draw an image; "blur", a Gaussian of a tenth of the image's
            side; "mean", of each channel; or a tensor that broadcasts to x.
        seed: of the noise.

    Raises:
        InputError: an unknown name, or a tensor that does not fit.

    Example:
        >>> baseline_images(torch.rand(2, 3, 4, 4), "mean").shape
        torch.Size([2, 3, 4, 4])
    """
    if isinstance(baseline, Tensor):
        try:
            return checks.finite("baseline", baseline.detach()).to(x).expand(x.shape)
        except RuntimeError as error:
            raise InputError(
                explain("`baseline` does not fit", received=tuple(baseline.shape), expected=tuple(x.shape))
            ) from error
    if baseline == "zero":
        return torch.zeros_like(x)
    if baseline == "mean":
        return x.mean((-2, -1), keepdim=True).expand(x.shape)
    if baseline == "uniform":
        draws = Noise(seed, 0, len(x)).draws
        noise = [torch.rand(x.shape[1:], generator=draw, dtype=torch.float64) for draw in draws]
        return torch.stack(noise).to(x)
    if baseline == "blur":
        return _blurred(x)
    raise InputError(
        explain(
            "`baseline` is unknown", received=repr(baseline), expected=f"{', '.join(BASELINES)}, or a tensor"
        )
    )


def _blurred(x: Tensor) -> Tensor:
    for axis in (-2, -1):
        sigma = max(1.0, x.shape[axis] / 10)
        half = min(int(3 * sigma + 0.5), x.shape[axis] - 1)
        t = torch.arange(-half, half + 1, dtype=x.dtype, device=x.device)
        kernel = torch.exp(-0.5 * (t / sigma) ** 2)
        kernel = (kernel / kernel.sum()).reshape(1, 1, *((-1, 1) if axis == -2 else (1, -1)))
        pad = (0, 0, half, half) if axis == -2 else (half, half, 0, 0)
        flat = F.pad(x.flatten(0, 1)[:, None], pad, mode="replicate")
        x = F.conv2d(flat, kernel).reshape(x.shape)
    return x


class Score:
    """The score of one class for each image: its logit, or its probability at a temperature."""

    def __init__(self, model: nn.Module, x: Tensor, target: Any, temperature: float | None, name: str):
        self.ready = Classifier(model, f"explain.{name}")
        self.x = self.ready.take(x)
        self.target = self.ready.classes(target, self.ready.logits(self.x), "target")
        self.temperature = None if temperature is None else checks.lipschitz(temperature, "temperature")

    def __call__(self, images: Tensor, rows: Tensor) -> Tensor:
        """(N,) float64 scores of images made from the given rows of x."""
        parts = []
        for part, row in zip(images.split(_BATCH), rows.split(_BATCH), strict=True):
            logits = self.ready.logits(part)
            if self.temperature is not None:
                logits = (logits * self.temperature).softmax(1)
            parts.append(logits.gather(1, self.target[row][:, None])[:, 0])
        return torch.cat(parts)


def calibrate(model: nn.Module, x: Tensor, confidence: float = 0.98) -> float:
    """Find the temperature at which the mean probability of the predicted class is as given: one for a model.

    Logits of 1-Lipschitz networks are of the order of 1, those of others of 10: probabilities, and areas under them,
    can be compared only after this. Use images of the training set.

    Args:
        model: a classifier in eval mode.
        x: (B, C, H, W) in [0, 1].
        confidence: mean largest probability wanted, above 1 / K and below 1.

    Returns:
        A factor t: `(t * logits).softmax(1)`.

    Raises:
        InputError: when no factor in [1e-6, 1e6] gives the confidence, as for logits that are all alike.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).eval()
        >>> _ = model[1].weight.data.copy_(torch.eye(2))
        >>> x = torch.tensor([0.75, 0.25]).reshape(1, 1, 1, 2)
        >>> round(calibrate(model, x, 0.9), 4)  # log(0.9 / 0.1) / 0.5
        4.3944
    """
    ready = Classifier(model, "explain.calibrate")
    logits = torch.cat([ready.logits(part) for part in ready.take(x).split(_BATCH)])
    wanted = checks.number("confidence", confidence, low=1 / logits.shape[1], high=1.0)

    def mean(exponent: float) -> float:
        return float((logits * 10.0**exponent).softmax(1).amax(1).mean())

    low, high = -6.0, 6.0
    if not mean(low) < wanted < mean(high):
        raise InputError(
            explain(
                "explain.calibrate: no temperature gives this confidence",
                received=f"confidence={wanted:g}, reached from {mean(low):.4g} to {mean(high):.4g}",
                expected="a confidence strictly between",
            )
        )
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) < wanted else (low, middle)
    return float(10.0**high)
