"""Architectures by name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from ..core.errors import ConfigError, explain
from .base import LipModel
from .config import ModelConfig
from .factory import Factory

M = TypeVar("M", bound=type[LipModel])

_ARCHITECTURES: dict[str, type[LipModel]] = {}


def architecture(name: str) -> Callable[[M], M]:
    """Register a LipModel subclass under the name that `create` and stored models use."""

    def register(cls: M) -> M:
        _ARCHITECTURES[name] = cls
        return cls

    return register


def architectures() -> tuple[str, ...]:
    """Return the names that `create` takes.

    >>> "deeplabv3" in architectures()
    True
    """
    return tuple(sorted(_ARCHITECTURES))


def create(
    name: str,
    *,
    classes: int,
    size: str = "S",
    constraint: str | None = "orthogonal",
    in_channels: int = 3,
    mean: float | Sequence[float] = 0.5,
    std: float | Sequence[float] = 0.5,
    scale: str = "fixed",
    mode: str = "project",
    **options: Any,
) -> LipModel:
    """Build a new model with fresh weights, in training mode.

    Args:
        name: an architecture; `architectures()` lists them.
        classes: number of classes K.
        size: a named size of the architecture, "XS" (demos and tests) and "S" for all of them.
        constraint: "orthogonal", "spectral", "orthogonium" (the same from that package's layers) or None, the
            unconstrained twin: the same graph with ordinary convolutions, ReLU and batch normalisation.
        in_channels: number of input channels C.
        mean: input mean, one number or one per channel; part of the model.
        std: input standard deviation, likewise; multiplies the bound by 1/min(std).
        scale: "fixed" or "learnable" root-mean-square factors on convolutions, or "none".
        mode: "project", or "retract" (faster steps; call `onelip.layers.retract_` after each optimiser step).
        **options: the architecture's own options, each named in its class; they go beside or over the size.

    Returns:
        A model; seed torch before the call for reproducible weights.

    Raises:
        ConfigError: an unknown name, size, constraint or option (with the closest known one).

    Example:
        >>> import torch
        >>> model = create("deeplabv3", classes=3, size="XS")
        >>> model(torch.zeros(1, 3, 33, 40)).shape
        torch.Size([1, 3, 33, 40])
    """
    cls = _ARCHITECTURES[_known("architecture", name, _ARCHITECTURES)]
    chosen = cls.defaults | cls.sizes[_known("size", size, cls.sizes)]
    for option in options:
        _known(f"option of {name}", option, chosen)
    config = ModelConfig(
        name, classes, size, constraint, in_channels, mean, std, scale, mode, chosen | options
    )
    return build(config)


def build(config: ModelConfig, *, folded: bool = False) -> LipModel:
    """Build the model of a configuration; `folded` gives plain layers, in eval mode, awaiting saved weights.

    Raises:
        ConfigError: the configuration names an unknown architecture or misses options.
    """
    cls = _ARCHITECTURES[_known("architecture", config.name, _ARCHITECTURES)]
    # An option that came later has its default in configurations from before.
    config = dataclasses.replace(config, options={**cls.defaults, **config.options})
    expected = sorted(cls.defaults | cls.sizes["S"])
    if sorted(config.options) != expected:
        raise ConfigError(
            explain(f"options of {config.name}", received=sorted(config.options), expected=expected)
        )
    model = cls(config, Factory(config.constraint, config.scale, config.mode, folded))
    return model.eval() if folded else model


def registered(name: str) -> type[LipModel] | None:
    """Return the class registered under a name, or None."""
    return _ARCHITECTURES.get(name)


def _known(what: str, value: Any, known: Iterable[str]) -> Any:
    names = sorted(known)
    if value not in names:
        close = difflib.get_close_matches(str(value), names, n=1)
        raise ConfigError(
            explain(
                f"unknown {what}",
                received=repr(value),
                expected=", ".join(names) or "none",
                fix=f"did you mean {close[0]!r}?" if close else None,
            )
        )
    return value
