# ruff: noqa: E501
"""Bad input raises at the edge, with a text that says what was received and what to do."""

import math

import pytest
import torch

from onelip.core import checks, errors
from onelip.core.errors import InputError, NonFiniteError, PrecisionError

GOOD = torch.rand(2, 3, 4, 5)
LOGITS = torch.randn(2, 3, 4, 5)
LABELS = torch.zeros(2, 4, 5, dtype=torch.int64)


def test_good_input_passes_unchanged():
    assert checks.images(GOOD) is GOOD
    assert checks.logits(LOGITS) is LOGITS
    labels = LABELS.clone()
    labels[0, 0] = 255
    assert checks.target(labels, LOGITS) is labels
    assert checks.eps_values([0, 0.5]).tolist() == [0, 0.5]
    assert checks.eps_values(0.25).shape == (1,)
    assert checks.norm(2) == 2.0
    assert checks.size([4, 5]) == (4, 5)
    assert checks.lipschitz(1.5) == 1.5


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (GOOD.numpy(), InputError, "not a tensor"), (GOOD[0], InputError, r"wrong shape.*\(B, C, H, W\)"),
        ((GOOD * 255).byte(), InputError, r"not floating point.*images.float\(\) / 255"), (GOOD[:0], InputError, "empty"),
        (GOOD * 255, InputError, "out of range.*divide 8-bit images by 255"), (GOOD - 0.5, InputError, "out of range"),
        (GOOD * math.nan, NonFiniteError, "NaN or infinite values"), (GOOD / 0, NonFiniteError, "not finite"),
    ],
)  # fmt: skip
def test_images(value, error, text):
    with pytest.raises(error, match=text):
        checks.images(value)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (LOGITS[:, :1], InputError, "too few classes"), (LOGITS.half(), PrecisionError, "cannot be certified.*float64"),
        (LOGITS.bfloat16(), PrecisionError, "rounding errors"), (LOGITS * math.inf, NonFiniteError, "not finite"),
        (LOGITS[0], InputError, "wrong shape"), (None, InputError, "not a tensor"),
    ],
)  # fmt: skip
def test_logits(value, error, text):
    with pytest.raises(error, match=text):
        checks.logits(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (LABELS[:1], "does not fit the logits"), (LABELS[0], "wrong shape"), (LABELS.int(), r"wrong type.*labels.long\(\)"),
        (LABELS + 3, r"outside the classes.*\[3\].*0..2"), (LABELS - 1, r"\[-1\]"),
    ],
)  # fmt: skip
def test_target(value, text):
    with pytest.raises(InputError, match=text):
        checks.target(value, LOGITS)
    checks.target(LABELS + 7, LOGITS, ignore_index=7)


@pytest.mark.parametrize("value", [[], [-0.1], [math.nan], [0, math.inf], "abc", None, [[1], "x"]])
def test_eps(value):
    with pytest.raises(InputError, match="eps"):
        checks.eps_values(value)


def test_eps_is_a_copy():
    mine = torch.tensor([0.5], dtype=torch.float64)
    checks.eps_values(mine).mul_(3)
    assert mine.item() == 0.5
    with pytest.raises(InputError, match="at index 1"):
        checks.eps_values([0.5, -1])


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "x", None, True])
def test_lipschitz(value):
    with pytest.raises(InputError, match="lipschitz"):
        checks.lipschitz(value)


@pytest.mark.parametrize("value", [0, -2, 1.5, True, None, "3"])
def test_integers(value):
    with pytest.raises(InputError, match=r"`n` is not usable.*integer >= 1"):
        checks.positive_int("n", value)
    with pytest.raises(InputError, match="size"):
        checks.size((4, value))


def test_every_error_is_ours_and_of_a_standard_kind():
    kinds = {
        "InputError": ValueError, "ConfigError": ValueError, "DataError": ValueError, "StorageError": OSError,
        "MissingExtraError": ImportError, "UnknownLayerError": TypeError, "UnsoundError": AssertionError,
        "PrecisionError": ValueError, "NonFiniteError": ValueError, "TrainModeError": Exception, "IntegrityError": Exception,
    }  # fmt: skip
    for name, kind in kinds.items():
        assert issubclass(getattr(errors, name), kind)
        assert issubclass(getattr(errors, name), errors.OnelipError)
    for name in ("UnknownLayerError", "TrainModeError", "PrecisionError", "NonFiniteError"):
        assert issubclass(getattr(errors, name), errors.BoundError)


def test_texts_keep_their_order():
    text = errors.explain("what", received=0, expected="e", why="w", fix="f")
    assert text == "what; received 0; expected e; why: w; to fix: f"
    assert errors.explain("alone") == "alone"


def test_logits_that_cannot_be_squared_or_counted_are_refused():
    with pytest.raises(
        InputError, match="`logits` are too large; received 1e\\+150; expected at most 1e\\+140"
    ):
        checks.logits(torch.full((1, 2, 2, 2), 1e150, dtype=torch.float64))
    with pytest.raises(InputError, match="`logits` is empty"):
        checks.logits(torch.zeros(0, 2, 4, 4))
