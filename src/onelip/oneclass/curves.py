"""A certified metric as a curve over eps, with bootstrap intervals, areas and a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from onelip.core.errors import InputError, explain
from onelip.oneclass import inputs
from onelip.oneclass.inputs import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """A certified metric over eps.

    Attributes:
        metric: "auroc", "aupr", "tpr" or "f1".
        eps: (E,) float64, increasing.
        values: (E,) float64, lower bounds (plain at eps = 0).
        clean: plain value.
        attacker: "both", "normals" or "anomalies".
        lipschitz: constant of the score.
        normals, anomalies: numbers of scores.
        options: of the metric: fpr and calibration, or threshold.
        draws: (B, E) the values of B bootstrap samples, B = 0 without.
        clean_draws: (B,) their plain values.
        level: of the intervals.
        seed: of the draws.
    """

    metric: str
    eps: Array
    values: Array
    clean: float
    attacker: str
    lipschitz: float
    normals: int
    anomalies: int
    options: dict[str, Any] = field(default_factory=dict)
    draws: Array = field(default_factory=lambda: np.empty((0, 0)))
    clean_draws: Array = field(default_factory=lambda: np.empty(0))
    level: float = 0.95
    seed: int = 0

    @property
    def intervals(self) -> Array | None:
        """(E, 2) percentile intervals of the values; None without draws."""
        return self._ends(self.draws).T if len(self.draws) else None

    @property
    def clean_interval(self) -> tuple[float, float] | None:
        """Percentile interval of the plain value; None without draws."""
        if not len(self.clean_draws):
            return None
        low, high = self._ends(self.clean_draws)
        return float(low), float(high)

    def area(self, *, method: str = "lower") -> float:
        """Mean certified value over perturbations of norm 0 to the largest eps.

        Args:
            method: "lower": each piece counts its right end, a sound lower bound, since certified values fall with eps;
                "trapezoid": an estimate, the plain value standing at 0.

        Raises:
            InputError: an unknown method; the largest eps is 0.
        """
        return float(self._areas(self.values[None], np.array([self.clean]), method)[0])

    def area_interval(self, *, method: str = "lower") -> tuple[float, float] | None:
        """Percentile interval of the area; None without draws."""
        if not len(self.draws):
            return None
        low, high = self._ends(self._areas(self.draws, self.clean_draws, method))
        return float(low), float(high)

    def figure(
        self, other: ScoreCurve | None = None, *, labels: tuple[str, str] = ("this", "other")
    ) -> Figure:
        """Draw the curve with its band, beside another one if given.

        Returns:
            A matplotlib figure, not bound to any window.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.5, 3.6), layout="constrained")
        axes = figure.subplots()
        for curve, label in zip((self, other), labels, strict=True):
            if curve is not None:
                (line,) = axes.plot(curve.eps, curve.values, marker=".", label=label)
                if curve.intervals is not None:
                    axes.fill_between(curve.eps, *curve.intervals.T, color=line.get_color(), alpha=0.2, lw=0)
        if other is not None:
            axes.legend()
        axes.set_xlabel(f"eps (attacker moves {self.attacker})")
        axes.set_ylabel(f"certified {self.metric.upper()}")
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.3)
        return figure

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content, without the draws."""
        intervals, area = self.intervals, self.eps[-1] > 0
        return {
            "metric": self.metric,
            "eps": self.eps.tolist(),
            "values": self.values.tolist(),
            "intervals": None if intervals is None else intervals.tolist(),
            "clean": self.clean,
            "clean_interval": self.clean_interval,
            "area": self.area() if area else None,
            "area_interval": self.area_interval() if area else None,
            "attacker": self.attacker,
            "lipschitz": self.lipschitz,
            "normals": self.normals,
            "anomalies": self.anomalies,
            "options": self.options,
            "draws": len(self.draws),
            "level": self.level,
            "seed": self.seed,
        }

    def __repr__(self) -> str:
        shown = "  ".join(f"{e:g}: {v:.4f}" for e, v in zip(self.eps, self.values, strict=True))
        return (
            f"ScoreCurve({self.metric}, {self.normals} normals, {self.anomalies} anomalies, attacker moves "
            f"{self.attacker})\n  clean {self.clean:.4f}; certified at eps  {shown}"
        )

    def _ends(self, draws: Array) -> Array:
        tail = (1 - self.level) / 2
        ends: Array = np.quantile(draws, [tail, 1 - tail], axis=0)
        return ends

    def _areas(self, values: Array, clean: Array, method: str) -> Array:
        inputs.choice("method", method, ("lower", "trapezoid"))
        if self.eps[-1] == 0:
            raise InputError(
                explain("there is no area under a curve over eps = 0 alone", expected="a largest eps > 0")
            )
        steps = np.diff(self.eps, prepend=0.0)
        left = np.column_stack([clean, values[:, :-1]])
        heights = values if method == "lower" else (values + left) / 2
        areas: Array = heights @ steps / self.eps[-1]
        return np.minimum(areas, left[:, 0])  # a mean is not above the largest; rounding might be
