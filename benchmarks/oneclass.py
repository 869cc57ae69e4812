"""One-class detectors on the tables of ADBench: clean and certified, two protocols, recipes chosen on other sets.

    python benchmarks/oneclass.py --log runs/oneclass.jsonl                    # scikit-learn's rivals
    python benchmarks/oneclass.py --log runs/oneclass.jsonl --pyod PATH        # PyOD's: pip install --target PATH pyod

Protocols: "normals", trained on half of the normals, tested on the other half and all anomalies; "contaminated",
trained and tested on all rows, labels unused. The whole test set is scored in one call (ECOD's scores depend on it).
Each (set, seed, method) is one line of the log; an interrupted run goes on; other settings are
measured anew.

The sets are split in two halves by `halves`, in which sets of one source stay together. On one half a recipe is chosen
for each protocol by `CRITERIA`; the other half sees no recipe but the chosen ones. Sets that this project's defaults
were found on choose.
Certified values are in standardised units (training mean and deviation), both classes attacked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import common
import oneclass_methods as methods_of
from onelip.oneclass.metrics import certified_aupr, certified_auroc

PROTOCOLS = ("normals", "contaminated")
EPS = (0.1, 0.25, 0.5)
CRITERIA = {"normals": "certified AUROC at 0.1", "contaminated": "AUROC"}
LARGEST = 50_000
RELATED = ((2, 38), (6, 7), (19, 30, 31), (4, 42), (43, 46))
LOOKED_AT = (
    38,
    6,
    31,
    26,
    20,
)  # thyroid, cardio, satimage-2; optdigits and letter: defaults were found on them
Record = dict[str, Any]


def number(name: str) -> int:
    """Return the number in front of a set's name."""
    return int(name.partition("_")[0])


def halves(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split sets into those that choose and those that report.

    Rule: sets of one source are one group; groups with a set of LOOKED_AT choose; each further group, in the order of
    its smallest number, goes to the half with fewer sets so far, and to the reporting one at a tie.
    """
    kin = {member: family for family in RELATED for member in family}
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in sorted(names, key=number):
        groups.setdefault(kin.get(number(name), (number(name),)), []).append(name)
    ordered = sorted(groups, key=min)
    choosing = [name for g in ordered if set(g) & set(LOOKED_AT) for name in groups[g]]
    reporting: list[str] = []
    for group in ordered:
        if not set(group) & set(LOOKED_AT):
            (choosing if len(choosing) < len(reporting) else reporting).extend(groups[group])
    return sorted(choosing, key=number), sorted(reporting, key=number)


def tables(folder: Path) -> dict[str, Path]:
    """Sets of a folder with at most LARGEST rows, by name."""
    found = {}
    for path in sorted(folder.glob("*.npz"), key=lambda p: number(p.stem)):
        with np.load(path, allow_pickle=False) as data:
            if len(data["y"]) <= LARGEST:
                found[path.stem] = path
    return found


def split(
    protocol: str, X: np.ndarray, y: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, test rows, which test rows are anomalies."""
    X, truth = X.astype(np.float64), y.astype(bool)  # small integers wrap around
    if protocol == "contaminated":
        return X, X, truth
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~truth))
    train, rest = normal[: len(normal) // 2], normal[len(normal) // 2 :]
    test = np.concatenate([rest, np.flatnonzero(truth)])
    return X[train], X[test], truth[test]


def measure(method: methods_of.Method, protocol: str, path: Path, seed: int, quadratic_rows: int) -> Record:
    """Fit and score one detector."""
    with np.load(path, allow_pickle=False) as data:
        train, test, truth = split(protocol, data["X"], data["y"], seed)
    fitted_on = train
    if method.quadratic and len(train) > quadratic_rows:
        fitted_on = train[np.random.default_rng(seed).permutation(len(train))[:quadratic_rows]]
    detector = method.build(seed)
    cpu, wall = time.process_time(), time.perf_counter()
    detector.fit(fitted_on)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    start = time.perf_counter()
    same = protocol == "contaminated" and fitted_on is train
    scores = np.asarray(detector.scores(test, same), dtype=np.float64)
    scoring = time.perf_counter() - start
    pair = scores[~truth], scores[truth]
    record: Record = {
        "rows": len(fitted_on),
        "features": train.shape[1],
        "normals": len(pair[0]),
        "anomalies": len(pair[1]),
        "AUROC": float(certified_auroc(*pair, 0.0)[0]),
        "AUPR": float(certified_aupr(*pair, 0.0)[0]),
        "CPU seconds": round(cpu, 3),
        "seconds": round(wall, 3),
        "seconds of scoring": round(scoring, 3),
        "lipschitz": detector.lipschitz,
    }
    if detector.lipschitz is not None:
        for eps in EPS:
            record[f"certified AUROC at {eps}"] = float(certified_auroc(*pair, eps, detector.lipschitz)[0])
            record[f"certified AUPR at {eps}"] = float(certified_aupr(*pair, eps, detector.lipschitz)[0])
    return record


class Log:
    """A JSONL file of records; a line cut off by an interruption is measured again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[tuple[Any, ...], Record] = {}
        text = path.read_text() if path.is_file() else ""
        for line in text.splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            self.records[self.key(record)] = record
        if text and not text.endswith("\n"):
            with path.open("a") as file:
                file.write("\n")

    @staticmethod
    def key(record: Record) -> tuple[Any, ...]:
        """Return what makes a measurement the same."""
        return tuple(record[k] for k in ("protocol", "set", "seed", "method", "settings"))

    def add(self, record: Record) -> None:
        """Append a record, on the disk before the next begins."""
        self.records[self.key(record)] = record
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()


def run(
    log: Log,
    sets: dict[str, Path],
    methods: dict[str, dict[str, methods_of.Method]],
    seeds: Iterable[int],
    *,
    quadratic_rows: int,
) -> None:
    """Measure all that the log does not hold, by the methods of each protocol; failures are recorded."""
    for name, path in sets.items():
        for protocol in PROTOCOLS:
            for label, method in methods[protocol].items():
                for seed in seeds:
                    if seed and protocol == "contaminated" and not method.seeded:
                        continue  # the training set is the same, and so would be the result
                    record: Record = {"protocol": protocol, "set": name, "seed": seed, "method": label}
                    record["settings"] = method.settings
                    if Log.key(record) in log.records:
                        continue
                    try:
                        record |= measure(method, protocol, path, seed, quadratic_rows)
                    except (ValueError, RuntimeError, MemoryError) as error:
                        record["error"] = f"{type(error).__name__}: {error}"
                    log.add(record)
                    shown = record.get("error") or f"{record['AUROC']:.4f}  {record['CPU seconds']:.1f} s"
                    print(f"{protocol:12} {name:20} {seed} {label:24} {shown}", flush=True)


def means(log: Log, protocol: str, methods: dict[str, methods_of.Method]) -> dict[str, dict[str, Record]]:
    """Method -> set -> mean over seeds of each number; sets on which a seed failed are left out."""
    found: dict[str, dict[str, list[Record]]] = {}
    for record in log.records.values():
        method = methods.get(record["method"])
        if record["protocol"] == protocol and method and method.settings == record["settings"]:
            found.setdefault(record["method"], {}).setdefault(record["set"], []).append(record)
    return {
        label: {
            name: {
                key: float(np.mean([r[key] for r in records]))
                for key, value in records[0].items()
                if isinstance(value, int | float) and key != "seed"
            }
            for name, records in by_set.items()
            if not any("error" in r for r in records)
        }
        for label, by_set in found.items()
    }


def table(found: dict[str, dict[str, Record]], labels: list[str], names: list[str]) -> Record:
    """Means over the sets that all labels have; ranks by AUROC, 1 the best, ties shared."""
    from scipy.stats import rankdata

    common_sets = [n for n in names if all(n in found.get(label, {}) for label in labels)]
    if not common_sets:
        return {"sets": [], "methods": {}}
    scores = np.array([[found[label][n]["AUROC"] for n in common_sets] for label in labels])
    ranks = rankdata(-scores.round(6), axis=0)
    rows: Record = {}
    for label, rank in zip(labels, ranks, strict=True):
        of = [found[label][n] for n in common_sets]
        row = {"mean rank": float(rank.mean())}
        for key in ("AUROC", "AUPR", *(f"certified {m} at {e}" for m in ("AUROC", "AUPR") for e in EPS)):
            if all(key in r for r in of):
                row[key] = float(np.mean([r[key] for r in of]))
        seconds = [r["CPU seconds"] for r in of]
        row |= {"CPU seconds, median": float(np.median(seconds)), "CPU seconds, largest": max(seconds)}
        rows[label] = row
    return {
        "sets": common_sets,
        "missing": sorted(set(names) - set(common_sets), key=number),
        "methods": rows,
    }


def summarise(log: Log, sets: Iterable[str], methods: dict[str, methods_of.Method]) -> Record:
    """Choose a recipe on one half, report it with all others on the other half and on all sets."""
    choosing, reporting = halves(sets)
    result: Record = {"choosing": choosing, "reporting": reporting}
    for protocol in PROTOCOLS:
        found = means(log, protocol, methods)
        recipes = [label for label, method in methods.items() if method.kind == "recipe" and label in found]
        others = [label for label, method in methods.items() if method.kind != "recipe" and label in found]
        candidates = table(found, recipes, choosing)
        criterion = CRITERIA[protocol]
        if not candidates["methods"]:
            result[protocol] = {"reported": table(found, others, reporting)}
            continue
        chosen = max(candidates["methods"], key=lambda label, c=candidates: c["methods"][label][criterion])
        compared = [chosen, *others]
        result[protocol] = {
            "criterion": criterion,
            "chosen": chosen,
            "settings": methods[chosen].settings,
            "candidates on the choosing half": candidates,
            "reported": table(found, compared, reporting),
            "all sets": table(found, compared, [*choosing, *reporting]),
            "by set": {
                n: {label: round(found[label][n]["AUROC"], 4) for label in compared if n in found[label]}
                for n in [*choosing, *reporting]
            },
        }
    return result


def allowed(
    log: Log, sets: Iterable[str], methods: dict[str, methods_of.Method], protocol: str, half: list[str]
) -> list[str]:
    """Return the methods that a half sees: all where recipes are chosen, else the chosen recipe and the others."""
    choosing, _ = halves(sets)
    if half == choosing:
        return list(methods)
    chosen = summarise(log, sets, methods)[protocol].get("chosen")
    return [label for label, method in methods.items() if method.kind != "recipe" or label == chosen]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, required=True, help="JSONL file of measurements")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ONELIP_DATA", "data")) / "adbench")
    parser.add_argument("--pyod", type=Path, help="folder that PyOD was installed in")
    parser.add_argument(
        "--sets", nargs="*", help="names, e.g. 38_thyroid; all of at most 50,000 rows without"
    )
    parser.add_argument("--methods", nargs="*", help="names; all without")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--quadratic-rows", type=int, default=20_000, help="rows that a kernel machine is fitted on"
    )
    parser.add_argument("--summary-only", action="store_true")
    options = parser.parse_args()
    if options.pyod:
        sys.path.append(str(options.pyod))  # after what is installed: only what is missing comes from there
    methods = {**methods_of.ours(), **methods_of.rivals()}
    sets = tables(options.data)
    unknown = set(options.sets or ()) - set(sets) | set(options.methods or ()) - set(methods)
    if unknown or not sets:
        sys.exit(
            f"unknown: {sorted(unknown)}; sets: {list(sets)} of {options.data}; methods: {list(methods)}"
        )
    log, asked = Log(options.log), set(options.methods or methods)
    if not options.summary_only:
        chosen_sets = {n: p for n, p in sets.items() if n in set(options.sets or sets)}
        for half in halves(sets):
            wanted = {
                protocol: {n: methods[n] for n in allowed(log, sets, methods, protocol, half) if n in asked}
                for protocol in PROTOCOLS
            }
            part = {n: p for n, p in chosen_sets.items() if n in half}
            run(log, part, wanted, range(options.seeds), quadratic_rows=options.quadratic_rows)
    notes = [
        "AUROC and AUPR of anomalies; certified: both classes attacked, eps in standardised units",
        "recipes: by the criterion on the choosing half alone; means over sets of means over seeds",
        f"kernel machines are fitted on at most {options.quadratic_rows} rows",
        "contaminated: rivals give their training scores, ours the certified function on the training rows",
    ]
    common.write("oneclass", summarise(log, sets, methods), seed=options.seeds, notes=notes)


if __name__ == "__main__":
    main()
