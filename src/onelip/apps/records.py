"""Results of single images, one JSON line each, and their sum."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onelip.core import errors

Record = dict[str, Any]


class Records:
    """A file of one line for each certified image, below a line that says what was computed.

    Lines are written whole and flushed, so that an interruption loses at most the image at hand; a torn last line is
    dropped on the next start.

    Args:
        path: the file.
        key: what the lines depend on (weights, data, eps, ...).
        resume: keep the lines that are there; they must have the same key.

    Raises:
        InputError: on resuming, when the lines there are of something else.
        StorageError: when the file cannot be written.
    """

    def __init__(self, path: Path, key: Record, *, resume: bool) -> None:
        self.path = path
        self._done: dict[int, Record] = {}
        if resume and path.is_file():
            self._read(key)
        self._write([{"key": key}, *self._done.values()], "w")

    def _read(self, key: Record) -> None:
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break  # torn by an interruption: what follows is not trusted either
        found = lines[0].get("key") if lines and isinstance(lines[0], dict) else None
        if not lines:
            return
        if found != key:
            differs = [k for k in key if not isinstance(found, dict) or found.get(k) != key[k]]
            raise errors.InputError(
                errors.explain(
                    f"certify: {self.path} cannot be resumed",
                    received=f"other {', '.join(differs)} than asked for now",
                    expected="the same model, data and options",
                    why="images certified under other conditions cannot be summed up with these",
                    fix="start anew without --resume, or choose another --out",
                )
            )
        self._done = {record["index"]: record for record in lines[1:]}

    def _write(self, records: Sequence[Record], mode: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, encoding="utf-8") as file:
                file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in records)
        except OSError as error:
            raise errors.StorageError(
                errors.explain(
                    f"certify: {self.path} cannot be written",
                    received=error.strerror,
                    fix="free some space or choose another folder with --out",
                )
            ) from error

    def add(self, record: Record) -> None:
        """Keep one image."""
        self._write([record], "a")
        self._done[record["index"]] = record

    def __contains__(self, index: int) -> bool:
        return index in self._done

    def chosen(self, indices: Sequence[int]) -> list[Record]:
        """The records of these images, as far as they are done."""
        return [self._done[index] for index in indices if index in self._done]


def summarise(
    done: Sequence[Record], grid: Sequence[float], eps: Sequence[float], *, classes: Sequence[str], p: float
) -> dict[str, Any]:
    """Averages over images: curves on the grid, rows at the eps asked for, clean accuracy and IoU.

    Macro averages give every image the same weight, micro averages every valid pixel. The budgets of two images are
    separate, so both are exact. Images without a valid pixel are left out and counted.
    """
    known = [r for r in done if r["valid"]]
    accuracy = {average: _mean(known, "accuracy", average) for average in ("micro", "macro")}
    stability = {average: _mean(known, "stability", average) for average in ("micro", "macro")}
    clean, iou = _clean(known, classes)
    place = {value: i for i, value in enumerate(grid)}
    rows = [
        {
            "eps": value,
            **{f"accuracy_{k}": v[place[value]] if v else None for k, v in accuracy.items()},
            **{f"stability_{k}": v[place[value]] if v else None for k, v in stability.items()},
        }
        for value in sorted(set(eps))
    ]
    common = {
        "average": "micro",
        "eps": list(grid),
        "count": len(known),
        "undefined": len(done) - len(known),
        "p": str(p),
    }
    return {
        "lipschitz": max(r["lipschitz"] for r in done),
        "rows": rows,
        "curves": [
            {
                "criterion": "PixelAccuracy",
                "clean": clean["pixel_accuracy_micro"],
                "values": accuracy["micro"],
                **common,
            },
            {"criterion": "Stability", "clean": 1.0, "values": stability["micro"], **common},
        ],
        "clean": {**clean, "iou": iou},
        "undefined": len(done) - len(known),
        "seconds_per_image": sorted(r["seconds"] for r in done)[len(done) // 2],
    }


def _mean(known: Sequence[Record], name: str, average: str) -> list[float]:
    """Mean of the (E, 1) values of each image."""
    weights = [r["valid"] if average == "micro" else 1 for r in known]
    total = sum(weights)
    points = len(known[0][name]) if known else 0
    return [
        sum(w * r[name][i][0] for w, r in zip(weights, known, strict=True)) / total for i in range(points)
    ]


def _clean(
    known: Sequence[Record], classes: Sequence[str]
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Pixel accuracy, and IoU of the whole data set; classes without any pixel are left out of the mean."""
    count = range(len(classes))
    total = [[sum(r["confusion"][i][j] for r in known) for j in count] for i in count]
    shares = [sum(r["confusion"][i][i] for i in count) / r["valid"] for r in known]
    pixels = sum(r["valid"] for r in known)
    iou: dict[str, float | None] = {}
    for i, name in enumerate(classes):
        union = sum(total[i]) + sum(row[i] for row in total) - total[i][i]
        iou[name] = total[i][i] / union if union else None
    defined = [value for value in iou.values() if value is not None]
    clean = {
        "pixel_accuracy_micro": sum(total[i][i] for i in count) / pixels if pixels else None,
        "pixel_accuracy_macro": sum(shares) / len(shares) if shares else None,
        "miou": sum(defined) / len(defined) if defined else None,
    }
    return clean, iou
