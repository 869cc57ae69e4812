"""One door to every set of boxes: `open_boxes("bccd", "train")`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from ...core.errors import DataError, InputError, explain
from ..catalog import find_named
from ..dataset import check_size
from ..landing.reader import lard
from ..landing.tables import holds
from ..layout import pick_split
from ..runway.dataset import SPLITS, runways
from .coco import coco
from .dataset import DetectionDataset
from .named import bccd, coco_folder, penn_fudan, splits
from .runways import RunwayBoxes
from .voc import holds_voc, voc_boxes

# Name -> reader, and the folder names under which the set is looked for.
_READERS: dict[str, tuple[Callable[..., DetectionDataset], tuple[str, ...]]] = {
    "bccd": (bccd, ("bccd", "BCCD")),
    "penn_fudan": (penn_fudan, ("penn_fudan", "PennFudanPed", "Penn-Fudan")),
}
_LARD = ("lard", "LARD")
_PATHS = "a JSON of COCO or a folder of them, a folder with VOC's XML, or tables of LARD"


def box_names() -> list[str]:
    """Return the sets of boxes that `open_boxes` knows by name.

    >>> box_names()
    ['bccd', 'lard', 'penn_fudan', 'runways']
    """
    return sorted([*_READERS, "lard", "runways"])


def open_boxes(
    spec: str | Path,
    split: str = "train",
    *,
    root: str | Path | None = None,
    size: tuple[int, int] | None = None,
    cache: bool = False,
    images: int | None = None,
    classes: Sequence[str] | None = None,
) -> DetectionDataset:
    """Open a set of pictures with boxes, by name or by path.

    Args:
        spec: A name of `box_names()`, or a path: a JSON of COCO (it is every split); a folder with one for each part,
            as `SPLIT.json` or `SPLIT/coco.json`; a folder with VOC's `Annotations`; a folder with tables of LARD, or
            one that `onelip data runways` wrote.
        split: Name of the part.
        root: Folder of the set itself; default: a folder of the set's name in ONELIP_DATA, else in ../shared/data.
            For `runways`: a folder that was rendered before; default: pictures are drawn on request. For a JSON: the
            folder that its file names begin in.
        size: (h, w) to which pictures and boxes are resized on reading; for drawn runways the size that is drawn.
        cache: Keep the decoded bytes in memory.
        images: For drawn runways: how many; the other sets have the size that they have.
        classes: Only the objects of these classes, with labels in this order.

    Returns:
        The data set; items are (image, {"boxes", "labels"}).

    Raises:
        DataError: there is no such set, split or class, its folder is not found, or its labels cannot be used; the
            text says where and what.
        InputError: `size` or `images` is wrong.

    Example:
        >>> dataset = open_boxes("runways", "val", size=(64, 64), images=2)
        >>> image, target = dataset[0]
        >>> image.shape, target["boxes"].shape, target["labels"]
        (torch.Size([3, 64, 64]), torch.Size([1, 4]), tensor([0]))
    """
    size = check_size(size)
    drawn = spec == "runways" and root is None
    if images is not None and not drawn:
        raise InputError(
            explain("`images` fits only sets that are drawn", received=f"images={images} for {spec}")
        )
    if drawn:
        split = pick_split("runways", split, tuple(SPLITS))
        count = SPLITS[split] if images is None else images
        dataset: DetectionDataset = RunwayBoxes(runways(count, size or (256, 256), split=split), cache=cache)
    elif spec in _READERS or spec in {"lard", "runways"}:
        dataset = _open_named(str(spec), split, root, size, cache)
    else:
        dataset = _open_path(Path(spec).expanduser(), split, root, size, cache)
    return dataset if classes is None else dataset.only(classes)


def _open_named(
    name: str, split: str, root: str | Path | None, size: tuple[int, int] | None, cache: bool
) -> DetectionDataset:
    reader, folders = _READERS.get(name, (None, _LARD))
    place = Path(root) if root is not None else find_named(name, folders)
    if reader is None:
        return RunwayBoxes(lard(place, split, size=size, name=name), cache=cache)
    if not place.is_dir():
        raise DataError(explain(f"the folder of {name} does not exist", received=place))
    return reader(place, split, size=size, cache=cache)


def _open_path(
    path: Path, split: str, root: str | Path | None, size: tuple[int, int] | None, cache: bool
) -> DetectionDataset:
    if path.is_file() and path.suffix.lower() == ".json":
        return coco(path, split, root=root, size=size, cache=cache)
    if root is not None:
        raise InputError(explain("`root` fits names and files of JSON", received=f"root={root} for {path}"))
    if path.is_file() or (path.is_dir() and holds(path)):
        return RunwayBoxes(lard(path, split, size=size), cache=cache)
    if path.is_dir() and holds_voc(path):
        return voc_boxes(path, split, size=size, cache=cache)
    if path.is_dir() and splits(path):
        return coco_folder(path, split, size=size, cache=cache)
    close = get_close_matches(str(path), box_names(), n=1)
    known = f"one of {', '.join(box_names())}, or {_PATHS}"
    if path.is_dir():
        raise DataError(explain(f"{path} holds no boxes in a known layout", expected=_PATHS))
    fix = f"did you mean {close[0]!r}?" if close else None
    raise DataError(explain(f"there is no set of boxes {str(path)!r}", expected=known, fix=fix))


def opens_as_boxes(spec: str | Path) -> bool:
    """Whether a name or path holds boxes and no labels of pixels, so that there is only one way to open it."""
    path = Path(spec).expanduser()
    if spec in _READERS or path.suffix.lower() == ".json":
        return True
    if not path.is_dir() or (path / "dataset.toml").exists() or holds(path):
        return False
    return holds_voc(path) or bool(splits(path))
