"""Which metrics can be compared, what they are called and in which direction they are better."""

from dataclasses import dataclass
from math import inf
from typing import Literal

Unit = Literal["mm", "pixels", "voxels"]
_SHARE = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Measure:
    """How the report shows a metric.

    Attributes:
        title: what it is called, without its unit.
        higher_is_better: otherwise lower is better.
        meaning: for a reader who does not know it; docs/metrics.md has the definition.
        digits: after the decimal point.
        is_distance: whether it has the unit of the images' spacing.
        limits: lowest and highest possible value.
    """

    title: str
    higher_is_better: bool
    meaning: str
    digits: int = 2
    is_distance: bool = False
    limits: tuple[float, float] = (0.0, inf)

    @property
    def direction(self) -> str:
        """Returns which values are better, in words."""
        return "higher is better" if self.higher_is_better else "lower is better"

    def title_in(self, unit: Unit) -> str:
        """Returns the title, of a distance with its unit."""
        return f"{self.title} ({unit})" if self.is_distance else self.title


# Betti numbers themselves and the signed volume error are left out: neither direction is better.
MEASURES = {
    "Dice": Measure("Dice", True, "overlap with the reference, 1 is all of it", 4, limits=_SHARE),
    "IoU": Measure(
        "IoU", True, "overlap as a share of prediction and reference together", 4, limits=_SHARE
    ),
    "topo_betti_error": Measure(
        "Betti error", False, "components, loops and cavities too many or too few, in number"
    ),
    "topo_betti_error_0": Measure(
        "Betti error, components", False, "components too many or too few, in number"
    ),
    "topo_betti_error_1": Measure("Betti error, loops", False, "loops too many or too few"),
    "topo_betti_error_2": Measure("Betti error, cavities", False, "cavities too many or too few"),
    "topo_betti_error_windows": Measure(
        "Betti error in windows", False, "the same in small windows of the image, on average"
    ),
    "topo_betti_exact": Measure(
        "right Betti numbers (share)",
        True,
        "as many components, loops and cavities as the reference",
        3,
        limits=_SHARE,
    ),
    "topo_betti_matching_error": Measure(
        "Betti matching error",
        False,
        "components, loops and cavities without a partner in the same place of the other image",
    ),
    "topo_euler_error": Measure(
        "Euler characteristic error", False, "difference of components - loops + cavities"
    ),
    "topo_cce_3d": Measure("component error", False, "difference of the numbers of components"),
    "topo_cce_2d": Measure(
        "component error in slices",
        False,
        "difference of the numbers of components, slice by slice",
    ),
    "topo_cldice": Measure(
        "clDice", True, "how well either centre line lies within the other image", 4, limits=_SHARE
    ),
    "topo_hd95_mm": Measure(
        "HD95",
        False,
        "95 % of either surface lies within this distance of the other",
        is_distance=True,
    ),
    "topo_nsd": Measure(
        "normalised surface distance",
        True,
        "share of the surfaces within the tolerance",
        4,
        limits=_SHARE,
    ),
    "topo_precision": Measure(
        "precision", True, "share of the prediction that is right", 4, limits=_SHARE
    ),
    "topo_recall": Measure(
        "recall", True, "share of the reference that is found", 4, limits=_SHARE
    ),
    "topo_accuracy": Measure(
        "accuracy", True, "share of all voxels that are right", 5, limits=_SHARE
    ),
    "topo_aver": Measure(
        "absolute volume error (ratio)", False, "difference of the volumes by the reference's", 4
    ),
    "topo_voi": Measure(
        "variation of information (bits)", False, "how differently both divide into components", 4
    ),
    "topo_ari": Measure(
        "adjusted Rand index",
        True,
        "how alike both divide into components, 1 is equal",
        4,
        limits=(-0.5, 1.0),
    ),
    "topo_missed": Measure(
        "structures missed (share)",
        False,
        "labels that the reference of a case has and the prediction lacks",
        3,
        limits=_SHARE,
    ),
    "topo_invented": Measure(
        "structures invented (share)",
        False,
        "labels that the prediction of a case has and the reference lacks",
        3,
        limits=_SHARE,
    ),
}

# Reported for all labels together in every comparison.
PRESENCE_METRICS = ("topo_missed", "topo_invented")

# Declared here, before anything is seen; --primary declares another.
PRIMARY_METRIC = "topo_betti_matching_error"

# Few, and chosen before anything is seen: each further test makes every other one weaker.
DEFAULT_METRICS = (
    "Dice",
    "topo_cldice",
    "topo_hd95_mm",
    "topo_betti_error",
    "topo_betti_matching_error",
    "topo_betti_exact",
)
