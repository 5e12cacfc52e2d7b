"""Whether two segmentations lie on one grid."""

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.images.layouts import Layout
from nnunet_topo.images.segmentation import Segmentation, in_words

_SAME_DIRECTION = 0.01  # of direction cosines; rounding in headers makes 1e-4 to 1e-3
_SAME_ORIGIN = 0.1  # of a voxel


def check_shapes(reference: Layout | None, prediction: Layout | None) -> None:
    """Refuses two files with different numbers of voxels before either is read.

    Which axes differ is only known afterwards, because some readers turn volumes.

    Raises:
        ValueError: the numbers differ.
    """
    both = [layout for layout in (reference, prediction) if layout and layout.channels == 1]
    if len(both) == 2 and both[0].voxels != both[1].voxels:
        raise ValueError(_different_shapes(str(both[0]), str(both[1])))


def _different_shapes(reference: str, prediction: str) -> str:
    return f"the reference has shape {reference}, the prediction {prediction}"


def check_grids(reference: Segmentation, prediction: Segmentation) -> list[str]:
    """Returns what differs between the grids of two segmentations that are compared nevertheless.

    Raises:
        ValueError: they cannot be compared: shape or direction differ.
    """
    if reference.label_map.shape != prediction.label_map.shape:
        raise ValueError(_different_shapes(reference.shape, prediction.shape))
    told = []
    for role, one, other in (
        ("reference", reference, prediction),
        ("prediction", prediction, reference),
    ):
        if one.wrong_spacing:
            if other.spacing is None:
                raise ValueError(
                    f"the header of the {role} has no valid spacing ({one.wrong_spacing} mm), and "
                    "the other file has none either"
                )
            told.append(
                f"the header of the {role} has no valid spacing ({one.wrong_spacing} mm); "
                "distances are by the other file's"
            )
        if one.two_spacings:
            told.append(f"the header of the {role} has spacing {one.two_spacings}")
    spacings = reference.spacing, prediction.spacing
    if spacings[0] is not None and spacings[1] is not None:
        long = (
            np.array(reference.label_map.shape) > 1
        )  # the thickness of a single slice does not matter
        if not np.allclose(spacings[0][long], spacings[1][long], rtol=1e-3, atol=0):
            told.append(
                f"the reference has spacing {in_words(spacings[0])}, the prediction "
                f"{in_words(spacings[1])} mm (x, y, z); distances are by the reference's"
            )
    return told + _check_placement(reference, prediction)


def _check_placement(reference: Segmentation, prediction: Segmentation) -> list[str]:
    directions = reference.direction, prediction.direction
    if directions[0] is None or directions[1] is None:
        if (
            directions[0] is directions[1]
            or reference.spacing is None
            or prediction.spacing is None
        ):
            return []
        without = "reference" if directions[0] is None else "prediction"
        return [f"the header of the {without} gives no direction; compared voxel by voxel"]
    if directions[0].shape != directions[1].shape:  # an image, and a volume of one slice
        return []
    if np.abs(directions[0] - directions[1]).max() > _SAME_DIRECTION:
        raise ValueError(
            "its direction differs: the axes x, y, z point to "
            f"{_axes_in_words(directions[0])} in the reference, to "
            f"{_axes_in_words(directions[1])} in the prediction. If the voxels agree, copy the "
            "header of the reference; if not, resample the prediction to the reference"
        )
    origins, spacing = (reference.origin, prediction.origin), reference.spacing
    if origins[0] is None or origins[1] is None or spacing is None:
        return []
    along_axes = np.linalg.pinv(directions[0]) @ (origins[1] - origins[0])
    voxels = along_axes / spacing[::-1][: len(along_axes)]
    if np.abs(voxels).max() <= _SAME_ORIGIN:
        return []
    return [
        f"the origin of the prediction is {in_words(voxels[::-1])} voxels (x, y, z) off that of "
        "the reference; compared voxel by voxel"
    ]


def _axes_in_words(direction: NDArray[np.float64]) -> str:
    """Returns the sides of the patient that the axes point to, with numbers if they are oblique."""
    letters = "".join(
        ("RL", "AP", "IS")[side][int(axis[side] > 0)]
        for axis in direction.T
        for side in [int(np.abs(axis).argmax())]
    )
    if np.abs(np.abs(direction) - np.round(np.abs(direction))).max() < _SAME_DIRECTION:
        return letters
    numbers = "; ".join(", ".join(f"{cosine:.3f}" for cosine in axis) for axis in direction.T)
    return f"{letters} ({numbers})"


def slice_first(array: NDArray, spacing: NDArray) -> tuple[NDArray, NDArray]:
    """Returns a volume `[z, y, x]` of one slice with that slice's axis first, others unchanged.

    nnU-Net has no 2D files: it reads an image as one slice along the first axis. A slice may lie
    along any, as a sagittal one does along x.
    """
    if 1 not in array.shape or array.shape[0] == 1:
        return array, spacing
    axis = array.shape.index(1)
    order = [axis, *(other for other in range(array.ndim) if other != axis)]
    return array.transpose(order), spacing[order]
