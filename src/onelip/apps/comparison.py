"""Lipschitz certificates beside randomized smoothing and an attack, on the same images, image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

import onelip
from onelip.apps.common import model_folder
from onelip.apps.records import Record, Records
from onelip.apps.rivals import assumptions, attacked_rows, comparison_rows, needs, possible_from
from onelip.apps.runs import Opened, Run, clock, head, open_run, progress
from onelip.certify import PixelAccuracy, SegmentationCertificate
from onelip.certify.fingerprint import weights_hash
from onelip.core import checks, errors, files
from onelip.smoothing import Counts, sample, smallest_n, stream
from onelip.smoothing.result import check_sigma, needed_share

LADDER = 0.9  # step between the numbers of samples at which smoothing is looked at on the way


@dataclass(frozen=True)
class Comparison(Run):
    """What `onelip compare` was asked to do; p is 2, the norm that Gaussian noise certifies.

    Attributes:
        sigmas: standard deviations of the noise, in [0, 1] units.
        base: model to smooth; empty: the certified model itself.
        n0: samples that choose the class of each pixel.
        n: samples that test it.
        alpha: accepted probability of error for one image.
        correction: "holm" or "bonferroni".
        batch_size: noisy copies in one forward pass.
        attack_steps: steps of the attack; 0: none.
    """

    sigmas: tuple[float, ...] = (0.1, 0.2)
    base: str = ""
    n0: int = 10
    n: int = 100
    alpha: float = 1e-3
    correction: str = "holm"
    batch_size: int = 8
    attack_steps: int = 0

    @property
    def shell(self) -> str:
        """The command that does this."""
        parts = [f"onelip compare {self.model} {self.data}"]
        parts.append("--smoothing sigma=" + ",".join(f"{sigma!r}" for sigma in self.sigmas))
        parts += [f"--base {self.base}"] if self.base else []
        parts.append(f"--n0 {self.n0} --n {self.n} --alpha {self.alpha!r} --correction {self.correction}")
        parts.append(f"--batch-size {self.batch_size} --attack-steps {self.attack_steps}")
        return " ".join([*parts, *self.options()])

    @property
    def python(self) -> str:
        """The Python that does this, without attack, times, tables."""
        sample = f"n0={self.n0}, n={self.n}, seed={self.seed} + index, batch_size={self.batch_size}"
        test = f'eps=eps, alpha={self.alpha!r}, correction="{self.correction}"'
        lines = [
            "from collections import Counter",
            self.python_head(),
            f'base = onelip.load("{model_folder(self.base or self.model)}")',
            "accuracy = onelip.certify.PixelAccuracy(dataset.ignore_index)",
            "right, pixels = Counter(), 0",
            "for index in indices:",
            "    image, target = dataset[index]",
            "    valid = int((target != dataset.ignore_index).sum())",
            "    certificate = certifier(image[None], target[None])",
            f"    for eps, value in zip({self.asked}, certificate.curve(accuracy, {self.asked}).certified[:, 0]):",
            '        right["Lipschitz", eps] += float(value) * valid if valid else 0',
            f"    for sigma in {list(self.sigmas)}:",
            f"        counts = onelip.smoothing.sample(base, image, sigma=sigma, {sample})",
            f"        for eps in {self.asked}:",
            f"            classes = counts.certify({test}).classes",
            "            right[sigma, eps] += int(((classes == target) & (target != dataset.ignore_index)).sum())",
            "    pixels += valid",
            "for method, count in right.items():",
            "    print(*method, count / pixels)",
        ]
        return "\n".join(lines)


def compare(run: Comparison) -> dict[str, Any]:
    """Compare on the images of a run and write results.json; an interruption keeps the images that are done.

    Args:
        run: what to do.

    Returns:
        The content of results.json (`onelip.report.schema`, section `comparison`).

    Raises:
        InputError: for unusable options, data or models.
        UnsoundError: an attack reached less than the certificate promises.
        KeyboardInterrupt: after the images so far have been summed up.
    """
    _check(run)
    opened = open_run(run)
    base = _base(run, opened)
    ladder = _ladder(run, opened)
    key = opened.key(
        eps=run.asked,
        sigmas=list(run.sigmas),
        base_sha256=weights_hash(base),
        samples=[run.n0, *ladder],
        test=[run.alpha, run.correction],
        attack_steps=run.attack_steps,
        seed=run.seed,
    )
    records = Records(run.out / "results.jsonl", key, resume=run.resume)
    last: SegmentationCertificate | None = None
    warm = False
    results: dict[str, Any] = {}
    try:
        with progress(len(opened.chosen), "comparing") as step:
            for index in opened.chosen:
                if index not in records:
                    warm = warm or _warm_up(opened, base, index)
                    record, last = _one(run, opened, base, ladder, index)
                    records.add(record)
                step()
    finally:
        done = records.chosen(opened.chosen)
        if done:
            results = _results(run, opened, done, ladder, last)
            files.write_json(run.out / "results.json", results)
    return results


def _check(run: Comparison) -> None:
    if not run.sigmas:
        raise errors.InputError(errors.explain("--smoothing is empty", expected="as sigma=0.1,0.2"))
    for name in ("n0", "n", "batch_size"):
        checks.positive_int(name, getattr(run, name))
    for sigma in run.sigmas:
        check_sigma(sigma)
    smallest_n(1, 0.75, run.alpha, run.correction)  # checks both


def _base(run: Comparison, opened: Opened) -> nn.Module:
    """The model that is smoothed, as it was stored: folded, float32."""
    if not run.base:
        return opened.model
    base = onelip.load(model_folder(run.base))
    if base.classes != opened.model.classes:
        raise errors.InputError(
            errors.explain(
                "--base does not fit the model",
                received=f"{base.classes} classes in {run.base}, {opened.model.classes} in {run.model}",
                expected="the same classes",
            )
        )
    return base.to(opened.device)


def _ladder(run: Comparison, opened: Opened) -> list[int]:
    """Numbers of test samples at which to look: where a certificate becomes possible, and steps up to n."""
    height, width = opened.dataset[opened.chosen[0]][0].shape[-2:]
    found = [possible_from(run, eps, sigma, height * width) for eps in run.eps for sigma in run.sigmas]
    first = {n for n in found if n is not None}
    steps = math.floor(math.log(min({*first, run.n}) / run.n) / math.log(LADDER))
    return sorted(
        {run.n, *(n for n in first if n < run.n), *(round(run.n * LADDER**k) for k in range(steps))}
    )


def _warm_up(opened: Opened, base: nn.Module, index: int) -> bool:
    """Do once what only a first call does (the proof, checks of the folded copy, libraries), outside all times."""
    image = opened.dataset[index][0].to(opened.device)
    opened.certifier(image[None])
    sample(base, image, n0=1, n=1)
    return True


def _one(
    run: Comparison, opened: Opened, base: nn.Module, ladder: Sequence[int], index: int
) -> tuple[Record, SegmentationCertificate]:
    """All methods on one image: how many valid pixels each certifies with the right class."""
    dataset, certifier = opened.dataset, opened.certifier
    image, target = (t.unsqueeze(0).to(opened.device) for t in dataset[index])
    certifier.bound((image.shape[-2], image.shape[-1]), in_channels=image.shape[1])  # once a size, not timed
    accuracy = PixelAccuracy(dataset.ignore_index)
    start = clock(opened.device)
    certificate = certifier(image, target)
    curve = certificate.curve(accuracy, run.asked)
    seconds = clock(opened.device) - start
    valid = int((target != dataset.ignore_index).sum())
    known = curve if valid else None
    record = {
        "index": index,
        "id": dataset.ids[index],
        "size": list(image.shape[1:]),
        "valid": valid,
        "lipschitz": {
            "clean": float(known.clean) if known else 0.0,
            "certified": known.certified[:, 0].tolist() if known else [0.0] * len(run.asked),
            "constant": certificate.lipschitz,
            "seconds": seconds,
        },
        "smoothing": [
            _smoothed(run, base, image, target, ladder, s, index, dataset.ignore_index) for s in run.sigmas
        ],
        "attack": _attacked(run, opened, certificate, accuracy) if run.attack_steps and valid else None,
    }
    return record, certificate


def _smoothed(
    run: Comparison,
    base: nn.Module,
    image: Tensor,
    target: Tensor,
    ladder: Sequence[int],
    sigma: float,
    index: int,
    ignore_index: int,
) -> Record:
    """One sampling at one sigma: certified and right pixels at each number of samples and eps."""
    stops: list[Record] = []
    valid, clean = target[0] != ignore_index, 0
    start = clock(image.device)
    for counts in stream(
        base, image, sigma=sigma, n0=run.n0, n=ladder, seed=run.seed + index, batch_size=run.batch_size
    ):
        if not stops:
            clean = int(((counts.winners == target[0]) & valid).sum())
        looked = clock(image.device)
        right = [_right(run, counts, eps, target[0], valid) for eps in run.asked]
        tests = (clock(image.device) - looked) / len(run.asked)
        stops.append({"n": counts.n, "right": right, "seconds": counts.seconds + tests})
    return {"sigma": sigma, "clean": clean, "stops": stops, "seconds": clock(image.device) - start}


def _right(run: Comparison, counts: Counts, eps: float, target: Tensor, valid: Tensor) -> int:
    if needed_share(eps, counts.sigma) >= 1.0:
        return 0
    # `test` and not `certify`: too few samples are what the ladder is there to find.
    found = counts.test(eps=eps, tau=0.75, alpha=run.alpha, correction=run.correction)
    return int(((found.classes == target) & valid).sum())


def _attacked(
    run: Comparison, opened: Opened, certificate: SegmentationCertificate, accuracy: PixelAccuracy
) -> Record:
    """Accuracy that an attack leaves at each eps, checked against the certificate."""
    from onelip.attacks import Knapsack, PixelErrors
    from onelip.testing import assert_sound

    attack = Knapsack(
        PixelErrors(ignore_index=accuracy.ignore_index), steps=run.attack_steps, judge=opened.certifier.model
    )
    start = clock(opened.device)
    found = attack(opened.model, certificate.images.float(), certificate.target, eps=run.asked, seed=run.seed)
    seconds = clock(opened.device) - start
    assert_sound(certificate, found, folder=run.out / "unsound")
    values = found.values(accuracy)[:, 0]
    return {"values": values.tolist(), "seconds": seconds}


def _results(
    run: Comparison,
    opened: Opened,
    done: Sequence[Record],
    ladder: Sequence[int],
    certificate: SegmentationCertificate | None,
) -> dict[str, Any]:
    found = head("compare", opened, done, command=run.shell, python=run.python, certificate=certificate)
    found["assumptions"] += assumptions(run)
    required = needs(run, done, ladder)
    found |= {
        "lipschitz": max(r["lipschitz"]["constant"] for r in done),
        "comparison": comparison_rows(run, done, required),
        "needs": required,
        "smoothing": {
            "base": run.base or run.model,
            "sigmas": list(run.sigmas),
            **{name: getattr(run, name) for name in ("n0", "n", "alpha", "correction", "batch_size")},
        },
    }
    if run.attack_steps:
        found["attacked"] = attacked_rows(run, done)
    return found
