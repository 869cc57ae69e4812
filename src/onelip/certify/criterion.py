"""The base of all criteria: small immutable objects with value, worst_case and radius."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from onelip.certify.costs import check_label
from onelip.certify.scores import Classifier, Scores, image_constants
from onelip.core import checks, errors

Eps = float | Sequence[float] | Tensor


class Criterion(ABC):
    """A performance measure of a dense prediction whose worst case over a ball can be bounded.

    Subclasses implement `_value`, `_worst` and `_radius` on checked `Scores`; this class checks the input
    once and gives all criteria the same signature. `exact` says whether the worst case over all logits within
    `L eps` is attained (True) or only bounded (False); `higher_is_better` says on which side: certified
    values are lower bounds of a measure that should be high, upper bounds of an error rate.
    """

    higher_is_better: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    needs_target: ClassVar[bool] = True
    ignore_index: int

    @property
    def named_class(self) -> int | None:
        """The one class that the criterion is about, if there is one."""
        return None

    @property
    def name(self) -> str:
        """Name used in tables and files, with the class that it is about: `PixelAccuracy`, `IoU(1)`."""
        label = "" if self.named_class is None else f"({self.named_class})"
        return type(self).__name__ + label

    def exact_for(self, classes: int, classifier: Classifier | None = None) -> bool:  # noqa: ARG002
        """Say if the worst case is attained for logits of so many classes, and with these feature costs.

        Args:
            classes: K, the number of logits.
            classifier: as in `worst_case`.
        """
        return self.exact

    def value(self, logits: Tensor, target: Tensor | None = None) -> Tensor:
        """Clean value of each image.

        Args:
            logits: (B, K, H, W) float32 or float64, finite.
            target: (B, H, W) int64; `ignore_index` marks void pixels.

        Returns:
            (B,) float64; nan where the value is undefined (no pixel counts).

        Raises:
            InputError: for wrong shapes, dtypes, labels out of range or non-finite logits.
        """
        return self._value(self._scores(logits, target))

    def worst_case(
        self,
        logits: Tensor,
        target: Tensor | None = None,
        *,
        eps: Eps,
        lipschitz: Any,
        p: float = 2,
        classifier: Classifier | None = None,
    ) -> Tensor:
        r"""Certified value under every perturbation with :math:`\|\delta\|_p \le \epsilon`.

        Guarantee: sound bound (`exact` says if it is attained in output space), given that `lipschitz` bounds
        the joint l_p constant of the whole map of logits. The ball is closed, ties and zero margins favour
        the attacker, sums are float64 and the budget carries a relative slack of at least 1e-9.

        Args:
            logits: (B, K, H, W) clean logits.
            target: (B, H, W) int64.
            eps: perturbation sizes, in l_p norm of the whole image with values in [0, 1].
            lipschitz: constant of the model, or one for each image. With `classifier`, the backbone's.
            p: 1, 2 or inf. For p = inf pixels are independent.
            classifier: (weight,) of the last 1x1 layer, for the tighter feature-space costs.

        Returns:
            (E, B) float64; nan where the value is undefined.

        Raises:
            InputError: for invalid logits, labels, eps, norm, constant or classifier.
        """
        values = checks.eps_values(eps)
        return self._worst(self._scores(logits, target, lipschitz, p, classifier), values)

    def evaluate(
        self,
        logits: Tensor,
        target: Tensor | None = None,
        *,
        eps: Eps,
        lipschitz: Any,
        p: float = 2,
        classifier: Classifier | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`value` (B,) and `worst_case` (E, B) together: the logits are checked and ranked once.

        Args:
            logits: as in `worst_case`.
            target: as in `worst_case`.
            eps: as in `worst_case`.
            lipschitz: as in `worst_case`.
            p: 1, 2 or inf.
            classifier: as in `worst_case`.

        Raises:
            InputError: as `worst_case`.
        """
        values = checks.eps_values(eps)
        scores = self._scores(logits, target, lipschitz, p, classifier)
        return self._value(scores), self._worst(scores, values)

    def radius(
        self,
        logits: Tensor,
        target: Tensor | None = None,
        *,
        threshold: float,
        lipschitz: Any,
        p: float = 2,
        classifier: Classifier | None = None,
    ) -> Tensor:
        """Certified radius: no perturbation with a smaller norm brings the value to the threshold.

        Guarantee: sound lower bound of the true radius, rounded down by the slack. Assumptions as in
        `worst_case`.

        Args:
            logits: (B, K, H, W) clean logits.
            target: (B, H, W) int64.
            threshold: the value that must not be reached (<= threshold; >= threshold for error rates).
            lipschitz: as in `worst_case`.
            p: 1, 2 or inf.
            classifier: as in `worst_case`.

        Returns:
            (B,) float64: 0 where the clean value is already there, inf where nothing can bring it there, nan
            where it is undefined.

        Raises:
            InputError: as `worst_case`, and for a threshold that is not finite.
        """
        value = checks.number("threshold", threshold)
        return self._radius(self._scores(logits, target, lipschitz, p, classifier), value)

    def _scores(
        self,
        logits: Tensor,
        target: Tensor | None,
        lipschitz: Any = None,
        p: float = 2,
        classifier: Classifier | None = None,
    ) -> Scores:
        logits = checks.logits(logits).detach()
        norm = checks.norm(p)
        if self.named_class is not None:
            check_label(self.named_class, logits.shape[1])
        if target is not None:
            target = checks.target(target, logits, self.ignore_index)
        elif self.needs_target:
            raise errors.InputError(
                errors.explain(
                    f"{self.name}: `target` is missing",
                    received=None,
                    expected="int64 labels of shape (B, H, W)",
                    why="this criterion compares predictions with labels",
                    fix="pass the labels, or use Stability(), which needs none",
                )
            )
        constants = () if lipschitz is None else image_constants(lipschitz, logits.shape[0])
        return Scores(logits, target, self.ignore_index, constants, norm, classifier)

    @abstractmethod
    def _value(self, scores: Scores) -> Tensor:
        """(B,) clean values."""

    @abstractmethod
    def _worst(self, scores: Scores, eps: Tensor) -> Tensor:
        """(E, B) worst cases."""

    @abstractmethod
    def _radius(self, scores: Scores, threshold: float) -> Tensor:
        """(B,) radii."""


def check_class(argument: str, value: int, ignore_index: int) -> None:
    """Raise InputError unless `value` can be the class of a criterion: an integer >= 0 that is not void."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0 or value == ignore_index:
        raise errors.InputError(
            errors.explain(
                f"certify: `{argument}` is not a class",
                received=repr(value),
                expected=f"an integer >= 0, other than ignore_index={ignore_index}",
            )
        )
