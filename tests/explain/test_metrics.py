"""Metrics of explanations against values by hand and linear models, where everything is known."""

import io
import math

import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import nn

import onelip
from onelip import explain
from onelip.core.errors import InputError, NonFiniteError

X = torch.tensor([[0.4, 0.3], [0.2, 0.1]]).reshape(1, 1, 2, 2)


def linear(rows, shape=(1, 2, 2)):
    weight = torch.tensor(rows)
    layer = nn.Linear(math.prod(shape), len(rows), bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return nn.Sequential(nn.Flatten(), layer).eval()


SUM = linear([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])  # f_0 is the sum of the pixels


def test_deletion_by_hand():
    # pixels go in the order 0.4, 0.3, 0.2, 0.1: the scores are 1, 0.6, 0.3, 0.1, 0
    found = explain.deletion(SUM, X, X, steps=4)
    assert found.item() == pytest.approx((1 / 2 + 0.6 + 0.3 + 0.1 + 0 / 2) / 4)
    worst = explain.deletion(SUM, X, -X, steps=4)  # 1, 0.9, 0.7, 0.4, 0
    assert worst.item() == pytest.approx((1 / 2 + 0.9 + 0.7 + 0.4) / 4)
    two = explain.deletion(SUM, X, X, steps=2)  # 1, 0.3, 0
    assert two.item() == pytest.approx((1 / 2 + 0.3) / 2)


def test_insertion_by_hand():
    found = explain.insertion(SUM, X, X, steps=4)  # 0, 0.4, 0.7, 0.9, 1
    assert found.item() == pytest.approx((0.4 + 0.7 + 0.9 + 1 / 2) / 4)


def test_the_score_can_be_a_probability():
    found = explain.deletion(SUM, X, X, target=0, steps=1, temperature=2.0)
    assert found.item() == pytest.approx((1 / (1 + math.exp(-2)) + 0.5) / 2)
    other = explain.deletion(SUM, X, X, target=1, steps=1)
    assert other.item() == 0.0


@pytest.mark.parametrize(
    ("baseline", "last"),
    [("zero", 0.0), ("mean", 1.0), (torch.tensor(0.5), 2.0), (torch.ones(1, 1, 2, 2), 4.0)],
)
def test_baselines_by_hand(baseline, last):
    found = explain.deletion(SUM, X, X, steps=1, baseline=baseline)
    assert found.item() == pytest.approx((1 + last) / 2)


def test_uniform_and_blurred_baselines():
    x = torch.rand(3, 2, 12, 9)
    noise = explain.baseline_images(x, "uniform", seed=1)
    assert torch.equal(noise, explain.baseline_images(x, "uniform", seed=1))
    assert torch.equal(noise[:2], explain.baseline_images(x[:2], "uniform", seed=1))
    assert not torch.equal(noise[0], noise[1])
    assert 0 <= noise.min() < 0.1 < 0.9 < noise.max() <= 1
    blurred = explain.baseline_images(x, "blur")
    assert blurred.shape == x.shape
    assert blurred.var() < x.var() / 4
    flat = torch.full((1, 1, 5, 7), 0.3)
    assert torch.allclose(explain.baseline_images(flat, "blur"), flat)
    ramp = torch.arange(41.0).reshape(1, 1, 1, 41).expand(1, 1, 41, 41)
    assert torch.allclose(explain.baseline_images(ramp, "blur")[0, 0, 20, 20], torch.tensor(20.0))


@pytest.mark.parametrize("grid", [2, 3, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_mu_fidelity_of_a_linear_model_is_one(grid, channels):
    torch.manual_seed(grid)
    shape = (channels, 8, 8)
    model = linear(torch.randn(2, channels * 64).tolist(), shape)
    x = torch.rand(2, *shape)
    x[:, :, :3] = 0.0  # ties: cells that change nothing
    w = model[1].weight[0].reshape(1, *shape)
    options = {"target": 0, "grid": grid, "samples": 50}
    assert explain.mu_fidelity(model, x, w * x, **options).tolist() == pytest.approx([1.0, 1.0])
    assert explain.mu_fidelity(model, x, -w * x, **options).tolist() == pytest.approx([-1.0, -1.0])
    other = torch.full_like(x, 0.5)
    uniform = explain.mu_fidelity(model, x, w * (x - other), baseline=other, **options)
    assert uniform.tolist() == pytest.approx([1.0, 1.0])


def test_mu_fidelity_takes_subsets_of_one_size():
    # with all cells alike, subsets of one size all cost the same: nothing can be told, whatever the map
    x = torch.ones(1, 1, 2, 2)
    assert explain.mu_fidelity(SUM, x, torch.ones(1, 2, 2), grid=2, share=0.5).item() == 0.0
    assert explain.mu_fidelity(SUM, x, torch.rand(1, 2, 2), grid=2, share=0.5).item() == 0.0
    from onelip.explain.faithfulness import _cells, _subsets

    cells = _cells(torch.zeros(1, 1, 9, 9), 9)
    hidden = _subsets(cells, 16, 100, torch.Generator().manual_seed(0))
    assert (hidden.flatten(1).sum(1) == 16).all()
    assert len(hidden.flatten(1).unique(dim=0)) == 100
    assert (_subsets(cells, 81, 3, torch.Generator()).flatten(1).sum(1) == 80).all()


def test_mu_fidelity_by_hand():
    # subsets of one cell out of four: the drops are x, the sums the map; one inversion of four ranks
    maps = torch.tensor([[[4.0, 3.0], [1.0, 2.0]]])
    found = explain.mu_fidelity(SUM, X, maps, grid=2, share=0.25, samples=4000)
    assert found.item() == pytest.approx(0.8, abs=0.03)


def test_spearman_is_that_of_scipy():
    torch.manual_seed(0)
    a, b = torch.randint(0, 6, (4, 30)).double(), torch.randn(4, 30).double()
    for row, other, found in zip(a, b, explain.spearman(a, b), strict=True):
        assert found.item() == pytest.approx(spearmanr(row, other).statistic)
    assert explain.spearman(torch.ones(1, 3), b[:1, :3]).isnan().all()


def test_sparsity_by_hand():
    maps = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [-3.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    found = explain.sparsity(maps)
    assert found.gini.tolist() == pytest.approx([0.0, 0.75, 0.5])
    assert found.entropy.tolist() == pytest.approx([math.log(4), 0.0, math.log(2)])
    buffer = io.BytesIO()
    Image.new("L", (2, 2), 255).save(buffer, format="JPEG", quality=95)
    assert found.jpeg_kb[0].item() == len(buffer.getvalue()) / 1000
    noise, flat = torch.rand(1, 64, 64), torch.ones(1, 64, 64)
    assert explain.sparsity(noise).jpeg_kb > 2 * explain.sparsity(flat).jpeg_kb
    assert explain.sparsity(5 * noise).jpeg_kb == explain.sparsity(noise).jpeg_kb
    signed = torch.stack([torch.ones(2, 2), torch.tensor([[-5.0, 1], [1, 1]])])[None]
    assert explain.sparsity(signed).gini.item() == explain.sparsity(signed.abs().amax(1)).gini.item() > 0
    with pytest.raises(InputError, match="zero everywhere"):
        explain.sparsity(torch.zeros(1, 2, 2))


def test_stability():
    torch.manual_seed(0)
    x = torch.rand(3, 1, 4, 4)
    seen = []

    def watching(model, images, target):
        seen.append((images, target))
        return images

    model = linear(torch.randn(3, 16).tolist(), (1, 4, 4))
    found = explain.stability(model, x, watching, samples=50, radius=0.2)
    noise = torch.stack([images - x for images, _ in seen[1:]])
    assert noise.min() < -0.15 and noise.max() > 0.15  # noqa: PT018
    assert abs(noise.mean()) < 0.02
    assert not torch.equal(noise[0, 0], noise[0, 1])
    assert all(torch.equal(target, model(x).argmax(1)) for _, target in seen)
    unit = x / x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    moved = [
        (z / z.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1) - unit).flatten(1).norm(dim=1) for z, _ in seen[1:]
    ]
    assert torch.allclose(found.l2, torch.stack(moved).mean(0).double(), atol=1e-5)
    ranked = [1 - explain.spearman(x.flatten(1), z.flatten(1)) for z, _ in seen[1:]]
    assert torch.allclose(found.rank, torch.stack(ranked).mean(0), atol=1e-5)
    constant = explain.stability(model, x, samples=3)
    assert constant.l2.abs().max() < 1e-12
    assert constant.rank.abs().max() < 1e-12
    boxed = explain.stability(model, x, explain.saliency, samples=3, box=True)
    assert boxed.l2.abs().max() < 1e-12


def test_robustness_of_the_best_pixels_of_a_linear_model():
    w = torch.tensor([3.0, 2.0, 1.0, 0.5])
    model = linear([w.tolist(), (-w).tolist()])
    found = explain.robustness_sr(model, X, w.reshape(1, 2, 2), shares=(0.25, 0.5, 1.0))
    size = w.norm().item()
    assert found[0].tolist() == pytest.approx([size / 3, size / math.hypot(3, 2), 1.0], rel=1e-3)
    worst = explain.robustness_sr(model, X, -w.reshape(1, 2, 2), shares=(0.25,))
    assert worst.item() == pytest.approx(size / 0.5, rel=1e-3)


def test_localisation_by_hand():
    maps = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    mask = torch.tensor([[[1, 0], [1, 0]]])
    found = explain.localisation(maps, mask, share=0.5)
    assert found.pointing.item() == 1.0
    assert found.mass.item() == pytest.approx(0.6)
    assert found.auc.item() == 0.75  # 4 > 3, 4 > 1, 2 > 1, but 2 < 3
    assert found.iou.item() == pytest.approx(1 / 3)
    flat = explain.localisation(torch.ones(1, 2, 2), mask)
    assert (flat.pointing.item(), flat.mass.item(), flat.auc.item()) == (0.5, 0.5, 0.5)
    signed = explain.localisation(-maps, mask[0].bool(), share=0.5)
    assert signed.auc.item() == 0.75
    for bad in (torch.ones(2, 2), torch.zeros(2, 2), torch.full((2, 2), 0.5), torch.ones(3, 3), None):
        with pytest.raises(InputError, match="`mask`"):
            explain.localisation(maps, bad)


def test_blocks():
    x = torch.rand(40, 1, 28, 28)
    images, null = explain.block_images(x, seed=3)
    above = null[:, 0, 0]
    assert 5 < above.sum() < 35
    assert torch.equal(images[above][:, :, 28:], x[above])
    assert torch.equal(images[~above][:, :, :28], x[~above])
    blocks = images[null[:, None].expand_as(images)].reshape(40, 28, 28)
    assert (blocks == blocks[0]).all()
    assert 0.1 < (blocks[0] > 0).float().mean() < 0.4
    assert torch.equal(blocks[0], blocks[0].T)
    assert torch.equal(images, explain.block_images(x, seed=3)[0])
    assert explain.null_share(null.float(), null, (0.1, 0.5)).unique().item() == 1.0
    assert explain.null_share((~null).float(), null, (0.1, 0.5)).unique().item() == 0.0
    random = explain.null_share(torch.rand(40, 56, 28), null)
    assert random.mean().item() == pytest.approx(0.5, abs=0.03)


def test_controls():
    x = torch.zeros(1, 3, 5, 5)
    x[:, :, :, 3:] = 0.8
    found = explain.controls(x, seed=1)
    assert torch.allclose(found["input"], x.mean(1).double())
    assert found["sobel"][0, 2].tolist() == pytest.approx([0, 0, 3.2, 3.2, 0], abs=1e-6)
    assert torch.equal(found["random"], explain.controls(x, seed=1)["random"])


def test_temperature():
    torch.manual_seed(0)
    model = linear(torch.randn(3, 4).tolist())
    x = torch.rand(50, 1, 2, 2)
    t = explain.calibrate(model, x, 0.98)
    assert (model(x) * t).softmax(1).amax(1).mean().item() == pytest.approx(0.98, abs=1e-5)
    model[1].weight.data *= 10
    assert explain.calibrate(model, x, 0.98) == pytest.approx(t / 10, rel=1e-4)
    with pytest.raises(InputError, match="no temperature"):
        explain.calibrate(linear([[0.0] * 4] * 2), x)


def test_intervals_cover():
    torch.manual_seed(0)
    inside = 0
    for i in range(100):
        found = explain.bootstrap(torch.randn(60), samples=300, level=0.9, seed=i)
        inside += found.low <= 0 <= found.high
    assert 80 <= inside <= 98
    odd = explain.bootstrap(torch.tensor([1.0, 2.0, math.inf]), statistic="median")
    assert odd.value == 2.0
    assert explain.bootstrap(torch.tensor([1.0, 2.0]), statistic="median").value == 1.5
    one = explain.bootstrap(torch.tensor([3.0]))
    assert tuple(one) == (3.0, 3.0, 3.0)
    for bad, error in ((torch.tensor([1.0, math.nan]), NonFiniteError), (torch.ones(0), InputError)):
        with pytest.raises(error):
            explain.bootstrap(bad)


@pytest.mark.parametrize(
    "metric", [explain.deletion, explain.insertion, explain.mu_fidelity, explain.robustness_sr]
)
def test_bad_input(metric):
    good = torch.rand(1, 2, 2)
    for maps in (good[0], torch.rand(2, 2, 2), torch.rand(1, 3, 3), None, good * math.nan):
        with pytest.raises(InputError):
            metric(SUM, X, maps)
    with pytest.raises(InputError, match="x"):
        metric(SUM, X + 1, good)
    with pytest.raises(InputError, match=r"target|to"):
        metric(SUM, X, good, 5)


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (explain.deletion, {"baseline": "black"}),
        (explain.deletion, {"baseline": torch.zeros(7)}),
        (explain.deletion, {"steps": 0}),
        (explain.insertion, {"temperature": 0.0}),
        (explain.mu_fidelity, {"grid": 1}),
        (explain.mu_fidelity, {"share": 2.0}),
        (explain.robustness_sr, {"shares": (0.0,)}),
        (explain.robustness_sr, {"shares": ()}),
    ],
)
def test_bad_options(metric, options):
    with pytest.raises(InputError):
        metric(SUM, X, torch.rand(1, 2, 2), **options)


def test_reachable_from_the_package():
    assert onelip.explain.deletion is explain.deletion
    for name in explain.__all__:
        assert getattr(explain, name).__doc__
