"""The paper's figure 6: one image, three priors."""

from pathlib import Path

import matplotlib
import numpy as np
import torch

from experiments.clough_mnist.digits import corrupt
from experiments.clough_mnist.experiment import Experiment
from experiments.clough_mnist.refinement import FORMS, are_right, refine
from nnunet_topo.files import replacing
from nnunet_topo.topology import persistence_pairs

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def draw_three_priors(experiment: Experiment, file: Path) -> None:
    """Draws the paper's figure 6: the same digit, a 3, refined by three priors, with barcodes.

    The digit is the first 3 of the development digits that reaches all three, or else the first 3.
    """
    chosen_at = experiment.settings.chosen_at
    network = experiment.network(chosen_at)
    chosen = experiment.sets.development
    threes = chosen[experiment.labels[chosen] == 3]
    priors = [(1, 0), (1, 1), (1, 2)]
    found = []
    for digit in threes:
        corrupted = corrupt(experiment.digits, np.array([digit]), chosen_at)
        refined = refine(
            network,
            np.repeat(corrupted, len(priors), axis=0),
            priors,
            form=FORMS[0],
            learning_rate=experiment.learning_rate(FORMS[0]),
            steps=experiment.settings.steps,
        ).last
        found.append((digit, corrupted[0], refined))
        if are_right(refined, priors).all():
            break
    else:
        found.append(found[0])
    digit, corrupted, refined = found[-1]
    with torch.no_grad():
        restored = network(torch.from_numpy(corrupted)[None, None]).numpy()[0, 0]
    images = {
        "digit": experiment.digits[digit],
        f"{chosen_at} + {chosen_at} lines removed": corrupted,
        "restored": restored,
        **{f"prior {prior}": image for prior, image in zip(priors, refined, strict=True)},
    }
    figure, axes = plt.subplots(
        2, len(images), figsize=(11, 3.1), height_ratios=(2, 1), constrained_layout=True
    )
    for (upper, lower), (title, image) in zip(axes.T, images.items(), strict=True):
        upper.imshow(image, cmap="gray", vmin=0, vmax=1)
        upper.set_title(title, fontsize=10)
        upper.set_axis_off()
        if image is experiment.digits[digit] or image is corrupted:
            lower.set_axis_off()
            continue
        pairs = persistence_pairs(image)
        row = 0
        for k, colour in ((0, "#c03a2b"), (1, "#2c8a4b")):
            for birth, death in pairs.diagram(image, k):
                if birth - death > 0.03:
                    lower.plot([birth, death], [row, row], color=colour, linewidth=2)
                    row += 1
        lower.set(xlim=(1, 0), ylim=(-1, max(5, row)), yticks=[], xticks=[1, 0.5, 0])
    with replacing(file) as new:
        figure.savefig(new, format="png", dpi=80)
    plt.close(figure)
