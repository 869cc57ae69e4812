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
    """Mean certified value over a data set.

    Attributes:
        criterion: name of the criterion.
        eps: (E,) float64.
        values: (E,) float64, certified means; nan when no image was defined.
        clean: mean clean value over the same images.
        count: images in the means.
        undefined: images left out because their value is undefined.
        average: "macro", the mean over images, or "micro", images weighted by the pixels that count.
        p: norm.
        higher_is_better: True when `values` are lower bounds, False when they are upper bounds.
        exact: True when the bound is attained in output space.
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

    @property
    def certified(self) -> Tensor:
        """The values, by the name that they have for single images."""
        return self.values

    def __repr__(self) -> str:
        pairs = "  ".join(
            f"{e:g}: {v:.4f}" for e, v in zip(self.eps.tolist(), self.values.tolist(), strict=True)
        )
        left_out = f", {self.undefined} undefined" if self.undefined else ""
        return (
            f"CertifiedCurve({self.criterion}, {self.average} over {self.count} images{left_out})\n"
            f"  clean {self.clean:.4f}; certified at eps (l{self.p:g})  {pairs}"
        )

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
        }
