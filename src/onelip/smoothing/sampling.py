"""Noisy copies of an image through a model, counted as they come: never an array of samples x pixels."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onelip.core import checks, errors
from onelip.smoothing.copies import Copies
from onelip.smoothing.result import Counts

Progress = Callable[[int, int], None]


class Tally:
    """Counts of the predictions of one image, sample by sample: first votes, then agreements with the winners.

    Args:
        class_count: K.
        size: (h, w).
        device: where the counts live.

    Example:
        >>> tally = Tally(3, (1, 2))
        >>> tally.vote(torch.tensor([[[2, 1]], [[2, 0]], [[0, 1]]]))
        >>> tally.winners.tolist()
        [[2, 1]]
        >>> tally.agree(torch.tensor([[[2, 0]], [[2, 1]]]))
        >>> tally.agreements.tolist()
        [[2, 1]]
    """

    def __init__(self, class_count: int, size: tuple[int, int], device: torch.device | str = "cpu") -> None:
        self._votes: Tensor | None = torch.zeros((class_count, *size), dtype=torch.int32, device=device)
        self._winners: Tensor | None = None
        self._ones = torch.ones((), dtype=torch.int32, device=device)
        self.agreements = torch.zeros(size, dtype=torch.int64, device=device)

    def vote(self, labels: Tensor) -> None:
        """Count predictions (b, H, W) as votes; only possible before the first agreement."""
        if self._votes is None:
            raise errors.InputError(
                errors.explain(
                    "the votes are closed",
                    why="samples that chose the winners may not test them, nor the other way round",
                )
            )
        self._votes.scatter_add_(0, labels, self._ones.expand_as(labels))

    @property
    def winners(self) -> Tensor:
        """(H, W) int64: the class with most votes, the lowest index of a tie. Closes the votes."""
        if self._winners is None:
            assert self._votes is not None
            self._winners, self._votes = _first_largest(self._votes), None
        return self._winners

    def agree(self, labels: Tensor) -> None:
        """Count in how many predictions (b, H, W) each pixel has its winner."""
        self.agreements += (labels == self.winners).sum(0)


def _first_largest(votes: Tensor) -> Tensor:
    """Argmax over the classes, the lowest of a tie: class by class, which on a CPU is many times faster."""
    most, winner = votes[0].clone(), torch.zeros(votes.shape[1:], dtype=torch.int64, device=votes.device)
    for label in range(1, len(votes)):
        winner.masked_fill_(votes[label] > most, label)
        torch.maximum(most, votes[label], out=most)
    return winner


def sample(
    model: nn.Module,
    image: Tensor,
    *,
    sigma: float = 0.25,
    n0: int = 10,
    n: int = 100,
    seed: int = 0,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Counts:
    """Run n0 + n noisy copies of an image through a model and count its predictions.

    Args:
        model: a dense model in eval mode; it runs in its own precision. Fold it first: `onelip.fold(model)`.
        image: (C, H, W) or (1, C, H, W), in [0, 1].
        sigma: standard deviation of the noise, in these units. The noisy copies are not clipped.
        n0: samples that choose the class of each pixel.
        n: samples that test it.
        seed: of the noise. Each copy has its own draw, whatever the batch size; draws are made on the device of
            the model, so that a CPU and a GPU draw differently.
        batch_size: copies in one forward pass.
        progress: called with the number of copies done and in all.

    Returns:
        The counts, which `certify` turns into a label map for any radius.

    Guarantee: none yet: these are samples. The model must treat the images of a batch independently.

    Raises:
        TrainModeError: the model is in train mode.
        InputError: for unusable images or arguments, or a model that does not answer with finite logits (B, K, H, W).

    Example:
        >>> _ = torch.manual_seed(0)
        >>> counts = sample(nn.Conv2d(3, 4, 1).eval(), torch.rand(3, 8, 8), n=50)
        >>> counts.winners.shape, int(counts.agreements.max()) <= 50
        (torch.Size([8, 8]), True)
        >>> [counts.certify(eps=eps).radius for eps in (0.05, 0.1)]
        [0.05, 0.1]
    """
    *_, counts = stream(
        model, image, sigma=sigma, n0=n0, n=(n,), seed=seed, batch_size=batch_size, progress=progress
    )
    return counts


def stream(
    model: nn.Module,
    image: Tensor,
    *,
    sigma: float = 0.25,
    n0: int = 10,
    n: Sequence[int] = (100,),
    seed: int = 0,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Iterator[Counts]:
    """Sample as `sample` does, and hand out the counts at several n on the way.

    Args:
        model: as in `sample`, like all that follows.
        image: (C, H, W) or (1, C, H, W).
        sigma: standard deviation of the noise.
        n0: samples that choose.
        n: at which numbers of test samples to hand out counts, rising.
        seed: of the noise.
        batch_size: copies in one forward pass.
        progress: called with the copies done and in all.

    Yields:
        Counts at each n. A certificate from any one of them, chosen beforehand, holds with its 1 - alpha; the
        best of several does not.

    Raises:
        TrainModeError: the model is in train mode.
        InputError: as `sample`.
    """
    stops = [checks.positive_int("n", value) for value in n]
    if not stops or any(a >= b for a, b in itertools.pairwise(stops)):
        raise errors.InputError(
            errors.explain("`n` is not usable", received=list(n), expected="rising integers")
        )
    checks.positive_int("n0", n0)
    total, started = n0 + stops[-1], time.perf_counter()
    copies = _Labels(model, image, sigma, seed, batch_size)
    tally, spent, done = None, 0.0, 0
    ends = [n0, *(n0 + value for value in stops)]  # of the votes, then of each number of tests
    for labels in copies.labels(total):
        tally = tally or Tally(copies.class_count, copies.size, labels.device)
        for part in _split(labels, done, ends):
            (tally.vote if done < n0 else tally.agree)(part)
            done += len(part)
            if done in ends[1:]:
                spent += copies.clock() - started
                yield copies.counts(tally, n0=n0, n=done - n0, seconds=spent)
                started = time.perf_counter()  # what the caller does with the counts is not sampling
        if progress is not None:
            progress(done, total)


def _split(labels: Tensor, done: int, ends: Sequence[int]) -> Iterator[Tensor]:
    """Cut a batch where a phase ends: forward passes are of full batches all the same."""
    start = 0
    for end in [*(end - done for end in ends if done < end < done + len(labels)), len(labels)]:
        yield labels[start:end]
        start = end


class _Labels(Copies):
    """What a dense model says to the copies."""

    def __init__(self, model: nn.Module, image: Tensor, sigma: float, seed: int, batch_size: int) -> None:
        _check_module(model)
        super().__init__(model, image, sigma, seed, batch_size)
        self.model = model
        self.class_count = 0

    def labels(self, count: int) -> Iterator[Tensor]:
        """Predictions (b, H, W) of `count` copies, a batch at a time."""
        for noisy in self.batches(count):
            top, labels = self._forward(noisy).max(1)
            checks.finite("logits of the noisy copies", top)  # the largest one is NaN where any of them is
            yield labels

    @torch.no_grad()
    def _forward(self, noisy: Tensor) -> Tensor:
        with torch.autocast(noisy.device.type, enabled=False):
            logits: object = self.model(noisy)
        expected = (len(noisy), *self.size)
        if (
            not isinstance(logits, Tensor)
            or not logits.is_floating_point()
            or logits.dim() != 4
            or logits.shape[1] < 2
            or (logits.shape[0], *logits.shape[2:]) != expected
        ):
            raise errors.InputError(
                errors.explain(
                    "smoothing: the model does not answer with logits of the size of its images",
                    received=tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__,
                    expected=f"floats ({len(noisy)}, K, {self.size[0]}, {self.size[1]}) with K >= 2",
                )
            )
        self.class_count = int(logits.shape[1])
        return logits

    def counts(self, tally: Tally, *, n0: int, n: int, seconds: float) -> Counts:
        """The counts so far, apart from those that go on."""
        return Counts(
            winners=tally.winners,
            agreements=tally.agreements.clone(),
            image=self.image[0],
            class_count=self.class_count,
            sigma=self.sigma,
            n0=n0,
            n=n,
            seed=self.seed,
            seconds=seconds,
        )


def _check_module(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise errors.InputError(
            errors.explain(
                "`model` is no module",
                received=type(model).__name__,
                expected="a torch.nn.Module in eval mode",
            )
        )
