"""Models that come with the package."""

from __future__ import annotations

import difflib
from pathlib import Path

from ..core.errors import DataError, explain
from ..core.files import read_json

SHIPPED = Path(__file__).parent / "shipped"


def pretrained() -> dict[str, str]:
    """List the models shipped with the package: name to one line of description.

    Each name works in `onelip.load`. Shipped weights are trained on synthetic data that the package renders.

    Example:
        >>> isinstance(pretrained(), dict)
        True
    """
    return {folder.name: _line(folder) for folder in _folders()}


def find(path: str | Path) -> Path:
    """Return the folder of a stored model: an existing folder, else a shipped name.

    Raises:
        DataError: neither exists.
    """
    folder = Path(path)
    if folder.is_dir():
        return folder
    names = [f.name for f in _folders()]
    if str(path) in names:
        return SHIPPED / str(path)
    close = difflib.get_close_matches(str(path), names, n=1)
    raise DataError(
        explain(
            "there is no such model",
            received=repr(str(path)),
            expected="a folder written by model.save" + (f", or one of {', '.join(names)}" if names else ""),
            fix=f"did you mean {close[0]!r}?" if close else "check the path",
        )
    )


def _folders() -> list[Path]:
    if not SHIPPED.is_dir():
        return []
    return sorted(folder for folder in SHIPPED.iterdir() if (folder / "config.json").is_file())


def _line(folder: Path) -> str:
    record = read_json(folder / "config.json")
    model = record["model"]
    about = folder / "about.txt"
    text = about.read_text(encoding="utf-8").strip() if about.is_file() else ""
    return text or f"{model['name']} {model['size']}, {model['classes']} classes"
