"""Certificates of a detector beside median smoothing and an attack, on the same images, image by image."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

import onelip
from onelip.apps.boxes.comparison_plan import ComparisonBoxes
from onelip.apps.boxes.opened import OpenedBoxes, open_boxes_run
from onelip.apps.common import model_folder
from onelip.apps.records import Record, Records
from onelip.apps.runs import clock, head, progress
from onelip.attacks import PGD, VanishBoxes
from onelip.certify import DetectionCertificate
from onelip.certify.fingerprint import weights_hash
from onelip.core import checks, errors, files
from onelip.layers import fold
from onelip.metrics import match
from onelip.smoothing import median_detection
from onelip.smoothing.counts import FeasibilityWarning
from onelip.smoothing.median_bounds import Ranks
from onelip.smoothing.result import check_sigma
from onelip.testing import assert_sound
from onelip.testing.boxes import Attacked


def compare_boxes(run: ComparisonBoxes) -> dict[str, Any]:
    """Compare on the images of a run and write results.json; an interruption keeps the images that are done.

    Args:
        run: what to do.

    Returns:
        The content of results.json: section `comparison`, certified recall of each method at each eps.

    Raises:
        InputError: for unusable options, data or models.
        UnsoundError: an attack reached less than the certificate promises.
        KeyboardInterrupt: after the images so far have been summed up.
    """
    if not run.sigmas:
        raise errors.InputError(errors.explain("--smoothing is empty", expected="as sigma=0.1,0.2"))
    for sigma in run.sigmas:
        check_sigma(sigma)
    checks.positive_int("n", run.n)
    opened = open_boxes_run(run, threshold=run.score, classes=run.classes)
    base = _base(run, opened)
    names = ("sigmas", "n", "alpha", "iou", "attack_steps", "seed")
    what = {name: getattr(run, name) for name in names} | {"sigmas": list(run.sigmas)}
    key = opened.key(eps=run.asked, base_sha256=weights_hash(base), **what)
    records = Records(run.out / "results.jsonl", key, resume=run.resume)
    results: dict[str, Any] = {}
    warm = False
    try:
        with progress(len(opened.chosen), "comparing") as step:
            for index in opened.chosen:
                if index not in records:
                    if not warm:  # what only a first call does: checks of the folded copy, libraries
                        opened.certificate(index)
                        warm = True
                    records.add(_one(run, opened, base, index))
                step()
    finally:
        if done := records.chosen(opened.chosen):
            results = _results(run, opened, done)
            files.write_json(run.out / "results.json", results)
    return results


def _base(run: ComparisonBoxes, opened: OpenedBoxes) -> nn.Module:
    """The detector that is smoothed: folded, in its own precision."""
    base: Any = onelip.load(model_folder(run.base)) if run.base else opened.model
    if base.classes != opened.model.classes or not hasattr(base, "detect"):
        raise errors.InputError(
            errors.explain(
                "--base does not fit the model",
                received=f"{base.name} of {base.classes} classes",
                expected=f"a detector of {opened.model.classes} classes",
            )
        )
    folded: nn.Module = fold(base).to(opened.device)
    return folded


def _one(run: ComparisonBoxes, opened: OpenedBoxes, base: nn.Module, index: int) -> Record:
    """All methods on one image: how many objects each finds for certain."""
    image, targets = opened.item(index)
    certifier = opened.certifier
    certifier.bound((image.shape[-2], image.shape[-1]), in_channels=image.shape[1])  # once a size, not timed
    start = clock(opened.device)
    certificate = certifier(image, targets)
    certified = certificate.found(run.asked, run.iou)[:, 0].nan_to_num(0.0).int().tolist()
    seconds = clock(opened.device) - start
    free = certificate.settings.kappa is None
    scene = certificate.scenes[0]
    here = Attacked(scene, certificate.theta, scene.logits, certificate.detections[0], run.iou)
    return {
        "index": index,
        "id": opened.dataset.ids[index],
        "size": list(image.shape[1:]),
        "objects": scene.objects,
        "free": free,
        "lipschitz": {
            "clean": int(here.hit(free).sum()),
            "certified": certified,
            "constant": certificate.settings.lipschitz,
            "seconds": seconds,
        },
        "smoothing": [_smoothed(run, base, image[0], targets[0], sigma, index) for sigma in run.sigmas],
        "attack": _attacked(run, opened, certificate) if run.attack_steps and scene.objects else None,
    }


def _smoothed(
    run: ComparisonBoxes,
    base: Any,
    image: torch.Tensor,
    target: dict[str, torch.Tensor],
    sigma: float,
    index: int,
) -> Record:
    """Median smoothing of one image at one sigma, all radii from the same samples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FeasibilityWarning)  # the table says so
        found = median_detection(
            base,
            image,
            sigma=sigma,
            eps=run.asked,
            n=run.n,
            alpha=run.alpha,
            threshold=run.score,
            seed=run.seed + index,
            batch_size=run.batch_size,
        )
    ranks = Ranks(run.n, run.asked, sigma, run.alpha, len(run.asked) * found.layout.bins)
    medians = found.detections()
    return {
        "sigma": sigma,
        "clean": int((match(medians, target, iou=run.iou) >= 0).sum()),
        "certified": found.certified(target, iou=run.iou)[0].sum(1).tolist(),
        "hopeless": [rank > run.n for rank in ranks.upper(1).tolist()],
        "passes": found.passes,
        "seconds": found.seconds,
    }


def _attacked(run: ComparisonBoxes, opened: OpenedBoxes, certificate: DetectionCertificate) -> Record:
    """Objects that an attack leaves at each eps, checked against the certificate."""
    free = certificate.settings.kappa is None
    support = "location" if free else "box"
    goal = VanishBoxes(threshold=run.score, iou=run.iou, support=support)
    attack = PGD(goal, steps=run.attack_steps, judge=opened.certifier.model)
    images: Any = certificate.images
    start = clock(opened.device)
    found = attack(fold(opened.model), images, certificate.targets, run.asked, seed=run.seed)
    seconds = clock(opened.device) - start
    assert_sound(certificate, found, folder=run.out / "unsound")
    left = []
    for heads in found.outputs or ():
        seen = heads.at(certificate.theta, nms=certificate.settings.nms).predictions()[0]
        seen = {k: v.cpu().double() if v.is_floating_point() else v.cpu() for k, v in seen.items()}
        here = Attacked(
            certificate.scenes[0], certificate.theta, heads.logits[0].detach().cpu().double(), seen, run.iou
        )
        left.append(int(here.hit(free).sum()))
    return {"found": left, "seconds": seconds}


def _results(run: ComparisonBoxes, opened: OpenedBoxes, done: Sequence[Record]) -> dict[str, Any]:
    found = head("compare", opened, done, command=run.shell, python=run.python)
    found["assumptions"] += [
        f"smoothing: statistical, each image with probability at least {1 - run.alpha:g} over its samples, about the "
        "smoothed detector and not the detector itself",
        "times are medians over the images",
    ]
    return found | {
        "task": "detection",
        "classes": list(opened.dataset.classes),
        "regression": "free" if done[0]["free"] else "lipschitz",
        "threshold": run.score,
        "iou": run.iou,
        "objects": sum(r["objects"] for r in done),
        "lipschitz": max(r["lipschitz"]["constant"] for r in done),
        "comparison": list(_rows(run, done)),
        "smoothing": {
            "base": run.base or run.model,
            "sigmas": list(run.sigmas),
            **{name: getattr(run, name) for name in ("n", "alpha", "batch_size")},
        },
    }


def _rows(run: ComparisonBoxes, done: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Certified recall of every method at each eps, with what it costs an image."""
    objects = sum(r["objects"] for r in done)

    def share(values: Iterator[int]) -> float | None:
        return sum(values) / objects if objects else None

    free = done[0]["free"]
    for place, eps in enumerate(run.asked):
        mine = [r["lipschitz"] for r in done]
        left = share(r["attack"]["found"][place] for r in done if r["attack"]) if run.attack_steps else None
        yield {
            "eps": eps,
            "method": "Lipschitz",
            "criterion": "recall_located" if free else "recall",
            "accuracy": share(m["certified"][place] for m in mine),
            "seconds": statistics.median(m["seconds"] for m in mine),
            "passes": 1,
            "clean": share(m["clean"] for m in mine),
            "attacked": left,
            "note": "certain; objects on which a location fires"
            if free
            else "certain; boxes after suppression",
        }
        for number, sigma in enumerate(run.sigmas):
            theirs = [r["smoothing"][number] for r in done]
            hopeless = all(t["hopeless"][place] for t in theirs)
            yield {
                "eps": eps,
                "method": f"median smoothing sigma={sigma:g}",
                "criterion": "recall",
                "accuracy": share(t["certified"][place] for t in theirs),
                "seconds": statistics.median(t["seconds"] for t in theirs),
                "passes": theirs[0]["passes"],
                "clean": share(t["clean"] for t in theirs),
                "note": "impossible with so few samples" if hopeless else "statistical; boxes of the medians",
            }
