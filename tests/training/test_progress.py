"""The figure topology.png."""

import numpy as np
import seaborn
from matplotlib import rc_context
from matplotlib.image import imread

from nnunet_topo.training.progress import LOGGED, plot_topology


def test_the_figure_does_not_depend_on_what_nnunet_has_plotted_before(tmp_path):
    values = {key: [0.5, np.nan, 2.0, 1.0] for key in LOGGED}
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    with rc_context():
        plot_topology(values, first)
        seaborn.set(font_scale=2.5)  # as nnU-Net's plot_progress_png
        plot_topology(values, second)
    pixels = imread(first)
    assert pixels.std() > 0.01
    assert np.array_equal(pixels, imread(second))
