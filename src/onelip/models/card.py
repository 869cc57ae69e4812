"""The model card: what a user must know before trusting the numbers."""

from __future__ import annotations

import math
from typing import Any

from ..core.numbers import round_up

_TEMPLATE = """\
# {name}, size {size}

{kind} with {classes} classes, written by onelip {version}.

| | |
|---|---|
| Lipschitz bound | {bound} (rounded up) |
| norm | {norm} on the input and on all outputs jointly |
| bound recorded at | inputs of {height} x {width} |
| input | float images (B, {channels}, H, W), RGB order when there are 3 channels, raw values in [0, 1] |
| output | {output} |
| normalisation | mean {mean}, standard deviation {std}: a layer of the model, inside the bound |
| constraint | {constraint} |
| weights (SHA-256) | `{weights}` |

## Use

```python
import onelip

model = onelip.load("path/to/this/folder")  # checks the hashes, proves the bound again
bound = onelip.lipschitz(model, size=(h, w))  # the bound at the size of your images
```

## Units

A perturbation of an image is measured by the {norm} norm over all its values, in units of the [0, 1] range:
{channels} x {height} x {width} values that all change by 1/255 have norm {level}.

## Limits

- The bound is about the weights in this folder and exact arithmetic; certificates add a margin for rounding.
- A Lipschitz bound says nothing about how good the predictions are: measure that on your own data.
- The hashes detect damage and mix-ups. They are no signature: get the folder from a source you trust.
{assumptions}"""


def model_card(
    record: dict[str, Any], assumptions: tuple[str, ...], *, dense: bool, kind: str = "", output: str = ""
) -> str:
    """Return the README of a stored model, from its record; `kind` and `output` go over what `dense` says."""
    model, bound = record["model"], record["lipschitz"]
    height, width = bound["size"]
    p, channels = bound["p"], model["in_channels"]
    count = channels * height * width
    level = (1 if math.isinf(p) else count ** (1 / p)) / 255
    return _TEMPLATE.format(
        name=model["name"],
        size=model["size"],
        kind=kind or ("Dense prediction model" if dense else "Classifier"),
        classes=model["classes"],
        version=record["onelip"],
        bound=round_up(bound["value"]),
        norm=f"l_{'inf' if math.isinf(p) else format(p, 'g')}",
        height=height,
        width=width,
        channels=channels,
        output=output or ("logits (B, classes, H, W) at the input size" if dense else "logits (B, classes)"),
        mean=model["mean"],
        std=model["std"],
        constraint=model["constraint"] or "none (the unconstrained twin: expect a large bound)",
        weights=record["weights_sha256"],
        level=format(level, ".3g"),
        assumptions="".join(f"- Assumed: {text}.\n" for text in assumptions),
    )
