"""Homology of small masks by linear algebra over F2: slow, and without any code of ours.

Chains are whole numbers whose bits are cells, so that adding chains is an exclusive or.
"""

from itertools import product

import numpy as np

Cell = tuple[int, ...]


def cells(mask: np.ndarray, connectivity: str) -> set[Cell]:
    """Returns the cells of a mask, in coordinates that are odd along the axes that a cell spans.

    Voxels are closed cubes ("full") or points ("face").
    """
    voxels = {tuple(map(int, voxel)) for voxel in np.argwhere(mask)}
    if connectivity == "full":
        faces = list(product((0, 1, 2), repeat=mask.ndim))
        return {
            tuple(2 * v + f for v, f in zip(x, face, strict=True)) for x in voxels for face in faces
        }
    found = set()
    for voxel in voxels:
        for spans in product((0, 1), repeat=mask.ndim):
            corners = product(
                *((v, v + 1) if s else (v,) for v, s in zip(voxel, spans, strict=True))
            )
            if voxels.issuperset(corners):
                found.add(tuple(2 * v + s for v, s in zip(voxel, spans, strict=True)))
    return found


def dimension(cell: Cell) -> int:
    """Returns along how many axes a cell extends."""
    return sum(c % 2 for c in cell)


def boundary(cell: Cell) -> list[Cell]:
    """Returns the faces of a cell."""
    return [
        (*cell[:axis], c + step, *cell[axis + 1 :])
        for axis, c in enumerate(cell)
        if c % 2
        for step in (-1, 1)
    ]


def rank(vectors: list[int], modulo: list[int]) -> int:
    """Returns the rank of vectors over F2 in the quotient by what others span."""
    by_pivot: dict[int, int] = {}

    def add(vector: int) -> bool:
        while vector:
            pivot = vector.bit_length()
            if pivot not in by_pivot:
                by_pivot[pivot] = vector
                return True
            vector ^= by_pivot[pivot]
        return False

    for vector in modulo:
        add(vector)
    return sum([add(vector) for vector in vectors])


def cycles(chosen: list[Cell], name: dict[Cell, int]) -> list[int]:
    """Returns a basis of the chains of these cells that have no boundary."""
    by_pivot: dict[int, tuple[int, int]] = {}
    found = []
    for cell in chosen:
        edge = sum(1 << name[face] for face in boundary(cell))
        chain = 1 << name[cell]
        while edge and edge.bit_length() in by_pivot:
            other_edge, other_chain = by_pivot[edge.bit_length()]
            edge, chain = edge ^ other_edge, chain ^ other_chain
        if edge:
            by_pivot[edge.bit_length()] = edge, chain
        else:
            found.append(chain)
    return found


def betti_matching(
    p: np.ndarray, g: np.ndarray, connectivity: str
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Returns the Betti numbers of p and g, and the rank that their images in the union share."""
    of_union = sorted(cells(p | g, connectivity))
    name = {cell: number for number, cell in enumerate(of_union)}
    found = []
    for k in range(p.ndim):
        filled = boundaries(of_union, k, name)
        bases, betti = [], []
        for mask in (p, g):
            of_mask = sorted(cells(mask, connectivity))
            basis = cycles([cell for cell in of_mask if dimension(cell) == k], name)
            betti.append(len(basis) - rank(boundaries(of_mask, k, name), []))
            bases.append(basis)
        apart = [rank(basis, filled) for basis in bases]
        found.append((*betti, sum(apart) - rank(bases[0] + bases[1], filled)))
    of_p, of_g, shared = zip(*found, strict=True)
    return of_p, of_g, shared


def boundaries(chosen: list[Cell], k: int, name: dict[Cell, int]) -> list[int]:
    """Returns the boundaries of the cells of dimension k + 1."""
    return [
        sum(1 << name[face] for face in boundary(cell))
        for cell in chosen
        if dimension(cell) == k + 1
    ]
