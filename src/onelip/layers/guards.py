"""Which convolution settings an orthogonal layer takes: the others have a norm above 1."""

from __future__ import annotations

import math

from ..core import errors

Pair = tuple[int, int]


def refuse(
    what: str, received: object, expected: str, why: str | None = None, fix: str | None = None
) -> None:
    """Raise the InputError of a layer setting."""
    raise errors.InputError(errors.explain(what, received=received, expected=expected, why=why, fix=fix))


def pair(name: str, value: int | Pair, *, least: int = 1) -> Pair:
    """Return `value` as two integers, each at least `least`."""
    both = value if isinstance(value, tuple) else (value, value)
    if len(both) != 2 or any(isinstance(v, bool) or not isinstance(v, int) or v < least for v in both):
        refuse(f"{name} is not usable", repr(value), f"an integer >= {least} or two of them")
    return both


def check_channels(in_channels: int, out_channels: int, groups: int) -> None:
    """Check counts of channels and groups."""
    for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            refuse(f"{name} is not usable", repr(value), "an integer >= 1")
    if in_channels % groups or out_channels % groups:
        refuse(
            "channels do not divide into groups",
            f"in_channels={in_channels}, out_channels={out_channels}, groups={groups}",
            "both counts of channels multiples of groups",
        )


def check_geometry(kernel: Pair, stride: Pair, dilation: Pair) -> None:
    """Refuse what breaks orthogonality: stride and dilation with a common divisor, even kernels, gaps."""
    for k, s, d in zip(kernel, stride, dilation, strict=True):
        if math.gcd(s, d) > 1:
            refuse(
                "stride and dilation have a common divisor",
                f"stride {s}, dilation {d}",
                "coprime stride and dilation",
                why="taps then meet again on the coarser grid and the norm reaches 2",
                fix="use dilation=1, or stride=1",
            )
        if k < s:
            refuse(
                "kernel is smaller than the stride",
                f"kernel {k}, stride {s}",
                "kernel_size >= stride",
                why="pixels between the kernels would be lost",
            )
        if k % 2 == 0 and k != s:
            refuse(
                "even kernel",
                f"kernel {k}, stride {s}",
                "an odd kernel, or kernel_size equal to stride",
                why="an even kernel has no centre, so no padding keeps the size",
                fix=f"use kernel_size={k + 1}, or kernel_size=stride={k}",
            )


def check_trainable(width: int, kernel: Pair, stride: Pair) -> None:
    """Refuse groups of one channel: their orthogonal kernels are shifts, with nothing to train."""
    if width < 2 and kernel != stride:
        refuse(
            "too few channels per group",
            f"{width} channel wide groups",
            "at least 2 channels in or out of each group",
            why="the only orthogonal kernels of one channel are shifts: no weight would be trained",
            fix="use fewer groups or more channels (with a stride s, 2 s^2 channels out do as well)",
        )


def check_padding(mode: str, padding: Pair, same: Pair) -> None:
    """Refuse padding that copies a pixel more often than the norm allows."""
    if mode not in ("zeros", "circular"):
        refuse(
            "padding_mode raises the norm of the layer",
            repr(mode),
            "'zeros' or 'circular'",
            why="mirrored and repeated pixels are counted several times (norm 1.4 to 3)",
            fix="use padding_mode='zeros'",
        )
    if mode == "circular" and padding != same:
        refuse(
            "circular padding differs from the size-keeping one",
            padding,
            f"padding={same}",
            why="wrapped pixels would be counted twice (norm up to 2)",
            fix="leave padding=None",
        )


def check_divisible(height: int, width: int, stride: Pair) -> None:
    """Check at run time that a circular image tiles into strides."""
    if height % stride[0] or width % stride[1]:
        refuse(
            "circular padding on a side that the stride does not divide",
            f"size ({height}, {width}), stride {stride}",
            "sides that are multiples of the stride",
            why="the phases of the stride mix around the border (norm up to 2)",
            fix="pad or crop the image, or use padding_mode='zeros'",
        )


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Check a word against the allowed ones."""
    if value not in choices:
        refuse(f"{name} is unknown", repr(value), " or ".join(repr(c) for c in choices))


def check_scale(scale: float) -> None:
    """Check that a scale is a finite number."""
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
        refuse("scale is not usable", repr(scale), "a finite number")
