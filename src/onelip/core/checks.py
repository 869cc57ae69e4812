"""Guards at the edges of the API: bad input raises here and never becomes a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import InputError, NonFiniteError, PrecisionError, TrainModeError, explain

if TYPE_CHECKING:
    import torch

LARGEST_LOGIT = 1e140


def _tensor(name: str, value: Any, dims: int, layout: str) -> torch.Tensor:
    import torch

    if not isinstance(value, torch.Tensor):
        raise InputError(
            explain(f"`{name}` is not a tensor", received=type(value).__name__, expected=f"a tensor {layout}")
        )
    if value.dim() != dims:
        raise InputError(
            explain(f"`{name}` has the wrong shape", received=tuple(value.shape), expected=layout)
        )
    return value


def finite(name: str, value: torch.Tensor) -> torch.Tensor:
    """Raise NonFiniteError when a tensor holds NaN or an infinity."""
    # Both ends are NaN if any value is, and this reads the tensor once, many times faster than isfinite().
    if value.numel() and not all(math.isfinite(float(end)) for end in value.detach().aminmax()):
        raise NonFiniteError(
            explain(
                f"`{name}` is not finite",
                received=f"{int((~value.isfinite()).sum())} NaN or infinite values",
                why="no comparison with them means anything, so no certificate can",
            )
        )
    return value


def precision(name: str, value: torch.Tensor) -> torch.Tensor:
    """Raise PrecisionError for arithmetic that is too coarse: half, bfloat16, or float32 on CUDA with TF32 on."""
    import torch

    if value.dtype not in (torch.float32, torch.float64):
        raise PrecisionError(
            explain(
                f"`{name}` has a precision that cannot be certified",
                received=value.dtype,
                expected="float64 (or float32 computed without TF32)",
                why="its rounding errors are as large as usual budgets",
                fix="run the model in float64: onelip.fold(model).double()",
            )
        )
    tf32 = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
    if value.is_cuda and value.dtype == torch.float32 and tf32:
        raise PrecisionError(
            explain(
                f"`{name}` was computed on CUDA in float32 while TF32 is allowed",
                expected="float64, or TF32 switched off",
                why="TF32 keeps 10 bits of each product",
                fix="compute it inside `with onelip.core.runtime.exact_matmul():` or in float64",
            )
        )
    return value


def images(value: Any, name: str = "images") -> torch.Tensor:
    """Check images: float (B, C, H, W), B >= 1, finite, in [0, 1]."""
    tensor = _tensor(name, value, 4, "(B, C, H, W)")
    if not tensor.is_floating_point():
        raise InputError(
            explain(
                f"`{name}` is not floating point",
                received=tensor.dtype,
                expected="floats in [0, 1]",
                fix="images.float() / 255",
            )
        )
    if tensor.numel() == 0:
        raise InputError(
            explain(f"`{name}` is empty", received=tuple(tensor.shape), expected="at least one image")
        )
    finite(name, tensor)
    low, high = float(tensor.min()), float(tensor.max())
    if low < 0 or high > 1:
        raise InputError(
            explain(
                f"`{name}` is out of range",
                received=f"values from {low:.4g} to {high:.4g}",
                expected="values in [0, 1]",
                why="eps is a norm in these units",
                fix="divide 8-bit images by 255; mean and std belong inside the model",
            )
        )
    return tensor


def logits(value: Any, name: str = "logits") -> torch.Tensor:
    """Check logits: (B, K, H, W) with K >= 2, float32 or float64, finite and not beyond what can be squared."""
    tensor = precision(name, _tensor(name, value, 4, "(B, K, H, W)"))
    if tensor.shape[1] < 2:
        raise InputError(
            explain(
                f"`{name}` has too few classes", received=tensor.shape[1], expected="K >= 2 in (B, K, H, W)"
            )
        )
    if tensor.numel() == 0:
        raise InputError(
            explain(f"`{name}` is empty", received=tuple(tensor.shape), expected="at least one pixel")
        )
    largest = max(abs(float(end)) for end in finite(name, tensor).detach().aminmax())
    if largest > LARGEST_LOGIT:
        raise InputError(
            explain(
                f"`{name}` are too large",
                received=f"{largest:.3g}",
                expected=f"at most {LARGEST_LOGIT:g} in size",
                why="sums of their squares would leave float64",
                fix="divide logits and the Lipschitz constant by the same number: certificates stay the same",
            )
        )
    return tensor


def target(value: Any, like: torch.Tensor, ignore_index: int = 255, name: str = "target") -> torch.Tensor:
    """Check labels against logits (B, K, H, W): int64 (B, H, W), each in 0..K-1 or `ignore_index`."""
    import torch

    tensor = _tensor(name, value, 3, "(B, H, W)")
    expected = (like.shape[0], *like.shape[2:])
    if tuple(tensor.shape) != expected:
        raise InputError(
            explain(f"`{name}` does not fit the logits", received=tuple(tensor.shape), expected=expected)
        )
    if tensor.dtype != torch.int64:
        raise InputError(
            explain(
                f"`{name}` has the wrong type",
                received=tensor.dtype,
                expected="torch.int64",
                fix="labels.long()",
            )
        )
    classes = like.shape[1]
    wrong = (tensor != ignore_index) & ((tensor < 0) | (tensor >= classes))
    if bool(wrong.any()):
        raise InputError(
            explain(
                f"`{name}` has labels outside the classes",
                received=sorted(set(tensor[wrong].tolist()))[:8],
                expected=f"0..{classes - 1}, or ignore_index={ignore_index} for void",
            )
        )
    return tensor


def eps_values(value: Any, name: str = "eps") -> torch.Tensor:
    """Turn a number or a sequence of numbers into a float64 tensor (E,), each finite and >= 0."""
    import torch

    try:
        # A copy: the caller's tensor must never be written to.
        tensor = torch.as_tensor(value, dtype=torch.float64).detach().cpu().reshape(-1).clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            explain(f"`{name}` is not a list of numbers", received=repr(value), expected="e.g. [0.0, 0.1]")
        ) from error
    if tensor.numel() == 0:
        raise InputError(explain(f"`{name}` is empty", expected="at least one number >= 0"))
    bad = ~(tensor.isfinite() & (tensor >= 0))
    if bool(bad.any()):
        index = int(bad.nonzero()[0])
        raise InputError(
            explain(
                f"`{name}` has an unusable entry",
                received=f"{float(tensor[index])} at index {index}",
                expected="finite numbers >= 0",
            )
        )
    return tensor


def number(name: str, value: Any, *, low: float = -math.inf, high: float = math.inf) -> float:
    """Check one finite real number in [low, high]."""
    try:
        result = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(explain(f"`{name}` is not a number", received=repr(value))) from error
    if isinstance(value, bool) or not math.isfinite(result) or not low <= result <= high:
        raise InputError(
            explain(
                f"`{name}` is out of range",
                received=repr(value),
                expected=f"a finite number in [{low}, {high}]",
            )
        )
    return result


def lipschitz(value: Any, name: str = "lipschitz") -> float:
    """Check a Lipschitz constant: a finite number > 0 (a Bound is accepted)."""
    result = number(name, getattr(value, "value", value), low=0.0)
    if result == 0:
        raise InputError(explain(f"`{name}` is zero", expected="a finite number > 0"))
    return result


def norm(p: Any) -> float:
    """Check the norm: 1, 2 or infinity."""
    if isinstance(p, bool) or not isinstance(p, int | float) or float(p) not in (1.0, 2.0, math.inf):
        raise InputError(
            explain("`p` is not a supported norm", received=repr(p), expected='1, 2 or float("inf")')
        )
    return float(p)


def positive_int(name: str, value: Any) -> int:
    """Check an integer >= 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(explain(f"`{name}` is not usable", received=repr(value), expected="an integer >= 1"))
    return value


def size(value: Sequence[int], name: str = "size") -> tuple[int, ...]:
    """Check a size, (h, w) by convention: integers >= 1."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise InputError(
            explain(f"`{name}` is not a size", received=repr(value), expected="(h, w), e.g. (256, 256)")
        )
    return tuple(
        positive_int(f"{name}[{i}]", int(v) if hasattr(v, "__index__") and not isinstance(v, bool) else v)
        for i, v in enumerate(value)
    )


def eval_mode(model: torch.nn.Module, caller: str) -> None:
    """Raise TrainModeError when any part of a model is in train mode; the text begins with the caller."""
    training = [name or "the model" for name, module in model.named_modules() if module.training]
    if training:
        raise TrainModeError(
            explain(
                f"{caller}: the model is in train mode",
                received=f"{len(training)} modules in train mode, first {training[0]}",
                expected="eval mode",
                why="in train mode the output of an image can depend on the rest of the batch",
                fix="model.eval()",
            )
        )
