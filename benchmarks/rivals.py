"""Lipschitz certificates beside randomized smoothing and attacks, on the same images of a data set.

    python benchmarks/rivals.py camvid --lipnet runs/camvid --twin runs/camvid-twin \
        --base runs/camvid-twin-noisy sigma=0.2,0.25 --base runs/camvid-twin-noisy-0.1 sigma=0.1,0.15

reads trained models and writes results/rivals-camvid.json. Every `--base` is a model to smooth; it should be trained
with noise (`onelip train camvid-twin-noisy`, for the second one with `augment.noise=0.1`). An interrupted run goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import common
from onelip.apps.assault import Assault, assault
from onelip.apps.comparison import Comparison, compare

EPS = (0.1, 0.17)
ATTACK_EPS = (0.05, 0.1, 0.17, 0.5, 1.0)


def smoothing(options: argparse.Namespace, base: str, sigmas: str) -> dict[str, Any]:
    """Compare the certificate of the LipNet with the smoothed base at its levels of noise."""
    found = compare(
        Comparison(
            model=str(options.lipnet),
            data=options.data,
            split=options.split,
            eps=EPS,
            limit=options.images,
            sigmas=tuple(float(s) for s in sigmas.removeprefix("sigma=").split(",")),
            base=base,
            n=options.n,
            batch_size=1,
            resume=True,
            out=options.out / f"{options.data}-smoothing-{Path(base).name}",
        )
    )
    kept = ("comparison", "needs", "command")
    return {"images": found["data"]["images"], **{key: found[key] for key in kept}}


def attacked(options: argparse.Namespace, name: str, model: Path) -> dict[str, Any]:
    """Certified and attacked pixel accuracy of a model; the command stops if an attack beats its certificate."""
    found = assault(
        Assault(
            model=str(model),
            data=options.data,
            split=options.split,
            eps=ATTACK_EPS,
            limit=options.attacked,
            attack="knapsack",
            steps=options.steps,
            pictures=2,
            resume=True,
            out=options.out / f"{options.data}-{name}-attacked",
        )
    )
    return {"images": found["data"]["images"], "rows": found["attacked"], "command": found["command"]}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--lipnet", type=Path, required=True)
    parser.add_argument("--twin", type=Path, required=True)
    parser.add_argument("--base", nargs=2, action="append", metavar=("MODEL", "sigma=..."), required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--attacked", type=int, default=10)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--n", type=int, default=140)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    results = {
        "smoothing": {base: smoothing(options, base, sigmas) for base, sigmas in options.base},
        "attacked": {
            name: attacked(options, name, model)
            for name, model in (("lipnet", options.lipnet), ("twin", options.twin))
        },
    }
    notes = [
        f"{options.split} part, evenly spread images; pixel accuracy over their valid pixels; eps is an l2 norm",
        "seconds are medians for one image, Lipschitz and smoothing timed in turn in one run, one thread each",
        f"attack: Knapsack, {options.steps} steps from two starts, judged in float64",
    ]
    common.write(f"rivals-{options.data}", results, seed=0, notes=notes)


if __name__ == "__main__":
    main()
