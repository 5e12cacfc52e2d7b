"""The value of each metric if a mask is empty: one table, used for all values."""

from dataclasses import dataclass
from math import nan


@dataclass(frozen=True, slots=True)
class EdgeCases:
    """The values of a metric if a mask is empty; None if it is measured as usual.

    Attributes:
        key: of the metric; `_k` stands for the dimensions 0, 1 and, in volumes, 2.
        prediction_empty: if only the prediction is empty.
        reference_empty: if only the reference is empty.
        both_empty: if both are empty.
        remark: what else is not measured, and which value a measurement gives.
    """

    key: str
    prediction_empty: float | None = None
    reference_empty: float | None = None
    both_empty: float | None = None
    remark: str = ""


EDGE_CASES = (
    EdgeCases("Dice", 0.0, 0.0, nan),
    EdgeCases("IoU", 0.0, 0.0, nan),
    EdgeCases("topo_betti_pred_k", remark="an empty mask has 0"),
    EdgeCases("topo_betti_ref_k", remark="an empty mask has 0"),
    EdgeCases("topo_betti_error_k", remark="one empty: the numbers of the other; both: 0"),
    EdgeCases("topo_betti_error", remark="one empty: all numbers of the other; both: 0"),
    EdgeCases("topo_betti_error_windows_k", remark="windows without foreground have 0"),
    EdgeCases("topo_betti_error_windows", remark="windows without foreground have 0"),
    EdgeCases("topo_betti_exact", 0.0, 0.0, 1.0),
    EdgeCases("topo_betti_matching_error", remark="one empty: all numbers of the other; both: 0"),
    EdgeCases("topo_euler_error", remark="an empty mask has 0"),
    EdgeCases("topo_cce_3d", remark="one empty: the components of the other; both: 0"),
    EdgeCases("topo_cce_2d", both_empty=nan, remark="one empty: the components of the other"),
    EdgeCases("topo_cldice", 0.0, 0.0, nan),
    EdgeCases("topo_hd95_mm", nan, nan, nan),
    EdgeCases("topo_nsd", 0.0, 0.0, nan),
    EdgeCases("topo_precision", nan, 0.0, nan),
    EdgeCases("topo_recall", 0.0, nan, nan),
    EdgeCases("topo_ver", -1.0, nan, nan),
    EdgeCases("topo_aver", 1.0, nan, nan),
    EdgeCases("topo_accuracy", remark="NaN where every voxel is ignored"),
    EdgeCases("topo_voi", remark="two partitions that are equal have 0"),
    EdgeCases(
        "topo_ari",
        remark="two partitions that are equal have 1, even with only one part or single voxels",
    ),
)


def declared_values(*, prediction_empty: bool, reference_empty: bool) -> dict[str, float]:
    """Returns the metrics that the table declares for two masks, by key."""
    declared: dict[str, float] = {}
    for edge_cases in EDGE_CASES:
        value = None
        if prediction_empty and reference_empty:
            value = edge_cases.both_empty
        elif prediction_empty:
            value = edge_cases.prediction_empty
        elif reference_empty:
            value = edge_cases.reference_empty
        if value is not None:
            declared[edge_cases.key] = value
    return declared
