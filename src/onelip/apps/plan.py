"""What `onelip certify` was asked to do, and how to ask for it again."""

from __future__ import annotations

from dataclasses import dataclass

from onelip.apps.runs import Run
from onelip.core import checks, errors

GRID = 81  # points of the curve between 0 and a little more than the largest eps asked for
COARSE = 33  # of curves over a data set, of which each image keeps what they need
DEAR = 9  # of mIoU, whose bound costs as much again at every eps
ALWAYS = ("accuracy", "stability")  # nearly free, and every table has them


@dataclass(frozen=True)
class Plan(Run):
    """What `onelip certify` was asked to do.

    Attributes:
        criteria: keys as "miou" or "iou:car"; accuracy and stability are always computed.
        thresholds: (key, value) pairs whose certified radius is asked for.
        per_class: certified IoU of every class over the data set; None: when it costs little.
        command: shown in place of the command that would do this.
    """

    criteria: tuple[str, ...] = (*ALWAYS, "miou")
    thresholds: tuple[tuple[str, float], ...] = ()
    per_class: bool | None = None
    command: str = ""

    @property
    def keys(self) -> list[str]:
        """The criteria, each once."""
        return list(dict.fromkeys((*ALWAYS, *self.criteria)))

    @property
    def threshold_names(self) -> list[str]:
        """The thresholds as they are written, as "fnr:polyp=0.95"."""
        return [f"{key}={value!r}" for key, value in self.thresholds]

    @property
    def grid(self) -> list[float]:
        """All eps at which the curves are known: a grid that is finer near 0, and those asked for."""
        return self._points(GRID)

    @property
    def coarse(self) -> list[float]:
        """The same with fewer points, for curves over a data set that need more than a sum."""
        return self._points(COARSE)

    @property
    def dear(self) -> list[float]:
        """The same with few points, for criteria that cost as much again at every eps."""
        return self._points(DEAR)

    def _points(self, count: int) -> list[float]:
        top = 1.25 * max(self.eps) or 1.0
        return sorted({*self.eps, *(top * (k / (count - 1)) ** 2 for k in range(count))})

    @property
    def shell(self) -> str:
        """The command that does this."""
        if self.command:
            return self.command
        parts = [f"onelip certify {_quoted(self.model)} {_quoted(self.data)}"]
        parts.append("--criteria " + " ".join(map(_quoted, self.keys)))
        if self.thresholds:
            parts.append("--threshold " + " ".join(map(_quoted, self.threshold_names)))
        if self.per_class is not None:
            parts.append("--per-class" if self.per_class else "--no-per-class")
        return " ".join([*parts, *self.options()])

    @property
    def python(self) -> str:
        """The Python that does this, without tables and pictures."""
        lines = [
            "import torch",
            self.python_head(),
            f"criteria = [onelip.certify.parse(key, classes=dataset.classes) for key in {self.keys}]",
            "values = [[] for _ in criteria]",
            "for index in indices:",
            "    image, target = dataset[index]",
            "    certificate = certifier(image[None], target[None])",
            "    for criterion, found in zip(criteria, values):",
            f"        found.append(certificate.curve(criterion, {self.asked}).certified[:, 0])",
            "for criterion, found in zip(criteria, values):  # mean over images, at each eps",
            "    print(criterion.name, torch.stack(found).nanmean(0).tolist())",
        ]
        return "\n".join(lines)


def read_thresholds(text: str | None) -> tuple[tuple[str, float], ...]:
    """Read `criterion=value` pairs separated by commas.

    Example:
        >>> read_thresholds("fnr:polyp=0.95,accuracy=0.8")
        (('fnr:polyp', 0.95), ('accuracy', 0.8))
    """
    found = []
    for part in (text or "").split(","):
        key, equals, value = part.strip().rpartition("=")
        if not part.strip():
            continue
        try:
            if not equals or not key:
                raise ValueError
            found.append((key, checks.number("--threshold", float(value))))
        except ValueError as error:
            raise errors.InputError(
                errors.explain(
                    "--threshold is not a list of criterion=value",
                    received=repr(part),
                    expected="as accuracy=0.8 fnr:polyp=0.95",
                )
            ) from error
    return tuple(dict.fromkeys(found))


def read_keys(text: str) -> tuple[str, ...]:
    """Read criteria separated by commas.

    Example:
        >>> read_keys("accuracy, miou,iou:car")
        ('accuracy', 'miou', 'iou:car')
    """
    keys = tuple(part.strip() for part in text.split(",") if part.strip())
    if not keys:
        raise errors.InputError(errors.explain("--criteria is empty", expected="as accuracy miou iou:car"))
    return keys


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)
