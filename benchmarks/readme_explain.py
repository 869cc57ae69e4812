"""Tables of classifiers and explanations for README.md and docs, from the files in benchmarks/results."""

from __future__ import annotations

from typing import Any

from onelip.core.numbers import round_up
from readme_boxes import cell, high, low
from readme_source import HERE, load, source, write_card

SETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
COLUMNS = {
    "deletion": "deletion, down",
    "insertion": "insertion, up",
    "deletion_blur": "deletion to blur, down",
    "mu_zero": "MuFidelity zero, up",
    "mu_uniform": "uniform, up",
    "mu_blur": "blur, up",
    "gini": "Gini, up",
    "jpeg_kb": "JPEG kB, down",
    "mass": "on the ink, up",
    "robustness": "robustness, down",
}
PLACES = {"pointing": "pointing", "mass": "mass", "auc": "AUC", "iou": "IoU of the top tenth", "gini": "Gini"}


def known(names: list[str]) -> list[str]:
    """Those that were measured."""
    return [name for name in names if (HERE / "results" / f"explain-{name}.json").is_file()]


def interval(row: dict[str, Any], key: str) -> str:
    """A mean and its interval, or a dash."""
    if key not in row:
        return "-"
    value, start, end = row[key]
    return f"{value:.3f} [{start:.3f}, {end:.3f}]"


def classifiers() -> str:
    """Tabulate accuracy, certified accuracy and counterfactuals of classifiers and their twins."""
    head = "| data, model | accuracy | certified at 0.25 | 0.5 | 1.0 | with the joint constant: 0.25 | 0.5 | 1.0 |"
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    notes = []
    for name in known(list(SETS)):
        record = load(f"explain-{name}")
        for label, one in record["results"].items():
            pairs = dict(zip(one["eps"], one["certified"], strict=True))
            joint = dict(zip(one["eps"], one["certified_joint"], strict=True))
            cells = [low(pairs[e]) for e in (0.25, 0.5, 1.0)] + [low(joint[e]) for e in (0.25, 0.5, 1.0)]
            rows.append(f"| {SETS[name]}, {label} | {cell(one['accuracy'])} | {' | '.join(cells)} |")
        images = next(iter(record["results"].values()))["images"]
        notes.append(f"{SETS[name]}: {images} test images. {source(record)}")
    return "\n".join([*rows, "", *notes])


def counterfactuals() -> str:
    """Tabulate how far counterfactuals are, and how far they are at least."""
    head = "| data, model | success | distance, median | proven, median | gap, median | DDN-200 | nearer than DDN |"
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    notes = []
    for name in known(list(SETS)):
        record = load(f"explain-{name}")
        for label, one in record["results"].items():
            for kind, text in (("free", ""), ("box", ", in [0, 1]")):
                row = one["counterfactuals"][kind]
                gap = (
                    f"{row['gap'][0]:.2f} [{row['gap'][1]:.2f}, {row['gap'][2]:.2f}]" if "gap" in row else "-"
                )
                rows.append(
                    f"| {SETS[name]}, {label}{text} | {low(row['success'])} | {high(row['distance'])} | "
                    f"{low(row.get('lower_bound'))} | {gap} | {cell(row.get('ddn'))} | {cell(row.get('ours_nearer'))} |"
                )
        notes.append(source(record))
    return "\n".join([*rows, "", *notes])


def attributions() -> str:
    """Tabulate the metrics of attribution maps, with the controls."""
    parts = []
    for name in known(list(SETS)):
        record = load(f"explain-{name}")
        head = "| model | map | " + " | ".join(COLUMNS.values()) + " |"
        rows = [f"**{SETS[name]}**", "", head, "|" + "---|" * (head.count("|") - 1)]
        for label, one in record["results"].items():
            for method, row in one["attributions"]["rows"].items():
                cells = " | ".join(interval(row, key) for key in COLUMNS)
                rows.append(f"| {label} | {method.replace('_', ' ')} | {cells} |")
        parts += [*rows, "", *steadiness(record), "", *record["notes"], source(record), ""]
    return "\n".join(parts)


def steadiness(record: dict[str, Any]) -> list[str]:
    """How saliency moves under noise, and how near the theory of transport is."""
    head = "| model | saliency under noise, l2 | 1 - rank correlation | from SmoothGrad | slope | residual | straight |"
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    for label, one in record["results"].items():
        row = one["attributions"]["rows"]["saliency"]
        cells = " | ".join(interval(row, key) for key in ("unsteady_l2", "unsteady_rank", "from_smoothgrad"))
        theory = one.get("transport", {})
        rest = " | ".join(cell(theory.get(key)) for key in ("slope", "residual", "straight"))
        rows.append(f"| {label} | {cells} | {rest} |")
    return rows


def runway_maps() -> str:
    """Tabulate where maps of segmentation networks lie."""
    if not known(["runways"]):
        return ""
    record = load("explain-runways")
    head = "| model | map | " + " | ".join(PLACES.values()) + " |"
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    for label, one in record["results"].items():
        for method, row in one["rows"].items():
            rows.append(f"| {label} | {method} | " + " | ".join(interval(row, key) for key in PLACES) + " |")
    return "\n".join([*rows, "", *record["notes"], source(record)])


def write_cards() -> None:
    """Write the measured values into the card of the shipped classifier."""
    for name in known(["mnist"]):
        one = load(f"explain-{name}")["results"]["LipNet"]
        pairs = dict(zip(one["eps"], one["certified"], strict=True))
        row = one["counterfactuals"]["free"]
        write_card(
            "digits-convnet",
            one["weights_sha256"],
            f"{one['images']} test images: accuracy {cell(one['accuracy'])}; certified "
            f"{', '.join(f'{low(pairs[e])} at {e:g}' for e in (0.25, 0.5, 1.0))}. "
            f"Counterfactuals: at most {round_up(row['gap'][0], 4)} times the proven minimum (median).",
        )
