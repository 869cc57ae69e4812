"""The sampler, the priors, the loss, the recipe, and the choice of options without anomalies."""

from dataclasses import astuple

import numpy as np
import pytest
import torch

from onelip.core.errors import InputError
from onelip.oneclass import CertifiedKNN, NewtonSampler, Prior, SignedDistance
from onelip.oneclass.network import Trainer, hkr
from onelip.oneclass.sampler import automatic_eta
from onelip.oneclass.selection import GAIN, LAMBDAS, MARGINS, PRIORS, Choice, certified_mass_volume, choose


def linear(w, b):
    w = torch.tensor(w, dtype=torch.float64)
    return lambda z: (z @ w + b, w.expand(len(z), -1))


WIDE = torch.full((3,), 1e6, dtype=torch.float64)


@pytest.mark.parametrize(("steps", "eta"), [(4, 1.0), (4, 4.0), (1, 1.0), (8, 3.0)])
@pytest.mark.parametrize("slope", [1.0, 0.3])
def test_share_of_the_distance_that_is_kept(steps, eta, slope):
    f = linear([0.6 * slope, 0.0, -0.8 * slope], -2.0)
    z = torch.from_numpy(np.random.RandomState(0).normal(size=(50, 3))) * 0.3
    share = torch.linspace(0, 1, 50, dtype=torch.float64)
    assert (f(z)[0] < -0.5).all()
    moved = NewtonSampler(-WIDE, WIDE, steps, eta)(z, f, share)
    kept = (1 - eta / steps * share) ** steps
    np.testing.assert_allclose(f(moved)[0], f(z)[0] * kept, rtol=0, atol=1e-5)
    # along the gradient alone
    assert (moved[:, 1] == z[:, 1]).all()


def test_published_steps_never_arrive_and_ours_do():
    f, z = linear([1.0, 0.0, 0.0], -1.0), torch.zeros(1001, 3, dtype=torch.float64)
    share = torch.linspace(0, 1, 1001, dtype=torch.float64)
    published = NewtonSampler(-WIDE, WIDE, 4, 1.0)(z, f, share)
    ours = NewtonSampler(-WIDE, WIDE, 4, automatic_eta(4, 4))(z, f, share)
    assert -f(published)[0].max() == pytest.approx(0.75**4)
    assert f(published)[0].mean() == pytest.approx(-0.61, abs=0.01)
    assert -f(ours)[0].max() < 1e-6
    assert f(ours)[0].mean() == pytest.approx(-0.2, abs=0.01)
    assert [automatic_eta(d, 4) for d in (1, 3, 4, 50)] == [1.0, 1.0, 4.0, 4.0]


def test_sides_and_level():
    f = linear([1.0, 0.0, 0.0], 0.0)
    z = torch.tensor([[-2.0, 0, 0], [3.0, 0, 0]], dtype=torch.float64)
    one = torch.ones(2, dtype=torch.float64)
    assert NewtonSampler(-WIDE, WIDE, 2, 2.0)(z, f, one)[:, 0].tolist() == pytest.approx([0, 3], abs=1e-6)
    both = NewtonSampler(-WIDE, WIDE, 2, 2.0, level=-0.5, two_sided=True)(z, f, one)
    assert both[:, 0].tolist() == pytest.approx([-0.5, -0.5], abs=1e-6)
    still = NewtonSampler(-WIDE, WIDE, 0, 2.0)(z, f, one)
    assert torch.equal(still, z)


def test_projection_is_idempotent_and_moves_stay_in_the_box():
    low, high = torch.tensor([-1.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.5], dtype=torch.float64)
    sampler = NewtonSampler(low, high, 4, 4.0)
    z = torch.from_numpy(np.random.RandomState(0).normal(size=(200, 2)) * 3)
    once = sampler.project(z)
    assert torch.equal(sampler.project(once), once)
    assert not torch.equal(once, z)
    inside = ((z >= low) & (z <= high)).all(1)
    assert torch.equal(once[inside], z[inside])
    moved = sampler(z, linear([1.0, 1.0], -50.0), torch.ones(200, dtype=torch.float64))
    assert torch.equal(moved, high.expand(200, 2))


def test_flat_scores_do_not_blow_up():
    flat = linear([0.0, 0.0, 0.0], -1.0)
    z = torch.ones(4, 3, dtype=torch.float64)
    assert torch.equal(NewtonSampler(-WIDE, WIDE, 4, 4.0)(z, flat, torch.ones(4, dtype=torch.float64)), z)


def test_priors():
    random = np.random.RandomState(0)
    Z = np.stack((random.uniform(-1, 3, 500), np.full(500, 0.25)), 1)
    box = Prior.around(Z, "box")
    width = Z[:, 0].max() - Z[:, 0].min()
    assert box.low[0] == pytest.approx(Z[:, 0].min() - width / 2)
    assert (box.low[1], box.high[1]) == (-0.25, 0.75)  # a constant feature gets negatives too
    drawn = box.draw(4000, random)
    assert drawn.mean(0) == pytest.approx((box.low + box.high) / 2, abs=0.1)
    assert drawn.std(0) == pytest.approx((box.high - box.low) / 12**0.5, rel=0.05)
    gauss = Prior.around(Z, "gauss").draw(4000, random)
    assert gauss[:, 0].std() == pytest.approx(1.5, rel=0.07)
    marginals = Prior.around(Z * [1, 0], "marginals").draw(4000, random)
    assert (marginals[:, 1] == 0).all()
    assert marginals[:, 0].min() < Z[:, 0].min()
    for name in ("box", "gauss", "marginals", "box+gauss", "gauss+marginals+box"):
        some = Prior.around(Z, name).draw(101, random)
        assert some.shape == (101, 2)
        assert (some >= box.low).all()
        assert (some <= box.high).all()
    mix = Prior.around(Z * [1, 0], "marginals+box").draw(100, random)
    assert (mix[:50, 1] == 0).all()
    assert (mix[50:, 1] != 0).all()
    for bad in ("", "box+", "ball", None, 3):
        with pytest.raises(InputError, match="unknown prior"):
            Prior.around(Z, bad)


def test_marginals_break_what_goes_together():
    x = np.random.RandomState(0).normal(size=300)
    drawn = Prior.around(np.stack((x, x), 1), "marginals").draw(3000, np.random.RandomState(1))
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.1


def test_loss_by_hand():
    good, bad = torch.tensor([0.0, 2.0]), torch.tensor([-1.0, 0.5])
    # hinges (0.5 + 0) / 2 and (0 + 1) / 2, means 1 and -0.25
    assert float(hkr(good, bad, 0.5, 10.0)) == pytest.approx(0.25 + 0.5 - 1.25 / 10)
    # all margins met: only the means count
    assert float(hkr(good + 9, bad - 9, 0.5, 4.0)) == pytest.approx(-(10 + 9.25) / 4)


def test_sampler_gradient_is_that_of_the_network_in_training():
    trainer = Trainer.draw(5, 8, 2, np.random.RandomState(0))
    with torch.no_grad():
        trainer.free[0].mul_(1.7).add_(0.1)
    trainer.refresh()
    z = torch.from_numpy(np.random.RandomState(1).normal(size=(20, 5)))
    value, gradient = trainer.value_and_gradient(z)
    z.requires_grad_()
    expected = trainer.forward(z)
    (slope,) = torch.autograd.grad(expected.sum(), z)
    np.testing.assert_allclose(value, expected.detach(), atol=1e-12)
    np.testing.assert_allclose(gradient, slope, atol=1e-12)
    np.testing.assert_allclose(trainer.finish()(z.detach().numpy()), value, atol=1e-12)


def two_blobs(n, seed):
    random = np.random.RandomState(seed)
    side = random.randint(2, size=(n, 1)) * 2 - 1
    return random.normal(size=(n, 2)) * 0.15 + side * [1.0, 1.0]


def test_it_learns_a_distance():
    X = two_blobs(400, 0)
    detector = SignedDistance(steps=200, width=32, depth=2, random_state=0).fit(X)
    grid = np.stack(np.meshgrid(*[np.linspace(-2, 2, 25)] * 2), -1).reshape(-1, 2)
    truth = CertifiedKNN(1).fit(two_blobs(4000, 1)).score_samples(grid)
    far = truth < -0.2
    scores = detector.score_samples(grid)
    assert np.corrcoef(scores[far], truth[far])[0, 1] > 0.9
    assert scores[~far].mean() > scores[far].mean() + 0.3
    assert (detector.predict(two_blobs(400, 2)) == 1).mean() > 0.85
    assert detector.predict([[0.0, 0.0], [1.0, -1.0]]).tolist() == [-1, -1]  # between and beside the blobs
    slopes = np.linalg.norm(detector.gradient(grid[far]), axis=1)
    assert slopes.mean() > 0.8
    assert slopes.max() <= detector.lipschitz_
    assert 0 < detector.gradient_norm_ <= detector.lipschitz_


def test_two_sided_sampling_keeps_more_normal_rows_above_zero():
    X = two_blobs(400, 0)
    recall = {}
    for two_sided in (False, True):
        detector = SignedDistance(
            steps=120, width=16, depth=2, random_state=0, eta=4.0, two_sided=two_sided
        ).fit(X)
        recall[two_sided] = (detector.score_samples(two_blobs(400, 2)) > 0).mean()
    assert recall[True] > recall[False]


def test_mass_volume_counts_pairs():
    random = np.random.RandomState(0)
    normal, reference = random.normal(size=40).round(1), random.normal(size=60).round(1)
    for eps in (0.0, 0.05, 0.3):
        pairs = normal[:, None] - eps > reference + eps
        assert certified_mass_volume(normal, reference, eps) == pytest.approx(pairs.mean(), abs=0.02)
    assert certified_mass_volume(np.ones(3), np.ones(4), 0.0) == 0.0


def test_the_best_option_is_found():
    wanted = Choice(PRIORS[2], MARGINS[1], LAMBDAS[1])
    calls = []

    def trial(Z, choice, random):
        calls.append((len(Z), choice, random.randint(1000)))
        pairs = zip(astuple(choice), astuple(wanted), strict=True)
        right = sum(a == b for a, b in pairs)
        return lambda rows: -np.linalg.norm(rows, axis=1) * 4**right

    Z = np.random.RandomState(0).normal(size=(80, 3))
    start = Choice("box", 0.05, 10.0)
    best, records = choose(trial, Z, start, np.random.RandomState(0))
    assert best == wanted
    assert len(records) == len(calls) == len({call[1] for call in calls}) == 6
    assert {(n, seed) for n, _, seed in calls} == {(60, calls[0][2])}
    assert max(records, key=lambda r: r["score"])["lam"] == wanted.lam
    only, _ = choose(trial, Z, start, np.random.RandomState(0), only_prior=True)
    assert only == Choice(PRIORS[2], 0.05, 10.0)


def test_choosing_in_a_fit():
    X = np.random.RandomState(0).normal(size=(100, 4))
    options = {"steps": 10, "width": 8, "random_state": 0}
    chosen = SignedDistance(select="auto", **options).fit(X)
    assert len(chosen.choices_) >= 5
    scores = {(r["prior"], r["margin"], r["lam"]): r["score"] for r in chosen.choices_}
    assert scores[chosen.prior_, chosen.margin_, chosen.lam_] >= max(scores.values()) - 3 * GAIN
    assert scores[chosen.prior_, chosen.margin_, chosen.lam_] >= scores["box", 0.05, 10.0]
    prior = SignedDistance(prior="auto", margin=0.3, **options).fit(X)
    assert {record["margin"] for record in prior.choices_} == {prior.margin_} == {0.3}
    assert {record["prior"] for record in prior.choices_} == set(PRIORS)
    plain = SignedDistance(**options).fit(X)
    assert (plain.prior_, plain.margin_, plain.lam_, plain.choices_) == ("box", 0.05, 10.0, [])


def test_threads_are_put_back_and_global_randomness_is_left_alone():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    np.random.seed(5)  # noqa: NPY002
    SignedDistance(steps=2, width=4, random_state=0).fit(np.eye(4))
    drawn = np.random.uniform()  # noqa: NPY002
    assert drawn == np.random.RandomState(5).uniform()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
