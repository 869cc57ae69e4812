"""Recipes: every shipped one is valid, overrides are typed, misspelt keys are refused with the right one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.core.errors import ConfigError
from onelip.train import Recipe, load_recipe, recipe_names, to_toml
from onelip.train.recipe import LOSS_PRESETS, ModelPart, OptimPart


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    ordinary = "-twin" in name or name.endswith("-standard")
    assert (recipe.model.constraint == "none") == ordinary
    assert recipe.val.eps == () or not ordinary


def test_the_expected_recipes_are_there() -> None:
    assert {"camvid", "camvid-twin", "kvasir", "kvasir-twin", "scenes", "demo"} <= set(recipe_names())


@settings(max_examples=40, deadline=None)
@given(
    lr=st.floats(1e-6, 10),
    epochs=st.integers(1, 1000),
    mean=st.one_of(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=3, max_size=3).map(tuple)),
    name=st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
)
def test_toml_round_trip(
    tmp_path_factory: pytest.TempPathFactory, lr: float, epochs: int, mean, name: str
) -> None:
    recipe = Recipe(
        name=name,
        model=ModelPart(mean=mean, options={"widths": [8, 16], "repeats": 1}),
        optim=replace(OptimPart(), lr=lr, min_lr=0.0, epochs=epochs),
    )
    path = tmp_path_factory.mktemp("toml") / "r.toml"
    path.write_text(to_toml(recipe), encoding="utf-8")
    assert load_recipe(path) == load_recipe(recipe) == recipe


def test_overrides() -> None:
    recipe = load_recipe(
        "demo", ["lr=2", "augment.crop=[16, 24]", "loss.name=hkr", "model.std=[0.1,0.2,0.3]"]
    )
    assert recipe.optim.lr == 2.0
    assert isinstance(recipe.optim.lr, float)
    assert recipe.augment.crop == (16, 24)
    assert recipe.loss.name == "hkr"
    assert recipe.model.std == (0.1, 0.2, 0.3)
    assert load_recipe("demo", {"seed": 5}).seed == 5


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("optim.lrr=1", r"unknown recipe key 'optim\.lrr'.*did you mean 'optim\.lr'"),
        ("epoch=1", r"unknown recipe key 'epoch'.*did you mean 'optim\.epochs'"),
        ("size=1", r"ambiguous; expected one of data\.size, model\.size"),
        ("optim.lr=fast", "wrong kind; received 'fast'; expected float"),
        ("optim.epochs=2.5", "wrong kind; received 2.5; expected int"),
        ("data.cache=1", "wrong kind"),
        ("optim.epochs=0", r"epochs >= 1"),
        ("loss.name=mse", "tau-cce, jaccard, cosine, hkr"),
        ("val.eps=[-1.0]", "numbers >= 0"),
        ("model.depth=3", "unknown recipe key"),
        ("lr", "expected key=value"),
    ],
)
def test_wrong_overrides(override: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load_recipe("demo", [override])


def test_files_are_checked_like_overrides(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[optim]\nlearning_rate = 1.0\n")
    with pytest.raises(ConfigError, match=r"unknown recipe key 'optim\.learning_rate'"):
        load_recipe(path)
    path.write_text("lr = 1.0\n")  # a file says where each key belongs
    with pytest.raises(ConfigError, match=r"did you mean 'optim\.lr'"):
        load_recipe(path)
    path.write_text("[optim\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_recipe(path)
    with pytest.raises(ConfigError, match="did you mean 'camvid'"):
        load_recipe("camvit")


def test_a_preset_stands_for_its_keys_and_keys_beside_it_win(tmp_path: Path) -> None:
    recipes = [load_recipe("scenes", [f"loss.preset={name}"]) for name in LOSS_PRESETS]
    asked = [(-recipe.loss.tau, recipe.loss.margin, recipe.augment.attack) for recipe in recipes]
    assert asked == [(-300.0, 0.0, 0.0), (-150.0, 0.01, 0.0), (-150.0, 0.01, 1.0)]
    assert load_recipe("scenes", ["loss.tau=7", "loss.preset=accurate"]).loss.tau == 7.0
    path = tmp_path / "mine.toml"
    path.write_text('[loss]\npreset = "accurate"\nmargin = 0.5\n')
    recipe = load_recipe(path)
    assert recipe.loss.tau == LOSS_PRESETS["accurate"]["loss.tau"]
    assert recipe.loss.margin == 0.5
    with pytest.raises(ConfigError, match=r"loss.preset.*'strong'.*strongly-robust"):
        load_recipe("scenes", ["loss.preset=strong"])
