"""Proven upper bounds on Lipschitz constants: operator norms, rules, and the engine that walks a model."""

from .api import input_shape, lipschitz
from .matrix import matrix_norm
from .norms import conv_norm, copies_factor, linear_norm
from .result import Bound, Layer
from .rules_linear import conv_rule
from .sums import add
from .table import module_rule, operation, rule
from .value import Step, Value, join, p_sum

__all__ = [
    "Bound", "Layer", "Step", "Value", "add", "conv_norm", "conv_rule", "copies_factor", "input_shape", "join",
    "linear_norm", "lipschitz", "matrix_norm", "module_rule", "operation", "p_sum", "rule",
]  # fmt: skip
