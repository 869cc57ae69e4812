"""Sums over images of a comparison: its table, and what smoothing needs to reach the same value."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onelip.apps.records import Record
from onelip.smoothing import smallest_n
from onelip.smoothing.result import needed_share

if TYPE_CHECKING:
    from onelip.apps.comparison import Comparison

Row = dict[str, Any]


def needs(run: Comparison, done: Sequence[Record], ladder: Sequence[int]) -> list[Row]:
    """For each eps and sigma: what smoothing certifies, and the fewest passes that reach the Lipschitz value.

    The numbers of samples that were looked at come from one sampling; that the smallest sufficient one is picked
    afterwards, with the labels, makes it a description of the cost, not a certificate.
    """
    shape = done[0]["size"]
    rows = []
    for place, eps in enumerate(run.asked):
        goal = _lipschitz(done, place)
        found = [_need(run, done, ladder, place, number, goal) for number in range(len(run.sigmas))]
        best = max((row["accuracy"] or 0.0 for row in found), default=0.0)
        for row in found:
            row["smallest_n"] = possible_from(run, eps, row["sigma"], shape[1] * shape[2])
            row["best"] = bool(best) and row["accuracy"] == best
            rows.append({"eps": eps, **row})
    return rows


def possible_from(run: Comparison, eps: float, sigma: float, pixels: int) -> int | None:
    """Smallest number of test samples that can certify a pixel; None where no number can."""
    tau = needed_share(eps, sigma)
    return smallest_n(pixels, tau, run.alpha, run.correction) if tau < 1.0 else None


def _need(
    run: Comparison,
    done: Sequence[Record],
    ladder: Sequence[int],
    place: int,
    number: int,
    goal: float | None,
) -> Row:
    values = [_share(done, number, stop, place) for stop in range(len(ladder))]
    enough = [stop for stop, value in enumerate(values) if value and goal is not None and value >= goal]
    first = enough[0] if enough else None
    return {
        "sigma": run.sigmas[number],
        "accuracy": values[-1],
        "clean": _ratio(sum(r["smoothing"][number]["clean"] for r in done), _pixels(done)),
        "seconds": _seconds(done, number, -1),
        "passes_needed": None if first is None else run.n0 + ladder[first],
        "seconds_needed": None if first is None else _seconds(done, number, first),
    }


def comparison_rows(run: Comparison, done: Sequence[Record], required: Sequence[Row]) -> list[Row]:
    """Section `comparison` of results.json: for each eps the Lipschitz certificate, then each sigma."""
    clean = _mean(done, lambda r: r["lipschitz"]["clean"])
    seconds = statistics.median(r["lipschitz"]["seconds"] for r in done)
    rows = []
    for place, eps in enumerate(run.asked):
        rows.append(
            {
                "eps": eps,
                "method": "Lipschitz",
                "accuracy": _lipschitz(done, place),
                "seconds": seconds,
                "passes": 1,
                "clean": clean,
                "attacked": _attacked(done, place) if run.attack_steps else None,
                "note": "certain; a number of pixels",
            }
        )
        rows += [_row(run, need) for need in required if need["eps"] == eps]
    return rows


def _row(run: Comparison, need: Row) -> Row:
    return {
        "eps": need["eps"],
        "method": f"SegCertify sigma={need['sigma']:g}" + (" (best)" if need["best"] else ""),
        "accuracy": need["accuracy"],
        "seconds": need["seconds"],
        "passes": run.n0 + run.n,
        "clean": need["clean"],
        "note": _note(run, need),
    }


def _note(run: Comparison, need: Row) -> str:
    if need["smallest_n"] is None:
        return "impossible with any n: eps is too many sigma"
    if need["smallest_n"] > run.n:
        return f"impossible: needs n >= {need['smallest_n']}"
    if need["passes_needed"] is None:
        return f"Lipschitz value not reached (certifies from n={need['smallest_n']})"
    return f"Lipschitz value reached with {need['passes_needed']} passes, {need['seconds_needed']:.3g} s"


def attacked_rows(run: Comparison, done: Sequence[Record]) -> list[Row]:
    """Section `attacked` of results.json: certified <= attacked <= clean."""
    return [
        {
            "eps": eps,
            "clean": _mean(done, lambda r: r["lipschitz"]["clean"]),
            "certified": _lipschitz(done, place),
            "attacked": _attacked(done, place),
            "criterion": "accuracy",
            "average": "micro",
            "note": f"Knapsack, {run.attack_steps} steps",
        }
        for place, eps in enumerate(run.asked)
    ]


def assumptions(run: Comparison) -> list[str]:
    """What the smoothing rows rest on."""
    return [
        f"smoothing: statistical, each image and eps with probability at least {1 - run.alpha:g} over its samples "
        f"({run.correction}), about the smoothed network and not the network itself",
        "smoothing certifies identified pixels; the Lipschitz certificate a share of pixels, with certainty",
        "the certificate is computed in float64, the noisy copies run in float32; times are medians over the images",
        "sums are over all valid pixels; the best sigma is chosen by its certified accuracy on these images",
    ]


def _pixels(done: Sequence[Record]) -> int:
    return sum(r["valid"] for r in done)


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(done: Sequence[Record], value: Any) -> float | None:
    """Mean over valid pixels of a value of each image."""
    return _ratio(sum(r["valid"] * value(r) for r in done if r["valid"]), _pixels(done))


def _lipschitz(done: Sequence[Record], place: int) -> float | None:
    return _mean(done, lambda r: r["lipschitz"]["certified"][place])


def _attacked(done: Sequence[Record], place: int) -> float | None:
    return _mean(done, lambda r: r["attack"]["values"][place])


def _share(done: Sequence[Record], number: int, stop: int, place: int) -> float | None:
    return _ratio(sum(r["smoothing"][number]["stops"][stop]["right"][place] for r in done), _pixels(done))


def _seconds(done: Sequence[Record], number: int, stop: int) -> float:
    return statistics.median(float(r["smoothing"][number]["stops"][stop]["seconds"]) for r in done)
