"""Draw docs/images/oneclass-clouds.png: signed distances and rivals on the five toy clouds.

    python benchmarks/oneclass_clouds.py                # about a minute

Columns: the clouds. Rows: the certified signed distance, the k-NN distance (which has the same certificate), and an
isolation forest (which has none). Yellow: the threshold that calls 1 % of the rows abnormal; dashed: the lines beyond
which answers provably stay under any change of norm 0.1 (standardised).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from sklearn.ensemble import IsolationForest

from onelip import SignedDistance
from onelip.oneclass import CertifiedKNN
from onelip.oneclass.clouds import CLOUDS, cloud
from onelip.oneclass.pictures import level_sets

IMAGE = Path(__file__).parent.parent / "docs" / "images" / "oneclass-clouds.png"
RADIUS = 0.1


def detectors(seed: int, steps: int) -> dict[str, object]:
    """Fresh detectors by what is written beside their row."""
    ours = SignedDistance(lam=100.0, steps=steps, batch_size=256, contamination=0.01, random_state=seed)
    return {
        "SignedDistance\n(certified)": ours,
        "CertifiedKNN\n(certified)": CertifiedKNN(k=5, contamination=0.01),
        "IsolationForest\n(no certificate)": IsolationForest(contamination=0.01, random_state=seed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=IMAGE)
    options = parser.parse_args()
    labels = list(detectors(0, 1))
    figure = Figure(figsize=(15, 9.6), layout="constrained")
    axes = figure.subplots(len(labels), len(CLOUDS))
    for column, name in enumerate(CLOUDS):
        rows = cloud(name, options.rows, seed=options.seed)
        for row, (label, detector) in enumerate(detectors(options.seed, options.steps).items()):
            start = time.perf_counter()
            detector.fit(rows)
            proven = hasattr(detector, "lipschitz_")
            level_sets(
                detector,
                rows,
                axes=axes[row, column],
                lines=10 if proven else 6,
                labels=False,
                arrows=proven,
                radius=RADIUS if proven else None,
                pad=0.25,
            )
            print(f"{name:15} {label.splitlines()[0]:16} {time.perf_counter() - start:.1f} s", flush=True)
            axes[row, column].set(xticks=[], yticks=[])
            if not row:
                axes[row, column].set_title(name, fontsize=14)
            if not column:
                axes[row, column].set_ylabel(label, fontsize=12)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=90)
    Image.open(options.out).convert("RGB").quantize(256).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
