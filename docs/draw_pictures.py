"""Draws the pictures of persistence.md and clinicians.md.

Usage: python docs/draw_pictures.py [NAME ...]     NAME is that of a file; default all

The engine itself says where bars begin and end, and which errors there are.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from scipy.ndimage import gaussian_filter

from nnunet_topo.metrics import compute
from nnunet_topo.topology import match_betti, persistence_pairs, unmatched
from nnunet_topo.topology._cubical import LINK_BITS, make_grid
from nnunet_topo.topology._cubical2d import AXES, WHOLE, _link_tables, cubical_pairs_2d

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FOLDER = Path(__file__).parent / "pictures"
BLUE, RED, GREEN, GREY = "#2a6ebb", "#c03a2b", "#2c8a4b", "#8a8a8a"


def noisy_ring() -> np.ndarray:
    """Returns a ring with a faint gap and noise around it, 40 x 56."""
    y, x = np.indices((40, 56))
    ring = np.exp(-((np.hypot(y - 20, x - 24) - 12) ** 2) / 8)
    gap = np.exp(-((y - 20) ** 2 + (x - 36) ** 2) / 12)
    blob = 0.75 * np.exp(-((y - 9) ** 2 + (x - 48) ** 2) / 6)
    noise = gaussian_filter(np.random.default_rng(3).random((40, 56)), 1.2)
    return np.clip(ring * (1 - 0.55 * gap) + blob + 0.9 * (noise - noise.min()), 0, 1)


def draw_superlevel_sets(image: np.ndarray) -> None:
    """Draws three superlevel sets, and the barcode with the levels."""
    levels = (0.7, 0.4, 0.2)
    figure, axes = plt.subplots(1, 4, figsize=(13, 2.9), constrained_layout=True)
    for level, axis in zip(levels, axes, strict=False):
        axis.imshow(image >= level, cmap="Greys", vmax=1.4)
        axis.set_title(f"p ≥ {level}")
        axis.set_axis_off()
    pairs = persistence_pairs(image)
    row = 0
    for k, colour in ((0, BLUE), (1, RED)):
        bars = pairs.diagram(image, k)
        for birth, death in bars[np.argsort(bars[:, 1] - bars[:, 0])][:12]:
            axes[3].plot([birth, death], [row, row], color=colour, linewidth=2)
            row += 1
    for level in levels:
        axes[3].axvline(level, color=GREY, linestyle=":")
    axes[3].invert_xaxis()
    axes[3].set(yticks=[], xlabel="p", title="the longest bars: components, loops")
    figure.savefig(FOLDER / "superlevel_sets.png", dpi=110)


def draw_lower_links() -> None:
    """Draws the kinds of lower link of a pixel: older neighbours are dark."""
    kinds = {
        "minimum of age: a component begins": [[9, 9, 9], [9, 5, 9], [9, 9, 9]],
        "regular: nothing happens": [[1, 2, 9], [3, 5, 9], [4, 9, 9]],
        "saddle: two parts meet": [[9, 1, 9], [9, 5, 9], [9, 2, 9]],
        "maximum: a hole is filled": [[1, 2, 3], [4, 5, 1], [2, 3, 4]],
    }
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.1), constrained_layout=True)
    for (title, ages), axis in zip(kinds.items(), axes, strict=True):
        ages = np.array(ages)
        axis.imshow(ages < 5, cmap="Greys", vmax=1.6)
        axis.plot(1, 1, "o", color=RED, markersize=14)
        for (y, x), age in np.ndenumerate(ages):
            axis.text(x, y + 0.33, age, ha="center", color="black", fontsize=9)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    figure.savefig(FOLDER / "lower_links.png", dpi=110)


def draw_critical_pixels(image: np.ndarray) -> None:
    """Draws the critical pixels of the image, paths from saddles, and the pairs that last."""
    keys = np.ascontiguousarray(image, np.float32).view(np.int32)[None]
    box = np.array([0, 1, 0, image.shape[0], 0, image.shape[1]])
    grid = make_grid(keys, box, floor=0, planar=True, dual=False)
    cubical_pairs_2d(grid, {0, 1})
    _, ny, nx = grid.shape
    links = (grid.words & LINK_BITS).astype(int).reshape(ny, nx)[1:-1, 1:-1]
    parts, gaps = _link_tables()
    saddles = (parts[links, 0] > 1) | (gaps[links, 0] > 1)
    figure, axes = plt.subplots(1, 2, figsize=(13, 4.6), constrained_layout=True)
    for axis in axes:
        axis.imshow(image, cmap="Greys", vmax=1.3)
        axis.set_axis_off()
    steps = [(0, -1), (0, 1), (-1, 0), (1, 0)]
    for y, x in zip(*np.nonzero(saddles), strict=True):
        for bit in parts[links[y, x], 1 : 1 + parts[links[y, x], 0]]:
            path = [(y, x), (y + steps[bit][0], x + steps[bit][1])]
            while links[path[-1]] & AXES:
                older = links[path[-1]] & AXES
                dy, dx = steps[(int(older) & -int(older)).bit_length() - 1]
                path.append((path[-1][0] + dy, path[-1][1] + dx))
            axes[0].plot(*np.array(path).T[::-1], color=GREEN, linewidth=0.8)
    for chosen, colour, label in (
        (links & AXES == 0, BLUE, "minima of age: maxima of p"),
        (saddles, GREEN, "saddles"),
        (links == WHOLE, RED, "maxima of age: minima of p"),
    ):
        y, x = np.nonzero(chosen)
        axes[0].plot(x, y, "o", color=colour, markersize=3.5, label=label)
    count = int(saddles.sum() + (links & AXES == 0).sum() + (links == WHOLE).sum())
    axes[0].set_title(f"{count} of {image.size} pixels are critical; gradient paths of the saddles")
    axes[0].legend(loc="lower left", fontsize=8)
    pairs = persistence_pairs(image, connectivity="face")
    for k, colour in ((0, BLUE), (1, RED)):
        bars = pairs.diagram(image, k)
        here = np.flatnonzero(pairs.dimension == k)
        for bar in here[(bars[:, 0] - bars[:, 1]) > 0.15]:
            ends = [voxel for voxel in (pairs.birth[bar], pairs.death[bar]) if voxel >= 0]
            y, x = np.unravel_index(ends, image.shape)
            axes[1].plot(x, y, "-", color=colour, linewidth=1)
            axes[1].plot(x[:1], y[:1], "o", color=colour)
            axes[1].plot(x[1:], y[1:], "x", color=colour)
    axes[1].set_title("bars longer than 0.15, born at o, dying at x: components, loops")
    figure.savefig(FOLDER / "critical_pixels.png", dpi=110)


def draw_two_images(image: np.ndarray) -> None:
    """Draws prediction, mask and comparison image, and which bars are the same feature."""
    y, x = np.indices(image.shape)
    distance = np.hypot(y - 20, x - 24)
    mask = (distance > 10) & (distance < 14)
    matching = match_betti(image, mask)
    compared = np.maximum(image, mask)
    figure, axes = plt.subplots(1, 4, figsize=(13, 2.9), constrained_layout=True)
    titles = ("prediction F", "mask G", "comparison C = max(F, G)")
    for picture, title, axis in zip((image, mask, compared), titles, axes, strict=False):
        axis.imshow(picture, cmap="Greys", vmax=1.4)
        axis.set(title=title)
        axis.set_axis_off()
    bars, matched = matching.prediction, set(matching.matched[:, 0].tolist())
    values = image.ravel()
    death = np.where(bars.death < 0, 0, values[bars.death])
    longest = np.argsort(death - values[bars.birth])[:12]
    for row, bar in enumerate(longest):
        colour = GREEN if bar in matched else GREY
        axes[3].plot([values[bars.birth[bar]], death[bar]], [row, row], color=colour, linewidth=2)
        if bar in matched:
            for panel in (axes[0], axes[2]):
                for voxel, mark in ((bars.birth[bar], "o"), (bars.death[bar], "x")):
                    if voxel >= 0:
                        row_, column = np.unravel_index(voxel, image.shape)
                        panel.plot(column, row_, mark, color=GREEN)
    axes[3].invert_xaxis()
    axes[3].set(yticks=[], xlabel="p", title="longest bars of F: matched in green")
    figure.savefig(FOLDER / "two_images.png", dpi=110)


def pairs_with_errors() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns references and predictions, by what is wrong: a gap, an open ring, and so on."""
    y, x = np.indices((96, 96))
    course = 48 + 18 * np.sin(x / 16)
    vessel = np.abs(y - course) < 6
    distance = np.hypot(y - 48, x - 48)
    ring = (distance > 24) & (distance < 38)
    organ = np.hypot((y - 48) / 1.3, x - 48) < 28
    two = (np.hypot(y - 48, x - 24) < 18) | (np.hypot(y - 48, x - 71) < 18)
    return {
        "a gap": (vessel, vessel & ~((x > 46) & (x < 50))),
        "an open ring": (ring, ring & ~((np.abs(y - 48) < 2) & (x > 48))),
        "an island": (organ, organ | (np.hypot(y - 14, x - 16) < 4)),
        "a false joint": (two, two | ((np.abs(y - 48) < 2) & (np.abs(x - 48) < 12))),
    }


def draw_kinds_of_errors() -> None:
    """Draws predictions that overlap well with their references, with the error in red."""
    figure, axes = plt.subplots(2, 2, figsize=(7, 7.6), constrained_layout=True)
    pairs = pairs_with_errors().items()
    for (title, (reference, prediction)), axis in zip(pairs, axes.flat, strict=True):
        (error,) = unmatched(prediction, reference)
        overlap = 2 * (prediction & reference).sum() / (prediction.sum() + reference.sum())
        count = compute(prediction, reference)["topo_betti_matching_error"]
        axis.imshow(np.where(prediction, 0.35, 0.0), cmap="Greys", vmin=0, vmax=1)
        axis.contour(reference, [0.5], colors=BLUE, linewidths=1.2)
        y, x = error.voxel
        axis.plot(x, y, "o", color=RED, markersize=30, markeredgewidth=2, fillstyle="none")
        axis.set_title(f"{title}\nDice {overlap:.3f}, topological errors: {count:.0f}", fontsize=12)
        axis.set_axis_off()
    figure.savefig(FOLDER / "kinds_of_errors.png", dpi=110)


PICTURES = {
    "superlevel_sets": lambda: draw_superlevel_sets(noisy_ring()),
    "lower_links": draw_lower_links,
    "critical_pixels": lambda: draw_critical_pixels(noisy_ring()),
    "two_images": lambda: draw_two_images(noisy_ring()),
    "kinds_of_errors": draw_kinds_of_errors,
}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]()
