"""Attacks within an l2 ball on the shipped model: those of onelip, and those of adv-lib where it can be imported.

adv-lib searches for the smallest perturbation that flips a share of the pixels. As in the papers that use it, what it
finds is shrunk into the ball; the share asked for is what the certificate leaves possible, and 99 %; the better of both
counts. `--adv-lib PATH` is the folder of an unpacked wheel (pip download adv-lib --no-deps); its dependency visdom is
replaced by an empty class, it serves pictures only.
"""

from __future__ import annotations

import argparse
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import common
import onelip
from onelip.attacks import PGD, Knapsack, PixelErrors, SegPGD, Strongest
from onelip.attacks.base import predict
from onelip.attacks.projection import norms, per_image
from onelip.certify import Certifier, PixelAccuracy

EPS = [0.05, 0.1, 0.2, 0.5, 1.0]


def ours(attack: Any, model: torch.nn.Module, images: Tensor, target: Tensor) -> tuple[list[float], int]:
    """Mean accuracy left at each eps, and the images sent forward."""
    found = attack(model, images, target, EPS)
    return found.values(PixelAccuracy()).mean(1).tolist(), found.queries


def theirs(attack: Callable[..., Tensor], certified: Tensor) -> Callable[..., tuple[list[float], int]]:
    """The protocol for a minimal-norm attack."""

    def run(
        model: torch.nn.Module, images: Tensor, target: Tensor, judge: torch.nn.Module
    ) -> tuple[list[float], int]:
        passed = [0]
        hook = model.register_forward_pre_hook(lambda _m, x: passed.__setitem__(0, passed[0] + x[0].shape[0]))
        clean = PixelAccuracy().value(judge(images.double()), target)
        widest = attack(model, images, target, 0.99)
        rows = []
        for eps, possible in zip(EPS, certified, strict=True):
            wanted = attack(model, images, target, float(1.0 - possible.mean()))
            best = clean
            for found in (widest, wanted):
                delta = found.double().clamp(0, 1) - images.double()
                factor = (eps / norms(delta, 2.0).clamp_min(1e-300)).clamp_max(1.0)
                moved = images.double() + delta * per_image(factor, delta)
                best = torch.minimum(best, PixelAccuracy().value(judge(moved), target))
            rows.append(float(best.mean()))
        hook.remove()
        return rows, passed[0]

    return run


def adversarial_library(folder: Path, steps: int) -> dict[str, Callable[..., Tensor]]:
    """The segmentation attacks of adv-lib, as (model, images, target, threshold) -> images; {} when not importable."""
    stub: Any = types.ModuleType("visdom")
    stub.Visdom = type("Visdom", (), {})
    sys.modules.setdefault("visdom", stub)
    sys.path.insert(0, str(folder))
    try:
        from adv_lib.attacks import segmentation as library
    except ImportError as error:
        print(f"adv-lib is left out: {error}")
        return {}
    return {
        "dag": lambda m, x, y, t: library.dag(m, x, y, adv_threshold=t, p=2, max_iter=steps, γ=0.02),
        "pdpgd": lambda m, x, y, t: library.pdpgd(m, x, y, adv_threshold=t, norm=2, num_steps=steps),
        "pdgd": lambda m, x, y, t: library.pdgd(m, x, y, adv_threshold=t, num_steps=steps),
        "alma_prox (linf, shrunk in l2)": lambda m, x, y, t: library.alma_prox(
            m, x, y, adv_threshold=t, num_steps=steps
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adv-lib", type=Path, default=None)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--library-steps", type=int, default=200)
    options = parser.parse_args()
    model = onelip.load("scenes").requires_grad_(False)
    dataset = onelip.data.open("scenes", "test", size=(64, 96))
    images, target = (
        torch.stack(part) for part in zip(*(dataset[i] for i in range(options.images)), strict=True)
    )
    certifier = Certifier(model)
    certificate = certifier(images, target)
    certified = certificate.curve(PixelAccuracy(), EPS).certified
    goal, common_options = PixelErrors(), {"steps": options.steps, "judge": certifier.model}
    results: dict[str, Any] = {
        "eps": EPS,
        "clean": float(PixelAccuracy().value(certificate.logits, target).mean()),
        "certified": certified.mean(1).tolist(),
        "attacks": {},
    }
    for attack in (
        PGD(goal, **common_options),
        PGD(goal, loss="margin", **common_options),
        SegPGD(goal, **common_options),
        Knapsack(goal, **common_options),
        Strongest(goal, **common_options),
    ):
        start = time.perf_counter()
        left, queries = ours(attack, model, images, target)
        results["attacks"][attack.name] = _entry(left, queries, start, options.images)
    if options.adv_lib is not None:
        for name, run in adversarial_library(options.adv_lib, options.library_steps).items():
            start = time.perf_counter()
            try:
                left, queries = theirs(run, certified)(model, images, target, certifier.model)
            except (RuntimeError, ImportError) as error:
                results["attacks"][f"adv-lib {name}"] = {"failed": str(error)[:200]}
                continue
            results["attacks"][f"adv-lib {name}"] = _entry(left, queries, start, options.images)
    notes = [
        f"scenes model, {options.images} test images of 64x96, l2; mean pixel accuracy left, judged in float64",
        f"onelip: {options.steps} steps for each start and eps, all eps in one call",
        f"adv-lib 0.2.8: {options.library_steps} steps for each threshold, minimal-norm results shrunk into the ball",
        "passes: images sent forward for one image and all eps; seconds on a shared machine, an indication",
        "minimal-norm attacks optimise another thing than the damage within a ball: the protocol is unkind to them",
    ]
    assert bool((predict(certificate.logits) == certificate.prediction).all())
    common.write("attacks", results, seed=0, notes=notes)


def _entry(left: list[float], queries: int, start: float, images: int) -> dict[str, Any]:
    return {"accuracy": left, "passes": queries / images, "seconds": round(time.perf_counter() - start, 1)}


if __name__ == "__main__":
    main()
