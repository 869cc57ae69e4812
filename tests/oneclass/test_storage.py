"""Detectors on disk: bitwise round trips, refusal of anything that was changed; the adapter to PyOD."""

import importlib
import json
import pickle
import sys
import types

import numpy as np
import pytest
from safetensors.numpy import load as read_arrays
from safetensors.numpy import save as write_arrays
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError

from onelip.core.errors import DataError, InputError, IntegrityError, MissingExtraError
from onelip.oneclass import (
    CertifiedEnsemble,
    CertifiedKNN,
    CertifiedOCSVM,
    SignedDistance,
    as_pyod,
    load,
    storage,
)


def small(**options):
    return SignedDistance(**{"steps": 8, "width": 8, "depth": 2, "random_state": 3, **options})


DETECTORS = {
    "network": small(prior="auto", contamination=0.2),
    "knn": CertifiedKNN(np.int64(3)),
    "svm": CertifiedOCSVM(np.float64(0.2), gamma=0.4, standardize=False),
    "ensemble": CertifiedEnsemble(
        [small(prior="marginals"), CertifiedOCSVM()], "min", weights=[1.0, 2.5], random_state=1
    ),
    "default": CertifiedEnsemble([CertifiedKNN(), CertifiedEnsemble([CertifiedKNN(1)])]),
}


def rows():
    return np.random.RandomState(0).normal(size=(60, 3)) * [1, 5, 0.1] + 2


@pytest.mark.parametrize("name", DETECTORS)
def test_round_trip(name, tmp_path):
    X = rows()
    detector = clone(DETECTORS[name]).fit(X)
    detector.save(tmp_path / "a")
    back = load(tmp_path / "a")
    assert type(back) is type(detector)
    far = X * 1.7
    for call in ("score_samples", "decision_function", "predict", "certified_radius", "feature_budgets"):
        assert np.array_equal(getattr(back, call)(far), getattr(detector, call)(far)), call
    assert (back.offset_, back.lipschitz_, back.n_features_in_) == (detector.offset_, detector.lipschitz_, 3)
    if name not in ("knn", "svm"):  # these were given numpy's numbers, which come back as Python's
        assert str(back) == str(detector)
    back.save(tmp_path / "b")
    for file in ("detector.safetensors", "detector.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    with pytest.raises(ValueError, match="expecting 3 features"):
        back.predict(X[:, :2])
    assert np.array_equal(clone(back).fit(X).score_samples(X), detector.score_samples(X))
    copied = pickle.loads(pickle.dumps(detector))
    assert np.array_equal(copied.score_samples(far), detector.score_samples(far))


def test_names_of_features_are_kept(tmp_path):
    detector = CertifiedKNN().fit(rows())
    detector.feature_names_in_ = np.array(["a", "b", "c"], dtype=object)
    detector.save(tmp_path / "a")
    assert load(tmp_path / "a").feature_names_in_.tolist() == ["a", "b", "c"]


def test_learning_goes_on_after_loading(tmp_path):
    detector = small().fit(rows())
    detector.save(tmp_path / "a")
    back = load(tmp_path / "a").partial_fit(rows() + 0.1)
    assert np.array_equal(back.scale_, detector.scale_)
    assert not np.array_equal(back.score_samples(rows()), detector.score_samples(rows()))


def forge(folder, record=None, arrays=None):
    """Change a folder and make all its hashes right again."""
    held = json.loads((folder / storage.RECORD).read_text())
    raw = (folder / storage.ARRAYS).read_bytes()
    if arrays is not None:
        content = read_arrays(raw)
        arrays(content)
        raw = write_arrays(content)
        (folder / storage.ARRAYS).write_bytes(raw)
    if record is not None:
        record(held["detector"])
    held["arrays_sha256"] = storage.hashlib.sha256(raw).hexdigest()
    held["sha256"] = storage._digest({k: v for k, v in held.items() if k != "sha256"})
    (folder / storage.RECORD).write_text(json.dumps(held))


def test_changes_are_noticed(tmp_path):
    folder = tmp_path / "a"
    fitted = small().fit(rows())
    fitted.save(folder)
    arrays, record = folder / storage.ARRAYS, folder / storage.RECORD
    raw, text = arrays.read_bytes(), record.read_text()
    for place in (len(raw) - 1, len(raw) // 2):
        arrays.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(IntegrityError, match="the arrays are not those that were saved"):
            load(folder)
    arrays.write_bytes(raw)
    record.write_text(text.replace(f'"offset": {fitted.offset_!r}', '"offset": -9.0'))
    assert record.read_text() != text
    with pytest.raises(IntegrityError, match="it was changed after it was written"):
        load(folder)
    for changed, message in (
        (text.replace('"format": 1', '"format": 2'), "format 2"),
        ("[]", "no record of a detector"),
    ):
        record.write_text(changed)
        with pytest.raises(IntegrityError, match=message):
            load(folder)
    record.write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        load(folder)
    record.write_text(text)
    arrays.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        load(folder)
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("record", "arrays", "message"),
    [
        (None, lambda a: a.update({"fit.weight1": a["fit.weight1"] * 2}), r"the constant is 2\.0"),
        (lambda r: r.update(lipschitz=0.5), None, "the constant is 1, not 0.5"),
        (lambda r: r.update({"class": "Pipeline"}), None, "describes no detector"),
        (lambda r: r["options"].update(depth=3), None, "describes no detector"),
        (lambda r: r["options"].update(size=3), None, "describes no detector"),
        (None, lambda a: a.update(scale=a["scale"][:2]), "not one of 3 features"),
        (None, lambda a: a.update(scale=-a["scale"]), "not one of 3 features"),
        (None, lambda a: a["mean"].__setitem__(0, np.nan), "not finite"),
        (
            None,
            lambda a: a.update({"fit.weight1": a["fit.weight1"].astype(np.float32)}),
            "not finite float64",
        ),
        (None, lambda a: a.pop("fit.bias0"), "describes no detector"),
    ],
)
def test_records_that_lie_are_refused(record, arrays, message, tmp_path):
    small().fit(rows()).save(tmp_path / "a")
    forge(tmp_path / "a")
    load(tmp_path / "a")
    forge(tmp_path / "a", record, arrays)
    with pytest.raises(IntegrityError, match=message):
        load(tmp_path / "a")


def test_refusals_to_save(tmp_path):
    class Mine(CertifiedKNN):
        pass

    with pytest.raises(NotFittedError):
        CertifiedKNN().save(tmp_path / "a")
    with pytest.raises(InputError, match="cannot be saved; received Mine"):
        Mine().fit(rows()).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


class StandIn(BaseEstimator):
    """What the adapter uses of PyOD's base class, written from its documentation."""

    def __init__(self, contamination=0.1):
        if not 0 < contamination <= 0.5:
            raise ValueError(f"contamination must be in (0, 0.5], got: {contamination}")
        self.contamination = contamination

    def _set_n_classes(self, y):
        self._classes = 2 if y is None else len(np.unique(y))

    def _process_decision_scores(self):
        self.threshold_ = np.percentile(self.decision_scores_, 100 * (1 - self.contamination))
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)


def fresh_adapter():
    """Forget the class of the adapter: its base may be another one now."""
    importlib.import_module("onelip.oneclass.pyod")._adapter.cache_clear()


def check_adapter():
    X = rows()
    adapter = as_pyod(CertifiedKNN(), contamination=0.2)
    assert adapter.fit(X) is adapter
    plain = CertifiedKNN().fit(X)
    assert np.array_equal(adapter.decision_scores_, -plain.score_samples(X))
    assert adapter.labels_.sum() == 12
    far = adapter.decision_function(X.mean(0)[None] + 50)
    assert far[0] > adapter.threshold_
    assert adapter.detector_.lipschitz_ == 1.0
    assert not hasattr(adapter.detector, "lipschitz_")
    assert clone(adapter).contamination == 0.2
    copied = pickle.loads(pickle.dumps(adapter))
    assert np.array_equal(copied.decision_function(X), adapter.decision_scores_)
    with pytest.raises(ValueError, match="contamination"):
        as_pyod(CertifiedKNN(), contamination=0.7)
    with pytest.raises(NotFittedError):
        as_pyod(CertifiedKNN()).decision_function(X)


def test_adapter_with_a_stand_in(monkeypatch):
    base = types.ModuleType("pyod.models.base")
    base.BaseDetector = StandIn
    for name in ("pyod", "pyod.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "pyod.models.base", base)
    fresh_adapter()
    check_adapter()
    fresh_adapter()


def test_adapter_with_pyod():
    pytest.importorskip("pyod", reason="PyOD is optional and not installed")
    check_adapter()
    assert as_pyod(CertifiedKNN()).fit(rows()).predict_proba(rows()).shape == (60, 2)


def test_without_pyod(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyod", None)
    monkeypatch.setitem(sys.modules, "pyod.models.base", None)
    fresh_adapter()
    with pytest.raises(MissingExtraError, match="PyOD is not installed"):
        as_pyod(CertifiedKNN())
