"""What a stored model is for, and whether data are of that kind."""

from __future__ import annotations

from pathlib import Path

from onelip.apps.common import model_folder
from onelip.core import errors

WORDS = {
    "classification": ("a classifier", "one class an image"),
    "detection": ("a detector", "boxes"),
    "segmentation": ("a segmentation model", "a class for each pixel"),
}
"""Tasks: what such a model is called, and what its data hold."""


def task_of(model: str) -> str:
    """What a stored model is for, from its record alone: a key of `WORDS`.

    Raises:
        DataError: there is no such model.
        IntegrityError: its record is damaged.
    """
    from onelip.models.detection import Detector
    from onelip.models.storage import read_config
    from onelip.models.zoo import registered

    found = registered(read_config(model_folder(model)).name)
    if found is None or found.dense:
        return "segmentation"
    return "detection" if issubclass(found, Detector) else "classification"


def check_kind(model: str, data: str, task: str) -> None:
    """Raise InputError where data are plainly of another kind than the model is for.

    Args:
        model: for the text.
        data: name or path.
        task: what the model is for.
    """
    found = _of_data(data)
    if found is None or task in found:
        return
    kind, wanted = WORDS[task]
    examples = {
        "classification": "digits, mnist or a folder with one subfolder a class",
        "detection": "bccd, penn_fudan, JSON of COCO or tables of LARD",
        "segmentation": "camvid, scenes or a folder with a dataset.toml",
    }
    raise errors.InputError(
        errors.explain(
            "the model does not fit the data set",
            received=f"{model}, {kind}, and {data}, which holds {WORDS[found[0]][1]}",
            expected=f"data with {wanted}, as {examples[task]}",
            fix=f"choose such data, or {WORDS[found[0]][0]}",
        )
    )


def _of_data(data: str) -> tuple[str, ...] | None:
    """The tasks that data are for; None where nothing tells."""
    from onelip.data import names
    from onelip.data.boxes import box_names, opens_as_boxes
    from onelip.data.labels import opens_as_labels
    from onelip.data.landing.tables import holds

    path = Path(data).expanduser()
    if opens_as_labels(data):
        return ("classification",)
    if data in names():
        return ("segmentation", "detection") if data in box_names() else ("segmentation",)
    if path.is_dir() and (path / "dataset.toml").exists():
        return ("segmentation", "detection")
    if path.is_dir() and holds(path):
        return ("segmentation", "detection")
    return ("detection",) if opens_as_boxes(data) else None
