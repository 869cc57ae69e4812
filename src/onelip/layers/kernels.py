"""Orthogonal convolution kernels, built from orthonormal matrices with matrix products only.

Inside this module a kernel is `(groups, kh, kw, rows, columns)`: taps first, so that one batched product
treats all of them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def grow(kernel: Tensor, basis: Tensor, axis: int) -> Tensor:
    r"""Compose a kernel with the two-tap orthogonal filter `P + (I - P) z`, `P = Q Q^T`, along one axis.

    `P` is a projector, so `P + (I - P) z` is unitary for every `|z| = 1`: the result is as orthogonal as the
    input, and one tap longer along `axis` (0 for height, 1 for width).

    Args:
        kernel: `(groups, kh, kw, rows, columns)`.
        basis: `(groups, columns, rank)` with orthonormal columns.
        axis: 0 or 1.

    Source: Xiao et al., "Dynamical isometry and a mean field theory of CNNs", ICML 2018; Li et al.,
        "Preventing gradient attenuation in Lipschitz constrained convolutional networks", NeurIPS 2019.
    """
    flat = kernel.flatten(1, 3)
    inside = ((flat @ basis) @ basis.mT).view_as(kernel)
    outside = kernel - inside
    after = [0, 0, 0, 0, 0, 0, 0, 0]
    after[5 if axis == 1 else 7] = 1
    before = [0, 0, 0, 0, 0, 0, 0, 0]
    before[4 if axis == 1 else 6] = 1
    return F.pad(inside, after) + F.pad(outside, before)


def orthogonal_kernel(
    base: Tensor, projectors: Tensor, *, inputs: int, size: tuple[int, int], stride: tuple[int, int]
) -> Tensor:
    """Assemble an orthogonal kernel: a strided orthonormal base, grown tap by tap.

    Args:
        base: `(groups, rows, width * sh * sw)` orthonormal: the kernel of side equal to the stride.
        projectors: `(kh - sh + kw - sw, groups, width, width // 2)` orthonormal.
        inputs: input channels of one group, at most `width`: the first ones are kept.
        size: `(kh, kw)`.
        stride: `(sh, sw)`.

    Returns:
        `(groups, rows, inputs, kh, kw)`.
    """
    groups, rows, columns = base.shape
    sh, sw = stride
    width = columns // (sh * sw)
    kernel = base.view(groups, rows, width, sh, sw).permute(0, 3, 4, 1, 2).contiguous()
    # the two axes in turn: the kernel stays as small as possible for as long as possible
    missing = [size[0] - sh, size[1] - sw]
    axis = 0
    for basis in projectors:
        axis = axis if missing[axis] else 1 - axis
        kernel = grow(kernel, basis, axis)
        missing[axis] -= 1
        axis = 1 - axis
    return kernel[..., :inputs].permute(0, 3, 4, 1, 2)
