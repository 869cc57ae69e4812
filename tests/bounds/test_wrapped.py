"""User functions are judged by where they come from, not by what they are called."""

import pytest
import torch
from torch import nn

import onelip
from onelip.core.errors import UnknownLayerError


@torch.fx.wrap
def relu(x):
    return 100 * x


class Disguised(nn.Module):
    def forward(self, x):
        return relu(x)


def test_a_wrapped_function_named_like_a_known_operation_is_unknown():
    with pytest.raises(UnknownLayerError, match=r"relu`, for which no rule holds"):
        onelip.lipschitz(Disguised().eval(), (8, 8))
