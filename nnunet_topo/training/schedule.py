"""When the topology term is used, and with which weight."""

from dataclasses import dataclass, field
from typing import Any

from nnunet_topo.training.measured_weight import MEASURED_ITERATIONS, MeasuredWeight
from nnunet_topo.training.settings import Settings

_SHARE = 0.1  # of the training: length of the ramp, and interval between measurements
_UNKNOWN = -1


@dataclass(slots=True)
class WeightSchedule:
    """The weight of the topology term over a training.

    The term is off before its first epoch. Then its gradient is measured, which does not affect the
    network yet. As soon as the weight is known, it ramps up linearly. The network changes when the
    term begins to affect it, so the weight is measured again at the end of the ramp, and then after
    every tenth of the training. The former weight is used until a measurement ends; see
    `MeasuredWeight`. A weight in the trainer's name never changes.

    Attributes:
        nominal: weight as printed in the paper or given in the name.
        start: first epoch of the term.
        ramp: number of iterations until the full weight, 0 for no ramp.
        iterations: per epoch.
        every: n if the term is computed in every n-th iteration, with n times its weight.
        period: number of iterations from the start of a measurement to the start of the next.
        measured: weight that is measured, None if the nominal weight is used.
        known_since: iteration, counted from the term's start, at which the ramp begins; -1 if the
            weight is not known yet.
        measures_from: iteration, counted from the term's start, at which the next measurement
            begins.
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
            settings: in the trainer's name.
            printed: weight in the paper.
            wanted_ratio: of gradient norms term : base, None to use the printed weight. A ratio or
                a weight in the settings replaces it.
            epochs: of the training.
            iterations: per epoch.
        """
        # A finished model is already trained without the term, so the term starts at once.
        start = 0 if settings.finetune else epochs // 2
        share = round(_SHARE * epochs * iterations)
        every = settings.every or 1
        period = max(1, share)
        wanted = wanted_ratio if settings.ratio is None else settings.ratio
        # With a start in the name, the full weight applies at once, as in the papers, or as soon
        # as it is measured.
        ramp = share if settings.start is None else 0
        measured = None
        if settings.weight is None and wanted is not None and printed > 0:
            needed = min(MEASURED_ITERATIONS, max(1, period // every))
            measured = MeasuredWeight(printed, wanted, needed)
            ramp = max(ramp, needed * every)
        return cls(
            nominal=printed if settings.weight is None else settings.weight,
            start=start if settings.start is None else settings.start,
            ramp=ramp,
            iterations=iterations,
            every=every,
            period=period,
            measured=measured,
        )

    def for_debug_json(self) -> dict[str, Any]:
        """Returns the entries of the schedule for nnU-Net's debug.json."""
        return {
            "weight": self.nominal,
            "wanted_ratio": None if self.measured is None else self.measured.wanted,
            "start_epoch": self.start,
            "ramp_iterations": self.ramp,
            "every": self.every,
        }

    @property
    def is_on(self) -> bool:
        """Returns whether the term is used at all."""
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
        """Returns whether an iteration with the term belongs to a measurement."""
        now = self._since_start(epoch, iteration)
        return self.measured is not None and now >= self.measures_from

    def record(self, base_norm: float, term_norm: float, epoch: int, iteration: int) -> str:
        """Adds the gradient norms of an iteration to a measurement, the term's at nominal weight.

        Returns:
            A line for the log if this ends the measurement, otherwise "".
        """
        assert self.measured is not None
        words = self.measured.record(base_norm, term_norm)
        if words:
            now = self._since_start(epoch, iteration)
            self.measures_from = (now // self.period + 1) * self.period
            if not self.is_known:
                self.known_since = now + 1
                length = self.measured.needed * self.every
                self.measures_from = self.known_since + max(0, self.ramp - length)
        return words

    def weight(self, epoch: int, iteration: int) -> float | None:
        """Returns the weight in an iteration with the term, None if it is not known yet."""
        if not self.is_known:
            return None
        done = self._since_start(epoch, iteration) - max(self.known_since, 0) + 1
        ramp = min(1.0, done / self.ramp) if self.ramp else 1.0
        full = self.nominal if self.measured is None else self.measured.weight
        return ramp * full * self.every

    def state(self) -> dict[str, Any]:
        """Returns the numbers that a resumed training needs."""
        if self.measured is None:
            return {}
        own = {"known_since": self.known_since, "measures_from": self.measures_from}
        return own | self.measured.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned; nothing if another trainer wrote the checkpoint."""
        if self.measured is not None and state:
            self.known_since = state["known_since"]
            self.measures_from = state["measures_from"]
            self.measured.restore(state)

    def _since_start(self, epoch: int, iteration: int) -> int:
        return (epoch - self.start) * self.iterations + iteration
