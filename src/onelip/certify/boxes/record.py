"""How a certificate of detections is shown and stored."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from onelip.certify.boxes.matching import clean_rates
from onelip.certify.curve import plain
from onelip.core import checks, errors, files
from onelip.core.numbers import round_down, round_up

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onelip.certify.boxes.certificate import DetectionCertificate


class Recorded:
    """`show`, `figure`, `to_dict` and `save` of a certificate."""

    @property
    def _own(self) -> DetectionCertificate:
        return cast("DetectionCertificate", self)

    def __repr__(self) -> str:
        c = self._own
        batch, places, classes = c.raw.logits.shape
        kind = "free" if c.settings.kappa is None else f"Lipschitz (kappa {c.settings.kappa:g})"
        lines = [
            f"DetectionCertificate: {batch} image{'s' * (batch > 1)} of {c.size[0]}x{c.size[1]}, {places} locations, "
            f"{classes} class{'es' * (classes > 1)}, regression {kind}",
            f"  Lipschitz constant at most {round_up(c.settings.lipschitz)} (l2); threshold {c.threshold:g}",
            f"  no location newly fires within {_median(c.silent_radius)} (median over images)",
        ]
        if c.targets is not None:
            radii = torch.cat(c.vanish_radius)
            how = "a location fires" if c.settings.kappa is None else "found at IoU 0.5"
            lines.append(f"  {len(radii)} objects; {how} within {_median(radii)} (median over objects)")
        return "\n".join(lines)

    def show(self) -> None:
        """Print the certificate with its assumptions; plain text, for any terminal."""
        print(self)  # noqa: T201
        for line in (*self._own.assumptions, *self.notes()):
            print(f"  - {line}")  # noqa: T201

    def notes(self, eps: float = 0.0) -> tuple[str, ...]:
        """What is not certified at eps, and why: caps that could bind."""
        c = self._own
        limit = checks.number("eps", eps, low=0.0)
        capped = (c.cap_radius <= limit).nonzero()[:, 0].tolist()
        if not capped:
            return ()
        return (
            f"not certified at eps {limit:g}: in images {capped} more candidates than {c.settings.per_level} in a "
            f"level, or more detections than {c.settings.per_image}, could occur, so that what is found may be cut "
            "off; raise the threshold, or per_level and per_image of the detector",
        )

    def figure(
        self,
        index: int = 0,
        eps: float | None = None,
        *,
        names: Sequence[str] | None = None,
        top: float | None = None,
        iou: float = 0.5,
    ) -> Figure:
        """Draw one image: objects with their radii, where their support is, and the worst boxes at eps.

        Args:
            index: which image of the batch.
            eps: of the worst boxes; by default half of the median radius.
            names: of the classes.
            top: squared share of support at the end of the colour bar, by default the largest.
            iou: at which objects are found; without meaning for a free regression.

        Returns:
            A matplotlib figure, not bound to any window.
        """
        from onelip.certify.boxes.picture import draw

        c = self._own
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(c.raw.logits):
            raise errors.InputError(
                errors.explain("`index` is no image", received=index, expected=f"0..{len(c.raw.logits) - 1}")
            )
        chosen = None if eps is None else checks.number("eps", eps, low=0.0)
        return draw(c, index, chosen, names=names, top=top, iou=iou)

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        self.figure().savefig(buffer, format="png", dpi=110)
        picture = base64.b64encode(buffer.getvalue()).decode()
        return f'<pre>{self!r}</pre><img src="data:image/png;base64,{picture}" alt="certificate">'

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary, without the arrays."""
        c = self._own
        batch, places, classes = c.raw.logits.shape
        found: dict[str, Any] = {
            "kind": "detection certificate",
            "size": list(c.size),
            "images": batch,
            "locations": places,
            "classes": classes,
            "p": c.p,
            "threshold": c.threshold,
            "temperature": c.temperature,
            "regression": "free" if c.settings.kappa is None else "lipschitz",
            "kappa": c.settings.kappa,
            "nms": c.settings.nms,
            "caps": [c.settings.per_level, c.settings.per_image],
            "lipschitz": c.settings.lipschitz,
            "constants": {
                name: {"joint": part.joint, **{f"{s:g}": value for s, value in part.levels.items()}}
                for name, part in (("logits", c.settings.logits), ("boxes", c.settings.boxes))
                if part is not None
            },
            "bound": None if c.bound is None else c.bound.to_dict()["layers"],
            "rounding": c.settings.rounding,
            "silent_radius": plain(c.silent_radius),
            "presence_radius": plain(c.presence_radius),
            "cap_radius": plain(c.cap_radius),
            "detections": [len(d["labels"]) for d in c.detections],
        }
        if c.targets is not None:
            found |= {
                "objects": [len(t["labels"]) for t in c.targets],
                "vanish_radius": [plain(r) for r in c.vanish_radius],
                "label_radius": [plain(r) for r in c.label_radius],
                "alarm_radius": plain(c.alarm_radius),
                "mislabel_radius": [plain(r) for r in c.mislabel_radius],
            }
            if c.settings.kappa is not None:
                clean = clean_rates(c.detections, c.targets)
                found |= {"clean_recall": _number(clean[0]), "clean_precision": _number(clean[1])}
        return found | {
            "assumptions": list(c.assumptions),
            "notes": list(self.notes()),
            "versions": dict(c.versions),
            "weights_sha256": c.weights_hash,
            "date": c.date,
        }

    def save(self, path: str | Path) -> None:
        """Write a folder with `certificate.json` and `arrays.npz`; it appears whole or not at all.

        Boxes of all images are joined; `detection_image` and `object_image` say whose they are.

        Args:
            path: the folder.

        Raises:
            StorageError: when it cannot be written; what was there before is kept.
        """
        c = self._own
        arrays: dict[str, Tensor] = {
            **c.raw._asdict(),
            **_joined("detection", c.detections),
            "silent_radius": c.silent_radius,
        }
        if c.images is not None:
            arrays["images"] = c.images
        if c.targets is not None:
            arrays |= _joined("object", c.targets)
            arrays |= {"vanish_radius": torch.cat(c.vanish_radius), "label_radius": torch.cat(c.label_radius)}
        with files.atomic_folder(path) as folder:
            text = json.dumps(self.to_dict(), indent=2, allow_nan=False)
            (folder / "certificate.json").write_text(text + "\n", encoding="utf-8")
            save: Any = np.savez_compressed
            save(folder / "arrays.npz", **{k: v.cpu().numpy() for k, v in arrays.items()})


def _joined(name: str, rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Boxes, labels, scores of all images in a row, and the image of each."""
    counts = torch.tensor([len(row["labels"]) for row in rows])
    image = torch.arange(len(rows)).repeat_interleave(counts)
    return {f"{name}_image": image} | {f"{name}_{key}": torch.cat([r[key] for r in rows]) for key in rows[0]}


def _median(radii: Tensor) -> str:
    known = radii[~radii.isnan()]
    return round_down(float(known.median()), 4) if known.numel() else "nothing"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
