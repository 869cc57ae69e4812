"""Seconds to render one approach picture on one core, label included, at 256, 384 and 512 pixels.

    OMP_NUM_THREADS=1 python benchmarks/runways_render.py

Processor seconds of this process, so that other work on the machine counts less. Checked in the same run: the
masks against rays cast at the runway (a finer grid of rays), and the sizes of the boxes.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

import common
from onelip.data import RunwayDataset, runways
from onelip.data.runway.camera import Camera
from onelip.data.runway.render import label, outline, render
from onelip.data.runway.scene import Scene

SIZES, SEED, RAYS = (256, 384, 512), 0, 15
QUANTILES = (5, 25, 50, 75, 95)


def seconds(dataset: RunwayDataset, count: int) -> list[float]:
    """Processor seconds of `count` pictures, one after the other; the first, which fills the tables, is left out."""
    dataset.rendered(0)
    found = []
    for k in range(count):
        start = time.process_time()
        dataset.rendered(k)
        found.append(time.process_time() - start)
    return found


def overlap(scene: Scene, size: tuple[int, int]) -> float:
    """Return the IoU of a mask with one made of 15 x 15 rays a pixel, cast in the box and 2 pixels around it."""
    camera, runway, corners = Camera(scene.pose, size), scene.runway, outline(scene, size)
    (x1, y1), (x2, y2) = np.floor(corners.min(0)).astype(int) - 2, np.ceil(corners.max(0)).astype(int) + 2
    h, w = y2 - y1, x2 - x1
    v, u = ((a.ravel() + 0.5) / RAYS for a in np.mgrid[: h * RAYS, : w * RAYS])
    rays = camera.rays(u + x1, v + y1)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = -camera.position[2] / rays[:, 2]
        x, y = (camera.position[:2] + reach[:, None] * rays[:, :2]).T
    inside = (reach > 0) & (abs(x) <= runway.width / 2) & (y >= 0) & (y <= runway.length)
    exact = inside.reshape(h, RAYS, w, RAYS).mean(axis=(1, 3)) >= 0.5
    mask = np.pad(label(scene, size), 2)[y1 + 2 : y2 + 2, x1 + 2 : x2 + 2] > 0  # the box lies in the picture
    return float((mask & exact).sum() / (mask | exact).sum())


def boxes(dataset: RunwayDataset) -> dict[str, Any]:
    """Return quantiles of the sides of the boxes in pixels."""
    size = dataset.size or (0, 0)
    sides = [np.ptp(outline(dataset.scene(k), size), axis=0) for k in range(len(dataset))]
    width, height = np.percentile(sides, QUANTILES, axis=0).T.round(1).tolist()
    return {"quantiles, %": QUANTILES, "width": width, "height": height}


def main(count: int = 60) -> None:
    """Measure and write results/renderer.json."""
    results: dict[str, Any] = {}
    for size in SIZES:
        dataset = runways(1000, size, seed=SEED)
        results[str(size)] = {
            "seconds per image, one core": common.quartiles(seconds(dataset, count)),
            "boxes of 1000": boxes(dataset),
        }
    scenes = [runways(60, 256, seed=SEED).scene(k) for k in range(60)]
    found = [overlap(scene, (256, 256)) for scene in scenes]
    results["masks against 225 rays a pixel, 60 images of 256"] = {
        "mean IoU": round(float(np.mean(found)), 4),
        "least IoU": round(min(found), 4),
    }
    same = [(render(s, (256, 256)).image == render(s, (256, 256)).image).all() for s in scenes[:5]]
    results["rendered twice, the same bytes"] = bool(all(same))
    notes = [
        f"{count} pictures a size; the default world of each size: farther at more pixels",
        "numpy alone",
    ]
    common.write("renderer", results, seed=SEED, notes=notes)


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
