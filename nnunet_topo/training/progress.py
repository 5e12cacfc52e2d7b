"""The figure topology.png, which shows a training's topology term over the epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunet_topo.files import replacing

# Key in nnU-Net's logger -> label of its axis.
LOGGED: Mapping[str, str] = {
    "topology_term": "topology term",
    "topology_distance": "optimal Wasserstein distance",
    "topology_weight": "weight in force",
    "topology_ratio": "gradient, term : base",
    "topology_gradient": "share of iterations\nwith a gradient",
    "topology_matched": "bars matched",
    "topology_removed": "bars removed",
    "topology_missing": "bars missing",
    "topology_ms": "ms per iteration",
    "topology_samples": "share of samples",
}


def plot_topology(
    values: Mapping[str, Sequence[float]], file: Path, labels: Mapping[str, str] = LOGGED
) -> None:
    """Plots each logged value over the epochs. Epochs without a value stay blank.

    Args:
        values: one number per epoch for each key of `labels`, NaN if it is not known.
        file: PNG that is written in one step and replaced if it exists.
        labels: of the axes.
    """
    with style.context("default"), replacing(file) as new:  # nnU-Net's plot sets large letters
        figure = Figure(figsize=(8, 1 + 1.8 * len(labels)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(labels), 1)
        axes[-1].set_xlabel("epoch")
        for axis, (key, label) in zip(axes, labels.items(), strict=True):
            axis.plot(range(len(values[key])), values[key], marker=".")
            axis.set(ylabel=label, xlim=(-0.5, max(len(values[key]) - 0.5, 0.5)))
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
        figure.savefig(new)
