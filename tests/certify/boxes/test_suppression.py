"""What greedy suppression guarantees, fuzzed; what it does not, kept as counter-examples; supports, rivals, groups."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import nms

from onelip.certify import detection_from_raw
from onelip.certify.boxes import cover, outcome, supports
from onelip.certify.boxes.cover import Cover, first_fit
from onelip.certify.boxes.geometry import table
from onelip.models.boxes import iou, match_levels
from onelip.models.detection import Raw

THETA, LIMIT = 0.0, 0.6


def boxes(count, generator, spread=1.0):
    base = torch.tensor([10.0, 10.0, 30.0, 26.0], dtype=torch.float64)
    return base + spread * torch.randn(count, 4, generator=generator, dtype=torch.float64)


def heads(rectangles, logits, *, stride=1.0, size=(64, 64)):
    """A Raw whose locations are the centres of given boxes; logits (N,) or (N, K)."""
    rectangles = torch.as_tensor(rectangles, dtype=torch.float64)
    logits = torch.as_tensor(logits, dtype=torch.float64)
    logits = logits[:, None] if logits.dim() == 1 else logits
    half = (rectangles[:, 2:] - rectangles[:, :2]) / 2
    centres = rectangles[:, :2] + half
    sides = torch.cat([half, half], 1) / stride
    return Raw(logits[None], sides[None], centres, torch.full((len(centres),), stride).double())


def certify(rectangles, logits, targets, labels=None, **options):
    target = {"boxes": torch.as_tensor(targets).double().reshape(-1, 4)}
    target["labels"] = (
        torch.zeros(len(target["boxes"]), dtype=torch.int64) if labels is None else torch.tensor(labels)
    )
    options = {"size": (64, 64), "lipschitz": 1.0, "kappa": 0.1, "nms": LIMIT} | options
    return detection_from_raw(heads(rectangles, logits), [target], **options)


def test_suppression_leaves_a_box_at_least_a_plus_tau_minus_one():
    """The key lemma, 1 - IoU being a metric: with any scores, and against torchvision's own suppression."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(500):
        spread = float(4 * torch.rand((), generator=generator))
        found, target = boxes(9, generator, spread), boxes(1, generator, spread)
        limit = 0.3 + 0.6 * float(torch.rand((), generator=generator))
        kept = nms(found, torch.rand(9, generator=generator).double(), limit)
        reached = iou(found[kept], target).max()
        assert (iou(found, target) + limit - 1.0 <= reached + 1e-12).all()


def test_the_jaccard_distance_is_a_metric():
    generator = torch.Generator().manual_seed(1)
    a, b, c = (boxes(20000, generator, 6.0) for _ in range(3))
    upright = torch.stack([(x[:, 2:] > x[:, :2]).all(1) for x in (a, b, c)]).all(0)
    distance = [(1.0 - iou(x, y))[upright] for x, y in ((a, b), (b, c), (a, c))]
    assert (distance[2] <= distance[0] + distance[1] + 1e-12).all()
    assert upright.sum() > 10000


def test_thresholding_commutes_with_suppression_by_score_only(toys):
    """Detections above a threshold do not depend on lower ones; with another order they do, and AP is refused."""
    for seed in range(5):
        for z, r, points, strides in toys.world(seed, classes=2).batch:
            low = toys.final(z, r, points, strides, -0.5, LIMIT)
            assert [d for d in low if d[1] > 0.2] == toys.final(z, r, points, strides, 0.2, LIMIT)
    # A box of score 0.1 that comes first in another order takes the one of score 0.9 with it.
    rectangles, scores, order = [[0, 0, 10, 10], [0, 0, 10, 9]], [0.9, 0.1], [0.2, 0.8]
    for level, expected in ((0.5, [0]), (0.05, [1])):
        some = [i for i in range(2) if scores[i] > level]
        kept = nms(torch.tensor(rectangles)[some].double(), torch.tensor(order)[some].double(), LIMIT)
        assert [some[i] for i in kept.tolist()] == expected


def five():
    """A above B and C, which it suppresses and which do not overlap; D, just below, would suppress A alone."""
    a, b, c, d = [0, 0, 20, 20], [0, 0, 13, 20], [7, 0, 20, 20], [0, 0, 20, 14]
    return [a, b, c, d], [0.5, 0.4, 0.3, -0.1]


def test_one_new_candidate_can_make_three_detections_of_one(toys):
    """The trap: clean detections plus new candidates is no bound; groups plus new candidates is."""
    rectangles, logits = five()
    raw = heads(rectangles, logits)
    z, r, points, strides = raw.logits[0], raw.regression[0], raw.locations, raw.strides
    assert len(toys.final(z, r, points, strides, THETA, LIMIT)) == 1
    z = z.clone()
    z[3], z[0] = 0.31, 0.305  # D fires and is the highest but for B; A follows
    z[1] = 0.2
    z[2] = 0.2
    moved = float((z - raw.logits[0]).norm())
    assert len(toys.final(z, r, points, strides, THETA, LIMIT)) == 3
    certificate = certify(rectangles, logits, [])
    assert certificate.new_detections([0.2]).tolist() == [[1]]
    assert float(certificate.reported([0.2])) >= 3.0  # at a norm that does not even reach the attack's
    assert moved < 0.6
    assert float(certificate.reported([moved])) >= 3.0


def test_groups_are_cliques_and_bound_what_any_attack_keeps(toys):
    generator = torch.Generator().manual_seed(3)
    for seed in range(4):
        toy = toys.world(seed, images=3, kappa=0.3)
        for raw, target in zip(toys.padded(toy), toy.targets, strict=True):
            certificate = detection_from_raw(
                raw, [target], size=toys.SIZE, lipschitz=1.0, kappa=0.3, nms=LIMIT, per_image=None
            )
            for rho in (0.0, 0.1, 0.4):
                limit = float(certificate.reported([rho]))
                for _ in range(4):
                    dz = torch.randn(raw.logits[0].shape, generator=generator, dtype=torch.float64)
                    dt = torch.randn(raw.regression[0].shape, generator=generator, dtype=torch.float64)
                    norm = float((dz.square().sum() + dt.square().sum()).sqrt())
                    z = raw.logits[0] + rho * dz / norm
                    r = (raw.regression[0] + 0.3 * rho * dt / norm).clamp_min(0)
                    assert len(toys.final(z, r, raw.locations, raw.strides, THETA, LIMIT)) <= limit


def test_first_fit_makes_cliques():
    generator = torch.Generator().manual_seed(5)
    for _ in range(50):
        close = torch.rand(9, 9, generator=generator) < 0.6
        close = (close | close.T | torch.eye(9).bool()).numpy()
        counts = first_fit(close)
        assert counts[0] == 0
        assert (counts[1:] - counts[:-1] <= 1).all()
        # Fewer groups than the least clique cover cannot be: compare with the independence number from below.
        free, size = list(range(9)), 0
        while free:
            first = free[0]
            free = [i for i in free if not close[first, i]]
            size += 1
        independent = max(
            bin(m).count("1")
            for m in range(512)
            if all(not close[i, j] for i in range(9) for j in range(i) if m >> i & 1 and m >> j & 1)
        )
        assert independent <= counts[-1]


def test_groups_never_fall_with_the_budget():
    generator = torch.Generator().manual_seed(9)
    rectangles = boxes(14, generator, 2.5)
    certificate = certify(rectangles, torch.rand(14, generator=generator), [])
    judge = certificate.judges()[0]
    counts = Cover(judge.scene, THETA).count(0, THETA, torch.linspace(0, 60, 40).double().square())
    assert (counts.diff() >= 0).all()
    assert counts[0] < counts[-1] == 14


def test_beyond_its_level_a_detection_belongs_to_its_object_whatever_else_is_there(toys):
    """Random overlapping objects of one class; the matchings of COCO and VOC give g a detection."""
    generator = torch.Generator().manual_seed(4)
    seen = 0
    for _ in range(250):
        target = boxes(3, generator, 5.0)
        if not bool((target[:, 2:] > target[:, :2] + 1).all()):
            continue
        level = match_levels(target, torch.zeros(3, dtype=torch.int64), 0.5)
        found = torch.cat([target + 1.5 * torch.randn(3, 4, generator=generator), boxes(4, generator, 5.0)])
        scores = torch.rand(7, generator=generator)
        order = scores.argsort(descending=True).tolist()
        overlap = table(found, target)
        certain = (overlap >= level).any(0)
        coco, voc = set(), set()
        for i in order:
            free = [g for g in range(3) if g not in coco]
            best = max(free, key=lambda g: float(overlap[i, g]), default=None)
            if best is not None and float(overlap[i, best]) >= 0.5:
                coco.add(best)
            best = int(overlap[i].argmax())
            if float(overlap[i, best]) >= 0.5:
                voc.add(best)
        wanted = set(certain.nonzero()[:, 0].tolist())
        assert wanted <= coco
        assert wanted <= voc
        seen += len(wanted)
    assert seen > 100


RIVAL = {
    "rectangles": [[10, 10, 30, 30], [10, 10, 30, 43]],
    "logits": [0.5, 0.3],
    "targets": [[10, 6, 30, 24]],
}


def test_a_rival_that_overlaps_takes_an_object_away_at_exactly_its_price(toys):
    """The support has IoU 14 / 24 with the object, the rival 14 / 37; they overlap by 20 / 33, just above the limit."""
    certificate = certify(**RIVAL)
    price = (0.5 - 0.3) / math.sqrt(2)
    radius = float(certificate.vanish_radius[0])
    assert radius == pytest.approx(price, abs=1e-6)
    assert radius < price
    raw = certificate.raw
    z = raw.logits[0] + torch.tensor([[-0.1], [0.1]]) * (1 + 1e-9)
    found = toys.final(z, raw.regression[0], raw.locations, raw.strides, THETA, LIMIT)
    assert not any(toys.matched(found, RIVAL["targets"], [0], 0.5))


def test_without_rivals_the_certificate_would_be_beaten(monkeypatch):
    monkeypatch.setattr(
        supports.Rivals, "price", lambda self, logit, theta, *, by_logit: torch.full_like(logit, math.inf)
    )
    assert float(certify(**RIVAL).vanish_radius[0]) > (0.5 - 0.3) / math.sqrt(2)


def test_rivals_left_out_are_feared(monkeypatch, toys):
    """With few rivals kept the certificate only gets weaker."""
    toy = toys.world(3, images=3)
    for raw, target in zip(toys.padded(toy), toy.targets, strict=True):
        options = {"size": toys.SIZE, "lipschitz": 1.0, "kappa": toy.kappa, "nms": LIMIT}
        whole = detection_from_raw(raw, [target], **options).vanish_radius[0]
        with monkeypatch.context() as patch:
            patch.setattr(supports, "KEPT", 2)
            assert (detection_from_raw(raw, [target], **options).vanish_radius[0] <= whole + 1e-12).all()


def test_with_an_unknown_order_a_rival_need_not_outrank():
    radius = certify(**RIVAL, by_logit=False).vanish_radius[0]
    assert radius.tolist() == [0.0]


@pytest.mark.parametrize(("rectangle", "strong"), [([10, 10, 30, 30], True), ([10, 10, 30, 26], False)])
def test_a_strong_match_needs_no_look_at_rivals(rectangle, strong, monkeypatch):
    """Were rivals free, only boxes of IoU 0.9 = 0.5 + 1 - 0.6 would hold, at the price of leaving that level."""
    scene = {"rectangles": [rectangle], "logits": [50.0], "targets": [[10, 10, 30, 30]]}
    whole = float(certify(**scene).vanish_radius[0])
    monkeypatch.setattr(supports.Rivals, "price", lambda self, logit, theta, *, by_logit: 0.0 * logit)
    radius = float(certify(**scene).vanish_radius[0])
    true = 20.0 * (1.0 - math.sqrt(0.9)) / 0.1
    assert (0.8 * true < radius < true) if strong else radius == 0.0
    assert whole > 20.0


SHARED = {
    "rectangles": [[10, 10, 30, 30]],
    "logits": [[9.0, 9.0]],
    "targets": [[10, 10, 30, 30], [10, 10, 30, 29.8]],
    "labels": [0, 1],
    "kappa": 1.0,
}


def test_one_location_serves_one_object_only(monkeypatch, toys):
    """Two overlapping objects of two classes are held by the box of one location: one movement loses both."""
    raw = heads(SHARED["rectangles"], SHARED["logits"])
    found = toys.final(raw.logits[0], raw.regression[0] - 3.0, raw.locations, raw.strides, 0.0, LIMIT)
    assert not any(toys.matched(found, SHARED["targets"], [0, 1], 0.5))
    eps = 6.0  # the norm of (-3, -3, -3, -3)
    certificate = certify(**SHARED)
    assert (certificate.vanish_radius[0] > 4.5).all()
    assert float(certificate.recall([eps])) == 0.0
    monkeypatch.setattr(supports.Supports, "_assigned", lambda self, alive: alive)
    assert float(certify(**SHARED).recall([eps])) == 0.5  # what the mutation claims is wrong


def test_overlapping_objects_of_one_class_need_more_than_half():
    """Two objects with IoU 0.6: a detection of IoU 0.75 with one may be given to the other; above 0.8 it cannot."""
    objects = [[10.0, 10.0, 30.0, 30.0], [10.0, 15.0, 30.0, 35.0]]
    assert float(table(torch.tensor(objects), torch.tensor(objects))[0, 1]) == pytest.approx(0.6)
    near, better = [[10.0, 10.0, 30.0, 25.0]], [[10.0, 10.0, 30.0, 29.0]]
    assert float(certify(near, [0.5], objects).vanish_radius[0][0]) == 0.0
    assert float(certify(near, [[0.5, 0.5]], objects, labels=[0, 1]).vanish_radius[0][0]) > 0.4
    assert float(certify(better, [0.5], objects).vanish_radius[0][0]) > 0.4


def test_a_frontier_pays_for_lost_objects_and_new_detections_together():
    """One object with margin 0.3 and one gap of 0.4: at 0.45 the attacker has one or the other, at 0.51 both."""
    certificate = certify([[10, 10, 30, 30], [40, 40, 60, 60]], [0.3, -0.4], [[10, 10, 30, 30]])
    judge = certificate.judges()[0]
    for rho, points in ((0.2, [[1, 1]]), (0.45, [[1, 2], [0, 1]]), (0.51, [[1, 2], [0, 2]])):
        found = judge.outcome(0.0, torch.tensor([rho**2], dtype=torch.float64))
        assert found.points[0].tolist() == points
    assert isinstance(found, outcome.Outcome)
    assert certificate.alarms([0.2, 0.45, 0.51]).flatten().tolist() == [0.0, 1.0, 2.0]


def test_drift_dropped_from_groups_would_be_beaten(monkeypatch, toys):
    """Two boxes that overlap by 0.62 drift apart: as one group they would count as one detection."""
    rectangles = [[10, 10, 30, 30], [10, 10, 30, 42]]
    raw = heads(rectangles, [0.5, 0.4])
    moved = raw.regression[0] + torch.tensor([[0.0, 0.0, 0.0, -0.5], [0.0, 0.0, 0.0, 0.5]])
    found = toys.final(raw.logits[0], moved, raw.locations, raw.strides, THETA, LIMIT)
    assert len(found) == 2
    eps = math.sqrt(0.5) / 0.1
    assert float(certify(rectangles, [0.5, 0.4], [], per_image=None).reported([eps])) >= 2.0
    monkeypatch.setattr(cover.torch, "hypot", lambda a, b: torch.zeros_like(a + b))
    assert float(certify(rectangles, [0.5, 0.4], [], per_image=None).reported([eps])) == 1.0
