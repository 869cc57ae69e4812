"""Cost of orthogonal layers: weights against Orthogonium's, a training step and folded inference against the twin.

Run from the repository root: `OMP_NUM_THREADS=1 python benchmarks/layers.py` (two to five minutes).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch
from orthogonium.layers import AdaptiveOrthoConv2d, AdaptiveOrthoConvTranspose2d
from torch import Tensor, nn

import onelip
from common import compare, interleaved, write
from onelip.layers import LipschitzConv, TauCrossEntropy, fold, retract_

SEED = 0
CLASSES = 12
DRIFT = 0.1


def model(size: str, constraint: str | None, **options: Any) -> nn.Module:
    torch.manual_seed(SEED)
    return onelip.models.create("deeplabv3", classes=CLASSES, size=size, constraint=constraint, **options)


def convolutions(network: nn.Module) -> list[LipschitzConv]:
    return [m for m in network.modules() if isinstance(m, LipschitzConv)]


def orthogoniums(layers: list[LipschitzConv]) -> list[nn.Module]:
    """Build Orthogonium's layers, default parameters, of the same geometry."""
    torch.manual_seed(SEED)
    made = []
    for layer in layers:
        kind = AdaptiveOrthoConvTranspose2d if layer.transposed else AdaptiveOrthoConv2d
        made.append(
            kind(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size[0],
                stride=layer.stride[0],
                padding=layer.padding[0],
                dilation=layer.dilation[0],
                groups=layer.groups,
                bias=False,
                padding_mode="zeros",
            ).train()
        )
    return made


def weights(layers: list[Any], probes: list[Tensor], *, backward: bool) -> Callable[[], None]:
    """Evaluate every weight as one training step does, with a gradient of full rank when backward."""

    def run() -> None:
        for layer in layers:
            layer.zero_grad(set_to_none=True)
        total = sum((layer.weight * probe).sum() for layer, probe in zip(layers, probes, strict=True))
        if backward:
            total.backward()

    return run


def weight_computation(size: str, repeats: int) -> dict[str, Any]:
    ours = convolutions(model(size, "orthogonal").train())
    retracted = convolutions(model(size, "orthogonal", mode="retract").train())
    spectral = convolutions(model(size, "spectral").train())
    theirs = orthogoniums(ours)
    drift = torch.Generator().manual_seed(SEED)
    with torch.no_grad():  # what training does to free matrices: they leave the manifold a little
        for layer in (*ours, *spectral):
            for p in layer.parameters():
                noise = torch.randn(p.shape, generator=drift)
                p.add_(DRIFT * p.norm() / noise.norm() * noise)
    probes = [torch.randn(layer.weight.shape, generator=drift) for layer in ours]

    def retraction() -> None:
        weights(retracted, probes, backward=True)()
        for layer in retracted:
            retract_(layer)

    results = {"convolutions": len(ours)}
    for label, backward in (("forward", False), ("forward + backward", True)):
        candidates: dict[str, Callable[[], object]] = {
            "orthogonium": weights(theirs, probes, backward=backward),
            "orthogonal": weights(ours, probes, backward=backward),
            "spectral": weights(spectral, probes, backward=backward),
        }
        if backward:
            candidates["orthogonal, retraction included"] = retraction
        results[label] = compare(interleaved(candidates, repeats=repeats), "orthogonium")
    return results


def training_step(size: str, repeats: int, batch: int, side: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(SEED)
    images = torch.rand(batch, 3, side, side, generator=generator)
    target = torch.randint(0, CLASSES, (batch, side, side), generator=generator)
    loss = TauCrossEntropy(10.0)

    def step(network: nn.Module) -> Callable[[], None]:
        network.train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            loss(network(images), target).backward()
            optimizer.step()

        return run

    candidates = {
        "twin": step(model(size, None)),
        "orthogonal": step(model(size, "orthogonal")),
        "spectral": step(model(size, "spectral")),
        "orthogonium": step(model(size, "orthogonium")),
    }
    return {"batch": batch, "size": [side, side], **compare(interleaved(candidates, repeats=repeats), "twin")}


def inference(size: str, repeats: int, side: int) -> dict[str, Any]:
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(SEED))
    orthogonal = model(size, "orthogonal").eval()
    networks = {
        "twin": model(size, None).eval(),
        "folded": fold(orthogonal),
        "orthogonal, not folded": orthogonal,
        "orthogonium, not folded": model(size, "orthogonium").eval(),
    }

    def forward(network: nn.Module) -> Callable[[], Tensor]:
        @torch.no_grad()
        def run() -> Tensor:
            return network(image)

        return run

    candidates = {name: forward(network) for name, network in networks.items()}
    return {"batch": 1, "size": [side, side], **compare(interleaved(candidates, repeats=repeats), "twin")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    results = {
        "weights, DeepLabV3 S": weight_computation("S", options.repeats),
        "training step, DeepLabV3 S": training_step("S", options.repeats, batch=4, side=options.side),
        "inference, DeepLabV3 S": inference("S", 2 * options.repeats, side=options.side),
    }
    notes = [
        "The machine was shared with other work: read the ratios, taken within each interleaved round.",
        f"orthogonium {metadata.version('orthogonium')}, default parameters.",
        f"Free matrices were disturbed by {DRIFT:.0%} of their Frobenius norm before weights were timed.",
    ]
    write("layers", results, seed=SEED, notes=notes)


if __name__ == "__main__":
    main()
