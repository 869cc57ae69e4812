"""Certification of a data set, image by image: interruptible, resumable, summed up in results.json."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import onelip
from onelip.apps.common import model_folder
from onelip.apps.plan import Plan
from onelip.apps.records import Record, Records, summarise
from onelip.certify import Certifier, PixelAccuracy, SegmentationCertificate, Stability
from onelip.core import checks, errors, files, numbers, runtime
from onelip.data import SegmentationDataset


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
    checks.eps_values(list(plan.eps))
    device = runtime.device(plan.device)
    dataset = onelip.data.open(plan.data, plan.split, size=plan.size)
    model = onelip.load(model_folder(plan.model))
    if model.classes != len(dataset.classes):
        raise errors.InputError(
            errors.explain(
                "certify: the model does not fit the data set",
                received=f"{model.classes} classes in {plan.model}, {len(dataset.classes)} in {plan.data}",
                expected="the same classes",
                fix="choose the data set that the model was trained on",
            )
        )
    torch.manual_seed(plan.seed)
    certifier = Certifier(model.to(device), p=plan.p, ignore_index=dataset.ignore_index)
    chosen = spread(len(dataset), plan.limit)
    key = {
        "weights_sha256": certifier.weights_hash,
        "data": plan.data,
        "split": plan.split,
        "size": list(plan.size) if plan.size else None,
        "p": str(plan.p),
        "eps": plan.grid,
    }
    records = Records(plan.out / "results.jsonl", key, resume=plan.resume)
    shown = {chosen[i] for i in spread(len(chosen), plan.pictures)} if plan.pictures else set()
    last: SegmentationCertificate | None = None
    try:
        with _progress(len(chosen)) as step:
            for index in chosen:
                if index not in records or (index in shown and not _picture(plan, dataset, index).is_file()):
                    last = _one(plan, certifier, dataset, index, records, draw=index in shown)
                step()
    finally:
        if records.chosen(chosen):
            results = _results(plan, dataset, records, chosen, certifier, last)
            results["model"] |= {
                "name": plan.name,
                "architecture": model.name,
                "path": plan.model,
            }
            results["pictures"] = _pictures(plan, dataset, records.chosen(sorted(shown)))
            files.write_json(plan.out / "results.json", results)
    return results


def spread(total: int, wanted: int) -> list[int]:
    """Indices of `wanted` of `total` images, evenly spread; all of them for 0.

    Example:
        >>> spread(10, 4), spread(3, 0)
        ([0, 2, 5, 7], [0, 1, 2])
    """
    count = min(wanted, total) or total
    return [i * total // count for i in range(count)]


def _one(
    plan: Plan,
    certifier: Certifier,
    dataset: SegmentationDataset,
    index: int,
    records: Records,
    *,
    draw: bool,
) -> SegmentationCertificate:
    """Certify one image and keep what is needed of it."""
    image, target = (t.unsqueeze(0).to(certifier.device) for t in dataset[index])
    certifier.bound(
        (image.shape[-2], image.shape[-1]), in_channels=image.shape[1]
    )  # once for each size, not timed
    start = _clock(certifier.device)
    certificate = certifier(image, target)
    void = dataset.ignore_index
    accuracy = certificate.curve(PixelAccuracy(void), plan.grid)
    stability = certificate.curve(Stability(void), plan.grid)
    seconds = _clock(certifier.device) - start
    valid = target != void
    records.add(
        {
            "index": index,
            "id": dataset.ids[index],
            "size": list(image.shape[1:]),
            "valid": int(valid.sum()),
            "accuracy": accuracy.to_dict()["certified"],
            "stability": stability.to_dict()["certified"],
            "confusion": _confusion(certificate.prediction[valid], target[valid], len(dataset.classes)),
            "lipschitz": certificate.lipschitz,
            "median_radius": _median(certificate.radius_map),
            "seconds": seconds,
        }
    )
    if draw:
        path = _picture(plan, dataset, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        certificate.figure(palette=dataset.palette).savefig(
            path, dpi=130, bbox_inches="tight", pad_inches=0.05
        )
    return certificate


def _median(radius: Tensor) -> float | None:
    """Radius of the median valid pixel."""
    known = radius[~radius.isnan()]
    return float(known.median()) if known.numel() else None


def _confusion(prediction: Tensor, target: Tensor, classes: int) -> list[list[int]]:
    """(true, predicted) counts."""
    flat = torch.bincount(target * classes + prediction, minlength=classes * classes)
    rows: list[list[int]] = flat.reshape(classes, classes).tolist()
    return rows


def _results(
    plan: Plan,
    dataset: SegmentationDataset,
    records: Records,
    chosen: Sequence[int],
    certifier: Certifier,
    last: SegmentationCertificate | None,
) -> dict[str, Any]:
    done = records.chosen(chosen)
    shape = done[0]["size"]
    if last is None:  # everything was done before: the proof is repeated for the report
        image, target = (t.unsqueeze(0) for t in dataset[done[0]["index"]])
        last = certifier(image, target)
    summary = summarise(done, plan.grid, plan.eps, classes=dataset.classes, p=plan.p)
    for row in summary["rows"]:
        row.update(numbers.units(row["eps"], shape, plan.p))
    return {
        "kind": "certify",
        "complete": len(done) == len(chosen),
        "date": runtime.now(),
        "seed": plan.seed,
        "command": plan.shell,
        "python": plan.python,
        "versions": runtime.versions(),
        "machine": {**runtime.machine(), "device": str(runtime.device(plan.device))},
        "model": {"weights_sha256": certifier.weights_hash},
        "data": {
            "name": plan.data,
            "split": plan.split,
            "images": len(done),
            "total": len(chosen),
            "size": shape[1:],
            "sizes": len({tuple(r["size"]) for r in done}),
            "value_count": int(torch.tensor(shape).prod()),
        },
        "p": "inf" if plan.p == float("inf") else int(plan.p),
        "bound": last.to_dict()["bound"],
        "assumptions": list(last.assumptions),
        **summary,
    }


def _picture(plan: Plan, dataset: SegmentationDataset, index: int) -> Path:
    return plan.out / "pictures" / f"{index:05d}-{Path(dataset.ids[index]).name}.png"


def _pictures(plan: Plan, dataset: SegmentationDataset, shown: Sequence[Record]) -> list[dict[str, str]]:
    found = []
    for record in shown:
        path = _picture(plan, dataset, record["index"])
        if path.is_file():
            median = record["median_radius"]
            radius = (
                "no valid pixel"
                if median is None
                else f"radius of the median pixel {numbers.round_down(median, 3)}"
            )
            found.append(
                {
                    "file": str(path.relative_to(plan.out)),
                    "caption": f"{plan.split} image {record['id']}: {radius}",
                }
            )
    return found


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Progress bar on the error stream; silent when that is no terminal."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    columns = (
        *Progress.get_default_columns()[:-1],
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("certifying", total=total)
        yield lambda: bar.advance(task)
