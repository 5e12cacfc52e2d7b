"""MNIST's digits: the set of each, their Betti numbers, and how they are corrupted."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEED = 0
PRIORS = {digit: (1, {0: 1, 6: 1, 9: 1, 8: 2}.get(digit, 0)) for digit in range(10)}


@dataclass(frozen=True, slots=True)
class DigitSets:
    """Indices of digits; no digit is in two sets.

    Attributes:
        network: train the restoring network.
        development: choose the learning rate of the refinement, and the digit of the figure.
        test: are refined and scored.
        classifier: train the classifier.
    """

    network: NDArray[np.int64]
    development: NDArray[np.int64]
    test: NDArray[np.int64]
    classifier: NDArray[np.int64]


def digit_sets(count: int = 10000) -> DigitSets:
    """Returns 100 / 30 / 1000 digits and the rest, at random, because easy digits come first."""
    network, development, test, classifier = np.split(
        np.random.default_rng(SEED).permutation(count), [100, 130, 1130]
    )
    return DigitSets(network, development, test, classifier)


def read_digits(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns all digits, `[digit, y, x]` in [0, 1], and their labels.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not an idx file of bytes.
    """
    return (
        _read_idx(folder / "mnist" / "t10k-images-idx3-ubyte.gz", 3).astype(np.float32) / 255,
        _read_idx(folder / "mnist" / "t10k-labels-idx1-ubyte.gz", 1).astype(np.int64),
    )


def _read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: --data, or NNUNET_TOPO_DATA, must name the folder that holds mnist"
        )
    content = gzip.decompress(path.read_bytes())
    start = 4 * (1 + axes)
    if len(content) < start or content[:4] != bytes([0, 0, 8, axes]):
        raise ValueError(f"{path} must be an idx file of bytes with {axes} axes")
    sides = np.frombuffer(content[4:start], ">i4")
    return np.frombuffer(content[start:], np.uint8).reshape(sides)


def remove_lines(
    image: NDArray[np.float32], lines: int, rng: np.random.Generator
) -> NDArray[np.complex128]:
    """Returns the Fourier transform without `lines` random rows and columns."""
    spectrum = np.fft.fft2(image)
    spectrum[rng.choice(image.shape[0], lines, replace=False)] = 0
    spectrum[:, rng.choice(image.shape[1], lines, replace=False)] = 0
    return spectrum


def corrupt(
    digits: NDArray[np.float32], chosen: NDArray[np.int64], lines: int
) -> NDArray[np.float32]:
    """Returns the chosen digits after `remove_lines`: magnitudes, each image up to 1.

    The random numbers only depend on the digit and on the number of lines.
    """
    corrupted = np.empty((len(chosen), *digits.shape[1:]), np.float32)
    for image, digit in zip(corrupted, chosen, strict=True):
        rng = np.random.default_rng([SEED, lines, digit])
        magnitude = np.abs(np.fft.ifft2(remove_lines(digits[digit], lines, rng)))
        image[:] = magnitude / max(magnitude.max(), np.finfo(np.float32).tiny)
    return corrupted
