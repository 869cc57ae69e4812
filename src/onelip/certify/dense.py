"""The front door: from a model and images to a certificate, with one forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onelip.bounds import Bound
from onelip.bounds import lipschitz as prove
from onelip.certify.certificate import SegmentationCertificate
from onelip.certify.ready import FOLDED, GIVEN, RELATIVE, ROUNDING, Ready
from onelip.core import checks, runtime


class Certifier(Ready[nn.Module, Bound]):
    """A model made ready once, to certify many images: folded, in float64, with one bound for each image size.

    Args:
        model: a dense model in eval mode that takes images in [0, 1].
        p: 1, 2 or inf.
        lipschitz: constant to use instead of proving one.
        ignore_index: label of void pixels.

    Raises:
        TrainModeError: when any part of the model is in train mode.
        PrecisionError: when the model has half precision weights.

    Example:
        >>> import torch
        >>> certifier = Certifier(torch.nn.Conv2d(3, 4, 1).eval())
        >>> [certifier(torch.rand(1, 3, 8, 8)).radius_map.shape for _ in range(2)]
        [torch.Size([1, 8, 8]), torch.Size([1, 8, 8])]
    """

    caller = "certify.segmentation"

    def __init__(
        self, model: nn.Module, *, p: float = 2, lipschitz: Any = None, ignore_index: int = 255
    ) -> None:
        super().__init__(model, p=p, lipschitz=lipschitz)
        self.ignore_index = ignore_index

    def _prove(self, size: tuple[int, int], in_channels: int) -> Bound:
        return prove(self.model, size, p=self.p, in_channels=in_channels)

    def __call__(self, images: Tensor, target: Tensor | None = None) -> SegmentationCertificate:
        """Certify a batch of images.

        Args:
            images: (B, C, H, W) in [0, 1].
            target: (B, H, W) int64, optional.
        """
        images = self._images(images)
        bound = self.bound((images.shape[-2], images.shape[-1]), in_channels=images.shape[1])
        lipschitz = self._constant(None if bound is None else bound.value)
        logits = checks.logits(self._exact(self._run(self.model, images), "logits (B, K, H, W)"))
        if given := self._as_given(images):
            self._agree("the model", self._run(*given), logits)
        if target is not None:
            target = checks.target(target, logits, self.ignore_index).to(self.device)
        # Norms of logits beyond 1e5 L would need more than the absolute slack; then it grows with them.
        largest = float(torch.linalg.vector_norm(logits.flatten(1), dim=1).max())
        rounding = ROUNDING + RELATIVE * largest / lipschitz
        return SegmentationCertificate(
            images=images,
            logits=logits,
            target=target,
            lipschitz=lipschitz,
            bound=bound,
            p=self.p,
            ignore_index=self.ignore_index,
            rounding=rounding,
            assumptions=self._assumptions(bound, rounding),
            versions=runtime.versions(),
            weights_hash=self.weights_hash,
            date=runtime.now(),
        )

    def _assumptions(self, bound: Bound | None, rounding: float) -> tuple[str, ...]:
        return (
            *((GIVEN,) if bound is None else bound.assumptions),
            FOLDED,
            "logits were computed in float64 with TF32 off; every eps is enlarged and every radius reduced by "
            f"{rounding:.1e} for their rounding",
            f"perturbations are measured by the l{self.p:g} norm of the whole image with values in [0, 1]; "
            "the ball is closed",
        )


def segmentation(
    model: nn.Module,
    images: Tensor,
    target: Tensor | None = None,
    *,
    p: float = 2,
    lipschitz: Any = None,
    ignore_index: int = 255,
) -> SegmentationCertificate:
    r"""Certify the predictions of a dense model: one forward pass, bound included.

    The model is folded, copied to float64 and run once; its joint constant L is proven at the size of the images.
    All logits reachable by :math:`\|\delta\|_p \le \epsilon` lie within :math:`L \epsilon` of the clean ones.

    Args:
        model: a dense model in eval mode; it is not changed.
        images: (B, C, H, W) float32 or float64, RGB in [0, 1].
        target: (B, H, W) int64 labels, optional.
        p: 1, 2 or inf.
        lipschitz: constant to use instead of proving one; the certificate then rests on it.
        ignore_index: label of void pixels.

    Returns:
        The certificate: `curve`, `radius`, `radius_map`, `prediction`, `show`, `to_dict`, `save`.

    Guarantee: sound for the exact-arithmetic network, in the closed ball, under `certificate.assumptions`.

    Raises:
        TrainModeError: when any part of the model is in train mode.
        PrecisionError: for half precision weights or images.
        UnknownLayerError: when the model has a layer without a rule.
        InputError: for invalid images or labels.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Conv2d(3, 4, 1).eval()
        >>> certificate = segmentation(model, torch.rand(1, 3, 8, 8))
        >>> curve = certificate.curve(certificate.criteria[0], [0.0, 0.05, 10.0])
        >>> curve.certified[0].item(), curve.certified[2].item()
        (1.0, 0.0)

    See Also:
        Certifier: the same for many batches, folding and proving only once.
    """
    return Certifier(model, p=p, lipschitz=lipschitz, ignore_index=ignore_index)(images, target)
