"""Image persistence of small images by linear algebra over F2: slow, with nothing of ours in it.

Voxels enter in a total order. Where several bars end at one voxel of C there are two definitions.
By place: what prediction and mask share there is the intersection of two subspaces. By birth: of
those that end there, the first of the image is matched with the first of C (Bauer, Lesnick: Induced
Matchings and the Algebraic Stability of Persistence Barcodes. Journal of Computational Geometry
2015). They differ in about one of 150 small volumes with many ties.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from .cell_complexes import boundary, cells, dimension, rank


@dataclass(frozen=True)
class Matching:
    """Bars of one dimension as (birth, death) voxels.

    `ended` are the voxels at which bars of the target end, each as often as bars do; `by_place` and
    `by_birth` are pairs of the birth in F and the death in C.
    """

    bars: Counter
    ended: Counter
    by_place: Counter
    by_birth: Counter


def entry_orders(f, g, connectivity):
    """Returns for each voxel its place in F and in C: by g, then f, then place in memory.

    What lies outside of the box around the mask and all that exceeds the least value enters last.
    """
    place = np.arange(f.size) if connectivity == "face" else -np.arange(f.size)
    last = outside((f > f.min()) | g).ravel()
    in_f = np.empty(f.size, int)
    in_f[np.lexsort([place, last, -f.ravel()])] = np.arange(f.size)
    in_c = np.empty(f.size, int)
    in_c[np.lexsort([place, last, -f.ravel(), ~g.ravel()])] = np.arange(f.size)
    return in_f, in_c


def outside(inside):
    """Returns what lies outside of the box around some voxels; nothing if there are none."""
    found = np.zeros(inside.shape, bool)
    for axis in range(inside.ndim if inside.any() else 0):
        others = tuple(other for other in range(inside.ndim) if other != axis)
        rows = np.flatnonzero(inside.any(axis=others))
        position = np.indices(inside.shape)[axis]
        found |= (position < rows[0]) | (position > rows[-1])
    return found


def match(f, g, connectivity, k):
    """Returns the Betti matching of an image and a mask in one dimension."""
    everything = cells(np.ones(f.shape, bool), connectivity)
    in_f, in_c = entry_orders(f, g, connectivity)
    of_f, of_c = (entries(everything, order, f.shape, connectivity) for order in (in_f, in_c))
    voxel_f, voxel_c = np.argsort(in_f), np.argsort(in_c)
    value = f.ravel()
    rows = [cell for cell in everything if dimension(cell) == k]
    columns = [cell for cell in everything if dimension(cell) == k + 1]
    of_image = reduced(rows, columns, of_f, of_c)
    of_target = reduced(rows, columns, of_c, of_c)
    of_prediction = reduced(rows, columns, of_f, of_f)
    bars = Counter(
        (int(voxel_f[b]), int(voxel_f[d]))
        for b, d, _ in of_prediction
        if value[voxel_f[b]] > value[voxel_f[d]]
    )
    inside = g.sum()
    crossing = [(d, chain) for b, d, chain in of_target if b < inside <= d]
    ended = Counter(int(voxel_c[d]) for d, _ in crossing)
    name = {cell: number for number, cell in enumerate(sorted(rows))}

    def as_bits(chain):
        return sum(1 << name[cell] for cell in chain)

    by_place, by_birth = Counter(), Counter()
    for death in {d for d, _ in crossing}:
        before = [as_bits(chain) for _, d, chain in of_image if d < death]
        up_to = [(b, as_bits(chain)) for b, d, chain in of_image if d <= death]
        target = [as_bits(chain) for b, d, chain in of_target if d <= death and b < inside]
        here = sorted({b for b, d, _ in of_image if d == death})
        shared = 0
        for birth in here:
            source = [chain for b, chain in up_to if b <= birth]
            now = rank(source, before) + rank(target, before) - rank(source + target, before)
            lasts = value[voxel_f[birth]] > value[voxel_c[death]]
            if now > shared and lasts:
                by_place[int(voxel_f[birth]), int(voxel_c[death])] += now - shared
            shared = now
        of_c_here = sorted(b for b, d, _ in of_target if d == death)
        of_f_here = sorted(b for b, d, _ in of_image if d == death)
        for target_birth, birth in zip(of_c_here, of_f_here, strict=False):
            if target_birth < inside and value[voxel_f[birth]] > value[voxel_c[death]]:
                by_birth[int(voxel_f[birth]), int(voxel_c[death])] += 1
    return Matching(bars, ended, by_place, by_birth)


def orders_of_values(f, g, connectivity):
    """Returns for each voxel its place in F, in G and in C, for a target of any values.

    F is ordered by f, G by g and then f, and C by the greater of both and then by f where g is as
    great; all three then by what lies outside of the box and by place in memory, as above.
    """
    place = np.arange(f.size) if connectivity == "face" else -np.arange(f.size)
    last = outside((f > f.min()) | (g > g.min())).ravel()
    found = []
    for first, second in ((f, 0 * f), (g, f), (np.maximum(f, g), np.where(g >= f, f, 0))):
        order = np.empty(f.size, int)
        order[np.lexsort([place, last, -second.ravel(), -first.ravel()])] = np.arange(f.size)
        found.append(order)
    return found


def match_values(f, g, connectivity, k):
    """Returns the bars of F and of G as (birth, death) voxels, and matches, as two births."""
    everything = cells(np.ones(f.shape, bool), connectivity)
    order_f, order_g, order_c = orders_of_values(f, g, connectivity)
    voxel = [np.argsort(order) for order in (order_f, order_g, order_c)]
    of_f, of_g, of_c = (
        entries(everything, order, f.shape, connectivity) for order in (order_f, order_g, order_c)
    )
    rows = [cell for cell in everything if dimension(cell) == k]
    columns = [cell for cell in everything if dimension(cell) == k + 1]
    bars, images = [], []
    level = np.maximum(f, g).ravel()[voxel[2]]
    name = {cell: number for number, cell in enumerate(sorted(rows))}
    for own, at, image in ((of_f, voxel[0], f.ravel()), (of_g, voxel[1], g.ravel())):
        pairs = [(int(at[b]), int(at[d])) for b, d, _ in reduced(rows, columns, own, own)]
        bars.append(Counter((b, d) for b, d in pairs if image[b] > image[d]))
        chains = reduced(rows, columns, own, of_c)
        images.append([(b, d, sum(1 << name[c] for c in chain)) for b, d, chain in chains])
    matched = Counter()
    for death in {d for _, d, _ in images[0]}:
        before = [chain for _, d, chain in images[0] if d < death]
        here = []
        for side, own in enumerate((f, g)):
            value = own.ravel()[voxel[side]]
            here.append(sorted((b, d, c) for b, d, c in images[side] if value[b] > level[death]))
        ends = [[b for b, d, _ in side if d == death] for side in here]
        if (f.ndim, k) != (3, 1):
            ends = [_shared(ends[side], here[side], here[1 - side], death, before)
                    for side in (0, 1)]  # fmt: skip
        for birth_f, birth_g in zip(*ends, strict=False):
            matched[int(voxel[0][birth_f]), int(voxel[1][birth_g])] += 1
    return *bars, matched


def _shared(births, own, others, death, before):
    """Returns at which births the intersection of what both images have there grows."""
    of_others = [chain for _, d, chain in others if d <= death]
    grows, shared = [], 0
    for birth in births:
        source = [chain for b, d, chain in own if d <= death and b <= birth]
        now = rank(source, before) + rank(of_others, before) - rank(source + of_others, before)
        grows += [birth] * (now - shared)
        shared = now
    return grows


def entries(everything, order, shape, connectivity):
    """Returns when each cell enters: with the first of its cubes, the last of its points."""
    order = order.reshape(shape)
    found = {}
    for cell in everything:
        if connectivity == "full":
            sides = [
                list(range(max((c - 1) // 2, 0), min(c // 2, n - 1) + 1))
                for c, n in zip(cell, shape, strict=True)
            ]
            found[cell] = int(order[np.ix_(*sides)].min())
        else:
            sides = [list(range(c // 2, (c + 1) // 2 + 1)) for c in cell]
            found[cell] = int(order[np.ix_(*sides)].max())
    return found


def reduced(rows, columns, row_entry, column_entry):
    """Returns (birth, death, chain) of each column that is not zero, reduced from left to right."""
    by_birth = sorted(rows, key=lambda cell: (row_entry[cell], cell))
    position = {cell: number for number, cell in enumerate(by_birth)}
    found, owner = [], {}
    for column in sorted(columns, key=lambda cell: (column_entry[cell], cell)):
        bits = sum(1 << position[face] for face in boundary(column))
        while bits and bits.bit_length() in owner:
            bits ^= owner[bits.bit_length()]
        if bits:
            owner[bits.bit_length()] = bits
            chain = [by_birth[i] for i in range(bits.bit_length()) if bits >> i & 1]
            found.append((row_entry[by_birth[bits.bit_length() - 1]], column_entry[column], chain))
    return found
