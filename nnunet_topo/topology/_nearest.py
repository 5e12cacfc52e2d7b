"""Kernel that finds the nearest point on a grid."""

import numpy as np

from nnunet_topo.topology._kernel import kernel


@kernel
def first_occupied(grid, points, steps):
    """Returns for each point the first step that leads to an occupied place, -1 if none does."""
    found = np.full(len(points), -1, np.int64)
    for place in range(len(points)):
        for number in range(len(steps)):
            if grid[points[place] + steps[number]]:
                found[place] = number
                break
    return found
