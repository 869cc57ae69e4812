"""Certification of a classifier on a data set, batch by batch: interruptible, resumable, summed up in results.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onelip.apps.labels import gallery
from onelip.apps.labels.measure import measure
from onelip.apps.labels.opened import OpenedLabels, channels_of, open_labels_run
from onelip.apps.labels.plan import BATCH, LabelPlan
from onelip.apps.labels.summary import summarise, worst
from onelip.apps.records import Records
from onelip.apps.runs import head, progress, spread
from onelip.core import files, numbers

WORST = 3  # images shown with the smallest radius


def evaluate_labels(plan: LabelPlan) -> dict[str, Any]:
    """Certify the images of a plan and write results.json; an interruption keeps the batches that are done.

    Args:
        plan: what to do.

    Returns:
        The content of results.json.

    Raises:
        InputError: for unusable options, data or models.
        KeyboardInterrupt: after the images so far have been summed up.
    """
    opened = open_labels_run(plan)
    records = Records(plan.out / "results.jsonl", opened.key(), resume=plan.resume)
    chosen = opened.chosen
    shown = [chosen[i] for i in spread(len(chosen), plan.pictures)] if plan.pictures else []
    fresh: set[int] = set()  # images drawn by this run; only a resumed one may keep older pictures
    results: dict[str, Any] = {}
    try:
        with progress(len(chosen), "certifying") as step:
            for batch in opened.batches(BATCH):
                if any(index not in records for index in batch):
                    for record in measure(opened, batch):
                        records.add(record)
                for _ in batch:
                    step()
        if plan.pictures:
            low = [row["index"] for row in worst(records.chosen(chosen), WORST)]
            gallery.complete(opened, [*shown, *low], fresh)
    finally:
        if done := records.chosen(chosen):
            results = _results(plan, opened, done)
            results |= gallery.sections(opened, done, shown, results["worst"]["rows"], fresh)
            files.write_json(plan.out / "results.json", results)
    return results


def _results(plan: LabelPlan, opened: OpenedLabels, done: Sequence[dict[str, Any]]) -> dict[str, Any]:
    summary = summarise(plan, done, opened.dataset.classes)
    for row in summary["rows"]:
        row.update(numbers.units(row["eps"], done[0]["size"], plan.p))
    alike = len({tuple(r["size"]) for r in done}) == 1
    python = plan.python(channels_of(opened.model), alike=alike)
    return {
        **head("certify", opened, done, command=plan.shell, python=python),
        "task": "classification",
        "class_names": list(opened.dataset.classes),
        **summary,
        "worst": {"rows": worst(done, WORST), "pictures": []},
    }
