"""Curves as SVG that takes the text colour of its page."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

from onelip.report.lines import Line

INK = "#010203"  # replaced by currentColor, so that the picture follows light and dark pages
WIDE, NARROW = (8.2, 3.9), (4.4, 3.4)  # for a desk and for a telephone, in inches


def curve_svg(lines: Sequence[Line], norms: Sequence[str], *, size: tuple[float, float] = WIDE) -> str:
    """Certified values over eps as steps, attacked ones above them, and the room between the two shaded.

    Args:
        lines: as returned by `onelip.report.lines.lines`.
        norms: norms of the perturbations, for the axis.
        size: width and height in inches.

    Returns:
        An `<svg>` element.
    """

    def draw(axes: Any) -> None:
        for line in lines:
            _draw(axes, line)
        axes.set_xlabel(f"eps (l{'/'.join(norms)} norm of the perturbation)")
        axes.set_ylabel("certified" if not any(line.attacked for line in lines) else "certified and attacked")
        axes.set_ylim(0, 1.02)
        _stretch(axes, lines)
        axes.grid(color=INK, alpha=0.12, linewidth=0.8)

    return themed_svg(draw, size)


def themed_svg(draw: Callable[[Any], None], size: tuple[float, float] = WIDE) -> str:
    """Picture of one pair of axes, whose ink (`INK`) is the text colour of its page.

    Args:
        draw: draws on the axes.
        size: width and height in inches.

    Returns:
        An `<svg>` element.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    colours = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"onelip{size}",
        "font.family": "sans-serif",
        "font.size": 11,
        **dict.fromkeys(colours, INK),
    }
    with rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue())


def _stretch(axes: Any, lines: Sequence[Line]) -> None:
    """Begin at 0; where a curve has lost half of its value within a thirtieth of the axis, eps grows by factors."""
    ends = [points[-1][0] for line in lines for points in (line.certified, line.attacked) if points]
    halves = [
        next((e for e, value in line.certified if e > 0 and value < line.certified[0][1] / 2), None)
        for line in lines
        if line.certified
    ]
    lost = [e for e in halves if e is not None]
    if lost and max(ends) > 30 * min(lost):
        axes.set_xscale("symlog", linthresh=min(lost))
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(left=0)


def _draw(axes: Any, line: Line) -> None:
    dash: Any = (0, tuple(float(part) / 2 for part in line.dash.split())) if line.dash else "-"
    # Steps: between two known points only the value at the larger eps is proven, and a chord would lie above.
    eps, values = zip((0.0, line.certified[0][1]), *line.certified, strict=True)
    axes.step(eps, values, where="pre", color=line.colour, linestyle=dash, linewidth=2)
    if line.clean is not None and line.clean < 1.0:
        axes.axhline(line.clean, color=line.colour, linestyle=":", linewidth=1.2)
    if line.attacked and line.clean is not None:
        # What an attack reached at one eps it reaches at every larger one: the value holds to the right.
        found, reached = zip((0.0, line.clean), *line.attacked, strict=True)
        axes.step(found, reached, where="post", color=line.colour, linewidth=1.2)
        axes.plot(found[1:], reached[1:], "o", color=line.colour, markersize=4)
        _shade(axes, line)
    if line.noise:
        axes.plot(*zip(*line.noise, strict=True), "x", color=line.colour, markersize=6)


def _shade(axes: Any, line: Line) -> None:
    """Fill what lies between the two steps, up to the last eps that both have."""
    attacked = ((0.0, line.clean or 0.0), *line.attacked)
    knots = sorted({e for e, _ in (*line.certified, *attacked) if e <= line.top} | {0.0})
    low, high, where = [], [], []
    for start, end in itertools.pairwise(knots):
        proven = next(v for e, v in line.certified if e >= end)
        reached = [v for e, v in attacked if e <= start][-1]
        where += [start, end]
        low += [proven, proven]
        high += [reached, reached]
    axes.fill_between(where, low, high, color=line.colour, alpha=0.13, linewidth=0)


def _inline(svg: str) -> str:
    start = svg.index("<svg")
    body = svg[start:].replace(INK, "currentColor")
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    return re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
