"""What `onelip certify` prints about a detector."""

from __future__ import annotations

from typing import Any

import typer

from onelip.apps.common import percent, radius_text, show_table
from onelip.report.detection import shown
from onelip.report.lines import NAMES


def show_certified(results: dict[str, Any]) -> None:
    """Print the certified values of a detector, the best thresholds and the radii of its objects."""
    _show_criteria(results)
    _show_best(results)
    _show_radii(results)
    data, clean = results["data"], results["clean"]
    typer.echo(
        f"clean mAP@50 {percent(clean['map50'])}, mAP@[.50:.95] {percent(clean['map50_95'])}; "
        f"no location newly fires below eps {radius_text(results['silent']['median'])} (median of "
        f"{data['images']} images); {results['seconds_per_image']:.3g} s per image "
        f"({results['seconds_forward']:.3g} s forward pass)"
    )
    for reason in dict.fromkeys(c["why"] for c in results["criteria"] if c["why"]):
        keys = [c["key"] for c in results["criteria"] if c["why"] == reason]
        typer.echo(f"not certified: {', '.join(keys)}: {reason}")


def _show_criteria(results: dict[str, Any]) -> None:
    data, rows = results["data"], results["rows"]
    typical = [("per value /255", "-", *(f"{row['rms_255']:.3g}" for row in rows))]
    show_table(
        f"{results['model']['path']} on {data['name']} {data['split']}, {data['images']} images, "
        f"{results['objects']} objects; scores above {results['threshold']:g}, IoU {results['iou']:g}",
        ["certified at eps", "clean", *(f"{row['eps']:g}" for row in rows)],
        [
            *typical,
            *(
                (
                    NAMES.get(c["key"], c["key"]),
                    *(shown(v, c) for v in (c["clean"], *(r[c["key"]] for r in rows))),
                )
                for c in results["criteria"]
            ),
        ],
    )


def _show_best(results: dict[str, Any]) -> None:
    show_table(
        "Largest certified recall over the thresholds, chosen on these images",
        [
            f"false {'locations' if results['regression'] == 'free' else 'detections'} allowed in an image",
            "eps",
            "located" if results["regression"] == "free" else "recall",
            "score above",
        ],
        [
            (r["allowed"], r["eps"], percent(r["recall"]), "-" if r["score"] is None else f"{r['score']:g}")
            for r in results["best"]
        ],
    )


def _show_radii(results: dict[str, Any]) -> None:
    what = "located" if results["regression"] == "free" else "found"
    rows = []
    for row in results["by_class"]:
        for kind, text in (
            ("vanish", what),
            ("label", "of this class"),
            ("mislabel", "not another class instead"),
        ):
            radii = row[kind]
            if not row["objects"] or (kind != "vanish" and len(results["by_class"]) == 1):
                continue
            quartiles = (radius_text(radii[q]) for q in ("lower_quartile", "median", "upper_quartile"))
            rows.append(
                (
                    row["class"],
                    text,
                    *quartiles,
                    row["objects"],
                    row["found"],
                    radii["zero"],
                    radii["undefined"],
                )
            )
    if rows:
        columns = ["class", "below it the object is", "lower quartile", "median", "upper quartile", "objects"]
        show_table(
            "Certified radius of an object, alone", [*columns, "clean " + what, "radius 0", "capped"], rows
        )
