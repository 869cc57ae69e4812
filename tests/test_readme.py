"""What the README shows works as it stands there."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onelip.apps.cli import app

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_of_the_readme_runs(capsys):
    (code,) = [text for language, text in BLOCKS if language == "python"]
    names = {}
    exec(code, names)
    assert "Lipschitz" in capsys.readouterr().out
    assert names["cert"].lipschitz > 1


@pytest.mark.parametrize("line", [c for _, t in BLOCKS for c in t.splitlines() if c.startswith("onelip ")])
def test_the_commands_of_the_readme_exist_with_their_options(line):
    words = shlex.split(line, comments=True)[1:]
    group = words[:2] if words[0] == "data" else words[:1]
    shown = CliRunner().invoke(app, [*group, "--help"])
    assert shown.exit_code == 0
    assert all(word in shown.output for word in words if word.startswith("--"))


def test_the_make_targets_of_the_readme_exist():
    targets = (Path(__file__).parent.parent / "Makefile").read_text()
    named = {t for _, text in BLOCKS for t in re.findall(r"^make (\S+)", text, flags=re.MULTILINE)}
    assert named >= {"test", "demo"}
    assert all(f"\n{target}:" in targets for target in named)


def test_the_measured_tables_are_what_the_benchmark_files_say(monkeypatch):
    root = Path(__file__).parent.parent
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    tables = runpy.run_path(str(root / "benchmarks" / "readme.py"))
    for name in ("segmentation", "smoothing", "sandwich", "layers"):
        assert tables[name]() in README
    assert tables["tried"]() in (root / "docs" / "training.md").read_text()
    page = (root / "docs" / "runways.md").read_text()
    assert tables["renderer"]() in page
    if (root / "benchmarks" / "results" / "runways.json").is_file():
        assert tables["runways"]() in page
        assert tables["runway_details"]() in page
    page = (root / "docs" / "detection.md").read_text()
    if (root / "benchmarks" / "results" / "detection-runways.json").is_file():
        assert tables["boxes"].detection() in README
        assert tables["boxes"].detection_details() in page
