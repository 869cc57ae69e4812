"""The convnet that flattens: constants, pairs, files, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import onelip
from onelip.certify import pair_constants
from onelip.core.errors import ConfigError, InputError

FLAT = {"image_size": (11, 9), "hidden": (12,), "widths": (8, 16), "repeats": 2, "in_channels": 1}


@pytest.mark.parametrize("norm", ["bias", "batch"])
@pytest.mark.parametrize("constraint", ["orthogonal", "spectral", None, "orthogonium"])
def test_bounds_and_files_of_a_flattening_model(tools, local_gain, tmp_path, constraint, norm):
    make, batch = tools
    model = make("convnet", constraint, norm=norm, head="unit", scale="none", **FLAT)
    images = batch(model, (11, 9))
    folded = onelip.fold(model)
    assert folded(images).shape == (2, 3)
    torch.testing.assert_close(folded(images), model(images), rtol=1e-4, atol=1e-5)
    constants = pair_constants(folded, (11, 9), in_channels=1)
    model.save(tmp_path / "m")
    loaded = onelip.load(tmp_path / "m")
    assert torch.equal(loaded(images), folded(images))
    assert torch.equal(pair_constants(loaded, (11, 9), in_channels=1), constants)
    assert local_gain(onelip.fold(model), images[:1]) <= onelip.lipschitz(folded, (11, 9)).value


def test_flattened_features_have_constant_one_and_pairs_that_of_their_rows(tools):
    make, _ = tools
    model = onelip.fold(make("convnet", norm="bias", head="unit", scale="none", mean=0.0, std=1.0, **FLAT))
    rows = model.head.weight.double()
    expected = (rows[:, None] - rows[None]).norm(dim=2)
    found = pair_constants(model, (11, 9), in_channels=1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-9)
    assert (found >= expected * (1 - 1e-6)).all()


def test_norm_bias_has_no_statistics_and_twins_have_its_shapes(tools):
    make, _ = tools
    model, twin = (make("convnet", c, norm="bias", **FLAT) for c in ("orthogonal", None))
    assert not [name for name, _ in model.named_buffers() if "running" in name]
    shapes = [[p.shape for p in onelip.fold(m).parameters()] for m in (model, twin)]
    assert shapes[0] == shapes[1]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in twin.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in make("convnet", None, **FLAT).modules())


def test_images_do_not_mix_without_statistics(tools):
    make, batch = tools
    model = make("convnet", norm="bias", **FLAT).train()
    images = batch(model, (11, 9))
    torch.testing.assert_close(model(images)[:1], model(images[:1]))


def test_other_sizes_and_wrong_options_are_refused(tools):
    make, batch = tools
    model = make("convnet", **FLAT)
    assert model.default_size == (11, 9)
    with pytest.raises(InputError, match=r"built for one image size.*received \(12, 9\).*expected \(11, 9\)"):
        model(batch(model, (12, 9)))
    with pytest.raises(ConfigError, match=r"`hidden` layers need `image_size`; received \[12\]"):
        onelip.models.create("convnet", classes=2, hidden=(12,))
    with pytest.raises(ConfigError, match=r"`norm` is not known.*'group'"):
        onelip.models.create("convnet", classes=2, norm="group")
    with pytest.raises(InputError, match="size"):
        onelip.models.create("convnet", classes=2, image_size=(0, 4))
