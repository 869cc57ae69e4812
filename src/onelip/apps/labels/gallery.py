"""Pictures of single images of a classifier for the report: saliency and counterfactual, or what an attack changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onelip.core.numbers import round_down, round_up

if TYPE_CHECKING:
    from torch import Tensor

    from onelip.apps.labels.opened import OpenedLabels

Record = dict[str, Any]
STEPS, REFINE = 60, 4  # of the counterfactuals that are drawn beside certificates
LOOK: dict[str, Any] = {"dpi": 130, "bbox_inches": "tight", "pad_inches": 0.05}


def path(opened: OpenedLabels, index: int, what: str = "") -> Path:
    """Where the picture of an image lies: `what` is "" for what explains its class, or "attack"."""
    stem = Path(opened.dataset.ids[index]).stem
    return opened.run.out / "pictures" / f"{index:05d}-{stem}{'-' if what else ''}{what}.png"


def draw(opened: OpenedLabels, index: int) -> None:
    """Draw image, saliency of its class, nearest counterfactual found, and what that changes."""
    from onelip import explain
    from onelip.report.labels import explained

    images, _ = opened.batch([index])
    found = explain.counterfactual(opened.model, images, steps=STEPS, refine=REFINE, seed=opened.run.seed)
    figure = explained(found, explain.saliency(opened.model, images), opened.dataset.classes, side=1.35)
    _save(figure, path(opened, index))


def draw_attack(opened: OpenedLabels, index: int, panels: Sequence[tuple[str, Tensor, int]]) -> None:
    """Draw an image beside what attacks made of it.

    Args:
        opened: the run.
        index: of the image.
        panels: (title, image (C, H, W), predicted class), the clean image first.
    """
    from onelip.report.labels import attacked

    _save(attacked(panels, opened.dataset.classes), path(opened, index, "attack"))


def _save(figure: Any, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, **LOOK)


def complete(opened: OpenedLabels, indices: Sequence[int], fresh: set[int]) -> None:
    """Draw the images that lack their pictures; `fresh` are those that this run drew."""
    for index in dict.fromkeys(indices):
        kept = opened.run.resume and path(opened, index).is_file()
        if index not in fresh and not kept:
            draw(opened, index)
            fresh.add(index)


def sections(
    opened: OpenedLabels,
    done: Sequence[Record],
    shown: Sequence[int],
    low: Sequence[Record],
    fresh: set[int],
) -> dict[str, Any]:
    """The pictures that are there, with captions: images of the whole set, and the least certified ones.

    Pictures that an earlier run left in the folder are of something else unless this run resumes it.
    """
    run = opened.run
    by_index = {r["index"]: r for r in done if run.pictures and (run.resume or r["index"] in fresh)}
    by_index = {index: r for index, r in by_index.items() if path(opened, index).is_file()}
    first = [by_index[index] for index in shown if index in by_index]
    least = [by_index[row["index"]] for row in low if row["index"] in by_index]
    return {
        "pictures": [_entry(opened, r) for r in first],
        "worst": {"rows": list(low), "pictures": [_entry(opened, r) for r in least]},
    }


def _entry(opened: OpenedLabels, record: Record) -> dict[str, str]:
    names, run = opened.dataset.classes, opened.run
    label, predicted, rival = (names[record[k]] for k in ("label", "predicted", "runner_up"))
    told = f"taken for {predicted}" if label == predicted else f"a {label} taken for {predicted}"
    radius = round_down(float(record["stable_radius"]), 4)
    return {
        "file": str(path(opened, record["index"]).relative_to(run.out)),
        "caption": f"{run.split} image {record['id']}, {told}; no perturbation with an l{run.p:g} norm below {radius} "
        f"changes that, the nearest class is {rival}",
    }


def attack_entry(opened: OpenedLabels, record: Record, eps: float) -> dict[str, str]:
    """The picture of an attacked image with its caption."""
    names, run = opened.dataset.classes, opened.run
    told = f"a {names[record['label']]}, certified radius {round_down(float(record['radius']), 4)}"
    found = [
        s["radius"] for s in (record["smallest"] or {}).values() if s is not None and s["radius"] != "inf"
    ]
    if found:
        told += f", smallest perturbation found {round_up(min(map(float, found)), 4)}"
    return {
        "file": str(path(opened, record["index"], "attack").relative_to(run.out)),
        "caption": f"{run.split} image {record['id']}, {told}; attacks of eps {eps:g}, changes at full contrast",
    }
