"""`onelip anomaly`: what it writes is what the library says, and bad input is one sentence."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from onelip import oneclass
from onelip.apps.anomaly import scoring, stored
from onelip.apps.anomaly.tables import open_table
from onelip.apps.arguments import join_lists
from onelip.apps.cli import main

NAMES = ("flow", "heat", "load")


@pytest.fixture
def call(monkeypatch, capsys):
    def inner(*words):
        monkeypatch.setattr(sys, "argv", ["onelip", "anomaly", *map(str, words)])
        status = main()
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(words, status, captured.out, captured.err)

    return inner


def refused(done, *parts):
    """Exit status 2, one line, no traceback, and these words in it."""
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr


def write_csv(path, X, names=NAMES, labels=None):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, *([] if labels is None else ["bad"])])
        for i, row in enumerate(np.asarray(X).tolist()):
            writer.writerow([*row, *([] if labels is None else [int(labels[i])])])
    return path


def columns(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 3)) * [1.0, 10.0, 0.1] + [5.0, 0.0, 2.0]
    labels = np.zeros(300)
    labels[::20] = 1
    X[labels == 1] += [6.0, 0.0, 0.0]
    return X, labels


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    return tmp_path_factory.mktemp("anomaly")


@pytest.fixture(scope="module")
def labelled(rows, folder):
    return write_csv(folder / "rows.csv", rows[0], labels=rows[1])


@pytest.fixture
def plain(rows, tmp_path):
    return write_csv(tmp_path / "plain.csv", rows[0])


@pytest.fixture(scope="module")
def fitted(labelled, folder):
    """A calibrated nearest-neighbour detector, fitted in a process of its own."""
    words = ["fit", labelled, "--detector", "knn", "--label", "bad", "--normals-only", "--calibrate", "0.1"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "onelip",
            "anomaly",
            *map(str, words),
            "--eps",
            "0.2",
            "--out",
            str(folder / "run"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "run", done


def test_fit_writes_a_model_that_keeps_names_results_and_a_page(fitted, rows):
    out, done = fitted
    detector = oneclass.load(out / "model")
    assert list(detector.feature_names_in_) == list(NAMES)
    results = json.loads((out / "results.json").read_text())
    assert results["model"]["detector"] == "CertifiedKNN"
    assert results["data"]["fitted"] + results["data"]["calibrating"] == (rows[1] == 0).sum()
    assert results["data"]["scored"] == "rows that were not fitted"
    assert results["metrics"]["anomalies"] == rows[1].sum()
    assert {"versions", "machine", "seed", "command", "python", "date"} <= set(results)
    assert "The same in Python:" in done.stdout
    page = (out / "report.html").read_text()
    assert page.count("<svg") >= 4
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "")


def test_labels_never_reach_the_fit(call, rows, tmp_path):
    X, labels = rows
    for name, y in (("a", labels), ("b", 1 - labels)):
        np.savez(tmp_path / f"{name}.npz", X=X, y=y)
        assert (
            call("fit", tmp_path / f"{name}.npz", "--detector", "ocsvm", "--out", tmp_path / name).returncode
            == 0
        )
    first, second = (oneclass.load(tmp_path / name / "model").score_samples(X) for name in "ab")
    np.testing.assert_array_equal(first, second)
    assert oneclass.load(tmp_path / "a" / "model").n_features_in_ == 3


@pytest.mark.parametrize("block", [7, 1000])
def test_scores_equal_the_library(call, fitted, rows, plain, tmp_path, block):
    X, _ = rows
    done = call("score", fitted[0], plain, "--out", tmp_path / "s.csv", "--block", block)
    assert done.returncode == 0, done.stderr
    found, detector = columns(tmp_path / "s.csv"), oneclass.load(fitted[0] / "model")
    del detector.feature_names_in_
    np.testing.assert_array_equal(found["row"], np.arange(1, 301))
    np.testing.assert_allclose(found["score"], detector.score_samples(X), rtol=1e-13)
    np.testing.assert_allclose(found["decision"], detector.decision_function(X), rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(found["predict"], detector.predict(X))
    np.testing.assert_allclose(
        found["certified_radius"], detector.certified_radius(X), rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(
        found["certified_radius_raw"], detector.certified_radius(X, "raw"), rtol=1e-12, atol=1e-14
    )
    kept = stored.read(fitted[0])
    t = kept.threshold
    assert (t.eps, t.alpha) == (0.2, 0.1)
    expected = oneclass.robust_pvalues(
        kept.calibration, detector.score_samples(X), eps=0.2, lipschitz=t.lipschitz
    )
    np.testing.assert_array_equal(found["p_value"], expected)
    np.testing.assert_array_equal(found["predict"] == -1, t.flag(detector.score_samples(X)))


def test_calibration_scores_are_those_of_rows_held_out(fitted, rows):
    X, labels = rows
    kept = stored.read(fitted[0])
    scores = kept.detector.score_samples(X[labels == 0])
    assert np.isin(kept.calibration, scores).all()
    assert (kept.calibration < -1e-9).all()  # a fitted row is its own neighbour; these are not
    again = oneclass.conformal_threshold(kept.calibration, 0.1, eps=0.2, lipschitz=kept.detector.lipschitz_)
    assert again.value == kept.threshold.value == kept.detector.offset_


def test_printed_python_and_recorded_command_do_the_same(fitted, call, tmp_path, rows):
    out, done = fitted
    results = json.loads((out / "results.json").read_text())
    scope = {}
    exec("import onelip\n" + results["python"], scope)
    kept = stored.read(out).detector
    assert scope["detector"].offset_ == kept.offset_
    np.testing.assert_array_equal(scope["detector"].score_samples(rows[0]), kept.score_samples(rows[0]))
    printed = textwrap.dedent(
        done.stdout[done.stdout.index("    import onelip") : done.stdout.index("model:  ")]
    )
    assert printed.strip().splitlines()[1:] == results["python"].splitlines()
    words = join_lists(shlex.split(results["command"])[2:])
    assert call(*words[:-1], tmp_path / "again").returncode == 0
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    for section in ("scores", "certified", "metrics", "abnormal", "calibration"):
        assert again[section] == results[section]


def test_columns_are_matched_by_name(call, fitted, rows, plain, tmp_path):
    X, _ = rows
    turned = write_csv(
        tmp_path / "t.csv", np.column_stack((X[:, ::-1], X[:, 0])), ("load", "heat", "flow", "id")
    )
    for data, name in ((turned, "t"), (plain, "p")):
        done = call("score", fitted[0], data, "--out", tmp_path / f"{name}-s.csv")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "t-s.csv").read_bytes() == (tmp_path / "p-s.csv").read_bytes()
    assert json.loads((tmp_path / "t-s.json").read_text())["data"]["ignored"] == ["id"]


def test_metrics_are_those_of_the_library(call, fitted, labelled, rows, tmp_path):
    X, labels = rows
    done = call("score", fitted[0], labelled, "--label", "bad", "--eps", "0.3", "--out", tmp_path / "s.csv")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "s.json").read_text())
    detector = stored.read(fitted[0]).detector
    scores = detector.score_samples(X)
    certified = oneclass.certified_auroc(
        scores[labels == 0], scores[labels == 1], [0.0, 0.2, 0.3], detector.lipschitz_
    )
    assert [row["eps"] for row in results["metrics"]["rows"]] == [
        0.0,
        0.2,
        0.3,
    ]  # with that of the calibration
    assert [row["auroc"] for row in results["metrics"]["rows"]] == pytest.approx(certified, abs=1e-12)
    radius = detector.certified_radius(X)
    assert [row["rows"] for row in results["certified"]] == [(radius >= e).sum() for e in (0.0, 0.2, 0.3)]
    worst = results["abnormal"]
    assert [row["row"] for row in worst] == (np.argsort(scores, kind="stable")[:8] + 1).tolist()
    assert sum(f["contribution"] for f in worst[0]["features"]) == pytest.approx(
        -worst[0]["decision"], rel=1e-3
    )
    assert worst[0]["features"][0]["name"] == "flow"


def test_report_joins_runs(call, fitted, labelled, tmp_path):
    assert call("score", fitted[0], labelled, "--label", "bad", "--out", tmp_path / "s.csv").returncode == 0
    done = call("report", fitted[0], tmp_path / "s.csv", "--out", tmp_path / "both.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "both.html").read_text()
    for text in ("run on rows.csv (fit)", "run on rows.csv (score)", "AUROC", "Row ", "sha256", "<svg"):
        assert text in page
    refused(call("report", tmp_path / "nothing"), "does not exist")
    (tmp_path / "results.json").write_text('{"kind": "certify"}')
    refused(call("report", tmp_path), "holds no results about anomalies")


def test_signed_distance_takes_its_options(call, rows, tmp_path):
    np.savez(tmp_path / "d.npz", X=rows[0][:60])
    words = (
        "fit",
        tmp_path / "d.npz",
        "--margin",
        "0.2",
        "--lam",
        "30",
        "--contamination",
        "0.1",
        "--seed",
        "3",
    )
    assert call(*words, "--out", tmp_path / "r").returncode == 0
    detector = oneclass.load(tmp_path / "r" / "model")
    expected = oneclass.SignedDistance(0.2, 30.0, contamination=0.1, random_state=3).fit(rows[0][:60])
    np.testing.assert_array_equal(detector.score_samples(rows[0]), expected.score_samples(rows[0]))
    assert detector.offset_ == expected.offset_
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert results["metrics"] is None
    assert results["calibration"] is None
    assert "certified AUROC" not in (tmp_path / "r" / "report.html").read_text()


def test_raw_units_are_turned_into_standardised_ones(call, labelled, tmp_path):
    words = ("fit", labelled, "--detector", "knn", "--drop", "bad", "--calibrate", "0.1", "--eps", "0.01")
    assert call(*words, "--units", "raw", "--out", tmp_path / "r").returncode == 0
    kept = stored.read(tmp_path / "r")
    assert kept.threshold.eps == pytest.approx(0.01 / kept.detector.scale_.min())
    assert kept.names == NAMES


def test_constant_columns_are_allowed_and_named(call, rows, tmp_path):
    X = np.column_stack((rows[0][:50], np.full(50, 3.0)))
    data = write_csv(tmp_path / "c.csv", X, (*NAMES, "phase"))
    done = call("fit", data, "--detector", "knn", "--out", tmp_path / "r")
    assert done.returncode == 0
    assert "constant columns" in done.stdout
    assert json.loads((tmp_path / "r" / "results.json").read_text())["data"]["constant"] == ["phase"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["is empty"]),
        ("flow,heat\n", ["holds no rows"]),
        ("flow,heat\n1,2\n", ["too few rows", "received 1", "at least 2"]),
        ("flow,heat\n1,2\n3,\n", ["data row 2, column 'heat'", "missing"]),
        ("flow,heat\n1,2\n3,NaN\n", ["data row 2, column 'heat'", "missing"]),
        ("flow,heat\n1,2\ninf,1\n", ["data row 2, column 'flow'", "inf"]),
        ("flow,heat\n1,2\n1e999,1\n", ["data row 2, column 'flow'", "inf"]),
        ("a,city,b,kind\n1,Rome,2,x\n1,Oslo,2,y\n", ["hold no numbers", "'city', 'kind'", "--drop"]),
        ("a,b\n1,1_000\n2,3\n", ["hold no numbers", "'b'"]),
        ("a,b\n1,2\n1,2,3\n", ["data row 2", "3 cells", "2 cells"]),
        ("a,b\n1,2\n\n1,2\n", ["data row 2", "an empty line"]),
        ("a,a\n1,2\n", ["names that differ", "a"]),
        (",b\n1,2\n", ["no name for column 1"]),
        ("1.5,2.5\n1,2\n", ["has no header"]),
        ('a,b\n1,"2\n', ["cannot be read"]),
    ],
)
def test_bad_csv(call, tmp_path, text, parts):
    (tmp_path / "d.csv").write_text(text)
    refused(call("fit", tmp_path / "d.csv", "--detector", "knn", "--out", tmp_path / "r"), *parts)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--contamination", "0.6"], ["--contamination is out of range", "(0, 0.5]"]),
        (["--contamination", "0"], ["--contamination is out of range"]),
        (["--contamination", "some"], ["--contamination is out of range"]),
        (["--calibrate", "0.1", "--eps", "-0.1"], ["eps", "out of range"]),
        (["--eps", "-0.1"], ["--eps", ">= 0"]),
        (["--eps", "nan"], ["--eps", "finite"]),
        (["--calibrate", "0.1", "--eps", "0.1,0.2"], ["several numbers"]),
        (["--calibrate", "0"], ["alpha", "out of range"]),
        (["--calibrate", "0.001"], ["too few rows", "at least 1998: 999 to calibrate"]),
        (["--calibrate", "0.1", "--units", "feet"], ["--units", "'raw'"]),
        (["--confidence", "0.9"], ["--calibrate ALPHA"]),
        (["--detector", "lof"], ["--detector", "'sdf' or 'knn' or 'ocsvm'"]),
        (["--margin", "0.1"], ["--margin is an option of --detector sdf alone"]),
        (["--detector", "sdf", "--margin", "0"], ["--margin is zero"]),
        (["--detector", "sdf", "--lam", "-1"], ["--lam", "out of range"]),
        (["--label", "flag"], ["--label names no column", "'flag'", "'bad'"]),
        (["--label", "flow"], ["data row 1, column 'flow' holds no label"]),
        (["--normals-only"], ["--normals-only needs labels"]),
        (["--drop", "id"], ["--drop names no column", "'id'"]),
    ],
)
def test_bad_options_of_fit(call, labelled, tmp_path, words, parts):
    detector = [] if "--detector" in words else ["--detector", "knn"]
    refused(call("fit", labelled, *detector, *join_lists(words), "--out", tmp_path / "r"), *parts)
    assert not (tmp_path / "r").exists()


def test_what_cannot_be_written(call, labelled, fitted, plain, tmp_path):
    (tmp_path / "file").write_text("")
    refused(call("fit", labelled, "--detector", "knn", "--out", tmp_path / "file"), "could not write")
    refused(call("score", fitted[0], plain, "--out", tmp_path / "file" / "s.csv"), "could not be written")


def test_ensembles_score_and_report_too(call, rows, tmp_path):
    X, labels = rows
    both = oneclass.CertifiedEnsemble([oneclass.CertifiedKNN(), oneclass.CertifiedOCSVM()]).fit(X)
    both.save(tmp_path / "mine")
    np.savez(tmp_path / "d.npz", X=X, y=labels)
    done = call("score", tmp_path / "mine", tmp_path / "d.npz", "--out", tmp_path / "s.csv")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(columns(tmp_path / "s.csv")["score"], both.score_samples(X), rtol=1e-12)
    assert call("report", tmp_path / "s.csv").returncode == 0
    assert "CertifiedEnsemble" in (tmp_path / "s.html").read_text()


def test_no_column_is_left(call, labelled, tmp_path):
    drop = [word for name in NAMES for word in ("--drop", name)]
    refused(call("fit", labelled, "--label", "bad", *drop, "--out", tmp_path / "r"), "no columns left")


def test_wrong_columns_at_score_time(call, fitted, rows, tmp_path):
    X, _ = rows
    data = write_csv(tmp_path / "w.csv", X[:5], ("flow", "temperature", "load"))
    refused(
        call("score", fitted[0], data, "--out", tmp_path / "s.csv"),
        "no 'heat'",
        "unknown columns 'temperature'",
    )
    np.savez(tmp_path / "w.npz", X=X[:5, :2])
    refused(
        call("score", fitted[0], tmp_path / "w.npz", "--out", tmp_path / "s.csv"),
        "2: 'x0', 'x1'",
        "3: 'flow'",
    )
    assert not (tmp_path / "s.csv").exists()


def test_a_failure_keeps_the_scores_of_before(call, fitted, plain, tmp_path):
    out = tmp_path / "s.csv"
    assert call("score", fitted[0], plain, "--out", out).returncode == 0
    before = out.read_bytes()
    plain.write_text(plain.read_text() + "1,2,\n")
    refused(call("score", fitted[0], plain, "--out", out, "--block", 50), "data row 301, column 'load'")
    assert out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain.csv", "s.csv", "s.json"]
    refused(call("score", fitted[0], plain, "--out", plain), "is the file that is scored")
    refused(call("score", fitted[0], plain, "--out", tmp_path / "s.txt"), "--out is no CSV file")


def test_an_interruption_leaves_nothing_behind(call, fitted, plain, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "_lines", stop)
    done = call("score", fitted[0], plain, "--out", tmp_path / "s.csv")
    assert done.returncode == 130
    assert "as it was before" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["plain.csv"]


def test_damaged_models(call, fitted, plain, tmp_path):
    out = tmp_path / "s.csv"
    refused(call("score", tmp_path / "none", plain, "--out", out), "does not exist")

    def copy(name):
        import shutil

        return shutil.copytree(fitted[0], tmp_path / name)

    changed = copy("arrays") / "model" / "detector.safetensors"
    changed.write_bytes(changed.read_bytes()[:-8] + bytes(8))
    refused(call("score", tmp_path / "arrays", plain, "--out", out), "SHA-256 differs")
    record = copy("record") / "calibration.json"
    record.write_text(record.read_text().replace('"alpha": 0.1', '"alpha": 0.01'))
    refused(call("score", tmp_path / "record", plain, "--out", out), "calibration.json cannot be used")
    copy("other")
    oneclass.CertifiedKNN().fit(np.eye(3)).save(tmp_path / "other" / "model")
    refused(call("score", tmp_path / "other", plain, "--out", out), "it is of another model")
    assert not out.exists()


def test_fitting_again_without_calibration_forgets_the_old_one(call, plain, tmp_path):
    words = ("fit", plain, "--detector", "knn", "--out", tmp_path / "r")
    assert call(*words, "--calibrate", "0.1").returncode == 0
    assert stored.read(tmp_path / "r").threshold is not None
    assert call(*words).returncode == 0
    assert stored.read(tmp_path / "r").threshold is None
    assert call("score", tmp_path / "r", plain, "--out", tmp_path / "s.csv").returncode == 0
    assert "p_value" not in (tmp_path / "s.csv").read_text()


def test_a_model_of_the_library_scores_too(call, rows, tmp_path):
    X, _ = rows
    oneclass.CertifiedKNN().fit(X).save(tmp_path / "mine")
    np.savez(tmp_path / "d.npz", X=X)
    done = call("score", tmp_path / "mine", tmp_path / "d.npz", "--out", tmp_path / "s.csv")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(
        columns(tmp_path / "s.csv")["score"], oneclass.load(tmp_path / "mine").score_samples(X)
    )


@pytest.mark.parametrize("command", ["fit", "score", "report"])
def test_help_has_an_example_and_the_common_options(command, call):
    done = call(command, "--help")
    assert done.returncode == 0
    assert f"Example: onelip anomaly {command}" in " ".join(done.stdout.split())
    for option in ("--seed", "--device", "--out"):
        assert option in done.stdout


def test_open_table_knows_its_endings(tmp_path):
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(ValueError, match="unknown ending"):
        open_table(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match="is no file"):
        open_table(tmp_path)
