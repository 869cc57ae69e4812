"""What `onelip certify` was asked to do, and how to ask for it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onelip.apps.common import model_folder, p_text

GRID = 81  # points of the curve between 0 and a little more than the largest eps asked for


@dataclass(frozen=True)
class Plan:
    """What `onelip certify` was asked to do."""

    model: str
    data: str
    out: Path
    split: str = "val"
    eps: tuple[float, ...] = (0.05, 0.1, 0.17, 0.5)
    p: float = 2.0
    limit: int = 0
    size: tuple[int, int] | None = None
    pictures: int = 4
    resume: bool = False
    seed: int = 0
    device: str = "auto"
    command: str = ""

    @property
    def name(self) -> str:
        """Name of the model in tables: its folder, or the one above where that says nothing."""
        path = Path(self.model)
        return path.parent.name if path.name in ("model", "training") and path.parent.name else path.name

    @property
    def grid(self) -> list[float]:
        """All eps at which the curves are known: a grid that is finer near 0, and those asked for."""
        top = 1.25 * max(self.eps) or 1.0
        return sorted({*self.eps, *(top * (k / (GRID - 1)) ** 2 for k in range(GRID))})

    @property
    def shell(self) -> str:
        """The command that does this."""
        if self.command:
            return self.command
        parts = [f"onelip certify {self.model} {self.data} --split {self.split}"]
        parts.append("--eps " + ",".join(f"{e:g}" for e in self.eps))
        parts += [f"--p {self.p:g}"] if self.p != 2.0 else []
        parts += [f"--limit {self.limit}"] if self.limit else []
        parts += [f"--size {self.size[0]}x{self.size[1]}"] if self.size else []
        return " ".join([*parts, f"--seed {self.seed} --out {self.out}"])

    @property
    def python(self) -> str:
        """The Python that does this, without tables and pictures."""
        size = f", size={self.size}" if self.size else ""
        norm = p_text(self.p)
        return (
            f'certifier = onelip.certify.Certifier(onelip.load("{model_folder(self.model)}"), p={norm})\n'
            "accuracy = onelip.certify.PixelAccuracy()\n"
            f'metric = onelip.metrics.Certified(accuracy, eps={list(self.eps)}, p={norm}, average="micro")\n'
            f'for image, target in onelip.data.open("{self.data}", "{self.split}"{size}):\n'
            "    certificate = certifier(image[None], target[None])\n"
            "    metric.update(certificate.logits, certificate.target, certificate.lipschitz)\n"
            "print(metric.compute())"
        )
