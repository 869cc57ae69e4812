"""The demo: a few drawn approaches, two models, what is proven and what an attack reaches, on one page."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onelip.apps.assault import Assault, assault
from onelip.apps.common import model_folder
from onelip.apps.evaluate import evaluate
from onelip.apps.exhibits import Exhibit
from onelip.apps.plan import Plan
from onelip.apps.runs import short_name
from onelip.core import errors, files, runtime

GOAL, KEY = "vanish:runway", "iou:runway"
RUNWAY = 1
TITLE = "Runways under attack"


@dataclass(frozen=True)
class Demo:
    """What `onelip demo` was asked to do.

    Attributes:
        models: folders or names of shipped models; the usual one first.
        images: number of scenes.
        size: (h, w) of the scenes.
        eps: sizes of the perturbation, ascending.
        shown: the one whose attack is in the pictures.
        steps: gradient steps of the attack from each start.
    """

    out: Path
    models: tuple[str, ...] = ("runway-unet-standard", "runway-unet")
    images: int = 6
    size: tuple[int, int] = (256, 256)
    eps: tuple[float, ...] = (0.25, 0.5, 1.0)
    shown: float = 1.0
    steps: int = 6
    seed: int = 0
    device: str = "auto"

    @property
    def scenes(self) -> Path:
        """Where the scenes lie."""
        return self.out / "scenes"

    @property
    def command(self) -> str:
        """The command that does this."""
        models = " ".join(f"--model {model}" for model in self.models)
        height, width = self.size
        return (
            f"onelip demo {models} --images {self.images} --size {height}x{width} --seed {self.seed} "
            f"--out {self.out}"
        )

    def place(self, model: str, what: str) -> Path:
        """Folder of one result of a model."""
        return self.out / f"{self.models.index(model)}-{short_name(model)}" / what

    def options(self, model: str, what: str) -> dict[str, Any]:
        """What certifying and attacking share."""
        return {
            "model": model,
            "data": str(self.scenes),
            "split": "test",
            "eps": self.eps,
            "seed": self.seed,
            "device": self.device,
            "out": self.place(model, what),
        }


def render(demo: Demo) -> None:
    """Draw the scenes; those of another size, seed or version of the renderer are replaced.

    Raises:
        DataError: there is no such model.
        InputError: the scenes cannot be drawn, or the folder `scenes` holds other files.
    """
    from onelip.data.landing import Recipe, write
    from onelip.models.shipped import find

    for model in demo.models:
        find(model_folder(model))  # a wrong name is better told before the work
    recipe = Recipe(n=demo.images, size=demo.size, seed=demo.seed, split="test")
    path = demo.scenes / "test" / "recipe.json"
    if path.is_file() and files.read_json(path) != recipe.to_dict():
        shutil.rmtree(demo.scenes)
    write(demo.scenes, recipe)


def measure(demo: Demo, model: str) -> list[dict[str, Any]]:
    """Certify and attack one model; the rows of the attack on the IoU of the runway."""
    evaluate(
        Plan(
            **demo.options(model, "certified"),
            criteria=("accuracy", "stability", KEY, "recall:runway"),
            per_class=False,
            pictures=0,
        )
    )
    found = assault(
        Assault(
            **demo.options(model, "attacked"),
            goal=GOAL,
            attack="erase",
            steps=demo.steps,
            quick=True,
            pictures=demo.images,
            strips=False,
        )
    )
    name = short_name(model)
    return [{"model": name, "lipschitz": found["lipschitz"], **row} for row in found["attacked"]]


def page(demo: Demo, rows: Sequence[dict[str, Any]], seconds: float) -> Path:
    """Draw the scenes of all models, write results.json and report.html; returns the path of the page."""
    from onelip import report

    folders = [demo.place(model, what) for model in demo.models for what in ("certified", "attacked")]
    gallery = [_picture(demo, index) for index in range(demo.images)]
    path = report.write(folders, demo.out, title=TITLE, curves=(KEY,), gallery=gallery)
    files.write_json(
        demo.out / "results.json",
        {
            "kind": "demo",
            "date": runtime.now(),
            "seed": demo.seed,
            "command": demo.command,
            "versions": runtime.versions(),
            "machine": runtime.machine(),
            "size": list(demo.size),
            "images": demo.images,
            "rows": list(rows),
            "seconds": seconds,
            "report": path.name,
        },
    )
    return path


def _exhibits(demo: Demo, index: int) -> list[Exhibit]:
    found = []
    for model in demo.models:
        paths = sorted((demo.place(model, "attacked") / "pictures").glob(f"{index:05d}-*.npz"))
        if not paths:
            raise errors.DataError(
                errors.explain(
                    f"demo: the attack on {model} kept no picture of scene {index}", fix="run it again"
                )
            )
        found.append(Exhibit.read(paths[0]))
    return found


def _picture(demo: Demo, index: int) -> dict[str, str]:
    """One scene: image and truth, and for each model the prediction, clean and attacked, and the radii."""
    from onelip.report.panels import grid

    shown = _exhibits(demo, index)
    figure = grid(
        scene_rows(shown, demo.shown),
        titles=["image and truth", "prediction", f"attacked, eps {demo.shown:g}", "certified radius"],
        names=[short_name(model) for model in demo.models],
        side=2.3,
        legend=True,
    )
    target = demo.out / "pictures" / f"scene-{index:02d}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110, bbox_inches="tight", pad_inches=0.04)
    values = ", ".join(
        f"{short_name(model)} {overlap(e.clean, e.target):.2f} to {overlap(e.at(demo.shown), e.target):.2f}"
        for model, e in zip(demo.models, shown, strict=True)
    )
    caption = (
        f"Scene {index}: IoU of the runway in the image, clean to attacked with eps {demo.shown:g}: {values}. "
        "In brackets: pixels predicted outside the frame."
    )
    return {"folder": str(demo.out), "file": str(target.relative_to(demo.out)), "caption": caption}


def scene_rows(shown: Sequence[Exhibit], eps: float) -> list[list[Any]]:
    """Panels of one scene, a row for each model."""
    import numpy as np

    from onelip.report.panels import Panel, against, cut, window

    first = shown[0]
    image = first.image / 255.0
    frame = window(first.target == RUNWAY)
    near = {"image": cut(image, frame), "target": cut(first.target, frame)}
    left = [Panel(image, frame=frame), Panel(against(near["image"], near["target"], near["target"], RUNWAY))]
    # One scale for all models: of the radii that can be seen.
    top = float(max(np.nanmax(cut(e.radius, frame)) for e in shown)) or None
    rows = []
    for place, exhibit in enumerate(shown):
        row: list[Any] = [left[place] if place < len(left) else None]
        row += [
            verdict(near["image"], exhibit, prediction, frame)
            for prediction in (exhibit.clean, exhibit.at(eps))
        ]
        row.append(Panel(cut(exhibit.radius, frame), grey=near["image"].mean(-1), top=top))
        rows.append(row)
    return rows


def verdict(near: Any, exhibit: Exhibit, prediction: Any, frame: tuple[int, int, int, int]) -> Any:
    """Panel of a prediction inside a frame, with the IoU of the whole image, and what it makes up outside."""
    from onelip.report.panels import Panel, against, cut

    picture = against(near, cut(prediction, frame), cut(exhibit.target, frame), RUNWAY)
    beyond = int((prediction == RUNWAY).sum() - (cut(prediction, frame) == RUNWAY).sum())
    more = f" (+{beyond} px)" if beyond else ""
    return Panel(picture, f"IoU {overlap(prediction, exhibit.target):.2f}{more}")


def overlap(prediction: Any, target: Any) -> float:
    """IoU of the runway in one image.

    Example:
        >>> import numpy as np
        >>> overlap(np.array([1, 1, 0]), np.array([1, 0, 0]))
        0.5
    """
    there, seen = target == RUNWAY, (prediction == RUNWAY) & (target != 255)
    union = int((there | seen).sum())
    return int((there & seen).sum()) / union if union else float("nan")
