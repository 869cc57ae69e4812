"""A training that is killed and resumed ends with the same weights, bit for bit; nothing saved is lost."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from onelip import train
from onelip.core import files
from onelip.core.errors import ConfigError, IntegrityError, StorageError
from onelip.train.resume import read_checkpoint

TINY = {
    "data.size": [32, 32],
    "data.images": 16,
    "model.options": {"widths": [8, 8], "repeats": 1},
    "optim.epochs": 4,
    "optim.batch": 4,
    "val.images": 4,
    "val.eps": [0.5],
    "run.threads": 1,
}
ARGUMENTS = [
    f"{k}={v}".replace("{'widths': ", "{widths = ").replace("'repeats': ", "repeats = ")
    for k, v in TINY.items()
]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "onelip.train", "demo", "--out", str(out), "--resume", *ARGUMENTS]
    return subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    train.fit("demo", out=out, overrides=TINY)
    return out


def test_killed_and_resumed_is_the_same_training(whole: Path, tmp_path: Path) -> None:
    process = start(tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last.exists(), process.stderr.read().decode()[-2000:]
    assert not (tmp_path / "results.json").exists()  # it really was killed on the way
    train.fit("demo", out=tmp_path, overrides=TINY, resume=True)
    assert same(weights(whole), weights(tmp_path))
    quick = {"seconds", "images_per_second"}
    rows = [(f / "metrics.csv").read_text().splitlines() for f in (whole, tmp_path)]
    columns = [k for k, name in enumerate(rows[0][0].split(",")) if name not in quick]
    assert [[r.split(",")[k] for k in columns] for r in rows[0]] == [
        [r.split(",")[k] for k in columns] for r in rows[1]
    ]


def test_interrupt_keeps_the_checkpoint(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onelip.train.callbacks import History

    step = History.on_train_batch_end

    def interrupted(self: History, trainer: object, *rest: object) -> None:
        step(self, trainer, *rest)
        if trainer.current_epoch == 2 and rest[-1] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(History, "on_train_batch_end", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train.fit("demo", out=tmp_path, overrides=TINY)
    assert signal.getsignal(signal.SIGINT) is handler
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["epoch"] == 1
    monkeypatch.undo()
    train.fit("demo", out=tmp_path, overrides=TINY, resume=True)
    assert same(weights(whole), weights(tmp_path))


def test_another_recipe_or_model_is_refused(whole: Path) -> None:
    before = (whole / "recipe.toml").read_bytes()
    with pytest.raises(IntegrityError, match=r"optim\.lr was 0\.005 and is 0\.1"):
        train.fit("demo", out=whole, overrides={**TINY, "optim.lr": 0.1}, resume=True)
    with pytest.raises(IntegrityError, match=r"model\.constraint was 'orthogonal' and is 'none'"):
        train.fit("demo", out=whole, overrides={**TINY, "model.constraint": "none"}, resume=True)
    assert (whole / "recipe.toml").read_bytes() == before


def test_a_training_is_not_overwritten(whole: Path) -> None:
    with pytest.raises(ConfigError, match="already holds a training"):
        train.fit("demo", out=whole, overrides=TINY)


def test_damaged_checkpoint(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.ckpt"
    path.write_bytes((whole / "checkpoints" / "last.ckpt").read_bytes()[:5000])
    with pytest.raises(IntegrityError, match=r"broken\.ckpt cannot be read as a checkpoint"):
        train.fit("demo", out=tmp_path, overrides=TINY, resume=path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(IntegrityError, match="not written by onelip"):
        train.fit("demo", out=tmp_path, overrides=TINY, resume=path)


def test_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = os.replace
    count = 0

    def full(source: str, target: str) -> None:
        nonlocal count
        count += str(target).endswith("last.ckpt")
        if count > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        train.fit("demo", out=tmp_path, overrides=TINY)
    monkeypatch.undo()
    folder = tmp_path / "checkpoints"
    assert [p.name for p in folder.iterdir()] == ["last.ckpt"]  # whole, and no rest of the failed one
    assert read_checkpoint(folder / "last.ckpt")["epoch"] == 1


def test_a_training_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    tiny = {"data.size": [32, 48], "data.images": 8, "val.images": 2, "optim.epochs": 1, "run.threads": 1}
    first = train.fit("demo", out=tmp_path / "a", overrides=tiny)
    # A step of 1e-12 moves nothing that float32 would show.
    still = tiny | {"model.start": str(tmp_path / "a"), "optim.lr": 1e-12, "optim.min_lr": 0.0}
    second = train.fit("demo", out=tmp_path / "b", overrides=still)
    weights, fresh = (
        dict(first.model.named_parameters()),
        dict(train.fitting.make_model(second.recipe, 5).named_parameters()),
    )
    for name, weight in second.model.named_parameters():
        torch.testing.assert_close(weight, weights[name], atol=1e-5, rtol=1e-4)
    assert any(not torch.allclose(w, fresh[name], atol=1e-2) for name, w in weights.items())
    assert train.load_recipe(tmp_path / "b" / "recipe.toml").model.start == str(tmp_path / "a")


def test_a_start_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    tiny = {"data.size": [32, 48], "data.images": 8, "val.images": 2, "optim.epochs": 1, "run.threads": 1}
    train.fit("demo", out=tmp_path / "a", overrides=tiny)
    other = tiny | {"model.start": str(tmp_path / "a"), "model.options": {"widths": [8, 16], "repeats": 1}}
    with pytest.raises(IntegrityError, match="holds the weights of another model"):
        train.fit("demo", out=tmp_path / "b", overrides=other)
    with pytest.raises(IntegrityError, match="cannot be read as a checkpoint"):
        train.fit("demo", out=tmp_path / "b", overrides=tiny | {"model.start": str(tmp_path / "none")})
    assert not (tmp_path / "b").exists()
