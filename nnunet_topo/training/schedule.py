"""When the topology term counts, and how much."""

from dataclasses import asdict, dataclass

MEASURED_ITERATIONS = 20


@dataclass(slots=True)
class WeightSchedule:
    """The weight of the topology term over a training.

    The term is off before its first epoch, then ramps up linearly. While it starts, the ratio of
    gradient norms topology : base at the last layer is measured; where it exceeds 1 the weight is
    divided by it. A weight that the user gave is never altered so.

    Attributes:
        nominal: weight as printed in the paper or given in the name.
        given: whether the user gave it.
        start: first epoch of the term.
        ramp: iterations until the full weight; 0 for none.
        iterations: per epoch.
        every: the term is computed in each of so many iterations, so many times as heavy.
        base_norm: sum of the base loss's gradient norms measured so far.
        topology_norm: sum of the term's, at its full weight.
        measured: number of iterations measured so far.
    """

    nominal: float
    given: bool
    start: int
    ramp: int
    iterations: int
    every: int = 1
    base_norm: float = 0.0
    topology_norm: float = 0.0
    measured: int = 0

    def is_due(self, epoch: int, iteration: int) -> bool:
        """Returns whether the term is computed in this iteration of this epoch."""
        since_start = (epoch - self.start) * self.iterations + iteration
        return self.nominal > 0 and since_start >= 0 and since_start % self.every == 0

    @property
    def measures(self) -> bool:
        """Returns whether gradient norms are still to be measured."""
        return not self.given and self.measured < MEASURED_ITERATIONS

    @property
    def full_weight(self) -> float:
        """Returns the weight of the term when it is computed, before lowering and ramp."""
        return self.nominal * self.every

    def record(self, base_norm: float, topology_norm: float) -> None:
        """Takes the gradient norms of one iteration, the term's at its full weight.

        An iteration whose term has no gradient tells nothing of the ratio and is not counted.
        """
        if topology_norm == 0:
            return
        self.base_norm += base_norm
        self.topology_norm += topology_norm
        self.measured += 1

    @property
    def ratio(self) -> float:
        """Returns the measured ratio topology : base, 0 while nothing is known."""
        return self.topology_norm / self.base_norm if self.base_norm > 0 else 0.0

    def weight(self, epoch: int, iteration: int) -> float:
        """Returns the weight in force in an iteration in which the term is due."""
        done = (epoch - self.start) * self.iterations + iteration + 1
        ramp = min(1.0, done / self.ramp) if self.ramp else 1.0
        return ramp * self.full_weight / max(1.0, self.ratio)

    def state(self) -> dict[str, float]:
        """Returns what a resumed training needs, as plain numbers."""
        return {name: asdict(self)[name] for name in ("base_norm", "topology_norm", "measured")}

    def restore(self, state: dict[str, float]) -> None:
        """Takes what `state` returned."""
        self.base_norm, self.topology_norm = state["base_norm"], state["topology_norm"]
        self.measured = int(state["measured"])
