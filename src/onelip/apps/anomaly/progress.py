"""Progress on the error stream, by the share that is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(text: str) -> Iterator[Callable[[float], None]]:
    """Bar that takes the share done, in [0, 1]; pulses until told; silent when the error stream is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(text, total=None)
        yield lambda share: bar.update(task, total=1.0, completed=share)
