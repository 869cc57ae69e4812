"""The front door: from a detector and images to a certificate of its detections, with one forward pass."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onelip.bounds import Bound
from onelip.bounds import lipschitz as prove
from onelip.certify.boxes.certificate import DetectionCertificate
from onelip.certify.boxes.judges import check_score
from onelip.certify.boxes.parts import part_constants, parts_of
from onelip.certify.boxes.plain import check_norm, detection_from_raw
from onelip.certify.boxes.sums import Constants
from onelip.certify.dense import ROUNDING
from onelip.certify.fingerprint import weights_hash
from onelip.core import checks, errors, runtime
from onelip.layers.fold import fold
from onelip.models.decoding import postprocess
from onelip.models.detection import Detector, Part, Raw, Target


class DetectionCertifier:
    """A detector made ready once, to certify many images: folded, in float64, with one bound for each image size.

    Args:
        model: a detector in eval mode that takes images in [0, 1]; it is not changed.
        threshold: of the scores; a detection's score is strictly above it.
        nms: IoU above which a box suppresses another of its class; the model's own by default.
        p: norm of the perturbation; 2.
        lipschitz: constant to use instead of proving one; the certificate then rests on it.
        inside: size of the region of an object relative to its box, in (0, 1], for statements about locations.

    Raises:
        TrainModeError: when any part of the model is in train mode.
        PrecisionError: when the model has half precision weights.
        InputError: when it is no detector, or an option is not usable.

    Example:
        >>> import onelip
        >>> model = onelip.models.create("fcos", classes=1, size="XS").eval()
        >>> certifier = DetectionCertifier(model)
        >>> [certifier(torch.rand(1, 3, 32, 32)).silent_radius.shape for _ in range(2)]
        [torch.Size([1]), torch.Size([1])]
    """

    def __init__(
        self,
        model: Detector,
        threshold: float = 0.5,
        *,
        nms: float | None = None,
        p: float = 2,
        lipschitz: Any = None,
        inside: float = 1.0,
    ) -> None:
        _check_model(model)
        self.p = check_norm(p)
        self.threshold = check_score(threshold, "threshold")
        self.nms = checks.number("nms", model.nms if nms is None else nms, low=0.0, high=1.0)
        self.inside = inside
        self._given = None if lipschitz is None else checks.lipschitz(lipschitz)
        folded = fold(model)
        assert isinstance(folded, Detector)
        self._unchecked: Detector | None = copy.deepcopy(model)
        self.weights_hash = weights_hash(folded)
        self.model: Detector = folded.double().eval()
        self._bounds: dict[tuple[int, ...], Bound] = {}
        self._constants: dict[tuple[int, ...], dict[str, Constants]] = {}

    def bound(self, size: tuple[int, int], *, in_channels: int) -> Bound | None:
        """The proven bound at one image size (h, w), or None when a constant was given."""
        if self._given is not None:
            return None
        key = (in_channels, *size)
        if key not in self._bounds:
            self._bounds[key] = prove(self.model, size, p=self.p, in_channels=in_channels)
        return self._bounds[key]

    def constants(self, size: tuple[int, int], *, in_channels: int) -> dict[str, Constants]:
        """Proven constants of logits, and of Lipschitz boxes, alone; none where one was given."""
        if self._given is not None:
            return {}
        key = (in_channels, *size)
        if key not in self._constants:
            self._constants[key] = part_constants(self.model, size, p=self.p, in_channels=in_channels)
        return self._constants[key]

    @property
    def device(self) -> torch.device:
        """Where the model is; images are moved there, and its heads to the CPU."""
        return next((tensor.device for tensor in self.model.state_dict().values()), torch.device("cpu"))

    def __call__(self, images: Tensor, targets: Sequence[Target] | None = None) -> DetectionCertificate:
        """Certify a batch of images.

        Args:
            images: (B, C, H, W) in [0, 1].
            targets: for each image a dict with boxes (G, 4) and labels (G,) int64, optional; G may be 0.
        """
        images = checks.precision("images", checks.images(images)).detach().to(self.device, torch.float64)
        size = (images.shape[-2], images.shape[-1])
        bound = self.bound(size, in_channels=images.shape[1])
        # A constant map has the constant 0; any larger one is sound too, and this one keeps all quotients finite.
        lipschitz = checks.lipschitz(max((self._given if bound is None else bound.value) or 0.0, 1e-30))
        raw, centre = self._forward(images)
        self._compare(images, raw)
        model, parts = self.model, self.constants(size, in_channels=images.shape[1])
        theta = model.threshold_logit(self.threshold)
        order = None if centre is None else model.temperature * torch.nn.functional.logsigmoid(centre)
        detections = postprocess(
            raw,
            theta,
            size,
            nms=self.nms,
            temperature=model.temperature,
            per_level=model.per_level,
            per_image=model.per_image,
            order=order,
        )
        return detection_from_raw(
            raw,
            targets,
            size=size,
            lipschitz=lipschitz,
            logits=parts.get("logits"),
            boxes=parts.get("boxes"),
            threshold=self.threshold,
            temperature=model.temperature,
            kappa=model.kappa if model.regression_kind == "lipschitz" else None,
            nms=self.nms,
            by_logit=centre is None,
            per_level=model.per_level,
            per_image=model.per_image,
            inside=self.inside,
            rounding=ROUNDING,
            detections=detections,
            images=images.cpu(),
            bound=bound,
            assumptions=_assumptions(bound),
            versions=runtime.versions(),
            weights_hash=self.weights_hash,
            date=runtime.now(),
        )

    @torch.no_grad()
    def _forward(self, images: Tensor) -> tuple[Raw, Tensor | None]:
        with runtime.exact_matmul(), torch.autocast(images.device.type, enabled=False):
            raw, centre = self.model.heads(images)
        if raw.logits.dtype != torch.float64 or raw.regression.dtype != torch.float64:
            raise errors.PrecisionError(
                errors.explain(
                    "certify.detection: the model does not answer in the precision of its input",
                    received=f"logits {raw.logits.dtype}, regression {raw.regression.dtype}",
                    expected="float64",
                    why="the rounding of the forward pass is only covered in float64",
                    fix="remove casts, as .float(), from the model's forward",
                )
            )
        return raw, centre

    @torch.no_grad()
    def _compare(self, images: Tensor, raw: Raw) -> None:
        """Check once that what is proven is what is decoded, and that the model as given answers like its copy."""
        model, self._unchecked = self._unchecked, None
        if model is None:
            return
        like = next((t for t in model.parameters() if t.is_floating_point()), torch.empty(0))
        with runtime.exact_matmul(), torch.autocast(images.device.type, enabled=False):
            own = model.raw(images.to(like.dtype))
            joint = self.model(images)
        _agree("folded float64 copy", own.logits.double(), raw.logits, 1e-3)
        _agree("folded float64 copy", own.regression.double(), raw.regression, 1e-3)
        classes = raw.logits.shape[-1]
        _agree("output of forward", joint[..., :classes], raw.logits, 1e-9)
        if self.model.regression_kind == "lipschitz":
            distances = (self.model.kappa * joint[..., classes:]).relu()
            _agree("output of forward", distances, raw.regression, 1e-9)
        if self._given is None and (names := parts_of(self.model)):
            with runtime.exact_matmul(), torch.autocast(images.device.type, enabled=False):
                parts = torch.cat([Part(self.model, name)(images) for name in names], 2)
            _agree("output of its parts", parts, joint, 1e-9)


def detection(
    model: Detector,
    images: Tensor,
    targets: Sequence[Target] | None = None,
    threshold: float = 0.5,
    *,
    nms: float | None = None,
    p: float = 2,
    lipschitz: Any = None,
    inside: float = 1.0,
) -> DetectionCertificate:
    r"""Certify the detections of a detector: one forward pass, bound included.

    The model is folded, copied to float64 and run once; the joint constant L of all that its forward returns is proven
    at the size of the images, and so are those of each level, and of logits and boxes, alone. All logits, and with a
    Lipschitz regression all distances over kappa, that an image within :math:`\|\delta\|_2 \le \epsilon` can have lie
    together within :math:`L \epsilon` of the clean ones, and each part within its own constant.

    Args:
        model: a detector in eval mode; it is not changed.
        images: (B, C, H, W) float32 or float64, RGB in [0, 1].
        targets: for each image a dict with boxes (G, 4) xyxy in pixels and labels (G,) int64 from 0; G may be 0.
        threshold: of the scores, in (0, 1).
        nms: IoU above which a box suppresses another of its class; the model's own by default.
        p: norm of the perturbation; 2.
        lipschitz: constant to use instead of proving one; the certificate then rests on it.
        inside: size of the region of an object relative to its box, in (0, 1], for statements about locations.

    Returns:
        The certificate: `new_detections`, `silent_radius`, `vanish_radius`, `label_radius`, `recall`, `precision`,
        `average_precision`, `figure`, `show`, `to_dict`, `save`.

    Guarantee: sound for the exact-arithmetic network, in the closed ball, under `certificate.assumptions`.

    Raises:
        TrainModeError: when any part of the model is in train mode.
        PrecisionError: for half precision weights or images.
        UnknownLayerError: when the model has a layer without a rule.
        InputError: for invalid images, targets or options.

    Example:
        >>> import onelip
        >>> _ = torch.manual_seed(0)
        >>> model = onelip.models.create("fcos", classes=1, size="XS").eval()
        >>> certificate = detection(model, torch.rand(2, 3, 32, 32), threshold=0.9)
        >>> certificate.new_detections([0.0, 0.1]).shape
        torch.Size([2, 2])

    See Also:
        DetectionCertifier: the same for many batches, folding and proving only once.
        onelip.certify.DetectionCurves: many certificates as one data set.
    """
    certifier = DetectionCertifier(model, threshold, nms=nms, p=p, lipschitz=lipschitz, inside=inside)
    return certifier(images, targets)


def _check_model(model: Any) -> None:
    if not isinstance(model, Detector):
        raise errors.InputError(
            errors.explain(
                "certify.detection: this is no detector",
                received=type(model).__name__,
                expected='a onelip.models.detection.Detector, as onelip.models.create("fcos", classes=1)',
                fix="certify.segmentation serves dense models; detection_from_raw takes the heads of any network",
            )
        )
    checks.eval_mode(model, "certify.detection")
    for name, tensor in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
            raise errors.PrecisionError(
                errors.explain(
                    f"certify.detection: {name} has a precision that cannot be certified",
                    received=tensor.dtype,
                    expected="torch.float32 or torch.float64",
                    why="rounding in half precision is as large as usual budgets",
                    fix="certify the float32 weights: model.float() before half() was applied",
                )
            )


def _agree(what: str, other: Tensor, own: Tensor, tolerance: float) -> None:
    difference = float((other - own).abs().max()) if other.shape == own.shape else float("nan")
    if not difference <= tolerance * float(own.abs().max()) + 1e-30:
        raise errors.IntegrityError(
            errors.explain(
                f"certify.detection: the {what} does not agree with the heads that are decoded",
                received=f"a largest difference of {difference:.3g}",
                expected="agreement up to rounding",
                why="the certificate would be about another function",
                fix="remove code that depends on the type of layers, weights or tensors",
            )
        )


def _assumptions(bound: Bound | None) -> tuple[str, ...]:
    given = ("the Lipschitz constant was given by the caller and not proven here",)
    return (
        *(given if bound is None else tuple(bound.assumptions)),
        "the guarantee is for the folded weights in exact arithmetic, at this image size",
        "heads were computed in float64 with TF32 off",
    )
