"""Chosen and applied steps in words."""

from nnunet_topo.labels.labels import label_title
from nnunet_topo.postprocessing.apply import Applied
from nnunet_topo.postprocessing.choice import is_better
from nnunet_topo.postprocessing.record import Outcome, Postprocessing, nnunet_equivalent
from nnunet_topo.postprocessing.scores import DEFAULT_METRIC, HIGHER_IS_BETTER

_TITLES = {
    DEFAULT_METRIC: "Betti matching error",
    "topo_betti_error": "Betti error",
    "topo_betti_exact": "right Betti numbers",
    "topo_cldice": "clDice",
}


def describe(found: Postprocessing) -> list[str]:
    """Returns what was chosen for each label or region, and what it does, one line each."""
    folds = len(found.trainings) > 1
    groups = f"the other folds of {', '.join(found.groups)}" if folds else "other cases"
    lines = [
        f"{len(found.cases)} cases of {found.model}; {len(found.grid.candidates())} candidates for "
        f"each label, {found.recipe.connectivity} connectivity",
        f"each figure comes from steps that were chosen on {groups}",
    ]
    lines += [_describe_outcome(found, outcome) for outcome in found.outcomes]
    if not found.recipe.steps:
        lines.append("nothing helps: the predictions are best left as they are")
    return lines


def _describe_outcome(found: Postprocessing, outcome: Outcome) -> str:
    title = label_title(outcome.target.key, {outcome.target.key: outcome.name})
    metric = _TITLES.get(found.metric, found.metric)
    figures = (
        f"{metric} {outcome.before.error:.4g} -> {outcome.nested.error:.4g}, Dice "
        f"{outcome.before.dice:.4f} -> {outcome.nested.dice:.4f}"
    )
    if not outcome.steps:
        if outcome.before.dice == 0:
            return f"{title}: nothing helps, because no prediction overlaps with its reference"
        if outcome.nested == outcome.before:
            return f"{title}: nothing helps ({metric} {outcome.before.error:.4g})"
        return f"{title}: nothing helps on cases it was not chosen on ({figures})"
    steps = outcome.steps.in_words(found.recipe.units)
    same = nnunet_equivalent(outcome.target, outcome.steps, found.recipe.connectivity)
    line = f"{title}: {steps} ({figures})"
    if same is not None:
        line += f"; nnU-Net's own: {same['pp_fn']}"
    sign = -1 if found.metric in HIGHER_IS_BETTER else 1
    if not is_better(sign * outcome.before.error, sign * outcome.nested.error):
        line += "; with the steps of other labels it is no longer better"
    loss = outcome.before.dice - outcome.nested.dice
    if loss > found.max_dice_loss:
        line += f"; on these cases it loses more Dice than the allowed {found.max_dice_loss:g}"
    return line


def describe_applied(applied: Applied) -> list[str]:
    """Returns the steps of each label or region, and how much they have changed."""
    if not applied.recipe.steps:
        return [f"no steps were chosen: {len(applied.done)} predictions are written unchanged"]
    lines = []
    for target in applied.recipe.targets:
        steps = applied.recipe.steps.get(target.key)
        changes = [changes[target.key] for changes in applied.done.values()]
        added, removed = (
            sum(of) for of in ([c.added for c in changes], [c.removed for c in changes])
        )
        if steps or added or removed:
            changed = sum(bool(change.added or change.removed) for change in changes)
            doing = steps.in_words(applied.recipe.units) if steps else "no steps of its own"
            lines.append(
                f"{label_title(target.key, {})}: {doing}; {added} voxels added and {removed} "
                f"removed, in {changed} of {len(changes)} cases"
            )
    done = len(applied.done)
    return [*lines, f"{done} case{'s' * (done != 1)} written, {applied.computed} of them now"]
