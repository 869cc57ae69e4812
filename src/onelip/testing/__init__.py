"""Tools that try to falsify: measured lower bounds, a test for registered rules, attacks against certificates."""

from __future__ import annotations

from .measure import check_rule, lower_bound
from .sound import assert_sound

__all__ = ["assert_sound", "check_rule", "lower_bound"]
