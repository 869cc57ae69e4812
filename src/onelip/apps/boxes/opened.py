"""A run over images with boxes: the detector, the data set and the certifier that belong to it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onelip.apps.common import model_folder
from onelip.apps.kinds import check_kind
from onelip.apps.runs import Run, spread
from onelip.core import errors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from onelip.certify import DetectionCertificate, DetectionCertifier
    from onelip.data.boxes import DetectionDataset
    from onelip.models import LipModel


@dataclass(frozen=True)
class BoxRun(Run):
    """What a command over images with boxes was asked to do.

    Attributes:
        score: threshold of the scores.
        iou: overlap from which on a detection is on an object.
        classes: of the data set, in the order of the model's; all of them by default.
    """

    score: float = 0.5
    iou: float = 0.5
    classes: tuple[str, ...] = ()

    def boxes_options(self) -> list[str]:
        """The options of detectors as they are written on the command line, those that differ from the default."""
        parts = [f"--score {self.score!r}"] if self.score != 0.5 else []
        parts += [f"--iou {self.iou!r}"] if self.iou != 0.5 else []
        return [*parts, *self.classes_option()]

    def classes_option(self) -> list[str]:
        """The classes as they are written on the command line."""
        return ["--classes " + " ".join(map(shlex.quote, self.classes))] if self.classes else []

    def python_dataset(self) -> str:
        """The line of Python that opens the data set."""
        options = f", size={self.size}" if self.size else ""
        options += f", classes={list(self.classes)}" if self.classes else ""
        return f'dataset = onelip.data.open_boxes("{self.data}", "{self.split}"{options})'


@dataclass(frozen=True)
class OpenedBoxes:
    """A run with its detector and data: `certifier` holds the folded float64 copy, `chosen` the image indices."""

    run: Run
    device: torch.device
    dataset: DetectionDataset
    model: LipModel
    certifier: DetectionCertifier
    chosen: list[int]

    def key(self, **more: Any) -> dict[str, Any]:
        """What records of single images depend on: weights, data, size, threshold, and `more`."""
        run = self.run
        return {
            "weights_sha256": self.certifier.weights_hash,
            "data": run.data,
            "split": run.split,
            "size": list(run.size) if run.size else None,
            "classes": list(self.dataset.classes),
            "threshold": self.certifier.threshold,
            **more,
        }

    def item(self, index: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Image (1, C, H, W) on the device of the certifier, and its objects in a list of one."""
        image, target = self.dataset[index]
        return image[None].to(self.certifier.device), [dict(target)]

    def certificate(self, index: int) -> DetectionCertificate:
        """Certify one image."""
        return self.certifier(*self.item(index))


def open_boxes_run(run: Run, *, threshold: float = 0.5, classes: tuple[str, ...] = ()) -> OpenedBoxes:
    """Open the boxes and the detector of a run, and check that they fit.

    Args:
        run: what was asked for.
        threshold: of the scores.
        classes: of the data set, in the order of the model's; all of them by default.

    Raises:
        InputError: for unusable eps, norm, threshold, device, data or models.
    """
    import torch

    import onelip
    from onelip.certify import DetectionCertifier
    from onelip.core import checks, runtime

    checks.eps_values(list(run.eps))
    device = runtime.device(run.device)
    check_kind(run.model, run.data, "detection")
    dataset = onelip.data.open_boxes(run.data, run.split, size=run.size, classes=classes or None)
    model: Any = onelip.load(model_folder(run.model))
    if model.classes != len(dataset.classes):
        raise errors.InputError(
            errors.explain(
                "the detector does not fit the data set",
                received=f"{model.classes} classes in {run.model}, {len(dataset.classes)} in {run.data}",
                expected="the same classes",
                fix=f"choose them with --classes, of {', '.join(dataset.classes)}",
            )
        )
    torch.manual_seed(run.seed)
    certifier = DetectionCertifier(model.to(device), threshold, p=run.p)
    return OpenedBoxes(run, device, dataset, model, certifier, spread(len(dataset), run.limit))


def refuse(options: Mapping[str, Any], kind: str) -> None:
    """Raise for options that were given and mean nothing for a kind of model.

    Args:
        options: by name, as "--iou"; None where they were not given.
        kind: what they are not for, as "a detector".

    Raises:
        InputError: one was given.
    """
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise errors.InputError(
            errors.explain(
                f"{', '.join(given)} means nothing for {kind}",
                received=", ".join(f"{name} {options[name]}" for name in given),
                expected=f"none of {', '.join(options)} with {kind}",
                fix="leave it out; the help says which options are for which kind of model",
            )
        )
