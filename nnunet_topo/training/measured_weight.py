"""The weight at which the topology term's gradient has a wanted size."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

MEASURED_ITERATIONS = 40
_LOOKED_AT = 5  # times as many iterations, at most, where many have no gradient
_CHANGE = 10.0  # at most, from one measurement to the next
_RANGE = 1e6  # at most, up or down from the printed weight


@dataclass(slots=True)
class MeasuredWeight:
    """Sets a weight so that the ratio of gradient norms term : base has its wanted value.

    A measurement takes the norms of several iterations and divides their sums, so that single
    iterations hardly matter. Iterations without a gradient of the term or of the base loss, or with
    one that is not finite, say nothing about the ratio and are left out. A measurement looks at
    five times as many iterations as it needs, and then ends with those that it has. If it has none,
    the weight stays as it is; before the first one succeeds, it is the printed one.

    Two bounds keep rounding errors from becoming weights. A measurement changes the weight at most
    tenfold: a term that has done its work leaves a small gradient, which must not be blown up at
    once. And the weight stays within a factor of a million of the printed one.

    Attributes:
        printed: weight at which the term's norms are taken.
        wanted: ratio.
        needed: iterations of a measurement.
        weight: that the last measurement gave, 0 before the first one.
        base_norm: sum of the base loss's norms in the measurement at work.
        term_norm: sum of the term's, at its printed weight.
        measured: iterations of the measurement at work, with a gradient of both.
        looked_at: iterations of it, with or without.
    """

    printed: float
    wanted: float
    needed: int = MEASURED_ITERATIONS
    weight: float = 0.0
    base_norm: float = 0.0
    term_norm: float = 0.0
    measured: int = 0
    looked_at: int = 0
    KEPT: ClassVar = ("weight", "base_norm", "term_norm", "measured", "looked_at")

    def record(self, base_norm: float, term_norm: float) -> str:
        """Takes the norms of an iteration, the term's at its printed weight.

        Returns:
            What the measurement found, in words, if it is finished, else "".
        """
        self.looked_at += 1
        if base_norm > 0 and term_norm > 0 and isfinite(base_norm + term_norm):
            self.base_norm += base_norm
            self.term_norm += term_norm
            self.measured += 1
        if self.measured < self.needed and self.looked_at < _LOOKED_AT * self.needed:
            return ""
        words = self._finish()
        self.base_norm = self.term_norm = 0.0
        self.measured = self.looked_at = 0
        return words

    def _finish(self) -> str:
        """Sets the weight from what was measured, and returns words for the log."""
        before = self.weight
        if not self.measured:
            self.weight = before or self.printed
            kept = f"stays {before:.4g}" if before else f"is the printed one, {self.printed:.4g}"
            return (
                f"no gradient of term and base loss to compare in {self.looked_at} iterations; "
                f"the weight {kept}, until it is measured again"
            )
        ratio = self.term_norm / self.base_norm
        exact = self.printed * self.wanted / ratio
        least, most = self.printed / _RANGE, self.printed * _RANGE
        if before:
            least, most = max(least, before / _CHANGE), min(most, before * _CHANGE)
        self.weight = min(max(exact, least), most)
        at = before or self.printed
        iterations = f"{self.measured} iterations"
        if self.measured < self.looked_at:
            iterations += f" with a gradient, of {self.looked_at}"
        bound = "" if self.weight == exact else f" (bounded; {exact:.4g} was wanted)"
        return (
            f"gradient norm {ratio * at / self.printed:.4g} times that of the base loss at weight "
            f"{at:.4g}, over {iterations}; wanted {self.wanted:g} times, so the weight is now "
            f"{self.weight:.4g}{bound}"
        )

    def state(self) -> dict[str, float]:
        """Returns what a resumed training needs, as numbers."""
        return {name: getattr(self, name) for name in self.KEPT}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` returned."""
        for name in self.KEPT:
            setattr(self, name, state[name])
