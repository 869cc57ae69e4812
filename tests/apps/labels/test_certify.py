"""`onelip certify` with classifiers: figures are those of the library, files, resuming, interruption, report."""

from __future__ import annotations

import json
import math
import shlex
import textwrap

import pytest
import torch
from PIL import Image

import onelip
from onelip.apps.arguments import join_lists
from onelip.apps.labels import evaluate
from onelip.apps.labels.measure import joint_radius
from onelip.apps.labels.opened import class_of
from onelip.apps.labels.plan import LabelPlan
from onelip.apps.labels.summary import worst
from onelip.core.errors import InputError

EPS = (0.1, 0.4, 1.0)
LIMIT = 40


def words(model, out, *more, data="digits"):
    eps = [repr(e) for e in EPS]
    options = ["--split", "test", "--eps", *eps, "--limit", LIMIT, "--pictures", "1"]
    return ["certify", model, data, *options, *more, "--out", out]


@pytest.fixture(scope="module")
def done(digits, tmp_path_factory):
    """Folder and content of results.json."""
    out = tmp_path_factory.mktemp("out")
    plan = LabelPlan(
        model=str(digits), data="digits", split="test", out=out, eps=EPS, limit=LIMIT, pictures=1
    )
    return out, evaluate.evaluate_labels(plan)


def lines_of(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()[1:]]


def library(model, p=2):
    """The certificate of the same images, in one batch."""
    dataset = onelip.data.open_labels("digits", "test")
    chosen = [i * len(dataset) // LIMIT for i in range(LIMIT)]
    images, labels = zip(*(dataset[i] for i in chosen), strict=True)
    return onelip.certify.ClassificationCertifier(onelip.load(model), p=p)(
        torch.stack(images), torch.tensor(labels)
    )


def test_figures_are_those_of_the_library(digits, done):
    out, results = done
    certificate, lines = library(digits), lines_of(out)
    assert [r["predicted"] for r in lines] == certificate.predicted.tolist()
    assert [r["label"] for r in lines] == certificate.targets.tolist()
    assert [r["runner_up"] for r in lines] == certificate.runner_up.tolist()
    assert [r["radius"] for r in lines] == pytest.approx(certificate.radius.tolist(), abs=1e-9)
    assert [row["accuracy"] for row in results["rows"]] == certificate.accuracy(EPS).tolist()
    assert [row["stability"] for row in results["rows"]] == certificate.stability(EPS).tolist()
    assert results["clean"]["accuracy"] == certificate.clean_accuracy > 0.7
    assert results["rows"][0]["accuracy"] > results["rows"][1]["accuracy"] > 0  # not an empty comparison
    assert results["model"]["weights_sha256"] == certificate.weights_hash
    assert results["bound"] == certificate.bound.joint.to_dict()["layers"]
    assert set(certificate.assumptions) == set(results["assumptions"])
    radii = sorted(certificate.radius.tolist())
    assert results["radius"]["median"] == pytest.approx(radii[(LIMIT - 1) // 2], abs=1e-9)
    assert results["radius"]["zero"] == sum(r == 0 for r in radii)


def test_classes_add_up_to_the_whole(done):
    _, results = done
    rows = [row for row in results["by_class"] if row["images"]]
    total = sum(row["images"] for row in rows)
    assert total == LIMIT == results["data"]["images"]
    for place, row in enumerate(results["rows"]):
        mean = sum(c["images"] * c["certified"][place] for c in rows) / total
        assert mean == pytest.approx(row["accuracy"], abs=1e-12)
    mean = sum(c["images"] * c["accuracy"] for c in rows) / total
    assert mean == pytest.approx(results["clean"]["accuracy"], abs=1e-12)


def test_one_constant_for_all_pairs_never_says_more(unit):
    model = onelip.load(unit)
    for p in (1, 2, math.inf):
        certificate = library(unit, p)
        alone = joint_radius(certificate, model.classes)
        assert (alone <= certificate.radius * (1 + 1e-9) + 1e-12).all(), p
        own = certificate.bound
        margin = certificate.logits.topk(2).values
        margin = margin[:, 0] - margin[:, 1]
        factor = {1: 1.0, 2: math.sqrt(2), math.inf: 2.0}[p]
        right = certificate.predicted == certificate.targets
        expected = margin / (factor * own.joint.value)
        if p == 2:
            expected = torch.maximum(expected, margin / (2 * own.features.value * own.widest))
            assert (expected > margin / (factor * own.joint.value)).any()
        assert alone[right].tolist() == pytest.approx(expected[right].tolist(), rel=1e-3, abs=1e-6)
        assert (alone[~right] == 0).all()
        assert right.any()


def test_the_python_that_is_printed_gives_the_same_numbers(digits, tmp_path, call, capsys):
    finished = call(*words(digits, tmp_path, "--pictures", "0"))
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    printed = finished.stdout[finished.stdout.index("    import onelip") : finished.stdout.index("results: ")]
    exec(textwrap.dedent(printed), {})
    clean, values = capsys.readouterr().out.strip().split(" ", 1)
    assert float(clean) == results["clean"]["accuracy"]
    assert json.loads(values) == [row["accuracy"] for row in results["rows"]]
    assert not list(tmp_path.glob("pictures/*"))
    assert results["pictures"] == results["worst"]["pictures"] == []


def test_the_command_that_is_recorded_does_the_same_again(done, tmp_path, call):
    _, first = done
    command = join_lists(shlex.split(first["command"])[1:])
    finished = call(*command[:-1], tmp_path, "--pictures", "0")
    assert finished.returncode == 0, finished.stderr
    again = json.loads((tmp_path / "results.json").read_text())
    for section in ("rows", "curves", "by_class", "radius", "clean"):
        assert again[section] == first[section]


def test_an_interruption_keeps_what_is_done_and_resuming_does_the_rest(
    digits, done, tmp_path, call, monkeypatch
):
    _, whole = done
    true, seen = evaluate.measure, []

    def stop(opened, indices):
        seen.append(indices)
        if len(seen) > 1:
            raise KeyboardInterrupt
        return true(opened, indices)

    monkeypatch.setattr(evaluate, "measure", stop)
    finished = call(*words(digits, tmp_path))
    assert finished.returncode == 130
    assert "interrupted" in finished.stderr
    half = json.loads((tmp_path / "results.json").read_text())
    assert half["complete"] is False
    assert half["data"]["images"] == 32
    assert "interrupted after" in (tmp_path / "report.html").read_text()
    kept = (tmp_path / "results.jsonl").read_text()
    (tmp_path / "results.jsonl").write_text(kept + '{"index": 3, "torn')
    seen.clear()
    monkeypatch.setattr(evaluate, "measure", lambda *a: seen.append(a) or true(*a))
    finished = call(*words(digits, tmp_path, "--resume"))
    assert finished.returncode == 0, finished.stderr
    assert len(seen) == 1  # the second batch alone
    after = json.loads((tmp_path / "results.json").read_text())
    for section in ("rows", "curves", "by_class", "radius", "clean"):
        assert after[section] == whole[section]
    assert (tmp_path / "results.jsonl").read_text().startswith(kept)
    other = call(*words(digits, tmp_path, "--resume", "--p", "inf"))
    assert other.returncode == 2
    assert "cannot be resumed" in other.stderr


def test_pictures_and_report(done, tmp_path, call):
    out, results = done
    assert len(results["pictures"]) == 1
    low = worst(lines_of(out), 3)
    assert [r["index"] for r in results["worst"]["rows"]] == [r["index"] for r in low]
    assert low[0]["radius"] == min(r["radius"] for r in lines_of(out))
    assert len(results["worst"]["pictures"]) == 3
    for picture in (*results["pictures"], *results["worst"]["pictures"]):
        assert (out / picture["file"]).is_file()
    finished = call("report", out, "--out", tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "Certified classes" in finished.stdout
    page = (tmp_path / "report.html").read_text()
    assert "<h1>Certified classification</h1>" in page
    assert page.count("data:image/png;base64") == 4
    for text in (
        "accuracy, one constant for all pairs",
        "How far until a right answer changes",
        "nearest class",
    ):
        assert text in page
    assert "pixel accuracy" not in page
    assert "IoU" not in page
    assert "All pixels" not in page


def test_pictures_of_several_sizes_and_names_of_classes(tmp_path, unit, call):
    """A folder with one subfolder a class; images of one size share a batch."""
    draw = torch.Generator().manual_seed(0)
    for label in range(10):
        for number in range(2):
            side = 8 + 4 * (number + label % 2)
            pixels = torch.randint(256, (side, side), generator=draw, dtype=torch.uint8).numpy()
            target = tmp_path / "data" / "test" / f"class{label}" / f"{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(target)
    out = tmp_path / "out"
    finished = call(*words(unit, out, "--limit", "0", "--pictures", "0", data=tmp_path / "data"))
    assert finished.returncode == 0, finished.stderr
    results = json.loads((out / "results.json").read_text())
    assert results["data"]["sizes"] == 3
    assert [c["class"] for c in results["by_class"]] == [f"class{label}" for label in range(10)]
    dataset = onelip.data.open_labels(tmp_path / "data", "test", channels=1)
    certifier = onelip.certify.ClassificationCertifier(onelip.load(unit))
    for record in lines_of(out):
        image, label = dataset[record["index"]]
        found = certifier(image[None], torch.tensor([label]))
        assert record["size"] == list(image.shape)
        assert record["stable_radius"] == pytest.approx(found.stable_radius.item(), abs=1e-8)
    assert "range(0, count, 1)" in results["python"]


def test_classes_by_name_before_number():
    assert class_of("1", ("1", "0"), "--to") == 0
    for text in ("2", "-1", "cat", ""):
        with pytest.raises(InputError, match=r"--to is no class .*0..1"):
            class_of(text, ("dog", "bird"), "--to")
