"""Learn three solids from 2048 oriented points each, measure them, draw docs/images/oneclass-surface.png.

    python benchmarks/oneclass_surface.py                # a few minutes; needs pip install 'onelip[surfaces]'

Chamfer distances (sum of the two mean nearest distances) are between 20,000 points of the mesh and of the true surface;
"floor" is that of two samples of the true surface. Units: those of the shapes, whose sizes are about 1.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import common
from onelip.oneclass.mesh import chamfer, hausdorff
from onelip.oneclass.shapes import Box, Shape, Sphere, Torus
from onelip.oneclass.surface import DistanceField, fit_surface

IMAGE = Path(__file__).parent.parent / "docs" / "images" / "oneclass-surface.png"
SHAPES: dict[str, Shape] = {"sphere": Sphere(1.0), "torus": Torus(1.2, 0.5), "box": Box((1.2, 0.8, 0.5))}
COLOURS = {"sphere": "#2a9d8f", "torus": "#3a7fb7", "box": "#e08e45"}
COUNT = 20_000


def measure(shape: Shape, field: DistanceField, options: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """Numbers of one field, and its mesh."""
    truth, again = shape.sample(COUNT, 1)[0], shape.sample(COUNT, 2)[0]
    mesh = field.mesh(resolution=options.resolution)
    found = mesh.sample(COUNT)
    random = np.random.default_rng(3)
    anywhere = random.uniform(field.low, field.high, (COUNT, 3))
    true = shape.distance(anywhere)
    inside, error = true > 0, np.abs(field(anywhere) - true)
    zero = field.mesh(resolution=options.resolution, level=-field.scale * field.level)
    return {
        "Chamfer at the level of the margin": chamfer(found, truth),
        "Chamfer at level 0": chamfer(zero.sample(COUNT), truth),
        "Chamfer, floor": chamfer(again, truth),
        "Hausdorff": hausdorff(found, truth),
        "mean error of the distance outside": float(error[~inside].mean()),
        "mean error of the distance inside": float(error[inside].mean()),
        "lipschitz": field.lipschitz,
        "closed": mesh.closed,
        "triangles": len(mesh.faces),
    }, mesh


def draw(
    figure: Figure, place: int, name: str, field: DistanceField, shape: Shape, mesh: Any, row: dict[str, Any]
) -> None:
    """The surface above, a slice of the field below."""
    above = figure.add_subplot(2, 3, place, projection="3d")
    mesh.figure(axes=above, colour=COLOURS[name])
    above.set_title(f"{name}: Chamfer {row['Chamfer at the level of the margin']:.3f}", fontsize=12)
    below = figure.add_subplot(2, 3, place + 3)
    ticks = [np.linspace(field.low[k], field.high[k], 200) for k in (0, 2)]
    x, z = np.meshgrid(*ticks, indexing="xy")
    points = np.column_stack((x.ravel(), np.zeros(x.size), z.ravel()))
    value, true = field(points).reshape(x.shape), shape.distance(points).reshape(x.shape)
    top = float(np.abs(value).max())
    below.imshow(
        value,
        cmap="RdBu",
        vmin=-top,
        vmax=top,
        origin="lower",
        extent=(*ticks[0][[0, -1]], *ticks[1][[0, -1]]),
    )
    lines = below.contour(x, z, value, np.arange(-2, 1.01, 0.15), colors="#1d2733", linewidths=0.6, alpha=0.6)
    lines.set_linestyle("solid")
    below.contour(x, z, true, [0], colors="#1d2733", linewidths=1.6, linestyles="dotted")
    below.contour(x, z, value, [0], colors="#f2a900", linewidths=2.2)
    below.set(xticks=[], yticks=[], aspect="equal")
    below.set_title("slice: learned surface (yellow), true one (dotted)", fontsize=9)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--points", type=int, default=2048)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--margin", type=float, default=0.05)
    parser.add_argument("--lam", type=float, default=20.0)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--meshes", type=Path, help="folder for the surfaces, .obj, .off and .ply")
    parser.add_argument("--out", type=Path, default=IMAGE)
    options = parser.parse_args()
    figure = Figure(figsize=(13.5, 7.4), layout="constrained")
    rows = {}
    for place, name in enumerate(options.shapes, 1):
        shape, start = SHAPES[name], time.process_time()
        field = fit_surface(
            *shape.sample(options.points, options.seed),
            steps=options.steps,
            margin=options.margin,
            lam=options.lam,
            random_state=options.seed,
        )
        seconds = time.process_time() - start
        rows[name], mesh = measure(shape, field, options)
        rows[name]["CPU seconds of the fit"] = round(seconds, 1)
        print(name, rows[name], flush=True)
        draw(figure, place, name, field, shape, mesh, rows[name])
        if options.meshes:
            options.meshes.mkdir(parents=True, exist_ok=True)
            for suffix in ("obj", "off", "ply"):
                mesh.save(options.meshes / f"{name}.{suffix}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=95)
    Image.open(options.out).convert("RGB").quantize(256).save(options.out, optimize=True)
    settings = {key: getattr(options, key) for key in ("steps", "points", "resolution", "margin", "lam")}
    common.write(
        "oneclass_surface", {"settings": settings, "shapes": rows}, seed=options.seed, notes=[__doc__ or ""]
    )


if __name__ == "__main__":
    main()
