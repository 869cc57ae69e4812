"""What a bound is made of, for programs and for people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.numbers import round_up

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Layer:
    """One step of a bound: where, which rule, its own constant, the constant so far, and why."""

    name: str
    rule: str
    local: float
    running: float
    reason: str


@dataclass(frozen=True)
class Bound:
    """A proven upper bound on the Lipschitz constant of a model.

    Attributes:
        value: L such that ||f(x) - f(y)||_p <= L ||x - y||_p for all images x, y of the given size, for every
            output of the model jointly; float64, rounding margins included.
        layers: one row per step that is not merely a rearrangement of entries.
        assumptions: what the number rests on.
        p: the norm, 1, 2 or infinity.
        size: shape of one input, usually (C, H, W).
    """

    value: float
    layers: tuple[Layer, ...]
    assumptions: tuple[str, ...]
    p: float
    size: tuple[int, ...]

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        norm = "inf" if math.isinf(self.p) else f"{self.p:g}"
        worst = max(self.layers, key=lambda row: row.local, default=None)
        lines = [f"Lipschitz bound (l_{norm}): {round_up(self.value)} for inputs {self.size}"]
        if worst is not None:
            lines.append(
                f"{len(self.layers)} steps; largest: {worst.name} ({worst.rule}) {round_up(worst.local)}"
            )
        lines += [f"assumes: {text}" for text in self.assumptions[:3]]
        if len(self.assumptions) > 3:
            lines.append(f"and {len(self.assumptions) - 3} more assumptions, see .assumptions")
        return "\n".join(lines)

    __repr__ = __str__

    def table(self) -> Table:
        """Return the steps as a rich table; print it with rich.print."""
        from rich.table import Table

        table = Table("layer", "rule", "local", "running", "reason", title=str(self).splitlines()[0])
        for row in self.layers:
            table.add_row(row.name, row.rule, round_up(row.local), round_up(row.running), row.reason)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return the bound as JSON-ready values."""
        return {
            "value": self.value,
            "p": "inf" if math.isinf(self.p) else self.p,
            "size": list(self.size),
            "assumptions": list(self.assumptions),
            "layers": [vars(row).copy() for row in self.layers],
        }
