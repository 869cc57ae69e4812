"""`ImageSignedDistance`: a one-class detector of pictures, a convolutional network with a proven constant."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from .. import models
from ..bounds import lipschitz
from ..core import checks
from ..core.errors import InputError, explain
from ..layers import fold
from .base import Array, CertifiedDetector
from .image_rounding import rounding
from .image_training import PRIORS, batches, create, differentiable, of_rows, train
from .network import one_thread
from .sampler import NewtonSampler

_BATCH = 256  # pictures scored at a time


class ImageSignedDistance(CertifiedDetector):
    """Detector of pictures unlike those of one class, with a certified score in the l2 norm of all pixels.

    The zoo's `convnet` with orthogonal layers, one output and no statistics of batches, learns an approximate signed
    distance by the same loss and the same sampler as `SignedDistance`, in the cube [0, 1]^d of pixels. Nothing is
    standardised: radii are l2 norms of pixels, as attacks on pictures are measured. Score convention: high = normal.

    Shapes: `X` is (n, C, H, W) or (n, H, W) in [0, 1]; flat rows (n, C H W) are taken where `image_size` is given.

    Formula: `mean max(0, m - f(x)) + mean max(0, m + f(z)) - (mean f(x) - mean f(z)) / lam` with the margin
    `m = margin_rate * width * sqrt(d)`, width = 1 of the cube, d = C H W.

    Guarantee: `lipschitz_` is proven by `onelip.lipschitz` for the float64 weights that score, so `certified_radius` is
    sound. How well the score separates is a heuristic: pixel distances carry little meaning on natural pictures, and
    `CertifiedKNN` has the same certificate for free.

    Args:
        margin_rate: r of the margin.
        lam: weight of the hinges.
        prior: where negatives start: "uniform" noise, "pixels" (each pixel from a training picture of its own), or
            "both" in halves.
        widths, hidden: channels of the stages (each halves the picture) and widths of the dense layers, all even.
        repeats: convolutions a stage.
        steps, batch_size, lr: optimiser steps, pictures and negatives a step, first learning rate of Adam.
        newton_steps, eta: steps of the sampler, and their factor (`eta / newton_steps` is the largest share of a step).
        image_size: (C, H, W) of flat rows; None: taken from X.
        contamination: see `CertifiedDetector`.
        random_state: the same number gives the same fit on the same machine.

    Attributes after `fit`: those of `CertifiedDetector`; `model_`, the folded float64 network of (n, C, H, W);
    `image_size_`; `margin_`; `gradient_norm_`, mean on training pictures.

    Raises:
        ValueError: from `fit`: options out of range, values outside [0, 1], shapes that do not fit.

    Example:
        >>> bright = np.random.RandomState(0).uniform(0.6, 0.9, size=(64, 8, 8))
        >>> detector = ImageSignedDistance(widths=(8,), hidden=(16,), steps=20, random_state=0).fit(bright)
        >>> bool(detector.decision_function(bright).mean() > detector.decision_function(bright * 0.1).mean())
        True

    Source: Bethune et al., "Robust one-class classification with signed distance function using 1-Lipschitz neural
        networks", ICML 2023; the margin rule with the width as a factor, the sampler with steps that arrive.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CertifiedDetector._parameter_constraints,
        "margin_rate": [Interval(Real, 0, None, closed="neither")],
        "lam": [Interval(Real, 0, None, closed="neither")],
        "prior": [StrOptions(set(PRIORS))],
        "widths": ["array-like"],
        "hidden": ["array-like"],
        "repeats": [Interval(Integral, 1, None, closed="left")],
        "steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "newton_steps": [Interval(Integral, 0, None, closed="left")],
        "eta": [Interval(Real, 0, None, closed="left")],
        "image_size": ["array-like", None],
        "random_state": ["random_state"],
    }
    _parameter_constraints.pop("standardize")
    standardize = False

    def __init__(
        self,
        margin_rate: float = 0.02,
        lam: float = 10.0,
        prior: str = "uniform",
        *,
        widths: Sequence[int] = (16, 32),
        hidden: Sequence[int] = (64,),
        repeats: int = 1,
        steps: int = 200,
        batch_size: int = 64,
        lr: float = 5e-3,
        newton_steps: int = 8,
        eta: float = 8.0,
        image_size: Sequence[int] | None = None,
        contamination: float | str = "auto",
        random_state: Any = None,
    ) -> None:
        self.margin_rate = margin_rate
        self.lam = lam
        self.prior = prior
        self.widths = widths
        self.hidden = hidden
        self.repeats = repeats
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.newton_steps = newton_steps
        self.eta = eta
        self.image_size = image_size
        self.contamination = contamination
        self.random_state = random_state

    model_: models.LipModel
    image_size_: tuple[int, int, int]
    margin_: float

    def gradient(self, X: ArrayLike) -> Array:
        """Return the gradient of the score by the pixels, (n, C, H, W): the way to more normal pictures."""
        return self._gradients(self._checked(X))

    def follow(
        self, X: ArrayLike, *, level: float | None = None, steps: int = 400, share: float = 0.2
    ) -> Array:
        """Return pictures that the sampler makes of given ones by following the score up to a level, (n, C, H, W).

        Formula: `x <- clip(x + share (level - f(x)) grad f / ||grad f||^2)`, in [0, 1]. From noise this draws what the
        network takes for normal; from an anomaly it shows what would have to change.

        Args:
            X: pictures to start from.
            level: score to reach; default: `offset_`.
            steps: number of steps.
            share: of the way to the level, each step, in (0, 1].

        Guarantee: heuristic; the results lie in [0, 1].
        """
        x = self._pictures(self._checked(X))
        goal = float(self.offset_) if level is None else checks.number("level", level)
        pull = checks.number("share", share, low=1e-6, high=1.0)
        low, high = torch.zeros_like(x[0].flatten()), torch.ones_like(x[0].flatten())
        count = checks.positive_int("steps", steps)
        sampler = NewtonSampler(low, high, count, pull * count, goal)
        flat = sampler(
            x.flatten(1),
            of_rows(self._value_and_gradient, self.image_size_),
            torch.ones(len(x), dtype=x.dtype),
        )
        result: Array = flat.reshape(x.shape).numpy()
        return result

    def module(self) -> nn.Module:
        """Return the score as a float64 module of pictures, (n, C, H, W) to (n, 1), for attacks and export."""
        self._checked(np.zeros((1, self.n_features_in_)))
        return self.model_

    # how

    def _validated(self, X: Any, *, reset: bool) -> Array:
        array = np.asarray(X)
        size: tuple[int, ...] | None
        if array.ndim in (3, 4):
            size = (1, *array.shape[1:]) if array.ndim == 3 else array.shape[1:]
            wanted = self._given() if reset else self.image_size_
            if wanted is not None and tuple(size) != wanted:
                raise InputError(
                    explain(
                        "pictures of another size", received=tuple(size), expected=f"(C, H, W) = {wanted}"
                    )
                )
            X = array.reshape(len(array), -1)
        else:
            size = self._given() if reset else self.image_size_
        rows = super()._validated(X, reset=reset)
        if size is None or int(np.prod(size)) != rows.shape[1]:
            raise InputError(
                explain(
                    "the size of the pictures is not known",
                    received=f"rows of {rows.shape[1]} numbers" + (f", image_size {size}" if size else ""),
                    expected="(n, C, H, W) or (n, H, W), or flat rows and image_size (C, H, W)",
                )
            )
        if rows.min() < 0 or rows.max() > 1:
            raise InputError(
                explain(
                    "pixels outside of [0, 1]",
                    received=f"{rows.min():.4g} to {rows.max():.4g}",
                    expected="numbers in [0, 1]",
                    fix="divide bytes by 255",
                )
            )
        if reset:
            self.image_size_ = (int(size[0]), int(size[1]), int(size[2]))
        return rows

    def _given(self) -> tuple[int, ...] | None:
        if self.image_size is None:
            return None
        size: tuple[Any, ...] = tuple(self.image_size)
        if len(size) != 3 or not all(isinstance(n, int | np.integer) and n > 0 for n in size):
            raise InputError(
                explain("no size of pictures", received=size, expected="(C, H, W), integers > 0")
            )
        return tuple(int(n) for n in size)

    def _create(self) -> models.LipModel:
        return create(self.image_size_, self.widths, self.hidden, int(self.repeats))

    def _learn(self, Z: Array, random: np.random.RandomState) -> None:
        self.margin_ = float(self.margin_rate) * float(np.sqrt(Z.shape[1]))
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(random.randint(2**31 - 1)))
            model = self._create().train()
            train(
                model,
                self.image_size_,
                batches(Z, random, str(self.prior), int(self.batch_size)),
                sampler=NewtonSampler(
                    torch.zeros(Z.shape[1]), torch.ones(Z.shape[1]), int(self.newton_steps), float(self.eta)
                ),
                steps=int(self.steps),
                lr=float(self.lr),
                margin=self.margin_,
                lam=float(self.lam),
            )
            self._take(fold(model))
        gradients = self._gradients(Z[:200])
        self.gradient_norm_ = float(np.sqrt((gradients**2).sum((1, 2, 3))).mean())

    def _gradients(self, Z: Array) -> Array:
        parts = [
            self._value_and_gradient(self._pictures(Z[i : i + _BATCH]))[1] for i in range(0, len(Z), _BATCH)
        ]
        return np.concatenate([part.numpy() for part in parts])

    def _value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with one_thread():
            return differentiable(self.model_)(x)

    def _take(self, folded: models.LipModel) -> None:
        self.model_ = folded.double().eval().requires_grad_(False)
        self._a, self._b = rounding(self.model_, self.image_size_)

    def _pictures(self, Z: Array) -> Tensor:
        return torch.from_numpy(np.array(Z, dtype=np.float64)).reshape(-1, *self.image_size_)

    def _scores(self, Z: Array) -> Array:
        with torch.no_grad(), one_thread():
            parts = [self.model_(self._pictures(Z[i : i + _BATCH]))[:, 0] for i in range(0, len(Z), _BATCH)]
        scores: Array = torch.cat(parts).numpy()
        return scores

    def _error(self, norms: Array) -> Array:
        return self._a + self._b * norms

    def _prove(self) -> float:
        channels, *size = self.image_size_
        return lipschitz(self.model_, tuple(size), in_channels=channels, p=2).value

    def _arrays(self) -> dict[str, Array]:
        state = self.model_.state_dict().items()
        return {name: value.numpy().astype(np.float64) for name, value in state if value.is_floating_point()}

    def _facts(self) -> dict[str, Any]:
        return {
            "image_size": list(self.image_size_),
            "margin": self.margin_,
            "gradient_norm": self.gradient_norm_,
        }

    def _restore(self, arrays: dict[str, Array], facts: dict[str, Any]) -> None:
        channels, rows, columns = (int(n) for n in facts["image_size"])
        self.image_size_ = (channels, rows, columns)
        self.margin_, self.gradient_norm_ = float(facts["margin"]), float(facts["gradient_norm"])
        with torch.random.fork_rng(devices=[]):
            model = fold(self._create().eval()).double()
        model.load_state_dict(
            {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}, strict=True
        )
        self._take(model)
