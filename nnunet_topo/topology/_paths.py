"""Kernel that spreads parts of a grid over their surroundings, one step at a time."""

import numpy as np

from nnunet_topo.topology._kernel import kernel


@kernel
def spread(owner, passable, offsets, parent, distance):
    """Gives each passable voxel to the nearest part, breadth first; owned voxels are the parts.

    Args:
        owner: number of each voxel's part, 0 for none; changed in place. The border has none.
        passable: voxels that may be given away; none of the border.
        offsets: to the neighbours of a voxel.
        parent: the voxel before each one on its way; -1 at first.
        distance: steps from the part; 0 at first.
    """
    queue = np.empty(owner.size, np.int64)
    head = tail = 0
    for voxel in range(owner.size):
        if owner[voxel]:
            queue[tail] = voxel
            tail += 1
    while head < tail:
        voxel = queue[head]
        head += 1
        for offset in offsets:
            other = voxel + offset
            if passable[other] and not owner[other]:
                owner[other] = owner[voxel]
                parent[other] = voxel
                distance[other] = distance[voxel] + 1
                queue[tail] = other
                tail += 1
