"""Write the tables of README.md and docs from the files in benchmarks/results; nothing is typed by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import readme_boxes as boxes
import readme_explain as explained
from onelip.core.numbers import round_up
from readme_source import HERE, load, percent, percent_up, source, write_card

CURVE = ("pixel_accuracy", "certified@0.05", "certified@0.1", "certified@0.17", "certified@0.5")


def segmentation() -> str:
    """Tabulate trained LipNets against their twins."""
    head = "| data, model | pixel accuracy | mIoU | Lipschitz bound "
    head += "| certified at 0.05 | 0.1 | 0.17 | 0.5 | 1.0 | certified mIoU at 0.1 |"
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    notes = []
    for name in ("camvid", "kvasir"):
        record = load(f"segmentation-{name}")
        for kind in ("lipnet", "twin"):
            found = record["results"][kind]
            certified = " | ".join(
                percent(found["certified_accuracy"][e]) for e in ("0.05", "0.1", "0.17", "0.5", "1")
            )
            miou = percent(found["criteria"]["miou"]["certified"]["micro"]["0.1"])
            rows.append(
                f"| {name} val, {kind} | {percent(found['pixel_accuracy'])} | {percent(found['miou'])} | "
                f"{round_up(found['bound'], 4)} | {certified} | {miou} |"
            )
        notes.append(source(record))
    return "\n".join([*rows, "", *notes])


def smoothing() -> str:
    """Tabulate the certificate beside randomized smoothing."""
    record = load("rivals-camvid")
    rows = ["| eps | method | certified accuracy | s / image | passes | |", "|---|---|---|---|---|---|"]
    runs = record["results"]["smoothing"]
    first = next(iter(runs.values()))["comparison"]
    for eps in sorted({row["eps"] for row in first}):
        lipschitz = next(r for r in first if r["eps"] == eps and r["method"] == "Lipschitz")
        rows.append(compared(lipschitz, ""))
        for base, run in runs.items():
            found = [r for r in run["comparison"] if r["eps"] == eps and r["method"] != "Lipschitz"]
            rows += [compared(row, f", base {Path(base).name}") for row in found]
    images = next(iter(runs.values()))["images"]
    return "\n".join([*rows, "", f"{images} images. {source(record)}"])


def compared(row: dict[str, Any], base: str) -> str:
    """One line of the comparison."""
    method = row["method"].removesuffix(" (best)") + base
    return (
        f"| {row['eps']:g} | {method} | {percent(row['accuracy'])} | {row['seconds']:.2g} | {row['passes']} "
        f"| {row['note']} |"
    )


def sandwich() -> str:
    """Tabulate certified, attacked and clean accuracy of both models."""
    record = load("rivals-camvid")
    rows = ["| model | eps | certified | attacked | clean |", "|---|---|---|---|---|"]
    for name, run in record["results"]["attacked"].items():
        for row in run["rows"]:
            attacked = f"{math.ceil(row['attacked'] * 10_000) / 100:.2f} %"  # an upper bound: rounded up
            certified, clean = percent(row["certified"]), percent(row["clean"])
            rows.append(f"| {name} | {row['eps']:g} | {certified} | {attacked} | {clean} |")
    images = record["results"]["attacked"]["lipnet"]["images"]
    return "\n".join([*rows, "", f"{images} images; {record['notes'][-1]}. {source(record)}"])


def layers() -> str:
    """Tabulate the speed of the layers."""
    record = load("layers")
    found = record["results"]
    weights = found["weights, DeepLabV3 S"]["forward + backward"]["orthogonal"]["time / orthogonium"][
        "median"
    ]
    step = found["training step, DeepLabV3 S"]["orthogonal"]["time / twin"]["median"]
    inference = next(v for k, v in found.items() if k.startswith("inference"))
    folded = next(v for k, v in inference.items() if k.startswith("folded"))["time / twin"]["median"]
    rows = [
        "| DeepLabV3 S, measured in one run | compared with | time ratio, median |",
        "|---|---|---|",
        f"| weights of all layers, forward + backward | Orthogonium's layers | {weights:.2f} |",
        f"| training step | unconstrained twin | {step:.2f} |",
        f"| inference, folded | unconstrained twin | {folded:.2f} |",
    ]
    return "\n".join([*rows, "", source(record)])


def tried() -> str:
    """Tabulate the short trainings."""
    record = load("tried-camvid")
    rows = [
        "| changed | pixel accuracy | certified at 0.05 | 0.1 | 0.17 | 0.5 | Lipschitz bound |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in record["results"].items():
        metrics = found["metrics"]
        shown = " | ".join(percent(metrics[key]) for key in CURVE)
        rows.append(f"| {name} | {shown} | {round_up(metrics['lipschitz'], 4)} |")
    return "\n".join([*rows, "", *record["notes"], "", source(record)])


RUNWAY_MODELS = ("standard", "slightly robust", "strongly robust")


def runway_rows(key: str, average: str, eps: tuple[float, ...]) -> list[str]:
    """Clean value, then certified and attacked value at each eps, of the runway models."""
    found = load("runways")["results"]
    head = f"| model | Lipschitz bound | clean, all | clean | {' | '.join(f'eps {e:g}' for e in eps)} |"
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    for name in RUNWAY_MODELS:
        one = found["models"][name]
        chosen = {r["eps"]: r for r in one["attacked"] if (r["criterion"], r["average"]) == (key, average)}
        pairs = " | ".join(
            f"{percent(chosen[e]['certified'])} to {percent_up(chosen[e]['attacked'])}" for e in eps
        )
        rows.append(
            f"| {name} | {round_up(one['bound'], 4)} | {percent(one['certified'][key][average]['clean'])} | "
            f"{percent(chosen[eps[0]]['clean'])} | {pairs} |"
        )
    return rows


def runways() -> str:
    """Tabulate the IoU of the runway: what is certified, and what the attack left, beside a published figure."""
    record = load("runways")
    results = record["results"]
    rows = runway_rows("iou:runway", "micro", (0.25, 0.5, 1.0, 2.0))
    published = ", ".join(
        f"{name} {one['clean']:.2f} to {one['attacked']:.2f}" for name, one in results["deck"]["iou"].items()
    )
    first = results["models"]["standard"]
    size = "x".join(map(str, first["size"]))
    weaker = ", ".join(f"{name} {results['models'][name]['plain']['iou']:.2f}" for name in RUNWAY_MODELS)
    text = (
        f"IoU of the runway in rendered test images of {size}: clean over all {first['images']}, then over the "
        f"{first['attacked_images']} that are attacked, where each cell says certified to attacked. The truth lies "
        f"between. {source(record)}\n\nPublished for LARD, clean to attacked with 1.0: {published}. What plain PGD "
        f"({first['plain']['steps']} steps, eps {first['plain']['eps']:g}) leaves here of all "
        f"{first['plain']['images']}: {weaker}."
    )
    return "\n".join([*rows, "", text])


def renderer() -> str:
    """Tabulate the seconds of a picture and the sizes of the runways in it."""
    record = load("renderer")
    rows = ["| pixels | s / picture | box width, 5/25/50/75/95 % | height |", "|---|---|---|---|"]
    for size, found in record["results"].items():
        if not size.isdigit():
            continue
        boxes = found["boxes of 1000"]
        seconds = found["seconds per image, one core"]["median"]
        sides = " | ".join("/".join(f"{v:.0f}" for v in boxes[side]) for side in ("width", "height"))
        rows.append(f"| {size} | {seconds:.2f} | {sides} |")
    return "\n".join([*rows, "", source(record)])


def runway_details() -> str:
    """Tabulate recall, means of images, held-out conditions, and how strong the attack is."""
    results = load("runways")["results"]
    eps = (0.25, 0.5, 1.0, 2.0)
    parts = []
    for title, key, average in (
        ("Recall of the runway, all its pixels", "recall:runway", "micro"),
        ("IoU, mean of images", "iou:runway", "macro"),
        ("Recall, mean of images", "recall:runway", "macro"),
    ):
        parts += [f"{title}: certified to attacked.", "", *runway_rows(key, average, eps), ""]
    models = results["models"]
    if splits := models["standard"]["shifted"]:
        head = f"| model | {' | '.join(splits)} |"
        parts += ["Held-out conditions: clean IoU, and certified at eps 0.25.", "", head]
        parts.append("|" + "---|" * (head.count("|") - 1))
        for name in RUNWAY_MODELS:
            found = models[name]["shifted"].values()
            cells = " | ".join(f"{percent(one['clean'])}, {percent(one['0.25'])}" for one in found)
            parts.append(f"| {name} | {cells} |")
        parts.append("")
    if strength := results["strength"]:
        parts += ["IoU left by the attack of the table, and by a stronger one on the same images:", ""]
        parts += [
            f"| model | {' | '.join(f'eps {e:g}' for e in eps)} | moved at most, of proven |",
            "|---|---|---|---|---|---|",
        ]
        for name in RUNWAY_MODELS:
            one, moved = strength[name], models[name]
            cells = " | ".join(
                f"{percent_up(one['table'][f'{e:g}'])}, {percent_up(one['stronger'][f'{e:g}'])}" for e in eps
            )
            parts.append(
                f"| {name} | {cells} | {moved['largest_gain']:.3g} of {round_up(moved['bound'], 4)} |"
            )
        parts.append("")
    return "\n".join(parts)


def write_cards() -> None:
    """Write the measured values into the cards of the shipped runway models."""
    found = load("runways")["results"]["models"]
    for name in RUNWAY_MODELS:
        rows = runway_rows("iou:runway", "micro", (0.25, 0.5, 1.0, 2.0))
        kept = [*rows[:2], rows[2 + RUNWAY_MODELS.index(name)]]
        text = "IoU of the runway on rendered test images: certified to attacked."
        write_card(found[name]["model"], found[name]["weights_sha256"], "\n".join([*kept, "", text]))


def main() -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->`."""
    tables: dict[str, list[Callable[[], str]]] = {
        "README.md": [segmentation, smoothing, sandwich, layers],
        "docs/training.md": [tried],
    }
    tables["docs/runways.md"] = [renderer]
    if (HERE / "results" / "runways.json").is_file():
        tables["README.md"].append(runways)
        tables["docs/runways.md"] += [runways, runway_details]
        write_cards()
    if (HERE / "results" / "detection-runways.json").is_file():
        tables["README.md"].append(boxes.detection)
        boxes.write_cards()
        tables["docs/detection.md"] = [boxes.detection, boxes.published, boxes.detection_details]
    if explained.known(["mnist", "fashion_mnist"]):
        tables["README.md"].append(explained.classifiers)
        tables["docs/classification.md"] = [explained.classifiers, explained.counterfactuals]
        tables["docs/explain.md"] = [explained.attributions, explained.runway_maps]
        explained.write_cards()
    for page, makers in tables.items():
        path = HERE.parent / page
        text = path.read_text()
        for make in makers:
            name = make.__name__
            pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
            table = make().replace("\\", r"\\")
            text, count = re.subn(pattern, rf"\g<1>{table}\n\g<2>", text, flags=re.DOTALL)
            if count != 1:
                raise SystemExit(f"{page} needs one block <!-- {name} --> ... <!-- /{name} -->")
        path.write_text(text)


if __name__ == "__main__":
    main()
