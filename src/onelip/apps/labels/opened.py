"""A run over images with one class each: the classifier, the data set and the certifier that belong to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onelip.apps.common import model_folder, p_text
from onelip.apps.kinds import check_kind
from onelip.apps.runs import Run, spread
from onelip.core import errors

if TYPE_CHECKING:
    from onelip.certify import ClassificationCertificate, ClassificationCertifier
    from onelip.data.labels import ClassificationDataset
    from onelip.models import LipModel


@dataclass(frozen=True)
class OpenedLabels:
    """A run with its classifier and data: `certifier` holds the folded float64 copy, `chosen` the image indices."""

    run: Run
    device: torch.device
    dataset: ClassificationDataset
    model: LipModel
    certifier: ClassificationCertifier
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

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) of one size and labels (B,), on the device of the certifier."""
        images, labels = zip(*(self.dataset[index] for index in indices), strict=True)
        device = self.certifier.device
        return torch.stack(images).to(device), torch.tensor(labels, device=device)

    def batches(self, size: int) -> Iterator[list[int]]:
        """The chosen images in batches that are always the same ones, each of images of one size.

        Rounding depends on the batch by less than 1e-12, and so do the starts of attacks: a run that was interrupted
        does its batches again, whole.
        """
        for first in range(0, len(self.chosen), size):
            part = self.chosen[first : first + size]
            if self.dataset.size is not None:
                yield part
                continue
            shapes: dict[tuple[int, ...], list[int]] = {}
            for index in part:
                shapes.setdefault(self.dataset.picture(index).shape, []).append(index)
            yield from shapes.values()

    def certificate(self, index: int) -> ClassificationCertificate:
        """Certify one image."""
        return self.certifier(*self.batch([index]))


def channels_of(model: LipModel) -> int | None:
    """Channels that pictures are read with: those of the model, where they can be."""
    return model.in_channels if model.in_channels in (1, 3) else None


def open_labels_run(run: Run) -> OpenedLabels:
    """Open the images and the classifier of a run, and check that they fit.

    Raises:
        InputError: for unusable eps, norm, device, data or models.
    """
    import onelip
    from onelip.certify import ClassificationCertifier
    from onelip.core import checks, runtime

    checks.eps_values(list(run.eps))
    device = runtime.device(run.device)
    check_kind(run.model, run.data, "classification")
    model: Any = onelip.load(model_folder(run.model))
    dataset = onelip.data.open_labels(run.data, run.split, size=run.size, channels=channels_of(model))
    check_classes(model, run.model, dataset, run.data)
    torch.manual_seed(run.seed)
    certifier = ClassificationCertifier(model.to(device), p=run.p)
    return OpenedLabels(run, device, dataset, model, certifier, spread(len(dataset), run.limit))


def check_classes(model: LipModel, name: str, dataset: ClassificationDataset, data: str) -> None:
    """Raise InputError unless model and data have the same number of classes; one logit is a pair of classes."""
    if max(model.classes, 2) != len(dataset.classes):
        raise errors.InputError(
            errors.explain(
                "the classifier does not fit the data set",
                received=f"{model.classes} classes in {name}, {len(dataset.classes)} in {data}",
                expected="the same classes",
                fix="choose the data set that the model was trained on",
            )
        )


def class_of(text: str, names: Sequence[str], option: str) -> int:
    """A class by its name, or by its number where no name is that.

    Args:
        text: as written.
        names: of the classes, in order.
        option: begins the text of errors.

    Raises:
        InputError: there is no such class.

    Example:
        >>> class_of("dog", ("cat", "dog"), "--to"), class_of("0", ("cat", "dog"), "--to")
        (1, 0)
    """
    if text in names:
        return list(names).index(text)
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < len(names):
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise errors.InputError(
            errors.explain(
                f"{option} is no class of the model",
                received=repr(text),
                expected=f"0..{len(names) - 1}, or one of {shown}",
            )
        )
    return number


def python_head(run: Run, channels: int | None) -> list[str]:
    """Lines of Python that open the certifier and the data set, and choose the images."""
    options = f", size={run.size}" if run.size else ""
    options += f", channels={channels}" if channels else ""
    return [
        "import torch",
        f'dataset = onelip.data.open_labels("{run.data}", "{run.split}"{options})',
        f'model = onelip.load("{model_folder(run.model)}")',
        f"certifier = onelip.certify.ClassificationCertifier(model, p={p_text(run.p)})",
        f"count = min({run.limit}, len(dataset)) or len(dataset)",
        "indices = [i * len(dataset) // count for i in range(count)]",
    ]


def python_batches(size: int) -> list[str]:
    """Lines of Python that certify the images in batches."""
    return [
        f"for first in range(0, count, {size}):",
        f"    images, labels = zip(*(dataset[i] for i in indices[first:first + {size}]))",
        "    certificate = certifier(torch.stack(images), torch.tensor(labels))",
    ]
