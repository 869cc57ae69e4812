"""The command line as a user meets it: a separate process, its output, its exit status."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

import onelip
from onelip.apps.arguments import join_lists

COMMANDS = [
    "info",
    "data inspect",
    "data runways",
    "train",
    "certify",
    "attack",
    "compare",
    "explain",
    "report",
    "demo",
    "anomaly fit",
    "anomaly score",
    "anomaly report",
    "export",
]
KEYS = ["accuracy", "stability", "fnr:0"]
SMALL = ["--size", "32x48", "--pictures", "1", "--eps", "0.02", "0.1", "--criteria", "fnr:0"]
SMALL += ["--threshold", "fnr:0=0.95"]


def run(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "onelip", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )


@pytest.fixture(scope="module")
def certified(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("certified")
    done = run("certify", model, "scenes", *SMALL, "--limit", "3", "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from onelip.apps.cli import main; sys.argv = ['onelip', '--help']; status = main();"
        "heavy = {'torch', 'matplotlib', 'jinja2', 'torchmetrics', 'pytorch_lightning', 'numpy'} & set(sys.modules);"
        "print('HEAVY', sorted(heavy)); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "HEAVY []" in done.stdout
    for command in COMMANDS:
        assert command.split()[0] in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_and_the_common_options(command, call):
    done = call(*command.split(), "--help")
    assert done.returncode == 0
    assert f"Example: onelip {command}" in " ".join(done.stdout.split())
    for option in ("--seed", "--device", "--out"):
        assert option in done.stdout


def test_certify_prints_a_table_and_writes_results_and_a_report(certified, model):
    out, done = certified
    assert "The same in Python:" in done.stdout
    assert "accuracy (pixels)" in done.stdout
    results = json.loads((out / "results.json").read_text())
    assert results["complete"] is True
    assert results["data"] | {"images": 3, "total": 3, "size": [32, 48]} == results["data"]
    assert [row["eps"] for row in results["rows"]] == [0.02, 0.1]
    for row in results["rows"]:
        assert 0 <= row["accuracy_micro"] <= results["clean"]["pixel_accuracy_micro"]
        assert row["rms_255"] == pytest.approx(255 * row["eps"] / (3 * 32 * 48) ** 0.5)
    page = (out / "report.html").read_text()
    assert "<svg" in page
    assert "data:image/png;base64" in page
    assert len((out / "results.jsonl").read_text().splitlines()) == 4
    weights = json.loads((model / "config.json").read_text())["weights_sha256"]
    assert results["model"]["weights_sha256"] == weights


def test_the_python_that_certify_prints_gives_the_same_numbers(certified, capsys):
    out, done = certified
    results = json.loads((out / "results.json").read_text())
    printed = done.stdout[done.stdout.index("    import onelip") : done.stdout.index("results: ")]
    code = textwrap.dedent(printed)
    assert code.strip().splitlines()[1:] == results["python"].splitlines()
    exec(code, {})
    lines = dict(line.split(" ", 1) for line in capsys.readouterr().out.strip().splitlines())
    assert len(lines) == len(results["criteria"]) == len(KEYS)
    for criterion in results["criteria"]:
        expected = [row[f"{criterion['key']}_macro"] for row in results["rows"]]
        assert json.loads(lines[criterion["name"]]) == pytest.approx(expected, abs=1e-14)


def test_the_command_that_is_recorded_does_the_same_again(certified, tmp_path, call):
    out, _ = certified
    first = json.loads((out / "results.json").read_text())
    words = join_lists(shlex.split(first["command"])[1:])
    done = call(*words[:-1], tmp_path, "--pictures", "0")
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "results.json").read_text())
    for section in ("rows", "curves", "radii", "clean", "classes"):
        assert again[section] == first[section]


def test_radii_and_criteria_of_a_class(certified):
    out, done = certified
    results = json.loads((out / "results.json").read_text())
    (row,) = results["radii"]
    assert (row["criterion"], row["threshold"], row["count"]) == ("fnr:0", 0.95, 3)
    assert "fnr:0" in done.stdout
    by_key = {c["key"]: c for c in results["criteria"]}
    assert not by_key["fnr:0"]["higher_is_better"]
    assert by_key["fnr:0"]["count"] + by_key["fnr:0"]["undefined"] == 3
    for row in results["rows"]:
        if row["fnr:0_macro"] is not None:
            assert row["fnr:0_macro"] >= by_key["fnr:0"]["clean_macro"]


def test_results_equal_the_library_on_the_same_images(certified, model):
    out, _ = certified
    results = json.loads((out / "results.json").read_text())
    certifier = onelip.certify.Certifier(onelip.load(model))
    dataset = onelip.data.open("scenes", "val", size=(32, 48))
    micro = onelip.metrics.Certified(onelip.certify.PixelAccuracy(), eps=[0.02, 0.1], average="micro")
    macro = onelip.metrics.Certified(onelip.certify.Stability(), eps=[0.02, 0.1])
    for index in (0, 10, 21):  # three of 32, evenly spread
        image, target = dataset[index]
        cert = certifier(image[None], target[None])
        shifted = cert.rounding
        for metric in (micro, macro):
            metric.eps = torch.tensor([0.02, 0.1], dtype=torch.float64) + shifted
            metric.update(cert.logits, target[None], cert.lipschitz)
    assert [r["accuracy_micro"] for r in results["rows"]] == pytest.approx(micro.compute().values.tolist())
    assert [r["stability_macro"] for r in results["rows"]] == pytest.approx(macro.compute().values.tolist())
    assert results["clean"]["pixel_accuracy_micro"] == pytest.approx(micro.compute().clean)


def test_resume_keeps_what_is_done_and_refuses_what_differs(certified, model, call):
    out, _ = certified
    lines = (out / "results.jsonl").read_text().splitlines()
    (out / "results.jsonl").write_text("\n".join(lines[:3]) + '\n{"index": 21, "torn')
    before = json.loads((out / "results.json").read_text())
    done = call("certify", model, "scenes", *SMALL, "--limit", "3", "--resume", "--out", out)
    assert done.returncode == 0, done.stderr
    after = json.loads((out / "results.json").read_text())
    assert after["rows"] == before["rows"]
    assert (out / "results.jsonl").read_text().splitlines()[:3] == lines[:3]
    other = call("certify", model, "scenes", "--size", "32x32", "--limit", "3", "--resume", "--out", out)
    assert other.returncode == 2
    assert "cannot be resumed" in other.stderr
    assert "eps" in other.stderr


def test_interruption_exits_130_and_keeps_what_is_done(model, tmp_path):
    command = [sys.executable, "-m", "onelip", "certify", str(model), "scenes", "--size", "256x384"]
    process = subprocess.Popen(
        [*command, "--pictures", "0", "--out", str(tmp_path)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    lines = tmp_path / "results.jsonl"
    deadline = time.time() + 120
    while time.time() < deadline and not (lines.is_file() and len(lines.read_text().splitlines()) > 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["complete"] is False
    assert 2 <= results["data"]["images"] < results["data"]["total"] == 32
    assert "interrupted after" in (tmp_path / "report.html").read_text()


def test_report_of_several_models(certified, tmp_path, call):
    out, _ = certified
    done = call("report", out, out, "--out", tmp_path / "both")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "both" / "report.html").read_text().count("<h3>tiny</h3>") == 2
    assert (tmp_path / "both" / "results.json").is_file()


def test_info_and_data(model, tmp_path, call):
    done = call("info", "--out", tmp_path / "info")
    assert done.returncode == 0, done.stderr
    assert "scenes" in done.stdout
    assert json.loads((tmp_path / "info" / "results.json").read_text())["versions"]["torch"]
    done = call("info", model, "--size", "16x16", "--out", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "model" / "results.json").read_text())
    assert results["lipschitz"] == onelip.lipschitz(onelip.load(model), (16, 16)).value
    done = call("data", "inspect", "scenes", "--split", "val", "--size", "32x48", "--out", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "data" / "results.json").read_text())["images"] == 32


def test_export(model, tmp_path, call):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    done = call("export", model, "--size", "32x48", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.onnx").stat().st_size > 0
    assert json.loads((tmp_path / "results.json").read_text())["size"] == [32, 48]


BAD = {
    "no such model": (["certify", "nowhere", "scenes"], "there is no such model"),
    "no such data": (["certify", "{model}", "scene"], "did you mean 'scenes'"),
    "no such split": (["certify", "{model}", "scenes", "--split", "valid"], "valid"),
    "negative eps": (["certify", "{model}", "scenes", "--eps", "0.1,-2"], "-2.0 at index 1"),
    "eps no number": (["certify", "{model}", "scenes", "--eps", "small"], "--eps is not a list of numbers"),
    "size": (["certify", "{model}", "scenes", "--size", "32"], "--size is not a size"),
    "no such criterion": (["certify", "{model}", "scenes", "--criteria", "iuo:1"], "unknown criterion"),
    "no such class": (["certify", "{model}", "scenes", "--criteria", "fnr:carr"], "unknown class"),
    "threshold": (["certify", "{model}", "scenes", "--threshold", "accuracy"], "--threshold is not a list"),
    "norm": (["certify", "{model}", "scenes", "--p", "3"], "not a supported norm"),
    "norm of a model": (["info", "{model}", "--p", "two"], "--p is not a list of numbers"),
    "no such recipe": (["train", "demoo", "--out", "{out}"], "did you mean 'demo'"),
    "unknown key": (["train", "demo", "--set", "optim.lrr=1", "--out", "{out}"], "did you mean"),
    "nothing to report": (["report", "{out}"], "results.json"),
    "device": (["info", "--device", "tpu"], "auto, cpu or cuda"),
    "unknown option": (["info", "--sizes", "3"], "--sizes"),
    "unknown command": (["certfy"], "certfy"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_exits_2_with_one_sentence(case, model, tmp_path, call, monkeypatch):
    arguments, text = BAD[case]
    filled = [a.format(model=model, out=tmp_path / "out") for a in arguments]
    monkeypatch.chdir(tmp_path)
    done = call(*filled)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    if not case.startswith("unknown"):
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stderr.startswith("onelip: ")


def test_bad_input_in_a_process_of_its_own(tmp_path):
    done = run("certify", "nowhere", "scenes", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("onelip: there is no such model")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_the_shipped_model_is_certified_with_the_default_criteria(tmp_path):
    """In a process of its own, with eps the way people write them."""
    options = [
        "--size",
        "64x96",
        "--limit",
        "2",
        "--pictures",
        "0",
        "--threshold",
        "miou=0.2",
        "accuracy=0.5",
    ]
    done = run("certify", "--eps", "0.05", "0.2", "scenes", "scenes", *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    criteria = {c["key"]: c for c in results["criteria"]}
    assert list(criteria) == ["accuracy", "stability", "miou"]
    assert not criteria["miou"]["exact"]
    assert [row["eps"] for row in results["rows"]] == [0.05, 0.2]
    for average in ("micro", "macro"):
        values = [row[f"miou_{average}"] for row in results["rows"]]
        assert 0 < values[1] < values[0] < criteria["miou"][f"clean_{average}"]
    assert [r["criterion"] for r in results["radii"]] == ["miou", "accuracy"]
    assert all(r["count"] == 2 and r["median"] > 0 for r in results["radii"])
    labelled = [c for c in results["classes"] if c["labelled"]]
    mean = sum(c["certified"][0] for c in labelled) / len(labelled)
    assert results["rows"][0]["miou_micro"] == pytest.approx(mean)
