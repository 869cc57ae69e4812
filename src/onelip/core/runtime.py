"""Facts about this run: device, seed, versions, machine, arithmetic."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING

from .errors import InputError, explain

if TYPE_CHECKING:
    import torch

_PACKAGES = ("onelip", "torch", "torchvision", "numpy", "pytorch-lightning", "torchmetrics", "safetensors")


def device(name: str = "auto") -> torch.device:
    """Choose a device: `auto` takes CUDA when it is really there, else the CPU.

    Raises:
        InputError: the name is unknown, or CUDA was asked for and is absent.
    """
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise InputError(explain("unknown device", received=repr(name), expected="auto, cpu or cuda"))
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError(
            explain("no CUDA device is available", received="cuda", fix="use --device auto or cpu")
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def generator(seed: int) -> torch.Generator:
    """Return a CPU generator: numbers are drawn on the CPU and moved, so that a seed means the same everywhere."""
    import torch

    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(explain("seed is not usable", received=repr(seed), expected="an integer >= 0"))
    return torch.Generator().manual_seed(seed)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result; absent ones are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str | int]:
    """Describe the machine as far as a timing depends on it."""
    return {
        "system": platform.system(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def now() -> str:
    """Return the date and time in UTC, to the second, ISO 8601."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


@contextmanager
def exact_matmul() -> Iterator[None]:
    """Switch TF32 off for the block: its 10-bit products are far too coarse for a certificate."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
