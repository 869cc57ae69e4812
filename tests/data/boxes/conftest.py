"""Small sets of boxes, written to a folder."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIZE = (40, 60)  # (h, w) of the pictures


def _paint(path: Path, boxes: list[list[float]], size: tuple[int, int] = SIZE) -> None:
    """A black picture whose boxes x1 y1 x2 y2 are white."""
    pixels = np.zeros((*size, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        pixels[int(y1) : int(y2), int(x1) : int(x2)] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


class Coco:
    """A JSON of COCO that can be spoilt before it is written."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "boxes.json"
        self.record: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        for number, name in ((7, "cat"), (3, "dog")):  # ids in no order, not from 1
            self.record["categories"].append({"id": number, "name": name})
        self.picture(10, [[2, 3, 10, 20]], category=7)
        self.picture(11, [])
        self.picture(12, [[5, 5, 8, 8], [30, 10, 20, 12]], category=3)

    def picture(self, number: int, boxes: list[list[float]], category: int = 7) -> None:
        """Add a picture with boxes x y w h."""
        name = f"images/{number}.png"
        _paint(self.folder / name, [[x, y, x + w, y + h] for x, y, w, h in boxes])
        size = {"height": SIZE[0], "width": SIZE[1]}
        self.record["images"].append({"id": number, "file_name": name, **size})
        for box in boxes:
            row = {"id": len(self.record["annotations"]) + 1, "image_id": number, "category_id": category}
            self.record["annotations"].append({**row, "bbox": box, "area": 1.0, "iscrowd": 0})

    def write(self) -> Path:
        self.path.write_text(json.dumps(self.record))
        return self.path


@pytest.fixture
def coco_set(tmp_path: Path) -> Coco:
    return Coco(tmp_path)


XML = """<annotation><filename>{picture}</filename><size><width>{w}</width><height>{h}</height></size>{objects}
</annotation>"""
OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def _voc_file(root: Path, stem: str, objects: list[tuple[Any, ...]], picture: str | None = None) -> Path:
    """Write a picture and its XML; objects are (name, difficult, xmin, ymin, xmax, ymax)."""
    h, w = SIZE
    _paint(root / "JPEGImages" / f"{stem}.png", [])
    path = root / "Annotations" / f"{stem}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = XML.format(
        picture=picture or f"{stem}.png", w=w, h=h, objects="".join(OBJECT.format(*o) for o in objects)
    )
    path.write_text(text)
    return path


@pytest.fixture
def write() -> SimpleNamespace:
    """What writes pictures, JSON of COCO and XML of VOC."""
    return SimpleNamespace(picture=_paint, coco=Coco, voc=_voc_file)
