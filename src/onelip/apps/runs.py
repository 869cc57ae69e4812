"""What the commands that go over a data set share: what was asked, what was opened, the head of results.json."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onelip.apps.common import model_folder, p_text

if TYPE_CHECKING:
    import torch

    from onelip.apps.boxes.opened import OpenedBoxes
    from onelip.apps.labels.opened import OpenedLabels
    from onelip.certify import (
        Certifier,
        ClassificationCertificate,
        DetectionCertificate,
        SegmentationCertificate,
    )
    from onelip.data import SegmentationDataset
    from onelip.models import LipModel


@dataclass(frozen=True)
class Run:
    """What a command over a data set was asked to do."""

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

    @property
    def name(self) -> str:
        """Name of the model in tables: its folder, or the one above where that says nothing."""
        return short_name(self.model)

    @property
    def asked(self) -> list[float]:
        """The eps asked for, in order."""
        return sorted(set(self.eps))

    def options(self) -> list[str]:
        """The shared options as they are written on the command line, those that differ from the default."""
        parts = [f"--split {self.split}", "--eps " + " ".join(f"{e!r}" for e in self.eps)]
        parts += [f"--p {self.p:g}"] if self.p != 2.0 else []
        parts += [f"--limit {self.limit}"] if self.limit else []
        parts += [f"--size {self.size[0]}x{self.size[1]}"] if self.size else []
        return [*parts, f"--seed {self.seed}", f"--out {self.out}"]

    def python_head(self) -> str:
        """Lines of Python that open the certifier and the data set, and choose the images."""
        size = f", size={self.size}" if self.size else ""
        norm = p_text(self.p)
        lines = [
            f'dataset = onelip.data.open("{self.data}", "{self.split}"{size})',
            f'certifier = onelip.certify.Certifier(onelip.load("{model_folder(self.model)}"), p={norm}, '
            "ignore_index=dataset.ignore_index)",
        ]
        if self.limit:
            lines.append(f"count = min({self.limit}, len(dataset))")
            lines.append("indices = [i * len(dataset) // count for i in range(count)]")
        else:
            lines.append("indices = range(len(dataset))")
        return "\n".join(lines)


def short_name(model: str) -> str:
    """Name of a model in tables: its folder, or the one above where that says nothing.

    Example:
        >>> short_name("runs/camvid/model"), short_name("scenes")
        ('camvid', 'scenes')
    """
    path = Path(model)
    return path.parent.name if path.name in ("model", "training") and path.parent.name else path.name


@dataclass(frozen=True)
class Opened:
    """A run with its model and data: `certifier` holds the folded float64 copy, `chosen` the image indices."""

    run: Run
    device: torch.device
    dataset: SegmentationDataset
    model: LipModel
    certifier: Certifier
    chosen: list[int]

    def key(self, **more: Any) -> dict[str, Any]:
        """What records of single images depend on: weights, data, size, norm, and `more`."""
        run = self.run
        return {
            "weights_sha256": self.certifier.weights_hash,
            "data": run.data,
            "split": run.split,
            "size": list(run.size) if run.size else None,
            "p": str(run.p),
            **more,
        }

    def certificate(self, index: int) -> SegmentationCertificate:
        """Certify one image."""
        image, target = (t.unsqueeze(0) for t in self.dataset[index])
        return self.certifier(image, target)


def open_run(run: Run) -> Opened:
    """Open the data set and the model of a run, and check that they fit.

    Raises:
        InputError: for unusable eps, norm, device, data or models.
    """
    import torch

    import onelip
    from onelip.apps.kinds import check_kind
    from onelip.certify import Certifier
    from onelip.core import checks, errors, runtime

    checks.eps_values(list(run.eps))
    device = runtime.device(run.device)
    check_kind(run.model, run.data, "segmentation")
    dataset = onelip.data.open(run.data, run.split, size=run.size)
    model = onelip.load(model_folder(run.model))
    if model.classes != len(dataset.classes):
        raise errors.InputError(
            errors.explain(
                "the model does not fit the data set",
                received=f"{model.classes} classes in {run.model}, {len(dataset.classes)} in {run.data}",
                expected="the same classes",
                fix="choose the data set that the model was trained on",
            )
        )
    torch.manual_seed(run.seed)
    certifier = Certifier(model.to(device), p=run.p, ignore_index=dataset.ignore_index)
    return Opened(run, device, dataset, model, certifier, spread(len(dataset), run.limit))


def head(
    kind: str,
    opened: Opened | OpenedBoxes | OpenedLabels,
    done: Sequence[dict[str, Any]],
    *,
    command: str,
    python: str,
    certificate: SegmentationCertificate | DetectionCertificate | ClassificationCertificate | None = None,
) -> dict[str, Any]:
    """The head of results.json (`onelip.report.schema.Head`).

    Args:
        kind: "certify", "attack" or "compare".
        opened: the run.
        done: records of the images that are done, each with its `index` and `size` [C, H, W]; at least one.
        command: the command that does this again.
        python: the Python that does this, without tables and pictures.
        certificate: one of the run, for the bound and the assumptions; without it the first image of `done` is
            certified again.
    """
    from onelip.core import runtime

    run, shape = opened.run, done[0]["size"]
    if certificate is None:
        certificate = opened.certificate(done[0]["index"])
    bound: Any = getattr(certificate.bound, "joint", certificate.bound)  # of a classifier: that of all logits
    return {
        "kind": kind,
        "complete": len(done) == len(opened.chosen),
        "date": runtime.now(),
        "seed": run.seed,
        "command": command,
        "python": python,
        "versions": runtime.versions(),
        "machine": {**runtime.machine(), "device": str(opened.device)},
        "model": {
            "weights_sha256": opened.certifier.weights_hash,
            "name": run.name,
            "architecture": opened.model.name,
            "path": run.model,
        },
        "data": {
            "name": run.data,
            "split": run.split,
            "images": len(done),
            "total": len(opened.chosen),
            "size": shape[1:],
            "padded_size": list(opened.model.padded_size((shape[1], shape[2]))),
            "stride": opened.model.multiple_of,
            "sizes": len({tuple(r["size"]) for r in done}),
            "value_count": math.prod(shape),
        },
        "p": "inf" if run.p == math.inf else int(run.p),
        "bound": None if bound is None else bound.to_dict()["layers"],
        "assumptions": list(certificate.assumptions),
    }


def spread(total: int, wanted: int) -> list[int]:
    """Indices of `wanted` of `total` images, evenly spread; all of them for 0.

    Example:
        >>> spread(10, 4), spread(3, 0)
        ([0, 2, 5, 7], [0, 1, 2])
    """
    count = min(wanted, total) or total
    return [i * total // count for i in range(count)]


def clock(device: torch.device) -> float:
    """Seconds, after everything on the device is done."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def progress(total: int, text: str) -> Iterator[Callable[[], None]]:
    """Progress bar on the error stream; silent when that is no terminal."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    columns = (
        *Progress.get_default_columns()[:-1],
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(text, total=total)
        yield lambda: bar.advance(task)
