"""ONNX files: the same function, and its bound in the metadata."""

import hashlib
import json

import pytest
import torch

import onelip
from onelip.core.errors import IntegrityError, MissingExtraError
from onelip.models import onnx as export

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    ("name", "constraint", "size"),
    [
        ("deeplabv3", "orthogonal", (20, 27)),
        ("unet", None, (16, 16)),
        ("fcn", "spectral", (9, 16)),
        ("convnet", "orthogonal", (12, 12)),
        ("mlp", "orthogonal", (6, 5)),
        ("resnet18", None, (17, 9)),
        ("fcos", "orthogonal", (20, 27)),
    ],
)
def test_the_file_computes_the_model_and_carries_its_bound(tools, tmp_path, name, constraint, size):
    make, batch = tools
    model = make(name, constraint)
    bound = onelip.export_onnx(model, tmp_path / "m.onnx", size)
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 2, 5):
        images = batch(model, size, count=count, seed=count)
        expected = model(images).detach()
        received = torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
        torch.testing.assert_close(received, expected, rtol=1e-4, atol=1e-5)
    found = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert float(found["onelip.lipschitz"]) == bound.value == onelip.lipschitz(onelip.fold(model), size).value
    assert json.loads(found["onelip.size"]) == list(size)
    assert float(found["onelip.p"]) == 2.0
    assert json.loads(found["onelip.config"]) == model.config
    model.save(tmp_path / "m")
    weights = hashlib.sha256((tmp_path / "m" / "model.safetensors").read_bytes()).hexdigest()
    if constraint != "orthogonium":
        assert found["onelip.weights_sha256"] == weights


def test_a_file_that_computes_something_else_is_not_written(tools, tmp_path, monkeypatch):
    make, _ = tools

    def other(folded, example, file):
        changed = onelip.fold(folded)
        with torch.no_grad():
            changed.classifier.bias.add_(0.01)
        real(changed, example, file)

    real = export._export
    monkeypatch.setattr(export, "_export", other)
    with pytest.raises(IntegrityError, match="the exported network is not the model"):
        onelip.export_onnx(make("fcn"), tmp_path / "m.onnx", (8, 8))
    assert list(tmp_path.iterdir()) == []


def test_the_missing_extra_is_named(tools, tmp_path, monkeypatch):
    make, _ = tools
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r'onnxruntime.*pip install "onelip\[onnx\]"'):
        onelip.export_onnx(make("fcn"), tmp_path / "m.onnx", (8, 8))
