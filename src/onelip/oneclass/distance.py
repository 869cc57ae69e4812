"""`SignedDistance`: a 1-Lipschitz network that learns the signed distance to the support of the normal rows."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ..core.errors import InputError, explain
from .base import Array, CertifiedDetector
from .network import Network, Trainer, one_thread
from .priors import Prior, parse
from .reservoir import Reservoir
from .sampler import NewtonSampler, automatic_eta
from .selection import Choice, choose

_WARM = 0.12  # share of the steps before the sampler moves negatives
_AGAIN = 0.2  # steps and learning rate of partial_fit, relative to fit


class SignedDistance(CertifiedDetector):
    """Outlier detector with a certified score: an approximate signed distance to the support of the training rows.

    A dense network with orthonormal weights and MaxMin is trained by the HKR loss to be high on training rows and low
    on negatives that a Newton sampler pulls from a prior towards its own boundary. Score convention: high = normal.

    Formula: `mean max(0, m - f(x)) + mean max(0, m + f(z)) - (mean f(x) - mean f(z)) / lam`.

    Guarantee: `lipschitz_` is a sound bound of the Lipschitz constant of `score_samples` per unit of standardised l2
    distance, proven by `onelip.lipschitz` for the float64 weights that score (within 1e-6 of 1 after training), so
    `certified_radius` is sound. That f is close to the true signed distance is a heuristic; `gradient_norm_` tells
    how much of the budget is used when there are fewer features than `width`.

    Args:
        margin: m, in standardised units. 0.05 for clean training rows; about 1 where they hold anomalies.
        lam: weight of the hinges; larger ones fit tighter, with a flatter and so less robust score.
        prior: where negatives start: "box", "gauss", "marginals", several joined by "+", or "auto" (chosen as by
            `select`, the rest kept).
        pad: padding of the box around the training range, times its width.
        width, depth: units (even) and number of hidden layers.
        steps, batch_size, lr: optimiser steps, rows and negatives a step, first learning rate of Adam.
        newton_steps: steps of the sampler.
        eta: factor of the sampler's steps; "auto": `newton_steps` from 4 features on, else 1.
        two_sided: pull negatives inside the support back out, to level -m: larger recall at 0 in 2-D, and slower
            elsewhere.
        select: "auto" chooses prior, margin and lam by the certified area over the mass-volume curve of held-out
            training rows; no anomalies are used. Four times the time of a fit. Pays where there are many features.
        contamination, standardize: see `CertifiedDetector`.
        random_state: the same number gives bitwise the same fit on the same machine.

    Attributes after `fit`: those of `CertifiedDetector`; `network_`; `margin_`, `lam_`, `prior_` as used; `choices_`,
    what was compared; `gradient_norm_`, mean on training rows.

    Raises:
        ValueError: from `fit`: options out of range, rows that cannot be used.

    Example:
        >>> X = np.random.RandomState(0).normal(size=(200, 4))
        >>> detector = SignedDistance(steps=100, random_state=0).fit(X)
        >>> detector.predict([[0, 0, 0, 0], [9, 9, 9, 9]])
        array([ 1, -1])
        >>> bool(detector.certified_radius([[9, 9, 9, 9]])[0] > 1)
        True

    Source: Bethune et al., "Robust one-class classification with signed distance function using 1-Lipschitz neural
        networks", ICML 2023, with a sampler that reaches the boundary, and a loss for certificates (lam = 10).
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CertifiedDetector._parameter_constraints,
        "margin": [Interval(Real, 0, None, closed="neither")],
        "lam": [Interval(Real, 0, None, closed="neither")],
        "prior": [str],
        "pad": [Interval(Real, 0, None, closed="left")],
        "width": [Interval(Integral, 2, None, closed="left")],
        "depth": [Interval(Integral, 1, None, closed="left")],
        "steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "newton_steps": [Interval(Integral, 0, None, closed="left")],
        "eta": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "two_sided": ["boolean"],
        "select": [StrOptions({"auto"}), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        margin: float = 0.05,
        lam: float = 10.0,
        prior: str = "box",
        *,
        pad: float = 0.5,
        width: int = 64,
        depth: int = 3,
        steps: int = 500,
        batch_size: int = 128,
        lr: float = 5e-3,
        newton_steps: int = 4,
        eta: float | str = "auto",
        two_sided: bool = False,
        select: str | None = None,
        contamination: float | str = "auto",
        standardize: bool = True,
        random_state: Any = None,
    ) -> None:
        self.margin = margin
        self.lam = lam
        self.prior = prior
        self.pad = pad
        self.width = width
        self.depth = depth
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.newton_steps = newton_steps
        self.eta = eta
        self.two_sided = two_sided
        self.select = select
        self.contamination = contamination
        self.standardize = standardize
        self.random_state = random_state

    network_: Network
    n_seen_: int
    _outside: Array | None = (
        None  # points known to be no support, in standardised units, to draw negatives from
    )

    def partial_fit(self, X: ArrayLike, y: object = None) -> Self:
        """Go on learning from more normal rows, with the scaling, the box and the options of the first fit.

        The first call is `fit`. Later ones train a fifth of the steps on the new rows and on up to 2000 earlier
        ones, then prove the constant again and move the offset; radii keep their unit because `mean_` and `scale_`
        stay. A detector that was loaded from disk has no earlier rows: it learns from the new ones alone.
        """
        if not hasattr(self, "network_"):
            return self.fit(X, y)
        self._validate_params()
        Z = self._checked(X)
        random = self._random_again()
        rows = np.concatenate((self._reservoir.rows, Z))
        prior = self._prior
        if "marginals" in prior.names:
            prior = replace(prior, rows=rows)
        trainer = Trainer.resume(self.network_)
        self.network_ = self._train(
            trainer, rows, random, Choice(self.prior_, self.margin_, self.lam_), prior=prior, again=True
        )
        self._reservoir.offer(Z, random)
        self.n_seen_ += len(Z)
        self._finish(self._reservoir.rows)
        self.lipschitz_ = self._prove()
        self._set_offset(self._reservoir.rows)
        return self

    def gradient(self, X: ArrayLike) -> Array:
        """Return the gradient of the score in standardised units, (n, d): the way to more normal rows.

        Divide by `scale_` for raw units. Formula of the first-order way to the threshold: `-decision * g / ||g||^2`.
        """
        return self.network_.gradient(self._checked(X))

    def contributions(self, X: ArrayLike) -> Array:
        """Return how much each feature takes part in a row being abnormal, (n, d), in units of the score.

        Formula: `-decision * g_j^2 / ||g||^2`: the part of feature j in the first-order way to the threshold. The sum
        over the features is `-decision`: positive for anomalies. Estimate: the gradient is local.
        """
        Z = self._checked(X)
        squares = self.network_.gradient(Z) ** 2
        total = squares.sum(axis=1, keepdims=True)
        shares = np.divide(squares, total, out=np.full_like(squares, 1 / Z.shape[1]), where=total > 0)
        result: Array = shares * (self.offset_ - self._in_chunks(Z))[:, None]
        return result

    # how

    def _learn(self, Z: Array, random: np.random.RandomState) -> None:
        if self.width % 2:
            raise InputError(
                explain("width is odd", received=self.width, expected="an even number: MaxMin sorts pairs")
            )
        if self.prior != "auto":
            parse(self.prior)
        self.n_seen_, self.n_fits_ = len(Z), 1
        choice = Choice("box" if self.prior == "auto" else self.prior, float(self.margin), float(self.lam))
        self.choices_: list[dict[str, Any]] = []
        if self.select == "auto" or self.prior == "auto":
            choice, self.choices_ = choose(self._trial, Z, choice, random, only_prior=self.select != "auto")
        self.prior_, self.margin_, self.lam_ = choice.prior, choice.margin, choice.lam
        self._prior = Prior.around(Z, choice.prior, self.pad)
        if self._outside is not None:
            self._prior = replace(self._prior, names=("given",), rows=self._outside)
        with one_thread():
            trainer = Trainer.draw(Z.shape[1], self.width, self.depth, random)
        self.network_ = self._train(trainer, Z, random, choice, prior=self._prior)
        self._reservoir = Reservoir(Z.shape[1]).offer(Z, random)
        self._finish(Z)

    def _trial(self, Z: Array, choice: Choice, random: np.random.RandomState) -> Network:
        """Train half as long, for a comparison."""
        trainer = Trainer.draw(Z.shape[1], self.width, self.depth, random)
        prior = Prior.around(Z, choice.prior, self.pad)
        return self._train(trainer, Z, random, choice, prior=prior, share=0.5)

    def _train(
        self,
        trainer: Trainer,
        Z: Array,
        random: np.random.RandomState,
        choice: Choice,
        *,
        prior: Prior,
        share: float = 1.0,
        again: bool = False,
    ) -> Network:
        steps = max(1, round(self.steps * (_AGAIN if again else share)))
        warm = 0 if again else round(_WARM * steps)
        eta = automatic_eta(Z.shape[1], self.newton_steps) if self.eta == "auto" else float(self.eta)
        low, high = torch.from_numpy(prior.low), torch.from_numpy(prior.high)
        level = -choice.margin if self.two_sided else 0.0
        sampler = NewtonSampler(low, high, self.newton_steps, eta, level, self.two_sided)
        data = torch.from_numpy(Z)

        def normal() -> Tensor:
            return data[torch.from_numpy(random.randint(len(Z), size=self.batch_size))]

        def negative(step: int, now: Trainer) -> Tensor:
            z = torch.from_numpy(prior.draw(self.batch_size, random))
            share = torch.from_numpy(random.random_sample(self.batch_size))
            return sampler(z, now.value_and_gradient, share) if step >= warm else z

        with one_thread():
            trainer.fit(
                normal,
                negative,
                steps=steps,
                lr=self.lr * (_AGAIN if again else 1.0),
                margin=choice.margin,
                lam=choice.lam,
            )
            return trainer.finish()

    def _finish(self, Z: Array) -> None:
        self._a, self._b = self.network_.error()
        self.gradient_norm_ = float(np.linalg.norm(self.network_.gradient(Z[:1000]), axis=1).mean())

    def _random_again(self) -> np.random.RandomState:
        self.n_fits_ += 1
        if isinstance(self.random_state, Integral):
            return np.random.RandomState([int(self.random_state), self.n_fits_])
        random: np.random.RandomState = check_random_state(self.random_state)
        return random

    def _scores(self, Z: Array) -> Array:
        return self.network_(Z)

    def _error(self, norms: Array) -> Array:
        return self._a + self._b * norms

    def _prove(self) -> float:
        return self.network_.prove()

    def _arrays(self) -> dict[str, Array]:
        arrays = {f"weight{i}": w for i, w in enumerate(self.network_.weights)}
        arrays |= {f"bias{i}": b for i, b in enumerate(self.network_.biases)}
        return arrays | {"low": self._prior.low, "high": self._prior.high, "spread": self._prior.spread}

    def _facts(self) -> dict[str, Any]:
        names = ("prior_", "margin_", "lam_", "choices_", "gradient_norm_", "n_seen_", "n_fits_")
        return {name: getattr(self, name) for name in names}

    def _restore(self, arrays: dict[str, Array], facts: dict[str, Any]) -> None:
        for name, value in facts.items():
            setattr(self, name, value)
        layers = range(int(self.depth) + 1)
        self.network_ = Network(
            tuple(arrays[f"weight{i}"] for i in layers), tuple(arrays[f"bias{i}"] for i in layers)
        )
        nothing = np.zeros((0, len(arrays["low"])))
        self._prior = Prior(arrays["low"], arrays["high"], parse(self.prior_), arrays["spread"], nothing)
        self._reservoir = Reservoir(len(arrays["low"]))
        self._a, self._b = self.network_.error()

    def module(self) -> torch.nn.Sequential:
        """Return the score as a float64 torch module of standardised rows, (n, d) to (n, 1): for attacks and export."""
        check_is_fitted(self, "network_")
        return self.network_.module()
