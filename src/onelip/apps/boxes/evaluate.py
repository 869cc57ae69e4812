"""Certification of a detector on a data set, image by image: interruptible, resumable, summed up in results.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onelip.apps.boxes import gallery
from onelip.apps.boxes.measure import Proofs, measure
from onelip.apps.boxes.opened import OpenedBoxes, open_boxes_run
from onelip.apps.boxes.plan import BoxPlan
from onelip.apps.boxes.summary import summarise, worst
from onelip.apps.records import Records
from onelip.apps.runs import head, progress, spread
from onelip.certify import DetectionCertificate
from onelip.core import files, numbers

WORST = 3  # images shown with the smallest share of certified objects


def evaluate_boxes(plan: BoxPlan) -> dict[str, Any]:
    """Certify the images of a plan and write results.json; an interruption keeps the images that are done.

    Args:
        plan: what to do.

    Returns:
        The content of results.json.

    Raises:
        InputError: for unusable options, data or models.
        KeyboardInterrupt: after the images so far have been summed up.
    """
    opened = open_boxes_run(plan, threshold=plan.score, classes=plan.classes)
    proofs = Proofs(plan)
    key = opened.key(eps=plan.grid, iou=plan.iou)
    records = Records(plan.out / "results.jsonl", key, resume=plan.resume)
    chosen = opened.chosen
    shown = {chosen[i] for i in spread(len(chosen), plan.pictures)} if plan.pictures else set()
    fresh: set[int] = set()  # images drawn by this run; only a resumed one may keep older pictures
    last: DetectionCertificate | None = None
    results: dict[str, Any] = {}
    try:
        with progress(len(chosen), "certifying") as step:
            for index in chosen:
                if index not in records or not proofs.done(index):
                    record, last = measure(opened, plan, index, proofs)
                    records.add(record)
                    if index in shown:
                        gallery.draw(opened, plan, index, last)
                        fresh.add(index)
                step()
        if plan.pictures:
            low = [row["index"] for row in worst(plan, records.chosen(chosen), WORST)]
            gallery.complete(opened, plan, [*sorted(shown), *low], fresh)
    finally:
        done = [r for r in records.chosen(chosen) if proofs.done(r["index"])]
        if done:
            results = _results(plan, opened, done, proofs, last)
            results |= gallery.sections(opened, plan, done, shown, results["worst"]["rows"], fresh)
            files.write_json(plan.out / "results.json", results)
    return results


def _results(
    plan: BoxPlan,
    opened: OpenedBoxes,
    done: Sequence[dict[str, Any]],
    proofs: Proofs,
    last: DetectionCertificate | None,
) -> dict[str, Any]:
    model = opened.certifier.model
    summary = summarise(plan, done, proofs.over(done), opened.dataset.classes)
    for row in summary["rows"]:
        row.update(numbers.units(row["eps"], done[0]["size"], plan.p))
    start = head("certify", opened, done, command=plan.shell, python=plan.python, certificate=last)
    return {
        **start,
        "task": "detection",
        "class_names": list(opened.dataset.classes),
        "regression": model.regression_kind,
        "threshold": plan.score,
        "threshold_logit": model.threshold_logit(plan.score),
        "iou": plan.iou,
        "detector": {**model.settings, "nms": opened.certifier.nms, "strides": list(model.strides)},
        **summary,
        "worst": {"rows": worst(plan, done, WORST), "pictures": []},
    }
