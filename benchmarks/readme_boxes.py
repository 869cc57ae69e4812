"""Tables of detectors for README.md and docs, from the files in benchmarks/results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from readme_source import HERE, load, source, write_card

SETS = ("runways", "bccd", "penn_fudan")
SHOWN = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)


def cell(value: float | None) -> str:
    """A share, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def low(value: float | None) -> str:
    """A certified share, rounded down.

    >>> low(0.69999), low(0.3)
    ('0.699', '0.300')
    """
    return cell(None if value is None else math.floor(value * 1000 + 1e-9) / 1000)


def high(value: float | None) -> str:
    """What an attack left, an upper bound, rounded up.

    >>> high(0.12301), high(0.123)
    ('0.124', '0.123')
    """
    return cell(None if value is None else math.ceil(value * 1000 - 1e-9) / 1000)


def attacked_rows(results: dict[str, Any], names: Sequence[str] = ()) -> list[str]:
    """mAP@50 of each model under each goal and under noise, over eps."""
    head = "| model | under | clean | " + " | ".join(f"eps {e:g}" for e in SHOWN) + " |"
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    for name in names or results["models"]:
        found = results["models"][name]["attacked"]["attacked"]
        for goal in results["goals"]:
            chosen = {r["eps"]: r for r in found if (r["goal"], r["criterion"]) == (goal, "map50")}
            values = " | ".join(high(chosen[e]["attacked"]) for e in SHOWN)
            rows.append(f"| {name} | {named(goal)} | {cell(chosen[SHOWN[0]]['clean'])} | {values} |")
        noise = " | ".join(cell(chosen[e]["noise"]) for e in SHOWN)
        rows.append(f"| {name} | random noise | {cell(chosen[SHOWN[0]]['clean'])} | {noise} |")
    return rows


def kind(goal: str) -> str:
    """A goal without its form and score.

    >>> kind("vanish:tog@0.05")
    'vanish'
    """
    return goal.partition("@")[0].partition(":")[0]


def named(goal: str) -> str:
    """A goal in words.

    >>> named("vanish:tog"), named("vanish@0.05")
    ('vanish, loss on all logits', 'vanish, the worst of four losses')
    """
    forms = {"vanish": "vanish, the worst of four losses", "vanish:tog": "vanish, loss on all logits"}
    return forms.get(goal.partition("@")[0], kind(goal))


def sandwich_rows(results: dict[str, Any]) -> list[str]:
    """What is certified of each model, and what attacks left of the same criterion."""
    rows = ["| model | criterion | eps | certified | attacked | clean |", "|---|---|---|---|---|---|"]
    for name, one in results["models"].items():
        for key in ("recall_located", "recall", "map50"):
            found = [
                r
                for r in one["attacked"]["attacked"]
                if r["criterion"] == key and r["certified"] is not None and kind(r["goal"]) == "vanish"
            ]
            for row in found[:4]:
                values = f"{low(row['certified'])} | {high(row['attacked'])} | {cell(row['clean'])}"
                rows.append(f"| {name} | {key.replace('_', ' ')} | {row['eps']:g} | {values} |")
    return rows


def certified_rows(results: dict[str, Any]) -> list[str]:
    """Certified recall with few false alarms, the best over the thresholds."""
    first = next(iter(results["models"].values()))
    eps = [e for e in (0.1, 0.25, 0.5) if any(row["eps"] == e for row in first["best"])]
    head = "| model | boxes | clean mAP@50 | false alarms allowed | " + " | ".join(f"eps {e:g}" for e in eps)
    rows = [head + " |", "|" + "---|" * (4 + len(eps))]
    for name, one in results["models"].items():
        best = {(row["allowed"], row["eps"]): row["recall"] for row in one["best"]}
        for allowed in (0, 1):
            values = " | ".join(low(best[allowed, e]) for e in eps)
            clean = cell(one["clean"]["map50"])
            rows.append(f"| {name} | {one['regression']} | {clean} | {allowed} | {values} |")
    return rows


def precision_rows(results: dict[str, Any]) -> list[str]:
    """Certified average precision of the models whose boxes are certified; nothing when there is none."""
    eps = (0.01, 0.02, 0.05, 0.1, 0.25)
    head = "| model | clean mAP@50 | " + " | ".join(f"eps {e:g}" for e in eps) + " |"
    rows = []
    for name, one in results["models"].items():
        found = {row["eps"]: row["map50"] for row in one["rows"]}
        if one["regression"] == "lipschitz":
            values = " | ".join(low(found.get(e)) for e in eps)
            rows.append(f"| {name} | {cell(one['clean']['map50'])} | {values} |")
    if not rows:
        return []
    title = "Certified average precision at IoU 0.5, through threshold, suppression and matching:"
    return [title, "", head, "|" + "---|" * (head.count("|") - 1), *rows, ""]


def smoothing_rows(results: dict[str, Any]) -> list[str]:
    """Median smoothing beside the certificate."""
    found = results["smoothing"]
    if not found:
        return []
    head = "| method | " + " | ".join(f"eps {e:g}" for e in found["eps"]) + " | passes | s / image |"
    values = {k: " | ".join(low(v) for v in found[k]) for k in ("ours_recall", "smoothed_recall")}
    seconds = next(iter(results["models"].values()))["seconds_per_image"]
    return [
        f"Certified recall on the same {found['images']} images, threshold 0.5:",
        "",
        head,
        "|" + "---|" * (head.count("|") - 1),
        f"| certificate | {values['ours_recall']} | 1 | {seconds:.2g} |",
        f"| median smoothing, sigma {found['sigma']:g} | {values['smoothed_recall']} | {found['passes']} | "
        f"{found['seconds_per_image']:.3g} |",
    ]


def margins_rows(results: dict[str, Any]) -> list[str]:
    """One line for each training."""
    eps = " | ".join(f"certified, eps {e:g}" for e in results["eps"])
    rows = [f"| training | clean mAP@50 | mAP | recall | {eps} |", "|---|---|---|---|---|---|---|"]
    for name, one in results["models"].items():
        values = " | ".join(low(v) for v in one["certified"]["1"])
        clean = " | ".join(cell(one[k]) for k in ("map50", "map", "recall"))
        rows.append(f"| {name} | {clean} | {values} |")
    return rows


def ratio_text(results: dict[str, Any]) -> str:
    """The measured ratios beside the published ones."""
    ratios = results["ratios"]
    if not ratios:
        return ""
    parts = []
    for goal, row in ratios["measured"].items():
        value = "no limit, the twin has 0" if row["ratio"] is None else f"{row['ratio']:.2f}"
        parts.append(f"{named(goal)}: {value} (published {ratios['published'][kind(goal)]:g})")
    return f"mAP@50 of the LipNet over that of its twin at eps {ratios['eps']:g}: {', '.join(parts)}."


def published_rows(results: dict[str, Any]) -> list[str]:
    """mAP@50 of each model under the published attack."""
    head = "| published attack | model | " + " | ".join(f"eps {e:g}" for e in results["eps"]) + " |"
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    for goal, floors in results["map50"].items():
        for name, values in next(iter(floors.values())).items():
            rows.append(f"| {goal} | {name} | " + " | ".join(high(v) for v in values) + " |")
    return rows


def published() -> str:
    """Tabulate detectors under the attack that published curves use."""
    record = load("detection-published")
    results = record["results"]
    ratios = ", ".join(f"{goal} {next(iter(row.values())):.1f}" for goal, row in results["ratios"].items())
    text = (
        f"mAP@50 on {results['images']} images, TOG in l2: {results['steps']} steps of eps / 4 from a random point, "
        f"the last iterate, nothing chosen. LipNet over twin at eps {results['eps'][-1]:g}: {ratios}. {source(record)}"
    )
    return "\n".join([*published_rows(results), "", text])


def detection() -> str:
    """Tabulate detectors under attack."""
    record = load("detection-runways")
    results = record["results"]
    first = next(iter(results["models"].values()))
    text = (
        f"mAP@50 on {first['attacked']['images']} rendered test images, whole perturbations of l2 norm eps. "
        f"{ratio_text(results)} {source(record)}"
    )
    return "\n".join([*attacked_rows(results), "", text])


def detection_details() -> str:
    """Tabulate certified recall, attacked and certified values side by side, smoothing, and the other sets."""
    parts = []
    for name in SETS:
        if not (HERE / "results" / f"detection-{name}.json").is_file():
            continue
        record = load(f"detection-{name}")
        results = record["results"]
        parts += [f"**{name}**: largest certified recall over the thresholds.", ""]
        parts += [
            *certified_rows(results),
            "",
            *precision_rows(results),
            "Certified, attacked, clean, at threshold 0.5:",
            "",
        ]
        parts += [*sandwich_rows(results), "", *smoothing_rows(results), "", source(record), ""]
    if (HERE / "results" / "detection-margins.json").is_file():
        record = load("detection-margins")
        parts += ["**What margins cost**, at most one false alarm allowed:", ""]
        parts += [*margins_rows(record["results"]), "", source(record), ""]
    return "\n".join(parts)


def write_cards() -> None:
    """Write the measured values into the cards of the shipped detectors."""
    results = load("detection-runways")["results"]
    for name, one in results["models"].items():
        best = {(row["allowed"], row["eps"]): row["recall"] for row in one["best"]}
        shown = " | ".join(f"{low(best[0, e])}, {low(best[1, e])}" for e in (0.1, 0.25, 0.5))
        clean = f"{cell(one['clean']['map50'])} | {cell(one['clean']['map50_95'])}"
        measured = f"""| clean mAP@50 | mAP@[.50:.95] | certified at eps 0.1 | 0.25 | 0.5 |
|---|---|---|---|---|
| {clean} | {shown} |

On {one["images"]} rendered test images of 256 x 256. Certified: share of the runways in which a location fires, with no
and with one false alarm possible in an image, at the best threshold. Under attack, mAP@50:

"""
        rows = "\n".join(attacked_rows(results, [name]))
        write_card(one["model"], one["weights_sha256"], measured + rows)
