"""`onelip compare`: the same figures as its printed Python, resumable, what smoothing needs, the sandwich."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
import torch

import onelip
from onelip.apps.compare import read_sigmas
from onelip.apps.comparison import Comparison
from onelip.apps.comparison import compare as run
from onelip.certify import Certifier
from onelip.core.errors import InputError, UnsoundError
from onelip.report.schema import lacking
from onelip.smoothing import smallest_n

torch.set_num_threads(1)
SMALL = {"model": "scenes", "data": "scenes", "size": (32, 48), "limit": 2, "eps": (0.05, 0.15)}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Noise large enough for smoothing to win at the larger eps, where the Lipschitz certificate has little left."""
    out = tmp_path_factory.mktemp("compared")
    return run(Comparison(**SMALL, sigmas=(0.1, 0.2), n=200, out=out))


def rows(results, method):
    return {row["eps"]: row for row in results["comparison"] if row["method"].startswith(method)}


def test_results_are_those_of_the_printed_python(compared):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.warns(onelip.smoothing.FeasibilityWarning):
        exec(compared["python"], {"onelip": onelip})
    found = {tuple(line.split()[:2]): float(line.split()[2]) for line in printed.getvalue().splitlines()}
    assert len(found) == 6
    for eps in (0.05, 0.15):
        assert rows(compared, "Lipschitz")[eps]["accuracy"] == pytest.approx(
            found["Lipschitz", str(eps)], abs=1e-12
        )
        for sigma in (0.1, 0.2):
            row = rows(compared, f"SegCertify sigma={sigma}")[eps]
            assert row["accuracy"] == pytest.approx(found[str(sigma), str(eps)], abs=1e-12)
            assert row["passes"] == 210
            assert row["seconds"] > 0
    assert compared["comparison"][0]["passes"] == 1
    assert any(0.1 < row["accuracy"] < 1 for row in rows(compared, "SegCertify").values())


def test_results_fit_the_report(compared):
    assert lacking(compared) == []
    assert compared["kind"] == "compare"
    assert compared["complete"]
    assert compared["data"]["images"] == 2
    assert any("statistical" in text for text in compared["assumptions"])
    json.dumps(compared, allow_nan=False)


def test_what_smoothing_needs_is_true(compared, tmp_path):
    """The fewest passes that were found do reach the Lipschitz value, in a run of their own."""
    goal = rows(compared, "Lipschitz")[0.15]["accuracy"]
    need = next(n for n in compared["needs"] if n["eps"] == 0.15 and n["sigma"] == 0.2)
    assert need["best"]
    assert 0 < goal <= need["accuracy"]
    assert need["smallest_n"] + 10 <= need["passes_needed"] <= 210
    assert 0 < need["seconds_needed"] <= need["seconds"]
    again = run(
        Comparison(**{**SMALL, "eps": (0.15,)}, sigmas=(0.2,), n=need["passes_needed"] - 10, out=tmp_path)
    )
    row = rows(again, "SegCertify")[0.15]
    assert row["accuracy"] >= goal
    assert f"with {need['passes_needed']} passes" in row["note"]


def test_notes_say_what_is_impossible_and_what_is_not_reached(compared):
    impossible = rows(compared, "SegCertify sigma=0.1")[0.15]
    assert impossible["accuracy"] == 0.0
    assert "impossible: needs n >= 207" in impossible["note"]
    behind = rows(compared, "SegCertify sigma=0.2")[0.05]
    assert behind["accuracy"] < rows(compared, "Lipschitz")[0.05]["accuracy"]
    assert "not reached" in behind["note"]
    need = next(n for n in compared["needs"] if (n["eps"], n["sigma"]) == (0.05, 0.2))
    assert need["passes_needed"] is None
    assert need["smallest_n"] == smallest_n(32 * 48, float(torch.special.ndtr(torch.tensor(0.25))), 1e-3)


def test_eps_of_too_many_sigma_is_said_to_be_impossible(tmp_path):
    found = run(Comparison(**{**SMALL, "limit": 1, "eps": (1.0,)}, sigmas=(0.1,), n=5, out=tmp_path))
    row = rows(found, "SegCertify")[1.0]
    assert row["accuracy"] == 0.0
    assert "impossible with any n" in row["note"]


def without_times(results):
    timed = ("seconds", "seconds_needed", "note", "date", "command")
    if isinstance(results, dict):
        return {k: without_times(v) for k, v in results.items() if k not in timed}
    return [without_times(v) for v in results] if isinstance(results, list) else results


def test_resumes_image_by_image(tmp_path):
    plan = Comparison(**SMALL, sigmas=(0.1,), n=60, out=tmp_path)
    first = run(plan)
    path = tmp_path / "results.jsonl"
    lines = path.read_text().splitlines()
    changed = json.loads(lines[1])
    changed["lipschitz"]["clean"] = 0.0  # a mark: this image must not be computed again
    path.write_text("\n".join([lines[0], json.dumps(changed), lines[2][:40]]))
    resumed = run(Comparison(**SMALL, sigmas=(0.1,), n=60, out=tmp_path, resume=True))
    assert resumed["comparison"][0]["clean"] < first["comparison"][0]["clean"]
    keep = ("needs", "data", "complete")
    assert without_times({k: resumed[k] for k in keep}) == without_times({k: first[k] for k in keep})
    for change in ({"n": 70}, {"alpha": 0.01}, {"sigmas": (0.2,)}, {"eps": (0.1,)}, {"seed": 1}):
        options = {**SMALL, "sigmas": (0.1,), "n": 60, **change}
        with pytest.raises(InputError, match="cannot be resumed"):
            run(Comparison(**options, out=tmp_path, resume=True))


def test_attack_closes_the_sandwich(tmp_path):
    found = run(Comparison(**{**SMALL, "limit": 1}, sigmas=(0.1,), n=50, attack_steps=4, out=tmp_path))
    assert [row["eps"] for row in found["attacked"]] == [0.05, 0.15]
    for row in found["attacked"]:
        assert 0 <= row["certified"] <= row["attacked"] <= row["clean"] <= 1
    assert found["attacked"][1]["attacked"] < found["attacked"][1]["clean"]
    assert found["comparison"][0]["attacked"] == found["attacked"][0]["attacked"]


def test_a_certificate_that_is_beaten_stops_the_run(tmp_path, monkeypatch):
    """With the constant taken a hundred times too small, the attack must be seen to win, and its image saved."""
    honest = Certifier._constant
    monkeypatch.setattr(Certifier, "_constant", lambda self, bound: honest(self, bound) / 100)
    with pytest.raises(UnsoundError):
        run(Comparison(**{**SMALL, "limit": 1}, sigmas=(0.1,), n=50, attack_steps=4, out=tmp_path))
    assert list((tmp_path / "unsound").iterdir())


def test_command_prints_the_table_and_writes_the_report(tmp_path, call):
    words = ["scenes", "scenes", "--size", "32x48", "--limit", "1", "--n", "40", "--out", tmp_path]
    done = call("compare", "--smoothing", "sigma=0.1", "0.2", "--eps", "0.01", "0.05", *words)
    assert done.returncode == 0, done.stderr
    for part in ("Lipschitz", "SegCertify sigma=0.1", "SegCertify sigma=0.2", "0.01", "0.05", "passes"):
        assert part in done.stdout
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["comparison"]) == 6
    page = (tmp_path / "report.html").read_text()
    assert "SegCertify sigma=0.2" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--smoothing", "tau=0.1"], "--smoothing has an unknown part"),
        (["--smoothing", "sigma=x"], "--smoothing is not a list of numbers"),
        (["--smoothing", "sigma=0"], "`sigma` is zero"),
        (["--eps", "-1"], "`eps`"),
        (["--alpha", "2"], "`alpha`"),
        (["--correction", "none"], "`correction` is unknown"),
        (["--base", "nowhere"], "there is no such model"),
    ],
)
def test_bad_input_ends_with_one_sentence(words, message, tmp_path, call):
    done = call("compare", "scenes", "scenes", "--limit", "1", "--out", tmp_path, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_base_must_have_the_same_classes(tmp_path):
    onelip.models.create("fcn", classes=3, size="XS").eval().save(tmp_path / "other", size=(32, 48))
    with pytest.raises(InputError, match=r"3 classes in .*, 8 in scenes"):
        run(Comparison(**SMALL, base=str(tmp_path / "other"), out=tmp_path))


def test_noise_of_the_command_line():
    assert read_sigmas("sigma=0.1,0.2,0.1") == (0.1, 0.2)
    with pytest.raises(InputError, match="unknown part"):
        read_sigmas("noise=0.1")
