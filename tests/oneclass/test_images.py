"""One-class detector of pictures: constant, rounding, radii under attack, files, shapes, sampler, errors."""

import json

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from onelip.core.errors import InputError, IntegrityError
from onelip.oneclass import ImageSignedDistance, certified_auroc, load
from onelip.oneclass.image_attack import attack_scores

OPTIONS = {"widths": (8, 8), "hidden": (16,), "steps": 60, "batch_size": 32, "newton_steps": 4, "eta": 4.0}


def crosses(count, seed=0):
    """Bright crosses on dark ground, (n, 9, 10): neither side is a multiple of 4."""
    random = np.random.RandomState(seed)
    pictures = np.zeros((count, 9, 10))
    pictures[:, 3:6] = 0.8
    pictures[:, :, 4:6] = 0.8
    return np.clip(pictures + 0.1 * random.standard_normal(pictures.shape), 0, 1)


def others(count):
    pictures = crosses(count, 9)
    return np.roll(pictures, 4, axis=1)


@pytest.fixture(scope="module")
def detector():
    return ImageSignedDistance(**OPTIONS, random_state=0).fit(crosses(120))


def test_it_separates_and_its_constant_is_proven(detector):
    normal, odd = crosses(80, 1), others(80)
    scores = detector.score_samples(normal), detector.score_samples(odd)
    auroc = certified_auroc(*scores, [0.0, 0.1], detector.lipschitz_)
    assert auroc[0] > 0.95
    assert 0 < auroc[1] <= auroc[0]
    assert detector.lipschitz_ == pytest.approx(1, abs=1e-4)
    assert detector.margin_ == pytest.approx(0.02 * np.sqrt(90))
    assert detector.scale_.tolist() == [1.0] * 90
    random = np.random.RandomState(0)
    a, b = random.random_sample((2, 300, 9, 10))
    b = a + (b - a) * random.random_sample((300, 1, 1)) ** 4
    rise = np.abs(detector.score_samples(a) - detector.score_samples(b))
    assert (rise <= detector.lipschitz_ * np.linalg.norm((a - b).reshape(300, -1), axis=1) + 1e-9).all()


def test_margin_is_width_times_root_of_dimension_and_negatives_are_lower(detector):
    noise = np.random.RandomState(5).random_sample((50, 9, 10))
    assert detector.score_samples(noise).max() < detector.score_samples(crosses(50, 2)).min()


def test_same_seed_same_fit_and_global_generator_untouched(detector):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    again = ImageSignedDistance(**OPTIONS, random_state=0).fit(crosses(120))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(again.score_samples(others(5)), detector.score_samples(others(5)))
    other = ImageSignedDistance(**{**OPTIONS, "steps": 2}, random_state=1).fit(crosses(120))
    assert not np.array_equal(other.score_samples(others(5)), detector.score_samples(others(5)))


def test_rounding_bound_covers_a_wider_format(detector):
    """Recompute the scores in double-double-like precision: exact convolution by fractions of numpy longdouble."""
    x = np.concatenate((crosses(6, 3), others(6)))
    found, state = detector.score_samples(x), {k: v.numpy() for k, v in detector.model_.state_dict().items()}
    weights = [(k, v.astype(np.longdouble)) for k, v in state.items() if k.endswith("weight")]
    biases = [v.astype(np.longdouble) for k, v in state.items() if k.endswith("bias")]
    assert len(weights) == len(biases) == 4
    h = np.zeros((12, 1, 12, 12), dtype=np.longdouble)
    h[:, 0, :9, :10] = x
    for (name, w), b in zip(weights, biases, strict=True):
        if name.startswith("encoder"):
            padded = np.pad(h, ((0, 0), (0, 0), (1, 1), (1, 1)))
            size = h.shape[2] // 2
            out = np.zeros((12, len(w), size, size), dtype=np.longdouble)
            for i in range(3):
                for j in range(3):
                    part = padded[:, :, i : i + 2 * size : 2, j : j + 2 * size : 2]
                    out += np.einsum("bchw,oc->bohw", part, w[:, :, i, j])
            h = out + b[:, None, None]
        else:
            h = h.reshape(12, -1) @ w.T + b
        if len(w) > 1:
            first, second = np.split(h, 2, axis=1)
            h = np.concatenate((np.maximum(first, second), np.minimum(first, second)), axis=1)
    norms = np.linalg.norm(x.reshape(12, -1), axis=1)
    error = np.abs(found - h[:, 0]).astype(float)
    assert (error <= detector._error(norms)).all()
    assert detector._error(norms).max() < 1e-9


def test_attacks_stay_within_what_is_proven(detector):
    normal, odd = crosses(30, 4), others(30)
    eps = [0.0, 0.05, 0.2, 0.6]
    down = attack_scores(detector, normal, eps, up=False, steps=8, restarts=2)
    up = attack_scores(detector, odd, eps, up=True, steps=8, restarts=2)
    assert np.array_equal(down[0], detector.score_samples(normal))
    assert (np.diff(down, axis=0) <= 0).all()
    assert (np.diff(up, axis=0) >= 0).all()
    reach = detector.lipschitz_ * np.array(eps)[:, None] + 1e-9
    assert (down[0] - down <= reach).all()
    assert (up - up[0] <= reach).all()
    # and it is a real attack: most of the budget is used
    assert (down[0] - down[2]).mean() > 0.1
    clean, *proven = certified_auroc(down[0], up[0], eps, detector.lipschitz_)
    for n, a, least in zip(down[1:], up[1:], proven, strict=True):
        assert clean >= certified_auroc(n, a, 0.0)[0] >= least


def test_radius_holds_against_the_attack(detector):
    x = np.concatenate((crosses(10, 6), others(10)))
    radius, answer = detector.certified_radius(x), detector.predict(x)
    assert radius.min() >= 0
    assert radius.mean() > 0.1
    assert np.array_equal(detector.certified_radius(x, "raw") <= radius, np.ones(20, bool))
    for picture, r, said in zip(x, radius, answer, strict=True):
        worst = attack_scores(detector, picture[None], r, up=said < 0, steps=10, restarts=1)
        assert (worst[0, 0] >= detector.offset_) == (said > 0)


def test_shapes_mean_the_same(detector):
    x = crosses(5, 7)
    assert np.array_equal(detector.score_samples(x), detector.score_samples(x[:, None]))
    assert np.array_equal(detector.score_samples(x), detector.score_samples(x.reshape(5, -1)))
    flat = ImageSignedDistance(**{**OPTIONS, "steps": 1}, image_size=(1, 9, 10), random_state=0).fit(
        x.reshape(5, -1)
    )
    assert flat.image_size_ == (1, 9, 10)
    colour = ImageSignedDistance(**{**OPTIONS, "steps": 1}, random_state=0).fit(np.stack([x] * 3, axis=1))
    assert colour.gradient(np.stack([x] * 3, axis=1)).shape == (5, 3, 9, 10)


def test_gradient_is_that_of_the_score(detector):
    x = others(4)
    g = detector.gradient(x)[:, 0]
    way = np.random.RandomState(0).standard_normal(x.shape)
    way /= np.linalg.norm(way.reshape(4, -1), axis=1)[:, None, None]
    inner = x * 0.98 + 0.01
    g = detector.gradient(inner)[:, 0]
    rise = (detector.score_samples(inner + 1e-6 * way) - detector.score_samples(inner - 1e-6 * way)) / 2e-6
    np.testing.assert_allclose((g * way).sum((1, 2)), rise, atol=1e-5)


def test_following_the_score_reaches_the_level(detector):
    noise = np.random.RandomState(1).random_sample((6, 9, 10))
    drawn = detector.follow(noise, steps=60)
    assert drawn.shape == (6, 1, 9, 10)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    before, after = detector.score_samples(noise), detector.score_samples(drawn)
    assert (after > before).all()
    assert np.abs(after - detector.offset_).max() < 0.2 * np.abs(before - detector.offset_).max()
    # what is at the level already stays
    assert np.array_equal(detector.follow(crosses(3, 8), level=-100.0)[:, 0], crosses(3, 8))


def test_files(tmp_path, detector):
    detector.save(tmp_path / "a")
    back = load(tmp_path / "a")
    x = others(7)
    assert isinstance(back, ImageSignedDistance)
    assert np.array_equal(back.score_samples(x), detector.score_samples(x))
    assert np.array_equal(back.certified_radius(x), detector.certified_radius(x))
    assert back.image_size_ == detector.image_size_
    raw = bytearray((tmp_path / "a" / "detector.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "a" / "detector.safetensors").write_bytes(raw)
    with pytest.raises(IntegrityError):
        load(tmp_path / "a")
    detector.save(tmp_path / "b")
    record = json.loads((tmp_path / "b" / "detector.json").read_text())
    record["detector"]["lipschitz"] = 0.5
    (tmp_path / "b" / "detector.json").write_text(json.dumps(record))
    with pytest.raises(IntegrityError):
        load(tmp_path / "b")


def test_refusals(detector):
    x = crosses(5)
    small = {**OPTIONS, "steps": 1}
    with pytest.raises(InputError, match=r"outside of \[0, 1\]"):
        ImageSignedDistance(**small).fit(x * 255)
    with pytest.raises(InputError, match="size of the pictures is not known"):
        ImageSignedDistance(**small).fit(x.reshape(5, -1))
    with pytest.raises(InputError, match="another size"):
        detector.score_samples(x[:, :8])
    with pytest.raises(InputError, match="another size"):
        ImageSignedDistance(**small, image_size=(1, 8, 8)).fit(x)
    with pytest.raises(InputError, match="no size of pictures"):
        ImageSignedDistance(**small, image_size=(9, 10)).fit(x)
    with pytest.raises(InputError, match="even numbers"):
        ImageSignedDistance(**{**small, "widths": (7,)}).fit(x)
    with pytest.raises(ValueError, match="NaN"):
        ImageSignedDistance(**small).fit(np.where(x > 0.5, np.nan, x))
    with pytest.raises(ValueError, match="prior"):
        ImageSignedDistance(**small, prior="gauss").fit(x)
    with pytest.raises(NotFittedError):
        ImageSignedDistance().score_samples(x)
    with pytest.raises(InputError, match="eps"):
        attack_scores(detector, x, -1.0, up=True)
