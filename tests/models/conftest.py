"""Small models of every architecture, with statistics and biases that are not those of a fresh network."""

import pytest
import torch

from onelip.models import create

CONSTRAINTS = ["orthogonal", "spectral", None, "orthogonium"]
OPTIONS = {
    "deeplabv3": {"widths": (8, 16), "repeats": 1},
    "unet": {},
    "fcn": {},
    "convnet": {},
    "resnet18": {"widths": (8, 16), "depths": (1, 1)},
    "fcos": {"strides": (8, 16)},
    "mlp": {"in_channels": 2, "image_size": (6, 5)},
}


def make(name, constraint="orthogonal", classes=3, **options):
    """Build the XS model, warmed up by two training passes and with random biases, in eval mode."""
    torch.manual_seed(0)
    options = OPTIONS[name] | options
    model = create(name, classes=classes, size="XS", constraint=constraint, **options)
    with torch.no_grad():
        for _ in range(2):
            model(batch(model))
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return model.eval()


def batch(model, size=None, count=2, seed=1):
    """Draw images of a size the model takes."""
    if model.name == "mlp":
        size = tuple(model.config["options"]["image_size"] or (1, 1))
    elif model.name == "convnet" and size is None:
        size = model.config["options"]["image_size"]
    shape = (count, model.in_channels, *(size or (24, 24)))
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def jacobian_norm(model, image, steps=12):
    """Estimate the norm of the Jacobian at an image from below, by power iteration in float64."""
    model, x = model.double(), image.double()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    gain = 0.0
    for _ in range(steps):
        direction = direction / direction.norm()
        _, forward = torch.func.jvp(model, (x,), (direction,))
        gain = float(forward.detach().norm())
        _, pull = torch.func.vjp(model, x)
        direction = pull(forward)[0].detach()
    return gain


@pytest.fixture
def local_gain():
    """Give tests the oracle below every bound."""
    return jacobian_norm


@pytest.fixture
def tools():
    """Give tests the two builders."""
    return make, batch
