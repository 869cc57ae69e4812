"""A model made ready once to be certified: what the front doors of pixels, classes and boxes share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from onelip.certify.fingerprint import weights_hash
from onelip.core import checks, errors, runtime
from onelip.layers.fold import fold

ROUNDING = 1e-7
RELATIVE = 2.0**-40  # of what was computed, where that is so large that ROUNDING no longer covers it
GIVEN = "the Lipschitz constant was given by the caller and not proven here"
FOLDED = "the guarantee is for the folded weights in exact arithmetic, at this image size"

M = TypeVar("M", bound=nn.Module)
B = TypeVar("B")
T = TypeVar("T")


class Ready(Generic[M, B]):
    """A model folded and in float64, with one proof for each image size; the model itself is not changed.

    Attributes:
        caller: begins the text of errors.
        model: the folded copy.
        p: norm.
        weights_hash: SHA-256 of the folded weights.

    Raises:
        TrainModeError: when any part of the model is in train mode.
        PrecisionError: when the model has half precision weights.
    """

    caller: ClassVar[str]
    model: M

    def __init__(self, model: M, *, p: float, lipschitz: Any) -> None:
        _check_model(self.caller, model)
        self.p = checks.norm(p)
        self._given = None if lipschitz is None else checks.lipschitz(lipschitz)
        folded = fold(model)
        self._unchecked: M | None = copy.deepcopy(model)
        self.weights_hash = weights_hash(folded)
        self.model = folded.double().eval()
        self._bounds: dict[tuple[int, ...], B] = {}

    def bound(self, size: tuple[int, int], *, in_channels: int) -> B | None:
        """What is proven at one image size (h, w), or None when a constant was given."""
        if self._given is not None:
            return None
        key = (in_channels, *size)
        if key not in self._bounds:
            self._bounds[key] = self._prove(size, in_channels)
        return self._bounds[key]

    @property
    def device(self) -> torch.device:
        """Where the model is; images and labels are moved there."""
        return next((tensor.device for tensor in self.model.state_dict().values()), torch.device("cpu"))

    def _prove(self, size: tuple[int, int], in_channels: int) -> B:
        raise NotImplementedError

    def _images(self, images: Tensor) -> Tensor:
        """Images checked, detached, in float64 on the device of the model."""
        return checks.precision("images", checks.images(images)).detach().to(self.device, torch.float64)

    def _constant(self, proven: float | None) -> float:
        """The constant given or proven, as a number to divide by.

        A constant map has the constant 0; any larger one is sound too, and this one keeps all quotients finite.
        """
        return checks.lipschitz(max((self._given if proven is None else proven) or 0.0, 1e-30))

    @torch.no_grad()
    def _run(self, function: Callable[[Tensor], T], images: Tensor) -> T:
        """A function of images in the precision of these, whatever is set around it."""
        with runtime.exact_matmul(), torch.autocast(images.device.type, enabled=False):
            return function(images)

    def _exact(self, values: Any, expected: str) -> Tensor:
        """Raise PrecisionError unless the values are a float64 tensor."""
        if not isinstance(values, Tensor) or values.dtype != torch.float64:
            raise errors.PrecisionError(
                errors.explain(
                    f"{self.caller}: the model does not answer in the precision of its input",
                    received=getattr(values, "dtype", type(values).__name__),
                    expected=f"a float64 tensor of {expected}",
                    why="the rounding of the forward pass is only covered in float64",
                    fix="remove casts, as .float(), from the model's forward",
                )
            )
        return values

    def _as_given(self, images: Tensor) -> tuple[M, Tensor] | None:
        """The model as given and images in its precision, the first time; then None.

        Code that looks at the type of its layers or tensors may compute something else after folding.
        """
        model, self._unchecked = self._unchecked, None
        if model is None:
            return None
        like = next((t for t in model.parameters() if t.is_floating_point()), torch.empty(0))
        return model, images.to(like.dtype)

    def _agree(self, what: str, other: Tensor, own: Tensor, tolerance: float = 1e-3) -> None:
        """Raise IntegrityError unless something says what is certified, up to rounding."""
        difference = float((other.double() - own).abs().max()) if other.shape == own.shape else float("nan")
        if not difference <= tolerance * float(own.abs().max()) + 1e-30:
            raise errors.IntegrityError(
                errors.explain(
                    f"{self.caller}: {what} answers differently from the folded float64 copy",
                    received=f"a largest difference of {difference:.3g}",
                    expected="agreement up to rounding",
                    why="the certificate would be about another function",
                    fix="remove code that depends on the type of layers, weights or tensors",
                )
            )


def _check_model(caller: str, model: nn.Module) -> None:
    checks.eval_mode(model, caller)
    for name, tensor in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
            raise errors.PrecisionError(
                errors.explain(
                    f"{caller}: {name} has a precision that cannot be certified",
                    received=tensor.dtype,
                    expected="torch.float32 or torch.float64",
                    why="rounding in half precision is as large as usual budgets",
                    fix="certify the float32 weights: model.float() before half() was applied",
                )
            )
