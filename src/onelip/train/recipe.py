"""Everything that decides a training, as one frozen value: what a recipe file says, key by key."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ..core.errors import ConfigError, explain


def _require(legal: bool, key: str, received: object, expected: str) -> None:
    if not legal:
        raise ConfigError(explain(f"recipe: `{key}` is wrong", received=received, expected=expected))


@dataclass(frozen=True)
class ModelPart:
    """What `onelip.models.create` is asked for; `constraint = "none"` makes the unconstrained twin.

    `start` is the folder of a training of the same model whose last weights this one begins with.
    """

    name: str = "deeplabv3"
    size: str = "S"
    constraint: str = "orthogonal"
    scale: str = "fixed"
    mode: str = "project"
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    options: dict[str, Any] = field(default_factory=dict)
    start: str = ""


@dataclass(frozen=True)
class DataPart:
    """Which images: see `onelip.data.open`; `open_boxes` of it for detectors, `open_labels` for classifiers.

    `size` resizes on reading; `cache` keeps decoded images in memory; `classes` leaves some classes of a set of boxes.
    `images` is how many are drawn of a drawn set, and how many at most a classifier learns from.
    """

    dataset: str = "scenes"
    train: str = "train"
    val: str = "val"
    root: str = ""
    size: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    images: int = 0
    cache: bool = True
    workers: int = 0

    def __post_init__(self) -> None:
        _require(
            len(self.size) in {0, 2} and all(n > 0 for n in self.size), "data.size", self.size, "[h, w] or []"
        )
        _require(self.images >= 0, "data.images", self.images, "0 (all) or a positive number")
        _require(self.workers >= 0, "data.workers", self.workers, "a number >= 0")


@dataclass(frozen=True)
class AugmentPart:
    """How training images vary: see `onelip.data.transforms.Augment`; `crop = []` keeps whole images.

    Classifiers know `shift`, a number of pixels, `flip` and `noise`: see `onelip.data.LabelAugment`.

    `noise` is for the base models of randomized smoothing. `attack` moves each training image by an l2 norm of at most
    that, in `attack_steps` gradient steps, to where the loss is larger. Validation images stay as they are.
    """

    crop: tuple[int, ...] = ()
    scale: tuple[float, ...] = (1.0, 1.0)
    flip: float = 0.5
    vflip: float = 0.0
    rotate: float = 0.0
    jitter: float = 0.0
    noise: float = 0.0
    focus: float = 0.0
    shift: int = 0
    attack: float = 0.0
    attack_steps: int = 1

    def __post_init__(self) -> None:
        _require(
            len(self.crop) in {0, 2} and all(n > 0 for n in self.crop),
            "augment.crop",
            self.crop,
            "[h, w] or []",
        )
        _require(len(self.scale) == 2, "augment.scale", self.scale, "[smallest, largest]")
        reachable = 0 <= self.attack < math.inf
        _require(reachable, "augment.attack", self.attack, "an l2 norm >= 0")
        _require(self.shift >= 0, "augment.shift", self.shift, "a number of pixels >= 0")
        _require(self.attack_steps >= 1, "augment.attack_steps", self.attack_steps, "a number >= 1")


DETECTION_LOSSES = ("fcos", "fcos-hinge")
PIXEL_LOSSES = ("tau-cce", "jaccard", "cosine", "hkr")
CLASS_LOSSES = ("hkr", "soft-hkr", "lse-hkr", "cross-entropy")
LOSSES = tuple(dict.fromkeys((*PIXEL_LOSSES, *CLASS_LOSSES, *DETECTION_LOSSES)))

LOSS_PRESETS: dict[str, dict[str, Any]] = {
    "accurate": {"loss.name": "jaccard", "loss.tau": 300.0, "loss.margin": 0.0},
    "slightly-robust": {"loss.name": "jaccard", "loss.tau": 150.0, "loss.margin": 0.01},
    "strongly-robust": {
        "loss.name": "jaccard",
        "loss.tau": 150.0,
        "loss.margin": 0.01,
        "augment.attack": 1.0,
    },
}
"""How much robustness a LipNet is asked for: `loss.preset = "strongly-robust"` in a recipe stands for these keys."""


@dataclass(frozen=True)
class LossPart:
    """Which loss: "tau-cce" (`tau`), "jaccard" (`tau`, `margin`), "cosine", "hkr" (`alpha`, `margin`, `temperature`).

    `weights` balances the classes of tau-cce: "none", or "median" for median-frequency weights raised to `power`.
    `scale_penalty` keeps learnable scales near their start: penalty * |log(L / L0)|.

    Detectors: "fcos" (focal loss) and "fcos-hinge" (focal hinge), both with `tau`, `margin`, `gamma`, `focal_alpha`:
    the score of a logit z is sigmoid(tau z), and `margin` is asked for on both sides of the logit whose score is
    `threshold`. Boxes weigh `box_weight`; centre-ness, if the model has it, `centre_weight`. A location answers for an
    object within `radius` strides of its centre.

    Classifiers: "hkr" (`alpha`, `margin`), "soft-hkr" and "lse-hkr" (`alpha`, `margin`, `temperature`), "cross-entropy"
    (`temperature`); `margin` is the distance between a class and the others, half of it on each side of 0. After a
    training with one of the first three, `centre_bias` fits the biases of the classes: see `onelip.train.centring`.
    """

    name: str = "tau-cce"
    tau: float = 20.0
    weights: str = "none"
    power: float = 1.0
    alpha: float = 0.95
    margin: float = 0.01
    temperature: float = 5.0
    per_pixel: bool = True
    scale_penalty: float = 0.1
    gamma: float = 2.0
    focal_alpha: float = 0.25
    threshold: float = 0.5
    box_weight: float = 1.0
    centre_weight: float = 1.0
    radius: float = 1.5
    centre_bias: bool = True

    def __post_init__(self) -> None:
        _require(self.name in LOSSES, "loss.name", self.name, ", ".join(LOSSES))
        _require(self.weights in {"none", "median"}, "loss.weights", self.weights, "none or median")
        _require(self.tau > 0, "loss.tau", self.tau, "a number > 0")
        _require(self.margin >= 0, "loss.margin", self.margin, "a number >= 0")
        _require(0 <= self.alpha <= 1, "loss.alpha", self.alpha, "from 0 to 1: the share of the hinge")
        _require(self.temperature > 0, "loss.temperature", self.temperature, "a number > 0")
        balanced = self.weights == "median"
        _require(
            not balanced or self.name == "tau-cce", "loss.weights", self.weights, f"none for {self.name}"
        )
        positive = self.margin > 0 or self.name != "fcos-hinge"
        _require(positive, "loss.margin", self.margin, "a number > 0 for fcos-hinge, or the loss fcos")
        for key in ("focal_alpha", "threshold"):
            value = getattr(self, key)
            _require(0 < value < 1, f"loss.{key}", value, "a number strictly between 0 and 1")
        for key in ("gamma", "box_weight", "centre_weight"):
            _require(getattr(self, key) >= 0, f"loss.{key}", getattr(self, key), "a number >= 0")
        _require(self.radius > 0, "loss.radius", self.radius, "a number > 0")


@dataclass(frozen=True)
class OptimPart:
    """AdamW and its schedule: linear warmup over `warmup` epochs, then a cosine from `lr` to `min_lr`, each step.

    `clip` bounds the gradient norm (0: never). `precision = "bf16"` runs the layers in bfloat16; weights, their
    orthogonalisation, the loss and everything that is reported stay in float32 or better.
    """

    lr: float = 1e-3
    min_lr: float = 1e-6
    weight_decay: float = 1e-4
    betas: tuple[float, ...] = (0.95, 0.95)
    epochs: int = 10
    batch: int = 8
    warmup: float = 0.0
    clip: float = 0.0
    precision: str = "f32"

    def __post_init__(self) -> None:
        _require(
            0 <= self.min_lr <= self.lr and self.lr > 0, "optim.lr", self.lr, "lr > 0 and 0 <= min_lr <= lr"
        )
        _require(
            self.epochs >= 1 and self.batch >= 1, "optim.epochs", self.epochs, "epochs >= 1 and batch >= 1"
        )
        _require(0 <= self.warmup < self.epochs, "optim.warmup", self.warmup, "from 0 to below epochs")
        _require(self.clip >= 0 and self.weight_decay >= 0, "optim.clip", self.clip, "a number >= 0")
        _require(self.precision in {"f32", "bf16"}, "optim.precision", self.precision, "f32 or bf16")
        legal = len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas)
        _require(legal, "optim.betas", self.betas, "two numbers in [0, 1)")


@dataclass(frozen=True)
class ValPart:
    """What is measured every `every` epochs on `images` evenly spread validation images (0: all of them)."""

    every: int = 1
    images: int = 0
    batch: int = 4
    eps: tuple[float, ...] = (0.1, 0.5)

    def __post_init__(self) -> None:
        _require(self.every >= 1 and self.batch >= 1, "val.every", self.every, "every >= 1 and batch >= 1")
        _require(self.images >= 0, "val.images", self.images, "0 (all) or a positive number")
        _require(all(e >= 0 for e in self.eps), "val.eps", self.eps, "numbers >= 0")


@dataclass(frozen=True)
class RunPart:
    """Where it runs; nothing here changes what is learned, up to the order of float32 sums.

    `threads` = 0 leaves torch's own choice. `channels_last` helps on a GPU and hurts f32 on a CPU.
    A checkpoint is written every `checkpoint_every` epochs and at the end.
    """

    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    threads: int = 0
    channels_last: bool = False
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        _require(self.device in {"auto", "cpu", "cuda"}, "run.device", self.device, "auto, cpu or cuda")
        for key in ("devices", "nodes", "checkpoint_every"):
            _require(getattr(self, key) >= 1, f"run.{key}", getattr(self, key), "a number >= 1")
        _require(self.threads >= 0, "run.threads", self.threads, "a number >= 0")


@dataclass(frozen=True)
class Recipe:
    """A complete training; load one with `load_recipe("camvid")`.

    Attributes:
        name: Its name, for tables.
        seed: Seed of the first weights, the order of images and their augmentation.
        model: What is trained.
        data: On which images.
        augment: How they vary.
        loss: What is minimised.
        optim: How.
        val: What is measured on the way.
        run: Where it runs.

    Example:
        >>> Recipe(name="mine").optim.lr
        0.001
    """

    name: str = "custom"
    seed: int = 0
    model: ModelPart = ModelPart()
    data: DataPart = DataPart()
    augment: AugmentPart = AugmentPart()
    loss: LossPart = LossPart()
    optim: OptimPart = OptimPart()
    val: ValPart = ValPart()
    run: RunPart = RunPart()

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", self.seed, "a number >= 0")
        if not self.detects:
            _require(
                not self.data.classes, "data.classes", self.data.classes, "[]: only boxes can leave some"
            )
            return
        for key in ("rotate", "vflip"):
            value = getattr(self.augment, key)
            _require(value == 0, f"augment.{key}", value, f"0 for {self.loss.name}: boxes stay upright")
        given = self.model.options.get("temperature")
        _require(
            given is None, "model.options.temperature", given, "none: loss.tau = 1 / temperature sets it"
        )

    @property
    def detects(self) -> bool:
        """Whether a detector is trained, on boxes; otherwise labels a pixel or an image."""
        return self.loss.name in DETECTION_LOSSES

    def flat(self) -> dict[str, Any]:
        """Return every key with its value: {"optim.lr": 0.001, ...}."""
        pairs: dict[str, Any] = {}
        for part, value in asdict(self).items():
            inner = value.items() if isinstance(value, dict) else None
            pairs |= {f"{part}.{k}": v for k, v in inner} if inner is not None else {part: value}
        return pairs
