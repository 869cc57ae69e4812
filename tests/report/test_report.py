"""The report: self-contained, complete, honest in its rounding, and clear when something is missing."""

from __future__ import annotations

import base64
import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from onelip import report
from onelip.core import errors
from onelip.report.curves import curve_svg
from onelip.report.lines import Line, area, lines
from onelip.report.merge import merge

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def results(name="lipnet", **changes):
    eps = [0.0, 0.1, 0.5]
    shared = {"average": "micro", "eps": eps, "count": 2, "undefined": 0, "p": "2"}
    row = {
        "rms": 1e-4,
        "rms_255": 0.0255,
        "accuracy_macro": 0.5,
        "stability_micro": 0.6,
        "stability_macro": None,
    }
    return {
        "kind": "certify",
        "complete": True,
        "date": "2026-01-02T03:04:05+00:00",
        "seed": 7,
        "command": "onelip certify a b",
        "python": 'onelip.load("a") # <b>',
        "versions": {"torch": "2.15"},
        "machine": {"cores": 2, "device": "cpu"},
        "model": {"name": name, "path": "a", "weights_sha256": "abc123"},
        "data": {
            "name": "scenes",
            "split": "val",
            "images": 2,
            "total": 5,
            "size": [32, 48],
            "value_count": 4608,
        },
        "p": 2,
        "lipschitz": 6.531972647,
        "bound": [
            {"name": "head", "rule": "Conv2d", "local": 1.00000001, "running": 2.0, "reason": "why <not>"}
        ],
        "assumptions": ["exact arithmetic"],
        "rows": [{"eps": 0.1, "accuracy_micro": 0.899999, **row}],
        "curves": [
            {"criterion": "PixelAccuracy", "clean": 0.93, "values": [0.93, 0.9, 0.2], **shared},
            {"criterion": "Stability", "clean": 1.0, "values": [1.0, None, 0.3], **shared},
        ],
        "clean": {
            "pixel_accuracy_micro": 0.93,
            "pixel_accuracy_macro": 0.9,
            "miou": 0.5,
            "iou": {"sky": 0.9, "car": None},
        },
        "undefined": 1,
        "seconds_per_image": 0.123456,
        "pictures": [{"file": "pictures/0.png", "caption": "image zero"}],
        **changes,
    }


def store(folder, content):
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "0.png").write_bytes(PIXEL)
    (folder / "results.json").write_text(json.dumps(content))
    return folder


class Links(HTMLParser):
    """Everything a browser would load, and the nesting of tags."""

    def __init__(self):
        super().__init__()
        self.sources, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.sources += [v for k, v in attributes if k in ("src", "href", "xlink:href") and v]
        if tag not in ("meta", "img", "br", "link", "path", "use", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.sources += [v for k, v in attributes if k in ("src", "href", "xlink:href") and v]

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag


def test_the_page_needs_nothing_but_itself(tmp_path):
    page = report.write([store(tmp_path / "a", results())]).read_text()
    links = Links()
    links.feed(page)
    assert links.open == []
    assert links.sources
    assert all(source.startswith(("data:", "#")) for source in links.sources)
    assert not re.search(r"@import|<script|url\((?!#)", page)


def test_the_page_says_everything(tmp_path):
    page = report.write([store(tmp_path / "a", results())]).read_text()
    for text in (
        "exact arithmetic",
        "abc123",
        "torch 2.15",
        "2026-01-02T03:04:05+00:00",
        "<dd>7</dd>",
        "onelip certify a b",
        "why &lt;not&gt;",
        "# &lt;b&gt;",
        "image zero",
        "4608 values",
        "<td>0.0255</td>",
        "1 images without a valid pixel",
        "prefers-color-scheme: dark",
        "currentColor",
        base64.b64encode(PIXEL).decode(),
    ):
        assert text in " ".join(page.split()), text
    assert "interrupted" not in page


def test_rounding_is_on_the_safe_side(tmp_path):
    page = report.write([store(tmp_path / "a", results())]).read_text()
    assert "89.99 %" in page  # certified 0.899999, rounded down
    assert "90.00 %" not in page.split("<tbody>")[1].split("</tbody>")[0].replace("50.00 %", "")
    assert "1.00001" in page  # local constant 1.00000001, rounded up
    assert "6.53198" in page


def test_several_models_share_one_page(tmp_path):
    folders = [store(tmp_path / n, results(n)) for n in ("lipnet", "twin")]
    page = report.write(folders, tmp_path / "both")
    assert page == tmp_path / "both" / "report.html"
    text = page.read_text()
    assert "lipnet on scenes" in text
    assert "twin on scenes" in text
    assert "lipnet: pixel accuracy" in text
    assert "twin: stability" in text
    assert text.count("Certified at each eps: twin") == 1


def test_an_interrupted_run_says_so(tmp_path):
    page = report.write([store(tmp_path / "a", results(complete=False))]).read_text()
    assert "interrupted after 2 of 5 images" in page


def test_rendering_twice_gives_the_same_bytes(tmp_path):
    folder = store(tmp_path / "a", results())
    assert report.write([folder]).read_bytes() == report.write([folder]).read_bytes()


def test_undefined_averages_are_dashes(tmp_path):
    row = {"eps": 0.1, "rms": 1e-4, "rms_255": 0.02}
    row |= {f"{c}_{a}": None for c in ("accuracy", "stability") for a in ("micro", "macro")}
    clean = {"pixel_accuracy_micro": None, "pixel_accuracy_macro": None, "miou": None, "iou": {}}
    page = report.write([store(tmp_path / "a", results(rows=[row], clean=clean, curves=[]))]).read_text()
    assert "<b>-</b>" in page


def test_missing_pieces_are_named(tmp_path):
    with pytest.raises(errors.DataError, match="does not exist"):
        report.write([tmp_path])
    (tmp_path / "results.json").write_text('{"kind": "train"}')
    with pytest.raises(errors.DataError, match=r"holds no results of a data set.*model, data"):
        report.write([tmp_path])
    (tmp_path / "results.json").write_text("[1]")
    with pytest.raises(errors.DataError, match="an object"):
        report.read(tmp_path)
    folder = store(tmp_path / "a", results())
    (folder / "pictures" / "0.png").unlink()
    with pytest.raises(errors.DataError, match=r"picture .*cannot be read"):
        report.write([folder])
    assert not (folder / "report.html").exists()


def steps(svg, colour="#0072b2"):
    line = re.search(rf'<path d="([^"]*)"[^>]*stroke: {colour}; stroke-width: 2;', svg.replace("\n", " "))
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML] (\S+) (\S+)", line[1])]


def test_curves_are_drawn_as_steps_that_never_exceed_what_is_proven():
    """Between eps 0.1 (value 0.9) and 0.5 (value 0.2) only 0.2 is proven: the line must drop at 0.1."""
    drawn = lines(merge([results(curves=[results()["curves"][0]])]))
    points = steps(curve_svg(drawn, ["2"]))
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        assert x0 == x1 or y0 == y1
    assert points[0][0] < points[-1][0]
    heights = [y for _, y in points]
    assert heights == sorted(heights)  # svg: y grows downwards
    drop = [x for (x, y0), (_, y1) in itertools.pairwise(points) if y1 > y0]
    left, right = points[0][0], points[-1][0]
    assert drop == pytest.approx([left, left + 0.2 * (right - left)], abs=0.01)


ATTACKED = [
    {"eps": 0.1, "clean": 0.9, "certified": 0.5, "attacked": 0.8},
    {"eps": 0.5, "clean": 0.9, "certified": 0.2, "attacked": 0.6},
]


def attack(**changes):
    """The results of `onelip attack` about the same model and images."""
    drop = ("rows", "curves", "clean", "undefined", "seconds_per_image", "pictures")
    head = {k: v for k, v in results().items() if k not in drop}
    return {**head, "kind": "attack", "command": "onelip attack a b", "attacked": ATTACKED, **changes}


def test_areas_by_hand():
    assert area(((1.0, 0.5), (2.0, 0.25)), 2.0) == 0.375
    assert area(((1.0, 0.5), (2.0, 0.25)), 1.5) == pytest.approx((0.5 + 0.5 * 0.25) / 1.5)
    assert area((), 1.0) is None
    assert area(((0.0, 1.0),), 0.0) is None
    line = Line("a", "all", "#000000", "", ((0.1, 0.5), (0.5, 0.2)), 0.9, ((0.1, 0.8), (0.5, 0.6)))
    assert line.certified_area == pytest.approx((0.1 * 0.5 + 0.4 * 0.2) / 0.5)
    assert line.attacked_area == pytest.approx((0.1 * 0.9 + 0.4 * 0.8) / 0.5)


def test_results_of_an_attack_alone_make_a_page(tmp_path):
    page = report.write([store(tmp_path / "a", attack())]).read_text()
    assert "Certified and attacked" in page
    assert "<td>0.1</td>\n<td>50.00 %</td><td>80.00 %</td><td>90.00 %</td>\n<td>30.00</td>" in page
    assert "Thin, with dots" in page
    assert "Certified at each eps" not in page


def test_an_attack_and_a_certificate_of_the_same_images_are_one_run(tmp_path):
    certified = results()
    certified["curves"].append({**certified["curves"][0], "key": "accuracy", "average": "macro"})
    folders = [store(tmp_path / "a", certified), store(tmp_path / "b", attack())]
    page = report.write(folders, tmp_path / "both").read_text()
    assert "onelip certify a b" in page
    assert "onelip attack a b" in page
    assert "lipnet and lipnet" not in page
    (run,) = merge([report.read(folder) for folder in folders])
    first = lines([run])[0]
    assert first.average == "mean of images"  # of the same average as the attack
    assert first.attacked == ((0.1, 0.8), (0.5, 0.6))
    assert first.certified[-1] == (0.5, 0.2)


def test_micro_and_macro_are_never_put_into_one_picture():
    """Only a micro curve is there: the attack, a mean of images, brings its own certified values."""
    (run,) = merge([results(), attack()])
    first = next(line for line in lines([run]) if line.attacked)
    assert first.certified == ((0.1, 0.5), (0.5, 0.2))


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {**results()["data"], "images": 1}},
        {"p": "inf"},
        {"model": {**results()["model"], "weights_sha256": "x"}},
    ],
)
def test_other_images_norms_or_weights_are_other_runs(changes):
    assert len(merge([results(), attack(**changes)])) == 2
    assert len(merge([results(), attack()])) == 1
    assert len(merge([results(), results()])) == 2


def test_error_rates_are_rounded_up_and_attacks_against_themselves(tmp_path):
    rows = [{"eps": 0.1, "clean": 0.1, "certified": 0.200001, "attacked": 0.150009, "criterion": "fnr:1"}]
    rows[0]["higher_is_better"] = False
    page = report.write([store(tmp_path / "a", attack(attacked=rows))]).read_text()
    assert "<td>20.01 %</td><td>15.00 %</td>" in page


def test_a_comparison_has_its_table(tmp_path):
    rows = [
        {"eps": 0.1, "method": "Lipschitz", "accuracy": 0.8, "seconds": 0.123, "passes": 1, "note": ""},
        {
            "eps": 0.1,
            "method": "SegCertify sigma 0.2",
            "accuracy": None,
            "seconds": 9.0,
            "passes": 100,
            "note": "<not> feasible",
            "attacked": 0.9,
        },
    ]
    page = report.write(
        [store(tmp_path / "a", attack(kind="compare", attacked=[], comparison=rows))]
    ).read_text()
    for text in (
        "Beside randomized smoothing",
        "SegCertify sigma 0.2",
        "&lt;not&gt; feasible",
        "<td>100</td>",
    ):
        assert text in page


def test_classes_radii_regions_and_worst_images_are_shown(tmp_path):
    picture = [{"file": "pictures/0.png", "caption": "this one"}]
    radius = {
        "criterion": "fnr:car",
        "threshold": 0.95,
        "mean_of_finite": 0.129999,
        "lower_quartile": 0.1,
        "median": 0.2,
        "upper_quartile": "inf",
        "zero": 1,
        "infinite": 2,
        "count": 9,
        "undefined": 3,
    }
    content = results(
        classes=[{"class": "sky", "clean": 0.9, "certified": [0.55]}],
        radii=[radius],
        components=picture,
        worst={"rows": [], "pictures": picture},
    )
    page = report.write([store(tmp_path / "a", content)]).read_text()
    for text in (
        "certified IoU",
        "55.00 %",
        "<td>inf</td>",
        "<td>0.1299</td>",
        "<h2>Regions</h2>",
        "least certified",
    ):
        assert text in page
    assert page.count(base64.b64encode(PIXEL).decode()) == 3


def test_every_section_of_the_schema_is_in_the_merge():
    from onelip.report.schema import SECTIONS

    (run,) = merge([attack()])
    assert all(section in run for section in SECTIONS)


def test_sections_of_several_commands_are_joined_not_lost(tmp_path):
    rows = [{**row, "criterion": "miou"} for row in ATTACKED]
    picture = [{"file": "pictures/0.png", "caption": "attacked"}]
    other = attack(kind="compare", attacked=[*ATTACKED, *rows], comparison=[], undefined=7, pictures=picture)
    other["assumptions"] = ["exact arithmetic", "one more"]
    first = attack(attacked=[ATTACKED[0]])
    folders = [store(tmp_path / n, r) for n, r in (("a", first), ("b", results(undefined=0)), ("c", other))]
    (run,) = merge([report.read(folder) for folder in folders])
    assert [(r.get("criterion", "accuracy"), r["eps"]) for r in run["attacked"]] == [
        ("accuracy", 0.1),
        ("miou", 0.1),
        ("miou", 0.5),
    ]
    assert run["assumptions"] == ["exact arithmetic", "one more"]
    assert run["undefined"] == 0  # images without a valid pixel, not those without the attacked class
    assert [p["caption"] for p in run["pictures"]] == ["image zero", "attacked"]
    assert [p["folder"] for p in run["pictures"]] == [str(folder) for folder in folders[1:]]
    assert run["lipschitz"] == 6.531972647
    assert len(run["heads"]) == 3
    page = report.write(folders, tmp_path / "all").read_text()
    assert page.count("<pre>") == 3
