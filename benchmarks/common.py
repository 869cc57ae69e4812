"""What the benchmarks share: interleaved timing, quartiles, and a JSON file that says where it was measured."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from onelip.core import files, runtime

RESULTS = Path(__file__).parent / "results"


def interleaved(
    candidates: dict[str, Callable[[], object]], *, repeats: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Time the candidates in turn, so that a disturbance of the machine hits all of them; seconds."""
    for _ in range(warmup):
        for run in candidates.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            _synchronize()
            start = time.perf_counter()
            run()
            _synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def quartiles(values: list[float]) -> dict[str, float]:
    """Return the median and the quartiles, rounded to four digits."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {name: float(f"{v:.4g}") for name, v in (("q1", low), ("median", middle), ("q3", high))}


def compare(seconds: dict[str, list[float]], baseline: str) -> dict[str, Any]:
    """Summarise timings, with the ratio of each candidate to the baseline of the same round."""
    base = seconds[baseline]
    return {
        name: {
            "seconds": quartiles(values),
            f"time / {baseline}": quartiles([v / b for v, b in zip(values, base, strict=True)]),
        }
        for name, values in seconds.items()
    }


def write(name: str, results: dict[str, Any], *, seed: int, notes: list[str]) -> Path:
    """Write results/<name>.json with machine, versions, seed and date, and print it."""
    record = {
        "benchmark": name,
        "date": runtime.now(),
        "seed": seed,
        "machine": runtime.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": runtime.versions(),
        "notes": notes,
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    files.write_json(path, record)
    print(json.dumps(record, indent=2))
    return path


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
