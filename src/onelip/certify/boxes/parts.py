"""Proven constants of the parts of a detector: logits or boxes, of all levels or one."""

from __future__ import annotations

from onelip.bounds import lipschitz
from onelip.certify.boxes.sums import Constants
from onelip.models.detection import PARTS, Detector, Part


def parts_of(model: Detector) -> tuple[str, ...]:
    """The parts that its forward consists of; none where it is not the one of all detectors, made of them."""
    for name in ("forward", "bounded"):
        if getattr(getattr(model, name), "__func__", None) is not getattr(Detector, name):
            return ()
    return PARTS if model.regression_kind == "lipschitz" else PARTS[:1]


def part_constants(
    model: Detector, size: tuple[int, int], *, p: float, in_channels: int
) -> dict[str, Constants]:
    """Prove the constants of each part, of all levels together and of each level.

    Args:
        model: folded, in eval mode.
        size: (h, w) of the images.
        p: norm.
        in_channels: of the images.
    """

    def proven(part: str, levels: list[int] | None) -> float:
        return lipschitz(Part(model, part, levels), size, p=p, in_channels=in_channels).value

    return {
        part: Constants(
            proven(part, None), {float(s): proven(part, [index]) for index, s in enumerate(model.strides)}
        )
        for part in parts_of(model)
    }
