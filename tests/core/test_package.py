# ruff: noqa: E501
"""The package as a whole: light import, public names and their documentation, size of files, layers of imports."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import onelip

SOURCE = Path(onelip.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
PUBLIC = {
    "Bound", "OnelipError", "Step", "UnknownLayerError", "attacks", "bounds", "certify", "core", "data", "export_onnx", "fold", "layers",
    "lipschitz", "load", "metrics", "models", "pretrained", "report", "rule",
    "smoothing", "testing", "train",
}  # fmt: skip
HEAVY = (
    "torch",
    "numpy",
    "matplotlib",
    "pytorch_lightning",
    "torchmetrics",
    "torchvision",
    "rich",
    "typer",
    "PIL",
)


def run(code):
    result = subprocess.run([sys.executable, *code], capture_output=True, text=True, timeout=120, check=True)
    return result.stdout + result.stderr


def test_import_is_light():
    loaded = run(["-X", "importtime", "-c", "import onelip; onelip.__version__; dir(onelip)"])
    names = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in loaded.splitlines() if "|" in line}
    assert "onelip" in names
    assert not names & set(HEAVY)


def test_core_loads_no_torch():
    run(
        [
            "-c",
            "import sys, onelip.core; assert 'torch' not in sys.modules; onelip.core.numbers.round_up(1.5)",
        ]
    )


def test_public_names():
    assert set(onelip.__all__) >= PUBLIC | {"__version__"}
    assert set(dir(onelip)) == set(onelip.__all__)
    assert sorted(onelip.__all__) == sorted(set(onelip.__all__))
    for name in onelip.__all__:
        assert getattr(onelip, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'lipshitz'; public names: .*lipschitz"):
        onelip.lipshitz  # noqa: B018


@pytest.mark.parametrize("name", ["lipschitz", "rule", "Bound", "fold", "load", "export_onnx", "pretrained"])
def test_public_functions_are_documented(name):
    text = inspect.getdoc(getattr(onelip, name))
    assert text
    assert len(text.split()) > 10


@pytest.mark.parametrize("name", ["lipschitz", "rule"])
def test_bounds_state_their_guarantee(name):
    text = inspect.getdoc(getattr(onelip, name))
    for word in ("Guarantee", "Raises", ">>>"):
        assert word in text
    for tool in (onelip.testing.lower_bound, onelip.testing.check_rule):
        assert "Guarantee" in inspect.getdoc(tool)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_are_short_and_documented(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert text.isascii() or path.parent.name in ("data", "report")
    tree = ast.parse(text)
    assert ast.get_docstring(tree) or path.name == "_version.py"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            told = bool(ast.get_docstring(node)) and len(node.body) > 1  # what it says has its own limit
            code = node.end_lineno - node.body[told].lineno + 1
            assert code <= 50, f"{node.name} has {code} lines of code"
            assert len((ast.get_docstring(node) or "").splitlines()) <= 60, f"{node.name} says too much"


def test_bounds_import_only_core():
    for path in FILES:
        if path.parent.name not in ("core", "bounds"):
            continue
        allowed = {"core", "bounds"} if path.parent.name == "bounds" else {"core"}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 2 and node.module:
                assert node.module.split(".")[0] in allowed, path
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not any(n.split(".")[0] in ("orthogonium", "deel", "pytorch_lightning") for n in names), (
                path
            )
