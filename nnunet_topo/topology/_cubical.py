"""Shared by the engines for 2D and 3D images: the grid and its order.

An image lies in a padded grid. A voxel is *older* than another if its age is smaller, or the ages
are equal and its index is smaller. Voxels enter a complex from the oldest to the youngest, each
with its *lower star*: the voxel as a vertex, and every edge, square and cube that it spans with
older voxels only (V-construction). The *lower link* is the lower star as seen from that voxel. It
is kept as a mask with one bit per neighbour: first axes, then diagonals of squares, then of cubes.

Face connectivity: a larger p is older. Full connectivity is its dual: a smaller p is older, and a
shell of oldest voxels surrounds the image. By Alexander duality a class of dimension d - 1 - k of
that grid, created at one voxel and destroyed at another, is a bar of dimension k of the
T-construction. It is born at the second voxel and dies at the first. One engine serves both.

Robins, Wood, Sheppard: Theory and Algorithms for Constructing Discrete Morse Complexes from
Grayscale Digital Images. IEEE TPAMI 2011 (lower stars, gradient paths).
Guillou, Vidal, Tierny: Discrete Morse Sandwich: Fast Computation of Persistence Diagrams for
Scalar Data. IEEE TVCG 2023 (the first and the last dimension by union-find).
Bleile, Garin, Heiss, Maggs, Robins: The Persistent Homology of Dual Digital Image Constructions.
Research in Computational Topology 2, 2022 (T- and V-construction).
"""

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology._kernel import kernel

OLDEST = np.int32(-(2**31) + 1)  # the shell
YOUNGEST = np.int32(2**31 - 1)  # the border of the grid, which is never in a complex
UNKNOWN = -1
OUTSIDE = 0  # label of the border

LINK_BITS = np.uint64(2**26 - 1)
MINUS_X, X_AXIS = np.uint64(1), np.uint64(3)  # the first bits of a lower link: -x, then +x
VOXEL_BITS = np.uint64(2**32 - 1)
AGE_SHIFT = np.uint64(32)

LOW_COUNT = 12
LOW_BITS = 2**LOW_COUNT - 1
LOWEST_BIT = np.array([0] + [(i & -i).bit_length() - 1 for i in range(1, 2**LOW_COUNT)], np.uint8)

Voxels = NDArray[np.int32]  # flat indices in the grid


@dataclass(slots=True)
class Grid:
    """An image, or a box of it, as ages of voxels with padding: 16 bytes for each.

    Attributes:
        shape: `[z, y, x]`; a 2D image is one slice.
        box: the part of the image in it: first and end of z, y, x.
        margin: voxels of padding at each end of z, y, x.
        dual: whether the smaller value is the older (full connectivity).
        ages: of each voxel.
        words: of each voxel, from its top bit: its age as an unsigned number (32 bits), edges on
            the chain at work (6 bits, dimension 1 alone), lower link (26 bits).
        labels: of each voxel, for the stage at work.
        oldest: least age of the image.
        youngest: greatest age of the image.
        youngest_voxel: a voxel of that age.
    """

    shape: tuple[int, int, int]
    box: NDArray[np.int64]
    margin: NDArray[np.int64]
    dual: bool
    ages: NDArray[np.int32]
    words: NDArray[np.uint64]
    labels: NDArray[np.int32]
    oldest: int
    youngest: int
    youngest_voxel: int


@dataclass(frozen=True, slots=True)
class Forest:
    """All joins of components, or of parts of the outside, in the order in which they happen.

    Attributes:
        roots: voxel of each component or part; that of OUTSIDE is not one.
        saddles: voxel of each join.
        ends: `[join, 2]`, numbers of what it joins as they were in the beginning.
        ended: the number of the one that ends there.
        lasts: whether its two voxels differ in age.
        watched: the number at each voxel watched.
    """

    roots: Voxels
    saddles: Voxels
    ends: Voxels
    ended: NDArray[np.int64]
    lasts: NDArray[np.bool_]
    watched: Voxels


@dataclass(frozen=True, slots=True)
class Columns:
    """Squares whose boundaries are reduced, with no voxel in their chains that another order moves.

    They are reduced in each order in which all other voxels keep their places.

    Attributes:
        voxel: of each square, ascending.
        square: bit of each.
        created: voxel of the edge that each owns.
        axis: of that edge.
        bounds: `[column, 2]`, where the rest of its chain lies in the pool.
        pool: chains, entries of a voxel and, in 8 bits, its axes.
    """

    voxel: Voxels
    square: NDArray[np.uint8]
    created: Voxels
    axis: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    pool: NDArray[np.uint64]

    @classmethod
    def none(cls) -> "Columns":
        """Returns no columns."""
        voxels, bits = np.empty(0, np.int32), np.empty(0, np.uint8)
        return cls(voxels, bits, voxels, bits, np.empty((0, 2), np.int64), np.empty(0, np.uint64))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Classes of one dimension, as voxels of the grid.

    With the joins where voxels are watched, and the squares that another order leaves alone.
    """

    dimension: int
    created: Voxels
    destroyed: Voxels
    forest: Forest | None = None
    columns: Columns | None = None


class _Workspace(threading.local):
    """Memory for one grid, kept by each thread from call to call and freed with the thread.

    Mapping fresh memory takes as long as working on a converged prediction.
    """

    _most_bytes = 2**28
    _memory: NDArray[np.uint64] | None = None

    def take(self, words: int) -> NDArray[np.uint64]:
        if self._memory is None or self._memory.size < words:
            memory = np.empty(words, np.uint64)
            if memory.nbytes > self._most_bytes:
                return memory
            self._memory = memory
        return self._memory[:words]

    def release(self) -> None:
        self._memory = None


_workspace = _Workspace()


def release_workspace() -> None:
    """Frees the memory that this thread keeps for its next grid."""
    _workspace.release()


def make_grid(
    keys: NDArray[np.int32], box: NDArray[np.int64], *, floor: int, planar: bool, dual: bool
) -> Grid:
    """Returns the grid of a box of an image.

    Args:
        keys: `[z, y, x]`, C order, integers in the order of the values.
        box: first and end of z, y, x.
        floor: keys below it are raised to it.
        planar: whether the image is 2D, without neighbours in z.
        dual: whether the smaller value is the older, within a shell.

    Raises:
        ValueError: 2**31 voxels or more.
    """
    width = 2 if dual else 1
    margin = np.array([0 if planar else width, width, width])
    nz, ny, nx = (int(side) for side in box[1::2] - box[::2] + 2 * margin)
    voxels = nz * ny * nx
    if voxels >= 2**31:
        raise ValueError(f"image must have fewer than 2**31 voxels, got {voxels} with padding")
    memory = _workspace.take(2 * voxels)
    words = memory[:voxels]
    ages, labels = memory[voxels:].view(np.int32).reshape(2, voxels)
    known = fill_ages(keys, box, np.int32(floor), dual, margin, ages.reshape(nz, ny, nx))
    return Grid((nz, ny, nx), box, margin, dual, ages, words, labels, *known)


@kernel
def fill_ages(keys, box, floor, dual, margin, ages):
    """Writes border, shell and image; returns oldest age, youngest age and a voxel of it."""
    nz, ny, nx = ages.shape
    mz, my, mx = margin
    oldest, youngest, youngest_voxel = YOUNGEST, OLDEST, 0
    for z in range(nz):
        on_border = mz > 0 and (z == 0 or z == nz - 1)
        for y in range(ny):
            row = ages[z, y]
            if on_border or y == 0 or y == ny - 1:
                row[:] = YOUNGEST
                continue
            if dual:
                row[:] = OLDEST
            row[0] = row[nx - 1] = YOUNGEST
            if not (mz <= z < nz - mz and my <= y < ny - my):
                continue
            source = keys[box[0] + z - mz, box[2] + y - my, box[4] : box[5]]
            target = row[mx : nx - mx]
            least, most = YOUNGEST, OLDEST
            for x in range(source.size):
                key = max(source[x], floor)
                age = key if dual else np.int32(-key)
                target[x] = age
                least, most = min(least, age), max(most, age)
            oldest = min(oldest, least)
            if most > youngest:
                youngest = most
                x = 0
                while target[x] != most:
                    x += 1
                youngest_voxel = (z * ny + y) * nx + mx + x
    return oldest, youngest, youngest_voxel


@kernel
def box_above(keys, floor):
    """Returns the box z0, z1, y0, y1, x0, x1 of the keys above the floor, which must exist.

    A row is read from both ends up to the first such key, so only empty rows are read whole.
    """
    nz, ny, nx = keys.shape
    box = np.array([nz, 0, ny, 0, nx, 0])
    for z in range(nz):
        for y in range(ny):
            row = keys[z, y]
            first, end = 0, nx
            while first < nx and row[first] <= floor:
                first += 1
            if first == nx:
                continue
            while row[end - 1] <= floor:
                end -= 1
            box[0], box[1] = min(box[0], z), z + 1
            box[2], box[3] = min(box[2], y), max(box[3], y + 1)
            box[4], box[5] = min(box[4], first), max(box[5], end)
    return box


def to_image(voxels: Voxels, grid: Grid, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Returns C-order indices in the whole image `[z, y, x]`, -1 for the shell."""
    return _to_image(voxels, np.array(grid.shape), grid.margin, grid.box, np.array(shape))


@kernel
def _to_image(voxels, grid_shape, margin, box, shape):
    _, ny, nx = grid_shape
    indices = np.full(voxels.size, -1, np.int64)
    for i in range(voxels.size):
        voxel = np.int64(voxels[i])
        z = voxel // (ny * nx) - margin[0] + box[0]
        y = voxel // nx % ny - margin[1] + box[2]
        x = voxel % nx - margin[2] + box[4]
        if box[0] <= z < box[1] and box[2] <= y < box[3] and box[4] <= x < box[5]:
            indices[i] = (z * shape[1] + y) * shape[2] + x
    return indices
