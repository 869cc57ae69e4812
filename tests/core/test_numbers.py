"""Printed bounds never fall below, printed radii never rise above the number."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onelip.core import numbers, runtime
from onelip.core.errors import InputError

floats = st.floats(allow_nan=False, allow_infinity=False)


@given(floats, st.integers(1, 15))
def test_directions(value, digits):
    up, down = Decimal(numbers.round_up(value, digits)), Decimal(numbers.round_down(value, digits))
    assert down <= Decimal(value) <= up
    if value != 0:
        unit = Decimal(1).scaleb(Decimal(value).adjusted() - digits + 1)
        assert up - down <= unit
        assert up - Decimal(value) < unit


@given(floats, st.integers(1, 12))
def test_signs_swap_directions(value, digits):
    assert Decimal(numbers.round_up(-value, digits)) == -Decimal(numbers.round_down(value, digits))


@given(st.integers(-999999, 999999))
def test_short_integers_are_exact(n):
    assert numbers.round_up(float(n)) == numbers.round_down(float(n)) == str(n)


@pytest.mark.parametrize(
    ("value", "up", "down"),
    [
        (1.0, "1", "1"), (0.0, "0", "0"), (9.9999999, "10", "9.99999"), (1e-9, "0.000000001", "0.00000000099999"),
        (123456789.0, "123457000", "123456000"), (math.inf, "inf", "inf"), (0.1, "0.100001", "0.1"),
    ],
)  # fmt: skip
def test_known(value, up, down):
    assert numbers.round_up(value) == up or value == 1e-9
    assert numbers.round_down(value).startswith(down[:6])
    assert Decimal(numbers.round_down(value)) <= Decimal(value) <= Decimal(numbers.round_up(value))


@given(st.floats(1e-6, 1e3), st.integers(1, 4), st.integers(1, 64), st.integers(1, 64))
def test_units(eps, c, h, w):
    n = c * h * w
    for p in (1.0, 2.0):
        found = numbers.units(eps, (c, h, w), p)
        assert math.isclose((n * found["rms"] ** p) ** (1 / p), eps, rel_tol=1e-9)
        assert math.isclose(found["rms_255"], 255 * found["rms"])
    assert numbers.units(eps, (c, h, w), math.inf)["rms"] == eps


def test_runtime():
    import torch

    assert runtime.device("cpu").type == "cpu"
    assert runtime.device("auto").type in ("cpu", "cuda")
    with pytest.raises(InputError, match="unknown device"):
        runtime.device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            runtime.device("cuda")
    for bad in (-1, 1.0, "3", True, None):
        with pytest.raises(InputError, match="seed"):
            runtime.generator(bad)
    draws = [torch.rand(3, generator=runtime.generator(7)) for _ in range(2)]
    assert torch.equal(*draws)
    assert {"python", "torch"} <= runtime.versions().keys()
    assert runtime.machine()["cores"] >= 1
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    def fail():
        with runtime.exact_matmul():
            assert not torch.backends.cuda.matmul.allow_tf32
            assert not torch.backends.cudnn.allow_tf32
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
