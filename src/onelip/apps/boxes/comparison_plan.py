"""What `onelip compare` was asked to do with a detector, and how to ask for it again."""

from __future__ import annotations

from dataclasses import dataclass

from onelip.apps.boxes.opened import BoxRun
from onelip.apps.common import model_folder


@dataclass(frozen=True)
class ComparisonBoxes(BoxRun):
    """What `onelip compare` was asked to do with a detector.

    Attributes:
        sigmas: standard deviations of the noise, in [0, 1] units.
        base: detector to smooth; empty: the certified one itself.
        n: noisy copies.
        alpha: accepted probability of error for one image.
        batch_size: noisy copies in one forward pass.
        attack_steps: steps of the attack; 0: none.
    """

    sigmas: tuple[float, ...] = (0.1, 0.2)
    base: str = ""
    n: int = 1000
    alpha: float = 1e-3
    batch_size: int = 8
    attack_steps: int = 0

    @property
    def shell(self) -> str:
        """The command that does this."""
        parts = [f"onelip compare {self.model} {self.data}"]
        parts.append("--smoothing sigma=" + ",".join(f"{sigma!r}" for sigma in self.sigmas))
        parts += [f"--base {self.base}"] if self.base else []
        parts.append(f"--n {self.n} --alpha {self.alpha!r} --batch-size {self.batch_size}")
        parts.append(f"--attack-steps {self.attack_steps} --score {self.score!r} --iou {self.iou!r}")
        parts += self.classes_option()
        return " ".join([*parts, *self.options()])

    @property
    def python(self) -> str:
        """The Python that does this, without attack, times, tables."""
        sampling = f"n={self.n}, alpha={self.alpha!r}, threshold={self.score!r}, seed={self.seed} + index"
        lines = [
            "from collections import Counter",
            self.python_dataset(),
            f'certifier = onelip.certify.DetectionCertifier(onelip.load("{model_folder(self.model)}"), {self.score!r})',
            f'base = onelip.fold(onelip.load("{model_folder(self.base or self.model)}"))',
            f"count = min({self.limit}, len(dataset)) or len(dataset)",
            f"eps, found, objects = {self.asked}, Counter(), 0",
            "for index in [i * len(dataset) // count for i in range(count)]:",
            "    image, target = dataset[index]",
            f"    mine = certifier(image[None], [target]).found(eps, {self.iou!r})[:, 0].nan_to_num(0.0)",
            "    found.update({('Lipschitz', e): int(v) for e, v in zip(eps, mine)})",
            f"    for sigma in {list(self.sigmas)}:",
            f"        smooth = onelip.smoothing.median_detection(base, image, sigma=sigma, eps=eps, {sampling},",
            f"            batch_size={self.batch_size})",
            f"        kept = smooth.certified(target, iou={self.iou!r})[0].sum(1)",
            "        found.update({(sigma, e): int(v) for e, v in zip(eps, kept)})",
            "    objects += len(target['labels'])",
            "for method, number in found.items():",
            "    print(*method, number / max(objects, 1))",
        ]
        return "\n".join(lines)
