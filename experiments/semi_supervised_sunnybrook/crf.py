"""The paper's other repair: a fully connected conditional random field.

Krähenbühl, Koltun: Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials.
Advances in Neural Information Processing Systems 2011. The library is pydensecrf2 (MIT).
"""

from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from experiments.semi_supervised_sunnybrook.slices import Slices
from experiments.semi_supervised_sunnybrook.training import dice_of

ITERATIONS = 5
SMOOTH_REACH = 3  # pixels


@dataclass(frozen=True, slots=True)
class Potentials:
    """The weights and widths of both kernels.

    Attributes:
        smoothness: weight of the kernel of places.
        appearance: weight of the kernel of places and intensities.
        reach: its width in pixels.
        contrast: its width in intensities from 0 to 255.
    """

    smoothness: float
    appearance: float
    reach: float
    contrast: float


GRID = [Potentials(*v) for v in product((1, 3), (1, 3, 10), (5, 20), (5, 13, 40))]


def is_installed() -> bool:
    """Returns whether the library is there."""
    try:
        import pydensecrf.densecrf  # noqa: F401
    except ImportError:
        return False
    return True


def smoothed(
    probability: NDArray[np.float32], image: NDArray[np.float32], potentials: Potentials
) -> NDArray[np.bool_]:
    """Returns the mask after mean-field inference.

    Args:
        probability: of the foreground, `[y, x]`.
        image: in [0, 1], `[y, x]`.
        potentials: of the field.
    """
    from pydensecrf.densecrf import DenseCRF2D
    from pydensecrf.utils import unary_from_softmax

    height, width = image.shape
    field = DenseCRF2D(width, height, 2)
    field.setUnaryEnergy(unary_from_softmax(np.stack([1 - probability, probability])))
    field.addPairwiseGaussian(sxy=SMOOTH_REACH, compat=potentials.smoothness)
    grey = np.repeat(np.uint8(np.round(255 * image))[..., None], 3, axis=2)
    field.addPairwiseBilateral(
        sxy=potentials.reach,
        srgb=potentials.contrast * np.sqrt(3),  # three equal channels make one intensity
        rgbim=np.ascontiguousarray(grey),
        compat=potentials.appearance,
    )
    return np.array(field.inference(ITERATIONS)).argmax(axis=0).reshape(height, width) == 1


def all_smoothed(
    probability: NDArray[np.float32], slices: Slices, potentials: Potentials
) -> NDArray[np.bool_]:
    """Returns the masks of all slices, `[slice, y, x]`."""
    images = slices.images[:, 0].numpy()
    return np.stack(
        [smoothed(p, image, potentials) for p, image in zip(probability, images, strict=True)]
    )


def best_potentials(probability: NDArray[np.float32], slices: Slices) -> Potentials:
    """Returns the potentials of the grid with the highest mean Dice; the first of equal ones."""
    dice = [dice_of(all_smoothed(probability, slices, tried), slices).mean() for tried in GRID]
    return GRID[int(np.argmax(dice))]


def recorded(potentials: Potentials) -> dict[str, float]:
    """Returns what the record holds of them."""
    return asdict(potentials)
