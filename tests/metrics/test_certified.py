"""Certified metric: equal to a plain mean, merged over batches and processes, undefined images counted."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys

import pytest
import torch

from onelip.certify import PixelAccuracy, Stability
from onelip.core import errors
from onelip.metrics import Certified

EPS = [0.0, 0.2, 0.5, 1.0]


def batch(images: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, 4, 5, 6, generator=generator)
    target = torch.randint(0, 4, (images, 5, 6), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.3] = 255
    return logits, target


def expected(parts, average):
    """The definition, image by image."""
    values, clean, weights = [], [], []
    for (logits, target), constants in parts:
        for i, constant in enumerate(constants):
            one = logits[i : i + 1], target[i : i + 1]
            values.append(PixelAccuracy().worst_case(*one, eps=EPS, lipschitz=constant)[:, 0])
            clean.append(PixelAccuracy().value(*one)[0])
            weights.append(float((one[1] != 255).sum()) if average == "micro" else 1.0)
    weight = torch.tensor(weights, dtype=torch.float64)
    return (
        (torch.stack(values, 1) * weight).sum(1) / weight.sum(),
        float((torch.stack(clean) * weight).sum() / weight.sum()),
    )


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_equals_the_mean_over_images(average):
    parts = [(batch(3, 0), [1.0, 2.0, 3.0]), (batch(2, 1), [0.5, 0.5])]
    metric = Certified(PixelAccuracy(), eps=EPS, average=average)
    metric.update(*parts[0][0], lipschitz=torch.tensor(parts[0][1]))
    metric.update(*parts[1][0], lipschitz=0.5)
    curve = metric.compute()
    values, clean = expected(parts, average)
    torch.testing.assert_close(curve.values, values, rtol=1e-12, atol=0)
    assert curve.clean == pytest.approx(clean)
    assert (curve.count, curve.undefined, curve.average) == (5, 0, average)
    assert curve.eps.tolist() == EPS


def test_undefined_images_are_counted_and_left_out():
    logits, target = batch(3, 2)
    target[1] = 255
    metric = Certified(PixelAccuracy(), eps=EPS)
    metric.update(logits, target, lipschitz=1.0)
    curve = metric.compute()
    assert (curve.count, curve.undefined) == (2, 1)
    values, _ = expected([((logits[[0, 2]], target[[0, 2]]), [1.0, 1.0])], "macro")
    torch.testing.assert_close(curve.values, values)


def test_merging_processes_by_their_reductions_equals_one_process():
    shards = [batch(2, 3), batch(3, 4)]
    whole = Certified(PixelAccuracy(), eps=EPS)
    pieces = []
    for shard in shards:
        whole.update(*shard, lipschitz=1.0)
        pieces.append(Certified(PixelAccuracy(), eps=EPS))
        pieces[-1].update(*shard, lipschitz=1.0)
    first, second = (pickle.loads(pickle.dumps(piece)) for piece in pieces)
    first.merge_state(second)
    a, b = whole.compute(), first.compute()
    torch.testing.assert_close(a.values, b.values, rtol=1e-12, atol=0)
    assert (a.clean, a.count) == (pytest.approx(b.clean), b.count)
    # What torchmetrics runs after gathering the states of all processes.
    assert all(reduce.__name__ == "dim_zero_sum" for reduce in whole._reductions.values())


def test_reset_and_empty():
    metric = Certified(Stability(), eps=EPS)
    metric.update(batch(2, 5)[0], lipschitz=1.0)
    assert metric.compute().count == 2
    metric.reset()
    with pytest.warns(UserWarning, match="compute"):
        curve = metric.compute()
    assert curve.count == 0
    assert curve.values.isnan().all()
    assert math.isnan(curve.clean)
    assert curve.to_dict()["clean"] is None


def test_precision_survives_a_module_that_is_made_half():
    metric = Certified(PixelAccuracy(), eps=EPS)
    torch.nn.ModuleDict({"metric": metric}).half()
    metric.update(*batch(2, 6), lipschitz=1.0)
    assert metric.certified_sum.dtype == torch.float64
    assert metric.compute().values.dtype == torch.float64


def test_curve_is_json_ready_and_says_what_it_is():
    metric = Certified(Stability(), eps=EPS, p=math.inf)
    metric.update(batch(2, 7)[0], None, 1.0)
    curve = metric.compute()
    content = json.loads(json.dumps(curve.to_dict(), allow_nan=False))
    assert content["criterion"] == "Stability"
    assert content["values"] == pytest.approx(curve.values.tolist())
    assert content["p"] == "inf"
    assert "macro over 2 images" in repr(curve)


def test_errors():
    with pytest.raises(errors.InputError, match="eps"):
        Certified(PixelAccuracy(), eps=[-1.0])
    with pytest.raises(errors.InputError, match=r"average.*weighted"):
        Certified(PixelAccuracy(), eps=[1.0], average="weighted")
    metric = Certified(PixelAccuracy(), eps=[1.0])
    with pytest.raises(errors.InputError, match="`lipschitz` is missing"):
        metric.update(*batch(1, 8))
    with pytest.raises(errors.InputError, match="fit the batch"):
        metric.update(*batch(1, 8), lipschitz=[1.0, 2.0])


PROCESS = """
import sys, torch, torch.distributed as dist
from onelip.certify import PixelAccuracy
from onelip.metrics import Certified
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
metric = Certified(PixelAccuracy(), eps=[0.0, 0.2, 0.5, 1.0])
data = torch.load(f"{folder}/{rank}.pt")
metric.update(data["logits"], data["target"], lipschitz=1.0)
curve = metric.compute()
torch.save({"values": curve.values, "clean": curve.clean, "count": curve.count}, f"{folder}/out{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    shards = [batch(2, 10), batch(3, 11)]
    whole = Certified(PixelAccuracy(), eps=EPS)
    for rank, (logits, target) in enumerate(shards):
        whole.update(logits, target, lipschitz=1.0)
        torch.save({"logits": logits, "target": target}, tmp_path / f"{rank}.pt")
    running = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)]) for rank in range(2)
    ]
    assert [process.wait(timeout=180) for process in running] == [0, 0]
    curve = whole.compute()
    for rank in range(2):
        found = torch.load(tmp_path / f"out{rank}.pt")
        torch.testing.assert_close(found["values"], curve.values, rtol=1e-12, atol=0)
        assert found["count"] == 5
        assert found["clean"] == pytest.approx(curve.clean)
