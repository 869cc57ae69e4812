"""Pictures of a run: those that are missing are drawn, those of another run are never shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onelip.apps.evaluate import evaluate
from onelip.apps.plan import Plan


@pytest.fixture(scope="module")
def plan(model, tmp_path_factory):
    return Plan(
        model=str(model),
        data="scenes",
        out=tmp_path_factory.mktemp("gallery"),
        eps=(0.1,),
        criteria=("accuracy",),
        limit=5,
        size=(24, 32),
        pictures=1,
        per_class=False,
    )


@pytest.fixture(scope="module")
def first(plan):
    return evaluate(plan)


def drawn(plan):
    return {path.name: path.stat().st_mtime_ns for path in (plan.out / "pictures").iterdir()}


def test_shown_and_worst_images_are_drawn(plan, first):
    assert len(first["pictures"]) == len(first["components"]) == 1
    rows, pictures = first["worst"]["rows"], first["worst"]["pictures"]
    assert len(rows) == len(pictures) == 3
    accuracies = [row["certified"] for row in rows]
    assert accuracies == sorted(accuracies)
    for picture in [*first["pictures"], *first["components"], *pictures]:
        assert (plan.out / picture["file"]).stat().st_size > 1000
    for row, picture in zip(rows, pictures, strict=True):
        assert row["id"] in picture["caption"]


def test_resuming_draws_only_what_is_missing(plan, first):
    before = drawn(plan)
    lost = first["worst"]["pictures"][-1]["file"]
    (plan.out / lost).unlink()
    again = evaluate(replace(plan, resume=True))
    assert again["worst"] == first["worst"]
    assert again["pictures"] == first["pictures"]
    stem = lost.split("/")[-1].removesuffix(".png")
    assert {name for name, time in drawn(plan).items() if time != before[name]} <= {
        f"{stem}.png",
        f"{stem}-regions.png",
    }
    assert set(drawn(plan)) == set(before)


def test_pictures_of_an_earlier_run_are_not_shown(plan, first):
    """A run that is interrupted, or that wants no pictures, must not show those of another model."""
    without = evaluate(replace(plan, pictures=0))
    assert without["pictures"] == without["components"] == without["worst"]["pictures"] == []
    before = drawn(plan)
    evaluate(plan)
    assert all(time != before[name] for name, time in drawn(plan).items())
