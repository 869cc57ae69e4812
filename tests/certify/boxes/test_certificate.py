"""The certificate: shapes, what it says by hand, what it refuses and with which words, caps, files, pictures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from onelip.certify import DetectionCurves, detection_from_raw
from onelip.certify.boxes.picture import support_map, worst_boxes
from onelip.core.errors import DataError, InputError, NonFiniteError
from onelip.models.decoding import locations
from onelip.models.detection import Raw

SIZE = (32, 48)
BOXES = torch.tensor([[4.0, 4.0, 20.0, 20.0], [26.0, 8.0, 44.0, 28.0]])


def raw(seed=0, images=2, classes=2):
    generator = torch.Generator().manual_seed(seed)
    points, strides = locations(SIZE, (4, 8))
    logits = -1.0 + 0.3 * torch.rand(images, len(points), classes, generator=generator, dtype=torch.float64)
    sides = 2.0 * torch.rand(images, len(points), 4, generator=generator, dtype=torch.float64)
    for g, box in enumerate(BOXES.double()):
        distance = torch.cat([points - box[:2], box[2:] - points], 1)
        inside = distance.amin(1) > 0
        wobble = 1.0 + 0.03 * torch.randn(int(inside.sum()), 4, generator=generator, dtype=torch.float64)
        sides[0, inside] = distance[inside] / strides[inside, None] * wobble
        near = inside & (distance.amin(1) > 5)
        logits[0, near, g % classes] = 0.2 + torch.rand(
            int(near.sum()), generator=generator, dtype=torch.float64
        )
    return Raw(logits, sides, points, strides)


def targets(images=2):
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return [{"boxes": BOXES, "labels": torch.tensor([0, 1])}, *([empty] * (images - 1))]


def certify(kappa=0.2, given=True, **options):
    options = {"size": SIZE, "lipschitz": 1.0, "temperature": 0.2} | options
    return detection_from_raw(raw(), targets() if given else None, kappa=kappa, **options)


@pytest.mark.parametrize("kappa", [0.2, None])
def test_shapes_and_directions(kappa):
    c = certify(kappa)
    eps = [0.0, 0.2, 3.0]
    assert c.new_detections(eps).shape == (3, 2)
    assert c.new_detections(eps).dtype == torch.int64
    assert c.silent_radius.shape == c.cap_radius.shape == (2,)
    assert c.presence_radius.shape == (2, 2)
    for radii in (c.vanish_radius, c.label_radius, c.mislabel_radius, c.location_radius):
        assert [r.shape for r in radii] == [(2,), (0,)]
        assert all((r >= 0).all() for r in radii)
    for values in (c.found(eps), c.alarms(eps), c.reported(eps)):
        assert values.shape == (3, 2)
    assert c.recall(eps).shape == c.recall(0.1).expand(3).shape
    assert float(c.recall(0.0)) == 1.0 > float(c.recall(50.0).nan_to_num(0.0))
    assert (c.found(eps)[:, 1].nan_to_num(0.0) == 0).all()
    # What fires in an image without objects is false.
    assert torch.equal(c.alarms(eps)[:, 1].nan_to_num(-1.0), c.reported(eps)[:, 1].nan_to_num(-1.0))


def test_radii_and_values_tell_the_same_story():
    for kappa in (0.2, None):
        c = certify(kappa)
        for g in range(2):
            radius = float(c.vanish_radius[0][g])
            assert radius > 0.1
            assert float(c.found([radius * (1 - 1e-9)])[0, 0]) == 2.0 or radius > float(
                c.vanish_radius[0].min()
            )
        least = float(c.vanish_radius[0].min())
        assert float(c.recall([least])) == 1.0
        assert float(c.recall([least + 1e-5])) == 0.5
        silent = float(c.silent_radius[0])
        assert c.new_detections([silent, silent + 1e-5])[:, 0].tolist() == [0, 1]
        calm = float(c.alarm_radius[0])
        assert calm >= silent
        assert c.new_detections([calm, calm + 1e-5], outside=True)[:, 0].tolist() == [0, 1]
    assert all(
        (a <= b).all() for a, b in zip(certify(0.2).vanish_radius, certify(None).location_radius, strict=True)
    )
    assert (c.label_radius[0] <= c.mislabel_radius[0]).all()


def test_a_larger_constant_scales_everything():
    one, two = certify(), certify(lipschitz=2.0)
    for name in ("silent_radius", "presence_radius"):
        torch.testing.assert_close(getattr(two, name), getattr(one, name) / 2, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(two.vanish_radius[0], one.vanish_radius[0] / 2, rtol=1e-6, atol=1e-9)


def test_rounding_is_added_to_eps_and_taken_from_radii():
    exact, rough = certify(), certify(rounding=0.01)
    torch.testing.assert_close(rough.silent_radius, exact.silent_radius - 0.01)
    torch.testing.assert_close(rough.vanish_radius[0], exact.vanish_radius[0] - 0.01)
    eps = float(exact.silent_radius[0])
    assert rough.new_detections([eps - 0.005])[0, 0] == 1 > exact.new_detections([eps - 0.005])[0, 0]


def test_presence_is_the_cost_of_silence():
    c = certify(None)
    margins = (c.raw.logits - c.theta).clamp_min(0).square().sum(1).sqrt()
    torch.testing.assert_close(c.presence_radius, margins, rtol=1e-6, atol=1e-6)


def test_outside_counts_only_strangers():
    c = certify(None)
    everywhere, outside = c.new_detections([0.9, 9.0]), c.new_detections([0.9, 9.0], outside=True)
    assert (outside <= everywhere).all()
    assert (outside < everywhere).any()
    assert torch.equal(outside[:, 1], everywhere[:, 1])


def test_a_smaller_region_holds_less():
    whole, half = certify(None), certify(None, inside=0.5)
    assert (half.vanish_radius[0] <= whole.vanish_radius[0]).all()
    assert (half.vanish_radius[0] > 0).all()


def test_a_free_regression_refuses_what_needs_boxes():
    c = certify(None)
    for call in (c.precision, c.average_precision):
        with pytest.raises(
            InputError, match=r"cannot be certified.*free.*lipschitz.*no IoU is certain.*to fix"
        ):
            call([0.1])
    assert "locations" in " ".join(c.assumptions)


def test_another_order_refuses_average_precision_alone():
    c = certify(by_logit=False)
    with pytest.raises(InputError, match=r"centre-ness orders.*lower score may suppress.*centerness=False"):
        c.average_precision([0.1])
    assert c.recall([0.0]).shape == c.precision([0.0]).shape == (1,)
    assert (c.vanish_radius[0] <= certify().vanish_radius[0] + 1e-9).all()


def test_without_targets_only_what_needs_none():
    c = certify(given=False)
    assert c.new_detections([0.1]).shape == c.reported([0.1]).shape == (1, 2)
    for call in (c.recall, c.precision, c.average_precision, c.found, c.alarms):
        with pytest.raises(InputError, match=r"needs targets.*\(0, 4\)"):
            call([0.1])
    for name in ("vanish_radius", "label_radius", "mislabel_radius", "location_radius"):
        with pytest.raises(InputError, match="needs targets"):
            getattr(c, name)
    with pytest.raises(InputError, match="needs targets"):
        DetectionCurves([0.1]).update(c)


def test_caps_that_could_bind_certify_nothing():
    free = certify(per_image=None, per_level=None)
    assert free.cap_radius.tolist() == [math.inf, math.inf]
    candidates = [int((z > free.theta).sum()) for z in free.raw.logits]
    fine = certify(per_level=candidates[0] + 2, per_image=None)
    assert math.inf > float(fine.cap_radius[0]) > 0
    eps = float(fine.cap_radius[0])
    assert fine.recall([eps * (1 - 1e-6), eps * 1.01]).isnan().tolist() == [False, True]
    assert (fine.vanish_radius[0] <= eps).all()
    assert fine.notes() == ()
    assert "at eps 9" in fine.notes(9.0)[0]
    tight = certify(per_level=3)
    assert tight.cap_radius.tolist()[0] == 0.0
    assert tight.vanish_radius[0].isnan().all()
    assert tight.recall([0.0]).isnan().all()
    assert tight.precision([0.0]).isnan().all()
    assert "not certified at eps 0: in images [0]" in tight.notes()[0]
    one = certify(per_image=1)
    assert one.cap_radius.tolist()[0] == 0.0
    assert one.reported([0.0])[:, 0].isnan().all()
    assert certify(None, per_image=1).cap_radius.tolist() == [math.inf, math.inf]  # about locations


def test_capped_images_count_as_lost_in_a_data_set():
    curves = DetectionCurves([0.0, 0.1], [0.1, 0.5])
    curves.update(certify(per_level=3))
    found = curves.compute()
    assert found.capped[:, 0].min() >= 1
    assert found.recall.max() == 0.0
    assert found.sheets[0].found.isnan().all()
    assert not found.sheets[1].alarms.isnan().all()


BAD_TARGETS = [
    ([{"boxes": BOXES, "labels": torch.tensor([0, 1])}], r"does not fit the images.*1 entries.*2 dicts"),
    ({"boxes": BOXES, "labels": torch.tensor([0, 1])}, "does not fit the images"),
    ("box", r"targets\[0\]` is no target.*boxes \(G, 4\)"),
    ({"boxes": BOXES}, "is no target"),
    ({"boxes": BOXES[0], "labels": torch.tensor([0, 1])}, "is no target.*(0, 4)"),
    ({"boxes": BOXES, "labels": torch.tensor([0])}, "is no target"),
    ({"boxes": BOXES, "labels": torch.tensor([0.0, 1.0])}, "wrong type.*int64"),
    ({"boxes": BOXES, "labels": torch.tensor([0, 2])}, r"outside the classes.*\[2\].*0..1"),
    ({"boxes": BOXES, "labels": torch.tensor([-1, 0])}, "outside the classes"),
    ({"boxes": BOXES.flip(1), "labels": torch.tensor([0, 1])}, "without area.*x1 < x2.*to fix"),
    ({"boxes": BOXES + 10, "labels": torch.tensor([0, 1])}, "outside the image.*clip"),
    ({"boxes": BOXES * math.nan, "labels": torch.tensor([0, 1])}, "not finite"),
]


@pytest.mark.parametrize(("target", "text"), BAD_TARGETS)
def test_bad_targets(target, text):
    given = target if isinstance(target, list) or "does not fit" in text else [target, targets()[1]]
    with pytest.raises(InputError, match=text):
        detection_from_raw(raw(), given, size=SIZE, lipschitz=1.0)


def with_(**changes):
    return raw()._replace(**changes)


@pytest.mark.parametrize(
    ("heads", "options", "text"),
    [
        (with_(logits=raw().logits[0]), {}, "wrong shapes"),
        (with_(regression=raw().regression[:, :3]), {}, "wrong shapes"),
        (with_(regression=-raw().regression), {}, "negative distances.*relu"),
        (with_(strides=0 * raw().strides), {}, "strides that are not positive"),
        (with_(logits=raw().logits * math.nan), {}, "not finite"),
        (with_(logits=raw().logits * 1e150), {}, "too large"),
        (raw(), {"threshold": 0.0}, "threshold.*out of range"),
        (raw(), {"threshold": 1.0}, "strictly between"),
        (raw(), {"threshold": math.nan}, "threshold"),
        (raw(), {"lipschitz": 0.0}, "zero"),
        (raw(), {"lipschitz": -1.0}, "out of range"),
        (raw(), {"kappa": 0.0}, "kappa"),
        (raw(), {"nms": 1.5}, "nms"),
        (raw(), {"temperature": 0.0}, "temperature"),
        (raw(), {"inside": 0.0}, "inside"),
        (raw(), {"per_level": 0}, "per_level"),
        (raw(), {"size": (32,)}, "size"),
    ],
)
def test_bad_heads_and_options(heads, options, text):
    with pytest.raises((InputError, NonFiniteError), match=text):
        detection_from_raw(heads, targets(), **({"size": SIZE, "lipschitz": 1.0} | options))


def test_bad_arguments_of_methods():
    c = certify()
    for call in (c.recall, c.precision, c.found, c.average_precision, c.vanish_radii):
        with pytest.raises(InputError, match="iou"):
            call(iou=0.0) if call == c.vanish_radii else call([0.1], iou=1.0)
    with pytest.raises(InputError, match="eps"):
        c.recall([-0.1])
    with pytest.raises(InputError, match="thresholds"):
        c.average_precision([0.1], thresholds=[1.0])
    with pytest.raises(InputError, match="interpolation"):
        c.average_precision([0.1], interpolation="11")
    with pytest.raises(InputError, match="index"):
        c.figure(2)
    for options in ({"thresholds": []}, {"thresholds": [0.0]}, {"iou": 0.0}, {"alarms": [-1]}):
        with pytest.raises(InputError):
            DetectionCurves([0.1], **options)
    with pytest.raises(InputError, match="no image"):
        DetectionCurves([0.1]).compute()


def test_average_precision_of_a_batch():
    c = certify()
    eps = [0.0, 0.1, 0.3]
    plain, coco = c.average_precision(eps), c.average_precision(eps, interpolation="101")
    assert float(plain[0]) == pytest.approx(1.0, abs=0.01)
    assert (plain.diff() <= 0).all()
    assert float((plain - coco).abs().max()) < 0.05
    # One threshold alone is a smaller bound, and more never hurt.
    few = c.average_precision(eps, thresholds=[0.5])
    assert (few <= c.average_precision(eps, thresholds=[0.3, 0.5, 0.7]) + 1e-12).all()
    mean = c.average_precision(eps, [0.5, 0.75], thresholds=[0.5])
    each = torch.stack([c.average_precision(eps, level, thresholds=[0.5]) for level in (0.5, 0.75)])
    torch.testing.assert_close(mean, each.mean(0))
    nobody = detection_from_raw(raw(), [targets()[1]] * 2, size=SIZE, lipschitz=1.0, kappa=0.2)
    assert nobody.average_precision(eps).isnan().all()
    assert nobody.recall(eps).isnan().all()


def test_curves_pool_batches_and_merge():
    eps, scores = [0.0, 0.2], [0.2, 0.5, 0.7]
    whole, parts = DetectionCurves(eps, scores), [DetectionCurves(eps, scores) for _ in range(2)]
    whole.update(certify())
    heads = raw()
    for i, part in enumerate(parts):
        one = heads._replace(logits=heads.logits[i : i + 1], regression=heads.regression[i : i + 1])
        part.update(
            detection_from_raw(
                one, targets()[i : i + 1], size=SIZE, lipschitz=1.0, kappa=0.2, temperature=0.2
            )
        )
    parts[0].merge(parts[1:])
    first, second = whole.compute(), parts[0].compute()
    for name in ("recall", "precision", "average_precision", "recall_allowed", "quiet", "clean_recall"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name), equal_nan=True)
    assert (first.images, first.objects, len(first.sheets)) == (2, 2, 2)
    text = json.dumps(first.to_dict(), allow_nan=False)
    assert json.loads(text)["recall"] == first.recall.tolist()
    assert "AP: clean 1.0000" in repr(first)
    value, threshold = first.best(1)
    assert (value >= first.recall_allowed[1][first.at(0.5)]).all()
    assert set(threshold.tolist()) <= set(scores)
    with pytest.raises(InputError, match="options differ"):
        whole.merge([DetectionCurves([0.1], scores)])
    with pytest.raises(InputError, match="another kind of detector"):
        whole.update(certify(None))


def test_curves_of_a_free_regression_speak_of_locations():
    curves = DetectionCurves([0.0, 0.2], [0.2, 0.5])
    curves.update(certify(None))
    found = curves.compute()
    assert found.free
    assert found.precision is found.average_precision is found.clean_average_precision is None
    assert found.recall[1, 0] == found.clean_recall[1] == 1.0
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["precision"] is None


def test_allowed_alarms_count_objects_of_quiet_images_alone():
    c = certify()
    eps = torch.tensor([0.0, float(c.silent_radius[0]) + 0.05])
    curves = DetectionCurves(eps, [0.5], alarms=(0, 1, 50))
    curves.update(c)
    found = curves.compute()
    alarms, kept = c.alarms(eps), c.found(eps)
    for a, allowed in enumerate((0, 1, 50)):
        expected = ((alarms <= allowed) * kept).sum(1) / 2
        assert torch.equal(found.recall_allowed[a, 0], expected)
        assert torch.equal(found.quiet[a, 0], (alarms <= allowed).double().mean(1))
    assert float(found.recall_allowed[0, 0, 1]) < float(found.recall_allowed[2, 0, 1])


def test_saved_and_shown(tmp_path, capsys):
    c = certify()
    c.save(tmp_path / "c")
    stored = json.loads((tmp_path / "c" / "certificate.json").read_text())
    assert stored == json.loads(json.dumps(c.to_dict(), allow_nan=False))
    assert stored["regression"] == "lipschitz"
    assert stored["vanish_radius"] == [c.vanish_radius[0].tolist(), []]
    arrays = np.load(tmp_path / "c" / "arrays.npz")
    assert arrays["object_image"].tolist() == [0, 0]
    assert arrays["logits"].shape == c.raw.logits.shape
    c.show()
    shown = capsys.readouterr().out
    assert "2 objects; found at IoU 0.5 within" in shown
    assert "the ball is closed" in shown
    free = certify(None)
    assert "a location fires within" in repr(free)
    json.dumps(free.to_dict(), allow_nan=False)
    json.dumps(certify(None, given=False).to_dict(), allow_nan=False)


@pytest.mark.parametrize("kappa", [0.2, None])
def test_pictures(kappa):
    c = certify(kappa, images=torch.rand(2, 3, *SIZE, dtype=torch.float64))
    figure = c.figure(0, 0.2, names=["runway", "car"])
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert any(t.startswith("runway: r = ") for t in texts)
    kept = int((c.vanish_radius[0] >= 0.2).sum())
    assert figure.axes[0].get_title() == f"{kept} of 2 objects certified at eps 0.2"
    dotted = [p for p in figure.axes[2].patches if p.get_linestyle() == ":"]
    assert len(dotted) == (2 * len(c.detections[0]["labels"]) if kappa else 0)
    c.figure(1)
    certify(kappa, given=False).figure(0)
    assert "<img" in c._repr_html_()


def test_the_support_map_holds_one_share_for_each_object():
    for kappa in (0.2, None):
        shares = support_map(certify(kappa), 0)
        cells = shares > 0
        assert cells.any()
        assert shares.max() <= 2.0
        y, x = cells.nonzero(as_tuple=True)
        inside = [(x >= b[0] - 4) & (x <= b[2] + 4) & (y >= b[1] - 4) & (y <= b[3] + 4) for b in BOXES]
        assert (inside[0] | inside[1]).all()


def test_worst_boxes_hold_every_movement_within_eps():
    c = certify(0.5)
    inner, outer = worst_boxes(c, 0, 0.3)
    boxes = c.detections[0]["boxes"]
    assert len(boxes) == len(inner) >= 2
    assert (outer[:, :2] <= boxes[:, :2]).all()
    assert (boxes[:, 2:] <= outer[:, 2:]).all()
    assert (inner[:, :2] >= boxes[:, :2]).all()
    moved = (outer - boxes).abs().amax(1) / torch.tensor([4.0, 8.0]).max()
    assert (moved <= 0.5 * 0.3 + 1e-6).all()


@pytest.mark.parametrize("kappa", [None, 0.2])
def test_curves_of_a_file_are_those_that_were_saved(tmp_path, kappa):
    curves = DetectionCurves([0.0, 0.2], [0.2, 0.5], iou=0.6, alarms=(0, 3))
    curves.save(tmp_path / "empty.npz")
    curves.update(certify(kappa))
    curves.save(tmp_path / "one.npz")
    again = DetectionCurves.load(tmp_path / "one.npz")
    assert again.compute().to_dict() == curves.compute().to_dict()
    both = DetectionCurves.load(tmp_path / "empty.npz")
    both.merge([again, curves])
    assert both.compute().images == 2 * curves.compute().images
    torch.testing.assert_close(both.compute().recall, curves.compute().recall)
    (tmp_path / "torn.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:900])
    for name in ("torn.npz", "nothing.npz"):
        with pytest.raises(DataError, match="holds no certified curves"):
            DetectionCurves.load(tmp_path / name)
