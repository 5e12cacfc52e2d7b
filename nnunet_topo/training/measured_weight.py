"""Measures the weight that gives the topology term's gradient a wanted size."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

MEASURED_ITERATIONS = 40
_LOOKED_AT = 5  # times as many iterations at most, if some have no gradient
_SCATTER = 1.5  # factor by which a measurement may differ from the last by chance
_TAKEN = 2 / 3  # of the logarithm of such a change
_CHANGE = 10.0  # largest factor from one measurement to the next
_RANGE = 1e6  # largest factor between the weight and the printed one


@dataclass(slots=True)
class MeasuredWeight:
    """Sets a weight so that the ratio of gradient norms term : base has a wanted value.

    A measurement sums the norms of several iterations and divides the sums, so a single iteration
    hardly matters. It leaves out iterations in which one of the two gradients is 0 or not finite.
    After five times as many iterations as it needs, a measurement ends with those that it has. If
    it has none, the weight does not change; before the first successful measurement it is the
    printed one.

    A change of the weight by less than half is mostly scatter, so two thirds of it are taken, in
    the logarithm. Larger changes are taken whole.

    Two bounds keep rounding errors from turning into weights. A measurement changes the weight at
    most tenfold, because a term that is nearly satisfied has a small gradient, which should not be
    amplified at once. And the weight stays within a factor of a million of the printed one.

    Attributes:
        printed: weight at which the term's norms are measured.
        wanted: ratio.
        needed: number of iterations of a measurement.
        weight: result of the last measurement, 0 before the first one.
        base_norm: sum of the base loss's norms in the current measurement.
        term_norm: sum of the term's norms in it, at the printed weight.
        measured: number of its iterations with both gradients.
        looked_at: number of all its iterations.
        succeeded: whether a measurement has ended with gradients to compare.
    """

    printed: float
    wanted: float
    needed: int = MEASURED_ITERATIONS
    weight: float = 0.0
    base_norm: float = 0.0
    term_norm: float = 0.0
    measured: int = 0
    looked_at: int = 0
    succeeded: bool = False
    KEPT: ClassVar = ("weight", "base_norm", "term_norm", "measured", "looked_at", "succeeded")

    def record(self, base_norm: float, term_norm: float) -> str:
        """Adds the norms of an iteration, the term's at the printed weight.

        Returns:
            A line for the log if this ends the measurement, otherwise "".
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
        """Sets the weight from the measurement, and returns a line for the log."""
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
        if self.succeeded and 1 / _SCATTER < exact / before < _SCATTER:
            exact = before * (exact / before) ** _TAKEN
        if self.succeeded:
            least, most = max(least, before / _CHANGE), min(most, before * _CHANGE)
        self.weight, self.succeeded = min(max(exact, least), most), True
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

    def state(self) -> dict[str, Any]:
        """Returns the numbers that a resumed training needs."""
        return {name: getattr(self, name) for name in self.KEPT}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        for name in self.KEPT:
            setattr(self, name, state[name])
