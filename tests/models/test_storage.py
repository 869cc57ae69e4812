"""Saved models: what comes back is what was saved, or an error."""

import errno
import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import onelip
from onelip.core.errors import DataError, InputError, IntegrityError, StorageError
from onelip.models import FCN, storage
from onelip.models.config import ModelConfig
from onelip.models.factory import Factory

NAMES = ["deeplabv3", "unet", "fcn", "convnet", "mlp", "resnet18", "fcos"]
CONSTRAINTS = ["orthogonal", "spectral", None, "orthogonium"]


@pytest.fixture
def saved(tools, tmp_path):
    make, batch = tools
    model = make("fcn")
    model.save(tmp_path / "m")
    return tmp_path / "m", model, batch(model)


def rewrite(folder, edit, seal=True):
    """Edit a record and, like a careful forger or a buggy tool, make its hash fit again."""
    record = json.loads((folder / "config.json").read_text())
    edit(record)
    if seal:
        record["sha256"] = storage._digest(record)
    (folder / "config.json").write_text(json.dumps(record))


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_loaded_computes_the_same_bits(tools, tmp_path, name, constraint):
    make, batch = tools
    model = onelip.fold(make(name, constraint))
    model.save(tmp_path / "m")
    loaded = onelip.load(tmp_path / "m")
    assert type(loaded) is type(model)
    assert loaded.folded
    assert not any(m.training for m in loaded.modules())
    assert loaded.config == model.config
    state, again = model.state_dict(), loaded.state_dict()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[k], again[k]) for k in state)
    images = batch(model, (19, 26))
    assert torch.equal(loaded(images), model(images))


def test_saving_does_not_touch_the_model(tools, tmp_path):
    make, _batch = tools
    model = make("fcn").train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.save(tmp_path / "m")
    assert model.training
    assert not model.folded
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_loading_and_saving_again_gives_the_same_files(saved, tmp_path):
    folder, _, _ = saved
    onelip.load(folder).save(tmp_path / "again")
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_record_holds_bound_size_and_hashes(saved):
    folder, model, _ = saved
    record = json.loads((folder / "config.json").read_text())
    height, width = record["lipschitz"]["size"]
    assert record["lipschitz"]["value"] == onelip.lipschitz(onelip.fold(model), (height, width)).value
    assert record["weights_sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    model.save(folder, size=(40, 24))
    assert json.loads((folder / "config.json").read_text())["lipschitz"]["size"] == [40, 24]


def test_the_card_says_what_a_user_must_know(saved):
    folder, _model, _ = saved
    card = (folder / "README.md").read_text()
    record = json.loads((folder / "config.json").read_text())
    for text in [
        "Lipschitz bound",
        "l_2",
        "[0, 1]",
        "3 classes",
        "## Limits",
        "## Units",
        record["weights_sha256"],
    ]:
        assert text in card
    printed = float(card.split("Lipschitz bound | ")[1].split(" ")[0])
    assert record["lipschitz"]["value"] <= printed <= record["lipschitz"]["value"] * 1.00001


def test_random_numbers_are_not_spent(saved):
    folder, _, _ = saved
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    onelip.load(folder)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.999])
def test_one_changed_byte(saved, place):
    folder, _, _ = saved
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[int(place * len(raw))] ^= 1
    (folder / "model.safetensors").write_bytes(raw)
    with pytest.raises(IntegrityError, match="not those that were saved"):
        onelip.load(folder)


def test_truncated_weights(saved):
    folder, _, _ = saved
    raw = (folder / "model.safetensors").read_bytes()[:-100]
    (folder / "model.safetensors").write_bytes(raw)
    with pytest.raises(IntegrityError, match="SHA-256 differs"):
        onelip.load(folder)
    rewrite(folder, lambda r: r.update(weights_sha256=hashlib.sha256(raw).hexdigest()))
    with pytest.raises(IntegrityError, match="cannot be read"):
        onelip.load(folder)


def retensor(folder, edit):
    """Change the tensors and make both hashes fit."""
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    rewrite(folder, lambda r: r.update(weights_sha256=digest))


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda s: s.pop("classifier.bias"), r"1 missing \(first classifier.bias\)"),
        (lambda s: s.update(extra=torch.zeros(2)), r"1 left over \(first extra\)"),
        (
            lambda s: s.update({"classifier.bias": torch.zeros(4)}),
            r"1 of other shape or type \(first classifier.bias",
        ),
        (lambda s: s.update({"classifier.bias": s["classifier.bias"].double()}), "of other shape or type"),
        (lambda s: s["classifier.weight"].mul_(1.001), "bound proven from the weights is above the recorded"),
        (lambda s: s["normalize.std"].mul_(0.99), "input normalisation of weights and configuration differ"),
        (lambda s: s["classifier.weight"].fill_(torch.nan), "."),
    ],
)
def test_other_tensors_under_fitting_hashes(saved, edit, text):
    folder, _, _ = saved
    retensor(folder, edit)
    with pytest.raises(onelip.OnelipError, match=text):
        onelip.load(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda r: r["lipschitz"].update(value=r["lipschitz"]["value"] / 2),
        lambda r: r["lipschitz"].update(value=r["lipschitz"]["value"] * 2),
        lambda r: r["lipschitz"].update(size=[8, 8]),
        lambda r: r["model"].update(std=[0.6, 0.5, 0.5]),
        lambda r: r["model"].update(classes=4),
        lambda r: r.update(weights_sha256="0" * 64),
        lambda r: r.update(onelip="9.9.9"),
    ],
)
def test_an_edited_record(saved, edit):
    folder, _, _ = saved
    rewrite(folder, edit, seal=False)
    with pytest.raises(IntegrityError, match="changed after it was written"):
        onelip.load(folder)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda r: r["lipschitz"].update(value=r["lipschitz"]["value"] * 0.999), "above the recorded one"),
        (lambda r: r["lipschitz"].update(value=float("nan")), "records no bound"),
        (lambda r: r["lipschitz"].update(value="2"), "records no bound"),
        (lambda r: r["lipschitz"].update(size=[0, 4]), "records no bound"),
        (lambda r: r["lipschitz"].update(size=[4]), "records no bound"),
        (lambda r: r["lipschitz"].update(p=3), "records no bound"),
        (lambda r: r["model"].update(name="unet"), "describes no model"),
        (lambda r: r["model"].update(name="fnc"), "unknown architecture"),
        (lambda r: r["model"].update(classes=7), "another model"),
        (
            lambda r: r["model"].update(std=[0.6, 0.6, 0.6]),
            "input normalisation of weights and configuration",
        ),
        (lambda r: r["model"].pop("std"), "describes no model"),
        (lambda r: r["model"]["options"].pop("repeats"), "options of fcn"),
        (lambda r: r.pop("lipschitz"), "not a model record"),
        (lambda r: r.update(format=99), "not a model record of format 1"),
        (lambda r: r.update(lipschitz={"value": 1}), "records no bound"),
    ],
)
def test_a_sealed_record_of_something_else(saved, edit, text):
    folder, _, _ = saved
    rewrite(folder, edit)
    with pytest.raises(IntegrityError, match=text):
        onelip.load(folder)


def test_weights_of_another_architecture(saved, tools, tmp_path):
    folder, _, _ = saved
    make, _ = tools
    make("unet").save(tmp_path / "unet")
    shutil.copy(tmp_path / "unet" / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(IntegrityError, match="not those that were saved"):
        onelip.load(folder)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    rewrite(folder, lambda r: r.update(weights_sha256=digest))
    with pytest.raises(IntegrityError, match=r"another model.*missing.*left over"):
        onelip.load(folder)


def test_missing_and_unreadable_files(saved, tmp_path):
    folder, _, _ = saved
    with pytest.raises(DataError, match="there is no such model"):
        onelip.load(tmp_path / "nowhere")
    (folder / "config.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        onelip.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(DataError, match="does not exist"):
        onelip.load(folder)


def test_missing_weights(saved):
    folder, _, _ = saved
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model.safetensors cannot be read"):
        onelip.load(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "README.md"])
def test_a_full_disk_keeps_the_old_model(saved, tools, monkeypatch, file):
    folder, _model, images = saved
    make, _ = tools
    expected = onelip.load(folder)(images)
    other = make("fcn", std=0.25)

    def full(name, real):
        def write(path, *args, **kwargs):
            if name == path.name or path.name.startswith(f".{name}."):
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, *args, **kwargs)

        return write

    if file == "config.json":

        def no_space(path, value):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(storage, "write_json", no_space)
    else:
        method = "write_bytes" if file == "model.safetensors" else "write_text"
        monkeypatch.setattr("pathlib.Path." + method, full(file, getattr(type(folder), method)))
    with pytest.raises(StorageError, match="No space left"):
        other.save(folder)
    monkeypatch.undo()
    assert torch.equal(onelip.load(folder)(images), expected)
    assert sorted(p.name for p in folder.parent.iterdir()) == ["m"]


def test_a_model_that_its_configuration_does_not_build_is_not_saved(tools, tmp_path):
    make, _ = tools

    class Doubled(FCN):
        def forward(self, images):
            return 2 * super().forward(images)

    def relu(model):
        model.encoder[1] = torch.nn.ReLU()

    def wider(model):
        model.classifier = torch.nn.Conv2d(model.classifier.in_channels, 5, 1)

    def patched(model):
        model.forward = lambda x: x

    for change in (relu, wider, patched):
        model = make("fcn")
        change(model)
        with pytest.raises(InputError, match="not what its configuration builds"):
            model.save(tmp_path / "m")
    config = ModelConfig.from_dict(make("fcn").config)
    with pytest.raises(InputError, match=r"registered with @onelip\.models\.architecture"):
        Doubled(config, Factory("orthogonal")).save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_other_precisions_are_not_saved(tools, tmp_path):
    make, _ = tools
    with pytest.raises(InputError, match=r"only float32 models are saved.*float64"):
        onelip.fold(make("fcn")).double().save(tmp_path / "m")


def test_pretrained_names_load(saved, monkeypatch):
    folder, model, images = saved
    from onelip.models import shipped

    monkeypatch.setattr(shipped, "SHIPPED", folder.parent)
    assert onelip.pretrained() == {"m": "fcn XS, 3 classes"}
    (folder / "about.txt").write_text("A test model.\n")
    assert onelip.pretrained() == {"m": "A test model."}
    assert torch.equal(onelip.load("m")(images), onelip.fold(model)(images))
    with pytest.raises(DataError, match="one of m"):
        onelip.load("n")


def test_shipped_models_load():
    for name, line in onelip.pretrained().items():
        assert line
        assert onelip.load(name).folded


def test_a_model_with_learned_scales_folds_them(tools, tmp_path):
    make, batch = tools
    model = make("deeplabv3", scale="learnable")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("coeff"):
                parameter.mul_(1.3)
    model.save(tmp_path / "m")
    torch.testing.assert_close(
        onelip.load(tmp_path / "m")(batch(model)), model(batch(model)), rtol=1e-4, atol=1e-5
    )
    fresh = make("deeplabv3")
    assert onelip.load(tmp_path / "m").state_dict().keys() == onelip.fold(fresh).state_dict().keys()


@pytest.mark.parametrize("norm", ["batch", "bias"])
def test_a_record_from_before_an_option_was_there(norm, tmp_path):
    torch.manual_seed(0)
    model = onelip.models.create("unet", classes=2, size="XS", norm=norm).eval()
    model.save(tmp_path / "m")
    images = torch.rand(1, 3, 16, 16)
    expected = onelip.load(tmp_path / "m")(images)
    rewrite(tmp_path / "m", lambda r: r["model"]["options"].pop("norm"))
    assert torch.equal(onelip.load(tmp_path / "m")(images), expected)
    assert torch.allclose(model(images), expected, atol=1e-5)
