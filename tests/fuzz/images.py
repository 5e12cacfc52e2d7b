"""Doors for images: the engine beside gudhi, arbitrary bits, and masks of any shape."""

from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from nnunet_topo.metrics import compute
from nnunet_topo.topology import betti_numbers, persistence_pairs, thin

from .door import Door, refused


def draw(rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Returns a kind of image and one of them, 2D or 3D, with sides from 1."""
    sides = rng.integers(1, rng.choice([5, 13, 24]), 3) if rng.random() < 0.7 else None
    shape = tuple(sides) if sides is not None else tuple(rng.integers(1, 40, 2))
    noise = rng.random(shape)
    smooth = gaussian_filter(rng.standard_normal(shape), rng.uniform(0.5, 2))
    smooth = (smooth - smooth.min()) / max(float(np.ptp(smooth)), 1e-9)
    kinds = {
        "white noise": lambda: noise,
        "distinct ranks": lambda: rng.permutation(noise.size).reshape(shape) + 1.0,
        "few levels": lambda: rng.integers(0, rng.integers(2, 9), shape) / 8,
        "flat background": lambda: np.maximum(noise - rng.random(), 0),
        "saturated": lambda: np.clip(rng.uniform(1, 5) * (noise - 0.5) + 0.5, 0, 1),
        "smooth": lambda: smooth,
        "smooth, saturated": lambda: np.clip(4 * smooth - 1.5, 0, 1),
        "smooth, few levels": lambda: np.round(smooth * 6) / 6,
        "mask": lambda: noise < rng.random(),
        "smooth mask": lambda: smooth > 0.5,
    }
    kind = list(kinds)[rng.integers(len(kinds))]
    dtype = [np.float32, np.float64, np.float16][rng.integers(3)]
    return kind, kinds[kind]().astype(np.float64 if kind == "distinct ranks" else dtype)


def bars(image: np.ndarray, engine: str, **options) -> tuple[set, list[np.ndarray]]:
    """Returns the bars as voxels, and the sorted diagrams."""
    pairs = persistence_pairs(image, engine=engine, **options)
    raised = np.maximum(image, image.dtype.type(options["clamp"]))
    diagrams = [pairs.diagram(raised, k) for k in range(image.ndim)]
    voxels = set(zip(pairs.dimension.tolist(), pairs.birth, pairs.death, strict=True))
    return voxels, [diagram[np.lexsort(diagram.T)] for diagram in diagrams]


def agree(kind: str, image: np.ndarray, **options) -> bool:
    """Whether both engines give the same; the same voxels where values are distinct."""
    voxels, diagrams = bars(image, "numba", **options)
    expected_voxels, expected = bars(image, "gudhi", **options)
    same = all(np.array_equal(a, b) for a, b in zip(diagrams, expected, strict=True))
    if kind == "distinct ranks":
        same = same and voxels == expected_voxels
    chosen = int(options["clamp"] * 100) % image.ndim
    one = persistence_pairs(image, dimensions=[chosen], **options)
    one = set(zip(one.dimension.tolist(), one.birth, one.death, strict=True))
    return same and one == {bar for bar in voxels if bar[0] == chosen}


def beside_gudhi(seed: int, _: Path) -> None:
    rng = np.random.default_rng(seed)
    kind, image = draw(rng)
    clamp = float(rng.choice([0, 0, 0.01, rng.random()]))
    for connectivity in ("full", "face"):
        same = agree(kind, image, connectivity=connectivity, clamp=clamp)
        assert same, f"{kind}, {image.shape}, {connectivity}, clamp {clamp}"


SIDES = st.integers(0, 4)
TYPES = ("f2", "f4", "f8", ">f4", "i1", "u1", "i8", "u8", "?", "c8")


@st.composite
def bits(draw) -> np.ndarray:
    """Draws an image of arbitrary bits: NaN, infinity, denormal numbers, -0.0 and all others."""
    shape = tuple(draw(st.lists(SIDES, max_size=4)))
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    tile = draw(st.binary(min_size=1, max_size=64))  # repeated, so that values are equal, too
    content = (tile * (size // len(tile) + 1))[:size]
    if dtype.kind == "b":
        image = np.frombuffer(content, np.uint8).reshape(shape) % 2 == 1
    else:
        image = np.frombuffer(content, dtype).reshape(shape)
    return image[..., ::-1] if image.ndim and draw(st.booleans()) else image


def engine(image: np.ndarray, _: Path) -> None:
    for connectivity in ("full", "face"):
        ours, other = (_bars_or_none(image, connectivity, name) for name in ("numba", "gudhi"))
        assert ours == other, connectivity


def _bars_or_none(image: np.ndarray, connectivity, name) -> list[str] | None:
    """Returns the bars, sorted, and None for a refused image."""
    found = []

    def compute_bars():
        pairs = persistence_pairs(image, connectivity=connectivity, engine=name)
        essential = pairs.death == -1
        assert essential.sum() == min(image.size, 1)
        if image.size:
            flat = image.ravel()
            values = flat[pairs.birth], np.where(essential, 0, flat[pairs.death])
            bars = zip(pairs.dimension.tolist(), essential, *values, strict=True)
            found.extend(sorted(map(str, bars)))

    return None if refused(compute_bars) else found


MASKS = hnp.arrays(bool, st.lists(SIDES, min_size=1, max_size=4).map(tuple))


def masks(mask: np.ndarray, _: Path) -> None:
    for connectivity in ("full", "face"):
        refused(lambda c=connectivity: betti_numbers(mask, connectivity=c))
        refused(lambda c=connectivity: thin(mask, connectivity=c))
        for other in (mask, ~mask, np.zeros_like(mask)):
            refused(lambda c=connectivity, o=other: compute(mask, o, connectivity=c))


DOORS = [
    Door("engine beside gudhi", st.integers(0, 2**63 - 1), beside_gudhi, 20),
    Door("engine, any bits", bits(), engine, 100),
    Door("masks of any shape", MASKS, masks, 30),
]
