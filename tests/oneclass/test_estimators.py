"""scikit-learn's own checks for every detector, and what its conventions leave to us."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import onelip
from onelip.core.errors import InputError
from onelip.oneclass import CertifiedEnsemble, CertifiedKNN, CertifiedOCSVM, SignedDistance


def small(**options):
    return SignedDistance(
        **{"steps": 6, "width": 8, "depth": 2, "batch_size": 16, "newton_steps": 2, **options}
    )


DETECTORS = [
    small(),
    small(contamination=0.1, prior="marginals"),
    CertifiedKNN(),
    CertifiedKNN(method="largest", contamination=0.1),
    CertifiedOCSVM(),
    CertifiedOCSVM(contamination=0.1),
    CertifiedEnsemble([small(), CertifiedKNN(3)]),
    CertifiedEnsemble([CertifiedKNN(2), CertifiedOCSVM()], "min", weights=[1.0, 3.0], contamination=0.1),
]


CHECKED = [
    small(steps=2),
    CertifiedKNN(contamination=0.1),
    CertifiedOCSVM(contamination=0.1),
    CertifiedEnsemble([small(steps=2), CertifiedKNN(3)], contamination=0.1),
]


@parametrize_with_checks(CHECKED)
def test_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def rows(n=80, d=5, seed=0):
    return np.random.RandomState(seed).normal(size=(n, d)) * np.arange(1, d + 1) + 10


def test_one_name_at_the_top():
    assert onelip.SignedDistance is SignedDistance
    assert onelip.oneclass.SignedDistance is SignedDistance


@pytest.mark.parametrize("detector", DETECTORS, ids=str)
def test_conventions(detector):
    X = rows()
    detector = clone(detector).fit(X)
    scores = detector.score_samples(X)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(detector.decision_function(X), scores - detector.offset_)
    np.testing.assert_array_equal(detector.predict(X) == 1, detector.decision_function(X) >= 0)
    if not isinstance(detector, SignedDistance):  # six steps teach it nothing yet
        far = X.mean(axis=0) + 100 * X.std(axis=0)
        assert detector.predict(far[None]).tolist() == [-1]
    if detector.contamination != "auto":
        assert (detector.predict(X) == -1).sum() == 8


@pytest.mark.parametrize("detector", [DETECTORS[0], DETECTORS[1], DETECTORS[6]], ids=str)
def test_the_same_seed_gives_the_same_bits(detector):
    X = rows()
    fits = [clone(detector).set_params(random_state=seed).fit(X).score_samples(X) for seed in (7, 7, 8)]
    assert np.array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])


def test_in_a_pipeline():
    X = rows()
    pipeline = make_pipeline(RobustScaler(), CertifiedKNN()).fit(X)
    assert pipeline.predict(X).mean() > 0.9
    assert pipeline.predict(X + 100).tolist() == [-1] * len(X)


@pytest.mark.parametrize("detector", [DETECTORS[0], *DETECTORS[2:7:2]], ids=str)
def test_hard_data(detector):
    X = rows()
    X[:, 2] = 0.1  # constant, and 0.1 has no exact mean
    X[:, 4] = X[:, 3]
    X[:40] = X[40:]
    detector = clone(detector).fit(X)
    assert detector.scale_[2] == 1.0
    assert np.isfinite(detector.score_samples(X)).all()
    radii = detector.certified_radius(X)
    assert np.isfinite(radii).all()
    assert (radii >= 0).all()
    constant = clone(detector).fit(np.full((6, 3), 7.0))
    assert np.isfinite(constant.score_samples([[7.0, 7.0, 8.0]])).all()


class Table(dict):
    """As much of a data frame as is looked at."""

    columns = property(list)


@pytest.mark.parametrize("detector", [DETECTORS[0], *DETECTORS[2:7:2]], ids=str)
def test_refusals(detector):
    X = rows()
    fitted = clone(detector).fit(X)
    with pytest.raises(ValueError, match=r"has 4 features, but .* is expecting 5 features"):
        fitted.predict(X[:, :4])
    bad = X.copy()
    bad[3, 1] = np.nan
    for call in (clone(detector).fit, fitted.score_samples):
        with pytest.raises(ValueError, match="contains NaN"):
            call(bad)
        with pytest.raises(InputError, match=r"too large; received 1e\+200"):
            call(np.full((3, 5), 1e200))
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        clone(detector).fit(X[:1])
    with pytest.raises(ValueError, match="could not convert string to float"):
        clone(detector).fit(np.array([["a", "b"], ["c", "d"]], dtype=object))
    with pytest.raises(InputError, match="columns that hold no numbers; received place, day; expected"):
        clone(detector).fit(Table(size=[1.0, 2.0], place=["a", "b"], day=np.array(["2020"] * 2, "M8[D]")))
    for contamination in (0, 0.6, -0.1, "high"):
        with pytest.raises(ValueError, match="The 'contamination' parameter"):
            clone(detector).set_params(contamination=contamination).fit(X)
    for eps in (-0.1, np.nan, np.inf, "0.1", True):
        with pytest.raises(InputError, match="eps is not a budget"):
            fitted.certified_predict(X, eps)
    with pytest.raises(InputError, match="unknown units; received 'pixels'; expected \"standardized\""):
        fitted.certified_radius(X, units="pixels")
    tiny = clone(detector).fit(X * 1e-130)
    with pytest.raises(InputError, match="units of the training spread"):
        tiny.predict(np.full((1, 5), 1e20))


def test_refusals_of_options():
    X = rows()
    for name, value in (
        ("margin", 0),
        ("lam", -1),
        ("steps", 0),
        ("select", "best"),
        ("eta", -1.0),
        ("width", 1),
    ):
        with pytest.raises(ValueError, match=f"The '{name}' parameter"):
            small(**{name: value}).fit(X)
    with pytest.raises(InputError, match="unknown prior; received 'ball'; expected one of box"):
        small(prior="ball").fit(X)
    with pytest.raises(InputError, match="width is odd; received 7"):
        small(width=7).fit(X)
    with pytest.raises(InputError, match="an ensemble needs estimators"):
        CertifiedEnsemble([]).fit(X)
    with pytest.raises(InputError, match="no certificate; received RobustScaler"):
        CertifiedEnsemble([RobustScaler()]).fit(X)
    for weights in ([1.0], [1.0, 0.0], [1.0, np.nan]):
        with pytest.raises(InputError, match="weights do not fit"):
            CertifiedEnsemble([CertifiedKNN(), CertifiedKNN(2)], weights=weights).fit(X)


def test_partial_fit_keeps_the_units():
    X, more = rows(), rows(seed=1) + 30
    detector = small(random_state=0, steps=40).partial_fit(X)
    mean, scale = detector.mean_.copy(), detector.scale_.copy()
    before = detector.score_samples(more).mean()
    for _ in range(4):
        detector.partial_fit(more)
    assert np.array_equal(detector.mean_, mean)
    assert np.array_equal(detector.scale_, scale)
    assert detector.score_samples(more).mean() > before
    assert detector.n_seen_ == 5 * len(X)
    assert detector.lipschitz_ == detector.network_.prove()
    again = small(random_state=0, steps=40).partial_fit(X)
    for _ in range(4):
        again.partial_fit(more)
    assert np.array_equal(again.score_samples(X), detector.score_samples(X))
    with pytest.raises(ValueError, match="expecting 5 features"):
        detector.partial_fit(X[:, :3])


def test_the_reservoir_is_uniform_and_bounded():
    detector = small(steps=1, random_state=0).fit(rows(1500, 1))
    for seed in range(5):
        detector.partial_fit(rows(1500, 1, seed) + 1000)
    kept = detector._reservoir.rows
    assert len(kept) == 2000
    first = (kept[:, 0] < 500).mean()
    assert abs(first - 1 / 6) < 0.04
