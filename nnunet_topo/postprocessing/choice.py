"""Which candidate is chosen, and on which cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan

import numpy as np
from numpy.typing import NDArray

from nnunet_topo.postprocessing.steps import Steps

MOST_GROUPS = 5  # of the cases of one fold, as many as nnU-Net has folds
_DIGITS = 9  # means that agree so far are equal


@dataclass(frozen=True, slots=True)
class Table:
    """The scores of one label or region.

    Attributes:
        errors: `[case, candidate]`, lower is better; NaN where it is undefined.
        dice: `[case, candidate]`, NaN where prediction and reference are empty.
    """

    errors: NDArray[np.float64]
    dice: NDArray[np.float64]

    def only(self, cases: Sequence[int]) -> "Table":
        """Returns the scores of some cases."""
        return Table(self.errors[list(cases)], self.dice[list(cases)])


def mean_dice_loss(dice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns how much Dice each candidate loses, in the mean over the cases.

    A case without the label in reference and prediction has no Dice. There, adding the label loses
    1, and removing all of it where there is none gains nothing.

    Args:
        dice: `[case, candidate]`; the first candidate changes nothing.
    """
    before = dice[:, :1]
    loss = np.where(np.isnan(before), 1.0, before) - dice
    return np.where(np.isnan(dice), 0.0, loss).mean(axis=0)


def choose(table: Table, candidates: Sequence[Steps], max_dice_loss: float) -> int:
    """Returns the candidate with the lowest mean error among those that do not lose too much Dice.

    Of equal ones the one with the fewest steps, then the one that loses the least Dice, then the
    first. So nothing is done unless it lowers the error.

    Args:
        table: scores of the cases on which to choose; the first candidate changes nothing.
        candidates: of the table.
        max_dice_loss: highest mean loss that is allowed.
    """
    losses = mean_dice_loss(table.dice)
    best, best_rank = 0, (inf, 0, 0.0)
    for index, steps in enumerate(candidates):
        if round(losses[index], _DIGITS) > max_dice_loss and index > 0:
            continue
        known = table.errors[:, index]
        known = known[~np.isnan(known)]
        error = float(known.mean()) if len(known) else inf
        rank = round(error, _DIGITS), len(steps), round(float(losses[index]), _DIGITS)
        if index == 0 or rank < best_rank:
            best, best_rank = index, rank
    return best


def group_cases(folds: Sequence[str], patients: Sequence[str] | None = None) -> list[list[int]]:
    """Returns groups of cases; the steps for a group are chosen on all others.

    Args:
        folds: of each case. The cases of one fold are dealt out to up to five groups.
        patients: of the cases; those of one fold are dealt out instead of its cases. None if each
            case is one.

    Raises:
        ValueError: there is only one case or patient.
    """
    names = sorted(set(folds))
    if len(names) > 1:
        return [[case for case, fold in enumerate(folds) if fold == name] for name in names]
    of = list(range(len(folds))) if patients is None else patients
    dealt = {patient: place for place, patient in enumerate(dict.fromkeys(of))}
    if len(dealt) < 2:
        raise ValueError(
            "steps must be chosen on other cases than they are judged on: wanted at least two "
            f"{'cases' if patients is None else 'patients'}, got {len(dealt)}"
        )
    number = min(MOST_GROUPS, len(dealt))
    return [
        [case for case, patient in enumerate(of) if dealt[patient] % number == group]
        for group in range(number)
    ]


def choose_nested(
    table: Table,
    candidates: Sequence[Steps],
    groups: Sequence[Sequence[int]],
    max_dice_loss: float,
) -> list[int]:
    """Returns the candidate for each group, chosen on the cases of all other groups."""
    chosen = []
    for group in groups:
        others = sorted(case for other in groups if other is not group for case in other)
        chosen.append(choose(table.only(others), candidates, max_dice_loss))
    return chosen


def is_better(before: float, after: float) -> bool:
    """Returns whether an error is lower than before; both may be undefined."""
    return not (isnan(before) or isnan(after)) and round(after, _DIGITS) < round(before, _DIGITS)


def tables_of(
    scores: Sequence[Mapping[str, Sequence[Sequence[float]]]], keys: Sequence[str], sign: int
) -> dict[str, Table]:
    """Returns the table of each label or region.

    Args:
        scores: of each case, by label, error and Dice of each candidate.
        keys: of the labels or regions.
        sign: 1, or -1 if a higher value of the metric is better.
    """
    tables = {}
    for key in keys:
        values = np.array([of_case[key] for of_case in scores], dtype=float)
        tables[key] = Table(sign * values[:, :, 0], values[:, :, 1])
    return tables
