"""Certified metric: equal to a plain mean, merged over batches and processes, undefined images counted."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys

import pytest
import torch

from onelip.certify import Dice, FalseNegativeRate, IoU, PixelAccuracy, Recall, Stability, dataset_iou
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
    assert a.to_dict() == b.to_dict()


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
    assert metric.certified[0].dtype == torch.float64
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
    assert "micro: clean 1.0000; certified at eps (linf)  0: " in repr(curve)


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


def test_both_averages_stand_side_by_side():
    parts = [(batch(3, 0), [1.0, 2.0, 3.0])]
    curves = {}
    for average in ("macro", "micro"):
        metric = Certified(PixelAccuracy(), eps=EPS, average=average)
        metric.update(*parts[0][0], lipschitz=parts[0][1])
        curves[average] = metric.compute()
        values, clean = expected(parts, average)
        torch.testing.assert_close(curves[average].values, values, rtol=1e-15, atol=0)
        assert curves[average].clean == pytest.approx(clean, rel=1e-15)
    for curve in curves.values():
        assert torch.equal(curve.macro, curves["macro"].values)
        assert torch.equal(curve.micro, curves["micro"].values)
        assert (curve.clean_macro, curve.clean_micro) == (curves["macro"].clean, curves["micro"].clean)
    assert not torch.equal(curves["macro"].values, curves["micro"].values)


@pytest.mark.parametrize("p", [1, 2, math.inf])
@pytest.mark.parametrize("kind", [IoU, Dice])
def test_overlap_averages(kind, p):
    criterion = kind(1)
    (logits, target), constants = batch(6, 3), [1.0, 2.0, 0.5, 1.0, 3.0, 1.0]
    target[2] = torch.where(target[2] == 1, 0, target[2])
    logits[4, 1] = -9.0
    target[4] = 0  # neither labelled nor predicted: undefined, but an attack can add false positives
    metric = Certified(criterion, eps=EPS, p=p, average="micro")
    metric.update(logits[:2], target[:2], lipschitz=constants[:2])
    metric.update(logits[2:], target[2:], lipschitz=constants[2:])
    curve = metric.compute()
    worst = criterion.worst_case(logits, target, eps=EPS, lipschitz=constants, p=p)
    torch.testing.assert_close(curve.macro, worst.nanmean(1), rtol=1e-14, atol=0)
    assert (curve.count, curve.undefined) == (5, 1)
    iou = dataset_iou([(logits, target)], 1, EPS, lipschitz=constants, p=p)
    assert torch.equal(curve.values, curve.micro)
    torch.testing.assert_close(curve.micro, iou if kind is IoU else 2 * iou / (1 + iou), rtol=1e-14, atol=0)
    hits, union = criterion.overlap(logits, target).sum(0).tolist()
    assert curve.clean == (hits / union if kind is IoU else 2 * hits / (hits + union))
    assert curve.exact


def test_error_rates_and_undefined_images():
    logits, target = batch(4, 12)
    target[0] = torch.where(target[0] == 2, 0, target[0])
    metric = Certified(FalseNegativeRate(2), eps=EPS)
    metric.update(logits, target, lipschitz=1.0)
    curve = metric.compute()
    assert (curve.count, curve.undefined, curve.higher_is_better) == (3, 1, False)
    positives = int((target == 2).sum())
    missed = int(((target == 2) & (logits.argmax(1) != 2)).sum())
    assert curve.clean_micro == missed / positives
    assert (curve.micro >= curve.clean_micro).all()
    recall = Certified(Recall(2), eps=EPS)
    recall.update(logits, target, lipschitz=1.0)
    torch.testing.assert_close(recall.compute().micro, 1 - curve.micro, rtol=1e-12, atol=1e-15)


def test_everything_undefined():
    logits, target = batch(2, 13)
    metric = Certified(IoU(1), eps=EPS)
    metric.update(logits, torch.full_like(target, 255), lipschitz=1.0)
    curve = metric.compute()
    assert (curve.count, curve.undefined) == (0, 2)
    assert curve.macro.isnan().all()
    assert curve.micro.isnan().all()
    assert curve.to_dict()["clean_micro"] is None


def test_feature_costs_make_the_overlap_a_bound_only():
    logits, target = batch(1, 14)
    metric = Certified(IoU(1), eps=EPS, classifier=(torch.randn(4, 3),))
    metric.update(logits, target, lipschitz=1.0)
    assert metric.compute().exact is False


def test_order_and_batches_change_no_bit():
    logits, target = batch(7, 15)
    found = []
    for order in ([[0, 1, 2, 3, 4, 5, 6]], [[6, 2], [5], [0, 4, 3, 1]]):
        for criterion in (PixelAccuracy(), IoU(2)):
            metric = Certified(criterion, eps=EPS)
            for part in order:
                metric.update(logits[part], target[part], lipschitz=1.0)
            found.append(metric.compute().to_dict())
    assert found[0] == found[2]
    assert found[1] == found[3]


PROCESS = """
import json, sys, torch, torch.distributed as dist, torch.multiprocessing as mp
from onelip.certify import Dice, PixelAccuracy
from onelip.metrics import Certified


def work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = []
    for name, criterion in (("accuracy", PixelAccuracy()), ("dice", Dice(1)), ("late", PixelAccuracy())):
        metric = Certified(criterion, eps=[0.0, 0.2, 0.5, 1.0], average="micro")
        data = torch.load(f"{folder}/{rank}.pt")
        if name != "late" or rank == 1:  # a process without any image
            for i in range(len(data["logits"])):
                metric.update(data["logits"][i : i + 1], data["target"][i : i + 1], lipschitz=1.0)
        found.append(metric.compute().to_dict())
    with open(f"{folder}/out{rank}.json", "w") as file:
        json.dump(found, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.start_processes(work, args=(sys.argv[1],), nprocs=2, start_method="spawn")
"""


@pytest.mark.slow
def test_two_processes_give_the_very_bits_of_one(tmp_path):
    shards = [batch(2, 10), batch(3, 11)]
    whole = [Certified(c, eps=EPS, average="micro") for c in (PixelAccuracy(), Dice(1))]
    for rank, (logits, target) in enumerate(shards):
        for metric in whole:
            metric.update(logits, target, lipschitz=1.0)
        torch.save({"logits": logits, "target": target}, tmp_path / f"{rank}.pt")
    late = Certified(PixelAccuracy(), eps=EPS, average="micro")
    late.update(*shards[1], lipschitz=1.0)
    expected_bits = json.loads(json.dumps([m.compute().to_dict() for m in (*whole, late)]))
    script = tmp_path / "work.py"
    script.write_text(PROCESS)
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=240)
    for rank in range(2):
        assert json.loads((tmp_path / f"out{rank}.json").read_text()) == expected_bits
