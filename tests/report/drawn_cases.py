"""Metrics of models: by hand, and drawn at random."""

from math import nan

from nnunet_topo.report.cases import Cases
from nnunet_topo.report.outcomes import add_presence


def found(number, distance=None, **more):
    """Returns metrics of a structure of ten voxels, of which a model has so many."""
    distance = nan if distance is None else distance
    return {"n_ref": 10, "n_pred": number, "topo_hd95_mm": distance, **more}


def named(*of_labels):
    """Returns metrics of a model with presence: a tuple of labels for each case."""
    return add_presence(
        Cases(
            {
                f"case_{i:03d}": {str(n): values for n, values in enumerate(labels, start=1)}
                for i, labels in enumerate(of_labels)
            }
        )
    )


def line(rows, metric, label="mean", model="other"):
    """Returns the difference of the only such line."""
    (row,) = [r for r in rows if (r.metric, r.label, r.model) == (metric, label, model)]
    return row.difference


def cases(*values, label="1", metric="Dice"):
    """Returns metrics of a model, a case for each value."""
    return Cases({f"case_{i:03d}": {label: {metric: value}} for i, value in enumerate(values)})


def drawn(rng, models, labels, metrics, number=20, shift=0.0):
    """Returns values drawn at random, of equal models or each above the one before."""
    difficulty = rng.normal(0, 1, (number, labels, len(metrics)))
    shifts = {name: shift * place for place, name in enumerate(models)}
    return {
        name: Cases(
            {
                f"case_{i:03d}": {
                    str(label + 1): dict(zip(metrics, of_label, strict=True))
                    for label, of_label in enumerate(of_case)
                }
                for i, of_case in enumerate(
                    difficulty + rng.normal(shifts[name], 0.3, difficulty.shape)
                )
            }
        )
        for name in models
    }
