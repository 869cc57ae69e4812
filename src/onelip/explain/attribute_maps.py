"""Attribution methods of captum: the front door."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from onelip.core import checks
from onelip.core.errors import InputError, MissingExtraError, explain
from onelip.core.runtime import exact_matmul
from onelip.explain.classifier import Classifier, RegionLogits, undisturbed
from onelip.explain.methods import METHODS, NAME, AttributionWarning, Call
from onelip.explain.scoring import baseline_images


def attribute(
    model: nn.Module,
    x: Tensor,
    target: Any = None,
    method: str = "saliency",
    *,
    region: Tensor | None = None,
    baseline: str | Tensor = "zero",
    samples: int = 50,
    std: float = 0.2,
    layer: str | None = None,
    window: int | None = None,
    seed: int = 0,
) -> Tensor:
    r"""Attribution maps of the logit of a class by captum, on a folded float64 copy of the model.

    Methods: "saliency" (the signed gradient), "input_x_gradient", "integrated_gradients", "smoothgrad" (mean of signed
    gradients at x + N(0, std^2)), "grad_cam", "occlusion" (drop of the logit), "deep_lift", "guided_backprop",
    "deconvolution", "lrp".

    Some say little about networks with sorting activations, and a warning says so: guided backpropagation and
    deconvolution change the gradient of ReLUs and of nothing else; DeepLift has no rule for sorting and takes the plain
    gradient there, so that its maps do not add up to the change of the logit; LRP has no rules for such layers, and is
    refused.

    Args:
        model: a classifier, (B, C, H, W) to (B, K), in eval mode; it is not changed. A dense model with `region`.
        x: (B, C, H, W) in [0, 1].
        target: the class, an int or (B,); None: the predicted one.
        method: one of the above.
        region: (H, W) bool: the mean logits over it, `RegionLogits`, make a classifier of a dense model.
        baseline: of "integrated_gradients", "deep_lift" and "occlusion", see `baseline_images`.
        samples: of "smoothgrad", and steps of "integrated_gradients".
        std: of the noise of "smoothgrad". captum's own defaults are 5 samples of deviation 1, which is pure noise here.
        layer: of "grad_cam", its name in the model; the last convolution by default.
        window: side of the squares of "occlusion", moved by half of it; an eighth of the image by default.
        seed: of the noise of "smoothgrad" and of the baseline "uniform".

    Returns:
        (B, C, H, W) in the precision of x; "grad_cam": (B, 1, H, W), not negative, enlarged to the image.

    Guarantee: none, attributions are heuristics; `deletion`, `mu_fidelity` and `lipschitz_efficiency` measure them.

    Warns:
        AttributionWarning: the method is the plain gradient on this model, or its maps are not complete.

    Raises:
        MissingExtraError: captum is not installed.
        InputError: an unknown method or layer; images, classes, regions that do not fit; a model without rules for
            "lrp".
        TrainModeError: when any part of the model is in train mode.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
        >>> x = torch.rand(2, 1, 2, 2)
        >>> from onelip.explain import saliency
        >>> torch.allclose(attribute(model, x, 1), saliency(model, x, 1))
        True

    Source: captum, Kokhlikyan et al. 2020. Methods: Simonyan 2014 (saliency), Sundararajan 2017 (integrated gradients),
        Smilkov 2017 (SmoothGrad), Selvaraju 2017 (Grad-CAM), Zeiler 2014 (occlusion, deconvolution), Shrikumar 2017
        (DeepLift), Springenberg 2015 (guided backpropagation), Bach 2015 (LRP).
    """
    if method not in METHODS:
        raise InputError(
            explain(f"{NAME}: `method` is unknown", received=repr(method), expected=", ".join(METHODS))
        )
    attr = _captum()
    ready = Classifier(model if region is None else RegionLogits(model, region), NAME)
    images = ready.take(x)
    logits = ready.logits(images)
    call = Call(
        model=ready.model,
        attr=attr,
        x=images,
        target=ready.classes(target, logits, "target"),
        baseline=baseline_images(images, baseline, seed=seed),
        samples=checks.positive_int("samples", samples),
        std=checks.number("std", std, low=0.0),
        seed=seed,
        layer=_layer(ready.model, layer) if method == "grad_cam" else None,
        window=None if window is None else checks.positive_int("window", window),
    )
    with undisturbed(), torch.enable_grad(), exact_matmul(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum's own, about hooks it sets and removes
        found, doubt = METHODS[method](call)
    if doubt:
        warnings.warn(doubt, AttributionWarning, stacklevel=2)
    return checks.finite("attributions", found.detach()).to(x.dtype)


def _layer(model: nn.Module, name: str | None) -> nn.Module:
    named: dict[str, nn.Module] = dict(model.named_modules())
    if name is None:
        found = [module for module in named.values() if isinstance(module, nn.Conv2d)]
        if found:
            last: nn.Module = found[-1]
            return last
    elif name in named and name:
        return named[name]
    raise InputError(
        explain(
            f"{NAME}: there is no such layer",
            received=repr(name) if name else "no convolution",
            expected="the name of a layer with outputs (B, C, h, w)",
            fix="layer=..., one of [name for name, _ in model.named_modules()]",
        )
    )


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError as error:
        raise MissingExtraError(
            explain(
                f"{NAME} needs the package captum",
                received="it is not installed",
                fix='pip install "onelip[explain]"',
            )
        ) from error
    return captum.attr
