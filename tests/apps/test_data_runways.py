"""`onelip data runways`: what it writes, and that a kill at any moment changes no byte of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onelip import data

COUNT = 16
SMALL = ["data", "runways", "--n", str(COUNT), "--size", "64x80", "--negatives", "0.2", "--seed", "3"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A set that was rendered by one process, without interruption."""
    out = tmp_path_factory.mktemp("runways")
    arguments = [sys.executable, "-m", "onelip", *SMALL, "--workers", "1", "--out", str(out)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return out


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def start(out: Path, workers: int = 2) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "onelip", *SMALL, "--workers", str(workers), "--out", str(out)]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(reached: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < limit
        time.sleep(0.002)


def alive(session: int) -> list[int]:
    """Processes of a session that still run (not those that are only not yet reaped)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def kill_after(out: Path, *, pictures: int, workers: int) -> None:
    process = start(out, workers)
    wait_for(lambda: len(list(out.glob("train/images/0*.png"))) >= pictures)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    wait_for(lambda: not alive(process.pid))  # workers must not outlive the command
    assert not (out / "train" / "train.csv").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for orphans in /proc")
def test_killed_sets_resume_to_the_same_bytes(finished, tmp_path, call):
    kill_after(tmp_path, pictures=1, workers=1)
    kill_after(tmp_path, pictures=7, workers=2)
    (tmp_path / "train" / "images" / ".000001.png.left").write_bytes(b"torn")
    with (tmp_path / "train" / "progress.jsonl").open("a") as file:
        file.write('{"index": 3, "image": "ima')
    assert call(*SMALL, "--workers", "1", "--out", tmp_path).returncode == 0
    assert tree(tmp_path) == tree(finished)


def test_interruption_exits_130_and_keeps_what_is_done(finished, tmp_path, call):
    process = start(tmp_path)
    journal = tmp_path / "train" / "progress.jsonl"
    wait_for(lambda: journal.is_file() and journal.read_text().count("\n") >= 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not (tmp_path / "train" / "train.csv").exists()
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "train" / "images").glob("0*.png")}
    lines = journal.read_text().splitlines()
    assert 2 <= len(lines) <= len(kept) < COUNT
    recorded = {Path(json.loads(line)["image"]).name for line in lines}
    assert call(*SMALL, "--workers", "1", "--out", tmp_path).returncode == 0
    for name in recorded:
        assert (tmp_path / "train" / "images" / name).stat().st_mtime_ns == kept[name]
    assert tree(tmp_path) == tree(finished)


def test_a_lost_picture_of_a_finished_set_is_rendered_again(finished, tmp_path, call):
    before = tree(finished)
    (finished / "train" / "images" / "000004.png").unlink()
    assert call(*SMALL, "--workers", "1", "--out", finished).returncode == 0
    assert tree(finished) == before


def test_files_agree_with_the_data_set(finished):
    folder = finished / "train"
    dataset = data.runways(COUNT, (64, 80), seed=3, negatives=0.2)
    poses = json.loads((folder / "poses.json").read_text())
    coco = json.loads((folder / "coco.json").read_text())
    boxes = {a["image_id"]: a["bbox"] for a in coco["annotations"]}
    seen = 0
    for k in range(COUNT):
        image, mask = dataset.read(k)
        assert np.array_equal(np.asarray(Image.open(folder / poses[k]["image"])), image)
        stored = Image.open(folder / poses[k]["mask"])
        assert stored.mode == "L"
        assert np.array_equal(np.asarray(stored), mask)
        box = dataset.box(k)
        if box is None:
            assert poses[k]["corners"] is None
            assert k + 1 not in boxes
            assert not mask.any()
            continue
        seen += 1
        assert poses[k]["corners"] == dataset.corners(k).tolist()
        x, y, w, h = boxes[k + 1]  # COCO: top-left corner and size
        assert (x, y, x + w, y + h) == pytest.approx(box.tolist())
    assert 0 < seen < COUNT
    results = json.loads((folder / "results.json").read_text())
    assert (results["images"], results["boxes"]["count"]) == (COUNT, seen)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--n", "0"], "n=0"),
        (["--size", "16"], "at least 32"),
        (["--size", "wide"], "--size is not a size"),
        (["--workers", "0"], "`workers` is not usable"),
        (["--biome", "moon"], "moon"),
        (["--split", "tomorrow"], "tomorrow"),
        (["--distance", "900"], "`distance` is no range"),
        (["--haze", "far"], "--haze is not a list of numbers"),
        (["--negatives", "2"], "`negatives` is out of range"),
        (["--database", "/nowhere.json"], "/nowhere.json"),
    ],
)
def test_bad_input_is_one_sentence(words, said, tmp_path, call):
    done = call("data", "runways", "--n", "2", "--size", "64", "--out", tmp_path, *words)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert said in done.stderr
    assert not list(tmp_path.rglob("*.png"))


def test_another_recipe_or_other_files_are_refused(finished, tmp_path, call):
    done = call(*SMALL, "--second", "0.5", "--out", finished)
    assert done.returncode == 2
    assert "begun with another recipe; received options" in done.stderr
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.txt").write_text("precious")
    done = call(*SMALL, "--out", tmp_path)
    assert done.returncode == 2
    assert "holds other files; received mine.txt" in done.stderr
    assert (tmp_path / "train" / "mine.txt").read_text() == "precious"
