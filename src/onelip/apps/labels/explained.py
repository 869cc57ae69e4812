"""One decision of a classifier: saliency, counterfactual, and what is proven about it."""

from __future__ import annotations

import io
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from onelip.apps.common import model_folder
from onelip.apps.kinds import WORDS, check_kind, task_of
from onelip.apps.labels.opened import channels_of, check_classes, class_of
from onelip.apps.runs import short_name
from onelip.core import errors

if TYPE_CHECKING:
    from onelip.certify import ClassificationCertificate
    from onelip.explain import Counterfactual
    from onelip.models import LipModel

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
PICTURE = "explanation.png"


@dataclass(frozen=True)
class Question:
    """What `onelip explain` was asked for; see the options of the command."""

    model: str
    data: str
    out: Path
    index: int = 0
    to: str | None = None
    overshoot: float = 1.0
    steps: int = 100
    box: bool = True
    split: str = "val"
    size: tuple[int, int] | None = None
    seed: int = 0
    device: str = "auto"

    @property
    def is_file(self) -> bool:
        """One image in a file of its own."""
        return Path(self.data).suffix.lower() in (*PICTURES, ".npy")

    @property
    def shell(self) -> str:
        """The command that does this."""
        parts = [f"onelip explain {shlex.quote(self.model)} {shlex.quote(self.data)}"]
        parts += [] if self.is_file else [f"--split {self.split} --index {self.index}"]
        parts += [f"--to {shlex.quote(self.to)}"] if self.to is not None else []
        parts += [f"--overshoot {self.overshoot!r}"] if self.overshoot != 1.0 else []
        parts += [f"--steps {self.steps}"] + ([] if self.box else ["--no-box"])
        parts += [f"--size {self.size[0]}x{self.size[1]}"] if self.size else []
        return " ".join([*parts, f"--seed {self.seed} --out {shlex.quote(str(self.out))}"])


@dataclass(frozen=True)
class Shown:
    """The image that is asked about: (1, C, H, W), its name, its class if it is known, names of all classes."""

    image: Tensor
    name: str
    label: int | None
    classes: tuple[str, ...]


def explain_one(question: Question) -> dict[str, Any]:
    """Explain one decision, draw it, and return the content of results.json.

    Raises:
        InputError: a model that is no classifier, data of another kind, an image outside [0, 1], a class that there is
            not or that is predicted already.
        DataError: there is no such file, data set or model.
    """
    import onelip
    from onelip.core import files, runtime
    from onelip.report.labels import explained

    task = task_of(question.model)
    if task != "classification":
        raise errors.InputError(
            errors.explain(
                "explain is for classifiers",
                received=f"{question.model}, {WORDS[task][0]}",
                expected="a model that gives an image one class",
                fix="onelip.explain.RegionLogits makes a classifier of a segmentation model, in Python",
            )
        )
    device = runtime.device(question.device)
    model: Any = onelip.load(model_folder(question.model)).to(device)
    shown = _open(question, model)
    to = None if question.to is None else class_of(question.to, shown.classes, f"--to {question.to}")
    options: dict[str, Any] = {"overshoot": question.overshoot, "steps": question.steps, "box": question.box}
    found = onelip.explain.counterfactual(model, shown.image, to, seed=question.seed, **options)
    saliency = onelip.explain.saliency(model, shown.image)
    certificate = None if found.refusal else onelip.certify.classification(model, shown.image)
    buffer = io.BytesIO()
    explained(found, saliency, shown.classes).savefig(buffer, dpi=150, bbox_inches="tight", pad_inches=0.06)
    files.atomic_write(question.out / PICTURE, buffer.getvalue())
    return _results(question, model, shown, found, certificate, to)


def _open(question: Question, model: LipModel) -> Shown:
    import onelip

    if question.is_file:
        image = read(Path(question.data), model.in_channels, question.size)
        return Shown(
            image[None], Path(question.data).name, None, tuple(map(str, range(max(model.classes, 2))))
        )
    check_kind(question.model, question.data, "classification")
    dataset = onelip.data.open_labels(
        question.data, question.split, size=question.size, channels=channels_of(model)
    )
    check_classes(model, question.model, dataset, question.data)
    if question.index >= len(dataset):
        raise errors.InputError(
            errors.explain(
                "--index is outside the data set",
                received=question.index,
                expected=f"0..{len(dataset) - 1} in {question.data} {question.split}",
            )
        )
    image, label = dataset[question.index]
    return Shown(image[None], dataset.ids[question.index], label, dataset.classes)


def read(path: Path, channels: int, size: tuple[int, int] | None = None) -> Tensor:
    """(C, H, W) float32 image of a file: a picture, or an array (H, W), (C, H, W) or (H, W, C).

    Bytes are divided by 255; other values must be in [0, 1] already.

    Args:
        path: ends in .npy, or is a picture.
        channels: C of the model; 1 makes grey of colours.
        size: (h, w) to resize to.

    Raises:
        DataError: the file cannot be read, or holds no image.
        InputError: the values are outside [0, 1], or the channels are not those of the model.
    """
    from onelip.core import checks
    from onelip.data.dataset import read_image

    values = _array(path) if path.suffix.lower() == ".npy" else read_image(path)
    image = torch.from_numpy(np.array(values, dtype=np.float32))
    image = image / 255 if values.dtype == np.uint8 else image
    image = image[None] if image.dim() == 2 else image
    if image.shape[0] not in (1, 3, channels):
        image = image.permute(2, 0, 1)
    if image.shape[0] == 3 and channels == 1:  # ITU-R 601, as everywhere
        image = (image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True).clamp(max=1)
    elif image.shape[0] == 1:
        image = image.expand(channels, -1, -1)
    if image.shape[0] != channels:
        raise errors.InputError(
            errors.explain(
                f"{path} does not fit the model",
                received=f"{image.shape[0]} channels",
                expected=f"{channels}",
            )
        )
    checks.images(image[None], str(path))
    if size is not None:
        image = torch.nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    return image.clamp(0.0, 1.0)


def _array(path: Path) -> Any:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise errors.DataError(
            errors.explain(
                f"{path} cannot be read", received=error, expected="an array written by numpy.save"
            )
        ) from error
    if values.ndim not in (2, 3) or values.dtype.kind not in "fu" or not values.size:
        raise errors.DataError(
            errors.explain(
                f"{path} holds no image",
                received=f"{values.dtype} {values.shape}",
                expected="floats in [0, 1] or bytes, (H, W), (C, H, W) or (H, W, C)",
            )
        )
    return values


def _results(
    question: Question,
    model: LipModel,
    shown: Shown,
    found: Counterfactual,
    certificate: ClassificationCertificate | None,
    to: int | None,
) -> dict[str, Any]:
    from onelip.certify.fingerprint import weights_hash
    from onelip.core import runtime
    from onelip.layers import fold

    names = shown.classes
    known = certificate is not None
    reached = bool(found.found[0])
    return {
        "kind": "explain",
        "task": "classification",
        "date": runtime.now(),
        "seed": question.seed,
        "command": question.shell,
        "python": _python(question, to, model.in_channels),
        "versions": runtime.versions(),
        "machine": runtime.machine(),
        "model": {
            "path": question.model,
            "name": short_name(question.model),
            "architecture": model.name,
            "weights_sha256": weights_hash(fold(model)),
        },
        "data": {
            "name": question.data,
            "split": None if question.is_file else question.split,
            "index": None if question.is_file else question.index,
            "id": shown.name,
            "size": list(shown.image.shape[1:]),
        },
        "label": None if shown.label is None else names[shown.label],
        "predicted": names[int(found.predicted[0])],
        "runner_up": names[int(certificate.runner_up[0])] if certificate is not None else None,
        "radius": float(certificate.stable_radius[0]) if certificate is not None else None,
        "lipschitz": certificate.lipschitz if certificate is not None else None,
        "asked": None if to is None else names[to],
        "to": names[int(found.to[0])] if reached else None,
        "found": reached,
        "crossed": bool(found.crossed[0]),
        "overshoot": found.overshoot,
        "distance": _finite(float(found.boundary_distance[0])),
        "image_distance": _finite(float(found.distance[0])),
        "lower_bound": _finite(float(found.lower_bound[0])) if known else None,
        "gap": _finite(float(found.boundary_distance[0] / found.lower_bound[0])) if known else None,
        "refusal": found.refusal,
        "assumptions": list(found.assumptions),
        "picture": PICTURE,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _python(question: Question, to: int | None, channels: int) -> str:
    """The Python that does this, without the table."""
    size = f", size={question.size}" if question.size else ""
    if question.is_file:
        opened = [
            "from pathlib import Path",
            "from onelip.apps.labels.explained import read",
            f'image = read(Path("{question.data}"), {channels}{size})',
        ]
    else:
        grey = f", channels={channels}" if channels in (1, 3) else ""
        opened = [
            f'dataset = onelip.data.open_labels("{question.data}", "{question.split}"{size}{grey})',
            f"image, label = dataset[{question.index}]",
        ]
    lines = [
        *opened,
        f'model = onelip.load("{model_folder(question.model)}")',
        f"found = onelip.explain.counterfactual(model, image[None], {to}, {question.overshoot!r}, {question.steps},",
        f"    box={question.box}, seed={question.seed})",
        "saliency = onelip.explain.saliency(model, image[None])",
        "found.show()",
    ]
    return "\n".join(lines)
