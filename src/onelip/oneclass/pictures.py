"""Pictures of detectors: level sets in the plane, histograms of scores, parts of features in one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ..core import checks
from ..core.errors import InputError, explain
from . import inputs
from .base import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, NORMAL, ANOMALY, BOUNDARY = "#1d2733", "#1f6f8b", "#d1495b", "#f2a900"


def level_sets(
    detector: Any,
    X: ArrayLike,
    anomalies: ArrayLike | None = None,
    *,
    axes: Any = None,
    lines: int = 12,
    labels: bool = True,
    arrows: bool = False,
    radius: float | None = None,
    pad: float = 0.35,
    resolution: int = 200,
) -> Figure:
    """Draw the score of a detector of two features: level lines, its threshold, the data, the way to normality.

    Blue where rows are called normal, red where not, the darker the further from the threshold. The closer to evenly
    spaced the lines are, the closer the score is to a distance. Both axes span as many standardised units.

    Args:
        detector: fitted on two features, with `score_samples` and `offset_`: those of `onelip.oneclass` or any outlier
            detector of scikit-learn.
        X: (n, 2) rows to show.
        anomalies: (m, 2) rows to show as crosses.
        axes: matplotlib axes to draw on; a new figure without.
        lines: about how many level lines.
        labels: write the score on the lines.
        arrows: draw the direction in which the score grows fastest.
        radius: also draw the lines between which nothing is proven at this radius: `offset_ +- lipschitz_ * radius`
            (dashed); outside of them an answer surely stays under any change of this norm in standardised units.
        pad: margin around the rows, times their range.
        resolution: points a side of the grid.

    Guarantee: a picture: levels are interpolated on the grid.

    Raises:
        NotFittedError: the detector is not fitted.
        InputError: rows or detector are not of two features; a radius without a proven constant.
    """
    rows = _plane(detector, X, "X")
    others = None if anomalies is None else _plane(detector, anomalies, "anomalies")
    size = checks.positive_int("resolution", resolution) + 1
    edge = checks.number("pad", pad, low=0.0)
    shown = rows if others is None else np.concatenate((rows, others))
    sides = [np.linspace(*ends, size) for ends in _view(detector, shown, edge)]
    x, y = np.meshgrid(*sides, indexing="xy")
    score = _scores(detector, np.column_stack((x.ravel(), y.ravel()))).reshape(x.shape)
    band = None if radius is None else _band(detector, radius)
    figure, axes = _canvas(axes, (5.0, 4.6))
    count = checks.positive_int("lines", lines)
    _contours(axes, (x, y, score), float(detector.offset_), count, band, labels)
    if arrows:
        _arrows(axes, x, y, score)
    axes.scatter(*rows.T, s=4, color=INK, alpha=0.45, linewidths=0, zorder=4)
    if others is not None:
        axes.scatter(*others.T, s=22, marker="x", color=ANOMALY, linewidths=1.2, zorder=5)
    axes.set_box_aspect(1)
    axes.set_xlim(*sides[0][[0, -1]])
    axes.set_ylim(*sides[1][[0, -1]])
    return figure


def score_histogram(
    detector: Any,
    normal: ArrayLike,
    anomalies: ArrayLike | None = None,
    *,
    eps: float = 0.0,
    axes: Any = None,
    bins: int = 50,
) -> Figure:
    """Draw how scores are distributed, the threshold, and the band that an attack of norm eps can carry across it.

    Args:
        detector: fitted, with `score_samples` and `offset_`.
        normal: (n, d) normal rows.
        anomalies: (m, d) anomalies.
        eps: norm of the attack in standardised units; 0: no band.
        axes: matplotlib axes; a new figure without.
        bins: number of bins, the same for both.

    Raises:
        InputError: eps is negative, or positive for a detector without a proven constant.
        ValueError: the rows are not what was fitted.
    """
    check_is_fitted(detector)
    parts = {"normal": (_scores(detector, normal), NORMAL)}
    if anomalies is not None:
        parts["anomalies"] = (_scores(detector, anomalies), ANOMALY)
    every = np.concatenate([scores for scores, _ in parts.values()])
    edges = np.histogram_bin_edges(every, bins=checks.positive_int("bins", bins))
    band = None if inputs.one_eps(eps) == 0 else _band(detector, eps)
    figure, axes = _canvas(axes, (5.5, 3.4))
    for label, (scores, colour) in parts.items():
        weights = np.full(len(scores), 1 / len(scores))
        axes.hist(scores, edges, weights=weights, color=colour, alpha=0.6, label=f"{label} ({len(scores)})")
    axes.axvline(detector.offset_, color=BOUNDARY, lw=2, label="threshold")
    if band is not None:
        axes.axvspan(*band, color=BOUNDARY, alpha=0.18, lw=0, label=f"within reach of eps = {eps:g}")
    axes.set_xlabel("score (high = normal)")
    axes.set_ylabel("share of the rows")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def contribution_bars(
    detector: Any, x: ArrayLike, *, names: Sequence[str] | None = None, top: int = 12, axes: Any = None
) -> Figure:
    """Draw which features make one row abnormal, and where each would have to go for the row to be normal.

    Bars are `detector.contributions`, which follow -grad f and sum to `-decision`; the labels give the value of the
    feature and, after the arrow, its value at the end of the first-order way to the threshold,
    `x - decision * scale_ * g / ||g||^2` (g in standardised units). Estimate: the gradient is local.

    Args:
        detector: a fitted `SignedDistance` (needs `contributions` and `gradient`).
        x: (d,) one row.
        names: of the features; default: `feature_names_in_`, or numbers.
        top: at most so many features, the largest first; the others share one bar.
        axes: matplotlib axes; a new figure without.

    Raises:
        InputError: the detector has no contributions, x is not one row, the names are not one for each feature.
    """
    check_is_fitted(detector)
    if not hasattr(detector, "contributions") or not hasattr(detector, "gradient"):
        raise InputError(
            explain(
                "this detector has no contributions of features",
                received=type(detector).__name__,
                expected="SignedDistance",
            )
        )
    row = _one_row(x, int(detector.n_features_in_))
    labels = _names(detector, names)
    parts, gradient = detector.contributions(row)[0], detector.gradient(row)[0]
    decision, steep = float(detector.decision_function(row)[0]), float(gradient @ gradient)
    target = row[0] - decision * detector.scale_ * gradient / (steep if steep > 0 else 1.0)
    order = np.argsort(-np.abs(parts), kind="stable")
    kept, rest = np.split(order, [checks.positive_int("top", top)])
    heights = [*parts[kept]]
    texts = [f"{labels[j]}   {row[0, j]:.4g} \N{RIGHTWARDS ARROW} {target[j]:.4g}" for j in kept]
    if len(rest):
        heights.append(parts[rest].sum())
        texts.append(f"{len(rest)} others")
    figure, axes = _canvas(axes, (6.0, 0.9 + 0.3 * len(heights)))
    colours = [ANOMALY if value > 0 else NORMAL for value in heights]
    axes.barh(range(len(heights)), heights, color=colours, height=0.68)
    axes.set_yticks(range(len(heights)), texts, fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_xlabel(f"part in the {'abnormality' if decision < 0 else 'normality'} (decision {decision:.3g})")
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _scores(detector: Any, rows: ArrayLike) -> Array:
    return np.asarray(detector.score_samples(rows), dtype=np.float64)


def _band(detector: Any, radius: float) -> tuple[float, float]:
    reach = inputs.one_eps(radius) * _constant(detector)
    return float(detector.offset_) - reach, float(detector.offset_) + reach


def _constant(detector: Any) -> float:
    if not hasattr(detector, "lipschitz_"):
        raise InputError(
            explain(
                "this detector has no proven constant, so no radius can be drawn",
                received=type(detector).__name__,
                expected="a detector of onelip.oneclass",
            )
        )
    return float(detector.lipschitz_)


def _plane(detector: Any, value: ArrayLike, name: str) -> Array:
    check_is_fitted(detector)
    rows = np.asarray(value, dtype=np.float64)
    features = int(getattr(detector, "n_features_in_", 2))
    if features != 2 or rows.ndim != 2 or rows.shape[1] != 2 or not len(rows):
        raise InputError(
            explain(
                "level sets are drawn in the plane",
                received=f"{name} of shape {rows.shape} and a detector of {features} features",
                expected="(n, 2) rows and a detector fitted on two features",
            )
        )
    if not np.isfinite(rows).all():
        raise InputError(explain(f"{name} holds NaN or infinite values", expected="finite numbers"))
    return rows


def _one_row(x: ArrayLike, features: int) -> Array:
    row = np.asarray(x, dtype=np.float64)
    if row.size != features or row.ndim > 2:
        raise InputError(
            explain("contributions are drawn of one row", received=row.shape, expected=f"({features},)")
        )
    return row.reshape(1, features)


def _names(detector: Any, names: Sequence[str] | None) -> list[str]:
    features = int(detector.n_features_in_)
    known = getattr(detector, "feature_names_in_", None) if names is None else names
    result = [f"feature {j}" for j in range(features)] if known is None else [str(each) for each in known]
    if len(result) != features:
        raise InputError(explain("not one name for each feature", received=len(result), expected=features))
    return result


def _canvas(axes: Any, size: tuple[float, float]) -> tuple[Figure, Any]:
    if axes is not None:
        return axes.figure, axes
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def _view(detector: Any, rows: Array, pad: float) -> list[tuple[float, float]]:
    """Return the ends of both axes: a square in standardised units."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    unit: Array = np.asarray(getattr(detector, "scale_", rows.std(axis=0)), dtype=np.float64)
    unit = np.where(unit > 0, unit, 1.0)
    half: Array = max(float(((high - low) / unit).max()), 1e-9) * (0.5 + pad) * unit
    middle = (low + high) / 2
    return [(float(c - h), float(c + h)) for c, h in zip(middle, half, strict=True)]


def _contours(
    axes: Any,
    grid: tuple[Array, Array, Array],
    offset: float,
    lines: int,
    band: tuple[float, float] | None,
    labels: bool,
) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, TwoSlopeNorm
    from matplotlib.ticker import MaxNLocator

    x, y, score = grid
    least, most = float(score.min()), float(score.max())
    room = 1e-3 * (most - least) + 1e-12 * (1 + abs(offset))
    norm = TwoSlopeNorm(offset, min(least, offset) - room, max(most, offset) + room)
    # a jump at the threshold: the answer is seen where the score is flat, too
    out, within = (
        colormaps["OrRd_r"](np.linspace(0.15, 0.97, 128)),
        colormaps["Blues"](np.linspace(0.25, 0.75, 128)),
    )
    colours = ListedColormap(np.concatenate((out, within)))
    extent = (x[0, 0], x[0, -1], y[0, 0], y[-1, 0])
    axes.imshow(
        score, cmap=colours, norm=norm, extent=extent, origin="lower", aspect="auto", interpolation="bilinear"
    )
    levels = [level for level in MaxNLocator(lines).tick_values(least, most) if least < level < most]
    if levels:
        drawn = axes.contour(*grid, levels, colors=INK, linewidths=0.6, alpha=0.55, linestyles="solid")
        if labels:
            axes.clabel(drawn, fontsize=6, inline_spacing=2)
    if least < offset < most:
        axes.contour(*grid, [offset], colors=BOUNDARY, linewidths=2.2, zorder=5)
    inside = [level for level in band or () if least < level < most]
    if inside:
        axes.contour(*grid, inside, colors=BOUNDARY, linewidths=1.1, linestyles="dashed", zorder=5)


def _arrows(axes: Any, x: Array, y: Array, score: Array) -> None:
    # central differences of the drawn grid serve any detector
    up, right = np.gradient(score, y[:, 0], x[0], edge_order=1)
    way = np.stack((right, up)) / np.maximum(np.sqrt(right**2 + up**2), 1e-12)
    every = max(1, len(x) // 14)
    part = (slice(every // 2, None, every),) * 2
    axes.quiver(x[part], y[part], *way[:, *part], color=INK, alpha=0.55, scale=32, width=3e-3)
