"""One hash for the weights a certificate speaks of."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from onelip.models.base import LipModel
from onelip.models.storage import serialize


def weights_hash(folded: nn.Module) -> str:
    """SHA-256 of folded weights; for a stored model the `weights_sha256` of its config.json.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> layer = nn.Conv2d(1, 1, 1)
        >>> before = weights_hash(layer)
        >>> _ = nn.init.zeros_(layer.bias)
        >>> weights_hash(layer) == before, len(before)
        (False, 64)
    """
    state = folded.state_dict()
    if isinstance(folded, LipModel) and all(
        v.dtype == torch.float32 for v in state.values() if v.is_floating_point()
    ):
        return hashlib.sha256(serialize(folded)).hexdigest()
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
