"""Fork and Blend: norms by brute force, bounds, folding, export, errors."""

from __future__ import annotations

import math

import pytest
import torch
from dense import matrix, singular_values
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import onelip
from onelip.core.errors import InputError, UnknownLayerError
from onelip.layers import Blend, Fork, OrthogonalConv2d, fold, rules

SHARES = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=5)


class Sideways(nn.Module):
    """All outputs of a fork, or a blend of pieces of the channels."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        if isinstance(self.layer, Fork):
            return torch.cat(self.layer(x), dim=1)
        width = x.shape[1] // self.layer.parts
        return self.layer(*(x[:, i * width : (i + 1) * width] for i in range(self.layer.parts)))


class Diamond(nn.Module):
    """Fork, map each copy, blend them."""

    def __init__(self, parts: int = 3) -> None:
        super().__init__()
        self.fork, self.blend = Fork(parts), Blend(parts, shares=range(1, parts + 1))
        self.convs = nn.ModuleList([OrthogonalConv2d(3, 3, 3) for _ in range(parts)])

    def forward(self, x):
        return self.blend(*(conv(u) for conv, u in zip(self.convs, self.fork(x), strict=True)))


def bound(layer, p=2.0, channels=4):
    return onelip.lipschitz(layer.eval(), (2, 3), in_channels=channels, p=p).value


@settings(max_examples=20, deadline=None)
@given(shares=SHARES, p=st.sampled_from([1.0, 2.0, math.inf]))
def test_weights_norms_and_bounds(shares, p):
    parts = len(shares)
    for kind, channels in ((Fork, 1), (Blend, parts)):
        layer = Sideways(kind(parts, shares=shares).double())
        weights = layer.layer.weights.detach()
        assert float(weights.square().sum()) == pytest.approx(1.0, abs=1e-6)
        assert torch.allclose(weights.square() * sum(shares), torch.tensor(shares).double(), rtol=1e-5)
        dense = matrix(layer, (channels, 2, 3))
        truth = float(torch.linalg.matrix_norm(dense, {1.0: 1, 2.0: 2, math.inf: math.inf}[p]))
        assert truth * (1 - 1e-12) <= bound(layer, p, channels) <= truth * (1 + 1e-9)


def test_a_fork_is_an_isometry_and_a_blend_its_adjoint():
    torch.manual_seed(0)
    fork, blend = Fork(3, shares=(1, 2, 3)).double(), Blend(3, shares=(1, 2, 3)).double()
    assert torch.allclose(singular_values(Sideways(fork), (2, 2, 2)), torch.ones(8).double())
    x = torch.randn(1, 2, 2, 2).double()
    assert torch.allclose(blend(*fork(x)), x)
    down, up = matrix(Sideways(fork), (1, 2, 3)), matrix(Sideways(blend), (3, 2, 3))
    assert torch.allclose(down.T, up)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_diamond_keeps_the_norm(parts):
    torch.manual_seed(parts)
    net = Diamond(parts).double()
    nn.init.normal_(net.fork.logits, std=3.0)
    nn.init.normal_(net.blend.logits, std=3.0)
    top = float(singular_values(net, (3, 4, 4)).max())
    assert top <= bound(net, channels=3) <= 1 + 1e-8
    with torch.no_grad():
        net.blend.logits.copy_(net.fork.logits)
    assert bound(net, channels=3) == pytest.approx(1.0, abs=1e-6)


def test_loops_over_the_outputs_are_followed_layer_by_layer():
    names = [row.rule for row in onelip.lipschitz(Diamond().eval(), (3, 4, 4)).layers]
    assert names == ["OrthogonalConv2d"] * 3 + ["Blend"]


def test_single_outputs_and_plain_sums():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.fork = Fork(2, shares=(0.36, 0.64))

        def forward(self, x):
            return self.fork(x)[1]

    class Undone(Half):
        def forward(self, x):
            a, b = self.fork(x)
            return a + b

    assert bound(Half()) == pytest.approx(0.8, rel=1e-6)
    assert bound(Undone()) == pytest.approx(1.4, rel=1e-6)


def test_shares_are_trained_and_never_vanish():
    net = Diamond(2)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e3)
    for _ in range(20):
        optimizer.zero_grad()
        net.fork(torch.ones(1))[0].square().sum().backward()
        optimizer.step()
    assert net.fork.logits.isfinite().all()
    assert net.fork.logits.grad.isfinite().all()
    assert net.fork.weights[0] < 0.1
    with torch.no_grad():
        net.fork.logits.copy_(
            torch.tensor([0.0, -1e4])
        )  # the root of a share of zero has no gradient, this has
    net.fork(torch.ones(1))[0].sum().backward()
    assert net.fork.logits.grad.isfinite().all()


def test_folding_turns_shares_into_constants():
    torch.manual_seed(0)
    net = Diamond().eval()
    nn.init.normal_(net.fork.logits)
    folded = fold(net)
    x = torch.rand(2, 3, 5, 4)
    assert not [name for name, _ in folded.named_parameters() if "logits" in name]
    assert torch.equal(folded.fork.fixed, net.fork.weights)
    assert torch.allclose(folded(x), net(x), atol=1e-6)
    assert str(fold(folded)) == str(folded)
    assert bound(folded, channels=3) == pytest.approx(bound(net, channels=3), rel=1e-6)
    assert isinstance(net.fork.logits, nn.Parameter)
    fresh = nn.ModuleList([Fork(3, learned=False), Blend(3, learned=False)])
    state = nn.ModuleList([folded.fork, folded.blend]).state_dict()
    assert fresh.load_state_dict(state, strict=True)
    assert torch.equal(fresh[0].weights, net.fork.weights)
    assert torch.equal(fresh[1].weights, net.blend.weights)


def test_the_bound_reads_the_weights_that_are_there():
    net = fold(Diamond(2)).eval()
    before = bound(net, channels=3)
    net.fork.fixed.mul_(3.0)
    assert bound(net, channels=3) == pytest.approx(3 * before, rel=1e-6)


def test_a_changed_fork_has_no_rule_and_does_not_fold():
    class Doubled(Fork):
        def forward(self, x):
            return tuple(2 * u for u in super().forward(x))

    class Louder(Fork):
        @property
        def weights(self):
            return 2 * super().weights

    for changed in (Doubled, Louder):
        with pytest.raises(UnknownLayerError, match="no rule holds"):
            bound(Sideways(changed(2)))
        with pytest.raises(UnknownLayerError, match="cannot be folded"):
            fold(nn.Sequential(changed(2)))


def test_wrong_rules_are_seen(monkeypatch):
    """A weight forgotten in the rule of either layer is more than the dense matrix says, or less."""
    fork, blend = Sideways(Fork(2)).double(), Sideways(Blend(2, shares=(1, 3))).double()
    top = [float(singular_values(net, (2, 2, 2)).max()) for net in (fork, blend)]
    assert [bound(net, channels=2) for net in (fork, blend)] == pytest.approx(top)
    add = rules.add
    monkeypatch.setattr(
        rules, "add", lambda terms, **options: add([(0.7 * w, v) for w, v in terms], **options)
    )
    assert bound(blend, channels=2) < top[1]


def test_export_to_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net = fold(Diamond(2))
    x = torch.rand(2, 3, 6, 5)
    batch = {"x": {0: torch.export.Dim("batch", min=1)}}
    file = str(tmp_path / "net.onnx")
    torch.onnx.export(net, (x,), file, dynamo=True, external_data=False, verbose=False, dynamic_shapes=batch)
    session = runtime.InferenceSession(file)
    for images in (x, x[:1]):
        found = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
        assert torch.allclose(torch.from_numpy(found), net(images), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Fork(0), "parts is not usable"),
        (lambda: Fork(2.0), "parts is not usable"),
        (lambda: Blend(True), "parts is not usable"),
        (lambda: Fork(2, shares=(1.0,)), "2 positive numbers"),
        (lambda: Fork(2, shares=(1.0, 0.0)), "2 positive numbers"),
        (lambda: Fork(2, shares=(1.0, math.nan)), "2 positive numbers"),
        (lambda: Blend(2)(torch.zeros(1, 2)), "expected 2 tensors"),
        (lambda: Blend(2)(torch.zeros(1, 2), torch.zeros(1, 3)), "branches cannot be blended"),
    ],
)
def test_errors(make, text):
    with pytest.raises(InputError, match=text):
        make()


def test_branches_that_broadcast_have_no_bound():
    class Broadcast(nn.Module):
        def __init__(self):
            super().__init__()
            self.blend = Blend(2)

        def forward(self, x):
            return self.blend(x, x[..., :1])

    with pytest.raises(UnknownLayerError, match="differ in shape"):
        bound(Broadcast())
