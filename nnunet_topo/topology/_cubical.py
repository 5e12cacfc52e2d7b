"""Shared by the engines for 2D and 3D images: the grid, its order, tracing and merging.

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

from nnunet_topo.topology._kernel import inlined, kernel

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
class Pairs:
    """Classes of one dimension, as voxels of the grid."""

    dimension: int
    created: Voxels
    destroyed: Voxels


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


def merge_components(
    grid: Grid, saddles: Voxels, ends: Voxels, axes: int, offsets: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], Pairs]:
    """Dimension 0: joins components at critical edges, the oldest first.

    Older neighbours lead from each end of an edge to a minimum, which names its component. Where
    two components meet, the one with the younger minimum ends (elder rule).

    Args:
        grid: with its words.
        saddles: voxel of each critical edge, ascending.
        ends: `[edge, 2]`, a voxel in each of the components; overwritten.
        axes: the bits of a lower link that are axes.
        offsets: to the neighbour of each bit of a lower link.

    Returns:
        Whether each edge joins two components, and the pairs (minimum, voxel of the edge).
    """
    grid.labels.fill(UNKNOWN)
    minima = np.empty(ends.size + 1, np.int32)
    count = trace_to_minima(ends.ravel(), grid.words, np.uint64(axes), offsets, grid.labels, minima)
    rank = _age_and_voxel(grid, minima[:count])
    ended = merge(order_by_age(saddles, grid.words), ends, rank)
    joins = ended != UNKNOWN
    return joins, lasting(grid, Pairs(0, minima[ended[joins]], saddles[joins]))


def merge_outsides(
    grid: Grid, saddles: Voxels, sides: Voxels, whole: int, offsets: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], Pairs]:
    """Dimension d - 1: joins what is not yet in the complex at critical faces, the youngest first.

    The dual of `merge_components`. Younger neighbours, diagonal ones too, lead from each side of a
    face to a maximum of age, or to the border. Where two parts meet, the one with the older maximum
    ends: going forward, a cavity is created at the face, and it is filled at that maximum.

    Args:
        grid: with its words.
        saddles: voxel of each critical face, ascending.
        sides: `[face, 2]`, a voxel on each side; overwritten.
        whole: the lower link of a voxel whose neighbours are all older.
        offsets: to the neighbour of each bit of a lower link.

    Returns:
        Whether each face closes a cavity, and the pairs (voxel of the face, maximum).
    """
    maxima = trace_up(grid, sides.ravel(), whole, offsets)
    rank = ~_age_and_voxel(grid, maxima)
    rank[OUTSIDE] = 0
    youngest_first = order_by_age(saddles, grid.words)[::-1].copy()
    ended = merge(youngest_first, sides, rank)
    closes = ended != UNKNOWN
    pairs = Pairs(1 if grid.shape[0] == 1 else 2, saddles[closes], maxima[ended[closes]])
    return closes, lasting(grid, pairs)


def trace_up(grid: Grid, starts: Voxels, whole: int, offsets: NDArray[np.int64]) -> Voxels:
    """Replaces each voxel by the number of the maximum of age above it, and returns the maxima.

    Number OUTSIDE is the border, which has no voxel of its own.
    """
    labels = grid.labels.reshape(grid.shape)
    labels.fill(UNKNOWN)
    for axis in range(3):
        if grid.margin[axis]:
            np.moveaxis(labels, axis, 0)[[0, -1]] = OUTSIDE
    maxima = np.zeros(starts.size + 1, np.int32)
    count = trace_to_maxima(starts, grid.words, np.uint64(whole), offsets, grid.labels, maxima)
    return maxima[:count]


def lasting(grid: Grid, pairs: Pairs) -> Pairs:
    """Returns the pairs whose two voxels differ in age."""
    lasts = grid.ages[pairs.created] != grid.ages[pairs.destroyed]
    return Pairs(pairs.dimension, pairs.created[lasts], pairs.destroyed[lasts])


def _age_and_voxel(grid: Grid, voxels: Voxels) -> NDArray[np.uint64]:
    """Returns numbers in the order of the voxels."""
    return (grid.words[voxels] & ~VOXEL_BITS) | voxels.astype(np.uint64)


@kernel
def order_by_age(voxels, words):
    """Returns the positions of voxels, which ascend, from the oldest voxel to the youngest.

    Radix sort by 11 bits at a time, which leaves equal ages in their order.
    """
    digit = np.uint64(2**11 - 1)
    keys = np.empty(voxels.size, np.uint64)
    moved = np.empty(voxels.size, np.uint64)
    starts = np.zeros((3, 2**11), np.int64)
    for i in range(voxels.size):
        age = words[voxels[i]] >> AGE_SHIFT
        keys[i] = age << AGE_SHIFT | np.uint64(i)
        for level in range(3):
            starts[level, age >> np.uint64(11 * level) & digit] += 1
    for level in range(3):
        start = 0
        for value in range(2**11):
            count = starts[level, value]
            starts[level, value] = start
            start += count
        shift = AGE_SHIFT + np.uint64(11 * level)
        for i in range(voxels.size):
            value = keys[i] >> shift & digit
            moved[starts[level, value]] = keys[i]
            starts[level, value] += 1
        keys, moved = moved, keys
    order = np.empty(voxels.size, np.int32)
    for i in range(voxels.size):
        order[i] = keys[i] & VOXEL_BITS
    return order


@kernel
def trace_to_minima(starts, words, axes, offsets, labels, minima):
    """Replaces each voxel by the number of its minimum, and returns how many minima there are.

    Every voxel on the way is labelled, so none is visited twice. Most ways through a clamped image
    lead along the rows of its plateau, towards -x (the first bit), and take a short cut.
    """
    count = 0
    for i in range(starts.size):
        voxel = np.int64(starts[i])
        while labels[voxel] == UNKNOWN:
            if words[voxel] & MINUS_X:
                voxel -= 1
                continue
            older = np.int64(words[voxel] & axes)
            if older == 0:
                labels[voxel] = count
                minima[count] = voxel
                count += 1
                break
            voxel += offsets[LOWEST_BIT[older]]
        found = labels[voxel]
        voxel = np.int64(starts[i])
        starts[i] = found
        while labels[voxel] == UNKNOWN:
            labels[voxel] = found
            if words[voxel] & MINUS_X:
                voxel -= 1
            else:
                voxel += offsets[LOWEST_BIT[np.int64(words[voxel] & axes)]]
    return count


@kernel
def trace_to_maxima(starts, words, whole, offsets, labels, maxima):
    """Replaces each voxel by the number of its maximum, and returns how many numbers there are.

    Number OUTSIDE stands for the border. Plateaus are left along their rows, +x.
    """
    count = OUTSIDE + 1
    for i in range(starts.size):
        voxel = np.int64(starts[i])
        while labels[voxel] == UNKNOWN:
            if words[voxel] & X_AXIS == MINUS_X:
                voxel += 1
                continue
            lacking = np.int64(~words[voxel] & whole)
            if lacking == 0:
                labels[voxel] = count
                maxima[count] = voxel
                count += 1
                break
            voxel += offsets[_lowest_bit(lacking)]
        found = labels[voxel]
        voxel = np.int64(starts[i])
        starts[i] = found
        while labels[voxel] == UNKNOWN:
            labels[voxel] = found
            if words[voxel] & X_AXIS == MINUS_X:
                voxel += 1
            else:
                voxel += offsets[_lowest_bit(np.int64(~words[voxel] & whole))]
    return count


@inlined
def _lowest_bit(bits):
    """Returns the first bit set.

    Among the bits that a lower link lacks, this is a younger neighbour: an axis, or a diagonal
    between axes that are all there.
    """
    bit = np.int64(0)
    while not bits & LOW_BITS:
        bits >>= LOW_COUNT
        bit += LOW_COUNT
    return bit + LOWEST_BIT[bits & LOW_BITS]


@kernel
def merge(order, ends, rank):
    """Union-find: returns for each item the root that it ends, UNKNOWN if already joined.

    Of two roots, the one with the smaller rank stays.
    """
    parent = np.arange(rank.size)
    ended = np.full(order.size, UNKNOWN, np.int64)
    for i in range(order.size):
        item = order[i]
        a, b = np.int64(ends[item, 0]), np.int64(ends[item, 1])
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a == b:
            continue
        if rank[a] < rank[b]:
            a, b = b, a
        parent[a] = b
        ended[item] = a
    return ended


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
