"""When the topology term counts, and how much."""

from dataclasses import dataclass, field
from typing import Any

from nnunet_topo.training.measured_weight import MEASURED_ITERATIONS, MeasuredWeight
from nnunet_topo.training.settings import Settings

_SHARE = 0.1  # of the training: length of the ramp, and time from one measurement to the next
_UNKNOWN = -1


@dataclass(slots=True)
class WeightSchedule:
    """The weight of the topology term over a training.

    The term is off before its first epoch. Then its gradient is measured: only when the weight is
    known does the term count, and its weight ramp up linearly. After every tenth of the training
    the weight is measured again; meanwhile the former one stays in force. See `MeasuredWeight`. A
    given weight is never changed.

    Attributes:
        nominal: weight as printed in the paper or given in the name.
        start: first epoch of the term.
        ramp: iterations until the full weight; 0 for none.
        iterations: per epoch.
        every: the term is computed in every n-th iteration, with n times its weight.
        period: iterations from the start of a measurement to that of the next.
        measured: weight that is measured, None for one that is used as it is.
        known_since: iteration, counted from the term's start, at which the ramp begins; -1 while
            the weight is not known.
        measures_from: iteration, counted likewise, at which the next measurement starts.
    """

    nominal: float
    start: int
    ramp: int
    iterations: int
    every: int = 1
    period: int = 1
    measured: MeasuredWeight | None = None
    known_since: int = field(default=_UNKNOWN)
    measures_from: int = 0

    @classmethod
    def planned(
        cls,
        settings: Settings,
        *,
        printed: float,
        wanted_ratio: float | None,
        epochs: int,
        iterations: int,
    ) -> "WeightSchedule":
        """Returns the schedule of a training.

        Args:
            settings: of the trainer's name.
            printed: weight in the paper.
            wanted_ratio: of gradient norms term : base, None to use the printed weight as it is;
                the settings may name another, or a weight.
            epochs: of the training.
            iterations: per epoch.
        """
        # A finished model has had its supervised epochs: the term starts, and ramps up, at once.
        start = 0 if settings.finetune else epochs // 2
        share = round(_SHARE * epochs * iterations)
        every = settings.every or 1
        period = max(1, share)
        wanted = wanted_ratio if settings.ratio is None else settings.ratio
        measured = None
        if settings.weight is None and wanted is not None and printed > 0:
            needed = min(MEASURED_ITERATIONS, max(1, period // every))
            measured = MeasuredWeight(printed, wanted, needed)
        return cls(
            nominal=printed if settings.weight is None else settings.weight,
            start=start if settings.start is None else settings.start,
            # A start that is given asks for the full weight at once, as the papers have it.
            ramp=share if settings.start is None else 0,
            iterations=iterations,
            every=every,
            period=period,
            measured=measured,
        )

    def for_debug_json(self) -> dict[str, Any]:
        """Returns what nnU-Net's debug.json tells of the schedule."""
        return {
            "weight": self.nominal,
            "wanted_ratio": None if self.measured is None else self.measured.wanted,
            "start_epoch": self.start,
            "ramp_iterations": self.ramp,
            "every": self.every,
        }

    @property
    def is_on(self) -> bool:
        """Returns whether the term counts at all."""
        return self.nominal > 0

    @property
    def is_known(self) -> bool:
        """Returns whether the weight is given or has been measured."""
        return self.measured is None or self.known_since != _UNKNOWN

    def is_due(self, epoch: int, iteration: int) -> bool:
        """Returns whether the term is computed in this iteration of this epoch."""
        since_start = self._since_start(epoch, iteration)
        return self.is_on and since_start >= 0 and since_start % self.every == 0

    def is_measuring(self, epoch: int, iteration: int) -> bool:
        """Returns whether an iteration in which the term is due belongs to a measurement."""
        now = self._since_start(epoch, iteration)
        return self.measured is not None and now >= self.measures_from

    def record(self, base_norm: float, term_norm: float, epoch: int, iteration: int) -> str:
        """Takes the gradient norms of an iteration of a measurement, the term's at nominal weight.

        Returns:
            What was measured, in words, where the measurement ends, else "".
        """
        assert self.measured is not None
        words = self.measured.record(base_norm, term_norm)
        if words:
            now = self._since_start(epoch, iteration)
            self.measures_from = (now // self.period + 1) * self.period
            if not self.is_known:
                self.known_since = now + 1
        return words

    def weight(self, epoch: int, iteration: int) -> float | None:
        """Returns the weight in force where the term is due, None while it is not known."""
        if not self.is_known:
            return None
        done = self._since_start(epoch, iteration) - max(self.known_since, 0) + 1
        ramp = min(1.0, done / self.ramp) if self.ramp else 1.0
        full = self.nominal if self.measured is None else self.measured.weight
        return ramp * full * self.every

    def state(self) -> dict[str, float]:
        """Returns what a resumed training needs, as numbers."""
        if self.measured is None:
            return {}
        own = {"known_since": self.known_since, "measures_from": self.measures_from}
        return own | self.measured.state()

    def restore(self, state: dict[str, Any]) -> str:
        """Takes what `state` returned.

        A checkpoint of a version that only lowered weights has no weight that could be continued:
        the weight is then measured at once, and ramps up again.

        Returns:
            What is to be said about it in the log, "" for nothing.
        """
        if self.measured is None:
            return ""
        if "known_since" in state:
            self.known_since = state["known_since"]
            self.measures_from = state["measures_from"]
            self.measured.restore(state)
            return ""
        if not state.get("measured"):  # the term had not started
            return ""
        return (
            "an older version wrote this checkpoint, which only lowered weights: the weight is "
            "measured anew and ramps up again"
        )

    def _since_start(self, epoch: int, iteration: int) -> int:
        return (epoch - self.start) * self.iterations + iteration
