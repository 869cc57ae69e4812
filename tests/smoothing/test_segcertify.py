"""Sampling, its guarantee under the null, its metrics, and the pixel-wise better of two certificates."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binom, norm
from torch import nn

import onelip
from onelip.core.errors import InputError, NonFiniteError, TrainModeError
from onelip.smoothing import (
    Combined,
    FeasibilityWarning,
    certified_accuracy,
    certified_iou,
    certify_counts,
    combine,
    sample,
    segcertify,
    stream,
)

IMAGE = torch.full((1, 4, 6), 0.5)


class Threshold(nn.Module):
    """Class 1 where a pixel is above a level, else class 0: probabilities under noise are known exactly."""

    def __init__(self, level, shift=0.0):
        super().__init__()
        self.register_buffer("level", torch.as_tensor(level, dtype=torch.float32))
        self.shift = shift
        self.seen = []

    def forward(self, x):
        self.seen.append(x.clone())
        return torch.cat([self.level.expand_as(x), x], 1)


def threshold(share, sigma, image=0.5):
    """Class 1 with this probability at each pixel."""
    return Threshold(image - sigma * norm.ppf(share)).eval()


def test_the_noise_is_gaussian_independent_not_clipped_and_the_same_for_every_batch_size():
    seen = {}
    for batch_size in (1, 7, 64):
        model = threshold(0.9, 0.25)
        segcertify(model, IMAGE, sigma=0.25, n0=11, n=90, batch_size=batch_size, seed=3)
        assert max(len(x) for x in model.seen) <= batch_size
        seen[batch_size] = torch.cat(model.seen)
    assert torch.equal(seen[1], seen[7])
    assert torch.equal(seen[1], seen[64])
    noise = (seen[1] - 0.5).flatten(1)
    assert noise.shape == (101, 24)
    assert (noise.std() - 0.25).abs() < 0.02
    assert noise.mean().abs() < 0.02
    assert seen[1].min() < 0
    assert seen[1].max() > 1
    correlation = torch.corrcoef(noise) - torch.eye(101)
    assert correlation.abs().max() < 0.9  # no two samples are the same draw
    assert torch.unique(noise).numel() == noise.numel()
    other = threshold(0.9, 0.25)
    sample(other, IMAGE, sigma=0.25, n0=11, n=90, seed=4)
    assert not torch.equal(torch.cat(other.seen), seen[1])


def test_counts_are_those_of_stored_samples():
    torch.manual_seed(0)
    model, image = nn.Conv2d(3, 5, 3, padding=1).eval(), torch.rand(3, 6, 7)
    with torch.no_grad():
        model.weight.mul_(4)
    generator = torch.Generator().manual_seed(5)
    noisy = torch.stack([image + 0.5 * torch.empty(3, 6, 7).normal_(generator=generator) for _ in range(44)])
    with torch.no_grad():
        labels = model(noisy).argmax(1)
    votes = torch.stack([(labels[:12] == c).sum(0) for c in range(5)])
    winners = votes.argmax(0)
    found = list(stream(model, image, sigma=0.5, n0=12, n=(5, 20, 32), seed=5, batch_size=8))
    assert [c.n for c in found] == [5, 20, 32]
    for counts in found:
        assert torch.equal(counts.winners, winners)
        assert torch.equal(counts.agreements, (labels[12 : 12 + counts.n] == winners).sum(0))
        assert (counts.n0, counts.class_count, counts.sigma, counts.seed) == (12, 5, 0.5, 5)
    assert found[0].seconds < found[-1].seconds
    once = sample(model, image, sigma=0.5, n0=12, n=32, seed=5, batch_size=3)
    assert torch.equal(once.agreements, found[-1].agreements)
    assert not torch.equal(once.agreements, torch.full_like(once.agreements, 32))


def test_ties_of_the_vote_go_to_the_lowest_class():
    tally = onelip.smoothing.Tally(4, (1, 3))
    tally.vote(torch.tensor([[[3, 0, 2]], [[1, 2, 2]]]))
    assert tally.winners.tolist() == [[1, 0, 2]]
    with pytest.raises(InputError, match="votes are closed"):
        tally.vote(torch.zeros(1, 1, 3, dtype=torch.int64))


def test_result_of_known_probabilities():
    shares = torch.tensor([[0.999, 0.5, 0.001, 0.65]])
    levels = 0.5 - 0.2 * torch.from_numpy(norm.ppf(shares.numpy())).reshape(1, 1, 1, 4)
    image = torch.full((1, 1, 1, 4), 0.5)
    result = segcertify(Threshold(levels).eval(), image, sigma=0.2, eps=0.1, n0=50, n=400)
    assert result.classes.tolist() == [[1, -1, 0, -1]]  # tau = 0.69
    assert result.radius == 0.1
    assert result.tau == pytest.approx(norm.cdf(0.5))
    assert (result.passes, result.n0, result.n, result.alpha, result.correction) == (
        450,
        50,
        400,
        1e-3,
        "holm",
    )
    assert result.seconds > 0
    assert result.radius_map.tolist() == [[0.1, 0.0, 0.1, 0.0]]
    expected = certify_counts(result.agreements, 400, result.tau, 1e-3)
    assert torch.equal(result.certified, expected)
    assert "certified within 0.1" in repr(result)
    assert result.to_dict()["certified"] == 0.5


def test_radius_follows_tau_and_never_exceeds_it():
    model = threshold(0.99, 0.3)
    for tau in (0.5, 0.6, 0.75, 0.9, 0.97):
        result = segcertify(model, IMAGE, sigma=0.3, tau=tau, n0=2, n=800)
        assert result.radius <= 0.3 * norm.ppf(tau)
        assert result.radius == pytest.approx(0.3 * norm.ppf(tau), rel=1e-9, abs=1e-12)
    wanted = segcertify(model, IMAGE, sigma=0.3, eps=0.2, tau=0.99, n0=2, n=100)
    assert wanted.radius == 0.2
    assert 0.3 * norm.ppf(wanted.tau) >= 0.2
    assert wanted.tau == pytest.approx(norm.cdf(0.2 / 0.3), rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_error_under_the_null_for_every_batch_size(batch_size):
    """All pixels exactly at tau: at most alpha of the images may have a certified pixel."""
    tau, alpha, runs = 0.75, 0.1, 300
    model, image = threshold(tau, 0.2), torch.full((1, 3, 4), 0.5)
    failed = 0
    for seed in range(runs):
        counts = sample(model, image, sigma=0.2, n0=6, n=60, seed=seed, batch_size=batch_size)
        failed += bool(counts.certify(tau=tau, alpha=alpha).certified.any())
        model.seen.clear()
    assert failed / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
    assert failed > 0  # the test is not merely timid
    # what copies of one draw in a batch of 8 would do: an effective n of 60 / 8
    lowest = next(a for a in range(61) if binom.sf(a - 1, 60, tau) <= alpha / 12)
    single = binom.sf(math.ceil(lowest / 60 * 8) - 1, 8, tau)
    assert 1 - (1 - single) ** 12 > 0.5


def test_the_certified_radius_is_true_of_the_smoothed_model():
    """A threshold of one pixel: the smoothed class changes exactly at sigma * ppf(share)."""
    sigma, share = 0.25, 0.9
    model, image = threshold(share, sigma), torch.full((1, 1, 1), 0.5)
    true_radius = sigma * norm.ppf(share)
    counts = sample(model, image, sigma=sigma, n0=20, n=4000, seed=0, batch_size=500)
    inside, outside = (counts.certify(eps=f * true_radius) for f in (0.9, 1.02))
    assert inside.certified.all()
    assert not outside.certified.any()


def test_warns_before_it_samples():
    class Never(nn.Module):
        def forward(self, x):
            raise RuntimeError("sampled")

    with pytest.warns(FeasibilityWarning, match="n >= 28"), pytest.raises(RuntimeError, match="sampled"):
        segcertify(Never().eval(), IMAGE, sigma=0.2, eps=0.1, n=20)
    with pytest.warns(FeasibilityWarning):
        found = segcertify(threshold(0.999, 0.2), IMAGE, sigma=0.2, eps=0.1, n=20)
    assert not found.certified.any()


def test_image_with_a_batch_axis_double_models_and_progress():
    seen = []
    model = nn.Conv2d(3, 4, 1).eval()
    image = torch.rand(3, 5, 6)
    plain = segcertify(model, image, sigma=0.1, eps=0.01, n=60)
    batched = segcertify(
        model, image[None], sigma=0.1, eps=0.01, n=60, progress=lambda *a: seen.append(a), batch_size=50
    )
    assert torch.equal(plain.classes, batched.classes)
    assert seen == [(50, 70), (70, 70)]
    assert segcertify(model.double(), image, sigma=0.1, eps=0.01, n=60).classes.shape == (5, 6)
    assert model.weight.grad is None


class Answer(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda x: x.argmax(1), "logits of the size"),
        (lambda x: x[..., :2], "logits of the size"),
        (lambda x: x[:1].repeat(3, 1, 1, 1), "logits of the size"),
        (lambda x: {"out": x}, "dict"),
        (lambda x: x[:, :1], "K >= 2"),
        (lambda x: torch.where(x > 0.5, x, math.nan), "not finite"),
    ],
)
def test_models_that_do_not_answer_with_logits(answer, match):
    with pytest.raises(InputError, match=match):
        segcertify(Answer(answer).eval(), torch.rand(3, 4, 4), n=60)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"image": torch.rand(2, 3, 4, 4)}, "`image` is several images"),
        ({"image": torch.rand(4, 4)}, "`image` has the wrong shape"),
        ({"image": torch.full((3, 4, 4), 2.0)}, "`image` is out of range"),
        ({"image": torch.full((3, 4, 4), math.nan)}, "`image` is not finite"),
        ({"image": torch.zeros(3, 4, 4, dtype=torch.uint8)}, "`image` is not floating point"),
        ({"image": [[0.5]]}, "`image` is not a tensor"),
        ({"sigma": 0.0}, "`sigma` is zero"),
        ({"sigma": math.nan}, "`sigma`"),
        ({"eps": -0.1}, "`eps`"),
        ({"eps": math.inf}, "`eps`"),
        ({"eps": 10.0}, "`eps` is too large"),
        ({"tau": 0.3}, "`tau`"),
        ({"n0": 0}, "`n0`"),
        ({"n": 0}, "`n`"),
        ({"alpha": 2.0}, "`alpha`"),
        ({"correction": "none"}, "`correction`"),
        ({"k": 0}, "`k`"),
        ({"seed": -1}, "`seed`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"model": lambda x: x}, "`model` is no module"),
    ],
)
@pytest.mark.filterwarnings("ignore::onelip.smoothing.FeasibilityWarning")
def test_bad_input(change, match):
    good = {"model": nn.Conv2d(3, 4, 1).eval(), "image": torch.rand(3, 4, 4), "sigma": 0.25}
    with pytest.raises(InputError, match=match):
        segcertify(**{**good, **change})


def test_train_mode_and_nan_weights():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    with pytest.raises(TrainModeError, match="smoothing"):
        segcertify(model, torch.rand(3, 4, 4))
    model.eval()
    nn.init.constant_(model[0].weight, math.nan)
    with pytest.raises(NonFiniteError, match="logits"):
        segcertify(model, torch.rand(3, 4, 4))


def test_n_must_rise():
    for n in ((), (5, 5), (9, 3), (0,)):
        with pytest.raises(InputError, match="`n`"):
            list(stream(nn.Conv2d(3, 4, 1).eval(), torch.rand(3, 4, 4), n=n))


# Measures ------------------------------------------------------------------------------------------------------


def brute_iou(classes, target, label):
    """Worst IoU over everything that the abstained pixels may become."""
    free = [i for i, c in enumerate(classes) if c == -1 and target[i] != 255]
    worst = math.nan
    for code in range(3 ** len(free)):
        filled = list(classes)
        for place, position in enumerate(free):
            filled[position] = code // 3**place % 3
        pairs = [(c, t) for c, t in zip(filled, target, strict=True) if t != 255]
        union = sum(c == label or t == label for c, t in pairs)
        if union:
            value = sum(c == t == label for c, t in pairs) / union
            worst = value if math.isnan(worst) else min(worst, value)
    return worst


def test_certified_iou_is_the_worst_over_all_completions():
    generator = torch.Generator().manual_seed(0)
    undefined = 0
    for _ in range(200):
        classes = torch.randint(-1, 3, (1, 5), generator=generator)
        target = torch.tensor([0, 1, 2, 255])[torch.randint(0, 4, (1, 5), generator=generator)]
        for label in range(3):
            expected = brute_iou(classes[0].tolist(), target[0].tolist(), label)
            found = certified_iou(classes, target, label).item()
            assert found == pytest.approx(expected, nan_ok=True)
            undefined += math.isnan(expected)
    assert undefined > 10


def test_abstained_pixels_may_be_false_positives():
    classes, target = torch.tensor([[1, -1]]), torch.tensor([[1, 0]])
    assert certified_iou(classes, target, 1).item() == 0.5
    assert certified_accuracy(classes, target).item() == 0.5
    batch = certified_accuracy(classes[None].repeat(2, 1, 1), torch.tensor([[[1, 255]], [[255, 255]]]))
    assert batch[0].item() == 1.0
    assert batch[1].isnan()


def test_result_measures_know_the_classes():
    result = segcertify(threshold(0.999, 0.2), IMAGE, sigma=0.2, eps=0.05, n=100)
    target = torch.ones(4, 6, dtype=torch.int64)
    assert result.accuracy(target) == 1.0
    assert result.iou(target, 1) == 1.0
    assert math.isnan(result.iou(target, 0))
    assert math.isnan(result.accuracy(torch.full((4, 6), 255)))
    for call in (lambda: result.accuracy(2 * target), lambda: result.iou(2 * target, 1)):
        with pytest.raises(InputError, match=r"labels outside the classes; received \[2\]; expected 0\.\.1"):
            call()
    with pytest.raises(InputError, match="`label`"):
        result.iou(target, 2)


@pytest.mark.parametrize(
    ("classes", "target", "match"),
    [
        (torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.int64), "`classes`"),
        (torch.full((2, 2), -2), torch.zeros(2, 2, dtype=torch.int64), "`classes` has impossible"),
        (torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), "`classes`"),
        (torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 2), "`target`"),
        (torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.int64), r"\(2, 2\)"),
        (torch.zeros(2, 2, dtype=torch.int64), torch.full((2, 2), -1), "outside the classes"),
        ([[0]], torch.zeros(1, 1, dtype=torch.int64), "`classes`.*list"),
        (torch.zeros(1, 1, dtype=torch.int64), [[0]], "`target`.*list"),
    ],
)
def test_measures_check_their_input(classes, target, match):
    with pytest.raises(InputError, match=match):
        certified_accuracy(classes, target)
    with pytest.raises(InputError, match=match):
        certified_iou(classes, target, 0)


def test_label_of_the_iou():
    maps = torch.zeros(2, 2, dtype=torch.int64)
    for label in (-1, 1.0, True):
        with pytest.raises(InputError, match="`label`"):
            certified_iou(maps, maps, label)


# Combination ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair():
    """A 1-Lipschitz net (identity on two channels), an image of growing margins, both certificates."""
    model = nn.Conv2d(2, 2, 1, bias=False).eval()
    with torch.no_grad():
        model.weight.copy_(torch.eye(2).reshape(2, 2, 1, 1))
    margins = torch.linspace(0, 1, 12).reshape(1, 1, 3, 4)
    image = torch.cat([0.5 + margins / 2, 0.5 - margins / 2], 1)
    # A loose constant, as those of deep nets are: with L = 1 nothing could be better than the Lipschitz radius.
    certificate = onelip.certify.segmentation(model, image, lipschitz=2.0)
    return model, image, certificate, segcertify(model, image, sigma=0.3, eps=0.2, n0=20, n=200)


def test_combine_takes_the_larger_radius(pair):
    _, _, certificate, smoothed = pair
    both = combine(certificate, smoothed)
    proven, sampled = certificate.radius_map[0], smoothed.radius_map
    assert torch.equal(both.radius, torch.maximum(proven, sampled))
    assert torch.equal(both.source == Combined.LIPSCHITZ, (proven > 0) & (proven >= sampled))
    assert set(both.source.flatten().tolist()) == {-1, 0, 1}  # each case occurs
    none = both.source == Combined.NONE
    assert torch.equal(none, (proven == 0) & ~smoothed.certified)
    assert (both.classes[none] == -1).all()
    first = both.source == Combined.LIPSCHITZ
    assert torch.equal(both.classes[first], certificate.prediction[0][first])
    second = both.source == Combined.SMOOTHING
    assert torch.equal(both.classes[second], smoothed.classes[second])
    assert both.alpha == smoothed.alpha
    assert "by Lipschitz" in repr(both)


def test_held_is_strict_for_proven_radii_and_closed_for_sampled_ones(pair):
    _, _, certificate, smoothed = pair
    both = combine(certificate, smoothed)
    assert both.held(0.2)[both.source == Combined.SMOOTHING].all()
    proven = both.source == Combined.LIPSCHITZ
    value = both.radius[proven].min().item()
    assert not both.held(value)[proven & (both.radius == value)].any()
    target = torch.zeros(3, 4, dtype=torch.int64)
    assert both.accuracy(target, 0.1) == pytest.approx(float(both.held(0.1).double().mean()))
    assert both.accuracy(1 - target, 0.1) == 0.0
    assert both.accuracy(target, 0.1) >= max(
        smoothed.accuracy(target), float((certificate.radius_map > 0.2).double().mean())
    )
    for eps in (-1.0, math.nan):
        with pytest.raises(InputError, match="`eps`"):
            both.held(eps)


def test_labels_play_no_part_in_the_choice(pair):
    model, image, certificate, smoothed = pair
    wrong = onelip.certify.segmentation(model, image, torch.ones(1, 3, 4, dtype=torch.int64), lipschitz=2.0)
    assert (wrong.radius_map == 0).all()
    with_labels, without = combine(wrong, smoothed), combine(certificate, smoothed)
    assert torch.equal(with_labels.radius, without.radius)
    assert torch.equal(with_labels.classes, without.classes)


def test_combine_refuses_what_does_not_fit(pair):
    model, image, _, smoothed = pair
    with pytest.raises(InputError, match="different images"):
        combine(onelip.certify.segmentation(model, 1 - image), smoothed)
    with pytest.raises(InputError, match="different norms"):
        combine(onelip.certify.segmentation(model, image, p=1), smoothed)
    with pytest.raises(InputError, match="do not fit"):
        combine(onelip.certify.segmentation(model, image.repeat(2, 1, 1, 1)), smoothed)


def test_a_trained_lipnet_can_be_smoothed():
    model = onelip.load("scenes")
    image, target = onelip.data.open("scenes", "val", size=(64, 96))[0]
    certificate = onelip.certify.segmentation(model, image[None])
    smoothed = segcertify(model, image, sigma=0.05, eps=0.05, n0=10, n=120)
    both = combine(certificate, smoothed)
    assert 0.6 < smoothed.accuracy(target) < 0.85
    assert torch.equal(both.radius, torch.maximum(certificate.radius_map[0], smoothed.radius_map))
    assert both.accuracy(target, 0.05) > smoothed.accuracy(target) - 0.05
