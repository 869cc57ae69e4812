"""What the tables share: reading results, saying where they come from, printing shares."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def load(name: str) -> dict[str, Any]:
    """Read one result."""
    record: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text())
    return record


def source(record: dict[str, Any]) -> str:
    """Say where and when a result was measured."""
    machine = record["machine"]
    place = f"{machine['processor']}, {machine['cores']} cores, torch {record['versions']['torch']}"
    return f"From `benchmarks/results/{record['benchmark']}.json` ({record['date'][:10]}, {place})."


def write_card(model: str, weights_sha256: str, measured: str) -> None:
    """Write the section "Measured" into the card of a shipped model, before its limits, if these weights ship."""
    card = HERE.parent / "src" / "onelip" / "models" / "shipped" / model / "README.md"
    if not card.is_file() or weights_sha256 not in card.read_text():
        return  # what was measured is not what ships
    text = re.sub(r"## Measured\n.*?(?=## Limits)", "", card.read_text(), flags=re.DOTALL)
    card.write_text(text.replace("## Limits", f"## Measured\n\n{measured}\n\n## Limits"))


def percent(value: float) -> str:
    """Print a share in per cent; certified shares are rounded down."""
    return f"{int(value * 10_000) / 100:.2f} %"


def percent_up(value: float) -> str:
    """Print an attacked share in per cent, an upper bound, rounded up."""
    return f"{math.ceil(value * 10_000 - 1e-9) / 100:.2f} %"
