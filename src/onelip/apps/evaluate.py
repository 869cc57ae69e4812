"""Certification of a data set, image by image: interruptible, resumable, summed up in results.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onelip.apps import gallery
from onelip.apps.measure import Question, measure, questions, radius_questions
from onelip.apps.overlap import Overlaps
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
    overlaps = Overlaps(plan, opened, asked)
    key = opened.key(
        eps=plan.grid, criteria=plan.keys, thresholds=list(radii), classes=sorted(overlaps.labels)
    )
    records = Records(plan.out / "results.jsonl", key, resume=plan.resume)
    chosen = opened.chosen
    shown = {chosen[i] for i in spread(len(chosen), plan.pictures)} if plan.pictures else set()
    fresh: set[int] = set()  # images drawn by this run; only a resumed one may keep older pictures
    last: SegmentationCertificate | None = None
    results: dict[str, Any] = {}
    try:
        with progress(len(chosen), "certifying") as step:
            for index in chosen:
                if index not in records or not overlaps.done(index):
                    record, last = measure(opened, index, asked, radii)
                    overlaps.add(index, last)
                    records.add(record)
                    if index in shown:
                        gallery.draw(opened, index, last)
                        fresh.add(index)
                step()
        if plan.pictures:
            low = [row["index"] for row in _worst(plan, records.chosen(chosen))]
            gallery.complete(opened, [*sorted(shown), *low], fresh)
    finally:
        done = [r for r in records.chosen(chosen) if overlaps.done(r["index"])]
        if done:
            results = _results(plan, opened, done, asked, overlaps, last)
            pictured = [r for r in done if r["index"] in shown]
            results |= gallery.sections(opened, pictured, results["worst"], fresh)
            files.write_json(plan.out / "results.json", results)
    return results


def _worst(plan: Plan, done: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return worst(done, plan.eps, plan.grid, WORST)


def _results(
    plan: Plan,
    opened: Opened,
    done: Sequence[dict[str, Any]],
    asked: Sequence[Question],
    overlaps: Overlaps,
    last: SegmentationCertificate | None,
) -> dict[str, Any]:
    classes = overlaps.classes(done)
    pooled = overlaps.curves(done, classes)
    summary = summarise(
        done,
        asked,
        eps=plan.eps,
        classes=opened.dataset.classes,
        p=plan.p,
        thresholds=plan.threshold_names,
        pooled=pooled,
    )
    for row in summary["rows"]:
        row.update(numbers.units(row["eps"], done[0]["size"], plan.p))
    start = head("certify", opened, done, command=plan.shell, python=plan.python, certificate=last)
    return {**start, **summary, "classes": classes, "worst": {"rows": _worst(plan, done), "pictures": []}}
