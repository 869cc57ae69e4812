"""Counterfactuals that were found, each beside the proof of how near one could be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onelip.attacks.projection import norms
from onelip.core.numbers import round_down, round_up

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Counterfactual:
    r"""Images near to some others, of which the model says something else.

    Attributes:
        images: (B, C, H, W), in the precision of x; for overshoot 1 those just beyond the boundary.
        x: (B, C, H, W), the images explained.
        boundary: (B, C, H, W), the nearest image found that has crossed; where none was, the last one tried.
        found: (B,) bool, a crossing was found.
        crossed: (B,) bool, the model says on `images` what was wanted, both as given and as its float64 copy. For an
            overshoot below 1 images need not cross.
        lower_bound: (B,) float64, proven: no image at a smaller distance has what was wanted as its prediction,
            whatever the mask and the box; nan where no bound can be proven.
        path: B tensors (T, C, H, W): from x to the boundary, by the steps of the search that found it.
        predicted: (B,) int64, the classes of x.
        to: (B,) int64, the classes that `boundary` is given.
        overshoot: how far beyond the boundary `images` are.
        assumptions: what the lower bound rests on.
        refusal: why there is no lower bound; empty if there is one.

    Guarantee: `lower_bound` is sound for the exact-arithmetic network; `distance` is measured on `images`. Nothing
        says that no counterfactual is nearer than the one found: `gap` says how far from it one can be at most.
    """

    images: Tensor
    x: Tensor
    boundary: Tensor
    found: Tensor
    crossed: Tensor
    lower_bound: Tensor
    path: list[Tensor]
    predicted: Tensor
    to: Tensor
    overshoot: float
    assumptions: tuple[str, ...]
    refusal: str

    @cached_property
    def distance(self) -> Tensor:
        """(B,) float64 l2 distance of `images` from x; inf where no crossing was found."""
        length = norms(self.images.double() - self.x.double(), 2)
        return length.masked_fill(~self.found, torch.inf)

    @cached_property
    def boundary_distance(self) -> Tensor:
        """(B,) float64 l2 distance of `boundary` from x; inf where no crossing was found."""
        length = norms(self.boundary.double() - self.x.double(), 2)
        return length.masked_fill(~self.found, torch.inf)

    @property
    def gap(self) -> Tensor:
        """(B,) float64 distance / lower_bound: at overshoot 1, how many times too long a counterfactual can be."""
        return self.distance / self.lower_bound

    def __repr__(self) -> str:
        count = len(self.images)
        lines = [f"Counterfactual: {count} image{'s' * (count > 1)}, {int(self.crossed.sum())} crossed"]
        near = self.boundary_distance[self.found]
        if near.numel():
            lines.append(f"  boundary found at distance {round_up(float(near.median()), 4)} (median)")
        if self.refusal:
            return "\n".join([*lines, f"  no lower bound: {self.refusal}"])
        lines.append(f"  proven: none nearer than {round_down(float(self.lower_bound.median()), 4)} (median)")
        if near.numel():
            gap = (self.boundary_distance / self.lower_bound)[self.found].median()
            lines.append(f"  found / proven {round_up(float(gap), 4)} (median)")
        return "\n".join(lines)

    def show(self) -> None:
        """Print what was found, image by image, with the assumptions; plain text, for any terminal."""
        print(self)  # noqa: T201
        for i in range(len(self.images)):
            bound = "none" if self.refusal else round_down(float(self.lower_bound[i]), 4)
            found = round_up(float(self.boundary_distance[i]), 4) if bool(self.found[i]) else "not found"
            print(  # noqa: T201
                f"  image {i}: {self.story(i)}, boundary {found}, proven {bound}"
            )
        for line in self.assumptions:
            print(f"  - {line}")  # noqa: T201

    def story(self, index: int) -> str:
        """What the boundary says of one image, in a few words."""
        return f"{int(self.predicted[index])} -> {int(self.to[index])}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary, without the images; numbers that are not finite become None."""

        def plain(values: Tensor) -> list[float | None]:
            return [v if torch.tensor(v).isfinite() else None for v in values.tolist()]

        return {
            "kind": "counterfactuals",
            "predicted": self.predicted.tolist(),
            "to": self.to.tolist(),
            "crossed": self.crossed.tolist(),
            "overshoot": self.overshoot,
            "distance": plain(self.distance),
            "boundary_distance": plain(self.boundary_distance),
            "lower_bound": plain(self.lower_bound),
            "refusal": self.refusal,
            "assumptions": list(self.assumptions),
        }

    def figure(self, index: int = 0) -> Figure:
        """Draw one image, what changed (red more, blue less), and the counterfactual.

        Args:
            index: which image of the batch.

        Returns:
            A matplotlib figure, not bound to any window.
        """
        from onelip.explain.picture import draw

        return draw(self, index)
