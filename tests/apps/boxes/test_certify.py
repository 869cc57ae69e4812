"""`onelip certify` with detectors: tables, files, resuming, and that its figures are those of the library."""

from __future__ import annotations

import json
import math
import shlex
import textwrap

import pytest
import torch

import onelip
from onelip.apps.arguments import join_lists
from onelip.apps.boxes.evaluate import evaluate_boxes
from onelip.apps.boxes.gallery import notes
from onelip.apps.boxes.plan import BoxPlan
from onelip.apps.boxes.summary import worst
from onelip.report.detection import shown

SIZE, EPS = (32, 48), (0.0005, 0.003, 0.02)


@pytest.fixture(scope="module")
def bounded(build_world, tmp_path_factory):
    """A detector with Lipschitz boxes, the objects that it sees, and a threshold."""
    return build_world(tmp_path_factory.mktemp("lipschitz"), "lipschitz", 4)


@pytest.fixture(scope="module", params=["lipschitz", "free"])
def world(request, bounded, build_world, tmp_path_factory):
    """The same for both kinds of regression."""
    if request.param == "lipschitz":
        return bounded
    return build_world(tmp_path_factory.mktemp("free"), "free", 4)


def words(world, out, *more):
    _, model, data, score = world
    eps = [repr(e) for e in EPS]
    return ["certify", model, data, "--eps", *eps, "--score", score, *more, "--out", out]


@pytest.fixture(scope="module")
def done(world, tmp_path_factory):
    """The results of a run over all images."""
    _, model, data, score = world
    out = tmp_path_factory.mktemp("out")
    plan = BoxPlan(model=str(model), data=str(data), out=out, eps=EPS, pictures=1, score=score)
    return plan, evaluate_boxes(plan)


def library(world, eps=EPS):
    """Certified curves of the same images, by the library alone."""
    _, folder, data, score = world
    dataset = onelip.data.open_boxes(str(data), "val")
    certifier = onelip.certify.DetectionCertifier(onelip.load(folder), score)
    thresholds = [*onelip.certify.boxes.THRESHOLDS, score]
    curves = onelip.certify.DetectionCurves(list(eps), thresholds)
    certificates = []
    for image, target in dataset:
        certificates.append(certifier(image[None], [target]))
        curves.update(certificates[-1])
    return curves.compute(), certificates


def test_figures_are_those_of_the_library(world, done):
    (kind, _, _, score), (_, results) = world, done
    found, certificates = library(world)
    at = found.at(score)
    key = "recall" if kind == "lipschitz" else "recall_located"
    assert [row[key] for row in results["rows"]] == found.recall[at].tolist()
    for k in (0, 1):
        assert [row[f"{key}@{k}"] for row in results["rows"]] == found.recall_allowed[k, at].tolist()
    silent = torch.cat([c.silent_radius for c in certificates])
    assert [row["silent"] for row in results["rows"]] == [(silent > e).double().mean().item() for e in EPS]
    radii = [r for c in certificates for r in c.vanish_radius[0].tolist()]
    kept = [float(o["vanish_radius"]) for line in read_lines(done[0].out) for o in line["objects"]]
    assert kept == radii
    assert results["objects"] == len(radii) > 3
    assert sum(row["objects"] for row in results["by_class"]) == len(radii)
    assert any(row[key] > 0 for row in results["rows"])  # nothing of this is empty
    assert results["rows"][0][key] > results["rows"][-1][key]


def read_lines(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()[1:]]


def test_boxes_have_precision_where_they_are_bounded(world, done):
    (kind, _, _, score), (_, results) = world, done
    criteria = {c["key"]: c for c in results["criteria"]}
    found, _ = library(world)
    if kind == "free":
        for key in ("recall", "precision", "map50"):
            assert all(row[key] is None for row in results["rows"])
            assert "free regression" in criteria[key]["why"]
            assert criteria[key]["clean"] > 0.5
        return
    at = found.at(score)
    assert [row["precision"] for row in results["rows"]] == pytest.approx(found.precision[at].tolist())
    assert [row["map50"] for row in results["rows"]] == pytest.approx(found.average_precision_101.tolist())
    assert [row["ap"] for row in results["rows"]] == pytest.approx(found.average_precision.tolist())
    assert results["rows"][0]["precision"] > 0
    alarms = torch.stack([sheet.alarms for sheet in found.sheets]).nan_to_num(100.0).clamp_max(100.0)
    assert [row["false_alarms"] for row in results["rows"]] == pytest.approx(alarms.mean(0).tolist())


def test_certified_values_are_on_their_side_of_the_clean_ones(done):
    _, results = done
    for criterion in results["criteria"]:
        values = [row[criterion["key"]] for row in results["rows"]]
        known = [v for v in values if v is not None]
        sign = 1 if criterion["higher_is_better"] else -1
        assert all(sign * v <= sign * criterion["clean"] + 1e-12 for v in known), criterion["key"]
        assert known == sorted(known, reverse=sign > 0)


def test_best_thresholds_are_no_worse_than_the_asked_one(world, done):
    _, results = done
    key = "recall" if world[0] == "lipschitz" else "recall_located"
    for row in results["best"]:
        own = next(r for r in results["rows"] if r["eps"] == row["eps"])[f"{key}@{row['allowed']}"]
        assert row["recall"] >= own
        assert (row["score"] is None) == (row["recall"] == 0)


def test_the_command_prints_tables_and_writes_a_page(world, tmp_path, call, done):
    finished = call(*words(world, tmp_path, "--pictures", "2"))
    assert finished.returncode == 0, finished.stderr
    for text in ("Largest certified recall", "Certified radius of an object", "red", "clean mAP@50"):
        assert text in finished.stdout
    assert ("not certified: recall, precision" in finished.stdout) == (world[0] == "free")
    page = (tmp_path / "report.html").read_text()
    for text in (
        "<title>Certified detection",
        "Which threshold finds the most",
        "Certificate sheets",
        "2.png",
    ):
        assert text in page
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["rows"] == done[1]["rows"]
    assert all((tmp_path / sheet["file"]).is_file() for sheet in results["sheets"])
    assert page.count("data:image/png") == len(results["sheets"]) >= 2
    if world[0] == "free":
        return
    again = call(*join_lists(shlex.split(results["command"])[1:])[:-1], tmp_path / "again", "--pictures", "0")
    assert again.returncode == 0, again.stderr
    same = json.loads((tmp_path / "again" / "results.json").read_text())
    for section in ("rows", "curves", "best", "by_class", "clean"):
        assert same[section] == results[section]


def test_the_python_gives_the_same_numbers(world, done, capsys):
    plan, results = done
    exec("import onelip\n" + plan.python, {})
    printed = capsys.readouterr().out
    key = "recall" if world[0] == "lipschitz" else "recall_located"
    assert json.loads(printed[: printed.index("]") + 1]) == [row[key] for row in results["rows"]]
    assert plan.python == results["python"]
    assert textwrap.dedent(plan.python) == plan.python


def test_resume_sums_up_without_computing_again(bounded, tmp_path, call, monkeypatch):
    assert call(*words(bounded, tmp_path, "--limit", "3", "--pictures", "0")).returncode == 0
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    before = json.loads((tmp_path / "results.json").read_text())
    (tmp_path / "results.jsonl").write_text("\n".join(lines[:3]) + '\n{"index": 3, "torn')
    computed = []
    original = onelip.certify.DetectionCertifier.__call__

    def counted(self, images, targets=None):
        computed.append(len(images))
        return original(self, images, targets)

    monkeypatch.setattr(onelip.certify.DetectionCertifier, "__call__", counted)
    finished = call(*words(bounded, tmp_path, "--limit", "3", "--pictures", "0", "--resume"))
    assert finished.returncode == 0, finished.stderr
    assert computed == [1]
    after = json.loads((tmp_path / "results.json").read_text())
    assert after["rows"] == before["rows"]
    assert after["best"] == before["best"]
    other = call(*words(bounded, tmp_path, "--limit", "3", "--resume", "--iou", "0.6"))
    assert other.returncode == 2
    assert "cannot be resumed" in other.stderr


def test_interrupted_runs_are_summed_up(bounded, tmp_path, monkeypatch):
    from onelip.apps.boxes import evaluate

    _, model, data, score = bounded
    plan = BoxPlan(model=str(model), data=str(data), out=tmp_path, eps=EPS, pictures=0, score=score)
    original, seen = evaluate.measure, []

    def stopped(*given):
        seen.append(given)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(evaluate, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate_boxes(plan)
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["complete"], results["data"]["images"], results["data"]["total"]) == (False, 2, 4)
    assert "interrupted after 2 of 4" in onelip.report.render([onelip.report.read(tmp_path)])


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--criteria", "miou"], "--criteria means nothing for a detector"),
        (["--threshold", "miou=0.5"], "--threshold means nothing for a detector"),
        (["--per-class"], "--per-class means nothing for a detector"),
        (["--score", "1.5"], "threshold"),
        (["--iou", "0"], "iou"),
        (["--p", "inf"], "p"),
        (["--classes", "red"], "fit"),
    ],
)
def test_what_means_nothing_is_refused(bounded, tmp_path, call, more, text):
    _, model, data, _ = bounded
    finished = call("certify", model, data, *more, "--out", tmp_path)
    assert finished.returncode == 2, finished.stdout
    assert text in finished.stderr
    assert not (tmp_path / "results.json").exists()


def test_dense_models_refuse_options_of_detectors(tmp_path, call):
    onelip.models.create("fcn", classes=8, size="XS").eval().save(tmp_path / "fcn", size=(32, 48))
    finished = call("certify", tmp_path / "fcn", "scenes", "--iou", "0.5", "--out", tmp_path)
    assert finished.returncode == 2
    assert "--iou means nothing for a segmentation model" in finished.stderr


def test_an_unconstrained_detector_is_certified_with_nothing(bounded, tmp_path):
    _, _, data, _ = bounded
    torch.manual_seed(0)
    model = onelip.models.create("fcos", classes=2, size="XS", constraint=None, strides=(8, 16)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    model.save(tmp_path / "twin", size=SIZE)
    plan = BoxPlan(
        model=str(tmp_path / "twin"), data=str(data), out=tmp_path, eps=(0.1,), limit=2, pictures=1
    )
    results = evaluate_boxes(plan)
    assert results["lipschitz"] > 1e6
    (row,) = results["rows"]
    assert (row["recall_located"], row["recall_located@0"], row["silent"]) == (0.0, 0.0, 0.0)
    assert "Certificate sheets" in onelip.report.render([onelip.report.read(tmp_path)])


def test_least_certified_images_by_hand():
    plan = BoxPlan(model="a", data="b", out=None, eps=(0.1, 0.2, 0.3))
    made = [[0.5, "inf"], [0.2, 0.3], [], [None, 0.9], [0.1, 0.25]]
    done = [
        {"index": i, "id": str(i), "objects": [{"vanish_radius": r} for r in radii]}
        for i, radii in enumerate(made)
    ]
    rows = worst(plan, done, 3)  # a radius of 0.2 is not beyond the middle eps
    assert [(r["index"], r["certified"]) for r in rows] == [(3, 1), (4, 1), (1, 1)]
    assert {r["eps"] for r in rows} == {0.2}


def test_notes_say_what_is_missing():
    kinds = [(True, 0.5), (True, 0.0), (False, 0.0), (True, None)]
    objects = [{"found": found, "vanish_radius": radius} for found, radius in kinds]
    record = {"cap_radius": "inf", "objects": objects, "detections": 3}
    lines = notes(record, [0.1], free=True)
    assert [line.split(":")[0] for line in lines] == [
        "where boxes lie",
        "2 of the objects that are found",
        "1 of 4 objects",
    ]
    assert notes({**record, "objects": objects[:1]}, [0.1], free=False) == []


def test_shown_values_err_on_the_safe_side():
    low, high = {"key": "recall"}, {"key": "false_alarms", "higher_is_better": False}
    assert (shown(0.33339, low), shown(0.33331, low, attacked=True)) == ("33.33 %", "33.34 %")
    assert (shown(1.001, high), shown(1.009, high, attacked=True), shown(None, high)) == ("1.01", "1.00", "-")


def test_info_speaks_of_the_detector(world, tmp_path, call):
    kind, folder, _, _ = world
    finished = call("info", folder, "--size", "32x48", "--out", tmp_path)
    assert finished.returncode == 0, finished.stderr
    found = json.loads((tmp_path / "results.json").read_text())["detector"]
    assert found["locations"] == [24, 6]
    bound = onelip.lipschitz(onelip.load(folder), SIZE).value
    assert found["stays_above"] == pytest.approx(0.5 * math.log(9.0) / bound)
    assert "24 of stride 8, 6 of stride 16" in finished.stdout
    if kind == "lipschitz":
        assert found["pixels_per_eps"] == pytest.approx([0.2 * bound * 8, 0.2 * bound * 16])
    else:
        assert found["pixels_per_eps"] is None
