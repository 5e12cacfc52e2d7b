"""Kernels of thinning: 26 neighbours in the bits of an integer, voxels removed one after the other.

A voxel is simple if the part of its surface that it shares with its neighbours has one piece and
Euler characteristic 1. Such a part can be contracted to a point, and so can the voxel. This holds
for 26-connected foreground; for 6-connected foreground the same is true of the background around it
(Kong, Rosenfeld: Digital Topology. CVGIP 1989; Bertrand, Malandain: A new characterization of
three-dimensional simple points. Pattern Recognition Letters 1994).

Images are flat and have a margin of background. Each place holds three voxels as bits, the one
before it in its row, its own and the one after it, so that 26 neighbours are read in nine steps.
`row` and `plane` are the steps to the next voxel along the other two axes.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology._kernel import inlined, kernel


def _bits_where(holds: Callable[[int, int, int], bool]) -> int:
    steps = [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return sum(1 << bit for bit, step in enumerate(steps) if holds(*step))


CENTRE = _bits_where(lambda z, y, x: z == y == x == 0)
ALL = 2**27 - 1 - CENTRE
FACES = _bits_where(lambda z, y, x: abs(z) + abs(y) + abs(x) == 1)
EDGES = _bits_where(lambda z, y, x: abs(z) + abs(y) + abs(x) == 2)
NUMBER_OF_EDGES = 12
BEFORE, ITSELF, AFTER = 1, 2, 4
X_MIDDLE = _bits_where(lambda z, y, x: x == 0)
Y_MIDDLE = _bits_where(lambda z, y, x: y == 0)
Z_MIDDLE = _bits_where(lambda z, y, x: z == 0)
NOT_FIRST_X = _bits_where(lambda z, y, x: x > -1)
NOT_LAST_X = _bits_where(lambda z, y, x: x < 1)
NOT_FIRST_Y = _bits_where(lambda z, y, x: y > -1)
NOT_LAST_Y = _bits_where(lambda z, y, x: y < 1)


@inlined
def _neighbours(image, voxel, row, plane):
    """Returns the 26 neighbours of a voxel as bits; the bit of the voxel itself is 0."""
    bits = 0
    shift = 0
    for z in range(-1, 2):
        for y in range(-1, 2):
            bits |= np.int64(image[voxel + z * plane + y * row]) << shift
            shift += 3
    return bits & ALL


@inlined
def _is_foreground(image, voxel):
    return image[voxel] & ITSELF


@inlined
def _remove(image, voxel):
    image[voxel - 1] &= ~AFTER
    image[voxel] &= ~ITSELF
    image[voxel + 1] &= ~BEFORE


@inlined
def _count(bits):
    bits = bits - ((bits >> 1) & 0x55555555)
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F
    return ((bits * 0x01010101) >> 24) & 0xFF


@inlined
def _euler(bits):
    """Returns the Euler characteristic of what a cube shares with its neighbours.

    A neighbour at a face touches all edges and corners around it: bits spread outwards, and then
    stand for the faces, edges and corners of the cube.
    """
    cells = bits
    cells |= (cells & Z_MIDDLE) << 9 | (cells & Z_MIDDLE) >> 9
    cells |= (cells & Y_MIDDLE) << 3 | (cells & Y_MIDDLE) >> 3
    cells |= (cells & X_MIDDLE) << 1 | (cells & X_MIDDLE) >> 1
    # corners + faces - edges, and edges are 12 less those that are missing
    return _count((cells & ALL) ^ EDGES) - NUMBER_OF_EDGES


@inlined
def _is_one_piece(bits):
    """Returns whether the neighbours are 26-connected among themselves; there must be one."""
    reached = bits & -bits
    while True:
        grown = reached | (reached & NOT_LAST_X) << 1 | (reached & NOT_FIRST_X) >> 1
        grown |= (grown & NOT_LAST_Y) << 3 | (grown & NOT_FIRST_Y) >> 3
        grown |= grown << 9 | grown >> 9
        grown &= bits
        if grown == reached:
            break
        reached = grown
    return reached == bits


@inlined
def _is_simple(bits, face):
    if face:
        bits = bits ^ ALL
    return bits != 0 and _euler(bits) == 1 and _is_one_piece(bits)


@kernel
def simple_voxels(image, voxels, row, plane, face):
    """Returns for each voxel whether it is simple."""
    simple = np.empty(len(voxels), np.bool_)
    for place in range(len(voxels)):
        simple[place] = _is_simple(_neighbours(image, voxels[place], row, plane), face)
    return simple


@kernel
def thin_in_order(image, voxels, layers, row, plane, face):
    """Removes simple voxels, layer after layer; ends of curves stay.

    A voxel is removed from one of six sides at a time, and only if it lies on another voxel. So the
    two columns of a bar of even width are not removed together. Voxels that were simple and not
    ends before their side was treated are tried again one after the other.

    Args:
        image: changed in place.
        voxels: of the foreground, layer after layer.
        layers: where in `voxels` each layer begins, and their number at the end.
        row: step to the next row.
        plane: step to the next plane.
        face: the foreground is 6-connected.
    """
    sides = np.array([-row, row, 1, -1, plane, -plane])
    waits = np.zeros(len(image), np.uint8)  # 1: its layer has begun; 2: it will be tried again
    tried = np.empty(len(voxels), np.int64)
    again = np.empty(len(voxels), np.int64)
    chosen = np.empty(len(voxels), np.int64)
    for layer in range(len(layers) - 1):
        trying = 0
        for place in range(layers[layer], layers[layer + 1]):
            waits[voxels[place]] = 1
            tried[trying] = voxels[place]
            trying += 1
        while trying:
            waiting = 0
            for side in sides:
                found = 0
                for place in range(trying):
                    voxel = tried[place]
                    if (
                        not _is_foreground(image, voxel)
                        or _is_foreground(image, voxel + side)
                        or not _is_foreground(image, voxel - side)
                    ):
                        continue
                    bits = _neighbours(image, voxel, row, plane)
                    ends_in = bits & FACES if face else bits
                    if ends_in & (ends_in - 1) and _is_simple(bits, face):
                        chosen[found] = voxel
                        found += 1
                for place in range(found):
                    voxel = chosen[place]
                    if not _is_simple(_neighbours(image, voxel, row, plane), face):
                        continue
                    _remove(image, voxel)
                    for z in range(-1, 2):
                        for y in range(-1, 2):
                            for x in range(-1, 2):
                                other = voxel + z * plane + y * row + x
                                if _is_foreground(image, other) and waits[other] == 1:
                                    waits[other] = 2
                                    again[waiting] = other
                                    waiting += 1
            trying = 0
            for place in range(waiting):
                waits[again[place]] = 1
                if _is_foreground(image, again[place]):
                    tried[trying] = again[place]
                    trying += 1
    _remove_corners(image, voxels, row, plane, face)


@kernel
def _remove_corners(image, voxels, row, plane, face):
    """Removes simple voxels that lie on no other voxel, those with most neighbours first."""
    left = voxels[image[voxels] & ITSELF != 0]
    changed = True
    while changed:
        changed = False
        for neighbours in range(26, 2 - face, -1):
            for voxel in left:
                if not _is_foreground(image, voxel):
                    continue
                bits = _neighbours(image, voxel, row, plane)
                number = _count(bits & FACES if face else bits)
                if number == neighbours and _is_simple(bits, face):
                    _remove(image, voxel)
                    changed = True


@kernel
def thin_by_lee(image, voxels, row, plane, sides):
    """Thins as Lee, Kashyap and Chu do; returns the voxels that were not simple when removed.

    They choose the voxels of a side that are simple and not ends. Then they remove, one after the
    other, those that do not disconnect their neighbours. So they also remove a voxel without
    neighbours, and one that opens a hole. Only the border is read, never the whole image.

    Args:
        image: changed in place.
        voxels: of the foreground, in order.
        row: step to the next row.
        plane: step to the next plane.
        sides: steps to the sides from which voxels go, in turn.
    """
    faults = np.empty(len(voxels), np.int64)
    wrong = 0
    listed = np.zeros(len(image), np.uint8)
    border = np.empty(len(voxels), np.int64)
    size = 0
    for voxel in voxels:
        if not (
            image[voxel] == BEFORE | ITSELF | AFTER
            and _is_foreground(image, voxel - row)
            and _is_foreground(image, voxel + row)
            and _is_foreground(image, voxel - plane)
            and _is_foreground(image, voxel + plane)
        ):
            listed[voxel] = 1
            border[size] = voxel
            size += 1
    chosen = np.empty(len(voxels), np.int64)
    beside = np.empty(len(voxels), np.int64)
    fresh = np.empty(len(voxels), np.int64)
    merged = np.empty(len(voxels), np.int64)
    unchanged = 0
    while unchanged < len(sides):
        unchanged = 0
        for side in sides:
            found = 0
            for place in range(size):
                voxel = border[place]
                if _is_foreground(image, voxel + side):
                    continue
                bits = _neighbours(image, voxel, row, plane)
                if bits & (bits - 1) and _is_simple(bits, False):
                    chosen[found] = voxel
                    found += 1
            removed = 0
            for place in range(found):
                voxel = chosen[place]
                bits = _neighbours(image, voxel, row, plane)
                if bits and not _is_one_piece(bits):
                    continue
                if not bits or _euler(bits) != 1:
                    faults[wrong] = voxel
                    wrong += 1
                _remove(image, voxel)
                chosen[removed] = voxel
                removed += 1
            if not removed:
                unchanged += 1
                continue
            exposed = 0
            for step in (-plane, plane, -row, row, -1, 1):
                new = 0  # in order, as the removed ones are
                for place in range(removed):
                    other = chosen[place] + step
                    if _is_foreground(image, other) and not listed[other]:
                        listed[other] = 1
                        beside[new] = other
                        new += 1
                if new:
                    exposed = _merge(image, fresh, exposed, beside, new, merged)
                    fresh, merged = merged, fresh
            size = _merge(image, border, size, fresh, exposed, merged)
            border, merged = merged, border
    return faults[:wrong].copy()


@inlined
def _merge(image, first, size, second, new, merged):
    """Writes the foreground of the first list and all of the second in order; returns how many."""
    a = b = total = 0
    while a < size:
        voxel = first[a]
        a += 1
        if not _is_foreground(image, voxel):
            continue
        while b < new and second[b] < voxel:
            merged[total] = second[b]
            total += 1
            b += 1
        merged[total] = voxel
        total += 1
    while b < new:
        merged[total] = second[b]
        total += 1
        b += 1
    return total


def steps(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns the steps to the next row and plane of a volume of this shape."""
    return shape[2], shape[1] * shape[2]


def padded(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Returns a mask with a margin, as a volume of threes of voxels; an image is one slice."""
    volume = mask if mask.ndim == 3 else mask[None]
    wide = np.pad(volume, ((1, 1), (1, 1), (2, 2))).view(np.uint8)
    return wide[..., :-2] * BEFORE | wide[..., 1:-1] * ITSELF | wide[..., 2:] * AFTER


def foreground_of(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns the flat indices of the foreground, in order."""
    return np.flatnonzero(image & ITSELF)
