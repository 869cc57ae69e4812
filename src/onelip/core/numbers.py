"""Numbers for people: directed rounding, and eps in units that mean something."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal


def _directed(value: float, digits: int, rounding: str) -> str:
    if not math.isfinite(value):
        return str(value)
    exact = Decimal(value)  # a float is a finite binary fraction: this is its exact value
    if exact == 0:
        return "0"
    step = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    text = format(exact.quantize(step, rounding=rounding), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def round_up(value: float, digits: int = 6) -> str:
    """Print a bound with `digits` significant digits, never below its value.

    >>> round_up(1.00000001), round_up(6.531972647)
    ('1.00001', '6.53198')
    """
    return _directed(value, digits, ROUND_CEILING)


def round_down(value: float, digits: int = 6) -> str:
    """Print a radius with `digits` significant digits, never above its value.

    >>> round_down(1.9999999), round_down(0.25)
    ('1.99999', '0.25')
    """
    return _directed(value, digits, ROUND_FLOOR)


def units(eps: float, shape: Sequence[int], p: float = 2.0) -> dict[str, float]:
    """Express eps, the l_p norm of a whole perturbation, as a typical change of one value.

    Args:
        eps: norm of the perturbation of one image, in units of [0, 1].
        shape: (C, H, W) of the image.
        p: 1, 2 or infinity.

    Returns:
        `eps`; `rms`, the change of each value if all change alike, eps / (C*H*W)**(1/p) (the RMS change for
        p = 2); `rms_255`, the same on the 0..255 scale.

    >>> units(0.1, (3, 1024, 1024))["rms_255"] < 0.015
    True
    """
    count = math.prod(shape)
    rms = eps if math.isinf(p) else eps / count ** (1.0 / p)
    return {"eps": float(eps), "rms": rms, "rms_255": rms * 255.0}
