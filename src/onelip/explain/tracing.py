"""The search for near counterfactuals: sphere tracing, the way back to the boundary, refinement."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from onelip.attacks.projection import Noise, norms, per_image
from onelip.explain.aims import Boundary, tolerance
from onelip.explain.classifier import Classifier

_LEAST = 1e-3
_GROWTH = 1.15
_EVALUATIONS = 40
_GIVEN_UP = 0.05
_DETOUR = 1.5
_MOMENTUM = 0.7
_LONGEST = 0.1


def pursue(
    search: type[Search],
    ready: Classifier,
    images: Tensor,
    aim: Boundary,
    free: Tensor,
    *,
    box: bool,
    dtype: torch.dtype,
    proven: bool,
    steps: int,
    refine: int,
    seed: int,
    batch_size: int,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Search from all images, a batch at a time: (B, C, H, W) boundary, (B,) bool found, B paths."""
    parts = []
    for first in range(0, len(images), batch_size):
        rows = torch.arange(first, min(first + batch_size, len(images)), device=images.device)
        noise = Noise(seed, first, len(rows))
        one = search(ready, images[rows], aim.of(rows), free[rows], box, dtype, noise, proven)
        parts.append(one.run(steps, refine))
    boundary, found = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    return boundary, found, [torch.stack(trail).to(dtype) for part in parts for trail in part[2]]


@dataclass(eq=False)
class Search:
    """Search from one batch of images.

    Attributes:
        ready: the model.
        x: (B, C, H, W) float64.
        aim: where to go.
        free: (B, C, H, W) float64, 1 where the image may change.
        box: keep images in [0, 1].
        dtype: precision of the images that are handed back; every image tried is rounded to it.
        noise: directions where the gradient is zero.
        proven: whether the constants of the aim are.
    """

    ready: Classifier
    x: Tensor
    aim: Boundary
    free: Tensor
    box: bool
    dtype: torch.dtype
    noise: Noise
    proven: bool
    trails: list[list[Tensor]] = field(default_factory=list)

    def place(self, delta: Tensor, rows: Tensor) -> Tensor:
        """Images with these perturbations: in the box, and exactly what the given precision can hold."""
        z = self.x[rows] + delta
        z = z.clamp(0.0, 1.0) if self.box else z
        return torch.where(self.free[rows].bool(), z, self.x[rows]).to(self.dtype).double()

    def run(self, steps: int, refine: int) -> tuple[Tensor, Tensor, list[list[Tensor]]]:
        """(B, C, H, W) images at the boundary, just beyond it; (B,) bool whether it was found; their paths.

        Where it was not, the image is the last one tried.
        """
        every = torch.arange(len(self.x), device=self.x.device)
        delta, found = self.trace(torch.zeros_like(self.x), every, steps)
        best, paths = self.place(delta, every), list(self.trails)
        rows = found.nonzero().flatten()
        best[rows] = self.back(best[rows] - self.x[rows], rows)
        length = norms(best - self.x, 2)
        mix = torch.full_like(length, 0.5)
        for _ in range(refine):
            rows = (found & (mix > _GIVEN_UP)).nonzero().flatten()
            if not len(rows):
                break
            bent = self.bend(best[rows] - self.x[rows], mix[rows], rows)
            trial, ok = self.trace(bent, rows, steps, limit=_DETOUR * length[rows])
            trails = self.trails
            hit = ok.nonzero().flatten()
            image = self.back(self.place(trial, rows)[hit] - self.x[rows[hit]], rows[hit])
            shorter = norms(image - self.x[rows[hit]], 2)
            better = shorter < length[rows[hit]]
            mix[rows] *= 0.5
            for i in better.nonzero().flatten().tolist():
                row = int(rows[hit[i]])
                best[row], length[row], mix[row] = image[i], shorter[i], 0.5
                paths[row] = trails[int(hit[i])]
        for row in found.nonzero().flatten().tolist():
            paths[row] = [*paths[row], best[row]]
        return best, found, paths

    def trace(
        self, delta: Tensor, rows: Tensor, steps: int, limit: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Walk down the margin by safe steps until the boundary is crossed.

        The step is h / L, with the margin h of the deciding pair and its constant L: within it nothing can flip. Where
        L is far above the slope, half a Newton step h / 2|g| is longer, and taken; never less than 1e-3, and ever
        more after 30 steps, as where kinks make the walk zigzag. One that gets farther from x than its limit, (B,),
        is given up.
        """
        delta = delta.clone()
        found = torch.zeros(len(rows), dtype=torch.bool, device=delta.device)
        self.trails = [[self.x[row]] for row in rows.tolist()]
        live = torch.arange(len(rows), device=delta.device)
        for step in range(steps + 1):
            here = rows[live]
            z = self.place(delta[live], here)
            aim = self.aim.of(here)
            logits, gradient = self.ready.gradient(z, lambda f, aim=aim: aim.rival(f)[0])
            for i, image in zip(live.tolist(), z, strict=True):
                if bool((image != self.trails[i][-1]).any()):
                    self.trails[i].append(image)
            across = aim.margin(logits) < -tolerance(logits)
            found[live] = across
            keep = ~across if limit is None else ~across & (norms(delta[live], 2) <= limit[live])
            if step == steps or not bool(keep.any()):
                break
            _, margin, constant = (part[keep] for part in aim.rival(logits))
            live, z = live[keep], z[keep]
            way, slope = self.downhill(gradient[keep], z, rows[live])
            safe = margin / constant if self.proven else torch.zeros_like(margin)
            length = torch.maximum(safe, margin / (2 * slope)).clamp_min(self.least(step))
            moved = z + way * per_image(length, way)
            delta[live] = (moved.clamp(0.0, 1.0) if self.box else moved) - self.x[rows[live]]
        return delta, found

    def least(self, step: int) -> float:
        """No step is shorter."""
        return float(_LEAST * _GROWTH ** max(0, step - 30))

    def downhill(self, gradient: Tensor, z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Unit directions in which the margin falls and the image may move, and the slopes."""
        way = self.open(-gradient, z, rows)
        slope = norms(way, 2)
        blind = ~(slope > 0)
        if bool(blind.any()):
            chosen = torch.zeros(len(self.x), dtype=torch.bool, device=z.device)
            chosen[rows[blind]] = True
            random = self.open(self.noise.like(self.x, chosen)[rows], z, rows)
            way = torch.where(per_image(blind, way).bool(), random, way)
        size = norms(way, 2).clamp_min(1e-300)
        return way / per_image(size, way), torch.where(blind, torch.inf, slope)

    def open(self, way: Tensor, z: Tensor, rows: Tensor) -> Tensor:
        """The part of a direction that the mask and the box allow."""
        way = way * self.free[rows]
        if self.box:
            way = way.masked_fill(((z <= 0) & (way < 0)) | ((z >= 1) & (way > 0)), 0.0)
        return way

    def back(self, delta: Tensor, rows: Tensor) -> Tensor:
        """Images just beyond the boundary on the way from x to images beyond it, by false position and bisection."""
        if not len(rows):
            return self.x[rows]
        aim = self.aim.of(rows)

        def judge(t: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.ready.logits(self.place(delta * per_image(t, delta), rows))
            excess = tolerance(logits)
            return (aim.margin(logits) + 2 * excess) / excess, aim.margin(logits)

        low, high = torch.zeros(len(rows), dtype=torch.float64, device=delta.device), None
        high = torch.ones_like(low)
        at_low, at_high = judge(low)[0], judge(high)[0]
        for i in range(_EVALUATIONS):
            # Done within one tolerance of the place aimed at, twice as far beyond as is needed.
            done = (at_high.abs() <= 1.0) | (high - low <= 1e-12)
            if bool(done.all()):
                break
            guess = (low * at_high - high * at_low) / (at_high - at_low)
            middle = (low + high) / 2
            width = high - low
            usable = guess.isfinite() & (i % 3 != 2)
            t = torch.where(usable, guess.clamp(low + 1e-3 * width, high - 1e-3 * width), middle)
            t = torch.where(done, high, t)
            value = judge(t)[0]
            beyond = value < 1.0  # a margin below minus one tolerance: across
            high, at_high = torch.where(beyond, t, high), torch.where(beyond, value, at_high)
            low, at_low = torch.where(beyond, low, t), torch.where(beyond, at_low, value)
        return self.place(delta * per_image(high, delta), rows)

    def bend(self, delta: Tensor, mix: Tensor, rows: Tensor) -> Tensor:
        """Move perturbations a part of the way to the foot of the tangent plane: nearest to x on it, in the box."""
        x, aim = self.x[rows], self.aim.of(rows)
        z = x + per_image(self.looking(mix), delta) * delta
        gradient = self.ready.gradient(z, lambda f: aim.rival(f)[0])[1]
        normal = -gradient * self.free[rows]
        normal = normal / per_image(norms(normal, 2).clamp_min(1e-300), normal)
        reach = (normal * delta).flatten(1).sum(1)
        foot = normal * per_image(reach, normal)
        if self.box:
            foot = self._boxed(x, normal, reach)
        return delta + per_image(mix, delta) * (foot - delta)

    def looking(self, mix: Tensor) -> Tensor:
        """(B,) where on the way from x to the boundary the plane is taken: at its end."""
        return torch.ones_like(mix)

    @staticmethod
    def _boxed(x: Tensor, normal: Tensor, reach: Tensor) -> Tensor:
        """The multiple of the normal that, cut by the box, goes as far along it; found by bisection."""

        def cut(t: Tensor) -> Tensor:
            return (x + normal * per_image(t, normal)).clamp(0.0, 1.0) - x

        low, high = torch.zeros_like(reach), reach.abs() + 1.0
        for _ in range(60):
            short = (normal * cut(high)).flatten(1).sum(1) < reach
            if not bool((short & (high < 1e9)).any()):
                break
            high = torch.where(short, 4 * high, high)
        for _ in range(50):
            middle = (low + high) / 2
            short = (normal * cut(middle)).flatten(1).sum(1) < reach
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return cut(high)


@dataclass(eq=False)
class SearchAll(Search):
    """Search where many gaps have to close: those left half way tell how much each of them counts."""

    past: Tensor | None = None

    def least(self, step: int) -> float:
        """No step is shorter; walks to many gaps are long, and must not run away."""
        return min(super().least(step), _LONGEST)

    def trace(
        self, delta: Tensor, rows: Tensor, steps: int, limit: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Walk as `Search` does, with momentum: the gaps that are left take turns in pulling."""
        self.past = torch.zeros_like(self.x)
        return super().trace(delta, rows, steps, limit)

    def downhill(self, gradient: Tensor, z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Unit directions with some of the last one in them, as far as the margin still falls, and the slopes."""
        way, slope = super().downhill(gradient, z, rows)
        assert self.past is not None
        mixed = self.open(way + _MOMENTUM * self.past[rows], z, rows)
        mixed = mixed / per_image(norms(mixed, 2).clamp_min(1e-300), mixed)
        falls = (mixed * way).flatten(1).sum(1)
        way = torch.where(per_image(falls > 0.3, way).bool(), mixed, way)
        self.past[rows] = way
        return way, torch.where(falls > 0.3, slope * falls, slope)

    def looking(self, mix: Tensor) -> Tensor:
        """(B,) the plane is taken as far inside as the perturbation shrinks."""
        return 1 - mix
