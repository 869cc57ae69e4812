"""No perturbation within a radius changes an answer; the proven constants are never exceeded."""

import math

import numpy as np
import pytest
import torch
from sklearn.svm import OneClassSVM

from onelip.oneclass import CertifiedEnsemble, CertifiedKNN, CertifiedOCSVM, SignedDistance


def small(**options):
    return SignedDistance(**{"steps": 60, "width": 16, "depth": 2, "random_state": 0, **options})


def makers():
    return {
        "network": small(),
        "knn": CertifiedKNN(3),
        "kth": CertifiedKNN(2, method="largest"),
        "svm": CertifiedOCSVM(0.2),
        "mean": CertifiedEnsemble([small(), CertifiedKNN(2)], random_state=0),
        "min": CertifiedEnsemble([CertifiedKNN(2), CertifiedOCSVM()], "min", weights=[0.5, 4.0]),
        "max": CertifiedEnsemble([CertifiedKNN(1), CertifiedKNN(9)], "max", weights=[2.0, 1.0]),
    }


def cloud(d, n=60, seed=0):
    random = np.random.RandomState(seed)
    return random.normal(size=(n, d)) * np.linspace(0.5, 3, d) + 5


def targets(X, seed=1):
    """Rows inside, at and beyond the border."""
    random = np.random.RandomState(seed)
    return X.mean(0) + random.normal(size=(40, X.shape[1])) * X.std(0) * random.uniform(0.2, 3, size=(40, 1))


@pytest.mark.parametrize("name", makers())
@pytest.mark.parametrize("units", ["standardized", "raw"])
def test_brute_force_in_the_plane(name, units):
    X = cloud(2)
    detector = makers()[name].fit(X)
    T = targets(X)
    radii = detector.certified_radius(T, units)
    answers = detector.predict(T)
    assert {-1, 1} == set(answers)
    assert np.median(radii) > 0.01
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    circle = np.stack((np.cos(angles), np.sin(angles)), 1)
    for share in (0.5, 0.9, 1.0):
        moves = share * radii[:, None, None] * circle
        if units == "standardized":
            moves = moves * detector.scale_
        moved = detector.predict((T[:, None] + moves).reshape(-1, 2)).reshape(len(T), -1)
        assert (moved == answers[:, None]).all()


@pytest.mark.parametrize("name", makers())
def test_brute_force_on_the_line(name):
    X = cloud(1)
    detector = makers()[name].fit(X)
    T = targets(X)
    radii, answers = detector.certified_radius(T), detector.predict(T)
    grid = np.linspace(X.min() - 10, X.max() + 10, 20001)
    flips = np.abs(grid[None] - T) / detector.scale_
    flips[detector.predict(grid[:, None])[None] == answers[:, None]] = np.inf
    nearest = flips.min(axis=1)
    assert np.isfinite(nearest).any()
    assert (radii < nearest).all()


@pytest.mark.parametrize("name", ["knn", "kth"])
def test_radii_of_distances_are_tight_on_the_line(name):
    # beyond the last training row the score falls with slope 1: the radius is the distance to the border
    detector = makers()[name].fit(cloud(1))
    x = detector.rows_.max() + 4.0
    low, high = detector.rows_.max(), x
    for _ in range(80):
        middle = (low + high) / 2
        inside = detector.predict([[middle * detector.scale_[0] + detector.mean_[0]]])[0] == 1
        low, high = (middle, high) if inside else (low, middle)
    radius = detector.certified_radius([[x * detector.scale_[0] + detector.mean_[0]]])[0]
    assert radius == pytest.approx(x - low, abs=1e-9)


def test_gradient_attack_on_the_network():
    X = cloud(6, 120)
    detector = small(steps=150, width=32).fit(X)
    T = targets(X)
    Z = torch.from_numpy((T - detector.mean_) / detector.scale_)
    radii = torch.from_numpy(detector.certified_radius(T))[:, None]
    answers = detector.predict(T)
    sign = torch.from_numpy(-answers.astype(float))
    module = detector.module()
    worst = None
    for restart in range(3):
        delta = torch.from_numpy(np.random.RandomState(restart).normal(size=Z.shape))
        delta = delta / delta.norm(dim=1, keepdim=True) * radii * (restart > 0)
        for _ in range(30):
            delta.requires_grad_()
            (grad,) = torch.autograd.grad((sign * module(Z + delta)[:, 0]).sum(), delta)
            step = grad / grad.norm(dim=1, keepdim=True).clamp_min(1e-12) * radii * 0.25
            delta = (delta + step).detach()
            delta = delta * (radii / delta.norm(dim=1, keepdim=True).clamp_min(1e-300)).clamp_max(1.0)
        moved = T + delta.numpy() * detector.scale_
        assert (detector.predict(moved) == answers).all()
        change = np.abs(detector.score_samples(moved) - detector.score_samples(T)) / radii.numpy()[:, 0]
        worst = change if worst is None else np.maximum(worst, change)
    assert (worst <= detector.lipschitz_ * (1 + 1e-9)).all()
    assert worst.max() > 0.4  # a real attack: it uses a good part of what the constant allows


def svm_gradient(detector, Z):
    away = Z[:, None] - detector.support_vectors_
    kernel = np.exp(-detector.gamma_ * (away**2).sum(2)) * detector.coefficients_
    return -2 * detector.gamma_ * (kernel[:, :, None] * away).sum(1)


def knn_gradient(detector, Z):
    away = Z[:, None] - detector.rows_
    far = np.sqrt((away**2).sum(2))
    near = np.argsort(far, axis=1)[:, : detector.k]
    units = np.take_along_axis(away / far[:, :, None], near[:, :, None], 1)
    return -(units.mean(1) if detector.method == "mean" else units[:, -1])


@pytest.mark.parametrize("name", ["knn", "kth", "svm"])
@pytest.mark.parametrize("d", [3, 20])
def test_attack_along_the_gradient(name, d):
    X = cloud(d)
    detector = makers()[name].fit(X)
    T = targets(X)
    radii, answers = detector.certified_radius(T), detector.predict(T)
    Z = (T - detector.mean_) / detector.scale_
    gradient = svm_gradient if name == "svm" else knn_gradient
    random = np.random.RandomState(2)
    for trial in range(20):
        if trial < 5:
            moved = Z.copy()
            for _ in range(5):
                g = gradient(detector, moved) * -answers[:, None]
                moved = moved + g / np.linalg.norm(g, axis=1, keepdims=True) * radii[:, None] / 5
        else:
            g = random.normal(size=Z.shape)
            moved = Z + g / np.linalg.norm(g, axis=1, keepdims=True) * radii[:, None] * (1 - 1e-12)
        raw = moved * detector.scale_ + detector.mean_
        assert (detector.predict(raw) == answers).all()


@pytest.mark.parametrize("name", makers())
def test_slopes_never_exceed_the_constant(name):
    X = cloud(4)
    detector = makers()[name].fit(X)
    random = np.random.RandomState(3)
    A = targets(X, 4)
    for size in (1e-3, 0.3, 5.0):
        B = A + random.normal(size=A.shape) * size
        way = np.linalg.norm((A - B) / detector.scale_, axis=1)
        slopes = np.abs(detector.score_samples(A) - detector.score_samples(B)) / way
        assert slopes.max() <= detector.lipschitz_ * (1 + 1e-8)


def test_budgets_of_single_features_and_certified_answers():
    X = cloud(3)
    detector = CertifiedKNN().fit(X)
    T = targets(X)
    budgets, answers = detector.feature_budgets(T), detector.predict(T)
    for j in range(3):
        for sign in (-1, 1):
            moved = T.copy()
            moved[:, j] += sign * budgets[:, j]
            assert (detector.predict(moved) == answers).all()
    radii = detector.certified_radius(T)
    eps = float(np.median(radii))
    sure = detector.certified_predict(T, eps)
    assert np.array_equal(sure != 0, radii >= eps)
    assert np.array_equal(sure[sure != 0], answers[sure != 0])
    assert np.array_equal(detector.certified_predict(T, 0.0), answers)
    np.testing.assert_allclose(detector.certified_radius(T, "raw"), radii * detector.scale_.min(), rtol=1e-12)


def test_a_row_at_the_offset_has_no_radius():
    detector = CertifiedKNN(1, standardize=False).fit([[0.0], [1.0], [2.0]])
    detector.offset_ = -0.25
    assert detector.predict([[2.25]]).tolist() == [1]
    assert detector.certified_radius([[2.25]]).tolist() == [0.0]
    radius = detector.certified_radius([[3.25], [2.0]])
    assert radius == pytest.approx([1.0, 0.25])
    assert (radius < [1.0, 0.25]).all()


@pytest.mark.parametrize("name", makers())
def test_rounding_is_bounded(name):
    """The float64 score against the same formula in 60 digits."""
    from decimal import Decimal, getcontext

    getcontext().prec = 60
    X = cloud(2, 8) * 1e3
    detector = makers()[name].fit(X)
    T = np.concatenate((targets(X)[:4], X[:2], [[1e9, -1e9]]))
    norms = np.linalg.norm((T - detector.mean_) / detector.scale_, axis=1)
    error = detector._error(norms * (1 + 1e-9))
    assert (error > 0).all()
    assert (error[:6] < 1e-11).all()

    def exact_product(row, z):
        return sum(Decimal(w) * v for w, v in zip(row, z, strict=True))

    def exact(model, z):
        if isinstance(model, CertifiedEnsemble):
            parts = [Decimal(w) * exact(m, z) for w, m in zip(model._weights, model.estimators_, strict=True)]
            return {"mean": sum(parts) / len(parts), "min": min(parts), "max": max(parts)}[model.how]
        if isinstance(model, SignedDistance):
            layers = list(zip(model.network_.weights, model.network_.biases, strict=True))
            for i, (W, b) in enumerate(layers):
                z = [exact_product(row, z) + Decimal(c) for row, c in zip(W, b, strict=True)]
                if i < len(layers) - 1:
                    pairs = list(zip(z[: len(z) // 2], z[len(z) // 2 :], strict=True))
                    z = [max(pair) for pair in pairs] + [min(pair) for pair in pairs]
            return z[0]
        knn = isinstance(model, CertifiedKNN)
        squares = [
            sum((v - Decimal(w)) ** 2 for v, w in zip(z, row, strict=True))
            for row in (model.rows_ if knn else model.support_vectors_)
        ]
        if knn:
            near = sorted(squares)[: model.k]
            roots = [s.sqrt() for s in near]
            return -(sum(roots) / len(roots) if model.method == "mean" else roots[-1])
        gamma = Decimal(model.gamma_)
        return sum(Decimal(a) * (-gamma * s).exp() for a, s in zip(model.coefficients_, squares, strict=True))

    for x, computed, bound in zip(T, detector.score_samples(T), error, strict=True):
        z = [
            (Decimal(v) - Decimal(m)) / Decimal(s)
            for v, m, s in zip(x, detector.mean_, detector.scale_, strict=True)
        ]
        assert abs(Decimal(computed) - exact(detector, z)) <= Decimal(bound)


def test_constants():
    X = cloud(3)
    network = small().fit(X)
    assert 1 - 1e-6 < network.lipschitz_ < 1 + 1e-6
    for weight in network.network_.weights:
        assert np.linalg.norm(weight, 2) <= 1 + 1e-12
    assert CertifiedKNN().fit(X).lipschitz_ == 1.0
    svm = CertifiedOCSVM(0.3, 0.7).fit(X)
    assert svm.lipschitz_ == pytest.approx(math.sqrt(2 * 0.7 / math.e), rel=1e-9)
    assert svm.lipschitz_ >= math.sqrt(2 * 0.7 / math.e) * math.fsum(svm.coefficients_)
    mean = CertifiedEnsemble([CertifiedKNN(), CertifiedOCSVM(0.3, 0.7)], weights=[1.0, 3.0]).fit(X)
    assert mean.lipschitz_ == pytest.approx((1 + 3 * svm.lipschitz_) / 2)
    largest = CertifiedEnsemble([CertifiedKNN(), CertifiedOCSVM(0.3, 0.7)], "min", weights=[1.0, 3.0]).fit(X)
    assert largest.lipschitz_ == pytest.approx(max(1, 3 * svm.lipschitz_))


def test_a_wrong_weight_shows_in_the_constant():
    detector = small().fit(cloud(3))
    detector.network_.weights[1][:] *= 3
    assert detector._prove() == pytest.approx(3, rel=1e-6)


def test_module_and_gradient_are_those_of_the_score():
    X = cloud(4)
    detector = small().fit(X)
    Z = torch.from_numpy((X - detector.mean_) / detector.scale_).requires_grad_()
    value = detector.module()(Z)[:, 0]
    np.testing.assert_allclose(value.detach().numpy(), detector.score_samples(X), atol=1e-13)
    (gradient,) = torch.autograd.grad(value.sum(), Z)
    np.testing.assert_allclose(gradient.numpy(), detector.gradient(X), atol=1e-13)
    shares = detector.contributions(X)
    np.testing.assert_allclose(shares.sum(axis=1), -detector.decision_function(X), atol=1e-12)


def test_contributions_name_the_feature_that_is_off():
    X = cloud(4, 200)
    detector = small(steps=150).fit(X)
    odd = X.mean(0) + np.array([0, 0, 8, 0]) * X.std(0)
    assert detector.contributions(odd[None])[0].argmax() == 2
    assert detector.contributions(odd[None])[0, 2] > 0


@pytest.mark.parametrize("d", [3, 12, 40])
@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_by_brute_force(d, k):
    random = np.random.RandomState(0)
    X = random.normal(size=(150, d)) + 1e6  # a large offset: products of rows would cancel
    X[:60] = X[0]  # more copies than candidates
    T = np.concatenate((X[:5], X[100:110], random.normal(size=(20, d)) + 1e6))
    for method in ("mean", "largest"):
        detector = CertifiedKNN(k, method=method, standardize=False).fit(X)
        far = np.sort(np.sqrt(((T[:, None] - X) ** 2).sum(2)), axis=1)[:, :k]
        expected = -(far.mean(1) if method == "mean" else far[:, -1])
        np.testing.assert_allclose(detector.score_samples(T), expected, rtol=1e-12, atol=0)


def test_svm_is_that_of_scikit_learn():
    X = cloud(3)
    detector = CertifiedOCSVM(0.2, 0.5, standardize=False).fit(X)
    machine = OneClassSVM(nu=0.2, gamma=0.5).fit(X)
    expected = machine.score_samples(X) / machine.dual_coef_.sum()
    np.testing.assert_allclose(detector.score_samples(X), expected, rtol=1e-6)
