"""Certified metrics of scores against brute force: pairs, attackers that move each score alone, scikit-learn."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from onelip.core.errors import InputError, NonFiniteError, PrecisionError
from onelip.oneclass import certified_aupr, certified_auroc, certified_f1, certified_tpr
from onelip.oneclass.inputs import share_of

FUNCTIONS = {"auroc": certified_auroc, "aupr": certified_aupr, "tpr": certified_tpr, "f1": certified_f1}
OPTIONS = {"tpr": {"fpr": 0.34}, "f1": {"threshold": 0.5}}
# eighths: sums and gaps are exact, so ties are ties
SCORES = st.lists(st.integers(-24, 24).map(lambda k: k / 8), min_size=1, max_size=7)
ATTACKERS = ("both", "normals", "anomalies")


def labels(normal, anomaly):
    return np.r_[np.zeros(len(normal)), np.ones(len(anomaly))], -np.r_[normal, anomaly]


def plain(metric, normal, anomaly, *, fpr=0.34, threshold=0.5):
    """The metric by its textbook definition."""
    truth, badness = labels(normal, anomaly)
    if metric == "auroc":
        return roc_auc_score(truth, badness)
    if metric == "aupr":
        return average_precision_score(truth, badness)
    if metric == "f1":
        return f1_score(truth, badness > -threshold, zero_division=0.0)
    best = 0.0
    for cut in [-np.inf, *normal, *anomaly, np.inf]:  # every threshold that matters
        for below in (np.less, np.less_equal):
            if below(normal, cut).mean() <= fpr:
                best = max(best, float(below(anomaly, cut).mean()))
    return best


def certified(metric, normal, anomaly, eps, lipschitz=1.0, **options):
    return FUNCTIONS[metric](normal, anomaly, eps, lipschitz, **OPTIONS.get(metric, {}), **options)


@pytest.mark.parametrize("metric", FUNCTIONS)
@given(normal=SCORES, anomaly=SCORES)
@settings(max_examples=40, deadline=None)
def test_at_eps_zero_the_metrics_are_the_textbook_ones(metric, normal, anomaly):
    value = certified(metric, normal, anomaly, 0.0)[0]
    assert value == pytest.approx(plain(metric, np.array(normal), np.array(anomaly)), abs=1e-12)


@given(
    normal=SCORES,
    anomaly=SCORES,
    eps=st.integers(1, 12).map(lambda k: k / 8),
    attacker=st.sampled_from(ATTACKERS),
)
@settings(max_examples=150, deadline=None)
def test_auroc_counts_the_pairs_beyond_the_gap(normal, anomaly, eps, attacker):
    gap = (2 if attacker == "both" else 1) * 0.5 * eps
    count = sum(s - a > gap for s in normal for a in anomaly)
    found = certified_auroc(normal, anomaly, [eps], 0.5, attacker=attacker, slack=0.0)
    assert found.shape == (1,)
    assert found[0] == pytest.approx(count / (len(normal) * len(anomaly)), abs=1e-15)


def attacks(normal, anomaly, reach, attacker):
    """Every attack that moves each score by -reach, -reach/2, 0, reach/2 or reach, on its own."""
    steps = [k * reach / 2 for k in range(-2, 3)]
    ours = [steps if attacker != "anomalies" else [0.0]] * len(normal)
    theirs = [steps if attacker != "normals" else [0.0]] * len(anomaly)
    for moves in itertools.product(*ours, *theirs):
        yield normal + np.array(moves[: len(normal)]), anomaly + np.array(moves[len(normal) :])


def quick(metric, normal, anomaly):
    """The textbook definitions once more, for thousands of tiny cases."""
    if metric == "auroc":
        return np.mean((normal[:, None] > anomaly) + 0.5 * (normal[:, None] == anomaly))
    if metric == "aupr":
        true = (anomaly[:, None] >= anomaly).sum(1)
        return np.mean(true / (true + (anomaly[:, None] >= normal).sum(1)))
    if metric == "f1":
        true, false = (anomaly < 0.5).sum(), (normal < 0.5).sum()
        return 2 * true / (true + false + len(anomaly))
    return np.mean(anomaly < np.sort(normal)[int(0.34 * len(normal))])


@pytest.mark.parametrize("metric", FUNCTIONS)
@given(normal=SCORES, anomaly=SCORES)
@settings(max_examples=25, deadline=None)
def test_the_quick_definitions_of_this_file_are_the_textbook_ones(metric, normal, anomaly):
    normal, anomaly = np.array(normal), np.array(anomaly)
    assert quick(metric, normal, anomaly) == pytest.approx(plain(metric, normal, anomaly), abs=1e-12)


CLOUDS = [
    ([0.0, 1.0, 1.0], [0.0, 0.75]),
    ([2.0, 0.5], [0.5, 0.5, -1.0]),  # tied anomalies: the attacker parts them
    ([1.0, 0.25, 3.0], [-1.0, 2.0]),
    ([0.5, 1.5], [0.75, 1.0, 0.25]),
]


@pytest.mark.parametrize("cloud", range(len(CLOUDS)))
@pytest.mark.parametrize("attacker", ATTACKERS)
@pytest.mark.parametrize("metric", FUNCTIONS)
def test_no_attacker_gets_below_and_one_gets_there(metric, attacker, cloud):
    normal, anomaly = (np.array(x) for x in CLOUDS[cloud])
    eps, lipschitz = 0.25, 2.0
    found = certified(metric, normal, anomaly, eps, lipschitz, attacker=attacker)[0]
    worst = min(quick(metric, n, a) for n, a in attacks(normal, anomaly, eps * lipschitz, attacker))
    assert found <= worst + 1e-15
    # ties are counted as lost: an attacker with a little more, who may part what is tied, gets to the bound
    more = eps * lipschitz + 1e-3
    ends = (normal - more * (attacker != "anomalies"), anomaly + more * (attacker != "normals"))
    jitter = 1e-5 * np.arange(len(anomaly)) * (attacker != "normals")
    assert quick(metric, ends[0], ends[1] - jitter) <= found + 1e-9


@pytest.mark.parametrize("metric", FUNCTIONS)
@given(
    data=st.data(),
    normal=SCORES,
    anomaly=SCORES,
    eps=st.floats(1e-6, 3.0),
    attacker=st.sampled_from(ATTACKERS),
)
@settings(max_examples=60, deadline=None)
def test_random_attacks_stay_above(metric, data, normal, anomaly, eps, attacker):
    normal, anomaly = np.array(normal), np.array(anomaly)
    move = st.sampled_from([-1.0, 1.0]) | st.floats(-1.0, 1.0)
    ours = np.array(data.draw(st.lists(move, min_size=len(normal), max_size=len(normal))))
    theirs = np.array(data.draw(st.lists(move, min_size=len(anomaly), max_size=len(anomaly))))
    attacked = (
        normal + eps * ours * (attacker != "anomalies"),
        anomaly + eps * theirs * (attacker != "normals"),
    )
    assert certified(metric, normal, anomaly, eps, attacker=attacker)[0] <= quick(metric, *attacked) + 1e-15


def test_average_precision_alone_is_not_monotone_so_ties_are_parted():
    # an anomaly that rises to tie with another lifts the textbook value
    normal = np.array([-1.0])
    assert quick("aupr", normal, np.array([0.5, 0.5])) > quick("aupr", normal, np.array([0.0, 0.5]))
    assert certified_aupr(normal, [0.0, 0.0], 0.5)[0] <= quick("aupr", normal, np.array([0.0, 0.5]))


@pytest.mark.parametrize("attacker", ATTACKERS)
@pytest.mark.parametrize("metric", FUNCTIONS)
def test_curves_fall_from_the_plain_value_to_the_worst(metric, attacker):
    rng = np.random.default_rng(0)
    normal, anomaly = rng.normal(1.0, 1.0, 300), rng.normal(-1.0, 1.0, 70)
    curve = certified(metric, normal, anomaly, np.linspace(0, 9, 30), attacker=attacker)
    assert (np.diff(curve) <= 0).all()
    assert 0.5 < curve[0] <= 1
    ends = (normal - 9 * (attacker != "anomalies"), anomaly + 9 * (attacker != "normals"))
    assert curve[-1] == pytest.approx(quick(metric, *ends), abs=1e-12)
    assert attacker != "both" or curve[-1] < 0.2
    strongest = certified(metric, normal, anomaly, [0.3])[0]
    assert strongest <= certified(metric, normal, anomaly, [0.3], attacker=attacker)[0]


def test_a_tie_at_the_very_end_of_the_ball_is_lost_and_half_without_attack():
    # in binary 3 * 0.1 > 0.3: a naive comparison would call this pair won
    assert certified_auroc([0.6], [0.0], [0.3], slack=0.0) == [0.0]
    assert certified_auroc([0.1 + 0.2], [0.0], [0.1], 3.0, attacker="normals", slack=0.0) == [0.0]
    assert certified_auroc([0.0], [0.0], [0.0]) == [0.5]
    assert certified_auroc([0.0], [0.0], [1e-300], slack=0.0) == [0.0]
    assert certified_auroc([1.0], [0.0], [0.5 - 1e-12], slack=0.0) == [1.0]
    assert certified_auroc([1.0], [0.0], [0.5 - 1e-12]) == [0.0]  # within the slack of rounding
    assert certified_f1([1.0, 1.0], [-1.0], [0.5], threshold=0.5, slack=0.0)[0] == pytest.approx(0.5)


def test_scores_of_any_size_stay_sound():
    huge, tiny = 1e308, 5e-324
    assert certified_auroc([huge], [-huge], [huge], 10.0) == [0.0]
    assert certified_auroc([huge], [-huge], [1.0]) == [1.0]
    assert certified_auroc([tiny], [0.0], [tiny], slack=0.0) == [0.0]
    assert certified_auroc([0.0], [0.0], [1e-200], 1e-200, slack=0.0) == [0.0]  # the product is 0 in floats


def test_the_threshold_of_the_true_positive_rate():
    normal, anomaly = [0.0, 1.0, 2.0, 3.0], [-2.0, 0.5, 1.25]
    # one of four may be flagged: the threshold is 1.0 on clean normals and 0.5 on attacked ones
    clean = certified_tpr(normal, anomaly, [0.0, 0.25], fpr=0.25, calibration="clean")
    attacked = certified_tpr(normal, anomaly, [0.0, 0.25], fpr=0.25)
    assert clean.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert attacked.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert certified_tpr(normal, anomaly, [5.0], fpr=0.25, calibration="clean", attacker="normals") == [
        pytest.approx(2 / 3)
    ]


@given(count=st.integers(1, 2000), hundredths=st.integers(0, 100))
def test_shares_are_taken_as_they_are_written(count, hundredths):
    assert share_of(hundredths / 100, count) == hundredths * count // 100


def test_sums_of_pairs_need_no_matrix():
    rng = np.random.default_rng(1)
    normal, anomaly = rng.normal(1.0, 1.0, 400_000), rng.normal(-1.0, 1.0, 100_000)
    started = time.perf_counter()
    value = certified_auroc(normal, anomaly, [0.25])[0]  # a matrix would hold 4e10 pairs
    assert time.perf_counter() - started < 5
    assert value == pytest.approx(0.5 * math.erfc(-1.5 / 2), abs=0.005)  # the gap is N(2, 2) less 0.5


BAD = [
    ({"normal": [math.nan, 1.0]}, NonFiniteError, "scores_normal.*1 NaN or infinite values of 2"),
    ({"anomaly": [math.inf]}, NonFiniteError, "scores_anomaly"),
    ({"normal": []}, InputError, "scores_normal.*empty"),
    ({"normal": [[1.0], [2.0]]}, InputError, r"scores_normal.*\(2, 1\).*ravel"),
    ({"normal": 3.0}, InputError, r"scores_normal.*wrong shape"),
    ({"anomaly": ["a"]}, InputError, "scores_anomaly.*not real numbers"),
    ({"anomaly": [1j]}, InputError, "scores_anomaly.*not real numbers"),
    ({"anomaly": np.float32([1.0])}, PrecisionError, "float32.*float64.*slack>="),
    ({"eps": -0.1}, InputError, "`eps`.*-0.1 at index 0"),
    ({"eps": [0.1, math.nan]}, InputError, "nan at index 1"),
    ({"eps": []}, InputError, "`eps`"),
    ({"eps": [[0.1]]}, InputError, r"`eps`.*\(1, 1\)"),
    ({"eps": "far"}, InputError, "`eps` is not a list of numbers"),
    ({"lipschitz": 0.0}, InputError, "lipschitz"),
    ({"lipschitz": -1.0}, InputError, "lipschitz"),
    ({"lipschitz": math.inf}, InputError, "lipschitz"),
    ({"attacker": "all"}, InputError, "'both' or 'normals' or 'anomalies'"),
    ({"slack": -1e-9}, InputError, "slack"),
]


@pytest.mark.parametrize(("change", "error", "text"), BAD)
@pytest.mark.parametrize("metric", FUNCTIONS)
def test_bad_input_is_refused_in_one_sentence(metric, change, error, text):
    call = {"normal": [1.0], "anomaly": [0.0], "eps": 0.1, **change}
    with pytest.raises(error, match=text):
        certified(metric, **call)


def test_bad_options_are_refused():
    for fpr in (-0.1, 1.0, math.nan, "much"):
        with pytest.raises(InputError, match="fpr"):
            certified_tpr([1.0], [0.0], 0.1, fpr=fpr)
    with pytest.raises(InputError, match="'attacked' or 'clean'"):
        certified_tpr([1.0], [0.0], 0.1, calibration="none")
    with pytest.raises(InputError, match="threshold"):
        certified_f1([1.0], [0.0], 0.1, threshold=math.nan)


def test_coarse_scores_are_taken_with_a_slack_that_covers_them():
    found = certified_auroc(np.float32([1.0]), np.float32([0.0]), [0.1, 0.499999], slack=1e-5)
    assert found.tolist() == [1.0, 0.0]


def test_the_caller_s_arrays_are_left_alone():
    normal = np.array([2.0, 1.0])
    normal.setflags(write=False)
    certified_auroc(normal, [0.0], 0.1)
    assert normal.tolist() == [2.0, 1.0]
