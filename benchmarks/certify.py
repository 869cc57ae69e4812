"""The certificate of a megapixel, 19 classes, 50 values of eps: compared with one sort and with single calls."""

from __future__ import annotations

import torch

import common
from onelip.certify import PixelAccuracy

SEED = 0


def main() -> None:
    """Measure and write results/certify.json."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    logits = torch.randn(1, 19, 1024, 1024, generator=generator)
    target = logits.argmax(1)
    values = torch.rand(1024 * 1024, generator=generator, dtype=torch.float64)
    eps = torch.linspace(0, 100, 50)
    criterion = PixelAccuracy()

    def curve() -> object:
        return criterion.worst_case(logits, target, eps=eps, lipschitz=1.0)

    def one_by_one() -> object:
        return [criterion.worst_case(logits, target, eps=[e], lipschitz=1.0) for e in eps[::10].tolist()]

    candidates = {"one sort": values.sort, "50 eps, one call": curve, "5 eps, 5 calls": one_by_one}
    results = common.compare(common.interleaved(candidates, repeats=5), "one sort")
    common.write(
        "certify", results, seed=SEED, notes=["one thread; pixel accuracy, 19 x 1024 x 1024 logits, l2"]
    )


if __name__ == "__main__":
    main()
