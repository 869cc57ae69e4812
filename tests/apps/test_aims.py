"""Goals of `onelip attack`: what is measured, and averages over a data set against brute force."""

import itertools

import pytest
import torch

import onelip
from onelip.apps.aims import Aim, average, values
from onelip.attacks import PGD, CriterionGoal, Fabricate, worst
from onelip.certify import IoU, PixelAccuracy, Recall, dataset_iou
from onelip.core.errors import InputError

EPS = [0.1, 0.3, 0.8]


@pytest.fixture(scope="module")
def attacked():
    """Four images, their certificates, and attacks for recall and for IoU of class 1."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1)
    )
    certifier = onelip.certify.Certifier(model.eval())
    found = []
    for k in range(4):
        image = torch.rand(1, 3, 8, 9, generator=torch.Generator().manual_seed(k))
        target = (image[:, 0] > 0.6).long() if k < 3 else torch.zeros(1, 8, 9).long()
        certificate = certifier(image, target)
        attacks = [
            PGD(CriterionGoal(c), steps=4, judge=certifier.model)(certifier.model, image, target, EPS)
            for c in (Recall(1), IoU(1))
        ]
        found.append((certificate, attacks))
    return found


def test_a_goal_names_its_criteria_and_its_attacks():
    aim = Aim.of(" Vanish:car")
    assert aim.keys == ("recall:car", "iou:car")
    columns = aim.columns([Recall(1), IoU(1)])
    assert [(key, how) for key, _, how in columns] == [
        ("recall:car", "micro"), ("recall:car", "macro"), ("iou:car", "micro"), ("iou:car", "macro")
    ]  # fmt: skip
    assert [g.criterion for g in aim.goals([Recall(1), IoU(1)])] == [Recall(1), IoU(1)]
    assert [c[2] for c in Aim.of("accuracy").columns([PixelAccuracy()])] == ["micro"]
    assert [c[2] for c in Aim.of("iou:2").columns([IoU(2)])] == ["macro"]
    (made_up,) = Aim.of("fabricate:2").goals([IoU(2, ignore_index=9)])
    assert made_up == Fabricate(2, ignore_index=9)


def test_worst_of_several_attacks_is_their_minimum_over_the_smaller_balls_too(attacked):
    certificate, attacks = attacked[0]
    for criterion in (Recall(1), IoU(1)):
        each = torch.stack([a.values(criterion) for a in attacks])
        clean = criterion.value(certificate.logits, certificate.target)
        expected = [min(float(each[:, : k + 1].min()), float(clean)) for k in range(len(EPS))]
        assert worst(attacks, criterion)[:, 0].tolist() == expected
        assert worst(attacks[:1], criterion).ge(worst(attacks, criterion)).all()


def test_worst_does_not_depend_on_the_order_of_the_eps(attacked):
    certificate, _ = attacked[1]
    attack = PGD(CriterionGoal(IoU(1)), steps=2)
    model = torch.nn.Conv2d(3, 2, 1).eval()
    runs = [attack(model, certificate.images.float(), certificate.target, e) for e in (EPS, EPS[::-1])]
    first, second = (worst([r], IoU(1)) for r in runs)
    assert torch.equal(first, second.flip(0))
    assert first[:, 0].diff().le(0).all()


def test_worst_refuses_results_on_other_images(attacked):
    with pytest.raises(InputError, match="cannot be joined"):
        worst([attacked[0][1][0], attacked[1][1][0]], IoU(1))
    with pytest.raises(InputError, match="0 results"):
        worst([], IoU(1))


def test_averages_over_the_data_set_equal_brute_force(attacked):
    criterion = IoU(1)
    records = [values(criterion, c, found, pooled=True) for c, found in attacked]
    micro = average(criterion, "micro", records, len(EPS))
    pairs = [(c.logits, c.target) for c, _ in attacked]
    rounding = attacked[0][0].rounding
    constants = [c.lipschitz for c, _ in attacked]
    proven = dataset_iou(pairs, 1, [e + rounding for e in EPS], lipschitz=constants)
    assert micro["certified"] == proven.tolist()
    for place in range(len(EPS)):  # every choice of one found perturbation an image
        options = [
            {tuple(IoU(1).overlap(torch.nn.functional.one_hot(p, 2).movedim(-1, 1).double(), c.target)[0].tolist())
             for found in results for p in (*found.predictions[: place + 1], found.clean_predictions)}
            for c, results in attacked
        ]  # fmt: skip
        least = min(sum(i for i, _ in pick) / sum(u for _, u in pick) for pick in itertools.product(*options))
        assert micro["attacked"][place] == pytest.approx(least, abs=1e-15)
        assert micro["certified"][place] <= micro["attacked"][place] <= micro["clean"][place]


def test_images_without_the_class_are_left_out_of_the_mean_of_images(attacked):
    criterion = Recall(1)
    records = [values(criterion, c, found, pooled=True) for c, found in attacked]
    assert records[3]["clean"] is None
    macro = average(criterion, "macro", records, len(EPS))
    assert macro["attacked"][0] == pytest.approx(sum(r["attacked"][0] for r in records[:3]) / 3)
    micro = average(criterion, "micro", records, len(EPS))
    weights = [int((c.target == 1).sum()) for c, _ in attacked]
    total = sum(w * r["clean"] for w, r in zip(weights[:3], records[:3], strict=True)) / sum(weights)
    assert micro["clean"][0] == pytest.approx(total)
    assert average(criterion, "macro", records[3:], len(EPS))["clean"] == [None] * len(EPS)
