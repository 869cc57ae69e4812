"""Statistics of randomized smoothing: 60 samples of 65,536 pixels, against one binomial test for each pixel.

    python benchmarks/smoothing.py

Both start from the same labels, end in the same certified label map (asserted), and are timed in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.special import ndtr
from scipy.stats import binomtest

import common
from onelip.smoothing import Tally, certify_counts

SEED, SIDE, CLASSES, N0, N, ALPHA = 0, 256, 19, 6, 54, 1e-3
TAU = float(ndtr(0.1 / 0.3))
REPEATS = 3


def scene(side: int, generator: torch.Generator) -> torch.Tensor:
    """Labels (N0 + N, side, side) of noisy predictions of a smooth scene: sure inside regions, unsure at borders."""
    coarse = torch.randn(1, CLASSES, side // 16, side // 16, generator=generator)
    logits = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")[0]
    noise = [0.2 * torch.randn(logits.shape, generator=generator) for _ in range(N0 + N)]
    return torch.stack([(logits + part).argmax(0) for part in noise])


def counted(labels: torch.Tensor, batch: int = 10) -> np.ndarray:
    """The package: votes and agreements a batch at a time, then one histogram."""
    tally = Tally(CLASSES, (labels.shape[1], labels.shape[2]))
    tally.vote(labels[:N0])
    for start in range(N0, N0 + N, batch):
        tally.agree(labels[start : start + batch])
    certified = certify_counts(tally.agreements, N, TAU, ALPHA)
    return tally.winners.masked_fill(~certified, -1).numpy()


def one_by_one(labels: torch.Tensor) -> np.ndarray:
    """The straightforward way: mode, binomial test and Holm's procedure, pixel by pixel."""
    samples = labels.flatten(1).numpy()
    winners, p_values = [], []
    for pixel in samples.T:
        winner = np.bincount(pixel[:N0], minlength=CLASSES).argmax()
        agreements = int((pixel[N0:] == winner).sum())
        winners.append(int(winner))
        p_values.append(binomtest(agreements, N, TAU, alternative="greater").pvalue)
    classes, total = np.full(len(winners), -1), len(winners)
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] > ALPHA / (total - rank):
            break
        classes[index] = winners[index]
    return classes.reshape(labels.shape[1:])


def timed(run: Callable[[torch.Tensor], np.ndarray], labels: torch.Tensor) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    found = run(labels)
    return time.perf_counter() - start, found


def main() -> None:
    """Measure and write results/smoothing.json."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    labels = scene(SIDE, generator)
    counted(labels)
    rounds = {"pixel by pixel": [], "counted": []}
    for _ in range(REPEATS):
        slow, expected = timed(one_by_one, labels)
        fast, found = timed(counted, labels)
        assert np.array_equal(found, expected), "the label maps differ"
        rounds["pixel by pixel"].append(slow)
        rounds["counted"].append(fast)
    ratios = [a / b for a, b in zip(rounds["pixel by pixel"], rounds["counted"], strict=True)]
    large = scene(1024, generator)
    megapixel = [timed(counted, large)[0] for _ in range(REPEATS)]
    results = {
        "seconds": {name: common.quartiles(values) for name, values in rounds.items()},
        "times faster": common.quartiles(ratios),
        "certified share": round(float((expected >= 0).mean()), 4),
        "label maps equal": True,
        "counted, 1024 x 1024": {"seconds": common.quartiles(megapixel)},
    }
    note = (
        f"one thread; {N0} votes and {N} tests of {SIDE} x {SIDE} pixels, {CLASSES} classes, Holm, alpha {ALPHA:g}, "
        f"tau {TAU:.4f}; labels given, no forward passes in the times"
    )
    common.write("smoothing", results, seed=SEED, notes=[note])


if __name__ == "__main__":
    main()
