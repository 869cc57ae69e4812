"""Median smoothing of detectors whose smoothed answers are known, also at shifted images."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from scipy.stats import norm

import onelip
from onelip.core.errors import InputError, NonFiniteError, TrainModeError
from onelip.metrics import match
from onelip.smoothing import FeasibilityWarning, median_detection, median_scores
from onelip.smoothing.median_bounds import Ranks
from onelip.smoothing.median_scores import area_under
from onelip.smoothing.median_slots import Slots

SIZE = (3, 8, 8)
ROOT = math.sqrt(math.prod(SIZE))
IMAGE = torch.full(SIZE, 0.5)
WORST = torch.ones(SIZE) / ROOT  # the direction of norm 1 in which the mean moves most


def none():
    return {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def one(*box, label=0):
    return {"boxes": torch.tensor([box], dtype=torch.float64), "labels": torch.tensor([label])}


class Toy:
    """Detections from z, a normal number: z(x + noise) = (mean - 1/2) sqrt(d) has standard deviation sigma.

    A perturbation of norm eps moves z by at most eps, and along the mean colour by exactly that.
    """

    def __init__(self, rows, classes=1):
        self.rows, self.classes, self.seen, self.z = rows, classes, [], []

    def predict(self, images, threshold):
        self.seen.append(images.clone())
        found = []
        for z in ((images.double().mean((1, 2, 3)) - 0.5) * ROOT).tolist():
            self.z.append(z)
            rows = [row for row in self.rows(z) if row[5] > threshold]
            table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
            found.append({"boxes": table[:, :4], "labels": table[:, 4].long(), "scores": table[:, 5]})
        return found


FOLLOWER = Toy(lambda z: [(2 + z, 2, 6 + z, 6, 0, 0.9)])


def test_the_interval_holds_the_median_at_the_worst_shift_and_grows_as_the_radius():
    sigma, eps = 0.5, [0.0, 0.1, 0.3, 0.6]
    result = median_detection(FOLLOWER, IMAGE, sigma=sigma, eps=eps, n=3000, seed=1)
    (slots,) = result.slots
    low, high = slots.lower[:, 0], slots.upper[:, 0]
    for index, value in enumerate(eps):
        assert low[index, 0] <= 2 - value
        assert high[index, 0] >= 2 + value
        assert low[index, 2] <= 6 - value
        assert high[index, 2] >= 6 + value
        # ... and no more than sampling makes it: quantiles of 3000 normal numbers.
        assert high[index, 0] == pytest.approx(2 + value, abs=0.35 * sigma)
        assert low[index, 0] == pytest.approx(2 - value, abs=0.35 * sigma)
    fixed = [1, 3, 4, 5]  # sides that do not move, label, score
    assert torch.equal(low[:, fixed], torch.tensor([2, 6, 0, 0.9], dtype=torch.float64).expand(4, 4))
    assert torch.equal(high[:, fixed], low[:, fixed])
    assert bool((low[1:] <= low[:-1]).all())
    assert bool((high[1:] >= high[:-1]).all())
    for sign in (-1, 1):
        moved = median_detection(FOLLOWER, IMAGE + sign * 0.3 * WORST, sigma=sigma, eps=0.0, n=3000, seed=2)
        box = moved.detections()["boxes"][0]
        assert box[0] == pytest.approx(2 + 0.3 * sign, abs=0.1 * sigma)
        assert bool((low[2, :4] <= box).all())
        assert bool((box <= high[2, :4]).all())


def test_objects_are_certified_up_to_where_the_closed_form_says():
    # The sides move together in truth, but as intervals: x1 and x2 by eps against each other leave, of width 4,
    # an IoU of (4 - 2 eps) / 4 = 0.7 at eps 0.6, and 4 / (4 + 2 eps) is more.
    result = median_detection(FOLLOWER, IMAGE, sigma=0.5, eps=[0.1, 0.3, 0.5, 0.62], n=4000)
    target = one(2, 2, 6, 6)
    assert result.certified(target, iou=0.7)[0, :, 0].tolist() == [True, True, True, False]
    assert result.certified(target)[0, :, 0].tolist() == [True] * 4
    assert not result.certified(one(2, 2, 6, 6), iou=1.0).any()
    assert result.reported().tolist() == [[1.0] * 4]
    assert result.certified(none()).shape == (1, 4, 0)


@pytest.mark.parametrize("eps", [0.0, 0.2])
@pytest.mark.parametrize("share", [0.02, 0.25, 0.4, 0.6, 0.75, 0.98])  # of the copies that have the detection
def test_a_slot_is_certified_only_where_no_shift_empties_it(eps, share):
    sigma, cut = 0.4, 0.4 * norm.ppf(share)
    toy = Toy(lambda z: [(2, 2, 6, 6, 0, 0.9)] if z < cut else [])
    result = median_detection(toy, IMAGE, sigma=sigma, eps=eps, n=2000)
    # It is filled where Phi((cut - shift) / sigma) >= 1/2: at every shift, or at some.
    assert bool(result.certified(one(2, 2, 6, 6)).any()) == (cut > eps)
    assert result.reported().item() == float(cut > -eps)
    assert len(result.detections()["scores"]) == (share > 0.5)


def test_a_detection_that_may_go_moves_those_behind_it_unless_bins_keep_them_apart():
    def rows(z):  # a strong one that is often missing, and a weak one that is always there
        return [(0, 0, 2, 2, 0, 0.9)] * (z < 0.1) + [(5, 5, 8, 8, 1, 0.7)]

    target = one(5, 5, 8, 8, label=1)
    found = {}
    for binning in ("none", "label", "location", "label+location"):
        result = median_detection(Toy(rows, classes=2), IMAGE, sigma=0.4, eps=0.1, n=1000, binning=binning)
        found[binning] = bool(result.certified(target).all())
        assert result.reported().item() == 2
        # What the first one's label would be, were it the only one that stays, nobody knows without bins.
        assert result.reported(1).item() == (1 if "label" in binning else 2)
    assert found == {"none": False, "label": True, "location": True, "label+location": True}
    left = median_detection(
        Toy(lambda z: [(5, 5, 8, 8, 0, 0.8 + 0.1 * math.tanh(z)), (0, 0, 2, 2, 0, 0.8)]),
        IMAGE,
        sigma=0.4,
        eps=0.1,
        n=1000,
        sorting="location",
    )
    assert left.slots[0].medians[:, 0].tolist() == [0.0, 5.0]
    assert bool(left.certified(one(5, 5, 8, 8)).all())


def test_a_label_that_may_change_is_not_certified():
    toy = Toy(lambda z: [(2, 2, 6, 6, int(z > 0.2), 0.9)], classes=2)
    result = median_detection(toy, IMAGE, sigma=0.4, eps=[0.05, 0.3], n=2000, binning="none")
    assert result.certified(one(2, 2, 6, 6))[0, :, 0].tolist() == [True, False]
    assert not result.certified(one(2, 2, 6, 6, label=1)).any()
    assert result.reported(0).tolist() == [[1.0, 1.0]]
    assert result.reported(1).tolist() == [[0.0, 1.0]]


def test_thresholds_share_samples_and_each_takes_the_scores_above_it():
    toy = Toy(lambda z: [(2, 2, 6, 6, 0, 0.9), (0, 0, 2, 2, 0, 0.3)])
    result = median_detection(toy, IMAGE, sigma=0.2, eps=0.1, n=300, threshold=[0.2, 0.3, 0.9], batch_size=64)
    assert result.passes == 300 == sum(len(x) for x in toy.seen)
    assert result.reported()[:, 0].tolist() == [2.0, 1.0, 0.0]
    assert result.certified(one(2, 2, 6, 6))[:, 0, 0].tolist() == [True, True, False]
    assert [len(result.detections(t)["scores"]) for t in (0.2, 0.3, 0.9)] == [2, 1, 0]
    assert result.detections()["scores"].tolist() == [0.9, 0.3]
    with pytest.raises(InputError, match="was not sampled for"):
        result.detections(0.5)


def test_noise_is_drawn_once_a_copy_not_clipped_and_seeds_count():
    seen, results = {}, {}
    for batch_size in (1, 7, 100):
        toy, done = Toy(FOLLOWER.rows), []
        results[batch_size] = median_detection(
            toy,
            IMAGE,
            eps=0.01,
            n=100,
            seed=3,
            batch_size=batch_size,
            progress=lambda *at, to=done: to.append(at),
        )
        seen[batch_size] = torch.cat(toy.seen)
        assert done == [(min(k, 100), 100) for k in range(batch_size, 100 + batch_size, batch_size)]
    assert torch.equal(seen[1], seen[7])
    assert torch.equal(seen[1], seen[100])
    assert seen[1].min() < 0
    assert seen[1].max() > 1
    assert (seen[1] - 0.5).std() == pytest.approx(0.25, abs=0.01)
    lower = [result.slots[0].lower for result in results.values()]
    assert torch.equal(lower[0], lower[1])
    assert torch.equal(lower[0], lower[2])
    other = median_detection(FOLLOWER, IMAGE, eps=0.01, n=100, seed=4)
    assert not torch.equal(other.slots[0].medians, results[1].slots[0].medians)


def test_alpha_is_shared_among_all_radii_thresholds_and_bins():
    toy, options = Toy(FOLLOWER.rows, classes=5), {"eps": [0.1, 0.2], "n": 400, "threshold": [0.1, 0.5, 0.6]}
    result = median_detection(toy, IMAGE, alpha=0.01, binning="label+location", **options)
    ranks = Ranks(400, [0.1, 0.2], 0.25, 0.01, 2 * 3 * 45)
    rising = torch.tensor([toy.rows(z)[0][0] for z in toy.z], dtype=torch.float64).sort().values
    for slots in result.slots:
        assert slots.upper[:, 0, 0].tolist() == rising[ranks.upper(1) - 1].tolist()
        assert slots.lower[:, 0, 0].tolist() == rising[ranks.lower(1) - 1].tolist()


def test_a_slot_beyond_the_number_of_detections_counts_for_no_label():
    some, unknown = torch.zeros(1, 2, 6), torch.full((1, 2, 6), math.inf)
    slots = Slots(torch.tensor([0, 0]), torch.tensor([1, 2]), some[0], some, unknown, torch.tensor([[1.0]]))
    known = median_detection(Toy(FOLLOWER.rows, classes=2), IMAGE, n=200, eps=0.1, binning="none")
    result = dataclasses.replace(known, slots=(slots,))
    assert [result.reported(label).item() for label in (0, 1)] == [1.0, 1.0]


def test_too_few_samples_say_so_and_certify_nothing():
    with pytest.warns(FeasibilityWarning, match=r"n=10 samples for eps=\[0.5\].*n >= (\d+)") as caught:
        result = median_detection(FOLLOWER, IMAGE, sigma=0.25, eps=[0.5, 0.0], n=10, alpha=0.1)
    assert result.reported().tolist() == [[math.inf, 1.0]]
    assert result.slots[0].lower[0].eq(-math.inf).all()
    assert not result.certified(one(2, 2, 6, 6))[0, 0].any()
    assert result.to_dict()["reported"] == [[None, 1.0]]
    scores = median_scores([result], [one(2, 2, 6, 6)])
    assert scores.precision[0, 0] == 0
    needed = int(str(caught[0].message).split("n >= ")[1].split(",")[0])
    share, risk = norm.cdf(2), 0.1 / 2 / 13 / 2
    assert share**needed <= risk < share ** (needed - 1)
    with pytest.warns(FeasibilityWarning, match="no number of samples"):
        median_detection(FOLLOWER, IMAGE, sigma=0.01, eps=1.0, n=10)


def test_scores_are_sums_over_images_and_the_area_is_under_the_envelope():
    def rows(z):
        return [(2, 2, 6, 6, 0, 0.9), (0, 0, 2, 2, 1, 0.5), (6, 6, 8, 8, 1, 0.3)]

    options = {"sigma": 0.2, "eps": [0.05, 0.1], "n": 200, "threshold": [0.1, 0.4, 0.8]}
    results = [median_detection(Toy(rows, classes=2), IMAGE, seed=s, **options) for s in (0, 1)]
    both = {
        "boxes": torch.tensor([[2.0, 2, 6, 6], [0, 0, 2, 2], [3, 0, 5, 1]]),
        "labels": torch.tensor([0, 1, 1]),
    }
    scores = median_scores(results, [both, none()])
    assert scores.recall[:, 0].tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert scores.precision[:, 0].tolist() == pytest.approx([2 / 6, 2 / 4, 1 / 2])
    # Class 0: recall 1 at precision 1/2. Class 1: recall 1/2 at precision 1/4, then 1/2 at a higher threshold.
    assert scores.average_precision.tolist() == pytest.approx([(1 / 2 + 1 / 4) / 2] * 2)
    assert median_scores(results, [both, none()], interpolation="101").average_precision[0] == pytest.approx(
        (1 / 2 + 51 / 101 / 2) / 2
    )
    assert (scores.images, scores.objects, scores.passes, scores.alpha) == (2, 3, 400, 0.002)
    empty = median_scores(results, [none(), none()])
    assert empty.recall.isnan().all()
    assert empty.average_precision.isnan().all()
    assert empty.to_dict()["average_precision"] == [None, None]
    nothing = median_scores([median_detection(Toy(lambda z: []), IMAGE, n=200)], [one(0, 0, 2, 2)])
    assert nothing.recall.tolist() == [[0.0, 0.0]]
    assert nothing.precision.isnan().all()
    assert nothing.average_precision.tolist() == [0.0, 0.0]


def test_the_area_is_that_of_a_fine_sum():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        recalls, precisions = torch.rand(2, 6, 3, generator=generator, dtype=torch.float64)
        precisions[0, 0] = math.nan
        grid = torch.linspace(0, 1, 20001, dtype=torch.float64)[:, None, None]
        reached = torch.where(recalls >= grid, precisions.nan_to_num(0.0), 0.0).amax(1)
        assert torch.allclose(area_under(recalls, precisions), reached[1:].mean(0), atol=1e-3)


def test_no_shift_and_no_crowd_beats_the_certificate():
    # Sides, label, number and order all move with z; the medians at shifted images keep what was certified.
    def rows(z):
        strong = (1 + z, 1, 4 + z, 4 + 0.5 * z, 0, 0.6 + 0.1 * math.tanh(z))
        weak = [(1.5, 1, 4.5, 4, 0, 0.55)] * (z > -0.3)
        return [strong, *weak, (4 - z, 4, 8, 8, int(z > 0.5), 0.9)]

    target = {"boxes": torch.tensor([[1.0, 1, 4, 4], [4.0, 4, 8, 8]]), "labels": torch.tensor([0, 0])}
    options = {"sigma": 0.3, "n": 400, "sorting": "location"}
    eps, certified = [0.05, 0.1, 0.3], 0
    for binning in ("none", "label", "location"):
        toy = Toy(rows, classes=2)
        result = median_detection(toy, IMAGE, eps=eps, binning=binning, **options)
        kept = result.certified(target)[0]
        for index, value in enumerate(eps):
            for shift in (-value, value):
                attacked = median_detection(
                    toy, IMAGE + shift * WORST, eps=0.0, binning=binning, seed=9, **options
                ).detections()
                hit = set(match(attacked, target).tolist())
                assert set(kept[index].nonzero()[:, 0].tolist()) <= hit
                assert len(attacked["scores"]) <= result.reported()[0, index]
        certified += int(kept.sum())
    assert certified > 4


def test_a_model_of_the_package_takes_noise_that_leaves_the_unit_range():
    torch.manual_seed(0)
    model = onelip.fold(onelip.models.create("fcos", classes=2, size="XS", prior=0.5))
    image = torch.rand(3, 64, 50)
    with pytest.raises(InputError, match="out of range"):
        model.predict(image[None] * 2)
    result = median_detection(model, image, sigma=0.1, eps=0.01, n=12, alpha=0.1)
    assert result.layout.classes == 2
    assert result.layout.size == (64, 50)
    assert result.passes == 12
    assert "12 passes" in repr(result)
    assert result.seconds > 0
    model.train()
    with pytest.raises(TrainModeError, match="train mode"):
        median_detection(model, image)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"binning": "colour"}, "`binning` is unknown"),
        ({"sorting": "size"}, "`sorting` is unknown"),
        ({"threshold": []}, "`threshold` is not usable"),
        ({"threshold": [0.5, 0.5]}, "different numbers"),
        ({"threshold": 1.0}, "`threshold` is not usable"),
        ({"threshold": -0.1}, "`threshold` is out of range"),
        ({"eps": []}, "`eps` is empty"),
        ({"eps": -0.1}, "`eps` has an unusable entry"),
        ({"eps": math.nan}, "`eps` has an unusable entry"),
        ({"sigma": 0.0}, "`sigma` is zero"),
        ({"n": 0}, "`n` is not usable"),
        ({"alpha": 1.0}, "`alpha` is out of range"),
        ({"seed": -1}, "`seed` is not usable"),
        ({"batch_size": 0}, "`batch_size` is not usable"),
        ({"classes": 0}, "`classes` is not usable"),
    ],
)
def test_arguments_that_cannot_be_used(options, text):
    toy = Toy(FOLLOWER.rows)
    with pytest.raises(InputError, match=text):
        median_detection(toy, IMAGE, **options)
    assert not toy.seen


def test_images_and_models_that_cannot_be_used():
    with pytest.raises(InputError, match="several images"):
        median_detection(FOLLOWER, torch.rand(2, 3, 8, 8))
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        median_detection(FOLLOWER, IMAGE * 3)
    with pytest.raises(InputError, match="is not a detector"):
        median_detection(object(), IMAGE)
    nameless = Toy(FOLLOWER.rows, classes=None)
    with pytest.raises(InputError, match="`classes` is not usable"):
        median_detection(nameless, IMAGE)
    assert median_detection(nameless, IMAGE, n=200, classes=3).layout.classes == 3


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (lambda n: None, InputError, "a list of"),
        (lambda n: [], InputError, "a list of"),
        (lambda n: [{"boxes": torch.zeros(0, 4)}] * n, InputError, "does not answer with detections"),
        (lambda n: [[]] * n, InputError, "received list"),
        (lambda n: [row(shape=(1, 5))] * n, InputError, r"\(1, 5\)"),
        (lambda n: [row(label=1)] * n, InputError, r"labels 0\.\.0"),
        (lambda n: [row(label=-1)] * n, InputError, r"labels 0\.\.0"),
        (lambda n: [row(score=math.nan)] * n, NonFiniteError, "not finite"),
    ],
)
def test_answers_that_are_no_detections(answer, error, text):
    toy = Toy(FOLLOWER.rows)
    toy.predict = lambda images, threshold: answer(len(images))
    with pytest.raises(error, match=text):
        median_detection(toy, IMAGE, n=100)


def row(shape=(1, 4), label=0, score=0.9):
    return {"boxes": torch.ones(shape), "labels": torch.tensor([label]), "scores": torch.tensor([score])}


def test_targets_and_sets_that_cannot_be_used():
    result = median_detection(FOLLOWER, IMAGE, n=200)
    for target, text in (
        (one(6, 2, 2, 6), "without area"),
        (one(2, 2, 6, 6, label=1), "no class"),
        ({"boxes": torch.zeros(0, 4)}, "no target"),
    ):
        with pytest.raises(InputError, match=text):
            result.certified(target)
    for value, text in ((0.0, "zero"), (1.5, "out of range")):
        with pytest.raises(InputError, match=text):
            result.certified(none(), iou=value)
    with pytest.raises(InputError, match="`label`"):
        result.reported(1)
    with pytest.raises(InputError, match="do not belong together"):
        median_scores([], [])
    with pytest.raises(InputError, match="do not belong together"):
        median_scores([result], [none(), none()])
    with pytest.raises(InputError, match="interpolation"):
        median_scores([result], [none()], interpolation="11")
    with pytest.raises(InputError, match="not comparable"):
        median_scores([result, median_detection(FOLLOWER, IMAGE, n=200, eps=0.3)], [none(), none()])
