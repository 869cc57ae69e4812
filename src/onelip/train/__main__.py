"""`python -m onelip.train RECIPE --out DIR [--resume] [key=value ...]`."""

from __future__ import annotations

import argparse
import logging
import sys

from ..core.errors import OnelipError
from .recipe_files import load_recipe


def main(arguments: list[str] | None = None) -> int:
    """Train; return the exit status: 0 done, 2 bad input, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m onelip.train", description="Train a model from a recipe."
    )
    parser.add_argument("recipe", help="name of a shipped recipe, or path of a TOML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change a key: optim.lr=1e-4")
    parser.add_argument("--out", required=True, help="output folder")
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in the folder"
    )
    options = parser.parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        recipe = load_recipe(
            options.recipe, options.overrides
        )  # a typing error is told before anything loads
        from . import fit

        fit(recipe, out=options.out, resume=options.resume)
    except OnelipError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; continue with --resume\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
