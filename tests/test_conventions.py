"""One test per line of docs/conventions.md."""

import math

import pytest
import torch
from torch import nn

import onelip
from onelip.certify import PixelAccuracy, Stability
from onelip.core import numbers
from onelip.core.errors import InputError, OnelipError, TrainModeError

LOGITS = torch.tensor([[[[3.0, 1.0]], [[1.0, 1.0]]]])  # margins 2 and 0 over two pixels
TARGET = torch.zeros(1, 1, 2, dtype=torch.int64)


def test_images_are_floats_in_the_unit_interval():
    model = onelip.models.create("fcn", classes=2, size="XS").eval()
    for images in (
        torch.full((1, 3, 16, 16), 1.5),
        torch.zeros(1, 3, 16, 16, dtype=torch.uint8),
        torch.zeros(3, 16, 16),
    ):
        with pytest.raises(InputError, match="images"):
            onelip.certify.segmentation(model, images)


def test_void_pixels_carry_the_ignore_index():
    void = torch.tensor([[[0, 255]]])
    assert PixelAccuracy().value(LOGITS, void).item() == 1.0
    assert PixelAccuracy(ignore_index=7).value(LOGITS, torch.tensor([[[0, 7]]])).item() == 1.0
    with pytest.raises(InputError, match="labels outside the classes"):
        PixelAccuracy(ignore_index=7).value(LOGITS, void)


def test_eps_is_the_norm_of_the_whole_perturbation_in_three_units():
    units = numbers.units(0.1, (3, 1024, 1024))
    assert units["rms"] == pytest.approx(0.1 / math.sqrt(3 * 1024 * 1024))
    assert units["rms_255"] == pytest.approx(255 * units["rms"])
    assert numbers.units(0.1, (3, 8, 8), math.inf)["rms"] == 0.1


def test_normalisation_is_inside_the_model_and_inside_the_bound():
    narrow = onelip.models.create("deeplabv3", classes=2, size="XS", std=0.25).eval()
    wide = onelip.models.create("deeplabv3", classes=2, size="XS", std=0.5).eval()
    wide.load_state_dict(
        {**narrow.state_dict(), **{k: v for k, v in wide.state_dict().items() if "normalize" in k}}
    )
    assert onelip.lipschitz(narrow, (16, 16)).value == pytest.approx(
        2 * onelip.lipschitz(wide, (16, 16)).value, rel=1e-6
    )


def test_the_ball_is_closed_and_ties_favour_the_attacker():
    # the margin of 2 costs exactly sqrt(2): at that eps it is lost; the tie is lost at eps = 0
    worst = Stability().worst_case(LOGITS, eps=[0.0, 1.4142, math.sqrt(2.0)], lipschitz=1.0)
    assert worst.flatten().tolist() == [0.5, 0.5, 0.0]
    assert PixelAccuracy().value(LOGITS, TARGET).item() == 1.0


@pytest.mark.parametrize("value", [1.00000001, 6.531972647, 0.1, 123456.789])
def test_bounds_print_up_and_radii_down(value):
    assert float(numbers.round_up(value, 4)) >= value >= float(numbers.round_down(value, 4))


def test_the_constant_is_joint_over_all_pixels():
    # every pixel of a channel-doubling copy is sqrt(2)-Lipschitz alone; jointly it is the same, not more
    copy = nn.Conv2d(1, 2, 1, bias=False).eval()
    nn.init.ones_(copy.weight)
    assert onelip.lipschitz(copy, (8, 8)).value == pytest.approx(math.sqrt(2), rel=1e-6)
    # a map that writes one pixel everywhere is 1-Lipschitz for each output, and 8 for all 64 together
    spread = nn.Upsample(scale_factor=8).eval()
    assert onelip.lipschitz(spread, (1, 1, 1)).value == pytest.approx(8.0, rel=1e-6)


def test_certificates_refuse_train_mode():
    model = onelip.models.create("fcn", classes=2, size="XS").train()
    with pytest.raises(TrainModeError, match="eval"):
        onelip.lipschitz(model, (16, 16))
    with pytest.raises(OnelipError, match="train"):
        onelip.certify.segmentation(model, torch.zeros(1, 3, 16, 16))


def test_the_same_seed_gives_the_same_answer():
    model = onelip.models.create("fcn", classes=2, size="XS").eval()
    first, again = (onelip.testing.lower_bound(model, (16, 16), seed=3) for _ in range(2))
    assert first == again


def test_undefined_values_are_nan_for_an_image_and_counted_by_metrics():
    void = torch.full((1, 1, 2), 255)
    assert PixelAccuracy().value(LOGITS, void).isnan().all()
    metric = onelip.metrics.Certified(PixelAccuracy(), eps=[0.1])
    metric.update(LOGITS, TARGET, 1.0)
    metric.update(LOGITS, void, 1.0)
    curve = metric.compute()
    assert curve.undefined == 1
    assert not math.isnan(float(curve.certified[0]))
