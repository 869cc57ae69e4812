"""The benchmark's parts that need no detector: halves, splits, log, ranks, choice."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="benchmarks are not here")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import oneclass

    return oneclass


class Stub:
    """Scores rows by the distance to the training mean, in a unit that tells recipes apart."""

    def __init__(self, power, lipschitz, calls):
        self.power, self.lipschitz, self.calls = power, lipschitz, calls

    def fit(self, X):
        self.mean = X.mean(0)

    def scores(self, X, trained_on):
        self.calls.append((len(X), trained_on))
        return self.power * np.linalg.norm(X - self.mean, axis=1)


@pytest.fixture
def methods(bench):
    calls = []

    def method(kind, power, lipschitz=None, **flags):
        return bench.methods_of.Method(
            kind, lambda seed: Stub(power, lipschitz, calls), f"{kind} {power}", **flags
        )

    made = {
        "good": method("recipe", -1.0, 1.0),
        "bad": method("recipe", 1.0, 1.0),
        "certified": method("certified", -0.5, 1.0, seeded=False),
        "rival": method("rival", -1.0, quadratic=True),
    }
    return made, calls


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, low in (("1_a", 2), ("38_b", 3), ("5_c", 4), ("9_d", 6)):
        X = np.r_[rng.normal(size=(40, 2)), rng.normal(low, 1.0, size=(8, 2))]
        np.savez(tmp_path / f"{name}.npz", X=X, y=np.r_[np.zeros(40, int), np.ones(8, int)])
    np.savez(tmp_path / "7_big.npz", X=np.zeros((50_001, 1)), y=np.zeros(50_001, int))
    return tmp_path


def test_halves_keep_relatives_together_and_what_was_looked_at_chooses(bench):
    related = [
        "2_annthyroid",
        "38_thyroid",
        "6_cardio",
        "7_Cardiotocography",
        "19_landsat",
        "30_satellite",
        "31_satimage-2",
    ]
    names = [
        *related,
        "4_breastw",
        "42_WBC",
        "43_WDBC",
        "46_WPBC",
        "26_optdigits",
        "20_letter",
        "12_fault",
        "14_glass",
    ]
    names += ["15_Hepatitis", "24_mnist", "25_musk", "45_wine", "47_yeast"]
    choosing, reporting = bench.halves(names)
    assert sorted(choosing + reporting) == sorted(names)
    assert not set(choosing) & set(reporting)
    number = {bench.number(n): n for n in names}
    for family in bench.RELATED:
        assert len({number[k] in choosing for k in family}) == 1
    assert {number[k] for k in bench.LOOKED_AT} <= set(choosing)
    assert abs(len(choosing) - len(reporting)) <= 3
    assert bench.halves(reversed(names)) == (choosing, reporting)


def test_splits_hide_no_anomaly_and_train_on_none(bench):
    X, y = np.arange(30, dtype=np.uint8)[:, None], np.r_[np.zeros(20, int), np.ones(10, int)]
    train, test, truth = bench.split("normals", X, y, 0)
    assert train.dtype == np.float64
    assert (len(train), len(test), truth.sum()) == (10, 20, 10)
    assert train.max() < 20
    assert sorted(np.r_[train, test][:, 0]) == list(range(30))
    assert (test[truth] >= 20).all()
    assert not np.array_equal(train, bench.split("normals", X, y, 1)[0])
    train, test, truth = bench.split("contaminated", X, y, 0)
    assert np.array_equal(train, test)
    assert truth.sum() == 10


def test_the_whole_benchmark_on_stubs_goes_on_where_it_was_cut(bench, methods, folder, tmp_path, capsys):
    made, calls = methods
    sets = bench.tables(folder)
    assert list(sets) == ["1_a", "5_c", "9_d", "38_b"]
    log = bench.Log(tmp_path / "log.jsonl")
    every = dict.fromkeys(bench.PROTOCOLS, made)
    bench.run(log, sets, every, range(2), quadratic_rows=10)
    assert set(calls) == {(28, False), (48, True), (48, False)}  # one call for the whole test set
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(lines) == len(sets) * (
        2 * 4 + 2 * 3 + 1
    )  # the unseeded one once where all rows are trained on
    # cut in the middle of the last line: that one alone is measured again
    (tmp_path / "log.jsonl").write_text("\n".join(lines)[:-9])
    count = len(calls)
    again = bench.Log(tmp_path / "log.jsonl")
    bench.run(again, sets, every, range(2), quadratic_rows=10)
    assert len(calls) == count + 1
    keep = lambda r: {k: v for k, v in r.items() if "seconds" not in k}  # noqa: E731
    assert {k: keep(v) for k, v in again.records.items()} == {k: keep(v) for k, v in log.records.items()}
    reread = bench.Log(tmp_path / "log.jsonl")
    assert reread.records.keys() == again.records.keys()
    result = json.loads(json.dumps(bench.summarise(reread, sets, made)))
    assert (result["choosing"], result["reporting"]) == (["9_d", "38_b"], ["1_a", "5_c"])
    for protocol in bench.PROTOCOLS:
        found = result[protocol]
        assert found["chosen"] == "good"
        assert found["reported"]["sets"] == ["1_a", "5_c"]
        rows = found["reported"]["methods"]
        assert set(rows) == {"good", "certified", "rival"}
        assert rows["good"]["AUROC"] > rows["good"]["certified AUROC at 0.25"] > 0.5
        assert "certified AUROC at 0.1" not in rows["rival"]
    # the same distances in another unit rank alike, and are shared ranks
    assert result["contaminated"]["reported"]["methods"]["certified"]["AUROC"] == pytest.approx(
        result["contaminated"]["reported"]["methods"]["good"]["AUROC"]
    )


def test_the_reporting_half_sees_the_chosen_recipe_alone(bench, methods, folder, tmp_path, capsys):
    made, _ = methods
    sets, log = bench.tables(folder), bench.Log(tmp_path / "log.jsonl")
    choosing, reporting = bench.halves(sets)
    assert bench.allowed(log, sets, made, "normals", reporting) == ["certified", "rival"]
    assert bench.allowed(log, sets, made, "normals", choosing) == list(made)
    part = {n: sets[n] for n in choosing}
    bench.run(log, part, dict.fromkeys(bench.PROTOCOLS, made), range(1), quadratic_rows=99)
    assert bench.allowed(log, sets, made, "normals", reporting) == ["good", "certified", "rival"]


def test_ranks_failures_and_missing_sets(bench, methods, tmp_path):
    made, _ = methods
    log = bench.Log(tmp_path / "log.jsonl")
    values = {"good": [0.9, 0.7], "certified": [0.9, 0.8], "rival": [0.5, 0.6]}
    for label, aurocs in values.items():
        for name, auroc in zip(("1_a", "5_c"), aurocs, strict=True):
            base = {"protocol": "normals", "set": name, "method": label, "settings": made[label].settings}
            for seed, shift in ((0, -0.01), (1, 0.01)):
                log.add(
                    {**base, "seed": seed, "AUROC": auroc + shift, "AUPR": 0.5, "CPU seconds": 1.0 + seed}
                )
    log.add({**base, "set": "9_d", "seed": 0, "error": "ValueError: no"})
    log.add({**base, "settings": "older", "seed": 0, "AUROC": 0.0, "AUPR": 0.0, "CPU seconds": 0.0})
    found = bench.table(bench.means(log, "normals", made), list(values), ["1_a", "5_c", "9_d"])
    assert (found["sets"], found["missing"]) == (["1_a", "5_c"], ["9_d"])
    ranks = {label: row["mean rank"] for label, row in found["methods"].items()}
    expected = stats.rankdata([[-0.9, -0.9, -0.5], [-0.7, -0.8, -0.6]], axis=1).mean(0)
    assert list(ranks.values()) == pytest.approx(expected.tolist())
    assert found["methods"]["good"]["AUROC"] == pytest.approx(0.8)
    assert found["methods"]["good"]["CPU seconds, median"] == pytest.approx(1.5)


@pytest.mark.parametrize("name", ["IForest", "OCSVM", "KNN", "LOF"])
def test_scikit_learn_s_rivals_find_what_is_far_away(bench, name, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyod", None)  # as if it were not installed
    method = bench.methods_of.rivals()[f"{name} (scikit-learn)"]
    rng = np.random.default_rng(0)
    X, far = rng.normal(size=(60, 3)), np.full((2, 3), 9.0)
    detector = method.build(0)
    detector.fit(X)
    new = detector.scores(np.r_[X, far + rng.normal(size=(2, 3))], False)
    assert len(new) == 62
    if name != "OCSVM":  # its scores all vanish far from the support
        assert new[-2:].max() < np.median(new)
    both = np.r_[X, far * [[1.0], [-1.0]]]
    trained = method.build(0)
    trained.fit(both)
    own = trained.scores(both, True)
    assert own[-2:].max() < np.quantile(own, 0.2)
