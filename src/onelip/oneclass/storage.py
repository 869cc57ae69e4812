"""Fitted detectors on disk: arrays in safetensors, everything else in JSON, hashed, and proven again on load."""

from __future__ import annotations

import hashlib
import json
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_arrays
from safetensors.numpy import save as write_arrays
from sklearn.utils.validation import check_is_fitted

from .._version import __version__
from ..core.errors import DataError, InputError, IntegrityError, OnelipError, explain
from ..core.files import atomic_folder, read_json, write_json
from .base import Array, CertifiedDetector
from .distance import SignedDistance
from .ensemble import CertifiedEnsemble
from .images import ImageSignedDistance
from .knn import CertifiedKNN
from .ocsvm import CertifiedOCSVM

FORMAT = 1
ARRAYS, RECORD = "detector.safetensors", "detector.json"
SLACK = 1e-6  # a constant may differ in its last digits between versions of torch
_KEYS = {"format", "onelip", "detector", "arrays_sha256", "sha256"}
_CLASSES: dict[str, type[CertifiedDetector]] = {
    cls.__name__: cls
    for cls in (SignedDistance, CertifiedKNN, CertifiedOCSVM, CertifiedEnsemble, ImageSignedDistance)
}


def save(detector: CertifiedDetector, folder: str | Path) -> None:
    """Write a fitted detector as a folder; it appears whole or not at all.

    The training rows are written only where they are the detector (`CertifiedKNN`, and the support vectors of
    `CertifiedOCSVM`); those that `SignedDistance` keeps for `partial_fit` are not.

    Raises:
        NotFittedError: the detector is not fitted.
        InputError: a class or an option that JSON cannot hold.
        StorageError: the folder could not be written.
    """
    check_is_fitted(detector, "lipschitz_")
    arrays = {"mean": detector.mean_, "scale": detector.scale_}
    arrays |= {f"fit.{name}": np.ascontiguousarray(a) for name, a in detector._arrays().items()}
    raw = write_arrays(arrays)
    record: dict[str, Any] = {
        "format": FORMAT,
        "onelip": __version__,
        "detector": describe(detector),
        "arrays_sha256": hashlib.sha256(raw).hexdigest(),
    }
    record["sha256"] = _digest(record)
    with atomic_folder(folder) as fresh:
        (fresh / ARRAYS).write_bytes(raw)
        write_json(fresh / RECORD, record)


def load(folder: str | Path) -> CertifiedDetector:
    """Read a fitted detector; it scores bitwise as the one that was saved.

    Args:
        folder: a folder written by `detector.save`.

    Guarantee: the files are those that were written (SHA-256: this detects damage and mix-ups; it is no signature),
    and the constant, proven again from the arrays, is not above the recorded one.

    Raises:
        DataError: a file is missing or unreadable.
        IntegrityError: the content is not what its record says.

    Example:
        >>> import tempfile
        >>> X = np.random.RandomState(0).normal(size=(50, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     CertifiedKNN().fit(X).save(folder + "/detector")
        ...     load(folder + "/detector").lipschitz_
        1.0
    """
    folder = Path(folder)
    record = _checked(read_json(folder / RECORD), folder)
    try:
        raw = (folder / ARRAYS).read_bytes()
    except OSError as error:
        raise DataError(explain(f"{folder / ARRAYS} cannot be read", received=error.strerror)) from error
    if hashlib.sha256(raw).hexdigest() != record["arrays_sha256"]:
        raise _broken(folder / ARRAYS, "the arrays are not those that were saved (SHA-256 differs)")
    try:
        arrays = read_arrays(raw)
        if not all(np.isfinite(array).all() and array.dtype == np.float64 for array in arrays.values()):
            raise ValueError("arrays that are not finite float64 numbers")
        mine = {k.removeprefix("fit."): v for k, v in arrays.items() if k.startswith("fit.")}
        detector = rebuild(record["detector"], mine, mean=arrays["mean"], scale=arrays["scale"])
        proven = detector._prove()
    except (
        SafetensorError,
        OnelipError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
    ) as error:
        raise _broken(folder, f"it describes no detector: {error}") from error
    if not proven <= detector.lipschitz_ * (1 + SLACK):
        raise _broken(folder, f"the constant is {proven:.9g}, not {detector.lipschitz_:.9g} as recorded")
    detector.lipschitz_ = max(proven, detector.lipschitz_)
    return detector


def describe(detector: CertifiedDetector) -> dict[str, Any]:
    """Return all of a fitted detector but its arrays, JSON-ready."""
    name = type(detector).__name__
    if _CLASSES.get(name) is not type(detector):
        raise InputError(explain("this class cannot be saved", received=name, expected=", ".join(_CLASSES)))
    names = getattr(detector, "feature_names_in_", None)
    return {
        "class": name,
        "options": {key: _option(key, v) for key, v in detector.get_params(deep=False).items()},
        "n_features": int(detector.n_features_in_),
        "feature_names": None if names is None else [str(each) for each in names],
        "offset": detector.offset_,
        "lipschitz": detector.lipschitz_,
        "facts": detector._facts(),
    }


def rebuild(
    record: dict[str, Any], arrays: dict[str, Array], *, mean: Array | None = None, scale: Array | None = None
) -> CertifiedDetector:
    """Return the detector of a record; without scaling for members of an ensemble, which see standardised rows."""
    detector = _CLASSES[record["class"]](**{k: _unoption(k, v) for k, v in record["options"].items()})
    d = int(record["n_features"])
    detector.n_features_in_ = d
    if record["feature_names"] is not None:
        detector.feature_names_in_ = np.asarray(record["feature_names"], dtype=object)
    detector.mean_ = np.zeros(d) if mean is None else mean
    detector.scale_ = np.ones(d) if scale is None else scale
    if detector.mean_.shape != (d,) or detector.scale_.shape != (d,) or not (detector.scale_ > 0).all():
        raise ValueError(f"the scaling is not one of {d} features")
    detector.offset_, detector.lipschitz_ = float(record["offset"]), float(record["lipschitz"])
    detector._restore(arrays, record["facts"])
    return detector


def _option(key: str, value: Any) -> Any:
    """Make an option of a constructor JSON-ready."""
    if key == "random_state":
        return int(value) if isinstance(value, Integral) else None  # a generator's state is of no use later
    if key == "estimators" and value is not None:
        return [
            {
                "class": type(each).__name__,
                "options": {k: _option(k, v) for k, v in each.get_params(False).items()},
            }
            for each in value
        ]
    if key == "weights" and value is not None:
        return [float(each) for each in value]
    if key in ("widths", "hidden", "image_size") and value is not None:
        return [int(each) for each in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _unoption(key: str, value: Any) -> Any:
    if key == "estimators" and value is not None:
        return [
            _CLASSES[each["class"]](**{k: _unoption(k, v) for k, v in each["options"].items()})
            for each in value
        ]
    return value


def _checked(record: Any, folder: Path) -> dict[str, Any]:
    if not isinstance(record, dict) or set(record) != _KEYS:
        raise _broken(folder / RECORD, "it is no record of a detector")
    if record["format"] != FORMAT:
        raise _broken(folder / RECORD, f"it has format {record['format']!r}, this version reads {FORMAT}")
    if record["sha256"] != _digest({k: v for k, v in record.items() if k != "sha256"}):
        raise _broken(folder / RECORD, "it was changed after it was written (SHA-256 differs)")
    return record


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _broken(path: Path, what: str) -> IntegrityError:
    return IntegrityError(explain(f"{path} cannot be used", received=what, fix="save the detector again"))
