"""An evaluation in words."""

from collections.abc import Mapping
from math import isnan, nan

from nnunet_topo.evaluation.record import Evaluation, Metrics, nanmean
from nnunet_topo.labels.labels import label_title, sorted_label_keys


def describe(evaluation: Evaluation, *, place: bool = True) -> list[str]:
    """Returns a line for each label with its means and the number of cases without a value.

    Args:
        evaluation: of one case or more.
        place: whether to say which file holds it.
    """
    unit = evaluation.unit or "mm"
    lines, present = [], []
    means_by_key = evaluation.evaluated_means
    for key in sorted_label_keys(means_by_key):
        means, title = means_by_key[key], label_title(key, evaluation.label_names)
        if not means["n_ref"] and not means["n_pred"]:
            lines.append(f"{title}: in no reference and no prediction")
            continue
        present.append(means)
        undefined = evaluation.undefined.get(key, {})
        lines.append(f"{title}: {_means_in_words(means, unit, ' of cases', undefined)}")
    if len(present) > 1:
        # Without labels that no file has, because nothing was right or wrong in them.
        means = {key: nanmean([of_label[key] for of_label in present]) for key in present[0]}
        lines.append(f"foreground mean: {_means_in_words(means, unit)}")
    where = f", in {evaluation.summary}" if place else ""
    return [*lines, f"{evaluation.connectivity} connectivity{where}"]


def _means_in_words(
    means: Metrics, unit: str, cases: str = "", undefined: Mapping[str, int] | None = None
) -> str:
    """Returns the most important means, without those that are undefined in all cases."""
    exact = f"right in {100 * means['topo_betti_exact']:.0f}%{cases}"
    notes = {
        key: f" ({count} case{'s' * (count != 1)} undefined)"
        for key, count in (undefined or {}).items()
    }
    parts = [
        ("Dice {:.4f}", means["Dice"], ""),
        ("Betti error {:.3g}", means["topo_betti_error"], ""),
        (
            "Betti error in windows {:.3g}",
            means.get("topo_betti_error_windows", nan),
            "",
        ),
        ("Betti matching error {:.3g}", means["topo_betti_matching_error"], f", {exact}"),
        ("clDice {:.4f}", means["topo_cldice"], notes.get("topo_cldice", "")),
        (f"HD95 {{:.3g}} {unit}", means["topo_hd95_mm"], notes.get("topo_hd95_mm", "")),
    ]
    return ", ".join(form.format(value) + more for form, value, more in parts if not isnan(value))
