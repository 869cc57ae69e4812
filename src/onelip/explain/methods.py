"""Attribution methods of captum, with the settings that make them what their papers mean, and warnings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onelip.core.errors import InputError, explain

NAME = "explain.attribute"
_INCOMPLETE = 0.01
_CHUNK = 128


class AttributionWarning(UserWarning):
    """An attribution method says less about this model than its name promises."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call: the folded model, checked images (B, C, H, W) float64, classes (B,) and options."""

    model: nn.Module
    attr: Any
    x: Tensor
    target: Tensor
    baseline: Tensor
    samples: int
    std: float
    seed: int
    layer: nn.Module | None
    window: int | None


Answer = tuple[Tensor, str]


def _saliency(call: Call) -> Answer:
    return call.attr.Saliency(call.model).attribute(call.x, target=call.target, abs=False), ""


def _input_x_gradient(call: Call) -> Answer:
    return call.attr.InputXGradient(call.model).attribute(call.x, target=call.target), ""


def _integrated_gradients(call: Call) -> Answer:
    method = call.attr.IntegratedGradients(call.model)
    found = method.attribute(
        call.x,
        baselines=call.baseline,
        target=call.target,
        n_steps=call.samples,
        internal_batch_size=max(_CHUNK, len(call.x)),
    )
    return found, _incomplete("integrated gradients", call, found, "take more samples")


def _smoothgrad(call: Call) -> Answer:
    if call.std == 0:
        return _saliency(call)
    torch.manual_seed(call.seed)
    method = call.attr.NoiseTunnel(call.attr.Saliency(call.model))
    found = method.attribute(
        call.x,
        nt_type="smoothgrad",
        nt_samples=call.samples,
        nt_samples_batch_size=max(1, _CHUNK // len(call.x)),
        stdevs=call.std,
        target=call.target,
        abs=False,
    )
    return found, ""


def _grad_cam(call: Call) -> Answer:
    method = call.attr.LayerGradCam(call.model, call.layer)
    found = method.attribute(call.x, target=call.target, relu_attributions=True)
    if found.dim() != 4:
        raise InputError(
            explain(
                f"{NAME}: the layer of Grad-CAM has no map",
                received=tuple(found.shape),
                expected="a layer with outputs (B, C, h, w)",
            )
        )
    return F.interpolate(found, call.x.shape[-2:], mode="bilinear", align_corners=False), ""


def _occlusion(call: Call) -> Answer:
    channels, height, width = call.x.shape[1:]
    side = min(call.window or max(1, math.ceil(min(height, width) / 8)), height, width)
    step = max(1, side // 2)
    method = call.attr.Occlusion(call.model)
    found = method.attribute(
        call.x,
        sliding_window_shapes=(channels, side, side),
        strides=(channels, step, step),
        baselines=call.baseline,
        target=call.target,
        perturbations_per_eval=max(1, _CHUNK // len(call.x)),
    )
    return found, ""


def _deep_lift(call: Call) -> Answer:
    found = call.attr.DeepLift(call.model).attribute(call.x, baselines=call.baseline, target=call.target)
    return found, _incomplete("DeepLift", call, found, "it has rules for ReLU, pooling and softmax alone")


def _guided_backprop(call: Call) -> Answer:
    found = call.attr.GuidedBackprop(call.model).attribute(call.x, target=call.target)
    return found, _plain("guided backpropagation", call)


def _deconvolution(call: Call) -> Answer:
    found = call.attr.Deconvolution(call.model).attribute(call.x, target=call.target)
    return found, _plain("deconvolution", call)


def _lrp(call: Call) -> Answer:
    from captum.attr._utils.lrp_rules import EpsilonRule

    for module in call.model.modules():
        if isinstance(module, nn.Flatten | nn.Identity):
            module.rule = EpsilonRule()  # captum has none; it hands relevance on
    try:
        return call.attr.LRP(call.model).attribute(call.x, target=call.target), ""
    except (TypeError, AssertionError, AttributeError, RuntimeError) as error:
        raise InputError(
            explain(
                f"{NAME}: LRP has no rules for this model",
                received=str(error).split("\n", maxsplit=1)[0][:200],
                expected="nothing but linear layers, ReLU, pooling, dropout and flattening, each used once",
                fix="integrated_gradients is complete for any model",
            )
        ) from error


METHODS: dict[str, Callable[[Call], Answer]] = {
    "saliency": _saliency,
    "input_x_gradient": _input_x_gradient,
    "integrated_gradients": _integrated_gradients,
    "smoothgrad": _smoothgrad,
    "grad_cam": _grad_cam,
    "occlusion": _occlusion,
    "deep_lift": _deep_lift,
    "guided_backprop": _guided_backprop,
    "deconvolution": _deconvolution,
    "lrp": _lrp,
}


def _incomplete(name: str, call: Call, found: Tensor, hint: str) -> str:
    """A warning where the sums of maps are far from the changes of the logits."""
    with torch.no_grad():
        both = [call.model(z).gather(1, call.target[:, None])[:, 0] for z in (call.x, call.baseline)]
    change = both[0] - both[1]
    error = (found.flatten(1).sum(1) - change).abs()
    worst = float((error / change.abs().clamp_min(1e-12)).max())
    if worst <= _INCOMPLETE:
        return ""
    return (
        f"{name}: the map of an image adds up to {100 * worst:.1f} % more or less than the change of its logit "
        f"({hint})"
    )


def _plain(name: str, call: Call) -> str:
    """A warning where there is no ReLU whose gradient the method could change, or other activations beside."""
    if not any(isinstance(module, nn.ReLU) for module in call.model.modules()):
        return f"{name} equals the plain gradient: the model has no ReLU, and nothing else is changed by it"
    other = {
        type(m).__name__
        for m in call.model.modules()
        if type(m).__module__.startswith("onelip.layers.activation")
    }
    return f"{name} changes the gradient of ReLUs alone, not of {', '.join(sorted(other))}" if other else ""
