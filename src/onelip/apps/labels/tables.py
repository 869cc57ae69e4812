"""What the commands about classifiers print."""

from __future__ import annotations

from typing import Any

import typer

from onelip.apps.common import percent, radius_text, show_table
from onelip.report.classification import named


def show_certified(results: dict[str, Any]) -> None:
    """Print the certified accuracy of a classifier, its radii and its classes."""
    data, rows = results["data"], results["rows"]
    typical = ("per value /255", "-", *(f"{row['rms_255']:.3g}" for row in rows))
    show_table(
        f"{results['model']['path']} on {data['name']} {data['split']}, {data['images']} images",
        ["certified at eps", "clean", *(f"{row['eps']:g}" for row in rows)],
        [
            typical,
            *(
                (named(c["key"]), percent(c["clean"]), *(percent(row[c["key"]]) for row in rows))
                for c in results["criteria"]
            ),
        ],
    )
    columns = ["lower_quartile", "median", "upper_quartile"]
    show_table(
        "Certified radius of an image: no smaller perturbation changes a right answer",
        ["constants", "lower quartile", "median", "upper quartile", "wrong or tied"],
        [
            (text, *(radius_text(results[key][c]) for c in columns), results[key]["zero"])
            for text, key in (("of each pair of classes", "radius"), ("one for all pairs", "joint_radius"))
        ],
    )
    show_table(
        "Classes",
        ["class", "images", "accuracy", *(f"eps {row['eps']:g}" for row in rows), "median radius", "nearest"],
        [
            (
                c["class"],
                c["images"],
                percent(c["accuracy"]),
                *map(percent, c["certified"]),
                radius_text(c["radius"]["median"]),
                c["nearest"],
            )
            for c in results["by_class"]
            if c["images"]
        ],
    )
    typer.echo(
        f"{results['seconds_per_image']:.3g} s per image ({results['seconds_forward']:.3g} s forward pass)"
    )


def show_attack(results: dict[str, Any]) -> None:
    """Print what attacks did to a classifier."""
    data, rows = results["data"], results["attacked"]
    units = dict(zip((row["eps"] for row in rows), results["units"], strict=False))
    show_table(
        f"{results['model']['path']} on {data['name']} {data['split']}, {data['images']} images",
        ["goal", "criterion", "eps", "per value /255", "clean", "noise", "attacked", "certified"],
        [
            (
                row["goal"],
                named(row["criterion"]),
                row["eps"],
                f"{units[row['eps']]['rms_255']:.3g}",
                percent(row["clean"]),
                percent(row["noise"]),
                percent(row["attacked"], up=True),
                percent(row["certified"]),
            )
            for row in rows
        ],
    )
    if results["smallest"]:
        show_table(
            f"Smallest perturbations up to norm {max(units):g}: quartiles over the images that need one",
            ["goal", "images", "reached", "found", "certified", "found / certified"],
            [
                (
                    s["goal"],
                    s["images"],
                    s["reached"],
                    *(_listed(s[k]) for k in ("quartiles", "certified", "gap")),
                )
                for s in results["smallest"]
            ],
        )
    typer.echo(
        f"certified and attacked values are consistent on every image; the logits moved by at most "
        f"{results['largest_gain']:.4g} times the perturbation, proven {results['lipschitz']:.6g}; "
        f"{results['seconds_per_image']:.3g} s per image, {results['queries']} images through the model"
    )


def _listed(values: list[float | str] | None) -> str:
    return "-" if values is None else ", ".join(f"{float(value):.4g}" for value in values)
