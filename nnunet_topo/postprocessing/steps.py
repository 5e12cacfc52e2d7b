"""The steps that one label or region can be given, and the grid from which they are chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.images.segmentation import Unit
from nnunet_topo.postprocessing.masks import (
    Mask,
    close_gaps,
    fill_holes,
    is_kept,
    measure_components,
)
from nnunet_topo.topology import Connectivity

_SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # in voxels, of what is removed
_HOLES = (10, 100, 1000)  # in voxels, of what is filled
_RADII = (1, 2, 4)  # in the shortest side of a voxel
_THRESHOLDS = (0.4, 0.3, 0.2)


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one label or region, in the order in which they are done; None leaves one out.

    Attributes:
        threshold: background with at least this probability is added.
        close_gaps: radius up to which gaps between components are closed.
        fill_holes: size up to which holes, in 3D cavities, are filled.
        remove_below: size below which components are removed.
        keep_largest: number of components that are kept, the largest.
    """

    threshold: float | None = None
    close_gaps: float | None = None
    fill_holes: float | None = None
    remove_below: float | None = None
    keep_largest: int | None = None

    def __len__(self) -> int:
        """Returns how many steps there are."""
        return sum(getattr(self, field.name) is not None for field in fields(self))

    def to_json(self) -> dict[str, float | int]:
        """Returns the steps that there are, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], place: str) -> "Steps":
        """Returns the steps that `to_json` gave, or a user has written.

        Raises:
            ValueError: they are not steps; the message begins with the place.
        """
        known = [field.name for field in fields(cls)]
        for name, value in content.items():
            if name not in known:
                raise ValueError(f"{place}: {name!r} is not a step; there are {', '.join(known)}")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and isfinite(value) and value > 0):
                raise ValueError(f"{place}: {name} takes a number above 0, got {value!r}")
        steps = cls(**content)
        if steps.threshold is not None and steps.threshold >= 1:
            raise ValueError(f"{place}: threshold must be below 1, got {steps.threshold}")
        if not isinstance(steps.keep_largest, int | None):
            raise ValueError(f"{place}: keep_largest takes a whole number, got {content}")
        return steps

    def in_words(self, units: "Units") -> str:
        """Returns what is done, in words."""
        parts = []
        if self.threshold is not None:
            parts.append(f"add background with a probability of at least {self.threshold:g}")
        if self.close_gaps is not None:
            radius = f"{self.close_gaps:g} {units.length}"
            parts.append(f"close gaps between components with a radius of {radius}")
        if self.fill_holes is not None:
            holes = "holes" if units.space == 2 else "cavities"
            parts.append(f"fill {holes} of up to {self.fill_holes:g} {units.size}")
        if self.remove_below is not None:
            parts.append(f"remove components below {self.remove_below:g} {units.size}")
        if self.keep_largest is not None:
            one = self.keep_largest == 1
            parts.append(
                "keep the largest component"
                if one
                else f"keep the {self.keep_largest} largest components"
            )
        return ", ".join(parts) or "nothing"


@dataclass(frozen=True, slots=True)
class Units:
    """What the numbers of steps are measured in.

    Attributes:
        unit: of lengths.
        space: 2 for images, 3 for volumes.
    """

    unit: Unit
    space: int

    @property
    def length(self) -> str:
        """Returns the unit of lengths."""
        return self.unit

    @property
    def size(self) -> str:
        """Returns the unit of areas or volumes."""
        return f"mm{self.space}" if self.unit == "mm" else self.unit


@dataclass(frozen=True, slots=True)
class Grid:
    """The values from which steps are chosen, each beside leaving the step out.

    Components are either removed by size, or the largest are kept.
    """

    thresholds: tuple[float, ...] = ()
    radii: tuple[float, ...] = ()
    holes: tuple[float, ...] = ()
    sizes: tuple[float, ...] = ()
    numbers: tuple[int, ...] = ()

    @classmethod
    def of_spacings(cls, spacings: Sequence[NDArray[np.float64]], *, probabilities: bool) -> "Grid":
        """Returns a grid in units of a typical voxel.

        Args:
            spacings: sizes of a voxel along each axis, of some cases.
            probabilities: whether thresholds can be lowered.
        """
        voxel = float(np.median([np.prod(spacing) for spacing in spacings]))
        side = float(np.median([np.min(spacing) for spacing in spacings]))
        return cls(
            _THRESHOLDS if probabilities else (),
            tuple(_rounded(number * side) for number in _RADII),
            tuple(_rounded(number * voxel) for number in _HOLES),
            tuple(_rounded(number * voxel) for number in _SIZES),
            (1, 2, 3),
        )

    def candidates(self) -> list[Steps]:
        """Returns all combinations, the one without any step first."""
        of_kinds = ((None, *self.thresholds), (None, *self.radii), (None, *self.holes))
        choices = product(*of_kinds, self.of_components())
        return [Steps(p, gap, hole, *last) for p, gap, hole, last in choices]

    def of_components(self) -> list[tuple[float | None, int | None]]:
        """Returns the choices of `remove_below` and `keep_largest`, the one without any first.

        Numbers come before sizes, and the first of equally good candidates is taken: a size that is
        just large enough for these cases would leave a larger island in others.
        """
        by_size: list[tuple[float | None, int | None]] = [(size, None) for size in self.sizes]
        return [(None, None), *((None, number) for number in self.numbers), *by_size]


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def change_mask(
    mask: Mask,
    may_take: Mask,
    steps: Steps,
    *,
    probability: NDArray[np.floating] | None,
    spacing: NDArray[np.float64],
    connectivity: Connectivity,
) -> Mask:
    """Returns a mask after the steps.

    Args:
        mask: 2D or 3D.
        may_take: voxels that may be added.
        steps: what is done.
        probability: of the label in each voxel, needed for a threshold.
        spacing: size of a voxel along each axis.
        connectivity: of the mask.

    Raises:
        ValueError: a threshold without probabilities.
    """
    voxel = float(np.prod(spacing))
    if steps.threshold is not None:
        if probability is None:
            raise ValueError("a threshold was chosen, so the probabilities are needed")
        mask = mask | (may_take & (probability >= steps.threshold))
    if steps.close_gaps is not None:
        mask = close_gaps(mask, may_take, steps.close_gaps, spacing, connectivity)
    if steps.fill_holes is not None:
        mask = fill_holes(mask, may_take, steps.fill_holes, voxel, connectivity)
    if steps.remove_below is not None or steps.keep_largest is not None:
        labels, sizes = measure_components(mask, voxel, connectivity)
        kept = is_kept(sizes, steps.remove_below, steps.keep_largest)
        mask = np.append(False, kept)[labels]
    return mask
