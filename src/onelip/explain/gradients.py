"""Saliency: the gradient of a logit."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from onelip.explain.classifier import Classifier


def saliency(model: nn.Module, x: Tensor, target: Any = None) -> Tensor:
    r"""Gradient :math:`\nabla_x f_t(x)` of the logit of a class.

    At the optimum of the optimal-transport loss the gradient has norm 1 and points along the transport of the image,
    from the other classes; of a trained model this holds as far as its loss is at the optimum. The gradient is signed:
    take `.abs()`, and the maximum over channels, for the usual picture.

    Args:
        model: a classifier, (B, C, H, W) to (B, K), in eval mode; neither it nor its `.grad` is changed. For a dense
            model, see `RegionLogits`.
        x: (B, C, H, W) in [0, 1].
        target: the class t, an int or (B,); None: the predicted class.

    Returns:
        (B, C, H, W) in the precision of x, on the device of the model; computed in float64 on a folded copy.

    Raises:
        InputError: images outside [0, 1], a class out of range, a model that is no classifier.
        NonFiniteError: NaN in images, logits or gradients.
        TrainModeError: when any part of the model is in train mode.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
        >>> found = saliency(model, torch.rand(2, 1, 2, 2), target=1)
        >>> torch.equal(found[0].flatten(), model[1].weight[1])
        True

    Source: Serrurier et al., On the explainable properties of 1-Lipschitz neural networks, NeurIPS 2023.
    """
    ready = Classifier(model, "explain.saliency")
    return gradient(ready, ready.take(x), target).to(x.dtype)


def gradient(ready: Classifier, x: Tensor, target: Any = None) -> Tensor:
    """(B, C, H, W) float64 gradient of a logit; images may be outside [0, 1]."""

    def weights(logits: Tensor) -> Tensor:
        chosen: Tensor = F.one_hot(ready.classes(target, logits, "target"), logits.shape[1]).to(logits)
        return chosen

    return ready.gradient(x, weights)[1]


__all__ = ["gradient", "saliency"]
