"""ONNX files that carry their bound."""

from __future__ import annotations

import hashlib
import importlib
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bounds import Bound, lipschitz
from ..core.checks import size as check_size
from ..core.errors import IntegrityError, MissingExtraError, explain
from ..core.files import atomic_write
from ..layers.fold import fold
from .base import LipModel
from .storage import serialize

TOLERANCE = 1e-4  # relative to the largest logit: another summation order, nothing more


def export_onnx(model: LipModel, path: str | Path, size: tuple[int, int]) -> Bound:
    """Export a folded copy to ONNX for one image size and any batch size, and record its bound in the file.

    The outputs of onnxruntime are compared with the model's on batches of 1 and 3 before the file is written.
    Metadata keys: `onelip.lipschitz` (shortest decimal that reads back as the bound), `onelip.p`, `onelip.size`,
    `onelip.weights_sha256` (that of the saved folder's config.json) and `onelip.config`.

    Args:
        model: a model; it is not changed.
        path: the .onnx file.
        size: input size (h, w).

    Returns:
        The bound that was recorded.

    Guarantee:
        The bound is that of the exported weights in exact arithmetic; the runtime computes in float32.

    Raises:
        MissingExtraError: the `onnx` extra is not installed.
        IntegrityError: onnxruntime computes something else than the model.
        StorageError: the file could not be written.
    """
    onnx, runtime = (_extra(name) for name in ("onnx", "onnxruntime"))
    _extra("onnxscript")
    height, width = check_size(size)
    folded = fold(model).cpu()
    bound = lipschitz(folded, (height, width), in_channels=model.in_channels)
    example = torch.rand(3, model.in_channels, height, width, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        _export(folded, example, file)
        proto = onnx.load(str(file))
    _annotate(proto, model, serialize(folded), bound, [height, width])
    raw: bytes = proto.SerializeToString()
    _compare(runtime, raw, folded, example)
    atomic_write(path, raw)
    return bound


def _extra(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            explain(
                f"ONNX export needs the package {name}",
                received="it is not installed",
                fix='pip install "onelip[onnx]"',
            )
        ) from error


def _export(folded: LipModel, example: Tensor, file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, of no use to the caller
        torch.onnx.export(
            folded,
            (example,),
            str(file),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
        )


def _annotate(proto: Any, model: LipModel, raw: bytes, bound: Bound, size: list[int]) -> None:
    entries = {
        "onelip.lipschitz": repr(bound.value),
        "onelip.p": repr(float(bound.p)),
        "onelip.size": json.dumps(size),
        "onelip.weights_sha256": hashlib.sha256(raw).hexdigest(),
        "onelip.config": json.dumps(model.config, sort_keys=True),
    }
    for key, value in entries.items():
        proto.metadata_props.add(key=key, value=value)


def _compare(runtime: Any, raw: bytes, folded: LipModel, example: Tensor) -> None:
    session = runtime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    for batch in (example[:1], example):
        with torch.no_grad():
            expected = folded(batch)
        received = torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])
        same = received.shape == expected.shape
        error = (received - expected).abs().max().item() if same else float("inf")
        if not error <= TOLERANCE * max(1e-3, expected.abs().max().item()):
            raise IntegrityError(
                explain(
                    "the exported network is not the model",
                    received=f"a largest difference of {error:.3g} in the logits",
                    expected=f"at most {TOLERANCE:g} of the largest logit",
                    why="the bound would be recorded for another function",
                    fix="update onnx, onnxscript and onnxruntime; no file was written",
                )
            )
