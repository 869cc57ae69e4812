"""One door to every data set: `open("camvid", "train")`."""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from ..core.errors import DataError, InputError, explain
from .benchmarks import cityscapes, oxford_pet, voc
from .dataset import SegmentationDataset, check_size
from .landing.reader import lard
from .landing.tables import holds
from .layout import pick_split
from .readers import camvid, folder, kvasir
from .runway.dataset import SPLITS, runways
from .streets import scenes

# Name -> reader, and the folder names under which the set is looked for.
_READERS: dict[str, tuple[Callable[..., SegmentationDataset], tuple[str, ...]]] = {
    "camvid": (camvid, ("camvid", "CamVid")),
    "cityscapes": (cityscapes, ("cityscapes", "Cityscapes")),
    "lard": (lard, ("lard", "LARD")),
    "kvasir": (kvasir, ("kvasir_seg", "kvasir", "Kvasir-SEG")),
    "oxford_pet": (oxford_pet, ("oxford_pet", "oxford-iiit-pet")),
    "voc": (voc, ("voc", "VOC2012", "VOCdevkit")),
}
DRAWN = ("runways", "scenes")  # on request, where no folder is given
_SCENES = {"train": (256, 0), "val": (32, 1), "test": (32, 2)}  # split -> (images, seed)


def names() -> list[str]:
    """Return the data sets that `open` knows by name.

    >>> names()
    ['camvid', 'cityscapes', 'kvasir', 'lard', 'oxford_pet', 'runways', 'scenes', 'voc']
    """
    return sorted([*_READERS, *DRAWN])


def roots() -> list[Path]:
    """Return the folders in which named data sets are looked for: ONELIP_DATA, else ../shared/data."""
    given = os.environ.get("ONELIP_DATA")
    if given:
        return [Path(part) for part in given.split(os.pathsep) if part]
    return [Path("..") / "shared" / "data"]


def open(  # noqa: A001 - read as data.open
    spec: str | Path,
    split: str = "train",
    *,
    root: str | Path | None = None,
    size: tuple[int, int] | None = None,
    cache: bool = False,
    images: int | None = None,
) -> SegmentationDataset:
    """Open a data set by name, or a folder with a `dataset.toml` or tables of LARD by its path.

    Args:
        spec: A name of `names()`, or the path of a folder with a `dataset.toml`, of a folder with tables of LARD
            (those that `onelip data runways` writes too) or of one such table.
        split: Name of the part.
        root: Folder of the set itself; default: a folder of the set's name in ONELIP_DATA, else in ../shared/data.
            For `runways`: a folder that was rendered before; default: pictures are drawn on request.
        size: (h, w) to resize to on reading; for `scenes` and `runways` the size that is drawn.
        cache: Keep the decoded bytes in memory.
        images: For `scenes` and `runways`: how many; the other sets have the size that they have.

    Returns:
        The data set.

    Raises:
        DataError: there is no such set or split, or its folder is not found; the text says where it was looked for.

    Example:
        >>> open("scenes", "val", size=(64, 96), images=2)
        SceneDataset('scenes', 'val', images=2, classes=8)
    """
    size = check_size(size)
    if spec == "scenes":
        split = pick_split("scenes", split, tuple(_SCENES))
        count, seed = _SCENES[split]
        return scenes(
            count if images is None else images, size=size or (128, 192), seed=seed, split=split, cache=cache
        )
    if spec == "runways" and root is None:
        split = pick_split("runways", split, tuple(SPLITS))
        count = SPLITS[split] if images is None else images
        return runways(count, size or (256, 256), split=split, cache=cache)
    if images is not None:
        raise InputError(
            explain("`images` fits only sets that are drawn", received=f"images={images} for {spec}")
        )
    if spec == "runways" and root is not None:
        return lard(root, split, size=size, cache=cache, name="runways")
    if str(spec) in _READERS:
        reader, folders = _READERS[str(spec)]
        place = Path(root) if root is not None else find_named(str(spec), folders)
        if not place.is_dir():
            raise DataError(explain(f"the folder of {spec} does not exist", received=place))
        return reader(place, split, size=size, cache=cache)
    return _open_path(str(spec), split, size=size, cache=cache)


def _open_path(spec: str, split: str, *, size: tuple[int, int] | None, cache: bool) -> SegmentationDataset:
    path = Path(spec).expanduser()
    if path.is_file() or (path.is_dir() and not (path / "dataset.toml").exists() and holds(path)):
        return lard(path, split, size=size, cache=cache)
    if path.is_dir():
        return folder(path, split, size=size, cache=cache)
    raise DataError(
        explain(
            f"there is no data set {spec!r}",
            expected=f"one of {', '.join(names())}, or the path of a folder with a dataset.toml or tables of LARD",
            fix=_advice(spec),
        )
    )


def _advice(spec: str) -> str | None:
    from .labels import label_names

    if spec in label_names():
        return f"{spec} has one class an image: onelip.data.open_labels({spec!r})"
    close = get_close_matches(spec, names(), n=1)
    return f"did you mean {close[0]!r}?" if close else None


def find_named(name: str, folders: tuple[str, ...]) -> Path:
    """Return the folder of a named set: the first of its folder names in one of `roots()`.

    Raises:
        DataError: it is in none of them.
    """
    places = [base / part for base in roots() for part in folders]
    for place in places:
        if place.is_dir():
            return place
    raise DataError(
        explain(
            f"the data set {name} is not on this machine",
            received=f"nothing at {', '.join(map(str, places))}",
            fix="set ONELIP_DATA to the folder that holds the data sets, or pass root (data.root in a recipe)",
        )
    )
