"""Tables on disk: blocks, separators, types, and a histogram that grows."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.apps.anomaly.summary import Histogram, contributions
from onelip.apps.anomaly.tables import open_table
from onelip.core.errors import DataError, MissingExtraError
from onelip.oneclass import CertifiedKNN, SignedDistance


def all_of(table, names, label=None, size=3):
    blocks = list(table.blocks(names, label, size))
    assert [b.start for b in blocks] == np.cumsum([0, *[len(b.values) for b in blocks]])[:-1].tolist()
    assert blocks[-1].share == 1.0
    labels = [b.labels for b in blocks if b.labels is not None]
    return np.concatenate([b.values for b in blocks]), np.concatenate(labels) if labels else None


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_separators_marks_and_line_ends(tmp_path, mark, separator, end):
    lines = [separator.join(cells) for cells in (["a", '"b c"'], ["1", "2.5"], ["-3", "4e1"])]
    (tmp_path / "d.csv").write_text(mark + (end if end != "\n\n" else "\n").join(lines) + end, newline="")
    table = open_table(tmp_path / "d.csv")
    assert table.columns == ("a", "b c")
    values, _ = all_of(table, ("b c", "a"), size=1)
    np.testing.assert_array_equal(values, [[2.5, 1], [40, -3]])


def test_counted_headers_of_pandas_are_names(tmp_path):
    (tmp_path / "d.csv").write_text("0,1\n5,6\n")
    assert open_table(tmp_path / "d.csv").columns == ("0", "1")


@given(st.lists(st.floats(-1e130, 1e130, allow_nan=False), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_numbers_survive_text(tmp_path_factory, numbers):
    path = tmp_path_factory.mktemp("t") / "d.csv"
    path.write_text("a\n" + "".join(f"{x!r}\n" for x in numbers))
    values, _ = all_of(open_table(path), ("a",), size=4)
    assert values[:, 0].tolist() == numbers


def test_labels(tmp_path):
    (tmp_path / "d.csv").write_text("a,y\n1,0\n2,true\n3,1.0\n4,False\n")
    _, labels = all_of(open_table(tmp_path / "d.csv"), ("a",), "y")
    assert labels.tolist() == [0, 1, 1, 0]
    (tmp_path / "e.csv").write_text("a,y\n1,0\n2,-1\n")
    with pytest.raises(DataError, match=r"data row 2, column 'y' holds no label; received '-1'"):
        all_of(open_table(tmp_path / "e.csv"), ("a",), "y")


def test_npz(tmp_path):
    X = np.arange(10, dtype=np.uint8).reshape(5, 2)
    np.savez(tmp_path / "d.npz", X=X, y=np.array([0, 0, 1, 0, 1]))
    table = open_table(tmp_path / "d.npz")
    assert (table.columns, table.named) == (("x0", "x1", "y"), False)
    values, labels = all_of(table, ("x0", "x1"), "y")
    np.testing.assert_array_equal(values, X)
    assert labels.tolist() == [0, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"Z": np.eye(2)}, "no array X"),
        ({"X": np.ones(3)}, r"X of shape \(3,\)"),
        ({"X": np.array([["a", "b"]])}, "type <U1"),
        ({"X": np.array([[object(), 1]], dtype=object)}, "cannot be read.*allow_pickle"),
        ({"X": np.eye(2), "y": np.ones(3)}, "y has another length"),
    ],
)
def test_bad_npz(tmp_path, arrays, text):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=text):
        open_table(tmp_path / "d.npz")


def test_damaged_npz(tmp_path):
    np.savez(tmp_path / "d.npz", X=np.eye(50))
    raw = (tmp_path / "d.npz").read_bytes()
    for broken in (raw[:100], raw[: len(raw) // 2], b"no archive"):
        (tmp_path / "d.npz").write_bytes(broken)
        with pytest.raises(DataError, match="cannot be read"):
            open_table(tmp_path / "d.npz")


def test_parquet_needs_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=r"pip install 'onelip\[parquet\]'"):
        open_table(tmp_path / "d.parquet")


class Column(list):
    """Of a record batch."""

    def to_numpy(self, *, zero_copy_only):
        assert not zero_copy_only
        return np.array([np.nan if x is None else x for x in self])

    def to_pylist(self):
        return list(self)


def batch(columns):
    schema = SimpleNamespace(get_field_index=list(columns).index)
    return SimpleNamespace(
        num_rows=len(next(iter(columns.values()))),
        schema=schema,
        column=lambda i: Column(list(columns.values())[i]),
    )


@pytest.fixture
def arrow(monkeypatch):
    """What is used of pyarrow, over a dictionary of columns; itself it is tested where it is installed."""
    data = {
        "a": [1, 2, 3, 4, 5],
        "kind": list("vwxyz"),
        "b": [0.5, 1.5, 2.5, 3.5, 4.5],
        "bad": [0, 0, 1, 0, 1],
    }

    class File:
        def __init__(self, path):
            if path.read_bytes()[:4] != b"PAR1":
                raise package.ArrowException("no magic bytes")
            self.schema_arrow = SimpleNamespace(
                names=list(data), field=lambda name: SimpleNamespace(type=type(data[name][0]))
            )
            self.metadata = SimpleNamespace(num_rows=5)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def iter_batches(self, *, batch_size, columns):
            for i in range(0, 5, batch_size):  # the order of the file, not that of the request
                yield batch({n: v[i : i + batch_size] for n, v in data.items() if n in columns})

    package = ModuleType("pyarrow")
    package.ArrowException = type("ArrowException", (Exception,), {})
    package.types = SimpleNamespace(
        is_integer=lambda t: t is int,
        is_floating=lambda t: t is float,
        is_boolean=lambda t: t is bool,
        is_decimal=lambda t: False,
    )
    package.parquet = ModuleType("pyarrow.parquet")
    package.parquet.ParquetFile = File
    monkeypatch.setitem(sys.modules, "pyarrow", package)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", package.parquet)
    return data


def test_parquet_by_a_stand_in(arrow, tmp_path):
    path = tmp_path / "d.parquet"
    path.write_bytes(b"PAR1")
    table = open_table(path)
    values, labels = all_of(table, ("b", "a"), "bad", size=2)
    np.testing.assert_array_equal(values, np.column_stack((arrow["b"], arrow["a"])))
    assert labels.tolist() == arrow["bad"]
    with pytest.raises(DataError, match="hold no numbers; received 'kind'"):
        all_of(table, ("a", "kind"))
    arrow["b"][3] = None
    with pytest.raises(DataError, match=r"data row 4, column 'b'.*missing"):
        all_of(table, ("a", "b"), size=2)
    path.write_bytes(b"none")
    with pytest.raises(DataError, match="cannot be read as Parquet; received no magic bytes"):
        open_table(path)


def test_parquet_itself(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "d.parquet"
    table = pa.table(
        {"a": [1, 2, 3, 4], "kind": list("wxyz"), "b": [0.5, 1.5, 2.5, 3.5], "on": [True, False, True, True]}
    )
    parquet.write_table(table, path, row_group_size=2)
    values, labels = all_of(open_table(path), ("b", "a"), "on")
    np.testing.assert_array_equal(values, [[0.5, 1], [1.5, 2], [2.5, 3], [3.5, 4]])
    assert labels.tolist() == [1, 0, 1, 1]
    with pytest.raises(DataError, match="hold no numbers; received 'kind'"):
        all_of(open_table(path), ("a", "kind"))
    parquet.write_table(pa.table({"a": [1, None, 3]}), path)
    with pytest.raises(DataError, match=r"data row 2, column 'a'.*missing"):
        all_of(open_table(path), ("a",))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        open_table(path)


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=8), min_size=1, max_size=6)
)
@settings(max_examples=60, deadline=None)
def test_histogram_counts_every_score_in_its_bin(blocks):
    found = Histogram()
    for block in blocks:
        scores = np.array(block)
        found.add(scores, (scores > 0).astype(float))
    scores = np.concatenate([np.array(b) for b in blocks])
    assert found.low <= scores.min()
    assert scores.max() < found.high
    assert found.counts.sum(1).tolist() == [(scores <= 0).sum(), (scores > 0).sum()]
    told = found.to_dict()
    edges = np.array(told["edges"])
    assert (np.diff(edges) > 0).all()
    assert len(told["rows"]) == len(told["anomalies"]) == len(edges) - 1 <= 61
    assert sum(told["rows"]) + sum(told["anomalies"]) + sum(told["left_of_them"]) == len(scores)
    assert sum(told["left_of_them"]) <= 0.01 * len(scores)


def test_histogram_sets_far_rows_apart():
    found = Histogram()
    found.add(np.linspace(0, 1, 995), None)
    found.add(np.full(5, -100.0), None)
    told = found.to_dict()
    assert told["left_of_them"] == [5, 0]
    assert told["edges"][0] > -0.1
    rough = np.histogram(np.linspace(0, 1, 995), told["edges"])[0]
    assert np.abs(np.cumsum(rough) - np.cumsum(told["rows"])).max() <= 60  # a bin of the doubled histogram


def test_contributions_by_differences_are_those_of_the_gradient():
    X = np.random.RandomState(0).normal(size=(80, 3)) * [1.0, 50.0, 0.02]
    rows = np.array([[4.0, 0.0, 0.0], [0.0, 300.0, 0.0]])
    detector = SignedDistance(steps=60, random_state=0).fit(X)
    plain = SignedDistance.contributions
    exact = detector.contributions(rows)
    try:
        del SignedDistance.contributions
        by_differences = contributions(detector, rows)
    finally:
        SignedDistance.contributions = plain
    np.testing.assert_allclose(by_differences, exact, rtol=1e-4, atol=1e-6)
    near = CertifiedKNN().fit(X)
    parts = contributions(near, rows)
    np.testing.assert_allclose(parts.sum(1), -near.decision_function(rows), rtol=1e-6)
    assert parts.argmax(1).tolist() == [0, 1]
