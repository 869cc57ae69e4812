"""Pictures of single images for the report: radius maps, components, and the worst images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onelip.apps.common import percent
from onelip.apps.runs import Opened
from onelip.apps.summary import Record, middle
from onelip.core.numbers import round_down

if TYPE_CHECKING:
    from onelip.certify import SegmentationCertificate

SMALLEST = 2e-3  # connected regions below this share of the image are left out of the component maps
FLIPPED = 0.9  # a region counts as lost when this share of it has changed


def path(opened: Opened, index: int, what: str = "") -> Path:
    """Where a picture of an image lies: `what` is "" for the radius map."""
    name = f"{index:05d}-{Path(opened.dataset.ids[index]).name}{'-' if what else ''}{what}.png"
    return opened.run.out / "pictures" / name


def draw(opened: Opened, index: int, certificate: SegmentationCertificate) -> None:
    """Draw the radius map of an image, and the regions that survive the middle one of the eps asked for."""
    palette = opened.dataset.palette
    target = path(opened, index)
    target.parent.mkdir(parents=True, exist_ok=True)
    look: dict[str, Any] = {"dpi": 130, "bbox_inches": "tight", "pad_inches": 0.05}
    figure = certificate.component_figure(
        0,
        middle(sorted(set(opened.run.eps))),
        min_size=smallest(certificate),
        flipped=FLIPPED,
        palette=palette,
    )
    figure.savefig(path(opened, index, "regions"), **look)
    certificate.figure(palette=palette).savefig(target, **look)  # last: where it is, the other one is too


def smallest(certificate: SegmentationCertificate) -> int:
    """Pixels of the smallest region that is drawn."""
    height, width = certificate.logits.shape[-2:]
    return max(1, round(SMALLEST * height * width))


def complete(opened: Opened, indices: Sequence[int], fresh: set[int]) -> None:
    """Draw the images that lack their pictures, certified once more; `fresh` are those that this run drew."""
    for index in dict.fromkeys(indices):
        kept = opened.run.resume and path(opened, index).is_file()
        if index not in fresh and not kept:
            image, target = (t.unsqueeze(0) for t in opened.dataset[index])
            draw(opened, index, opened.certifier(image, target))
            fresh.add(index)


def sections(opened: Opened, shown: Sequence[Record], worst: Record, fresh: set[int]) -> dict[str, Any]:
    """The pictures that are there, with captions: radius maps, regions, and the worst images.

    Pictures that an earlier run left in the folder are of something else unless this run resumes it.
    """
    run = opened.run
    shown = [r for r in shown if run.resume or r["index"] in fresh]
    rows = [r for r in worst["rows"] if run.pictures and (run.resume or r["index"] in fresh)]
    name, eps = f"{run.split} image", f"eps {middle(sorted(set(run.eps))):g}"
    pictures, components, low = [], [], []
    for record in shown:
        index, who = record["index"], f"{name} {record['id']}"
        median = record["median_radius"]
        radius = "no valid pixel" if median is None else f"radius of the median pixel {round_down(median, 3)}"
        pictures += _entry(opened, index, "", f"{who}: {radius}")
        components += _entry(opened, index, "regions", f"{who}, {eps}")
    for row in rows:
        shares = f"certified accuracy {percent(row['certified'])} at {eps}, clean {percent(row['clean'])}"
        low += _entry(opened, row["index"], "", f"{name} {row['id']}: {shares}")
    return {"pictures": pictures, "components": components, "worst": {**worst, "pictures": low}}


def _entry(opened: Opened, index: int, what: str, caption: str) -> list[dict[str, str]]:
    file = path(opened, index, what)
    return [{"file": str(file.relative_to(opened.run.out)), "caption": caption}] if file.is_file() else []
