"""The front door: from a model and images to a certificate, with one forward pass."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from onelip.bounds import Bound
from onelip.bounds import lipschitz as prove
from onelip.certify.certificate import SegmentationCertificate
from onelip.certify.fingerprint import weights_hash
from onelip.core import checks, errors, runtime
from onelip.layers.fold import fold

ROUNDING = 1e-7


class Certifier:
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

    def __init__(
        self, model: nn.Module, *, p: float = 2, lipschitz: Any = None, ignore_index: int = 255
    ) -> None:
        _check_model(model)
        self.p = checks.norm(p)
        self.ignore_index = ignore_index
        self._given = None if lipschitz is None else checks.lipschitz(lipschitz)
        folded = fold(model)
        self._unchecked: nn.Module | None = copy.deepcopy(model)
        self.weights_hash = weights_hash(folded)
        self.model = folded.double().eval()
        self._bounds: dict[tuple[int, ...], Bound] = {}

    def bound(self, size: tuple[int, int], *, in_channels: int) -> Bound | None:
        """The proven bound at one image size (h, w), or None when a constant was given."""
        if self._given is not None:
            return None
        key = (in_channels, *size)
        if key not in self._bounds:
            self._bounds[key] = prove(self.model, size, p=self.p, in_channels=in_channels)
        return self._bounds[key]

    @property
    def device(self) -> torch.device:
        """Where the model is; images and labels are moved there."""
        return next((tensor.device for tensor in self.model.state_dict().values()), torch.device("cpu"))

    def __call__(self, images: Tensor, target: Tensor | None = None) -> SegmentationCertificate:
        """Certify a batch of images.

        Args:
            images: (B, C, H, W) in [0, 1].
            target: (B, H, W) int64, optional.
        """
        images = checks.precision("images", checks.images(images)).detach().to(self.device, torch.float64)
        bound = self.bound((images.shape[-2], images.shape[-1]), in_channels=images.shape[1])
        lipschitz = self._constant(bound)
        logits = checks.logits(self._forward(images))
        self._compare(images, logits)
        if target is not None:
            target = checks.target(target, logits, self.ignore_index).to(self.device)
        # Norms of logits beyond 1e5 L would need more than the absolute slack; then it grows with them.
        largest = float(torch.linalg.vector_norm(logits.flatten(1), dim=1).max())
        rounding = ROUNDING + 2.0**-40 * largest / lipschitz
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

    def _constant(self, bound: Bound | None) -> float:
        value = self._given if bound is None else bound.value
        # A constant map has the constant 0; any larger one is sound too, and this one keeps all quotients finite.
        return checks.lipschitz(max(value or 0.0, 1e-30))

    @torch.no_grad()
    def _forward(self, images: Tensor) -> Tensor:
        with runtime.exact_matmul(), torch.autocast(images.device.type, enabled=False):
            logits = self.model(images)
        if not isinstance(logits, Tensor) or logits.dtype != torch.float64:
            raise errors.PrecisionError(
                errors.explain(
                    "certify.segmentation: the model does not answer in the precision of its input",
                    received=getattr(logits, "dtype", type(logits).__name__),
                    expected="a float64 tensor of logits (B, K, H, W)",
                    why="the rounding of the forward pass is only covered in float64",
                    fix="remove casts, as .float(), from the model's forward",
                )
            )
        return logits

    @torch.no_grad()
    def _compare(self, images: Tensor, logits: Tensor) -> None:
        """Check once that the model as given answers as its folded float64 copy does, up to float32 rounding.

        Code that looks at the type of its layers or tensors may compute something else after folding.
        """
        model, self._unchecked = self._unchecked, None
        if model is None:
            return
        like = next((t for t in model.parameters() if t.is_floating_point()), torch.empty(0))
        with runtime.exact_matmul(), torch.autocast(images.device.type, enabled=False):
            own = model(images.to(like.dtype)).double()
        difference = float((own - logits).abs().max())
        if not difference <= 1e-3 * float(logits.abs().max()) + 1e-30:
            raise errors.IntegrityError(
                errors.explain(
                    "certify.segmentation: the folded float64 copy answers differently from the model",
                    received=f"a largest difference of {difference:.3g}",
                    expected="agreement up to float32 rounding",
                    why="the certificate would be about another function",
                    fix="remove code that depends on the type of layers, weights or tensors",
                )
            )

    def _assumptions(self, bound: Bound | None, rounding: float) -> tuple[str, ...]:
        proof = (
            ("the Lipschitz constant was given by the caller and not proven here",)
            if bound is None
            else tuple(bound.assumptions)
        )
        return (
            *proof,
            "the guarantee is for the folded weights in exact arithmetic, at this image size",
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


def _check_model(model: nn.Module) -> None:
    checks.eval_mode(model, "certify.segmentation")
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
            raise errors.PrecisionError(
                errors.explain(
                    f"certify.segmentation: {name} has a precision that cannot be certified",
                    received=tensor.dtype,
                    expected="torch.float32 or torch.float64",
                    why="rounding in half precision is as large as usual budgets",
                    fix="certify the float32 weights: model.float() before half() was applied",
                )
            )
