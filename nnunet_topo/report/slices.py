"""Parts of a picture of a slice: gray values, outlines of masks, and marks of errors."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray
from skimage.transform import downscale_local_mean

from nnunet_topo.report.grid import Grid, sides
from nnunet_topo.report.markup import Markup, tag
from nnunet_topo.topology import Unmatched

MOST_PIXELS = 800  # along a side


def gray_window(image: NDArray, index: int, box: tuple[slice, slice]) -> NDArray[np.uint8]:
    """Returns the slice in gray, between the 1st and 99th percentile of the whole volume."""
    low, high = np.percentile(image, [1, 99])
    gray = (image[index][box] - low) / max(float(high - low), 1e-9)
    return np.round(np.clip(gray, 0, 1) * 255).astype(np.uint8)


def gray_picture(gray: NDArray[np.uint8], height: int, width: int) -> Markup:
    """Returns a slice as a picture in the page, large ones coarser."""
    coarser = -(-max(gray.shape) // MOST_PIXELS)
    if coarser > 1:
        gray = np.round(downscale_local_mean(gray, (coarser, coarser))).astype(np.uint8)
        height, width = (coarser * side for side in gray.shape)  # the last block may stick out
    file = io.BytesIO()
    imsave(file, gray, cmap="gray", vmin=0, vmax=255, format="png")
    data = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    # On the element itself: selectors of the page do not reach the copies that <use> makes.
    shown = {"preserveAspectRatio": "none", "image_rendering": "pixelated"}
    return tag("image", href=data, width=width, height=height, **shown)


def outline_of(mask: NDArray[np.bool_], kind: str) -> Markup:
    """Returns the border of a mask: of the reference, the prediction or an error."""
    drawn = {"vector_effect": "non-scaling-stroke", "fill": "none"}
    return tag("path", d=outline(mask), class_=f"outline {kind}", **drawn)


def outline(mask: NDArray[np.bool_]) -> str:
    """Returns the border of a mask along the edges of its pixels, as an SVG path."""
    padded = np.pad(mask, 1).astype(np.int8)
    steps = []
    for axis, command in ((0, "h"), (1, "v")):
        edges = np.diff(padded, axis=axis) != 0
        lines = edges[:, 1:-1] if axis == 0 else edges[1:-1].T
        for position, line in enumerate(lines):
            ends = np.flatnonzero(np.diff(np.pad(line, 1).astype(np.int8)))
            for begin, end in zip(ends[::2], ends[1::2], strict=True):
                at = f"{begin} {position}" if axis == 0 else f"{position} {begin}"
                steps.append(f"M{at}{command}{end - begin}")
    return "".join(steps)


def panel(
    layers: Sequence[Markup],
    errors: Sequence[Unmatched],
    box: tuple[slice, slice],
    grid: Grid,
    what: str,
) -> Markup:
    """Returns layers of a slice under marks of the errors in it, with the patient's sides.

    Args:
        layers: from the lowest.
        errors: whose voxels lie in the slice.
        box: rows and columns that are shown.
        grid: where the slice lies.
        what: for readers who cannot see the picture.
    """
    height, width = (side.stop - side.start for side in box)
    across = [abs(s) or 1.0 for s in grid.spacing_mm[-2:]]
    step = across[0] / across[1]
    radius = max(height * step, width) / 34
    marks = [mark(error, box, step, radius) for error in errors]
    return tag(
        "svg",
        tag("rect", width=width, height=height * step, fill="#000"),
        tag("g", *layers, transform=f"scale(1 {step:.6g})"),
        *marks,
        *sides(grid, height * step, width),
        viewBox=f"0 0 {width} {height * step:.6g}",
        role="img",
        aria_label=f"{what}; {len(errors)} topological errors marked",
        class_="slice",
    )


def mark(error: Unmatched, box: tuple[slice, slice], step: float, radius: float) -> Markup:
    """Returns a circle for what is false in the prediction, a square for what is missing in it."""
    y, x = (c - side.start + 0.5 for c, side in zip(error.voxel[1:], box, strict=True))
    y *= step
    kind = "hole" if error.dimension else "part"
    common = {"class_": f"mark {kind}", "vector_effect": "non-scaling-stroke"}
    if error.kind.startswith("false"):
        return tag("circle", cx=x, cy=y, r=radius, **common)
    side = 2 * radius
    return tag("rect", x=x - radius, y=y - radius, width=side, height=side, **common)
