"""When the topology term counts, and how much."""

from dataclasses import asdict, dataclass
from typing import Any

from nnunet_topo.training.settings import Settings

MEASURED_ITERATIONS = 20
_RAMP = 0.1  # of all epochs


@dataclass(slots=True)
class WeightSchedule:
    """The weight of the topology term over a training.

    The term is off before its first epoch, then ramps up linearly. In its first iterations, the
    ratio of gradient norms topology : base at the last layer is measured. If the ratio exceeds 1,
    the weight is divided by it. A weight that the user gave is never changed.

    Attributes:
        nominal: weight as printed in the paper or given in the name.
        given: whether the user gave it.
        start: first epoch of the term.
        ramp: iterations until the full weight; 0 for none.
        iterations: per epoch.
        every: the term is computed in every n-th iteration, with n times its weight.
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

    @classmethod
    def planned(
        cls, settings: Settings, *, printed: float, epochs: int, iterations: int
    ) -> "WeightSchedule":
        """Returns the schedule of a training.

        Args:
            settings: of the trainer's name.
            printed: weight in the paper.
            epochs: of the training.
            iterations: per epoch.
        """
        # A finished model has had its supervised epochs: the term starts, and ramps up, at once.
        start = 0 if settings.finetune else epochs // 2
        ramp = round(_RAMP * epochs * iterations)
        return cls(
            nominal=printed if settings.weight is None else settings.weight,
            given=settings.weight is not None,
            start=start if settings.start is None else settings.start,
            # A start that is given asks for the full weight at once, as the papers have it.
            ramp=ramp if settings.start is None else 0,
            iterations=iterations,
            every=settings.every or 1,
        )

    def for_debug_json(self) -> dict[str, Any]:
        """Returns what nnU-Net's debug.json tells of the schedule."""
        return {
            "weight": self.nominal,
            "weight_given": self.given,
            "start_epoch": self.start,
            "ramp_iterations": self.ramp,
            "every": self.every,
        }

    @property
    def is_on(self) -> bool:
        """Returns whether the term counts at all."""
        return self.nominal > 0

    def is_due(self, epoch: int, iteration: int) -> bool:
        """Returns whether the term is computed in this iteration of this epoch."""
        since_start = (epoch - self.start) * self.iterations + iteration
        return self.is_on and since_start >= 0 and since_start % self.every == 0

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

        An iteration whose term has no gradient says nothing about the ratio and is not counted.
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

    def measured_in_words(self) -> str:
        """Returns a line for the log about the measured ratio and the weight that follows."""
        lowered = self.nominal / max(1.0, self.ratio)
        return (
            f"gradient norm {self.ratio:.3g} times that of the base loss over "
            f"{MEASURED_ITERATIONS} iterations; weight {self.nominal:.3g} -> {lowered:.3g}"
        )

    def weight(self, epoch: int, iteration: int) -> float:
        """Returns the weight in force in an iteration in which the term is due."""
        done = (epoch - self.start) * self.iterations + iteration + 1
        ramp = min(1.0, done / self.ramp) if self.ramp else 1.0
        return ramp * self.full_weight / max(1.0, self.ratio)

    def state(self) -> dict[str, float]:
        """Returns what a resumed training needs, as numbers."""
        return {name: asdict(self)[name] for name in ("base_norm", "topology_norm", "measured")}

    def restore(self, state: dict[str, float]) -> None:
        """Takes what `state` returned."""
        self.base_norm, self.topology_norm = state["base_norm"], state["topology_norm"]
        self.measured = int(state["measured"])
