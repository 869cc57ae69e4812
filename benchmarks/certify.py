"""Certified curves of a megapixel with 19 classes, beside their straightforward implementations.

Every section returns its figures; `SECTIONS` names those that run. Ratios are between times of the same round.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import common
from onelip.certify import IoU, MeanIoU, PixelAccuracy
from onelip.certify.budget import budgets
from onelip.certify.costs import leaders, to_cost

SEED, CLASSES, SIZE, REPEATS = 0, 19, 1024, 5
EPS = torch.linspace(0, 100, 32, dtype=torch.float64)
LABEL = 3
LOOPED = 2000


def scene(seed: int, size: int = SIZE, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Smooth logits with fine noise, and labels that differ from them in patches and in some void blocks."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(channels: int, grid: int, mode: str) -> Tensor:
        coarse = torch.randn(1, channels, size // grid, size // grid, generator=generator)
        return functional.interpolate(coarse, size=(size, size), mode=mode)

    logits = 3.0 * smooth(classes, 32, "bicubic") + 0.3 * torch.randn(
        1, classes, size, size, generator=generator
    )
    other = smooth(classes, 32, "bicubic").argmax(1)
    target = torch.where(smooth(1, 16, "nearest")[:, 0] > 1.3, other, logits.argmax(1))
    return logits, target.masked_fill_(smooth(1, 64, "nearest")[:, 0] > 2.0, 255)


def noise(seed: int) -> tuple[Tensor, Tensor]:
    """Independent logits at every pixel."""
    logits = torch.randn(1, CLASSES, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return logits, logits.argmax(1)


def accuracy(logits: Tensor, target: Tensor) -> dict[str, Any]:
    """PixelAccuracy over all eps: against one reduction and one sort, and against a sort for every eps."""
    values = torch.rand(SIZE * SIZE, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    criterion = PixelAccuracy()

    def ours() -> Tensor:
        return criterion.worst_case(logits, target, eps=EPS, lipschitz=1.0)

    def floor() -> object:
        return leaders(logits), values.sort()

    def sorted_each_time() -> Tensor:
        two, index = logits.topk(2, 1)
        valid = target != 255
        right = (index[:, 0] == target) & valid
        charges = (two[:, 0] - two[:, 1])[right].double().square() / 2
        found = []
        for budget in budgets(EPS, lipschitz=1.0, p=2.0, items=charges.numel()).tolist():
            flipped = (charges.sort().values.cumsum(0) <= budget).sum()
            found.append((charges.numel() - int(flipped)) / int(valid.sum()))
        return torch.tensor(found, dtype=torch.float64).unsqueeze(1)

    torch.testing.assert_close(ours(), sorted_each_time(), rtol=0, atol=2e-6)
    few = common.interleaved({"two largest + one sort": floor, "32 eps": ours}, repeats=REPEATS)
    many = common.interleaved({"32 eps": ours, "a sort for every eps": sorted_each_time}, repeats=3)
    return {
        "against the floor": common.compare(few, "two largest + one sort"),
        "against the straightforward": common.compare(many, "32 eps"),
    }


def iou(logits: Tensor, target: Tensor) -> dict[str, Any]:
    """IoU of one class over all eps, against a Python loop over its true positives (extrapolated)."""
    criterion = IoU(LABEL)

    def ours() -> Tensor:
        return criterion.worst_case(logits, target, eps=EPS, lipschitz=1.0)

    def frontiers() -> Tensor:
        return criterion.frontier(logits, target, eps=EPS, lipschitz=1.0)

    seconds = common.interleaved({"32 eps": ours, "32 frontiers": frontiers}, repeats=REPEATS)
    results = common.compare(seconds, "32 eps")
    results["a loop over true positives"] = _looped(logits, target, ours())
    median = results["32 eps"]["seconds"]["median"]
    results["a loop over true positives"]["time / 32 eps"] = float(
        f"{results['a loop over true positives']['seconds'] / median:.4g}"
    )
    return results


def _looped(logits: Tensor, target: Tensor, expected: Tensor, label: int = LABEL) -> dict[str, Any]:
    """Time of the usual implementation: sort both lists, then one search for each true positive and eps."""
    start = time.perf_counter()
    two, index = logits.topk(2, 1)
    valid, labelled, predicted = target != 255, target == label, index[:, 0] == label
    hit = labelled & predicted
    lost = (two[:, 0] - two[:, 1])[hit].double().square().sort().values.cumsum(0) / 2
    lost = torch.cat([torch.zeros(1), lost])
    gained = to_cost(logits, label, p=2.0)[valid & ~labelled & ~predicted].square().sort().values.cumsum(0)
    union = int((valid & (labelled | predicted)).sum())
    prepared = time.perf_counter() - start
    start, steps, total = time.perf_counter(), 0, 0
    for row, budget in enumerate(budgets(EPS, lipschitz=1.0, p=2.0, items=valid.numel()).tolist()):
        most = int(torch.searchsorted(lost, budget, right=True)) - 1
        total += most + 1
        best = math.inf
        stride = max(1, (most + 1) * len(EPS) // LOOPED)
        for m in range(0, most + 1, stride):
            n = int(torch.searchsorted(gained, budget - float(lost[m]), right=True))
            best = min(best, (len(lost) - 1 - m) / (union + n))
            steps += 1
        assert best >= float(expected[row]) - 1e-12
    each = (time.perf_counter() - start) / steps
    return {
        "seconds": float(f"{prepared + each * total:.4g}"),
        "extrapolated": f"{steps} of {total} steps were run",
    }


def mean_iou(logits: Tensor, target: Tensor) -> dict[str, Any]:
    """MeanIoU at one eps and at 32, against every class alone, in its time and in its value."""
    criterion, middle = MeanIoU(), EPS[len(EPS) // 2 :][:1]
    classes = [k for k in range(CLASSES) if bool((target == k).any())]

    def curve() -> Tensor:
        return criterion.worst_case(logits, target, eps=EPS, lipschitz=1.0)

    def single() -> Tensor:
        return criterion.worst_case(logits, target, eps=middle, lipschitz=1.0)

    def alone() -> list[Tensor]:
        return [IoU(k).worst_case(logits, target, eps=EPS, lipschitz=1.0) for k in classes]

    candidates = {"one eps": single, "32 eps": curve, "every class alone, 32 eps": alone}
    results = common.compare(common.interleaved(candidates, repeats=3), "32 eps")
    each = alone()
    looped = [_looped(logits, target, found, k)["seconds"] for k, found in zip(classes, each, strict=True)]
    median = results["32 eps"]["seconds"]["median"]
    results["loops over true positives, 32 eps"] = {
        "seconds": float(f"{sum(looped):.4g}"),
        "time / 32 eps": float(f"{sum(looped) / median:.4g}"),
        "extrapolated": "part of the steps was run",
    }
    attained = criterion.attainable(logits, target, eps=middle, lipschitz=1.0)
    results["values"] = {
        "eps": float(middle),
        "clean": round(float(criterion.value(logits, target)), 4),
        "attack on the logits": round(float(attained), 4),
        "certified": round(float(single()), 4),
        "every class alone": round(float(torch.stack(each)[:, len(EPS) // 2].mean()), 4),
    }
    return results


SECTIONS: dict[str, Callable[[Tensor, Tensor], dict[str, Any]]] = {
    "pixel accuracy": accuracy,
    "IoU": iou,
    "MeanIoU": mean_iou,
}


def main() -> None:
    """Measure and write results/certify.json."""
    torch.set_num_threads(1)
    scenes = {"smooth scene": scene(SEED), "independent noise": noise(SEED)}
    results = {
        f"{name}, {place}": run(*data) for name, run in SECTIONS.items() for place, data in scenes.items()
    }
    common.write(
        "certify",
        results,
        seed=SEED,
        notes=[
            f"one thread; {CLASSES} x {SIZE} x {SIZE} float32 logits, l2, 32 eps from 0 to {float(EPS[-1]):g}, "
            "constant 1",
            "the loop over true positives was run on a subset and extrapolated; its costs are the same",
        ],
    )


if __name__ == "__main__":
    main()
