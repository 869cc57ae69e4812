"""Certificate sheets of single images for the report: picture, objects with their radii, what is not certified."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onelip.apps.summary import Record, middle
from onelip.core.numbers import round_down

if TYPE_CHECKING:
    from onelip.apps.boxes.opened import OpenedBoxes
    from onelip.apps.boxes.plan import BoxPlan
    from onelip.certify import DetectionCertificate


def path(opened: OpenedBoxes, index: int) -> Path:
    """Where the picture of an image lies."""
    return opened.run.out / "pictures" / f"{index:05d}-{Path(opened.dataset.ids[index]).stem}.png"


def draw(opened: OpenedBoxes, plan: BoxPlan, index: int, certificate: DetectionCertificate) -> None:
    """Draw the radii of the objects, where their support is, and the boxes at the middle one of the eps asked for."""
    target = path(opened, index)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure = certificate.figure(0, middle(plan.asked), names=opened.dataset.classes, iou=plan.iou)
    figure.savefig(target, dpi=130, bbox_inches="tight", pad_inches=0.05)


def complete(opened: OpenedBoxes, plan: BoxPlan, indices: Sequence[int], fresh: set[int]) -> None:
    """Draw the images that lack their pictures, certified once more; `fresh` are those that this run drew."""
    for index in dict.fromkeys(indices):
        kept = opened.run.resume and path(opened, index).is_file()
        if index not in fresh and not kept:
            draw(opened, plan, index, opened.certificate(index))
            fresh.add(index)


def sections(
    opened: OpenedBoxes,
    plan: BoxPlan,
    done: Sequence[Record],
    shown: Collection[int],
    low: Sequence[Record],
    fresh: set[int],
) -> dict[str, Any]:
    """The section `sheets`: the images that are shown, then the least certified ones.

    Pictures that an earlier run left in the folder are of something else unless this run resumes it.
    """
    by_index = {r["index"]: r for r in done if plan.resume or r["index"] in fresh}
    first = [by_index[i] for i in sorted(shown) if i in by_index]
    least = [by_index[row["index"]] for row in low if plan.pictures and row["index"] in by_index]
    sheets = [sheet(opened, plan, r, least=False) for r in first]
    sheets += [sheet(opened, plan, r, least=True) for r in least if r["index"] not in shown]
    return {"sheets": [s for s in sheets if (plan.out / s["file"]).is_file()]}


def sheet(opened: OpenedBoxes, plan: BoxPlan, record: Record, *, least: bool) -> Record:
    """What the report says about one image."""
    eps = middle(plan.asked)
    free = opened.certifier.model.regression_kind == "free"
    silent, calm = (round_down(float(record[name]), 3) for name in ("silent_radius", "alarm_radius"))
    how, boxes = ("located", "") if free else ("found", f", with the range of their boxes at eps {eps:g}")
    radii = ("silent_radius", "alarm_radius", "presence_radius", "cap_radius", "objects", "detections")
    return {
        "file": str(path(opened, record["index"]).relative_to(plan.out)),
        "caption": f"{plan.split} image {record['id']}. Left: objects with the eps below which they are {how}, green "
        f"where that is beyond eps {eps:g}. Middle: what each location contributes to that. Right: detections{boxes}. "
        f"No location newly fires below eps {silent}, none outside of the objects below eps {calm}.",
        "index": record["index"],
        "id": record["id"],
        "least": least,
        **{name: record[name] for name in radii},
        "notes": notes(record, plan.asked, free=free),
    }


def notes(record: Record, eps: Sequence[float], *, free: bool) -> list[str]:
    """What is not certified of an image, and why.

    Example:
        >>> image = {"cap_radius": 0.25, "objects": [], "detections": 0}
        >>> notes(image, [0.5], free=False)
        ['from eps 0.25 on more candidates or detections than the detector keeps could occur: nothing is found for \
certain']
    """
    found = []
    cap = float(record["cap_radius"])
    if cap <= max(eps):
        found.append(
            f"from eps {round_down(cap, 3)} on more candidates or detections than the detector keeps could occur: "
            "nothing is found for certain"
        )
    if free:
        found.append("where boxes lie: the regression is free; an object is found by the locations inside it")
    held = [o for o in record["objects"] if o["found"] and not float(o["vanish_radius"] or 0.0)]
    if held:
        found.append(f"{len(held)} of the objects that are found: nothing holds them through suppression")
    lost = sum(not o["found"] for o in record["objects"])
    if lost:
        found.append(f"{lost} of {len(record['objects'])} objects: missed without any attack")
    return found
