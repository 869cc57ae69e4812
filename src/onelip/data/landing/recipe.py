"""What a folder of rendered runway pictures depends on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import DataError, explain
from ...core.files import sha256

if TYPE_CHECKING:
    from ..runway.dataset import RunwayDataset


@dataclass(frozen=True)
class Recipe:
    """What is rendered: the arguments of `onelip.data.runways`.

    Attributes:
        n: Number of pictures.
        size: (h, w).
        seed: Picture k depends on (seed, k) and the options alone.
        split: Name of the part.
        options: The other arguments of `runways` that are not at their default.

    Example:
        >>> Recipe(n=4, size=(64, 64), seed=0, split="val").to_dict()["n"]
        4
    """

    n: int
    size: tuple[int, int]
    seed: int = 0
    split: str = "train"
    options: dict[str, Any] = field(default_factory=dict)

    def dataset(self) -> RunwayDataset:
        """Return the data set that draws the pictures.

        Raises:
            InputError: the recipe cannot be used.
        """
        from ..runway.dataset import runways

        return runways(self.n, self.size, seed=self.seed, split=self.split, **self.options)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe and what else decides the bytes of the files, JSON-ready."""
        options: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in self.options.items()}
        if "database" in options:
            options["database"] = _content(options["database"])
        return {
            "n": self.n,
            "size": list(self.size),
            "seed": self.seed,
            "split": self.split,
            "options": options,
            "renderer": renderer_version(),
            "numpy": metadata.version("numpy"),
            "pillow": metadata.version("pillow"),
        }


def _content(path: str) -> str:
    """A file's hash: its content counts, not its place."""
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(
            explain(f"{path} cannot be read", received=error.strerror, expected="a runway database (JSON)")
        ) from error


def renderer_version() -> str:
    """Return a fingerprint of the code that draws: pictures of two versions of it must not be mixed."""
    found = hashlib.sha256()
    for path in sorted((Path(__file__).parent.parent / "runway").glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]
