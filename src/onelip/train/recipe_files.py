"""Recipes as files: shipped ones by name, your own by path, single keys overridden, unknown keys refused."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ..core.errors import ConfigError, explain
from .recipe import LOSS_PRESETS, Recipe

_PRESET = "loss.preset"
_SHIPPED = Path(__file__).parent / "recipes"

Overrides = Mapping[str, Any] | Iterable[str]


def recipe_names() -> list[str]:
    """Return the recipes shipped with the package.

    >>> "camvid" in recipe_names()
    True
    """
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def load_recipe(source: str | Path | Recipe, overrides: Overrides = ()) -> Recipe:
    """Load a recipe and override single keys.

    Args:
        source: A name of `recipe_names()`, the path of a TOML file, or a recipe.
        overrides: `{"optim.lr": 1e-4}`, or `["optim.lr=1e-4"]`; a key that only one part has may go without the
            part: `lr=1e-4`. `loss.preset` stands for the keys of `LOSS_PRESETS`.

    Returns:
        The recipe, every key checked.

    Raises:
        ConfigError: unknown recipe, unknown key (the text names the closest one), or a value of the wrong kind.

    Example:
        >>> load_recipe("camvid", ["optim.epochs=3", "size=XS"]).optim.epochs
        Traceback (most recent call last):
            ...
        onelip.core.errors.ConfigError: recipe key 'size' is ambiguous; expected one of data.size, model.size
        >>> load_recipe("camvid", ["epochs=3", "model.size=XS"]).optim.epochs
        3
    """
    values = source.flat() if isinstance(source, Recipe) else _flatten(_read(source))
    for key, value in _expand(_parse(overrides)).items():
        values[_known_key(key, allow_short=True)] = value
    return _build(values)


def to_toml(value: Recipe) -> str:
    """Write a recipe as TOML; `load_recipe` reads it back to the same value."""
    top: list[str] = []
    parts: dict[str, list[str]] = {}
    for key, entry in value.flat().items():
        part, _, name = key.partition(".")
        (parts.setdefault(part, []) if name else top).append(f"{name or part} = {_toml_value(entry)}")
    sections = [f"[{part}]\n" + "\n".join(lines) for part, lines in parts.items()]
    return "\n\n".join(["\n".join(top), *sections]) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {_toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    # For texts, numbers and booleans the two notations agree, but for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read(source: str | Path) -> dict[str, Any]:
    path = _SHIPPED / f"{source}.toml" if str(source) in recipe_names() else Path(source)
    if not path.is_file():
        close = get_close_matches(str(source), recipe_names(), n=1)
        raise ConfigError(
            explain(
                f"there is no recipe {str(source)!r}",
                expected=f"one of {', '.join(recipe_names())}, or the path of a TOML file",
                fix=f"did you mean {close[0]!r}?" if close else None,
            )
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(explain(f"the recipe {path} is not valid TOML", received=error)) from error


def _flatten(nested: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for part, value in nested.items():
        is_part = isinstance(value, Mapping)
        flat |= {f"{part}.{key}": entry for key, entry in value.items()} if is_part else {part: value}
    return {_known_key(key): value for key, value in _expand(flat).items()}


def _expand(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Put the keys that a loss preset stands for in its place; keys named beside it win."""
    rest = dict(flat)
    preset = rest.pop(_PRESET, None)
    if preset is None:
        return rest
    if preset not in LOSS_PRESETS:
        raise ConfigError(
            explain(f"recipe: `{_PRESET}` is wrong", received=repr(preset), expected=", ".join(LOSS_PRESETS))
        )
    return LOSS_PRESETS[preset] | rest


def _parse(overrides: Overrides) -> dict[str, Any]:
    if isinstance(overrides, Mapping):
        return dict(overrides)
    parsed: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(explain("an override is not understood", received=text, expected="key=value"))
        try:
            parsed[key.strip()] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            parsed[key.strip()] = value.strip()  # a bare word is a text
    return parsed


def _known_key(key: str, *, allow_short: bool = False) -> str:
    known = list(Recipe().flat())
    if key in known:
        return key
    short = [k for k in known if k.endswith(f".{key}")]
    if allow_short and len(short) == 1:
        return short[0]
    if allow_short and short:
        raise ConfigError(
            explain(f"recipe key {key!r} is ambiguous", expected=f"one of {', '.join(sorted(short))}")
        )
    names = {k.rsplit(".", 1)[-1]: k for k in known} | {k: k for k in known}
    close = get_close_matches(key, names, n=1, cutoff=0.5) or get_close_matches(
        key.rsplit(".", 1)[-1], names, n=1
    )
    raise ConfigError(
        explain(
            f"unknown recipe key {key!r}",
            why="a misspelt key would silently leave the default in place",
            fix=f"did you mean {names[close[0]]!r}?" if close else f"known keys: {', '.join(known)}",
        )
    )


def _build(flat: Mapping[str, Any]) -> Recipe:
    hints = get_type_hints(Recipe)
    top = {key: _coerce(key, value, hints[key]) for key, value in flat.items() if "." not in key}
    for part in (f.name for f in fields(Recipe) if f"{f.name}." in " ".join(flat)):
        cls = hints[part]
        if cls in {str, int}:
            continue
        kinds = get_type_hints(cls)
        inner = {k.partition(".")[2]: v for k, v in flat.items() if k.startswith(f"{part}.")}
        top[part] = cls(**{k: _coerce(f"{part}.{k}", v, kinds[k]) for k, v in inner.items()})
    return Recipe(**top)


def _coerce(key: str, value: Any, kind: Any) -> Any:
    """Return the value as the kind its key has, or refuse it."""
    if isinstance(kind, UnionType):
        kind = next(
            (k for k in get_args(kind) if (get_origin(k) is tuple) == isinstance(value, list | tuple)), kind
        )
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_coerce(key, entry, get_args(kind)[0]) for entry in value)
    if get_origin(kind) is dict and isinstance(value, Mapping):
        return dict(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        name = getattr(kind, "__name__", str(kind)) if get_origin(kind) is None else str(kind)
        raise ConfigError(
            explain(f"recipe key {key!r} has the wrong kind", received=repr(value), expected=name)
        )
    return value
