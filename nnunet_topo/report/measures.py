"""Which metrics can be compared, what they are called and in which direction they are better."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric as the report has it.

    Attributes:
        title: what it is called.
        higher_is_better: else lower is.
        digits: after the decimal point.
    """

    title: str
    higher_is_better: bool
    digits: int = 2

    @property
    def direction(self) -> str:
        """Returns which values are better, in words."""
        return "higher is better" if self.higher_is_better else "lower is better"


# Betti numbers themselves and the signed volume error are left out: neither direction is better.
MEASURES = {
    "Dice": Measure("Dice", True, 4),
    "IoU": Measure("IoU", True, 4),
    "topo_betti_error": Measure("Betti error", False),
    "topo_betti_error_0": Measure("Betti error, components", False),
    "topo_betti_error_1": Measure("Betti error, loops", False),
    "topo_betti_error_2": Measure("Betti error, cavities", False),
    "topo_betti_exact": Measure("right Betti numbers (share of cases)", True, 3),
    "topo_betti_matching_error": Measure("Betti matching error", False),
    "topo_euler_error": Measure("Euler characteristic error", False),
    "topo_cce_3d": Measure("component error", False),
    "topo_cce_2d": Measure("component error in slices", False),
    "topo_cldice": Measure("clDice", True, 4),
    "topo_hd95_mm": Measure("HD95 (mm)", False),
    "topo_nsd": Measure("normalised surface distance", True, 4),
    "topo_precision": Measure("precision", True, 4),
    "topo_recall": Measure("recall", True, 4),
    "topo_accuracy": Measure("accuracy", True, 5),
    "topo_aver": Measure("absolute volume error (ratio)", False, 4),
    "topo_voi": Measure("variation of information (bits)", False, 4),
    "topo_ari": Measure("adjusted Rand index", True, 4),
}

# Few, and chosen before anything is seen: each further test makes every other one weaker.
DEFAULT_METRICS = (
    "Dice",
    "topo_cldice",
    "topo_hd95_mm",
    "topo_betti_error",
    "topo_betti_matching_error",
    "topo_betti_exact",
)
