"""`onelip attack` with detectors: sandwiches, resuming, pictures, kept perturbations, and that its Python runs."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch

import onelip
from onelip.apps.arguments import join_lists
from onelip.apps.boxes import exhibits
from onelip.apps.boxes.aims import MAKERS, goal_of
from onelip.apps.boxes.assault import AssaultBoxes, assault_boxes
from onelip.apps.boxes.detections import restored, stored
from onelip.apps.boxes.tally import check
from onelip.apps.boxes.transfer import transfer
from onelip.core.errors import DataError, InputError, UnsoundError

EPS = (0.003, 0.3)


def plan(world, out, **options):
    _, model, data, score = world
    usual = {"eps": EPS, "steps": 3, "limit": 3, "pictures": 0, "score": score}
    return AssaultBoxes(model=str(model), data=str(data), out=out, **{**usual, **options})


GOALS = ("vanish:margin", "count")


@pytest.fixture(scope="module")
def done(seen_world, tmp_path_factory):
    run = plan(
        seen_world, tmp_path_factory.mktemp("attack"), goals=GOALS, keep=True, smallest=True, pictures=1
    )
    return run, assault_boxes(run)


@pytest.mark.parametrize("goal", ["fabricate", "mislabel:any", "shift", "errors", "vanish:located"])
def test_every_goal_respects_its_certificate(seen_world, tmp_path, goal):
    results = assault_boxes(
        plan(seen_world, tmp_path, limit=1, steps=2, goals=(goal,), eps=(0.1,), control=False)
    )
    assert [one["goal"] for one in results["goals"]] == [goal]
    assert {one["noise"] for one in results["attacked"]} == {None}


def row(results, goal, criterion, eps=EPS[1]):
    found = [
        r for r in results["attacked"] if (r["goal"], r["criterion"], r["eps"]) == (goal, criterion, eps)
    ]
    assert len(found) == 1
    return found[0]


def test_certified_values_are_below_attacked_ones_and_these_below_clean_ones(seen_world, done):
    _, results = done
    proven = 0
    for one in results["attacked"]:
        sign = 1 if one["higher_is_better"] else -1
        clean, attacked, certified = (one[name] for name in ("clean", "attacked", "certified"))
        assert sign * attacked <= sign * clean
        if certified is not None:
            proven += 1
            assert sign * certified <= sign * attacked + 1e-9
    assert proven
    located = any(one["criterion"] == "recall_located" for one in results["attacked"])
    assert located == (seen_world[0] == "free")


def test_attacks_do_what_noise_does_not(done):
    _, results = done
    vanish, count = row(results, "vanish:margin", "recall"), row(results, "count", "false_alarms")
    assert vanish["clean"] == 1.0  # the objects are what the detector sees
    assert vanish["attacked"] < vanish["noise"]
    assert count["attacked"] > count["noise"]
    small = row(results, "vanish:margin", "recall", EPS[0])
    assert small["attacked"] >= vanish["attacked"]


def test_what_is_proven_is_what_the_library_proves(seen_world, done):
    kind, model, data, score = seen_world
    run, results = done
    dataset = onelip.data.open_boxes(str(data), "val")
    certifier = onelip.certify.DetectionCertifier(onelip.load(model), score)
    items = [dataset[i] for i in (0, 1, 3)]
    images = torch.stack([image for image, _ in items])
    certificate = certifier(images, [target for _, target in items])
    key = "recall_located" if kind == "free" else "recall"
    mine = [row(results, run.goals[0], key, eps)["certified"] for eps in EPS]
    assert mine == pytest.approx(certificate.recall(EPS).tolist(), abs=1e-12)


def test_attacked_values_are_those_of_the_library(seen_world, done):
    """The Python that is printed: the same perturbations, scored by the library."""
    run, results = done
    assert results["python"] == run.python
    lines = run.python.replace(repr_of(GOALS, run), repr_of(GOALS[:1], run))
    space: dict[str, object] = {"onelip": onelip}
    exec(lines, space)
    (rows,) = space["scores"]
    for place, eps in enumerate(EPS):
        known = [row(results, "vanish:margin", "recall", e)["clean"] for e in EPS[:1]]
        known += [found.recall for found in rows[: place + 1]]
        assert row(results, "vanish:margin", "recall", eps)["attacked"] == pytest.approx(min(known))


def repr_of(names, run):
    goals = [goal_of(name, threshold=run.score, iou=run.iou) for name in names]
    return f"goals = [{', '.join(f'onelip.attacks.{goal!r}' for goal in goals)}]"


def test_the_smallest_perturbations_are_above_certified_radii(seen_world, done):
    run, results = done
    assert [one["goal"] for one in results["smallest"]] == list(GOALS)
    lines = [json.loads(line) for line in (run.out / "results.jsonl").read_text().splitlines()[1:]]
    found = [line["smallest"]["vanish:margin"] for line in lines if line["target"]["labels"]]
    assert found
    for one in found:
        assert float(one["radius"]) > 0
        assert (one["certified"] is None) == (seen_world[0] == "free")
        if one["certified"] is not None:
            assert 0 < one["certified"] <= float(one["radius"])
    empty = [line for line in lines if not line["target"]["labels"]]
    assert [line["smallest"]["vanish:margin"] for line in empty] == [None] * len(empty)


def test_pictures_are_drawn_and_named(done):
    run, results = done
    (one,) = results["pictures"]
    assert (run.out / one["file"]).stat().st_size > 10_000
    assert "eps 0.3" in one["caption"]


def test_kept_perturbations_do_the_same_again(seen_world, done):
    run, results = done
    found = transfer(run.out, run.model)
    assert found["images"] == 3
    for one in found["rows"]:
        if one["goal"] == "vanish:margin" and one["criterion"] == "recall" and one["eps"] == EPS[1]:
            assert one["clean"] == 1.0
            assert one["transferred"] == row(results, "vanish:margin", "recall")["attacked"]
    delta = exhibits.read(run.out, 0, 0)
    norms = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    assert delta.shape == (2, 3, 32, 48)
    assert (norms <= torch.tensor(EPS) * 1.001).all()


def test_perturbations_tried_on_another_detector(done, tmp_path):
    run, _ = done
    torch.manual_seed(5)
    other = onelip.models.create(
        "fcos", classes=2, size="XS", strides=(8, 16), widths=(8, 8, 16), depths=(1, 1, 1)
    )
    other.eval().save(tmp_path / "other", size=(32, 48))
    found = transfer(run.out, str(tmp_path / "other"))
    mine = {one["clean"] for one in found["rows"] if one["criterion"] == "recall"}
    assert len(mine) == 1
    assert max(mine) < 1.0  # it sees something else
    with pytest.raises(InputError, match="no attack on a detector"):
        transfer(tmp_path, run.model)


def test_what_was_not_kept_is_missed(one_world, tmp_path):
    run = plan(one_world, tmp_path, limit=1, steps=1, eps=(0.1,), goals=("shift",), control=False)
    assault_boxes(run)
    with pytest.raises(DataError, match="--keep"):
        transfer(tmp_path, run.model)


def test_images_that_are_done_are_not_attacked_again(one_world, tmp_path, monkeypatch):
    first = assault_boxes(plan(one_world, tmp_path, goals=("shift",), limit=1))
    monkeypatch.setattr("onelip.attacks.PGD.__call__", lambda *_a, **_k: pytest.fail("attacked again"))
    shutil.rmtree(tmp_path / "proofs")  # what is proven is proven again
    again = assault_boxes(plan(one_world, tmp_path, goals=("shift",), limit=1, resume=True))
    assert again["attacked"] == first["attacked"]
    with pytest.raises(InputError, match="cannot be resumed"):
        assault_boxes(plan(one_world, tmp_path, goals=("shift",), limit=1, resume=True, steps=4))


def test_an_attack_that_wins_stops_the_run(one_world, tmp_path, monkeypatch):
    monkeypatch.setattr("onelip.certify.boxes.front.checks.lipschitz", lambda *_: 1e-4)
    with pytest.raises(UnsoundError):
        assault_boxes(plan(one_world, tmp_path, limit=1, steps=10, goals=("vanish:margin",)))
    assert any((tmp_path / "unsound").iterdir())


def test_the_command_prints_tables_and_writes_a_report(one_world, tmp_path, call):
    _, model, data, score = one_world
    words = ["attack", model, data, "--goal", "vanish:margin@0.3", "shift", "--eps", *EPS, "--score", score]
    done = call(*words, "--limit", 1, "--steps", 2, "--pictures", 0, "--smallest", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for text in (
        "map50",
        "What the goals reached",
        "Smallest perturbations",
        "consistent on every image",
        "The same in Python",
    ):
        assert text in done.stdout
    assert (tmp_path / "report.html").is_file()
    assert json.loads((tmp_path / "results.json").read_text())["goal"] == "vanish:margin@0.3 shift"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--goal", "vanisch"], "unknown for a detector"),
        (["--goal", "shift:far"], "unknown for a detector"),
        (["--goal", "vanish@much"], "no score behind its @"),
        (["--goal", "vanish@2"], "out of range"),
        (["--goal", "shift", "shift"], "each once"),
        (["--attack", "pgd"], "--attack means nothing for a detector"),
        (["--quick"], "--quick means nothing for a detector"),
        (["--p", "inf"], "norm is not supported"),
        (["--score", "1"], "threshold"),
        (["--classes", "green"], "green"),
        (["--eps", "-1"], "eps"),
    ],
)
def test_bad_input_is_one_sentence(one_world, tmp_path, call, words, text):
    done = call("attack", *one_world[1:3], *words, "--limit", 1, "--steps", 1, "--out", tmp_path)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "option", [["--score", "0.4"], ["--no-control"], ["--smallest"], ["--classes", "car"]]
)
def test_options_of_detectors_are_refused_elsewhere(tmp_path, call, option):
    done = call("attack", "scenes", "scenes", *option, "--out", tmp_path)
    assert done.returncode == 2
    assert f"{'--control' if 'control' in option[0] else option[0]} " in done.stderr


def test_every_goal_has_its_forms():
    for kind, (_, forms) in MAKERS.items():
        for form in ("", *forms):
            goal = goal_of(f"{kind}:{form}" if form else kind, threshold=0.3, iou=0.6)
            assert (goal.threshold, goal.iou) == (0.3, 0.6)
    assert goal_of("vanish:located").support == "location"
    assert goal_of(" Mislabel:Least@0.2").threshold == 0.2


def test_goals_and_classes_are_lists():
    words = [
        "attack",
        "m",
        "d",
        "--goal",
        "vanish",
        "mislabel:least",
        "--classes",
        "wbc",
        "platelets",
        "--limit",
        "3",
    ]
    assert join_lists(words) == [
        "attack",
        "m",
        "d",
        "--goal=vanish,mislabel:least",
        "--classes=wbc,platelets",
        "--limit",
        "3",
    ]
    assert join_lists(["attack", "--goal", "vanish", "m", "d"]) == ["attack", "--goal=vanish", "m", "d"]


def test_sums_that_contradict_each_other_are_found():
    good = {"goal": "g", "criterion": "c", "eps": 0.1, "certified": 0.1, "attacked": 0.2, "clean": 0.3}
    check({**good, "higher_is_better": True})
    check({**good, "certified": None, "higher_is_better": True})
    for change in ({"certified": 0.25}, {"attacked": 0.31}):
        with pytest.raises(UnsoundError, match="contradicts itself"):
            check({**good, **change, "higher_is_better": True})
    with pytest.raises(UnsoundError):
        check({**good, "higher_is_better": False})


def test_detections_survive_their_file():
    found = {
        "boxes": torch.rand(3, 4, dtype=torch.float64),
        "scores": torch.tensor([math.pi / 4, 1 / 3, 0.1], dtype=torch.float64),
        "labels": torch.tensor([1, 0, 1]),
    }
    back = restored(json.loads(json.dumps(stored(found))))
    assert all(torch.equal(back[name], found[name]) for name in found)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    assert restored(stored(nothing))["boxes"].shape == (0, 4)
    assert len(stored(found, most=2)["labels"]) == 2
