"""The certificate of a batch of classified images."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from onelip.certify.criterion import Eps
from onelip.certify.curve import plain
from onelip.certify.labels.radius import pair_radii, predict, zero_where_wrong
from onelip.core import checks, errors, files
from onelip.core.numbers import round_down, round_up

if TYPE_CHECKING:
    from onelip.certify.labels.pairs import PairBound


@dataclass(frozen=True, eq=False, repr=False)
class ClassificationCertificate:
    r"""What no perturbation of a given norm can do to the classes of images.

    Made by `onelip.certify.classification`. All tensors are float64 and on the device of the model.

    Attributes:
        images: (B, C, H, W) in [0, 1].
        logits: (B, K), of the folded model in float64; a single logit f is the pair (0, f).
        targets: (B,) int64, or None.
        constants: (K, K) constants of the differences of logits, rounded up.
        lipschitz: joint constant L of all logits at this size.
        bound: how the constants were proven, `bound.joint` and `bound.features`, or None when one was given.
        p: norm of the perturbation.
        error: (B,) what is taken from every difference of logits for its rounding.
        rounding: added to every eps and taken from every radius: covers the float64 rounding of the forward pass.
        assumptions: what the guarantee rests on.
        versions: versions of the packages that computed it.
        weights_hash: SHA-256 of the folded weights.
        date: UTC time.

    Guarantee: `radius`, `radii`, `targeted`, `accuracy` and `stability` are sound for the exact-arithmetic network
        with these weights, in the closed l_p ball around these very images, under `assumptions`.

    Example:
        >>> from onelip.certify import classification
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
        >>> certificate = classification(model, torch.rand(2, 1, 4, 4))
        >>> certificate.radius.shape, certificate.radii.shape, certificate.to_dict()["size"]
        (torch.Size([2]), torch.Size([2, 3]), [4, 4])
    """

    images: Tensor
    logits: Tensor
    targets: Tensor | None
    constants: Tensor
    lipschitz: float
    bound: PairBound | None
    p: float
    error: Tensor
    rounding: float
    assumptions: tuple[str, ...]
    versions: dict[str, str] = field(default_factory=dict)
    weights_hash: str = ""
    date: str = ""

    @cached_property
    def predicted(self) -> Tensor:
        """(B,) int64: predicted class, the lowest index of a tie; for a single logit 1 where it is positive."""
        return predict(self.logits)

    @cached_property
    def radii(self) -> Tensor:
        """(B, K): no perturbation with a smaller norm lifts class j to the predicted one; inf for that one itself."""
        return self._from(self.predicted)

    @cached_property
    def targeted(self) -> Tensor:
        r"""(B, K): no perturbation with a smaller norm makes class j the predicted one; 0 for the predicted one.

        Class j has to get as high as every other: :math:`\max_k (f_k - f_j) / C_{kj}`, never below `radii`.
        """
        batch, classes = self.logits.shape
        own = torch.full_like(self.predicted, 0)
        found = torch.zeros_like(self.logits)
        for k in range(classes):
            found = torch.maximum(found, self._from(own + k).nan_to_num(posinf=0.0))
        at = torch.arange(batch, device=found.device)
        found[at, self.predicted] = 0.0
        return found

    @cached_property
    def stable_radius(self) -> Tensor:
        """(B,): no perturbation with a smaller norm changes the predicted class, right or wrong; 0 in a tie."""
        return self.radii.amin(1)

    @cached_property
    def radius(self) -> Tensor:
        """(B,): no perturbation with a smaller norm changes the predicted class; 0 where wrong, with targets."""
        if self.targets is None:
            return self.stable_radius
        return zero_where_wrong(self.stable_radius, self.predicted, self.targets)

    @cached_property
    def runner_up(self) -> Tensor:
        """(B,) int64: the class that the certificate puts nearest, the lowest index of a tie."""
        return predict(-self.radii.clamp_max(checks.LARGEST_LOGIT))

    def accuracy(self, eps: Eps) -> Tensor:
        """(E,) certified accuracy: the share of images that stay right whatever happens in the closed ball of eps.

        Args:
            eps: sizes of the perturbation in l_p norm.

        Raises:
            InputError: for a certificate without targets.
        """
        if self.targets is None:
            raise errors.InputError(
                errors.explain(
                    "ClassificationCertificate.accuracy: the certificate has no targets",
                    expected="labels (B,) int64",
                    fix="certify.classification(model, images, targets); or ask for `stability`",
                )
            )
        return _share_above(self.radius, eps)

    def stability(self, eps: Eps) -> Tensor:
        """(E,): the share of images whose predicted class, right or wrong, nothing in the closed ball changes.

        Args:
            eps: sizes of the perturbation in l_p norm.
        """
        return _share_above(self.stable_radius, eps)

    @property
    def clean_accuracy(self) -> float | None:
        """Share of images that are right; None without targets."""
        return None if self.targets is None else float((self.predicted == self.targets).double().mean())

    def _from(self, of: Tensor) -> Tensor:
        return pair_radii(self.logits, of, self.constants, error=self.error, rounding=self.rounding)

    def __repr__(self) -> str:
        batch, classes = self.logits.shape
        height, width = self.images.shape[-2:]
        apart = self.constants[~torch.eye(classes, dtype=torch.bool, device=self.constants.device)]
        lines = [
            f"ClassificationCertificate: {batch} image{'s' * (batch > 1)} of {height}x{width}, {classes} classes",
            f"  Lipschitz constant at most {round_up(self.lipschitz)} (l{self.p:g}); of pairs of classes "
            f"{round_up(float(apart.min()))} to {round_up(float(apart.max()))}",
            f"  no perturbation changes the median image below {round_down(float(self.stable_radius.median()), 4)}",
        ]
        if self.clean_accuracy is not None:
            eps = float(self.radius.median())
            certified = "" if eps == 0 else f"; at least 0.5 below {round_down(eps, 4)}"
            lines.append(f"  accuracy: clean {self.clean_accuracy:.4f}{certified}")
        return "\n".join(lines)

    def show(self) -> None:
        """Print the certificate with its assumptions; plain text, for any terminal."""
        print(self)  # noqa: T201
        for line in self.assumptions:
            print(f"  - {line}")  # noqa: T201

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary."""
        batch, classes = self.logits.shape
        bound = None
        if self.bound is not None:
            features = self.bound.features
            bound = {
                "joint": self.bound.joint.to_dict()["layers"],
                "features": None if features is None else features.to_dict()["layers"],
            }
        return {
            "kind": "classification certificate",
            "size": list(self.images.shape[-2:]),
            "images": batch,
            "classes": classes,
            "p": plain(torch.tensor(self.p)),
            "lipschitz": self.lipschitz,
            "constants": plain(self.constants),
            "bound": bound,
            "rounding": self.rounding,
            "predicted": self.predicted.tolist(),
            "targets": None if self.targets is None else self.targets.tolist(),
            "runner_up": self.runner_up.tolist(),
            "radius": plain(self.radius),
            "clean_accuracy": self.clean_accuracy,
            "assumptions": list(self.assumptions),
            "versions": dict(self.versions),
            "weights_sha256": self.weights_hash,
            "date": self.date,
        }

    def save(self, path: str | Path) -> None:
        """Write a folder with `certificate.json` and `arrays.npz`; it appears whole or not at all.

        Args:
            path: the folder.

        Raises:
            StorageError: when it cannot be written; what was there before is kept.
        """
        arrays: dict[str, Tensor] = {
            "logits": self.logits,
            "predicted": self.predicted,
            "radius": self.radius,
            "radii": self.radii,
            "targeted": self.targeted,
            "constants": self.constants,
            "images": self.images,
        }
        if self.targets is not None:
            arrays["targets"] = self.targets
        with files.atomic_folder(path) as folder:
            text = json.dumps(self.to_dict(), indent=2, allow_nan=False)
            (folder / "certificate.json").write_text(text + "\n", encoding="utf-8")
            save: Any = np.savez_compressed
            save(folder / "arrays.npz", **{k: v.cpu().numpy() for k, v in arrays.items()})


def _share_above(radius: Tensor, eps: Eps) -> Tensor:
    """(E,) float64 share of radii that are strictly above each eps: at the radius itself nothing is promised."""
    values = checks.eps_values(eps).to(radius.device)
    return (radius[None] > values[:, None]).double().mean(1)
