"""`onelip attack` with classifiers: attacked values between certified and clean ones, smallest norms, resuming."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

import onelip
from onelip.apps.labels import assault
from onelip.apps.labels.aims import aim_of
from onelip.apps.labels.assault import AssaultLabels, Siege, assault_labels
from onelip.apps.labels.opened import open_labels_run
from onelip.apps.labels.tally import rows, survives
from onelip.core.errors import InputError, UnsoundError

EPS = (0.2, 0.5, 1.0)
GOALS = ("accuracy", "stability", "to:3")


@pytest.fixture(scope="module")
def done(digits, tmp_path_factory):
    """The run and its results."""
    run = AssaultLabels(
        model=str(digits),
        data="digits",
        split="test",
        out=tmp_path_factory.mktemp("out"),
        eps=EPS,
        limit=18,
        pictures=1,
        goals=GOALS,
        attack="pgd",
        steps=8,
        smallest=True,
    )
    return run, assault_labels(run)


def lines_of(out):
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()[1:]]
    return list({record["index"]: record for record in lines}.values())  # what was done again counts once


def test_attacked_values_lie_between_certified_and_clean_ones(done):
    _, results = done
    assert [(r["goal"], r["eps"]) for r in results["attacked"]] == [(g, e) for g in GOALS for e in EPS]
    for goal in GOALS:
        mine = [r for r in results["attacked"] if r["goal"] == goal]
        for row in mine:
            assert 0 <= row["certified"] <= row["attacked"] <= row["clean"] <= 1
        attacked = [row["attacked"] for row in mine]
        assert attacked == sorted(attacked, reverse=True)
        assert mine[-1]["attacked"] < mine[-1]["clean"]  # the attack does something
        assert mine[0]["certified"] > 0
    first = results["attacked"][1]
    assert first["noise"] > first["attacked"] + 0.1  # and noise of the same norm does not
    assert results["largest_gain"] <= results["lipschitz"]
    assert results["sound"] is True


def test_rows_count_the_images(digits, done):
    run, results = done
    lines = lines_of(run.out)
    certifier = onelip.certify.ClassificationCertifier(onelip.load(digits))
    dataset = onelip.data.open_labels("digits", "test")
    images, labels = zip(*(dataset[r["index"]] for r in lines), strict=True)
    certificate = certifier(torch.stack(images), torch.tensor(labels))
    others = certificate.targets != 3
    by_goal = {goal: [r for r in results["attacked"] if r["goal"] == goal] for goal in GOALS}
    for place, eps in enumerate(EPS):
        assert by_goal["accuracy"][place]["certified"] == certificate.accuracy([eps]).item()
        assert by_goal["stability"][place]["certified"] == certificate.stability([eps]).item()
        far = (certificate.targeted[others][:, 3] > eps).double().mean().item()
        assert by_goal["to:3"][place]["certified"] == pytest.approx(far)
    assert by_goal["to:3"][0]["images"] == int(others.sum()) < len(lines) == by_goal["accuracy"][0]["images"]


def test_smallest_perturbations_lie_above_the_certificate(done):
    run, results = done
    for goal, told in zip(GOALS, results["smallest"], strict=True):
        found = [r["smallest"][goal] for r in lines_of(run.out) if r["smallest"][goal] is not None]
        assert told["images"] == len(found) > 10
        reached = [f for f in found if f["radius"] != "inf"]
        assert told["reached"] == len(reached) > 5
        assert all(f["radius"] >= f["certified"] for f in reached)
        ratios = sorted(f["radius"] / f["certified"] for f in reached if f["certified"] > 0)
        assert told["gap"][1] == pytest.approx(ratios[(len(ratios) - 1) * 2 // 4])
        assert told["gap"][1] < 3
    # Images that are wrong already need none.
    wrong = [r for r in lines_of(run.out) if r["predicted"] != r["label"]]
    assert all(r["smallest"]["accuracy"] is None and r["smallest"]["stability"] is not None for r in wrong)


def test_an_image_is_lost_to_any_way_that_was_found():
    aim = aim_of("accuracy", ("a", "b"))
    record = {"label": 0, "predicted": 0, "goals": {"accuracy": {"predicted": [1, 0]}}, "smallest": None}
    assert not survives(aim, record, 0, 0.1)
    assert not survives(aim, record, 1, 0.2)  # the smaller ball lies in the larger one
    record["goals"]["accuracy"]["predicted"] = [0, 0]
    assert survives(aim, record, 1, 0.2)
    record["smallest"] = {"accuracy": {"radius": 0.15, "certified": 0.1}}
    assert survives(aim, record, 0, 0.1)
    assert not survives(aim, record, 1, 0.2)


def test_sums_that_contradict_the_certificate_are_refused(done):
    run, _ = done
    lines = lines_of(run.out)
    for record in lines:
        record["certified"]["accuracy"] = 10.0
    with pytest.raises(UnsoundError, match="contradicts itself under accuracy"):
        list(rows(run, aim_of("accuracy", [str(k) for k in range(10)]), lines))


def test_a_certificate_that_says_too_much_is_found_out(done):
    """Every result is compared with its certificate: constants a tenth as large are beaten by the attack."""
    run, _ = done
    opened = open_labels_run(run)
    siege = Siege.of(run, opened)
    true = opened.certifier

    class Liar:
        model, device = true.model, true.device

        def __call__(self, *batch):
            certificate = true(*batch)
            return dataclasses.replace(certificate, constants=certificate.constants / 10)

    lying = dataclasses.replace(siege, opened=dataclasses.replace(opened, certifier=Liar()))
    with pytest.raises(UnsoundError, match="an attack beats the certificate"):
        lying.batch(opened.chosen[:4], 0, set())
    siege.batch(opened.chosen[:2], 0, set())


def test_resuming_attacks_nothing_again_and_draws_what_lacks(done, monkeypatch):
    run, results = done
    (picture,) = results["pictures"]
    seen, true = [], Siege.batch
    monkeypatch.setattr(assault.Siege, "batch", lambda *a: seen.append(a[1]) or true(*a))
    again = assault_labels(dataclasses.replace(run, resume=True))
    assert not seen
    assert again["attacked"] == results["attacked"]
    (run.out / picture["file"]).unlink()
    once_more = assault_labels(dataclasses.replace(run, resume=True))
    assert len(seen) == 1
    assert once_more["attacked"] == results["attacked"]  # the same attack finds the same
    assert (run.out / picture["file"]).is_file()


def test_the_python_that_is_recorded_reaches_the_same(done, capsys):
    run, results = done
    exec("import onelip\n" + results["python"], {})
    shares = [json.loads(line.split(" ", 1)[1]) for line in capsys.readouterr().out.strip().splitlines()]
    lines = lines_of(run.out)
    for goal, found in zip(GOALS, shares, strict=True):
        kept = [[r["goals"][goal]["reached"][place] for r in lines] for place in range(len(EPS))]
        assert found == pytest.approx([sum(row) / len(row) for row in kept])


def test_report_joins_certificates_and_attacks(digits, done, tmp_path, call):
    run, _ = done
    options = ["--split", "test", "--limit", "18", "--eps", "0.2,0.5", "--pictures", "0"]
    assert call("certify", digits, "digits", *options, "--out", tmp_path / "c").returncode == 0
    finished = call("report", tmp_path / "c", run.out, "--out", tmp_path / "both")
    assert finished.returncode == 0, finished.stderr
    page = (tmp_path / "both" / "report.html").read_text()
    assert page.count("How to reproduce") == 1
    assert page.count("<h2>Certified at each eps</h2>") == page.count("<h2>Certified and attacked</h2>") == 1
    assert "not taken for 3" in page
    assert "Crosses: random noise." in page
    assert "Smallest perturbations" in page
    assert "accuracy attacked with eps 0.2" in page


def test_goals_and_options_that_mean_nothing(digits, tmp_path, call):
    start = ["attack", digits, "digits", "--limit", "1", "--out", tmp_path]
    cases = (
        (["--goal", "vanish"], "--goal is unknown for a classifier"),
        (["--goal", "accuracy:3"], "--goal is unknown for a classifier"),
        (["--goal", "to:10"], "0..9"),
        (["--goal", "to:cat"], "is no class of the model"),
        (["--goal", "to:3", "to:3"], "each once"),
        (["--attack", "erase"], "--attack is unknown for a classifier"),
        (["--keep"], "--keep means nothing for a classifier"),
        (["--quick"], "--quick means nothing for a classifier"),
        (["--score", "0.3"], "--score means nothing for a classifier"),
    )
    for options, text in cases:
        finished = call(*start, *options)
        assert finished.returncode == 2, options
        assert text in finished.stderr, finished.stderr
        assert len(finished.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("results.json*"))


def test_goals_by_name():
    names = ("cat", "dog")
    assert aim_of("to:dog", names).criterion == "not:dog"
    assert aim_of("to:dog", names).keeps({"label": 1, "predicted": 0}, 0) is None
    assert aim_of("stability", names).keeps({"label": 1, "predicted": 0}, 0) is True
    assert aim_of("accuracy", names).keeps({"label": 1, "predicted": 0}, 0) is False
    with pytest.raises(InputError, match="unknown for a classifier"):
        aim_of("to", names)
