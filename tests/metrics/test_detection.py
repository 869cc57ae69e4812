"""Detection scores against a second implementation, closed forms, and inputs that must not become numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.core.errors import InputError, NonFiniteError
from onelip.metrics import match, score_detections

LEVELS = [0.5 + 0.05 * k for k in range(10)]


def found(boxes=(), scores=(), labels=None):
    labels = [0] * len(boxes) if labels is None else labels
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        "scores": torch.tensor(scores, dtype=torch.float64),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def there(boxes=(), labels=None):
    known = found(boxes, [1.0] * len(boxes), labels)
    return {name: known[name] for name in ("boxes", "labels")}


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(w, 0) * max(h, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def plain_average_precision(detections, targets, label, level, limit=100):
    """COCO's rule, written out: one class, one level."""
    objects = sum(int((t["labels"] == label).sum()) for t in targets)
    if objects == 0:
        return math.nan
    ranked = []
    for seen, known in zip(detections, targets, strict=True):
        free = [
            b for b, k in zip(known["boxes"].tolist(), known["labels"].tolist(), strict=True) if k == label
        ]
        mine = [
            (s, b)
            for s, b, k in zip(
                seen["scores"].tolist(), seen["boxes"].tolist(), seen["labels"].tolist(), strict=True
            )
            if k == label
        ]
        for score, box in sorted(mine, key=lambda pair: -pair[0])[:limit]:
            best = max(free, key=lambda g: iou(box, g), default=None)
            hit = best is not None and iou(box, best) >= level
            if hit:
                free.remove(best)
            ranked.append((score, hit))
    ranked.sort(key=lambda pair: -pair[0])
    points, hits = [], 0
    for number, (_, hit) in enumerate(ranked, 1):
        hits += hit
        points.append((hits / objects, hits / number))
    grid = np.linspace(0, 1, 101)  # COCO's own rounding: 0.6000000000000001 is not reached by 3 of 5
    return sum(max((p for r, p in points if r >= g), default=0.0) for g in grid) / 101


def random_set(seed, images=4, classes=2):
    """Objects, and detections of which some are near objects; no two scores are equal."""
    rng = np.random.default_rng(seed)
    detections, targets = [], []
    for _ in range(images):
        low = rng.uniform(0, 40, (int(rng.integers(0, 4)), 2))
        boxes = np.hstack([low, low + rng.uniform(6, 20, low.shape)])
        labels = rng.integers(0, classes, len(boxes))
        near = (np.repeat(boxes, 2, 0) + rng.normal(0, 1.5, (2 * len(boxes), 4))).reshape(-1, 2, 2)
        near = np.sort(near, axis=1).reshape(-1, 4)
        far = rng.uniform(0, 40, (int(rng.integers(0, 3)), 2))
        seen = np.vstack([near, np.hstack([far, far + 9])])
        names = np.concatenate([np.repeat(labels, 2), rng.integers(0, classes, len(far))])
        targets.append(there(boxes.tolist(), labels.tolist()))
        detections.append(found(seen.tolist(), rng.random(len(seen)).tolist(), names.tolist()))
    return detections, targets


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_average_precision_is_that_of_the_plain_rule(seed):
    detections, targets = random_set(seed)
    scores = score_detections(detections, targets, classes=["a", "b"])
    expected = np.array(
        [[plain_average_precision(detections, targets, k, t) for t in LEVELS] for k in (0, 1)]
    )
    for row, values in zip(scores.classes, expected, strict=True):
        assert row.map50 == pytest.approx(values[0], abs=1e-9, nan_ok=True)
        assert row.map50_95 == pytest.approx(values.mean(), abs=1e-9, nan_ok=True)
    known = expected[~np.isnan(expected).any(1)]
    assert scores.map50_95 == pytest.approx(known.mean() if len(known) else math.nan, abs=1e-9, nan_ok=True)
    assert scores.map50 == pytest.approx(
        known[:, 0].mean() if len(known) else math.nan, abs=1e-9, nan_ok=True
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.floats(0.05, 0.95), level=st.sampled_from([0.3, 0.5, 0.75]))
def test_recall_and_precision_are_those_of_greedy_matching(seed, threshold, level):
    detections, targets = random_set(seed)
    scores = score_detections(detections, targets, classes=["a", "b"], threshold=threshold, iou=level)
    hits = alarms = 0
    for seen, known in zip(detections, targets, strict=True):
        free = list(zip(known["labels"].tolist(), known["boxes"].tolist(), strict=True))
        ranked = sorted(
            zip(seen["scores"].tolist(), seen["labels"].tolist(), seen["boxes"].tolist(), strict=True),
            key=lambda item: -item[0],
        )
        for score, label, box in ranked:
            if score <= threshold:
                break
            mine = [g for g in free if g[0] == label and iou(box, g[1]) >= level]
            if mine:
                free.remove(max(mine, key=lambda g: iou(box, g[1])))
                hits += 1
            else:
                alarms += 1
    objects = sum(len(t["labels"]) for t in targets)
    assert (scores.found, scores.false, scores.objects) == (hits, alarms, objects)
    assert scores.false_positives == alarms / 4
    assert sum(row.found for row in scores.classes) == hits
    if objects:
        assert scores.recall == hits / objects


def test_an_empty_image_lowers_the_precision():
    box = [[2, 2, 12, 12]]
    alone = score_detections([found(box, [0.6])], [there(box)], classes=["a"])
    both = score_detections([found(box, [0.6]), found(box, [0.9])], [there(box), there()], classes=["a"])
    quiet = score_detections([found(box, [0.6]), found()], [there(box), there()], classes=["a"])
    assert (alone.map50, both.map50, quiet.map50) == pytest.approx((1.0, 0.5, 1.0))
    assert (both.precision, both.recall, both.false_positives) == (0.5, 1.0, 0.5)
    assert (quiet.precision, quiet.images) == (1.0, 2)


def test_a_second_detection_of_an_object_is_false_and_the_better_score_wins():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9]]
    assert match(found(boxes, [0.6, 0.7]), there(boxes[:1])).tolist() == [-1, 0]
    assert match(found(boxes, [0.7, 0.6]), there(boxes[:1])).tolist() == [0, -1]
    assert match(found(boxes, [0.7, 0.6], [1, 0]), there(boxes[:1])).tolist() == [-1, 0]  # another class


def test_the_level_is_reached_and_the_threshold_exceeded():
    target = there([[0, 0, 10, 10]])
    half = found([[0, 0, 10, 5]], [0.5])  # IoU 0.5 exactly
    assert match(half, target).tolist() == [0]
    assert match(half, target, iou=0.5001).tolist() == [-1]
    assert score_detections([half], [target], classes=["a"]).found == 0  # 0.5 is not above 0.5
    assert score_detections([half], [target], classes=["a"], threshold=0.49).found == 1


def test_average_precision_takes_the_best_hundred_of_an_image():
    rest = [[50, 50, 60, 60]] * 100
    detections = [found([*rest, [0, 0, 10, 10]], [0.9] * 100 + [0.8])]
    target = [there([[0, 0, 10, 10]])]
    assert score_detections(detections, target, classes=["a"]).map50 == 0.0
    assert score_detections(detections, target, classes=["a"], per_image=101).map50 == pytest.approx(1 / 101)


def test_undefined_is_nan_and_null_never_zero():
    scores = score_detections([found([[0, 0, 5, 5]], [0.9])], [there()], classes=["a"])
    assert math.isnan(scores.map50)
    assert math.isnan(scores.recall)
    assert (scores.precision, scores.false_positives) == (0.0, 1.0)
    silent = score_detections([found()], [there([[0, 0, 5, 5]])], classes=["a", "b"])
    assert math.isnan(silent.precision)
    assert (silent.map50, silent.recall) == (0.0, 0.0)  # class b, without objects, is not in the mean
    record = json.loads(json.dumps(silent.to_dict(), allow_nan=False))
    assert record["precision"] is None
    assert record["classes"][1]["map50"] is None
    assert record["classes"][0] == {
        "name": "a",
        "objects": 1,
        "map50": 0.0,
        "map50_95": 0.0,
        "found": 0,
        "false": 0,
        "recall": 0.0,
        "precision": None,
    }


def test_a_detection_that_is_a_line_is_false():
    scores = score_detections([found([[3, 3, 3, 9]], [0.9])], [there([[0, 0, 9, 9]])], classes=["a"])
    assert (scores.map50, scores.false) == (0.0, 1)


GOOD = ([[0, 0, 5, 5]], [0.9])


@pytest.mark.parametrize(
    ("seen", "known", "text"),
    [
        (found([[5, 0, 0, 5]], [0.9]), there(), "inverted"),
        (found([[0, 0, 1e200, 1e200]], [0.9]), there(), "far outside"),
        (found(*GOOD), there([[3, 3, 3, 9]]), "targets.0.: 1 boxes are inverted, empty"),
        (found([[0, 0, 5, 5]], [1.5]), there(), "scores are out of range; received 1.5"),
        (found([[0, 0, 5, 5]], [-0.5]), there(), "scores are out of range; received -0.5"),
        (found(*GOOD, labels=[1]), there(), r"labels are no classes; received \[1\]"),
        (found(*GOOD, labels=[-1]), there(), "labels are no classes"),
        (found(*GOOD), {**there([[0, 0, 5, 5]]), "labels": torch.ones(1)}, "labels are no classes"),
        ({**found(*GOOD), "scores": torch.ones(2)}, there(), "wrong shapes"),
        ({**found(*GOOD), "labels": torch.tensor(0)}, there(), "wrong shapes"),
        ({**found(*GOOD), "boxes": torch.ones(4)}, there(), "wrong shapes"),
        ({"boxes": torch.zeros(0, 4)}, there(), r"detections\[0\] lacks labels, scores"),
        (found(*GOOD), {}, r"targets\[0\] lacks boxes, labels"),
    ],
)
def test_unusable_boxes_are_refused(seen, known, text):
    with pytest.raises(InputError, match=text):
        score_detections([seen], [known], classes=["a"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_is_refused_everywhere(value):
    for seen, known in (
        (found([[0, 0, value, 5]], [0.9]), there()),
        (found([[0, 0, 5, 5]], [value]), there()),
        (found(), there([[0, 0, 5, value]])),
    ):
        with pytest.raises(NonFiniteError, match="not finite"):
            score_detections([seen], [known], classes=["a"])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.0}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"iou": 0.0}, "iou"),
        ({"iou": 1.1}, "iou"),
        ({"per_image": 0}, "per_image"),
        ({"classes": []}, "classes"),
        ({"classes": "a"}, "classes"),
        ({"classes": 1}, "classes"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        score_detections([found()], [there()], **{"classes": ["a"], **options})


def test_lists_of_different_length_are_refused():
    for lists in (([found()], []), ([], []), ([found()], [there(), there()])):
        with pytest.raises(InputError, match="do not belong together"):
            score_detections(*lists, classes=["a"])
