"""Training: recipes as files, exact resume after a kill, certified accuracy on the way.

>>> from onelip import train
>>> train.load_recipe("demo").model.size
'XS'
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .recipe import Recipe as Recipe
from .recipe_files import load_recipe as load_recipe
from .recipe_files import recipe_names as recipe_names
from .recipe_files import to_toml as to_toml

if TYPE_CHECKING:
    from .fitting import FitResult as FitResult
    from .fitting import fit as fit

__all__ = ["FitResult", "Recipe", "fit", "load_recipe", "recipe_names", "to_toml"]


def __getattr__(name: str) -> object:
    """Load Lightning only when something is trained."""
    if name in {"fit", "FitResult"}:
        module = import_module(f"{__name__}.fitting")
        globals().update(fit=module.fit, FitResult=module.FitResult)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
