"""`onelip attack`: a table that never contradicts the certificates, resumable, and what it prints is runnable."""

import json

import pytest

import onelip
from onelip.apps.assault import Assault, assault
from onelip.core.errors import InputError, UnsoundError

SMALL = {"split": "test", "size": (32, 48), "limit": 2, "steps": 3, "pictures": 1, "eps": (0.1, 0.4)}


def run(tmp_path, **options):
    return Assault(model="scenes", data="scenes", out=tmp_path, **{**SMALL, **options})


def test_the_command_prints_a_sandwich_and_writes_results_and_a_report(tmp_path, call):
    words = (
        "attack scenes scenes --split test --size 32x48 --limit 2 --steps 3 --pictures 1 --attack knapsack"
    )
    done = call(*words.split(), "--eps", "0.1", "0.4", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "certified" in done.stdout
    assert "The same in Python:" in done.stdout
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["complete"] is True
    assert [row["eps"] for row in results["attacked"]] == [0.1, 0.4]
    for row in results["attacked"]:
        assert row["certified"] <= row["attacked"] < row["clean"]
        assert row["average"] == "micro"
    assert results["largest_gain"] <= results["lipschitz"]
    assert (tmp_path / results["pictures"][0]["file"]).is_file()
    page = (tmp_path / "report.html").read_text()
    assert "attacked" in page
    space: dict[str, object] = {"onelip": onelip}
    exec(results["python"], space)
    value = ((space["weight"][:, None] * space["value"]).sum(0) / space["weight"].sum()).tolist()
    assert value == pytest.approx([row["attacked"] for row in results["attacked"]], abs=1e-12)


@pytest.mark.parametrize("goal", ["miou", "vanish:1", "fabricate:2", "stability", "fnr:1"])
def test_every_goal_is_attacked_and_respects_its_certificate(tmp_path, goal):
    results = assault(run(tmp_path, goal=goal, attack="segpgd", limit=1, pictures=0))
    for row in results["attacked"]:
        sign = 1 if row["higher_is_better"] else -1
        assert sign * row["certified"] <= sign * row["attacked"] <= sign * row["clean"] + 1e-12


def test_images_that_are_done_are_not_attacked_again(tmp_path, monkeypatch):
    first = assault(run(tmp_path, attack="pgd", limit=1, pictures=0))
    monkeypatch.setattr("onelip.attacks.PGD.__call__", lambda *_a, **_k: pytest.fail("attacked again"))
    again = assault(run(tmp_path, attack="pgd", limit=1, pictures=0, resume=True))
    assert again["attacked"] == first["attacked"]
    with pytest.raises(InputError, match="cannot be resumed"):
        assault(run(tmp_path, attack="pgd", limit=1, pictures=0, resume=True, steps=4))


def test_an_attack_that_wins_stops_the_run_and_saves_the_image(tmp_path, monkeypatch):
    monkeypatch.setattr("onelip.certify.dense.Certifier._constant", lambda *_: 0.05)
    with pytest.raises(UnsoundError, match=r"unsound\.npz"):
        assault(run(tmp_path, attack="knapsack", limit=1, pictures=0))
    assert (tmp_path / "unsound" / "unsound.npz").is_file()
    assert json.loads((tmp_path / "unsound" / "unsound.json").read_text())["lipschitz"] == 0.05


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--attack", "pdg"], "--attack is unknown"),
        (["--goal", "acuracy"], "unknown criterion"),
        (["--goal", "vanish:99"], "99"),
        (["--eps", "-1"], "eps"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, call, words, text):
    done = call("attack", "scenes", "scenes", "--size", "32x48", *words, "--out", tmp_path)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr
