"""Pictures of single topological errors: the slice through each, large enough to see it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.report.grid import Grid, describe_slice
from nnunet_topo.report.markup import Markup, tag
from nnunet_topo.report.slices import gray_picture, gray_window, outline_of, panel
from nnunet_topo.topology import Unmatched

REACH = 20  # voxels to each side of an error
_MOST_REACH = 80


def draw_errors(
    image: NDArray | None,
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    errors: Sequence[tuple[Unmatched, str]],
    grid: Grid,
    what: str,
) -> Markup:
    """Returns a row of pictures: the slice through each error, its surroundings and its voxels.

    Args:
        image: gray values [z, y, x], None to draw on black.
        reference: mask.
        prediction: mask.
        errors: each with its place in words.
        grid: where the slices lie.
        what: case and label, for readers who cannot see the pictures.
    """
    figures = []
    for error, place in errors:
        index = error.voxel[0]
        here = error.voxels[error.voxels[:, 0] == index][:, 1:]
        box = _around(error, here, reference.shape[1:])
        voxels = np.zeros(reference.shape[1:], bool)
        voxels[tuple(here.T)] = True
        height, width = (side.stop - side.start for side in box)
        layers = (
            [] if image is None else [gray_picture(gray_window(image, index, box), height, width)]
        )
        layers += [
            outline_of(mask[box], kind)
            for mask, kind in (
                (reference[index], "reference"),
                (prediction[index], "prediction"),
                (voxels, "error"),
            )
        ]
        slices = "" if len(reference) == 1 else f" {describe_slice(grid, index, len(reference))}"
        caption = f"{error.kind}, {place}.{slices}"
        drawn = panel(layers, [error], box, grid, f"{what}: {error.kind}")
        figures.append(tag("figure", drawn, tag("figcaption", caption)))
    return tag("div", *figures, class_="slices")


def _around(
    error: Unmatched, here: NDArray[np.int64], shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """Returns rows and columns around an error, with all its voxels in the slice if they fit."""
    centre = np.array(error.voxel[1:])
    far = int(np.abs(here - centre).max(initial=0))
    reach = min(max(REACH, far + REACH // 2), _MOST_REACH)
    rows, columns = (
        slice(max(int(c) - reach, 0), min(int(c) + reach + 1, side))
        for c, side in zip(centre, shape, strict=True)
    )
    return rows, columns
