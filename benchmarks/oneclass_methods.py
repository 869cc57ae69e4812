"""What benchmarks/oneclass.py compares: our detectors, and rivals of PyOD or, where it is missing, of scikit-learn."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM


class Fitted(Protocol):
    """What the benchmark needs of a method."""

    lipschitz: float | None  # None: no certificate

    def fit(self, X: np.ndarray) -> None:
        """Learn from all rows."""
        ...

    def scores(self, X: np.ndarray, trained_on: bool) -> np.ndarray:
        """High = normal, in one call; `trained_on`: X is the training set, whose own scores are wanted."""
        ...


@dataclass(frozen=True)
class Method:
    """A way to build a detector from a seed; `kind`: "recipe" (chosen among), "certified" or "rival"."""

    kind: str
    build: Callable[[int], Fitted]
    settings: str
    quadratic: bool = False  # fitted on a sample of large sets
    seeded: bool = True  # False: the same for each seed once the training set is the same


class Ours:
    """A certified detector of onelip, which standardises by itself."""

    def __init__(self, detector: Any) -> None:
        self.detector, self.lipschitz = detector, None

    def fit(self, X: np.ndarray) -> None:
        """Learn from all rows."""
        self.lipschitz = float(self.detector.fit(X).lipschitz_)

    def scores(self, X: np.ndarray, trained_on: bool) -> np.ndarray:
        """High = normal."""
        # the certificate belongs to this function, so training rows get no other
        return self.detector.score_samples(X)


class Standardised:
    """A rival on columns standardised by the training set."""

    lipschitz = None

    def __init__(self, fit: Callable[[np.ndarray], Callable[[np.ndarray, bool], np.ndarray]]) -> None:
        self._fit = fit

    def fit(self, X: np.ndarray) -> None:
        """Learn from all rows."""
        self._scaler = StandardScaler().fit(X)
        self._score = self._fit(self._scaler.transform(X))

    def scores(self, X: np.ndarray, trained_on: bool) -> np.ndarray:
        """High = normal."""
        return self._score(self._scaler.transform(X), trained_on)


def _pyod(name: str, seed: int, **options: Any) -> Fitted:
    model = getattr(importlib.import_module(f"pyod.models.{name.lower()}"), name)(**options)
    if "random_state" in model.get_params():
        model.set_params(random_state=seed)

    def fit(Z: np.ndarray) -> Callable[[np.ndarray, bool], np.ndarray]:
        model.fit(Z)
        rows = len(Z)
        return lambda X, same: (
            -(model.decision_scores_ if same and len(X) == rows else model.decision_function(X))
        )

    return Standardised(fit)


def _sklearn(model: Any) -> Fitted:
    def fit(Z: np.ndarray) -> Callable[[np.ndarray, bool], np.ndarray]:
        model.fit(Z)
        return lambda X, _: model.score_samples(X)

    return Standardised(fit)


def _iforest(seed: int) -> Fitted:
    return _sklearn(IsolationForest(random_state=seed))


def _svm(_: int) -> Fitted:
    return _sklearn(OneClassSVM(nu=0.5, gamma="auto"))  # as PyOD's


def _lof(_: int) -> Fitted:
    def fit(Z: np.ndarray) -> Callable[[np.ndarray, bool], np.ndarray]:
        neighbours = min(20, len(Z) - 1)
        novel = LocalOutlierFactor(neighbours, novelty=True).fit(Z)
        return lambda X, same: novel.negative_outlier_factor_ if same else novel.score_samples(X)

    return Standardised(fit)


def _knn(_: int) -> Fitted:
    def fit(Z: np.ndarray) -> Callable[[np.ndarray, bool], np.ndarray]:
        search = NearestNeighbors(n_neighbors=min(5, len(Z) - 1)).fit(Z)
        # without rows, kneighbors leaves each training row out of its own neighbours
        return lambda X, same: -search.kneighbors(None if same else X)[0][:, -1]

    return Standardised(fit)


def rivals() -> dict[str, Method]:
    """IForest, OCSVM, KNN, ECOD and LOF by PyOD with its defaults; without PyOD those that scikit-learn has."""
    try:
        version = importlib.import_module("pyod.version").__version__
    except ImportError:
        import sklearn

        ours = {"IForest": _iforest, "OCSVM": _svm, "KNN": _knn, "LOF": _lof}
        return {
            f"{name} (scikit-learn)": Method(
                "rival", build, f"scikit-learn {sklearn.__version__}", name == "OCSVM", name == "IForest"
            )
            for name, build in ours.items()
        }
    return {
        f"{name} (PyOD)": Method(
            "rival",
            lambda seed, name=name: _pyod(name, seed),
            f"PyOD {version}, defaults",
            name == "OCSVM",
            name == "IForest",
        )
        for name in ("IForest", "OCSVM", "KNN", "ECOD", "LOF")
    }


def ours() -> dict[str, Method]:
    """The recipes to choose among, and the certified baselines."""
    from onelip import oneclass

    sdf, knn = oneclass.SignedDistance, oneclass.CertifiedKNN
    recipes: dict[str, Callable[[int], Any]] = {
        "SDF": lambda seed: sdf(random_state=seed),
        "SDF m 0.2": lambda seed: sdf(margin=0.2, random_state=seed),
        "SDF m 0.5": lambda seed: sdf(margin=0.5, random_state=seed),
        "SDF m 1": lambda seed: sdf(margin=1.0, random_state=seed),
        "SDF m 2": lambda seed: sdf(margin=2.0, random_state=seed),
        "SDF lam 30": lambda seed: sdf(lam=30.0, random_state=seed),
        "SDF box+gauss lam 30": lambda seed: sdf(lam=30.0, prior="box+gauss", random_state=seed),
        "SDF two-sided": lambda seed: sdf(two_sided=True, random_state=seed),
        "SDF + KNN": lambda seed: oneclass.CertifiedEnsemble([sdf(), knn()], "mean", random_state=seed),
        "SDF m 1 + KNN": lambda seed: oneclass.CertifiedEnsemble(
            [sdf(margin=1.0), knn()], "mean", random_state=seed
        ),
        "SDF m 1 + KNN 50": lambda seed: oneclass.CertifiedEnsemble(
            [sdf(margin=1.0), knn(50)], "mean", random_state=seed
        ),
    }
    certified: dict[str, Callable[[int], Any]] = {
        "CertifiedKNN": lambda _: knn(),
        "CertifiedOCSVM": lambda _: oneclass.CertifiedOCSVM(),
    }
    found = {name: _ours("recipe", build) for name, build in recipes.items()}
    for name, build in certified.items():
        found[name] = _ours("certified", build, quadratic=name == "CertifiedOCSVM", seeded=False)
    return found


def _ours(kind: str, build: Callable[[int], Any], **flags: bool) -> Method:
    def settings(detector: Any) -> str:
        shown = {k: v for k, v in detector.get_params(deep=False).items() if k != "random_state"}
        parts = [
            f"{k}={[settings(e) for e in v] if k == 'estimators' and v else repr(v)}"
            for k, v in shown.items()
        ]
        return f"{type(detector).__name__}({', '.join(parts)})"

    return Method(kind, lambda seed: Ours(build(seed)), settings(build(0)), **flags)
