"""What had to be repaired in a set of boxes, and what was left out."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

MEANINGS = {
    "clipped": "the box reaches beyond the picture: clipped to it",
    "thin": "less than a hundredth of a pixel wide or high: left out",
    "crowd": "a crowd, not one object: left out; what is detected there counts as false",
    "difficult": "marked as difficult: kept as any other object",
    "difficult, left out": "marked as difficult: left out; what is detected there counts as false",
}


@dataclass
class Repairs:
    """What was done to the boxes of a set.

    Attributes:
        found: For each kind of `MEANINGS` the pictures concerned, once a box.
    """

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, image: str) -> None:
        """Note one box."""
        self.found.setdefault(kind, []).append(image)

    def of(self, images: Container[str]) -> Repairs:
        """Return those of some pictures."""
        kept = {kind: [name for name in names if name in images] for kind, names in self.found.items()}
        return Repairs({kind: names for kind, names in kept.items() if names})

    def rows(self) -> list[dict[str, Any]]:
        """Kind, number of boxes, meaning and the first three pictures, JSON-ready."""
        return [
            {"kind": kind, "count": len(self.found[kind]), "meaning": text, "first": self.found[kind][:3]}
            for kind, text in MEANINGS.items()
            if kind in self.found
        ]
