"""Readers of the large public sets in their official layouts: Cityscapes, Pascal VOC, Oxford-IIIT Pet."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import DataError, explain
from .dataset import FileDataset, LabelTable, Sample
from .layout import colors, pair, pick_split, read_list, wrong_layout

# Cityscapes: file id and colour of the 19 classes that are evaluated, in the order of their train ids.
_CITYSCAPES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
_VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)


def cityscapes(
    root: str | Path, split: str = "train", *, size: tuple[int, int] | None = None, cache: bool = False
) -> FileDataset:
    """Read Cityscapes in its official layout; ids become the 19 train ids, everything else becomes 255.

    Files: `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` and `gtFine/SPLIT/CITY/*_gtFine_labelIds.png`.

    Args:
        root: The folder that holds `leftImg8bit` and `gtFine`.
        split: "train", "val" or "test".
        size: (h, w) to resize to on reading.
        cache: Keep the decoded bytes in memory.

    Returns:
        The data set.

    Raises:
        DataError: wrong layout, no such split, or an image without labels.

    Source: Cordts et al., The Cityscapes dataset for semantic urban scene understanding, CVPR 2016.
    """
    root = Path(root)
    images, labels = root / "leftImg8bit", root / "gtFine"
    if not images.is_dir() or not labels.is_dir():
        raise wrong_layout("Cityscapes", root, "the folders leftImg8bit and gtFine")
    split = pick_split("Cityscapes", split, [p.name for p in sorted(images.iterdir()) if p.is_dir()])
    samples = []
    for image in sorted((images / split).glob("*/*_leftImg8bit.png")):
        stem = image.name.removesuffix("_leftImg8bit.png")
        label = labels / split / image.parent.name / f"{stem}_gtFine_labelIds.png"
        if not label.exists():
            raise DataError(explain(f"{image.name} has no labels", expected=label))
        samples.append(Sample(stem, image, label))
    return FileDataset(
        "cityscapes",
        split,
        samples=samples,
        classes=tuple(_CITYSCAPES),
        palette=[color for _, color in _CITYSCAPES.values()],
        table=LabelTable([value for value, _ in _CITYSCAPES.values()], others_void=True),
        size=size,
        cache=cache,
    )


def voc(
    root: str | Path, split: str = "train", *, size: tuple[int, int] | None = None, cache: bool = False
) -> FileDataset:
    """Read Pascal VOC 2012 segmentation: 21 classes with background; 255 is void.

    Files: `ImageSets/Segmentation/SPLIT.txt`, `JPEGImages`, `SegmentationClass`; the official `VOCdevkit/VOC2012`
    around them may be part of `root` or not.

    Args:
        root: The folder of the data set.
        split: "train", "val" or "trainval".
        size: (h, w) to resize to on reading.
        cache: Keep the decoded bytes in memory.

    Returns:
        The data set.

    Raises:
        DataError: wrong layout, no such split, or a listed file is missing.

    Source: Everingham et al., The Pascal visual object classes challenge, IJCV 2010.
    """
    root = Path(root)
    inside = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    base = next((p for p in inside if (p / "SegmentationClass").is_dir()), None)
    if base is None:
        raise wrong_layout("Pascal VOC", root, "JPEGImages, SegmentationClass and ImageSets/Segmentation")
    lists = base / "ImageSets" / "Segmentation"
    split = pick_split("Pascal VOC", split, [p.stem for p in sorted(lists.glob("*.txt"))])
    samples = pair(base / "JPEGImages", base / "SegmentationClass", read_list(lists / f"{split}.txt"))
    return FileDataset(
        "voc",
        split,
        samples=samples,
        classes=_VOC,
        palette=[(0, 0, 0), *colors(20)],
        table=LabelTable(range(21), void=[255]),
        size=size,
        cache=cache,
    )


def oxford_pet(
    root: str | Path, split: str = "trainval", *, size: tuple[int, int] | None = None, cache: bool = False
) -> FileDataset:
    """Read Oxford-IIIT Pet trimaps as 3 classes: file values 1, 2, 3 become pet, background, border.

    Files: `images/*.jpg`, `annotations/trimaps/*.png`, `annotations/trainval.txt`, `annotations/test.txt`. The set
    has no validation part: "train" and "val" are trainval without, and with only, every tenth image.

    Args:
        root: The folder of the data set.
        split: "trainval", "test", "train" or "val".
        size: (h, w) to resize to on reading.
        cache: Keep the decoded bytes in memory.

    Returns:
        The data set.

    Raises:
        DataError: wrong layout, no such split, or a listed file is missing.

    Source: Parkhi et al., Cats and dogs, CVPR 2012.
    """
    root = Path(root)
    notes = root / "annotations"
    if not (notes / "trimaps").is_dir() or not (root / "images").is_dir():
        raise wrong_layout("Oxford-IIIT Pet", root, "the folders images and annotations/trimaps")
    split = pick_split("Oxford-IIIT Pet", split, ("trainval", "test", "train", "val"))
    listing = notes / ("test.txt" if split == "test" else "trainval.txt")
    stems = [line.split()[0] for line in read_list(listing) if not line.startswith("#")]
    if split in {"train", "val"}:
        stems = [s for k, s in enumerate(stems) if (k % 10 == 9) == (split == "val")]
    return FileDataset(
        "oxford_pet",
        split,
        samples=pair(root / "images", notes / "trimaps", stems),
        classes=("pet", "background", "border"),
        palette=((220, 130, 60), (40, 60, 90), (240, 220, 120)),
        table=LabelTable([1, 2, 3]),
        size=size,
        cache=cache,
    )
