"""All metrics of a prediction and its reference."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from nnunet_topo.metrics.boxes import split_into_boxes
from nnunet_topo.metrics.edge_cases import declared_values
from nnunet_topo.metrics.partition import compare_partitions
from nnunet_topo.metrics.parts import Options, Part, measure_part
from nnunet_topo.metrics.skeleton import centerline_dice
from nnunet_topo.metrics.surface import compare_surfaces
from nnunet_topo.metrics.windows import Windows, window_errors
from nnunet_topo.topology import Connectivity
from nnunet_topo.topology.masks import Box, as_booleans, as_masks
from nnunet_topo.topology.persistence import check_connectivity

NSD_TOLERANCE_MM = 1.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Voxels that are foreground in the prediction, in the reference and in both, and all."""

    prediction: int
    reference: int
    both: int
    voxels: int


def compute(
    prediction: ArrayLike,
    reference: ArrayLike,
    *,
    spacing_mm: Sequence[float | int] | None = None,
    connectivity: Connectivity = "full",
    mask: ArrayLike | None = None,
    nsd_tolerance_mm: float | int = NSD_TOLERANCE_MM,
    windows: Windows | None = None,
) -> dict[str, float]:
    """Returns all metrics of two masks by name; undefined ones are NaN.

    `edge_cases.EDGE_CASES` lists their values for empty masks.

    Betti numbers, with prediction P and reference R:

    - `topo_betti_pred_k`, `topo_betti_ref_k`: components, loops or handles, cavities (volumes).
    - `topo_betti_error_k`: |difference|; `topo_betti_error` their sum; `topo_betti_exact` 1 where
      it is 0, else 0.
    - `topo_betti_error_windows_k`, `topo_betti_error_windows`: the same errors in random windows,
      averaged; only with `windows`. Hu et al. 2019, as in Datta 2024.
    - `topo_betti_matching_error`: classes of either without a partner in space, see
      `match_betti_numbers`.
    - `topo_euler_error`: |difference| of the Euler characteristics.
    - `topo_cce_3d`: |difference of beta0|; `topo_cce_2d`: mean of |difference of beta0| over the
      slices of the first axis in which either has foreground, of an image the same as
      `topo_cce_3d`. Fu et al. 2023, section 3.2.

    Overlap and distance, with TP, FP, FN, TN counted in voxels:

    - `Dice`, `IoU`: as nnU-Net has them.
    - `topo_precision`, `topo_recall`: TP / (TP + FP); TP / (TP + FN).
      `topo_accuracy`: (TP + TN) / all.
    - `topo_ver`: (V_P - V_R) / V_R; `topo_aver`: its absolute value.
    - `topo_hd95_mm`, `topo_nsd`: see `compare_surfaces`. `topo_cldice`: see `centerline_dice`.
    - `topo_voi`, `topo_ari`: see `compare_partitions`.

    Args:
        prediction: 2D or 3D, foreground is non-zero.
        reference: of the same shape.
        spacing_mm: size of a voxel along each axis; without it distances are in voxels.
        connectivity: of the foreground, "full" (8 / 26) or "face" (4 / 6).
        mask: zero voxels are ignored: background in both, and not counted in the accuracy.
        nsd_tolerance_mm: distance up to which surfaces count as equal.
        windows: that Betti errors are also averaged over.

    Raises:
        ValueError: shapes, spacing or tolerance that do not fit; NaN; unknown connectivity.
    """
    p, r = as_masks(prediction, reference)
    options = check_options(p.shape, spacing_mm, connectivity, nsd_tolerance_mm, windows)
    voxels = p.size
    if mask is not None:
        counted = as_booleans(mask)
        if counted.shape != p.shape:
            raise ValueError(
                f"mask must have the shape {p.shape} of the masks, got {counted.shape}"
            )
        voxels = int(np.count_nonzero(counted))
        p, r = p & counted, r & counted
    boxes = split_into_boxes(p | r)
    pairs = ((np.pad(p[box], 1), np.pad(r[box], 1), box) for box in boxes)
    return compare_parts(pairs, voxels, options)[0]


def check_options(
    shape: tuple[int, ...],
    spacing_mm: Sequence[float | int] | None,
    connectivity: Connectivity,
    nsd_tolerance_mm: float | int,
    windows: Windows | None,
) -> Options:
    """Returns how masks of this shape are compared.

    Raises:
        ValueError: spacing or tolerance that do not fit; unknown connectivity.
    """
    spacing = np.ones(len(shape)) if spacing_mm is None else np.asarray(spacing_mm, dtype=float)
    if spacing.shape != (len(shape),) or not np.all(np.isfinite(spacing) & (spacing > 0)):
        raise ValueError(f"spacing_mm must be {len(shape)} positive numbers, got {spacing_mm}")
    if not nsd_tolerance_mm >= 0:
        raise ValueError(f"nsd_tolerance_mm must be at least 0, got {nsd_tolerance_mm}")
    check_connectivity(connectivity)
    one_slice = len(shape) == 3 and shape[0] == 1
    corners = None if windows is None else windows.corners(shape)
    return Options(spacing, connectivity, float(nsd_tolerance_mm), one_slice, corners)


def compare_parts(
    pairs: Iterable[tuple[Bool[np.ndarray, " *space"], Bool[np.ndarray, " *space"], Box]],
    voxels: int,
    options: Options,
) -> tuple[dict[str, float], Counts]:
    """Returns all metrics of two masks, and their counts.

    Args:
        pairs: prediction and reference in each of the boxes that hold their foreground, with a
            margin of one voxel of background, and the box.
        voxels: of the image.
        options: how they are compared.
    """
    parts = [measure_part(p, r, box, options) for p, r, box in pairs]
    of_p, of_r, both = (sum(part.voxels[place] for part in parts) for place in range(3))
    counts = Counts(of_p, of_r, both, voxels)
    measured = (
        _overlap(counts)
        | _betti_numbers(parts, len(options.spacing_mm))
        | compare_partitions([part.overlaps for part in parts], voxels)
    )
    if options.windows is not None:
        of_parts = [b for part in parts if (b := part.betti_in_windows) is not None]
        measured |= window_errors(of_parts, (len(options.windows), len(options.spacing_mm)))
    if of_p and of_r:
        measured |= compare_surfaces(
            [part.surfaces[0] for part in parts],
            [part.surfaces[1] for part in parts],
            options.spacing_mm,
            options.nsd_tolerance_mm,
        )
        measured["topo_cldice"] = centerline_dice(
            [part.lines[0] for part in parts], [part.lines[1] for part in parts]
        )
    declared = declared_values(prediction_empty=not of_p, reference_empty=not of_r)
    return measured | declared, counts


def _overlap(counts: Counts) -> dict[str, float]:
    either = counts.prediction + counts.reference - counts.both
    ver = _ratio(counts.prediction - counts.reference, counts.reference)
    return {
        "Dice": _ratio(2 * counts.both, counts.prediction + counts.reference),
        "IoU": _ratio(counts.both, either),
        "topo_precision": _ratio(counts.both, counts.prediction),
        "topo_recall": _ratio(counts.both, counts.reference),
        "topo_accuracy": _ratio(counts.voxels - either + counts.both, counts.voxels),
        "topo_ver": ver,
        "topo_aver": abs(ver),
    }


def _betti_numbers(parts: Sequence[Part], ndim: int) -> dict[str, float]:
    pairs = [
        (
            sum(part.matching.prediction[k] for part in parts),
            sum(part.matching.reference[k] for part in parts),
        )
        for k in range(ndim)
    ]
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
        "topo_betti_matching_error": float(sum(part.matching.error for part in parts)),
        "topo_euler_error": float(abs(euler)),
        "topo_cce_3d": float(errors[0]),
        "topo_cce_2d": _slice_component_error(parts),
    }


def _slice_component_error(parts: Sequence[Part]) -> float:
    slices = max((part.first_slice + part.components.shape[1] for part in parts), default=0)
    components = np.zeros((2, slices), np.int64)
    for part in parts:
        end = part.first_slice + part.components.shape[1]
        components[:, part.first_slice : end] += part.components
    errors = np.abs(components[0] - components[1])[components.any(axis=0)]
    return float(errors.mean()) if len(errors) else nan


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else nan
