"""What a report reads from results.json: one head for all commands, and the sections that each of them adds.

A page shows the sections that it finds, so one command may write several of them, and `onelip report` puts the
results of several commands about the same model and data on one page. Undefined values are None, never NaN;
infinite radii are the text "inf". Shares are in [0, 1], eps in l_p norm of the whole image.

Example:
    >>> lacking({"kind": "attack", "attacked": []})[:3]
    ['complete', 'date', 'seed']
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

SECTIONS = ("rows", "attacked", "comparison")


class Model(TypedDict):
    """Which model: results with the same `weights_sha256` and data are drawn together."""

    name: str
    path: str
    weights_sha256: str
    architecture: NotRequired[str]


class Data(TypedDict):
    """Which images: `images` of `total` are done, of `size` [h, w] with `value_count` = C*H*W values each.

    The model pads them to `padded_size`, multiples of its `stride`; the padding is not attacked and not counted.
    """

    name: str
    split: str
    images: int
    total: int
    size: list[int]
    value_count: int
    sizes: NotRequired[int]
    padded_size: NotRequired[list[int]]
    stride: NotRequired[int]


class Picture(TypedDict):
    """A picture: path relative to results.json, and what it shows."""

    file: str
    caption: str


class Head(TypedDict):
    """What every results.json begins with (`onelip.apps.runs.head` writes it)."""

    kind: str  # "certify", "attack" or "compare"
    complete: bool
    date: str
    seed: int
    command: str
    python: str
    versions: dict[str, str]
    machine: dict[str, Any]
    model: Model
    data: Data
    p: int | str
    assumptions: list[str]


class More(TypedDict, total=False):
    """What any command may add to the head."""

    lipschitz: float
    bound: list[dict[str, Any]] | None
    pictures: list[Picture]
    components: list[Picture]


class AttackedRow(TypedDict):
    """One line of section `attacked`: the mean over the images of one criterion at one eps.

    `certified <= attacked <= clean` (reversed for error rates). `criterion` is a key as on the command line,
    "accuracy" where it is left out.
    """

    eps: float
    clean: float | None
    certified: float | None
    attacked: float | None
    criterion: NotRequired[str]
    higher_is_better: NotRequired[bool]  # False for error rates: certified values are then upper bounds
    average: NotRequired[str]  # "macro" (default) or "micro"
    note: NotRequired[str]  # e.g. which attack was the strongest


class ComparisonRow(TypedDict):
    """One line of section `comparison`: certified pixel accuracy of one method at one eps.

    `seconds` and `passes` (forward passes of the network) are for one image.
    """

    eps: float
    method: str
    accuracy: float | None
    seconds: float | None
    passes: int | float | None
    note: str
    attacked: NotRequired[float | None]  # upper end of the sandwich, where an attack was run
    clean: NotRequired[float | None]


class CriterionRow(TypedDict):
    """One line of section `criteria` (certify): what was asked for and how it is defined over the data set.

    `key` is the text of the command line ("accuracy", "iou:car"); section `rows` has one entry for each eps
    with `eps`, `rms`, `rms_255` and `<key>_micro`, `<key>_macro`; section `curves` has the values on the grid.
    """

    key: str
    name: str
    higher_is_better: bool
    exact: bool
    exact_micro: bool
    seconds: float | None  # of its whole curve for one image, beside the forward pass
    clean_micro: float | None
    clean_macro: float | None
    count: int
    undefined: int


class DetectionRow(TypedDict):
    """One line of section `criteria` of a detector: a criterion over all images, without an attack.

    Section `rows` has an entry for each eps with `eps`, `rms`, `rms_255` and `<key>`: certified, None where `why` says
    why not. Beside the head such a result has `task` ("detection"), `regression`, `threshold`, `iou`, and the sections
    `best` (threshold of the largest recall with `allowed` false detections), `by_class` (quartiles of radii), `silent`
    (the same of images), `capped` (images that count as lost) and `sheets` (single images).
    """

    key: str
    higher_is_better: bool
    unit: str  # "share" or "count", of an image
    why: str
    clean: float | None


def lacking(result: Mapping[str, Any]) -> list[str]:
    """Names of what a report needs and does not find; the head, and at least one section."""
    missing = [key for key in Head.__annotations__ if key not in result]
    if not any(section in result for section in SECTIONS):
        missing.append(" or ".join(SECTIONS))
    return missing
