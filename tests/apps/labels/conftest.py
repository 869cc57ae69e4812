"""A small classifier that has learned the embedded digits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import onelip


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Folder of a multilayer perceptron for the 8 x 8 digits, trained for a second."""
    torch.manual_seed(0)
    dataset = onelip.data.open_labels("digits", "train")
    images, labels = torch.stack([image for image, _ in dataset]), dataset.labels
    model = onelip.models.create("mlp", classes=10, size="XS", in_channels=1, image_size=(8, 8))
    optimiser = torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(40):
        chosen = torch.randperm(len(images))[:256]
        loss = functional.cross_entropy(8 * model(images[chosen]), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    folder = tmp_path_factory.mktemp("models") / "digits"
    model.eval().save(folder, size=(8, 8))
    return folder


@pytest.fixture(scope="session")
def unit(tmp_path_factory):
    """Folder of an untrained convolutional classifier whose last layer has rows of norm 1."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "unit"
    model = onelip.models.create("convnet", classes=10, size="XS", in_channels=1, head="unit", widths=(8, 4))
    model.eval().save(folder, size=(8, 8))
    return folder
