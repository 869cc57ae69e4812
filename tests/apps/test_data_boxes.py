"""`onelip data inspect` on sets of boxes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    """Three pictures: two cats of which one is partly outside, nothing, and a dog in a file that is broken."""
    boxes = {1: [(1, [4, 5, 10, 12]), (1, [30, 2, 20, 8])], 2: [], 3: [(2, [1, 1, 9, 9])]}
    record = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    for number, found in boxes.items():
        Image.fromarray(np.zeros((32, 40, 3), np.uint8)).save(tmp_path / f"{number}.png")
        record["images"].append({"id": number, "file_name": f"{number}.png", "height": 32, "width": 40})
        record["annotations"] += [{"image_id": number, "category_id": c, "bbox": b} for c, b in found]
    (tmp_path / "3.png").write_bytes(b"broken")
    (tmp_path / "train.json").write_text(json.dumps(record))
    return tmp_path


def test_a_folder_of_boxes_is_counted_and_drawn(call, folder, tmp_path):
    out = tmp_path / "out"
    done = call("data", "inspect", folder, "--size", "64x80", "--out", out)
    assert done.returncode == 0, done.stderr
    for text in (
        "3 images (2 of 64x80), 2 objects",
        "0 to 2 objects an image; 1 images without objects",
        "clipped",
        "problem: ",
        f"onelip.data.open_boxes('{folder}', 'train')",
    ):
        assert text in done.stdout
    results = json.loads((out / "results.json").read_text())
    assert [c["objects"] for c in results["classes"]] == [2, 0]
    assert results["classes"][0]["quantiles"][2] == [0.5, 20.0, 20.0]
    assert (results["kind"], results["repairs"][0]["count"], len(results["problems"])) == ("data", 1, 1)
    page = np.asarray(Image.open(out / "contact.png"))
    assert page.shape[1] == 2 * 256  # the broken picture is left out


def test_a_json_of_coco_and_runways_on_request(call, folder, tmp_path):
    done = call("data", "inspect", folder / "train.json", "--pictures", "0", "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "a" / "contact.png").exists()
    assert call("data", "inspect", folder, "--split", "test", "--out", tmp_path / "b").returncode == 2
    done = call("data", "inspect", "camvid", "--boxes", "--out", tmp_path / "c")
    assert done.returncode == 2
    assert "there is no set of boxes 'camvid'" in done.stderr
