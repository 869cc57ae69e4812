"""Certification of a data set, image by image: interruptible, resumable, summed up in results.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onelip.apps import gallery
from onelip.apps.measure import Question, measure, questions, radius_questions
from onelip.apps.plan import Plan
from onelip.apps.records import Records
from onelip.apps.runs import Opened, head, open_run, progress, spread
from onelip.apps.summary import summarise, worst
from onelip.certify import SegmentationCertificate
from onelip.core import files, numbers

WORST = 3  # images shown with the lowest certified accuracy


def evaluate(plan: Plan) -> dict[str, Any]:
    """Certify the images of a plan and write results.json; an interruption keeps the images that are done.

    Args:
        plan: what to do.

    Returns:
        The content of results.json.

    Raises:
        InputError: for unusable options, data or models.
        KeyboardInterrupt: after the images so far have been summed up.
    """
    opened = open_run(plan)
    asked, radii = questions(plan, opened), radius_questions(plan, opened)
    key = opened.key(eps=plan.grid, criteria=plan.keys, thresholds=list(radii))
    records = Records(plan.out / "results.jsonl", key, resume=plan.resume)
    chosen = opened.chosen
    shown = {chosen[i] for i in spread(len(chosen), plan.pictures)} if plan.pictures else set()
    last: SegmentationCertificate | None = None
    results: dict[str, Any] = {}
    try:
        with progress(len(chosen), "certifying") as step:
            for index in chosen:
                if index not in records:
                    record, last = measure(opened, index, asked, radii)
                    records.add(record)
                    if index in shown:
                        gallery.draw(opened, index, last)
                step()
        gallery.complete(opened, sorted(shown))
        if plan.pictures:
            gallery.complete(opened, [r["index"] for r in _worst(plan, records.chosen(chosen))])
    finally:
        if records.chosen(chosen):
            results = _results(plan, opened, records, asked, last)
            done = records.chosen(sorted(shown))
            results["pictures"] = gallery.pictures(opened, done)
            results["components"] = gallery.components(opened, done)
            files.write_json(plan.out / "results.json", results)
    return results


def _worst(plan: Plan, done: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return worst(done, plan.eps, plan.grid, WORST)


def _results(
    plan: Plan,
    opened: Opened,
    records: Records,
    asked: Sequence[Question],
    last: SegmentationCertificate | None,
) -> dict[str, Any]:
    done = records.chosen(opened.chosen)
    summary = summarise(
        done, asked, eps=plan.eps, classes=opened.dataset.classes, p=plan.p, thresholds=plan.threshold_names
    )
    for row in summary["rows"]:
        row.update(numbers.units(row["eps"], done[0]["size"], plan.p))
    start = head("certify", opened, done, command=plan.shell, python=plan.python, certificate=last)
    low = _worst(plan, done)
    return {**start, **summary, "classes": [], "worst": {"rows": low, "pictures": gallery.worst(opened, low)}}
