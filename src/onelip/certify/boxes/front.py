"""The front door: from a detector and images to a certificate of its detections, with one forward pass."""

from __future__ import annotations

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
from onelip.certify.ready import FOLDED, GIVEN, ROUNDING, Ready
from onelip.core import checks, errors, runtime
from onelip.models.decoding import postprocess
from onelip.models.detection import Detector, Part, Raw, Target


class DetectionCertifier(Ready[Detector, Bound]):
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

    caller = "certify.detection"

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
        _check_detector(model)
        super().__init__(model, p=check_norm(p), lipschitz=lipschitz)
        self.threshold = check_score(threshold, "threshold")
        self.nms = checks.number("nms", model.nms if nms is None else nms, low=0.0, high=1.0)
        self.inside = inside
        self._constants: dict[tuple[int, ...], dict[str, Constants]] = {}

    def _prove(self, size: tuple[int, int], in_channels: int) -> Bound:
        return prove(self.model, size, p=self.p, in_channels=in_channels)

    def constants(self, size: tuple[int, int], *, in_channels: int) -> dict[str, Constants]:
        """Proven constants of logits, and of Lipschitz boxes, alone; none where one was given."""
        if self._given is not None:
            return {}
        key = (in_channels, *size)
        if key not in self._constants:
            self._constants[key] = part_constants(self.model, size, p=self.p, in_channels=in_channels)
        return self._constants[key]

    def __call__(self, images: Tensor, targets: Sequence[Target] | None = None) -> DetectionCertificate:
        """Certify a batch of images.

        Args:
            images: (B, C, H, W) in [0, 1].
            targets: for each image a dict with boxes (G, 4) and labels (G,) int64, optional; G may be 0.
        """
        images = self._images(images)
        size = (images.shape[-2], images.shape[-1])
        bound = self.bound(size, in_channels=images.shape[1])
        lipschitz = self._constant(None if bound is None else bound.value)
        raw, centre = self._run(self.model.heads, images)
        self._exact(raw.logits, "logits (B, N, K)")
        self._exact(raw.regression, "distances (B, N, 4)")
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

    def _compare(self, images: Tensor, raw: Raw) -> None:
        """Check once that what is proven is what is decoded, and that the model as given answers like its copy."""
        given = self._as_given(images)
        if given is None:
            return
        own, joint = self._run(given[0].raw, given[1]), self._run(self.model, images)
        self._agree("the model", own.logits, raw.logits)
        self._agree("the model", own.regression, raw.regression)
        classes = raw.logits.shape[-1]
        self._agree("the output of forward", joint[..., :classes], raw.logits, 1e-9)
        if self.model.regression_kind == "lipschitz":
            distances = (self.model.kappa * joint[..., classes:]).relu()
            self._agree("the output of forward", distances, raw.regression, 1e-9)
        if self._given is None and (names := parts_of(self.model)):
            parts = torch.cat([self._run(Part(self.model, name), images) for name in names], 2)
            self._agree("the output of its parts", parts, joint, 1e-9)


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


def _check_detector(model: Any) -> None:
    if not isinstance(model, Detector):
        raise errors.InputError(
            errors.explain(
                "certify.detection: this is no detector",
                received=type(model).__name__,
                expected='a onelip.models.detection.Detector, as onelip.models.create("fcos", classes=1)',
                fix="certify.segmentation serves dense models; detection_from_raw takes the heads of any network",
            )
        )


def _assumptions(bound: Bound | None) -> tuple[str, ...]:
    return (
        *((GIVEN,) if bound is None else bound.assumptions),
        FOLDED,
        "heads were computed in float64 with TF32 off",
    )
