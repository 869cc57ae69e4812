"""onelip: proven Lipschitz bounds for vision networks, and the guarantees that follow from them.

Importing this package is light: torch and everything heavy load on the first use of a name.

>>> import onelip
>>> onelip.__version__.count(".")
2
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from . import (
        attacks,
        bounds,
        certify,
        core,
        data,
        explain,
        layers,
        metrics,
        models,
        oneclass,
        report,
        smoothing,
        testing,
        train,
    )
    from .bounds import Bound, Step, lipschitz, rule
    from .core.errors import OnelipError, UnknownLayerError
    from .layers.fold import fold
    from .models import export_onnx, load, pretrained
    from .oneclass import SignedDistance

# Public name -> the module that holds it. A name equal to the module's last part is the module itself.
_PUBLIC = {
    "Bound": "onelip.bounds",
    "OnelipError": "onelip.core.errors",
    "SignedDistance": "onelip.oneclass",
    "Step": "onelip.bounds",
    "UnknownLayerError": "onelip.core.errors",
    "attacks": "onelip.attacks",
    "bounds": "onelip.bounds",
    "certify": "onelip.certify",
    "core": "onelip.core",
    "data": "onelip.data",
    "explain": "onelip.explain",
    "export_onnx": "onelip.models",
    "fold": "onelip.layers.fold",
    "layers": "onelip.layers",
    "lipschitz": "onelip.bounds",
    "load": "onelip.models",
    "metrics": "onelip.metrics",
    "models": "onelip.models",
    "oneclass": "onelip.oneclass",
    "pretrained": "onelip.models",
    "report": "onelip.report",
    "rule": "onelip.bounds",
    "smoothing": "onelip.smoothing",
    "testing": "onelip.testing",
    "train": "onelip.train",
}

__all__ = [
    "Bound",
    "OnelipError",
    "SignedDistance",
    "Step",
    "UnknownLayerError",
    "__version__",
    "attacks",
    "bounds",
    "certify",
    "core",
    "data",
    "explain",
    "export_onnx",
    "fold",
    "layers",
    "lipschitz",
    "load",
    "metrics",
    "models",
    "oneclass",
    "pretrained",
    "report",
    "rule",
    "smoothing",
    "testing",
    "train",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'onelip' has no attribute {name!r}; public names: {', '.join(__all__)}")
    module = import_module(_PUBLIC[name])
    # A module and a function may share a name (`layers.fold`): only a direct submodule is handed out itself.
    value = module if _PUBLIC[name] == f"onelip.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
