"""The certificate of a batch of images: everything that is proven about their predictions."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from onelip.certify.components import Components, component_radius
from onelip.certify.costs import top_two
from onelip.certify.count import PixelAccuracy, Stability
from onelip.certify.criterion import Criterion, Eps
from onelip.certify.curve import ImageCurves, plain
from onelip.certify.pixel import pixel_radius
from onelip.core import checks, files
from onelip.core.numbers import round_down, round_up

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onelip.bounds import Bound


@dataclass(frozen=True, eq=False, repr=False)
class SegmentationCertificate:
    r"""What no perturbation of a given norm can do to the predictions of a dense model.

    Made by `onelip.certify.segmentation`. All tensors are float64 and on the device of the model.

    Attributes:
        images: (B, C, H, W) in [0, 1].
        logits: (B, K, H, W), of the folded model in float64.
        target: (B, H, W) int64, or None.
        lipschitz: joint constant L of the map of logits at this size.
        bound: how L was proven, or None when it was given.
        p: norm of the perturbation.
        ignore_index: label of void pixels.
        rounding: added to every eps and taken from every radius: covers the float64 rounding of the forward pass.
        assumptions: what the guarantee rests on.
        versions: versions of the packages that computed it.
        weights_hash: SHA-256 of the folded weights.
        date: UTC time.

    Guarantee: `curve` and `radius` are sound bounds for the exact-arithmetic network with these weights, in the
    closed l_p ball around these very images, under `assumptions`.

    Example:
        >>> from onelip.certify import segmentation
        >>> certificate = segmentation(torch.nn.Conv2d(3, 4, 1).eval(), torch.rand(2, 3, 8, 8))
        >>> certificate.radius(Stability(), threshold=0.9).shape, certificate.to_dict()["size"]
        (torch.Size([2]), [8, 8])
    """

    images: Tensor
    logits: Tensor
    target: Tensor | None
    lipschitz: float
    bound: Bound | None
    p: float
    ignore_index: int
    rounding: float
    assumptions: tuple[str, ...]
    versions: dict[str, str] = field(default_factory=dict)
    weights_hash: str = ""
    date: str = ""

    @cached_property
    def prediction(self) -> Tensor:
        """(B, H, W) int64: predicted class, the lowest index of a tie."""
        return top_two(self.logits)[2]

    @cached_property
    def radius_map(self) -> Tensor:
        """(B, H, W): certified radius of each pixel; 0 where wrong and nan where void, when there is a target."""
        radius = pixel_radius(
            self.logits, self.target, lipschitz=self.lipschitz, p=self.p, ignore_index=self.ignore_index
        )
        return (radius - self.rounding).clamp_min(0.0)

    def curve(self, criterion: Criterion, eps: Eps) -> ImageCurves:
        """Certified values for each eps and image.

        Args:
            criterion: as `PixelAccuracy()`.
            eps: sizes of the perturbation in l_p norm.

        Returns:
            Curves with `eps` (E,), `certified` (E, B) and `clean` (B,).
        """
        values = checks.eps_values(eps)
        clean, certified = criterion.evaluate(
            self.logits, self.target, eps=values + self.rounding, lipschitz=self.lipschitz, p=self.p
        )
        return ImageCurves(
            criterion=criterion.name,
            eps=values,
            certified=certified,
            clean=clean,
            p=self.p,
            higher_is_better=criterion.higher_is_better,
            exact=criterion.exact_for(self.logits.shape[1]),
        )

    def radius(self, criterion: Criterion, threshold: float) -> Tensor:
        """(B,): no perturbation with a smaller norm brings the criterion to the threshold.

        Args:
            criterion: as `PixelAccuracy()`.
            threshold: value that must not be reached.
        """
        found = criterion.radius(
            self.logits, self.target, threshold=threshold, lipschitz=self.lipschitz, p=self.p
        )
        return (found - self.rounding).clamp_min(0.0)

    def components(self, min_size: int, flipped: float = 0.9) -> Components:
        """Connected predicted regions, with the radius below which a share of their pixels cannot flip.

        Args:
            min_size: smaller regions are left out.
            flipped: share of the pixels of a region, in (0, 1].
        """
        found = component_radius(
            self.logits,
            min_size,
            flipped,
            lipschitz=self.lipschitz,
            p=self.p,
            target=self.target,
            ignore_index=self.ignore_index,
        )
        return found.reduced(self.rounding)

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The criteria shown by default: accuracy needs a target, stability does not."""
        stability = Stability(ignore_index=self.ignore_index)
        return (stability,) if self.target is None else (PixelAccuracy(self.ignore_index), stability)

    def __repr__(self) -> str:
        batch, classes, height, width = self.logits.shape
        lines = [
            f"SegmentationCertificate: {batch} image{'s' * (batch > 1)} of {height}x{width}, {classes} classes",
            f"  Lipschitz constant at most {round_up(self.lipschitz)} (l{self.p:g})",
        ]
        known = self.radius_map[~self.radius_map.isnan()]
        if known.numel():
            lines.append(f"  radius of the median pixel {round_down(float(known.median()), 4)}")
        for criterion in self.criteria:
            clean = float(criterion.value(self.logits, self.target).nanmean())
            half = round_down(float(self.radius(criterion, 0.5).nanmean()), 4)
            lines.append(f"  {criterion.name}: clean {clean:.4f}, above 0.5 within {half} (mean over images)")
        return "\n".join(lines)

    def show(self) -> None:
        """Print the certificate with its assumptions; plain text, for any terminal."""
        print(self)  # noqa: T201
        for line in self.assumptions:
            print(f"  - {line}")  # noqa: T201

    def figure(
        self,
        index: int = 0,
        *,
        palette: Sequence[Sequence[int]] | None = None,
        top: float | None = None,
    ) -> Figure:
        """Draw image, truth, prediction and radius map of one image.

        Args:
            index: which image of the batch.
            palette: one RGB colour (0..255) a class.
            top: radius at the end of the colour bar, by default the 99th percentile.

        Returns:
            A matplotlib figure, not bound to any window.
        """
        from onelip.certify.picture import draw

        return draw(self, index, palette=palette, top=top)

    def component_figure(
        self,
        index: int = 0,
        eps: float = 0.1,
        *,
        min_size: int = 16,
        flipped: float = 0.9,
        palette: Sequence[Sequence[int]] | None = None,
        names: Sequence[str] | None = None,
        top: float | None = None,
    ) -> Figure:
        """Draw the radius of each predicted region, and beside it only the regions certified at eps.

        Args:
            index: which image of the batch.
            eps: regions with a smaller radius are left white in the second picture.
            min_size: as in `components`.
            flipped: as in `components`.
            palette: one RGB colour (0..255) a class.
            names: of the classes, for the legend.
            top: radius at the end of the colour bar, by default the largest.

        Returns:
            A matplotlib figure, not bound to any window.
        """
        from onelip.certify.picture_components import draw

        regions = self.components(min_size, flipped)
        return draw(self, regions, index, eps, palette=palette, names=names, top=top)

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        self.figure().savefig(buffer, format="png", dpi=110)
        picture = base64.b64encode(buffer.getvalue()).decode()
        return f'<pre>{self!r}</pre><img src="data:image/png;base64,{picture}" alt="certificate">'

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary, without the arrays."""
        batch, classes, height, width = self.logits.shape
        clean = {c.name: plain(c.value(self.logits, self.target)) for c in self.criteria}
        return {
            "kind": "segmentation certificate",
            "size": [height, width],
            "images": batch,
            "classes": classes,
            "p": plain(torch.tensor(self.p)),
            "lipschitz": self.lipschitz,
            "bound": None if self.bound is None else self.bound.to_dict()["layers"],
            "rounding": self.rounding,
            "ignore_index": self.ignore_index,
            "clean": clean,
            "radius_at_half": {c.name: plain(self.radius(c, 0.5)) for c in self.criteria},
            "assumptions": list(self.assumptions),
            "versions": dict(self.versions),
            "weights_sha256": self.weights_hash,
            "date": self.date,
        }

    def save(self, path: str | Path) -> None:
        """Write a folder with `certificate.json` and `arrays.npz`; it appears whole or not at all.

        Args:
            path: the folder.

        Raises:
            StorageError: when it cannot be written; what was there before is kept.
        """
        arrays: dict[str, Tensor] = {
            "logits": self.logits,
            "prediction": self.prediction,
            "radius_map": self.radius_map,
            "images": self.images,
        }
        if self.target is not None:
            arrays["target"] = self.target
        with files.atomic_folder(path) as folder:
            text = json.dumps(self.to_dict(), indent=2, allow_nan=False)
            (folder / "certificate.json").write_text(text + "\n", encoding="utf-8")
            save: Any = np.savez_compressed
            save(folder / "arrays.npz", **{k: v.cpu().numpy() for k, v in arrays.items()})
