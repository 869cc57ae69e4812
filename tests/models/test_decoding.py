"""Locations, decoding, clipping and suppression against closed forms and a slow reference written by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.core.errors import InputError, NonFiniteError
from onelip.models import Raw
from onelip.models.decoding import clip, decode, locations, map_size, postprocess


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / area if area > 0 else 0.0


def slow(raw, theta, size, nms, per_level, per_image):
    """Detections as (box, logit, label) of each image, by loops over candidates."""
    results = []
    height, width = size
    for logits, regression in zip(raw.logits.tolist(), raw.regression.tolist(), strict=True):
        pairs = [(-z, i, k) for i, row in enumerate(logits) for k, z in enumerate(row) if z > theta[k]]
        used, kept = {}, []
        for negative, i, k in sorted(pairs):
            stride = float(raw.strides[i])
            used[stride] = used.get(stride, 0) + 1
            if used[stride] > per_level:
                continue
            (x, y), (left, top, right, bottom) = raw.locations[i].tolist(), regression[i]
            box = [x - stride * left, y - stride * top, x + stride * right, y + stride * bottom]
            box = [min(max(v, 0.0), end) for v, end in zip(box, (width, height, width, height), strict=True)]
            if all(other[2] != k or iou(box, other[0]) <= nms for other in kept):
                kept.append((box, -negative, k))
        results.append(kept[:per_image])
    return results


def random_raw(seed, classes=2, size=(21, 37), strides=(4, 8), batch=2):
    """Heads full of ties: few different logits, and distances on a coarse grid."""
    draw = torch.Generator().manual_seed(seed)
    points, scales = locations(size, strides, dtype=torch.float32)
    logits = torch.randint(-3, 4, (batch, len(points), classes), generator=draw).float() / 2
    regression = torch.randint(0, 5, (batch, len(points), 4), generator=draw).float() / 2
    return Raw(logits, regression, points, scales)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.25, 0.5, 0.6, 1.0]),
    st.sampled_from([1, 7, 1000]),
    st.sampled_from([1, 5, 100]),
    st.sampled_from([-0.5, 0.25, 1.5]),
)
def test_postprocessing_is_the_slow_reference(seed, nms, per_level, per_image, theta):
    raw, size = random_raw(seed), (21, 37)
    found = postprocess(raw, theta, size, nms=nms, temperature=0.5, per_level=per_level, per_image=per_image)
    expected = slow(raw, [theta] * 2, size, nms, per_level, per_image)
    assert len(found) == 2
    for one, other in zip(found, expected, strict=True):
        assert one["labels"].dtype == torch.int64
        assert one["labels"].tolist() == [k for _, _, k in other]
        boxes = torch.tensor([box for box, _, _ in other]).reshape(-1, 4)
        torch.testing.assert_close(one["boxes"], boxes, rtol=0, atol=0)
        logits = torch.tensor([z for _, z, _ in other], dtype=torch.float64)
        torch.testing.assert_close(one["scores"], torch.sigmoid(logits / 0.5).float(), rtol=1e-6, atol=0)


def test_suppression_is_strict_and_within_a_class():
    # two boxes of IoU exactly 1/2, and the same box of another class
    points, strides = torch.tensor([[8.0, 8.0]] * 3), torch.full((3,), 8.0)
    regression = torch.tensor([[[1.0, 1, 1, 1], [1.0, 0, 1, 1], [1.0, 1, 1, 1]]])
    logits = torch.tensor([[[2.0, -9], [1.0, -9], [-9, 1.5]]])
    raw = Raw(logits, regression, points, strides)
    assert postprocess(raw, 0.0, (16, 16), nms=0.5)[0]["labels"].tolist() == [0, 1, 0]
    assert postprocess(raw, 0.0, (16, 16), nms=0.499)[0]["labels"].tolist() == [0, 1]
    # strictly above the threshold: a tie is no detection
    assert postprocess(raw, 1.5, (16, 16))[0]["labels"].tolist() == [0]
    assert len(postprocess(raw, 2.0, (16, 16))[0]["labels"]) == 0
    # a threshold for each class
    assert postprocess(raw, torch.tensor([3.0, 1.0]), (16, 16))[0]["labels"].tolist() == [1]


def test_logits_rank_where_scores_saturate():
    points, strides = torch.tensor([[8.0, 8.0]] * 2), torch.full((2,), 8.0)
    regression = torch.tensor([[[1.0, 1, 1, 1], [0.9, 1, 1, 1]]])
    raw = Raw(torch.tensor([[[90.0], [99.0]]]), regression, points, strides)
    found = postprocess(raw, 0.0, (16, 16), temperature=0.01)[0]
    assert found["scores"].tolist() == [1.0]
    assert found["boxes"][0, 0].item() == pytest.approx(0.8)


def test_another_order_of_suppression_changes_no_score():
    points, strides = torch.tensor([[8.0, 8.0]] * 2), torch.full((2,), 8.0)
    regression = torch.tensor([[[1.0, 1, 1, 1], [0.9, 1, 1, 1]]])
    raw = Raw(torch.tensor([[[1.0], [2.0]]]), regression, points, strides)
    found = postprocess(raw, 0.0, (16, 16), order=torch.tensor([[0.0, -5.0]]))[0]
    assert found["scores"].tolist() == pytest.approx([1 / (1 + math.exp(-1))])
    both = postprocess(raw, 0.0, (16, 16), nms=1.0, order=torch.tensor([[0.0, -5.0]]))[0]
    assert both["scores"].tolist() == sorted(both["scores"].tolist(), reverse=True)


def test_empty_boxes_suppress_nothing_and_are_kept():
    points, strides = torch.tensor([[8.0, 8.0]] * 2), torch.full((2,), 8.0)
    raw = Raw(torch.ones(1, 2, 1), torch.zeros(1, 2, 4), points, strides)
    assert len(postprocess(raw, 0.0, (16, 16))[0]["labels"]) == 2


def test_nothing_above_the_threshold_gives_empty_tensors():
    found = postprocess(random_raw(0, classes=3), 9.0, (21, 37))[1]
    assert {k: (tuple(v.shape), v.dtype) for k, v in found.items()} == {
        "boxes": ((0, 4), torch.float32),
        "scores": ((0,), torch.float32),
        "labels": ((0,), torch.int64),
    }


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([(4, 8), (8,), (4, 8, 16, 32), (16, 32, 64)]))
def test_locations_are_centres_of_cells_that_hold_a_pixel(height, width, strides):
    points, scales = locations((height, width), strides)
    expected = [
        ((i + 0.5) * s, (j + 0.5) * s, s)
        for s in strides
        for j in range(math.ceil(height / s))
        for i in range(math.ceil(width / s))
    ]
    assert torch.cat((points, scales[:, None]), dim=1).tolist() == [list(row) for row in expected]
    corners = points - scales[:, None] / 2  # the cell's first pixel is inside the image
    assert bool(((corners[:, 0] < width) & (corners[:, 1] < height)).all())
    assert map_size((height, width), 8) == (math.ceil(height / 8), math.ceil(width / 8))


def test_decoding_is_the_inverse_of_distances():
    draw = torch.Generator().manual_seed(0)
    points, strides = locations((40, 50), (8, 16))
    near = torch.rand(3, len(points), 4, generator=draw, dtype=torch.float64) * 9
    boxes = torch.stack(
        (
            points[:, 0] - near[..., 0],
            points[:, 1] - near[..., 1],
            points[:, 0] + near[..., 2],
            points[:, 1] + near[..., 3],
        ),
        dim=-1,
    )
    torch.testing.assert_close(decode(points, strides, near / strides[:, None]), boxes)


def test_clipping_keeps_what_is_inside():
    boxes = torch.tensor([[-5.0, 1.0, 7.0, 99.0], [2.0, 2.0, 3.0, 3.0], [60.0, -9.0, 70.0, -1.0]])
    expected = [[0.0, 1.0, 7.0, 20.0], [2.0, 2.0, 3.0, 3.0], [50.0, 0.0, 50.0, 0.0]]
    assert clip(boxes, (20, 50)).tolist() == expected


def test_unusable_heads_are_refused():
    raw = random_raw(0)
    broken = raw._replace(logits=raw.logits.clone().index_fill_(1, torch.tensor([3]), float("nan")))
    with pytest.raises(NonFiniteError, match="logits"):
        postprocess(broken, 0.0, (21, 37))
    with pytest.raises(NonFiniteError, match="regression"):
        postprocess(raw._replace(regression=raw.regression + float("inf")), 0.0, (21, 37))
    with pytest.raises(InputError, match="2 classes"):
        postprocess(raw, torch.zeros(3), (21, 37))
    with pytest.raises(InputError, match="`threshold` is not usable"):
        postprocess(raw, float("nan"), (21, 37))
    with pytest.raises(InputError, match="`nms` is out of range"):
        postprocess(raw, 0.0, (21, 37), nms=1.5)
