"""Lower links of voxels, and how the cells of a lower star are paired. See `_cubical3d`."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.topology._cubical import AGE_SHIFT
from nnunet_topo.topology._kernel import kernel

# Bits of a lower link: axes -x, +x, -y, +y, -z, +z, then 12 squares, then 8 cubes.
AXES = 2**6 - 1
SQUARES = 2**12 - 1
GRAPH = 2**18 - 1  # axes and squares
WHOLE = 2**26 - 1
FIRST_SQUARE, FIRST_CUBE = 6, 18
SQUARE_AXES = np.array(
    [(a + s, b + t) for a, b in ((0, 2), (0, 4), (2, 4)) for t in (0, 1) for s in (0, 1)]
)
CUBE_AXES = np.array([(c & 1, 2 + (c >> 1 & 1), 4 + (c >> 2)) for c in range(8)])
CUBE_SQUARES = np.array(
    [[s for s in range(12) if set(SQUARE_AXES[s]) <= set(CUBE_AXES[c])] for c in range(8)]
)
SQUARE_CUBES = np.array([[c for c in range(8) if s in CUBE_SQUARES[c]] for s in range(12)])


@cache
def known_flow_tables() -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    return flow_tables()


@kernel
def flow_tables():
    """Returns where each corner of each link flows, and the trees of the spanning forest.

    `flow[link, axis]`: the edge towards the axis, pushed along all pairs of its lower star, passes
    over the squares of bits 0-11 and ends at the critical edge of bits 12-17, the root of its tree;
    for the first tree it ends at the voxel's own edge, and nothing is left. Both are sums over F2.

    `trees[link]`: how many trees there are, which is how many components the link has.
    """
    flow = np.zeros((2**18, 6), np.uint32)
    trees = np.zeros(2**18, np.uint8)
    queue = np.zeros(6, np.int64)
    for link in range(2**18):
        possible = True
        for square in range(12):
            a, b = SQUARE_AXES[square]
            if link >> (FIRST_SQUARE + square) & 1 and not (link >> a & 1 and link >> b & 1):
                possible = False
        if not possible:
            continue
        reached = 0
        for root in range(6):
            if not link >> root & 1 or reached >> root & 1:
                continue
            flow[link, root] = np.uint32(1 << (12 + root)) if trees[link] else np.uint32(0)
            trees[link] += 1
            reached |= 1 << root
            queue[0] = root
            head, tail = 0, 1
            while head < tail:
                axis = queue[head]
                head += 1
                for square in range(12):
                    a, b = SQUARE_AXES[square]
                    if not link >> (FIRST_SQUARE + square) & 1 or axis not in (a, b):
                        continue
                    other = a + b - axis
                    if not reached >> other & 1:
                        reached |= 1 << other
                        flow[link, other] = flow[link, axis] ^ np.uint32(1 << square)
                        queue[tail] = other
                        tail += 1
    return flow, trees


@kernel
def lower_links(ages, shape, trees, words, critical):
    """Writes the words and lists the critical voxels, ascending.

    Ties are broken by index: a neighbour before the voxel is older if its age is equal, one after
    it is not. A link is contractible if and only if it has one component and Euler characteristic
    1; otherwise trees - 1 of its edges are critical, and of its squares as many as the link has
    loops (it has a cavity only where it is the whole octahedron).

    Returns:
        The number of critical voxels, edges and squares.
    """
    nz, ny, nx = shape
    n, sy, sz = nx - 2, nx, nx * ny
    link = np.empty(n, np.int32)
    euler = np.empty(n, np.int32)
    voxels = edges = squares = 0
    for z in range(1, nz - 1):
        for y in range(1, ny - 1):
            b = z * sz + y * sy + 1
            centre = ages[b : b + n]
            # Rows of neighbours, named by their signs in z, y and x.
            oom, oop = ages[b - 1 : b - 1 + n], ages[b + 1 : b + 1 + n]
            omo, opo = ages[b - sy : b - sy + n], ages[b + sy : b + sy + n]
            moo, poo = ages[b - sz : b - sz + n], ages[b + sz : b + sz + n]
            omm, omp = ages[b - sy - 1 : b - sy - 1 + n], ages[b - sy + 1 : b - sy + 1 + n]
            opm, opp = ages[b + sy - 1 : b + sy - 1 + n], ages[b + sy + 1 : b + sy + 1 + n]
            mom, mop = ages[b - sz - 1 : b - sz - 1 + n], ages[b - sz + 1 : b - sz + 1 + n]
            pom, pop = ages[b + sz - 1 : b + sz - 1 + n], ages[b + sz + 1 : b + sz + 1 + n]
            m, p = b - sz - sy, b - sz + sy
            mmo, mpo = ages[m : m + n], ages[p : p + n]
            mmm, mmp = ages[m - 1 : m - 1 + n], ages[m + 1 : m + 1 + n]
            mpm, mpp = ages[p - 1 : p - 1 + n], ages[p + 1 : p + 1 + n]
            m, p = b + sz - sy, b + sz + sy
            pmo, ppo = ages[m : m + n], ages[p : p + n]
            pmm, pmp = ages[m - 1 : m - 1 + n], ages[m + 1 : m + 1 + n]
            ppm, ppp = ages[p - 1 : p - 1 + n], ages[p + 1 : p + 1 + n]
            for i in range(n):
                age = centre[i]
                a0, a1 = np.int32(oom[i] <= age), np.int32(oop[i] < age)
                a2, a3 = np.int32(omo[i] <= age), np.int32(opo[i] < age)
                a4, a5 = np.int32(moo[i] <= age), np.int32(poo[i] < age)
                s0, s1 = a0 & a2 & np.int32(omm[i] <= age), a1 & a2 & np.int32(omp[i] <= age)
                s2, s3 = a0 & a3 & np.int32(opm[i] < age), a1 & a3 & np.int32(opp[i] < age)
                s4, s5 = a0 & a4 & np.int32(mom[i] <= age), a1 & a4 & np.int32(mop[i] <= age)
                s6, s7 = a0 & a5 & np.int32(pom[i] < age), a1 & a5 & np.int32(pop[i] < age)
                s8, s9 = a2 & a4 & np.int32(mmo[i] <= age), a3 & a4 & np.int32(mpo[i] <= age)
                s10, s11 = a2 & a5 & np.int32(pmo[i] < age), a3 & a5 & np.int32(ppo[i] < age)
                c0 = s0 & s4 & s8 & np.int32(mmm[i] <= age)
                c1 = s1 & s5 & s8 & np.int32(mmp[i] <= age)
                c2 = s2 & s4 & s9 & np.int32(mpm[i] <= age)
                c3 = s3 & s5 & s9 & np.int32(mpp[i] <= age)
                c4 = s0 & s6 & s10 & np.int32(pmm[i] < age)
                c5 = s1 & s7 & s10 & np.int32(pmp[i] < age)
                c6 = s2 & s6 & s11 & np.int32(ppm[i] < age)
                c7 = s3 & s7 & s11 & np.int32(ppp[i] < age)
                # fmt: off
                link[i] = (
                    a0 | a1 << 1 | a2 << 2 | a3 << 3 | a4 << 4 | a5 << 5
                    | s0 << 6 | s1 << 7 | s2 << 8 | s3 << 9 | s4 << 10 | s5 << 11
                    | s6 << 12 | s7 << 13 | s8 << 14 | s9 << 15 | s10 << 16 | s11 << 17
                    | c0 << 18 | c1 << 19 | c2 << 20 | c3 << 21
                    | c4 << 22 | c5 << 23 | c6 << 24 | c7 << 25
                )
                euler[i] = (
                    (a0 + a1 + a2 + a3 + a4 + a5)
                    - (s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11)
                    + (c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7)
                )
                # fmt: on
            row = words[b : b + n]
            for i in range(n):
                row[i] = np.uint64(np.int64(centre[i]) + 2**31) << AGE_SHIFT | np.uint64(link[i])
            for i in range(n):
                components = np.int64(trees[link[i] & GRAPH])
                if components != 1 or euler[i] != 1:
                    critical[voxels] = b + i
                    voxels += 1
                    edges += max(components - 1, 0)
                    squares += components - euler[i] + (link[i] == WHOLE)
    return voxels, edges, squares
