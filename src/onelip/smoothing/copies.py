"""Noisy copies of an image, drawn as they are needed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from onelip.core import checks, errors
from onelip.smoothing.result import check_sigma


class Copies:
    """The noisy copies of one image, a batch at a time: each has its own draw, whatever the batch size.

    Args:
        model: what they are for; a module has to be in eval mode, and its weights say the device and the precision.
        image: (C, H, W) or (1, C, H, W), in [0, 1].
        sigma: standard deviation of the noise; copies are not clipped.
        seed: of the noise.
        batch_size: copies in one batch.

    Raises:
        TrainModeError: the model is in train mode.
        InputError: for unusable images or arguments.
    """

    def __init__(self, model: object, image: Tensor, sigma: float, seed: int, batch_size: int) -> None:
        if isinstance(model, nn.Module):
            checks.eval_mode(model, "smoothing")
        if isinstance(image, Tensor) and image.dim() == 3:
            image = image.unsqueeze(0)
        image = checks.images(image, "image").detach()
        if image.shape[0] != 1:
            raise errors.InputError(
                errors.explain(
                    "`image` is several images",
                    received=tuple(image.shape),
                    expected="(C, H, W) or (1, C, H, W)",
                    why="each image has its own samples and its own probability of error",
                    fix="call it once for each image",
                )
            )
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise errors.InputError(
                errors.explain("`seed` is not usable", received=repr(seed), expected="an integer >= 0")
            )
        weights = model.state_dict().values() if isinstance(model, nn.Module) else ()
        tensors = [t for t in weights if t.is_floating_point()]
        self.dtype = tensors[0].dtype if tensors else torch.float32
        self.image = image.to(tensors[0].device if tensors else image.device)
        self.sigma, self.seed = check_sigma(sigma), seed
        self.batch_size = checks.positive_int("batch_size", batch_size)
        self.size = (image.shape[-2], image.shape[-1])
        self._generator = torch.Generator(self.image.device).manual_seed(seed)

    def batches(self, count: int) -> Iterator[Tensor]:
        """`count` copies (b, C, H, W), a batch at a time."""
        for start in range(0, count, self.batch_size):
            yield self._noisy(min(self.batch_size, count - start))

    def _noisy(self, count: int) -> Tensor:
        wide = self.dtype if self.dtype == torch.float64 else torch.float32
        noisy = torch.empty((count, *self.image.shape[1:]), dtype=wide, device=self.image.device)
        for copy in noisy:
            copy.normal_(generator=self._generator)  # one draw a copy: the same noise for every batch size
        return noisy.mul_(self.sigma).add_(self.image.to(wide)).to(self.dtype)

    def clock(self) -> float:
        """Time now, with all work on the device done."""
        if self.image.is_cuda:
            torch.cuda.synchronize(self.image.device)
        return time.perf_counter()
