"""Adversarial training sees worse images, within the ball and the box, and changes nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from onelip import models, train
from onelip.core.errors import ConfigError
from onelip.train.adversary import attacked


def test_linear_loss_gets_the_worst_perturbation() -> None:
    x = torch.full((2, 3, 4, 4), 0.5)
    slope = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    model = models.create("mlp", classes=2, size="XS", image_size=(4, 4))
    for steps in (1, 4):
        moved = attacked(model, x, lambda images: (slope * images).sum(), eps=0.3, steps=steps)
        torch.testing.assert_close(
            moved - x, 0.3 * slope / slope.flatten(1).norm(dim=1).reshape(2, 1, 1, 1), atol=1e-5, rtol=1e-4
        )


def test_ball_and_box_hold_where_both_bind() -> None:
    x = torch.rand(
        3, 3, 6, 6, generator=torch.Generator().manual_seed(1)
    ).round()  # at the corners of the box
    model = models.create("fcn", classes=3, size="XS")
    moved = attacked(model, x, lambda images: model(images).square().sum(), eps=0.7, steps=3)
    assert ((moved >= 0) & (moved <= 1)).all()
    assert (moved - x).flatten(1).norm(dim=1).max() <= 0.7 * (1 + 1e-5)
    assert (moved - x).abs().max() > 0


def test_an_image_without_a_gradient_stays_and_the_mode_returns() -> None:
    x = torch.rand(2, 3, 4, 4)
    model = models.create("mlp", classes=2, size="XS", image_size=(4, 4)).train()
    modes = []

    def loss(images: torch.Tensor) -> torch.Tensor:
        modes.append(model.training)
        return images[0].sum()

    moved = attacked(model, x, loss, eps=0.1)
    assert modes == [False]
    assert model.training
    assert torch.equal(moved[1], x[1])
    assert not torch.equal(moved[0], x[0])
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("key", "value"), [("attack", -0.1), ("attack", float("inf")), ("attack_steps", 0)])
def test_unusable_values_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"augment.{key}"):
        train.load_recipe("demo", {f"augment.{key}": value})


def test_a_training_sees_it(tmp_path: Path) -> None:
    tiny = {"data.size": [32, 48], "data.images": 8, "optim.epochs": 1, "val.images": 2, "run.threads": 1}
    rows = {
        eps: train.fit("demo", out=tmp_path / str(eps), overrides=tiny | {"augment.attack": eps}).history[0]
        for eps in (0.0, 1.0)
    }
    assert rows[1.0]["loss"] > rows[0.0]["loss"]
