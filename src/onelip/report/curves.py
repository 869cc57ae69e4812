"""The certified curve of one or more models, as SVG that takes the text colour of its page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

_INK = "#010203"  # replaced by currentColor, so that the picture follows light and dark pages
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = {"PixelAccuracy": "-", "Stability": (0, (4, 2))}
NAMES = {"PixelAccuracy": "pixel accuracy", "Stability": "stability"}


def curve_svg(results: Sequence[dict[str, Any]]) -> str:
    """Certified value over eps; a dotted line at the clean value of each curve that has one below 1.

    Args:
        results: results of `onelip certify`, one for each model.

    Returns:
        An `<svg>` element.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "onelip",
        "font.family": "sans-serif",
        "font.size": 11,
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK
        ),
    }
    with rc_context(settings):
        figure = Figure(figsize=(8.4, 3.8), layout="constrained")
        axes = figure.subplots()
        for number, result in enumerate(results):
            _draw(axes, result, _COLOURS[number % len(_COLOURS)], several=len(results) > 1)
        axes.set_xlabel(_axis(results))
        axes.set_ylabel("certified share of pixels")
        axes.set_ylim(0, 1.02)
        axes.set_xlim(left=0)
        axes.grid(color=_INK, alpha=0.12, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, borderaxespad=0.0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue())


def _draw(axes: Any, result: dict[str, Any], colour: str, *, several: bool) -> None:
    for curve in result.get("curves", []):
        name = NAMES.get(curve["criterion"], curve["criterion"])
        points = [(e, v) for e, v in zip(curve["eps"], curve["values"], strict=True) if v is not None]
        if not points:
            continue
        label = f"{result['model']['name']}: {name}" if several else f"certified {name}"
        style = _DASHES.get(curve["criterion"], "-.")
        # Steps: between two known points only the value at the larger eps is proven, and a chord would lie above.
        axes.step(
            *zip(*points, strict=True), where="pre", color=colour, linestyle=style, linewidth=2, label=label
        )
        clean = curve.get("clean")
        if clean is not None and clean < 1.0:
            axes.axhline(clean, color=colour, linestyle=":", linewidth=1.2, label=f"clean {clean:.3f}")


def _axis(results: Sequence[dict[str, Any]]) -> str:
    norms = sorted({str(r.get("p", 2)) for r in results})
    return "eps: l" + "/".join(n.removesuffix(".0") for n in norms) + " norm of the perturbation of one image"


def _inline(svg: str) -> str:
    start = svg.index("<svg")
    body = svg[start:].replace(_INK, "currentColor")
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    return re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
