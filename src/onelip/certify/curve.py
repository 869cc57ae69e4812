"""Certified values over eps: for the images of a batch, and averaged over a data set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor


def plain(values: Tensor) -> Any:
    """Nested lists with None for undefined values and text for infinities: strict JSON."""
    return _finite(values.tolist())


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


@dataclass(frozen=True, eq=False)
class ImageCurves:
    """Certified values of each image: `eps` (E,), `certified` (E, B), `clean` (B,), all float64."""

    criterion: str
    eps: Tensor
    certified: Tensor
    clean: Tensor
    p: float = 2.0
    higher_is_better: bool = True
    exact: bool = True

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content; undefined values are None."""
        return {
            "criterion": self.criterion,
            "eps": plain(self.eps),
            "certified": plain(self.certified),
            "clean": plain(self.clean),
            "p": _finite(self.p),
            "higher_is_better": self.higher_is_better,
            "exact": self.exact,
        }


@dataclass(frozen=True, eq=False)
class CertifiedCurve:
    """Certified value of a data set: the mean over its images (macro) beside one ratio of all pixels (micro).

    Attributes:
        criterion: name of the criterion.
        eps: (E,) float64.
        values: (E,) float64, certified values of the average asked for; nan when no image was defined.
        clean: clean value of the same average.
        count: images in the macro mean.
        undefined: images without a value of their own, left out of the macro mean. In the micro average they
            have no pixels, except in that of IoU and Dice, where an attack can give them some.
        average: "macro" or "micro": which of the two `values` and `clean` are.
        p: norm.
        higher_is_better: True when `values` are lower bounds, False when they are upper bounds.
        exact: True when the bound is attained in output space.
        macro: (E,) float64, mean over the images with a value.
        micro: (E,) float64, hits of all images over pixels of all images; None where there is no such average.
        clean_macro: clean value of the macro average.
        clean_micro: clean value of the micro average, or None.
    """

    criterion: str
    eps: Tensor
    values: Tensor
    clean: float
    count: int
    undefined: int
    average: str = "macro"
    p: float = 2.0
    higher_is_better: bool = True
    exact: bool = True
    macro: Tensor | None = None
    micro: Tensor | None = None
    clean_macro: float | None = None
    clean_micro: float | None = None

    @property
    def certified(self) -> Tensor:
        """The values, by the name that they have for single images."""
        return self.values

    def __repr__(self) -> str:
        left_out = f", {self.undefined} undefined" if self.undefined else ""
        lines = [f"CertifiedCurve({self.criterion}, {self.average} over {self.count} images{left_out})"]
        other = "macro" if self.average == "micro" else "micro"
        beside = (self.macro, self.clean_macro) if other == "macro" else (self.micro, self.clean_micro)
        for name, values, clean in ((self.average, self.values, self.clean), (other, *beside)):
            if values is not None and clean is not None:
                pairs = zip(self.eps.tolist(), values.tolist(), strict=True)
                shown = "  ".join(f"{e:g}: {v:.4f}" for e, v in pairs)
                lines.append(f"  {name}: clean {clean:.4f}; certified at eps (l{self.p:g})  {shown}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content; undefined values are None."""
        return {
            "criterion": self.criterion,
            "eps": plain(self.eps),
            "values": plain(self.values),
            "clean": _finite(self.clean),
            "count": self.count,
            "undefined": self.undefined,
            "average": self.average,
            "p": _finite(self.p),
            "higher_is_better": self.higher_is_better,
            "exact": self.exact,
            "macro": None if self.macro is None else plain(self.macro),
            "micro": None if self.micro is None else plain(self.micro),
            "clean_macro": None if self.clean_macro is None else _finite(self.clean_macro),
            "clean_micro": None if self.clean_micro is None else _finite(self.clean_micro),
        }
