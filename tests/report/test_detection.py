"""Reports of detectors: certificates, attacks and comparisons of one detector on one page, each number on its side."""

from __future__ import annotations

import base64
import json
import re

import pytest

from onelip import report
from onelip.report.lines import lines
from onelip.report.merge import merge

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SPREAD = {
    "mean_of_finite": 0.2,
    "lower_quartile": 0.11119,
    "median": 0.2,
    "upper_quartile": "inf",
    "zero": 1,
    "infinite": 1,
    "count": 3,
    "undefined": 1,
}


def head(kind, **changes):
    return {
        "kind": kind,
        "complete": True,
        "date": "2026-01-02",
        "seed": 0,
        "command": f"onelip {kind} a b",
        "python": "pass",
        "versions": {},
        "machine": {},
        "model": {"name": "eyes", "path": "a", "weights_sha256": "abc"},
        "data": {"name": "d", "split": "val", "images": 2, "total": 2, "size": [8, 8], "value_count": 192},
        "p": 2,
        "assumptions": ["exact arithmetic"],
        "task": "detection",
        "regression": "lipschitz",
        "threshold": 0.3,
        "iou": 0.5,
        **changes,
    }


def criterion(key, **changes):
    facts = {"key": key, "higher_is_better": True, "unit": "share", "why": "", "clean": 0.83339}
    return {**facts, **changes}


def certified(**changes):
    sheet = {
        "file": "pictures/0.png",
        "caption": "what is seen",
        "index": 0,
        "id": "first-image",
        "least": True,
        "silent_radius": 0.01239,
        "alarm_radius": "inf",
        "presence_radius": {"ship": 0.5, "buoy": 0.0},
        "cap_radius": "inf",
        "objects": [
            {
                "class": "ship",
                "found": True,
                "vanish_radius": 0.77779,
                "label_radius": "inf",
                "mislabel_radius": None,
            },
            {
                "class": "buoy",
                "found": False,
                "vanish_radius": 0.0,
                "label_radius": 0.0,
                "mislabel_radius": 0.0,
            },
        ],
        "detections": 1,
        "notes": ["1 of 2 objects: missed <without> any attack"],
    }
    radii = dict.fromkeys(("vanish", "label", "mislabel"), SPREAD)
    alarms = criterion("false_alarms", clean=0.5, unit="count", higher_is_better=False)
    curve = {"criterion": "recall", "key": "recall", "average": "micro", "eps": [0.0, 0.1], "clean": 0.83339}
    return head("certify") | {
        "lipschitz": 2.0,
        "rows": [
            {
                "eps": 0.1,
                "rms": 0.1,
                "rms_255": 1.0,
                "recall": 0.41669,
                "precision": None,
                "false_alarms": 2.001,
            }
        ],
        "criteria": [criterion("recall"), criterion("precision", why="no <order>"), alarms],
        "curves": [{**curve, "values": [0.8, 0.41669], "count": 2, "undefined": 0, "p": "2"}],
        "clean": {"map50": 0.91119, "map50_95": 0.5, "iou": 0.5},
        "objects": 3,
        "best": [{"allowed": 0, "eps": 0.1, "recall": 0.25, "score": 0.425}],
        "by_class": [{"class": name, "objects": 2, "found": 1, **radii} for name in ("ship", "buoy")],
        "silent": SPREAD,
        "capped": [1],
        "seconds_per_image": 0.1,
        "seconds_forward": 0.05,
        "worst": {"rows": [], "pictures": []},
        "sheets": [sheet],
        **changes,
    }


def attacked(**changes):
    rows = [
        {"goal": goal, "eps": 0.1, "criterion": key, "clean": clean, "attacked": value, "noise": clean,
         "certified": proven, "higher_is_better": key != "false_alarms", "average": "micro"}
        for goal, key, clean, value, proven in (
            ("vanish", "recall", 0.83339, 0.66661, 0.41669),
            ("count", "recall", 0.83339, 0.50001, 0.41669),
            ("count", "false_alarms", 0.5, 1.509, 2.001),
        )
    ]  # fmt: skip
    return head("attack") | {"attacked": rows, "lipschitz": 2.0, **changes}


def store(folder, content):
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "0.png").write_bytes(PIXEL)
    (folder / "results.json").write_text(json.dumps(content))
    return folder


def cells(page, first):
    """The cells of the first row that begins with a text."""
    row = next(r for r in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL) if re.search(rf">{first}", r))
    return [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]


@pytest.fixture
def page(tmp_path):
    return report.write([store(tmp_path / "a", certified())]).read_text()


def test_certified_values_are_rounded_to_their_safe_side(page):
    assert "<h1>Certified detection</h1>" in page
    assert cells(page, "recall</td>")[:3] == ["recall", "83.33 %", "41.66 %"]
    assert cells(page, "precision")[1:] == ["83.33 %", "-", "no &lt;order&gt;"]
    assert cells(page, "false detections an image")[1:3] == ["0.50", "2.01"]
    assert cells(page, "images counted as lost")[2] == "1"
    assert cells(page, "0: recall, certified")[1] == "25.00 %"
    assert cells(page, "with scores above")[1] == "0.425"
    assert cells(page, "ship</td>")[1:8] == ["found", "0.1111", "0.2", "inf", "2", "1", "1"]


def test_a_sheet_says_everything_about_its_image(page):
    assert "first-image &middot; among the least certified" in page
    assert cells(page, "1: ship") == ["1: ship", "found", "0.7777", "inf", "-"]
    assert cells(page, "2: buoy") == ["2: buoy", "missed", "0", "0", "0"]
    assert "missed &lt;without&gt; any attack" in page
    assert "Something fires for ship below eps 0.5" in page
    assert "fires for buoy" not in page
    assert page.count(base64.b64encode(PIXEL).decode()) == 1


def test_one_class_cannot_be_taken_for_another(tmp_path):
    content = certified()
    content["by_class"] = content["by_class"][:1]
    page = report.write([store(tmp_path / "a", content)]).read_text()
    assert "not taken for" not in page
    assert cells(page, "1: ship") == ["1: ship", "found", "0.7777"]


def test_free_boxes_are_spoken_of_as_located(tmp_path):
    content = certified(regression="free", criteria=[criterion("recall_located")])
    content["rows"][0]["recall_located"] = 0.5
    page = report.write([store(tmp_path / "a", content)]).read_text()
    assert "nothing about them is certified" in page
    assert cells(page, "objects located")[:3] == ["objects located", "83.33 %", "50.00 %"]


def test_certificates_and_attacks_of_one_detector_are_one_run(tmp_path):
    folders = [store(tmp_path / "a", certified()), store(tmp_path / "b", attacked())]
    results = [report.read(folder) for folder in folders]
    (run,) = merge(results)
    assert run["kinds"] == {"certify", "attack"}
    assert len(run["attacked"]) == 3  # two goals of one criterion are two rows
    page = report.render(results)
    assert cells(page, "vanish")[1:7] == ["recall", "0.1", "41.66 %", "66.67 %", "83.33 %", "83.33 %"]
    alarms = next(
        r for r in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if "count</td>" in r and "false det" in r
    )
    assert list(re.findall(r">([\d.]+)</td>", alarms)) == [
        "0.1",
        "2.01",
        "1.50",
        "0.50",
        "0.50",
        "0.49",
    ]


def test_the_picture_has_shares_alone_and_the_worst_of_all_goals(tmp_path):
    found = lines(merge([certified(), attacked()]))
    assert [line.label for line in found] == ["recall"]
    assert found[0].attacked == ((0.1, 0.50001),)
    assert found[0].certified == ((0.0, 0.8), (0.1, 0.41669))


@pytest.mark.parametrize("key", ["threshold", "iou", "regression", "task"])
def test_other_thresholds_are_other_runs(key):
    assert len(merge([certified(), attacked()])) == 1
    assert len(merge([certified(), attacked(**{key: "other"})])) == 2


def test_attacks_and_comparisons_alone_make_a_page(tmp_path):
    goals = [
        {
            "goal": "count",
            "eps": 0.1,
            "images": 2,
            "clean_score": 0.5,
            "score": None,
            "reached": 0.5,
            "seconds": 1,
        }
    ]
    small = {"goal": "count", "images": 2, "reached": 1, "quartiles": [0.12, 0.12, "inf"], "certified": None}
    rows = [{"eps": 0.1, "method": "Lipschitz", "criterion": "recall_located", "accuracy": 0.33339, "seconds": 0.1,
             "passes": 1, "clean": 0.5, "note": "certain"}]  # fmt: skip
    folders = [
        store(tmp_path / "a", attacked(goals=goals, smallest=[small])),
        store(tmp_path / "b", head("compare", comparison=rows)),
    ]
    page = report.write(folders).read_text()
    assert "What the attacks went for" in page
    assert "0.12, 0.12, inf" in page
    assert cells(page, "Lipschitz")[:5] == ["0.1", "Lipschitz", "objects located", "33.33 %", "-"]
    assert "Certified at each eps" not in page


def test_detectors_and_dense_models_share_a_page(tmp_path):
    dense = {k: v for k, v in head("compare").items() if k not in ("task", "regression", "threshold", "iou")}
    dense["comparison"] = [
        {"eps": 0.1, "method": "m", "accuracy": 0.5, "seconds": 1.0, "passes": 1, "note": ""}
    ]
    folders = [store(tmp_path / "a", certified()), store(tmp_path / "b", dense)]
    page = report.write(folders).read_text()
    assert "<h1>Certified models</h1>" in page
    assert "Beside randomized smoothing" in page
    assert "Certificate sheets" in page
