"""What the temperature of the loss, the learning rate and the width do: short trainings, all alike but for one key.

    python benchmarks/tried.py --epochs 6

writes results/tried-camvid.json. Short trainings at half resolution rank choices; they are no final numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import common
from onelip import train
from onelip.core import files

BASE = [
    "data.size=[180,240]", "augment.crop=[120,160]", "val.images=34", "val.eps=[0.05,0.1,0.17,0.5]",
    "run.threads=1", "optim.warmup=0.5", "optim.lr=4e-3", "loss.tau=20",
]  # fmt: skip
TRIED: dict[str, list[str]] = {
    "base: S, tau 20, lr 4e-3": [],
    "tau 5": ["loss.tau=5"],
    "tau 80": ["loss.tau=80"],
    "lr 1e-3": ["optim.lr=1e-3"],
    "lr 1e-2": ["optim.lr=1e-2"],
    "width XS": ["model.size=XS"],
    "cosine loss": ["loss.name=cosine"],
    "spectral": ["model.constraint=spectral"],
}


def main() -> None:
    """Train each variant and collect the last line of its metrics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("runs/tried"))
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    for name, overrides in TRIED.items():
        folder = options.out / name.split(":")[0].replace(" ", "-")
        schedule = [f"optim.epochs={options.epochs}", f"val.every={options.epochs}"]
        train.fit("camvid", out=folder, resume=True, overrides=[*BASE, *schedule, *overrides])
        rows[name] = files.read_json(folder / "results.json")
        notes = [
            f"{options.epochs} epochs on half-resolution crops, 34 validation images at 180x240, one seed"
        ]
        common.write("tried-camvid", rows, seed=0, notes=notes)


if __name__ == "__main__":
    main()
