"""The family of errors, and the builder of their texts.

Every text says what failed, what was received, what was expected, why it matters and what to do.
"""

from __future__ import annotations


class OnelipError(Exception):
    """Base of every error that onelip raises on purpose."""


class InputError(OnelipError, ValueError):
    """An argument or a tensor is not what a function takes."""


class ConfigError(InputError):
    """A recipe, option or configuration file is wrong."""


class DataError(InputError):
    """A data set, an image or a file cannot be read as what it should be."""


class IntegrityError(OnelipError):
    """Stored weights or results are not what their record says: changed, truncated or of another model."""


class StorageError(OnelipError, OSError):
    """A file could not be written; what was there before is still there."""


class MissingExtraError(OnelipError, ImportError):
    """An optional dependency is not installed."""


class BoundError(OnelipError):
    """No Lipschitz bound can be proven for the model as it is."""


class UnknownLayerError(BoundError, TypeError):
    """A layer or operation has no rule, or its rule does not hold for it."""


class TrainModeError(BoundError):
    """The model is in training mode, in which its output is not a function of one image."""


class PrecisionError(BoundError, InputError):
    """The arithmetic in use is too coarse for a certificate (half precision, TF32, autocast)."""


class NonFiniteError(BoundError, InputError):
    """A weight, image or logit is NaN or infinite."""


class UnsoundError(OnelipError, AssertionError):
    """A measured value contradicts a proven one: a bug in a rule or a certificate."""


def explain(
    what: str,
    *,
    received: object = None,
    expected: object = None,
    why: str | None = None,
    fix: str | None = None,
) -> str:
    """Join the parts of an error text in their fixed order.

    >>> explain("eps is negative", received=-0.1, expected="a finite number >= 0", fix="pass eps=0.1")
    'eps is negative; received -0.1; expected a finite number >= 0; to fix: pass eps=0.1'
    """
    parts = [what]
    if received is not None:
        parts.append(f"received {received}")
    if expected is not None:
        parts.append(f"expected {expected}")
    if why is not None:
        parts.append(f"why: {why}")
    if fix is not None:
        parts.append(f"to fix: {fix}")
    return "; ".join(parts)
