"""Fewer components: each one too many is removed, or joined along the cheapest path."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from math import inf

import numpy as np

from nnunet_topo.correction.field import Field, Mask
from nnunet_topo.topology.homotopic import Path, Paths
from nnunet_topo.topology.masks import label_components


def fewer_components(
    mask: Mask, field: Field, most: int, *, join: bool = True, remove: bool = True
) -> Mask:
    """Returns a mask of at most as many components.

    The cheapest change goes first: a component is removed, which costs all its voxels, or joined
    with the one that is nearest by the cost of the voxels between.

    Args:
        mask: as changed so far.
        field: what changes cost.
        most: number of components that may stay.
        join: whether components may be joined.
        remove: whether components may be removed.
    """
    groups = _Groups(mask, field)
    excess = len(groups) - most
    if excess <= 0:
        return mask
    queue = [
        change
        for number in groups.to_consider(most)
        for change in groups.changes(number, join=join, remove=remove)
    ]
    heapify(queue)
    while excess > 0 and queue:
        change = heappop(queue)
        if not groups.has_as_it_was(change.number, change.version):
            continue
        if change.path is not None and not groups.is_open(change.path):
            for again in groups.changes(change.number, join=join, remove=False):
                heappush(queue, again)
            continue
        for grown in list(groups.apply(change)):
            for again in groups.changes(grown, join=join, remove=remove):
                heappush(queue, again)
        excess -= 1
    return groups.mask


class _Change:
    """A possible change of a group; the cheapest of all sorts first."""

    __slots__ = ("cost", "number", "path", "version")

    def __init__(self, cost: float, number: int, version: int, path: Path | None) -> None:
        self.cost, self.number, self.version, self.path = cost, number, version, path

    def __lt__(self, other: "_Change") -> bool:
        return (self.cost, self.number) < (other.cost, other.number)


class _Groups:
    """The components of a mask, some of them joined by now."""

    def __init__(self, mask: Mask, field: Field) -> None:
        self._shape = mask.shape
        self._now = np.pad(mask, 1)
        labels, number = label_components(mask, field.connectivity)
        cost = np.pad(field.cost_from(mask), 1, constant_values=inf)
        groups = np.pad(labels, 1, constant_values=-1).astype(np.int32)
        groups[(groups == 0) & np.isinf(cost)] = -1
        self._paths = Paths(groups, cost, field.connectivity)
        finite = np.where(np.isfinite(cost), cost, 0)
        flat = self._paths.groups
        inside = np.flatnonzero(flat > 0)
        by_group = inside[np.argsort(flat[inside], kind="stable")]
        ends = np.cumsum(np.bincount(flat[inside], minlength=number + 1))
        self._voxels = {k: by_group[ends[k - 1] : ends[k]] for k in range(1, number + 1)}
        self._removal = {
            k: inf if np.isinf(cost.ravel()[v]).any() else float(finite.ravel()[v].sum())
            for k, v in self._voxels.items()
        }
        if field.has_outside:
            self._removal[int(labels.flat[0])] = inf
        self._version = dict.fromkeys(self._voxels, 0)
        self._joined_with: dict[int, int] = {}
        self._largest = 0

    def __len__(self) -> int:
        return len(self._voxels)

    @property
    def mask(self) -> Mask:
        """Returns the mask as it is now."""
        return self._now[(slice(1, -1),) * len(self._shape)]

    def has_as_it_was(self, number: int, version: int) -> bool:
        """Returns whether a group is there, and has not grown since."""
        return number in self._voxels and self._version[number] == version

    def now(self, number: int) -> int:
        """Returns the group that a former group is in, 0 if it was removed."""
        while number in self._joined_with:
            number = self._joined_with[number]
        return number if number in self._voxels else 0

    def is_open(self, path: Path) -> bool:
        """Returns whether a path still leads to a group, through none that has grown since."""
        return bool(self.now(path.group)) and not self._paths.groups[path.voxels].any()

    def to_consider(self, most: int) -> list[int]:
        """Returns all groups but the largest: of any pair, one at least is in the list."""
        if most:
            largest = max(self._voxels, key=lambda k: (self._removal[k], len(self._voxels[k])))
            self._largest = largest
        return [k for k in self._voxels if k != self._largest]

    def changes(self, number: int, *, join: bool, remove: bool) -> Iterator[_Change]:
        """Yields what can be done with a group."""
        version, removal = self._version[number], self._removal[number]
        if remove and removal < inf:
            yield _Change(removal, number, version, None)
        if join:
            limit = removal if remove else inf
            path = self._paths.from_group(number, self._voxels[number], limit)
            if path.group:
                yield _Change(path.cost, number, version, path)

    def apply(self, change: _Change) -> Iterator[int]:
        """Makes a change, and yields the group that has grown, if it is to be considered."""
        flat, now = self._paths.groups, self._now.reshape(-1)
        voxels = self._voxels.pop(change.number)
        if change.path is None:
            flat[voxels], now[voxels] = 0, False
            self._paths.make_free(voxels)
            return
        stays, path = self.now(change.path.group), change.path.voxels
        if stays != self._largest:
            self._voxels[stays] = np.concatenate([self._voxels[stays], voxels, path])
        flat[voxels], flat[path], now[path] = stays, stays, True
        self._joined_with[change.number] = stays
        self._removal[stays] += self._removal[change.number] + change.path.cost
        self._version[stays] += 1
        if stays != self._largest:
            yield stays
