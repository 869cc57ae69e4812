"""LARD's tables: units, columns, splits, and every way in which a table can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip import data
from onelip.core.errors import DataError, InputError
from onelip.data.landing import COLUMNS, Row, read_table, split_by_airport, write_table
from onelip.data.landing.schema import CORNER_COLUMNS, reading_order
from onelip.data.landing.tables import choose, find

CORNERS = ((3.0, 1.0), (6.0, 1.0), (1.0, 8.0), (9.0, 8.0))


def test_columns_are_the_29_of_lard():
    assert len(COLUMNS) == len(set(COLUMNS)) == 29
    assert COLUMNS[-8:] == ("x_A", "y_A", "x_B", "y_B", "x_C", "y_C", "x_D", "y_D")
    assert COLUMNS[12:21] == (
        "slant_distance",
        "along_track_distance",
        "height_above_runway",
        "lateral_path_angle",
        "vertical_path_angle",
        "yaw",
        "pitch",
        "roll",
        "watermark_height",
    )


@settings(max_examples=60, deadline=None)
@given(
    slant=st.floats(100, 6000),
    height=st.floats(1, 500),
    pitch=st.floats(-15, 5),
    yaw=st.floats(0, 360),
    watermark=st.sampled_from([None, 0, 300]),
    corners=st.one_of(st.none(), st.tuples(*[st.tuples(*[st.integers(-50, 4000).map(float)] * 2)] * 4)),
)
def test_written_tables_are_read_back(tmp_path_factory, slant, height, pitch, yaw, watermark, corners):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    given_row = Row(
        image="images/a b.png",
        height=2648,
        width=2448,
        type="earth_studio",
        airport="LFBO",
        runway="08",
        slant_distance=slant,
        along_track_distance=-slant,
        height_above_runway=height,
        pitch=pitch,
        yaw=yaw,
        watermark_height=watermark,
        corners=corners,
    )
    write_table(path, [given_row])
    (read,) = read_table(path)
    assert read.slant_distance == pytest.approx(slant, abs=0.00501 * 1852)  # two decimals of a nautical mile
    assert read.along_track_distance == pytest.approx(-slant, abs=0.00501 * 1852)
    assert read.height_above_runway == pytest.approx(height, abs=0.00501 * 0.3048)
    assert read.pitch == pytest.approx(pitch, abs=0.00501)
    assert read.yaw == pytest.approx(yaw, abs=0.00501)
    assert (read.image, read.airport, read.runway) == ("images/a b.png", "LFBO", "08")  # not the number 8
    assert (read.watermark_height, read.corners) == (watermark, corners)
    assert read.time_to_landing is None
    assert read.weather == ""
    write_table(path, [read])
    assert read_table(path) == [read]  # what was read once does not drift


def test_units_of_the_file(tmp_path):
    path = tmp_path / "t.csv"
    write_table(path, [Row("a", 9, 9, slant_distance=1852.0, height_above_runway=0.3048, pitch=-4.0)])
    header, line = (text.split(";") for text in path.read_text().splitlines())
    cells = dict(zip(header, line, strict=True))
    assert tuple(header) == COLUMNS
    wanted = {"slant_distance": "1.00", "height_above_runway": "1.00", "pitch": "86.00", "x_A": "", "yaw": ""}
    assert {name: cells[name] for name in wanted} == wanted


def test_both_kinds_and_the_reduced_table(tmp_path):
    real = Row(
        "r.png",
        1080,
        1920,
        type="real",
        airport="KSFO",
        time_to_landing=12.0,
        weather="rain",
        corners=CORNERS,
    )
    write_table(tmp_path / "real.csv", [real])
    assert read_table(tmp_path / "real.csv") == [real]
    old = ";".join(c for c in COLUMNS if c != "watermark_height")  # older files lack a column
    text = f"{old}\n" + ";".join(
        ["s.jpeg", "2648", "2448", "earth_studio", *[""] * 8, "1.5", *[""] * 7, *"12345678"]
    )
    (tmp_path / "old.csv").write_text("\ufeff" + text)
    (row,) = read_table(tmp_path / "old.csv")
    assert row.watermark_height is None
    assert row.slant_distance == 1.5 * 1852
    assert row.corners == ((1, 2), (3, 4), (5, 6), (7, 8))
    names = ",".join(
        ["image", "subset", "width", "height", *CORNER_COLUMNS, "x1", "y1", "x2", "y2", "slant_distance"]
    )
    (tmp_path / "reduced.csv").write_text(f"{names}\na.png,synth,40,30,1,2,3,4,5,6,7,8,1,2,7,8,1.5\n")
    (row,) = read_table(tmp_path / "reduced.csv")
    assert (row.type, row.box, row.slant_distance) == ("synth", (1, 2, 7, 8), 1500.0)  # kilometres there


def change(tmp_path: Path, **cells: str) -> Path:
    path = tmp_path / "t.csv"
    write_table(path, [Row("a.png", 30, 40, corners=CORNERS)])
    header, line = (text.split(";") for text in path.read_text().splitlines())
    found = dict(zip(header, line, strict=True)) | cells
    path.write_text(";".join(header) + "\n" + ";".join(found.values()) + "\n")
    return path


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"x_A": "left"}, r"t\.csv line 2: x_A is no number; received 'left'"),
        ({"pitch": "inf"}, r"line 2: pitch is no number; received 'inf'"),
        ({"y_D": ""}, r"line 2: some of x_A, .* are empty; expected all or none"),
        ({"height": "0"}, "image, height or width is wrong"),
        ({"image": ""}, "image, height or width is wrong"),
        ({"width": ""}, "image, height or width is wrong"),
    ],
)
def test_wrong_cells_are_named(tmp_path, cells, said):
    with pytest.raises(DataError, match=said):
        read_table(change(tmp_path, **cells))


def test_wrong_tables_are_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("image;height;width;x_A;y_A\na;1;2;3;4\n")
    with pytest.raises(
        DataError, match=r"lacks 6 columns of a LARD table; received no x_B, y_B, x_C, y_C, \.\.\."
    ):
        read_table(path)
    with pytest.raises(DataError, match=r"lacks 6 columns"):
        data.open(path)
    with pytest.raises(DataError, match=r"holds no table of LARD; received t\.csv"):
        data.lard(tmp_path)
    path.write_text(";".join(COLUMNS) + "\n")
    with pytest.raises(DataError, match="holds no rows"):
        read_table(path)
    path.write_text("")
    with pytest.raises(DataError, match="lacks 11 columns"):
        read_table(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "absent.csv")
    path.unlink()
    with pytest.raises(DataError, match="an empty folder; expected a CSV table with the columns of LARD"):
        data.lard(tmp_path)


def test_splits_are_the_folders_of_lard(tmp_path):
    for place in (
        "LARD_train_KMSY/LARD_train_KMSY.csv",
        "LARD_train_domain_adaptation/LARD_train_domain_adaptation.csv",
        "LARD_test_synth/LARD_test_synth.csv",
        "LARD_test_real/LARD_test_real_nominal/nominal.csv",
        "LARD_test_real/edge case/edge.csv",
        "low-sun/low-sun.csv",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        write_table(tmp_path / place, [Row("images/a.png", 30, 40, corners=CORNERS)])
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")  # passed over
    tables = find(tmp_path)
    assert len(tables) == 6
    sizes = {
        "train": 2,
        "train_kmsy": 1,
        "LARD_train_KMSY": 1,
        "test": 3,
        "test_synth": 1,
        "test_real": 2,
        "test_real_nominal": 1,
        "edge case": 1,
        "low-sun": 1,
    }
    assert {split: len(choose(tables, split)) for split in sizes} == sizes
    assert len(data.open(tmp_path, "test_real")) == 2
    with pytest.raises(
        DataError, match="no split 'tomorrow'; expected one of edge_case, low-sun, test, test_real"
    ):
        data.open(tmp_path, "tomorrow")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=30, max_size=80), st.integers(0, 5))
def test_parts_share_no_airport(airports, seed):
    rows = [Row(str(k), 9, 9, airport=f"A{a}") for k, a in enumerate(airports)]
    if len(set(airports)) < 3:
        with pytest.raises(DataError, match="fewer airports than parts"):
            split_by_airport(rows, seed=seed)
        return
    parts = split_by_airport(rows, seed=seed)
    assert sorted(index for part in parts for index in part) == list(range(len(rows)))
    seen = [{rows[index].airport for index in part} for part in parts]
    assert all(seen)
    assert sum(map(len, seen)) == len(set(airports))
    assert parts == split_by_airport(rows, seed=seed)


def test_parts_need_airports_and_shares():
    rows = [Row("a.png", 9, 9)]
    with pytest.raises(DataError, match=r"a\.png: the table names no airport"):
        split_by_airport(rows)
    for shares in ((), (0.5, 0.0)):
        with pytest.raises(InputError, match="`shares` is wrong"):
            split_by_airport(rows, shares)
    many = [Row(str(k), 9, 9, airport=f"A{k}") for k in range(1000)]
    parts = split_by_airport(many, (0.8, 0.1, 0.1))
    assert [len(p) for p in parts] == pytest.approx([800, 100, 100], abs=2)


def test_reading_order_is_by_row_then_column():
    points = [(9.9, 5.2), (2.1, 5.9), (4.0, 7.0), (-0.5, 7.9)]
    assert reading_order(points, 20) == ((2, 5), (9, 5), (0, 7), (4, 7))
