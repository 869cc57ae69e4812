"""What attacks did to single images: arrays to draw from again, and a strip of pictures for the report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onelip.apps import gallery
from onelip.core import files

if TYPE_CHECKING:
    from onelip.apps.runs import Opened
    from onelip.attacks import AttackResult
    from onelip.certify import Criterion, SegmentationCertificate

Array = np.ndarray[Any, Any]
Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One attacked image.

    Attributes:
        image: (H, W, 3) uint8.
        target: (H, W) uint8 labels.
        clean: (H, W) uint8 prediction.
        attacked: (E, H, W) uint8 predictions, the worst found at each eps.
        delta: (H, W, 3) float32, the perturbation at the largest eps.
        radius: (H, W) float32, certified radius of each pixel; nan where it is void.
        eps: (E,).
    """

    image: Array
    target: Array
    clean: Array
    attacked: Array
    delta: Array
    radius: Array
    eps: Array

    @classmethod
    def read(cls, path: Path) -> Exhibit:
        """Read what `draw` has written."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})

    def write(self, path: Path) -> None:
        """Write all arrays, whole or not at all."""
        buffer = io.BytesIO()
        save: Any = np.savez_compressed
        save(buffer, **{name: getattr(self, name) for name in self.__dataclass_fields__})
        files.atomic_write(path, buffer.getvalue())

    def at(self, eps: float) -> Array:
        """(H, W) prediction under the attack of this eps."""
        found: Array = self.attacked[int(np.abs(self.eps - eps).argmin())]
        return found


def kept(opened: Opened, index: int) -> Path:
    """Where the arrays of an image lie."""
    return gallery.path(opened, index, "attack").with_suffix(".npz")


def there(opened: Opened, index: int) -> bool:
    """Whether an image has its arrays, and its strip if it was to have one."""
    return kept(opened, index).is_file()


def draw(
    opened: Opened,
    index: int,
    certificate: SegmentationCertificate,
    found: Sequence[AttackResult],
    criterion: Criterion,
) -> None:
    """Keep the arrays of one image and draw its strip: the attacks by which the criterion is worst."""
    exhibit, run = _exhibit(certificate, found, criterion), opened.run
    if getattr(run, "strips", True):
        figure = _strip(exhibit, np.asarray(opened.dataset.palette) / 255.0, criterion)
        target = gallery.path(opened, index, "attack")
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=110, bbox_inches="tight", pad_inches=0.04)
    exhibit.write(kept(opened, index))  # last: where it is, the strip is too


def _exhibit(
    certificate: SegmentationCertificate, found: Sequence[AttackResult], criterion: Criterion
) -> Exhibit:
    import torch

    values = torch.stack([result.values(criterion)[:, 0] for result in found])
    values = values.nan_to_num(nan=torch.inf) if criterion.higher_is_better else -values.nan_to_num(nan=-1.0)
    best = []
    for place in range(values.shape[1]):  # of this ball or a smaller one
        which, where = divmod(int(values[:, : place + 1].argmin()), place + 1)
        best.append((found[which], where))
    attacked = torch.stack([result.predictions[where, 0] for result, where in best])
    last, where = best[-1]
    image = certificate.images[0].cpu()
    assert certificate.target is not None, "data sets have labels"
    return Exhibit(
        image=(_colour(image) * 255).round().byte().numpy(),
        target=certificate.target[0].cpu().byte().numpy(),
        clean=found[0].clean_predictions[0].cpu().byte().numpy(),
        attacked=attacked.cpu().byte().numpy(),
        delta=_colour(last.images[where, 0].cpu() - image).float().numpy(),
        radius=certificate.radius_map[0].cpu().float().numpy(),
        eps=found[0].eps.cpu().numpy(),
    )


def _colour(image: Any) -> Any:
    """(H, W, 3) of a (C, H, W) tensor."""
    return (image.expand(3, -1, -1) if image.shape[0] == 1 else image[:3]).permute(1, 2, 0)


def _strip(exhibit: Exhibit, palette: Array, criterion: Criterion) -> Any:
    """Image, truth, prediction, attacked prediction, perturbation and radii, side by side."""
    from onelip.report.panels import Panel, against, grid

    image, label = exhibit.image / 255.0, criterion.named_class

    def map_of(labels: Array) -> Array:
        if label is not None:
            return against(image, labels, exhibit.target, label)
        known: Array = palette[np.minimum(labels, len(palette) - 1)]
        return known

    attacked = exhibit.attacked[-1]
    shade = 0.5 + exhibit.delta / (2 * max(float(np.abs(exhibit.delta).max()), 1e-30))
    panels = [
        Panel(image),
        Panel(map_of(exhibit.target)),
        Panel(map_of(exhibit.clean)),
        Panel(map_of(attacked)),
        Panel(shade),
        Panel(exhibit.radius, grey=image.mean(-1)),
    ]
    titles = ["image", "truth", "prediction"]
    titles += [f"attacked, eps {exhibit.eps[-1]:g}", "perturbation", "certified radius"]
    return grid([panels], titles=titles, legend=label is not None)


def entry(opened: Opened, record: Record, key: str) -> dict[str, str]:
    """The picture of an image with its caption."""
    run: Any = opened.run
    found = record["values"][key]
    clean, attacked = found["clean"], found["attacked"][-1]
    change = "undefined" if clean is None or attacked is None else f"{clean:.3f} to {attacked:.3f}"
    return {
        "file": str(gallery.path(opened, record["index"], "attack").relative_to(run.out)),
        "caption": f"{run.split} image {record['id']} under the attack of eps {run.asked[-1]:g}; the perturbation is "
        f"scaled to full contrast; {key} {change}",
    }
