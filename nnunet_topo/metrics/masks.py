"""All metrics of a prediction and its reference."""

from collections.abc import Sequence
from math import nan

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from nnunet_topo.metrics.partition import compare_components
from nnunet_topo.metrics.skeleton import centerline_dice
from nnunet_topo.metrics.surface import compare_surfaces
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.betti import label_components
from nnunet_topo.topology.betti_matching import as_masks, crop_to_foreground, match_betti_numbers

NSD_TOLERANCE_MM = 1.0


def compute(
    prediction: ArrayLike,
    reference: ArrayLike,
    *,
    spacing_mm: Sequence[float | int] | None = None,
    connectivity: Connectivity = "full",
    mask: ArrayLike | None = None,
    nsd_tolerance_mm: float | int = NSD_TOLERANCE_MM,
) -> dict[str, float]:
    """Returns all metrics of two masks by name; what is not defined is NaN.

    Betti numbers, with prediction P and reference R:

    - `topo_betti_pred_k`, `topo_betti_ref_k`: components, loops or handles, cavities (volumes).
    - `topo_betti_error_k`: |difference|; `topo_betti_error` their sum; `topo_betti_exact` 1 where
      it is 0, else 0.
    - `topo_betti_matching_error`: classes of either without a partner in space, see
      `match_betti_numbers`.
    - `topo_euler_error`: |difference| of the Euler characteristics.
    - `topo_cce_3d`: |difference of beta0|; `topo_cce_2d`: mean of |difference of beta0| over the
      slices of the first axis in which either has foreground, of an image the same as
      `topo_cce_3d`. Fu et al. 2023, section 3.2.

    Overlap and distance, with TP, FP, FN, TN counted in voxels:

    - `Dice`, `IoU`: as nnU-Net has them, NaN where both are empty.
    - `topo_precision`, `topo_recall`: TP / (TP + FP), NaN without prediction; TP / (TP + FN), NaN
      without reference. `topo_accuracy`: (TP + TN) / all.
    - `topo_ver`: (V_P - V_R) / V_R, NaN without reference; `topo_aver`: its absolute value.
    - `topo_hd95_mm`, `topo_nsd`: see `compare_surfaces`. `topo_cldice`: see `centerline_dice`.
    - `topo_voi`, `topo_ari`: see `compare_components`.

    Args:
        prediction: 2D or 3D; what is non-zero is foreground.
        reference: likewise, of the same shape.
        spacing_mm: size of a voxel along each axis; without it distances are in voxels.
        connectivity: of the foreground, "full" (8 / 26) or "face" (4 / 6).
        mask: what is zero is ignored: background in both, and not counted in the accuracy.
        nsd_tolerance_mm: distance up to which surfaces count as equal.

    Raises:
        ValueError: shapes, spacing or tolerance that do not fit; unknown connectivity.
    """
    p, r = as_masks(prediction, reference)
    spacing = np.ones(p.ndim) if spacing_mm is None else np.asarray(spacing_mm, dtype=float)
    if spacing.shape != (p.ndim,) or not np.all(np.isfinite(spacing) & (spacing > 0)):
        raise ValueError(f"spacing_mm must be {p.ndim} positive numbers, got {spacing_mm}")
    if not nsd_tolerance_mm >= 0:
        raise ValueError(f"nsd_tolerance_mm must be at least 0, got {nsd_tolerance_mm}")
    voxels = p.size
    if mask is not None:
        counted = np.asarray(mask).astype(bool)
        if counted.shape != p.shape:
            raise ValueError(
                f"mask must have the shape {p.shape} of the masks, got {counted.shape}"
            )
        voxels = int(np.count_nonzero(counted))
        p, r = p & counted, r & counted
    p, r = crop_to_foreground(p, r)
    return (
        _overlap(p, r, voxels)
        | _betti_numbers(p, r, connectivity)
        | compare_surfaces(p, r, spacing, nsd_tolerance_mm)
        | {"topo_cldice": centerline_dice(p, r)}
        | compare_components(p, r, connectivity, voxels)
    )


def _overlap(
    p: Bool[np.ndarray, " *space"], r: Bool[np.ndarray, " *space"], voxels: int
) -> dict[str, float]:
    both = int(np.count_nonzero(p & r))
    of_p, of_r = int(np.count_nonzero(p)), int(np.count_nonzero(r))
    either = of_p + of_r - both
    ver = _ratio(of_p - of_r, of_r)
    return {
        "Dice": _ratio(2 * both, of_p + of_r),
        "IoU": _ratio(both, either),
        "topo_precision": _ratio(both, of_p),
        "topo_recall": _ratio(both, of_r),
        "topo_accuracy": _ratio(voxels - either + both, voxels),
        "topo_ver": ver,
        "topo_aver": abs(ver),
    }


def _betti_numbers(
    p: Bool[np.ndarray, " *space"], r: Bool[np.ndarray, " *space"], connectivity: Connectivity
) -> dict[str, float]:
    matching = match_betti_numbers(p, r, connectivity=connectivity)
    pairs = list(zip(matching.prediction, matching.reference, strict=True))
    errors = [abs(of_p - of_r) for of_p, of_r in pairs]
    metrics: dict[str, float] = {}
    for k, (of_p, of_r) in enumerate(pairs):
        metrics |= {
            f"topo_betti_pred_{k}": float(of_p),
            f"topo_betti_ref_{k}": float(of_r),
            f"topo_betti_error_{k}": float(errors[k]),
        }
    euler = sum((-1) ** k * (of_p - of_r) for k, (of_p, of_r) in enumerate(pairs))
    return metrics | {
        "topo_betti_error": float(sum(errors)),
        "topo_betti_exact": float(not any(errors)),
        "topo_betti_matching_error": float(matching.error),
        "topo_euler_error": float(abs(euler)),
        "topo_cce_3d": float(errors[0]),
        "topo_cce_2d": _slice_component_error(p, r, connectivity),
    }


def _slice_component_error(
    p: Bool[np.ndarray, " *space"], r: Bool[np.ndarray, " *space"], connectivity: Connectivity
) -> float:
    slices = [(p, r)] if p.ndim == 2 else list(zip(p, r, strict=True))
    errors = [
        abs(label_components(a, connectivity)[1] - label_components(b, connectivity)[1])
        for a, b in slices
        if a.any() or b.any()
    ]
    return float(np.mean(errors)) if errors else nan


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else nan
