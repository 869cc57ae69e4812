"""The front door: from a classifier and images to a certificate of its classes, with one forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onelip.certify.labels.certificate import ClassificationCertificate
from onelip.certify.labels.pairs import PairBound, agree, check_logits, pair_bound, split_of
from onelip.certify.labels.radius import class_targets, pair_logits, pair_matrix
from onelip.certify.ready import FOLDED, GIVEN, RELATIVE, ROUNDING, Ready
from onelip.core import errors, runtime


class ClassificationCertifier(Ready[nn.Module, PairBound]):
    """A classifier made ready once, to certify many images: folded, in float64, with one bound for each image size.

    Args:
        model: a classifier in eval mode that takes images in [0, 1]; it is not changed.
        p: 1, 2 or inf.
        lipschitz: joint constant of all logits to use instead of proving constants of pairs; the certificate then
            rests on it.

    Raises:
        TrainModeError: when any part of the model is in train mode.
        PrecisionError: when the model has half precision weights.

    Example:
        >>> certifier = ClassificationCertifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval())
        >>> [certifier(torch.rand(2, 1, 4, 4)).radii.shape for _ in range(2)]
        [torch.Size([2, 3]), torch.Size([2, 3])]
    """

    caller = "certify.classification"

    def __init__(self, model: nn.Module, *, p: float = 2, lipschitz: Any = None) -> None:
        super().__init__(model, p=p, lipschitz=lipschitz)

    def _prove(self, size: tuple[int, int], in_channels: int) -> PairBound:
        return pair_bound(self.model, size, p=self.p, in_channels=in_channels)

    def __call__(self, images: Tensor, targets: Tensor | None = None) -> ClassificationCertificate:
        """Certify a batch of images.

        Args:
            images: (B, C, H, W) in [0, 1].
            targets: (B,) int64, optional; for a single logit 1 where it is positive, else 0.
        """
        images = self._images(images)
        raw = self._forward(images)
        logits = pair_logits(raw)
        if given := self._as_given(images):
            self._agree("the model", self._run(*given), raw)
        labels = None if targets is None else class_targets(targets, logits)
        bound = self.bound((images.shape[-2], images.shape[-1]), in_channels=images.shape[1])
        joint = self._constant(None if bound is None else bound.joint.value)
        constants = pair_matrix(joint if bound is None else bound.constants, logits, raw.shape[1], self.p)
        size = torch.linalg.vector_norm(raw, dim=1)
        if bound is not None and bound.features is not None:
            size = torch.maximum(size, self._scale(images, raw))
        # Exact logits move by joint times ROUNDING; where pairs move far less, that many logits still are in doubt.
        error = 0.01 * ROUNDING * joint + RELATIVE * size
        return ClassificationCertificate(
            images=images,
            logits=logits,
            targets=labels,
            constants=constants.clone().fill_diagonal_(0.0),
            lipschitz=joint,
            bound=bound,
            p=self.p,
            error=error,
            rounding=ROUNDING + RELATIVE * float(size.max()) / joint,
            assumptions=self._assumptions(bound),
            versions=runtime.versions(),
            weights_hash=self.weights_hash,
            date=runtime.now(),
        )

    def _forward(self, images: Tensor) -> Tensor:
        answer = check_logits(self._run(self.model, images), self.caller)
        logits = self._exact(answer, "logits (B, K)")
        if logits.shape[0] != images.shape[0]:
            raise errors.InputError(
                errors.explain(
                    f"{self.caller}: the model does not answer for each image",
                    received=f"{logits.shape[0]} rows of logits for {images.shape[0]} images",
                    expected="(B, K), one row an image",
                )
            )
        return logits

    def _scale(self, images: Tensor, logits: Tensor) -> Tensor:
        """(B,) size of what the last layer adds up; checks that features and last layer give these very logits."""
        parts = split_of(self.model)
        assert parts is not None
        features = self._run(parts[0], images)
        return self._run(lambda _: agree(logits, features, parts[1], self.caller), images)

    def _assumptions(self, bound: PairBound | None) -> tuple[str, ...]:
        if bound is None:
            proof: tuple[str, ...] = (GIVEN,)
        else:
            features = () if bound.features is None else bound.features.assumptions
            proof = tuple(dict.fromkeys((*bound.joint.assumptions, *features)))
        return (
            *proof,
            FOLDED,
            f"logits were computed in float64 with TF32 off; every radius is reduced by {ROUNDING:.1e}, and every "
            "difference of logits by their share of it, for their rounding",
            f"perturbations are measured by the l{self.p:g} norm of the whole image with values in [0, 1]; "
            "the ball is closed",
        )


def classification(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | None = None,
    *,
    p: float = 2,
    lipschitz: Any = None,
) -> ClassificationCertificate:
    r"""Certify the classes of images: one forward pass, bound included.

    The model is folded, copied to float64 and run once; for every pair of classes a constant :math:`C_{ij}` of
    :math:`f_i - f_j` is proven at the size of the images (see `pair_constants`). Class j cannot get as high as the
    predicted class y within :math:`(f_y - f_j) / C_{yj}`.

    Args:
        model: a classifier in eval mode, (B, C, H, W) to (B, K); it is not changed. With one logit the class is 1
            where it is positive and else 0, and the radius is its size over its constant.
        images: (B, C, H, W) float32 or float64, in [0, 1].
        targets: (B,) int64 labels, optional.
        p: 1, 2 or inf.
        lipschitz: joint constant of all logits to use instead of proving constants of pairs; the certificate then
            rests on it.

    Returns:
        The certificate: `radius`, `radii`, `targeted`, `runner_up`, `predicted`, `accuracy`, `stability`,
        `constants`, `show`, `to_dict`, `save`.

    Guarantee: sound for the exact-arithmetic network, in the closed ball, under `certificate.assumptions`.

    Raises:
        TrainModeError: when any part of the model is in train mode.
        PrecisionError: for half precision weights or images.
        UnknownLayerError: when the model has a layer without a rule.
        IntegrityError: when the model's features and last layer do not compute its logits.
        InputError: for invalid images or labels, and for a model whose outputs are not (B, K).

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).eval()
        >>> _ = model[1].weight.data.copy_(torch.eye(2))
        >>> certificate = classification(model, torch.tensor([0.6, 0.4]).reshape(1, 1, 1, 2), torch.tensor([0]))
        >>> round(certificate.radius.item(), 4)  # the distance to the boundary is 0.2 / sqrt(2)
        0.1414
        >>> certificate.accuracy([0.1, 0.2]).tolist()
        [1.0, 0.0]

    See Also:
        ClassificationCertifier: the same for many batches, folding and proving only once.
        onelip.metrics.CertifiedAccuracy: many certificates as one data set.
    """
    return ClassificationCertifier(model, p=p, lipschitz=lipschitz)(images, targets)
