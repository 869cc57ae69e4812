"""What a model is built from, as plain data written next to the weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.checks import positive_int
from ..core.errors import ConfigError, explain

CONSTRAINTS = ("orthogonal", "spectral", None, "orthogonium")
SCALES = ("fixed", "learnable", "none")
MODES = ("project", "retract")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The arguments of `create`, complete and checked.

    `options` holds the architecture's own options (widths, depths...), every one of them, also those left at
    their default: a later change of a default cannot change a stored model.

    >>> ModelConfig("fcn", classes=2, mean=0.5, std=[0.2, 0.2, 0.25]).mean
    (0.5, 0.5, 0.5)
    """

    name: str
    classes: int
    size: str = "S"
    constraint: str | None = "orthogonal"
    in_channels: int = 3
    mean: Any = 0.5
    std: Any = 0.5
    scale: str = "fixed"
    mode: str = "project"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        positive_int("classes", self.classes)
        positive_int("in_channels", self.in_channels)
        _one_of("constraint", self.constraint, CONSTRAINTS)
        _one_of("scale", self.scale, SCALES)
        _one_of("mode", self.mode, MODES)
        object.__setattr__(self, "mean", _per_channel("mean", self.mean, self.in_channels))
        object.__setattr__(self, "std", _per_channel("std", self.std, self.in_channels, positive=True))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form; `from_dict` takes it back."""
        data = dataclasses.asdict(self)
        return data | {"mean": list(self.mean), "std": list(self.std), "options": _plain(dict(self.options))}

    @classmethod
    def from_dict(cls, data: Any) -> ModelConfig:
        """Rebuild a configuration, refusing missing and unknown keys.

        Raises:
            ConfigError: the mapping is not a complete model configuration.
        """
        expected = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(data, Mapping) or set(data) != expected:
            received = sorted(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
            raise ConfigError(
                explain("this is not a model configuration", received=received, expected=sorted(expected))
            )
        return cls(**data)


def _one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise ConfigError(
            explain(f"`{name}` is not known", received=repr(value), expected=" or ".join(map(repr, allowed)))
        )


def _per_channel(name: str, value: Any, channels: int, positive: bool = False) -> tuple[float, ...]:
    values = [value] * channels if isinstance(value, int | float) else list(value)
    values = [float(v) for v in values]
    usable = all(math.isfinite(v) and (v > 0 or not positive) for v in values)
    if len(values) != channels or not usable:
        raise ConfigError(
            explain(
                f"`{name}` is not usable",
                received=value,
                expected=f"one finite number, or one for each of the {channels} channels"
                + (", all > 0" if positive else ""),
                why="the normalisation is a layer of the model and its constant 1/min(std) is in the bound",
            )
        )
    return tuple(values)


def _plain(value: Any) -> Any:
    """Turn tuples into lists all the way down, as JSON will."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
