"""The bound for very wide kernels, tried on narrow ones where the truth is cheap."""

import pytest
import torch

from onelip.bounds import conv_norm, convolution
from onelip.layers import OrthogonalConv2d

SHAPES = [(6, 6, 3, 3), (4, 9, 3, 3), (9, 4, 3, 3), (5, 5, 1, 4), (3, 7, 5, 2), (4, 4, 3)]


def largest_gain(kernel):
    """The largest singular value of the symbol on a fine grid: the supremum from below."""
    axes = tuple(range(2, kernel.dim()))
    symbol = torch.fft.fftn(kernel, s=[48] * len(axes), dim=axes).flatten(2).movedim(2, 0)
    return float(torch.linalg.matrix_norm(symbol, 2).max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(8))
def test_it_stands_above_the_supremum(shape, seed):
    kernel = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kernel = kernel * (1.0 if seed % 2 else kernel.abs())  # some with heavy entries
    bound, lower = convolution._residual_in_space(kernel[None])
    assert lower <= largest_gain(kernel) * (1 + 1e-12) <= bound


def test_it_is_reached_by_two_taps_that_add_up():
    # W(w) = 1 + exp(i w): the supremum is 2, and the coefficients of its Gram matrix are 2, 1, 1
    bound, _ = convolution._residual_in_space(torch.ones(1, 1, 1, 2, dtype=torch.float64))
    assert bound == pytest.approx(2.0, rel=1e-9)


def test_wide_orthogonal_kernels_are_bounded_close_to_one(monkeypatch):
    monkeypatch.setattr(convolution, "_WIDE", 0)
    torch.manual_seed(0)
    layer = OrthogonalConv2d(24, 32, 3, stride=2, scale=1.5).eval()
    assert 1.5 <= conv_norm(layer.weight, stride=2) * (1 + 1e-6) <= 1.5 * 1.0001
