"""What is written of a rendered picture: its row in LARD's units, its COCO annotation, its exact pose."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..runway.mask import area
from .schema import Row, reading_order

if TYPE_CHECKING:
    from ..runway.render import Rendered

Record = dict[str, Any]
LATERAL_APEX, VERTICAL_APEX = 3050.0, 305.0  # metres beyond the threshold, where LARD's two path angles start


def record(rendered: Rendered, index: int) -> Record:
    """Return everything that is known of a rendered picture, JSON-ready and exact.

    Args:
        rendered: The picture.
        index: Its number in the set.

    Returns:
        image, mask: paths relative to the table; size [h, w]; corners [[x, y]] near-left, near-right, far-right,
        far-left in continuous pixels, and box [x1, y1, x2, y2], both None without a runway; position in metres;
        scene: all fields of the scene.
    """
    scene, seen = rendered.scene, rendered.box is not None
    name = f"{index:06d}.png"
    return {
        "index": index,
        "image": f"images/{name}",
        "mask": f"masks/{name}",
        "size": list(rendered.mask.shape),
        "corners": [[float(x), float(y)] for x, y in rendered.corners] if seen else None,
        "box": None if rendered.box is None else [float(v) for v in rendered.box],
        "position": [float(v) for v in scene.pose.position],
        "scene": dataclasses.asdict(scene),
    }


def row(known: Record) -> Row:
    """Return the row of LARD's table; the heading of a drawn runway is ten times its number.

    A negative has neither corners nor a runway, as LARD leaves unknown cells empty.
    """
    scene, (x, y, z) = known["scene"], known["position"]
    pose, runway = scene["pose"], scene["runway"]
    shown = known["corners"] is not None
    height, width = known["size"]
    name = f"{runway['number']:02d}{runway['letter']}" if shown else ""
    return Row(
        image=known["image"],
        height=height,
        width=width,
        type="synthetic",
        original_dataset="onelip runways",
        scenario=f"runways_{scene['seed']}_{known['index']:06d}",
        runway=name,
        slant_distance=math.hypot(x, y, z),
        along_track_distance=-y,
        height_above_runway=abs(z),  # LARD drops the sign
        lateral_path_angle=math.degrees(math.atan2(x, LATERAL_APEX - y)),
        vertical_path_angle=math.degrees(math.atan2(z, VERTICAL_APEX - y)),
        yaw=(10.0 * runway["number"] + pose["yaw"]) % 360.0,
        pitch=pose["pitch"],
        roll=pose["roll"],
        watermark_height=0,
        corners=reading_order([(cx, cy) for cx, cy in known["corners"]], width) if shown else None,
    )


def coco(records: Sequence[Record]) -> dict[str, Any]:
    """Return COCO's JSON: boxes [x, y, width, height] with the top-left corner first, outlines in polygon order."""
    images, annotations = [], []
    for known in records:
        height, width = known["size"]
        number = known["index"] + 1
        images.append({"id": number, "file_name": known["image"], "height": height, "width": width})
        if known["corners"] is None:
            continue
        x1, y1, x2, y2 = known["box"]
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": abs(area(np.array(known["corners"]))),
                "segmentation": [[value for corner in known["corners"] for value in corner]],
                "iscrowd": 0,
            }
        )
    return {
        "info": {"description": "onelip runways"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "runway"}],
    }
