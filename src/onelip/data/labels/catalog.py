"""One door to every set of labels: `open_labels("mnist", "train")`."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ...core.checks import positive_int
from ...core.errors import DataError, InputError, explain
from ..catalog import find_named
from ..dataset import check_size
from ..landing.tables import holds
from .cifar import cifar10
from .dataset import ClassificationDataset, check_channels
from .digits import digits, fashion_mnist, mnist
from .folder import class_folder, holds_classes

# Name -> reader, and the folder names under which the set is looked for.
_READERS: dict[str, tuple[Callable[..., ClassificationDataset], tuple[str, ...]]] = {
    "cifar10": (
        cifar10,
        ("cifar10", "CIFAR10", "cifar-10", "cifar-10-batches-bin", "cifar-10-batches-py"),
    ),
    "fashion_mnist": (fashion_mnist, ("fashion_mnist", "FashionMNIST", "fashion-mnist")),
    "mnist": (mnist, ("mnist", "MNIST")),
}


def label_names() -> list[str]:
    """Return the sets of labels that `open_labels` knows by name.

    >>> label_names()
    ['cifar10', 'digits', 'fashion_mnist', 'mnist']
    """
    return sorted([*_READERS, "digits"])


def open_labels(
    spec: str | Path,
    split: str = "train",
    *,
    root: str | Path | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    cache: bool = False,
    limit: int | None = None,
) -> ClassificationDataset:
    """Open a set of pictures with one class each, by name, or a folder with one subfolder a class by its path.

    Args:
        spec: A name of `label_names()`, or the path of a folder, see `class_folder`. "digits" needs no files.
        split: "train", "val" or "test"; of named sets, and of folders without parts, also "trainval".
        root: Folder of a named set; default: a folder of the set's name in ONELIP_DATA, else in ../shared/data.
        size: (h, w) to which pictures are resized on reading, e.g. (28, 28) for the 8 x 8 digits.
        channels: 1 (grey) or 3 (RGB); default: 1 for digits, mnist and fashion_mnist, 3 for cifar10 and folders.
        cache: Keep the bytes as they are read in memory.
        limit: At most so many images, see `ClassificationDataset.limited`.

    Returns:
        The data set; items are (image, label).

    Raises:
        DataError: there is no such set or split, its folder is not found, or its files cannot be used; the text says
            where and what.
        InputError: `size`, `channels`, `limit` or `root` is wrong.

    Example:
        >>> dataset = open_labels("digits", "test", size=(28, 28))
        >>> image, label = dataset[0]
        >>> len(dataset), image.shape, dataset.classes[label]
        (397, torch.Size([1, 28, 28]), '2')
    """
    options: dict[str, Any] = {"size": check_size(size), "cache": cache}
    if channels is not None:
        options["channels"] = check_channels(channels)
    if limit is not None:
        positive_int("limit", limit)
    if root is not None and str(spec) not in _READERS:
        raise InputError(
            explain(
                f"`root` fits {', '.join(sorted(_READERS))} only",
                received=f"root={root} for {spec}",
                fix="pass the path of a folder as the set itself",
            )
        )
    dataset = _open(str(spec), split, root, options)
    return dataset if limit is None else dataset.limited(limit)


def _open(spec: str, split: str, root: str | Path | None, options: dict[str, Any]) -> ClassificationDataset:
    if spec == "digits":
        return digits(split, **options)
    if spec in _READERS:
        reader, folders = _READERS[spec]
        place = Path(root).expanduser() if root is not None else find_named(spec, folders)
        if not place.is_dir():
            raise DataError(explain(f"the folder of {spec} does not exist", received=place))
        return reader(place, split, **options)
    path = Path(spec).expanduser()
    if path.is_dir():
        return class_folder(path, split, **options)
    close = get_close_matches(spec, label_names(), n=1)
    raise DataError(
        explain(
            f"there is no set of labels {spec!r}",
            expected=f"one of {', '.join(label_names())}, or the path of a folder with one subfolder a class",
            fix=f"did you mean {close[0]!r}?" if close else None,
        )
    )


def opens_as_labels(spec: str | Path) -> bool:
    """Whether a name or path holds one class a picture, and neither labels of pixels nor boxes."""
    path = Path(spec).expanduser()
    if str(spec) in label_names():
        return True
    if not path.is_dir() or (path / "dataset.toml").exists() or holds(path):
        return False
    return holds_classes(path)
