"""A size that the stride of the model does not divide: every command says what it is padded to, and records it."""

from __future__ import annotations

import json
import math

import pytest
import torch

import onelip

SAID = "input 33x45 is padded to {}x{} (stride {})"


@pytest.fixture
def ran(call, tmp_path):
    """Run a command; what it printed and its results."""

    def inner(*words):
        done = call(*words, "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout, json.loads((tmp_path / "results.json").read_text())

    return inner


def test_padded_size_is_the_next_multiple():
    for name in ("fcn", "unet", "deeplabv3", "convnet"):
        net = onelip.models.create(name, classes=2, size="XS")
        stride = net.multiple_of
        for size in ((1, 1), (stride, 2 * stride), (stride + 1, 3 * stride - 1)):
            padded = net.padded_size(size)
            assert padded == tuple(stride * math.ceil(n / stride) for n in size)
        seen = []
        net.eval().network = lambda x, seen=seen: seen.append(x.shape[-2:]) or x
        net(torch.zeros(1, 3, stride + 1, 2 * stride))
        assert tuple(seen[0]) == net.padded_size((stride + 1, 2 * stride)) == (2 * stride, 2 * stride)


@pytest.mark.parametrize(
    "words",
    [
        ["certify", "--limit", "1", "--pictures", "0", "--criteria", "accuracy"],
        ["attack", "--limit", "1", "--pictures", "0", "--steps", "2", "--eps", "0.1"],
    ],
)
def test_commands_over_a_data_set(words, model, ran):
    stride = onelip.load(model).multiple_of
    padded = [stride * math.ceil(n / stride) for n in (33, 45)]
    said, results = ran(words[0], model, "scenes", "--size", "33x45", *words[1:])
    assert SAID.format(*padded, stride) in said
    record = results["data"]
    assert (record["size"], record["padded_size"], record["stride"]) == ([33, 45], padded, stride)


def test_info_of_a_model(model, ran):
    stride = onelip.load(model).multiple_of
    padded = [stride * math.ceil(n / stride) for n in (33, 45)]
    said, results = ran("info", model, "--size", "33x45")
    assert SAID.format(*padded, stride) in said
    assert (results["size"], results["padded_size"], results["stride"]) == ([33, 45], padded, stride)
    said, results = ran("info", model, "--size", f"{stride}x{2 * stride}")
    assert "is padded" not in said
    assert results["padded_size"] == results["size"] == [stride, 2 * stride]


@pytest.mark.slow  # (the import of the trainer alone takes seconds)
def test_train(ran):
    changes = [
        "data.size=[33, 45]",
        "augment.crop=[]",
        "optim.epochs=1",
        "optim.warmup=0",
        "data.images=4",
        'model.size="XS"',
    ]
    said, results = ran("train", "scenes", *(word for change in changes for word in ("--set", change)))
    padded, stride = results["padded_size"], results["stride"]
    assert all(n % stride == 0 for n in padded)
    assert results["size"] == [33, 45] != padded
    assert SAID.format(*padded, stride) in said
