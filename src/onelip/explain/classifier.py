"""A classifier made ready to be explained: a folded float64 copy, its gradients, the constants of its pairs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from onelip.certify.labels import ClassificationCertificate, ClassificationCertifier
from onelip.core import checks, errors, runtime
from onelip.core.errors import InputError, explain
from onelip.layers.fold import fold

_UP = 1 + 1e-12
T = TypeVar("T")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the global random numbers as they are, and make ordinary tensors even in inference mode."""
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        yield


class Classifier:
    """A copy of a model that maps images to logits; the model itself is never changed.

    The copy is folded, in float64, and asks for no gradient of its parameters. Where the model cannot be folded (it
    has hooks, or layers whose class was changed) it is copied as it is: no bound will be proven for it either.

    Args:
        model: (B, C, H, W) to (B, K), K >= 2, in eval mode.
        caller: begins the text of errors.

    Attributes:
        model: the copy.
        own: the model as given.
        refusal: why nothing was proven when it was asked for last; empty if it was.

    Raises:
        TrainModeError: when any part of the model is in train mode.
        PrecisionError: when it has half precision weights.
    """

    def __init__(self, model: nn.Module, caller: str) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(
                explain(f"{caller}: no model", received=type(model).__name__, expected="a torch module")
            )
        checks.eval_mode(model, caller)
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
                raise errors.PrecisionError(
                    explain(
                        f"{caller}: {name} has a precision that is too coarse",
                        received=tensor.dtype,
                        expected="torch.float32 or torch.float64",
                        fix="explain the float32 weights",
                    )
                )
        self.caller, self.own, self.refusal = caller, model, ""
        with undisturbed():
            try:
                plain = fold(model)
            except errors.UnknownLayerError:
                plain = copy.deepcopy(model)
            self.model = plain.double().eval().requires_grad_(False)
        self._certifier: ClassificationCertifier | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is; images are moved there."""
        return next((t.device for t in self.model.state_dict().values()), torch.device("cpu"))

    def take(self, images: Any, *, box: bool = True) -> Tensor:
        """Return images checked, detached, in float64 on the device of the model; `box`: they must be in [0, 1]."""
        with torch.inference_mode(False):
            if box:
                images = checks.images(images.detach() if isinstance(images, Tensor) else images, "x")
            x: Tensor = images.detach().to(self.device, torch.float64).clone()
            return x

    def _run(self, model: nn.Module, x: Tensor) -> Tensor:
        with runtime.exact_matmul(), torch.autocast(x.device.type, enabled=False):
            answer = model(x)
        if not isinstance(answer, Tensor) or answer.dim() != 2 or answer.shape[1] < 2:
            shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise InputError(
                explain(
                    f"{self.caller}: the model is no classifier",
                    received=f"an output {shape}",
                    expected="logits (B, K), K >= 2",
                    fix="onelip.explain.RegionLogits(model, region) makes a classifier of a dense model; "
                    "for one output f, join f and -f",
                )
            )
        return checks.finite("logits", answer).double()

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """(B, K) float64."""
        return self._run(self.model, x)

    @torch.no_grad()
    def answers(self, x: Tensor) -> Tensor:
        """(B, K): what the model itself answers, in its own precision."""
        like = next((t for t in self.own.state_dict().values() if t.is_floating_point()), x)
        return self._run(self.own, x.to(like.dtype))

    def gradient(self, x: Tensor, weights: Any) -> tuple[Tensor, Tensor]:
        """Logits (B, K), and the gradient (B, C, H, W) of their sum weighted by `weights(logits)`, (B, K).

        Calls `weights` once, on the detached logits.
        """
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            logits = self._run(self.model, x)
            total = (logits * weights(logits.detach())).sum()
            found = torch.autograd.grad(total, x, allow_unused=True)[0] if total.requires_grad else None
        gradient = torch.zeros_like(x) if found is None else found
        return logits.detach(), checks.finite("gradient", gradient).detach()

    def classes(self, target: Any, logits: Tensor, name: str) -> Tensor:
        """(B,) int64 classes: as given (an int or (B,) integers), or the predicted ones for None."""
        if target is None:
            return logits.argmax(1)
        return labels(target, logits, f"{self.caller}: `{name}`")

    def agrees(self, x: Tensor, logits: Tensor) -> None:
        """Raise IntegrityError where the model itself answers differently from its folded float64 copy."""
        difference = float((self.answers(x) - logits).abs().max())
        if not difference <= 1e-3 * float(logits.abs().max()) + 1e-30:
            raise errors.IntegrityError(
                explain(
                    f"{self.caller}: the folded float64 copy answers differently from the model",
                    received=f"a largest difference of {difference:.3g}",
                    expected="agreement up to float32 rounding",
                    why="the explanation would be about another function",
                    fix="remove code that depends on the type of layers, weights or tensors",
                )
            )

    def certificate(self, images: Tensor) -> ClassificationCertificate | None:
        """What is proven about these images, or None, and `refusal` says why."""
        return self._proven(lambda certifier: certifier(images))

    def logit_constant(self, images: Tensor) -> float | None:
        """Return a proven constant of each logit alone, or None, and `refusal` says why."""
        size = (images.shape[-2], images.shape[-1])
        bound = self._proven(lambda certifier: certifier.bound(size, in_channels=images.shape[1]))
        if bound is None:
            return None
        alone = bound.joint.value
        if bound.features is not None:
            alone = min(alone, bound.features.value * bound.widest * _UP)
        return alone

    def _proven(self, ask: Callable[[ClassificationCertifier], T | None]) -> T | None:
        self.refusal = ""
        try:
            with undisturbed():
                if self._certifier is None:
                    self._certifier = ClassificationCertifier(self.own)
                return ask(self._certifier)
        except errors.BoundError as error:
            self.refusal = f"no bound is proven for this model: {error}"
            return None


class RegionLogits(nn.Module):
    """A dense model as a classifier: the mean of its logits over a region of the image.

    Args:
        model: (B, C, H, W) to (B, K, H, W).
        region: (H, W) bool, not empty.

    Example:
        >>> region = torch.zeros(8, 8, dtype=torch.bool)
        >>> region[2:4, 2:4] = True
        >>> RegionLogits(nn.Conv2d(3, 5, 1), region).eval()(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 5])
    """

    weight: Tensor

    def __init__(self, model: nn.Module, region: Tensor) -> None:
        super().__init__()
        if region.dim() != 2 or region.dtype != torch.bool or not bool(region.any()):
            raise InputError(
                explain(
                    "`region` is not usable",
                    received=f"{tuple(region.shape)}, {region.dtype}, {int(region.sum())} pixels",
                    expected="(H, W) bool with at least one pixel",
                )
            )
        self.model = model
        self.register_buffer("weight", region.float() / int(region.sum()))
        self.training = model.training  # of this module alone: a part in train mode has to be seen

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean logits (B, K) of the region."""
        logits: Tensor = self.model(images) * self.weight
        return logits.sum((-2, -1))


def labels(target: Any, logits: Tensor, name: str = "`target`") -> Tensor:
    """(B,) int64 classes from an int or (B,) integers, checked against logits (B, K)."""
    batch, classes = logits.shape
    found = torch.as_tensor(target) if not isinstance(target, bool) else torch.tensor(float("nan"))
    if found.is_floating_point() or found.dtype == torch.bool or found.shape not in ((), (batch,)):
        raise InputError(
            explain(
                f"{name} is not usable",
                received=f"{tuple(found.shape)}, {found.dtype}" if found.dim() else repr(target),
                expected=f"a class, or ({batch},) classes, one for each image",
            )
        )
    wrong = (found < 0) | (found >= classes)
    if bool(wrong.any()):
        raise InputError(
            explain(
                f"{name} is out of range",
                received=sorted(set(found[wrong].reshape(-1).tolist()))[:8],
                expected=f"classes 0..{classes - 1}",
            )
        )
    return found.long().to(logits.device).expand(batch).clone()
