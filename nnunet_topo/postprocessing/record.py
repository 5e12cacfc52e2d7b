"""postprocessing.json: which steps were chosen, how well they do, and on what that rests."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

import nnunet_topo
from nnunet_topo.files import digest, read_json, write_whole
from nnunet_topo.labels.labels import Label
from nnunet_topo.postprocessing.scores import Score
from nnunet_topo.postprocessing.steps import Grid, Steps, Units
from nnunet_topo.postprocessing.targets import Target, find_targets
from nnunet_topo.topology import Connectivity

FILE = "postprocessing.json"
AUTHOR = "nnunet-topo postprocess find"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is needed to apply steps.

    Attributes:
        dataset: name of the data set.
        labels: all labels or regions, in nnU-Net's order.
        order: value of each region, None for plain labels.
        ignore: value of ignored voxels, None if there is none.
        steps: of the labels or regions that have some, by nnU-Net's key.
        connectivity: of the foreground.
        units: of sizes and lengths.
        reader: nnU-Net's, by name.
        ending: of the predictions' names.
    """

    dataset: str
    labels: tuple[Label, ...]
    order: tuple[int, ...] | None
    ignore: int | None
    steps: Mapping[str, Steps]
    connectivity: Connectivity
    units: Units
    reader: str
    ending: str

    @property
    def targets(self) -> list[Target]:
        """Returns the labels or regions that can be given steps."""
        return find_targets(self.labels, self.order)

    @property
    def channels(self) -> int:
        """Returns the number of channels of nnU-Net's probabilities."""
        return len(self.labels) + (self.order is None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was chosen for a label or region, and what it does.

    Attributes:
        target: the label or region.
        name: what it is called.
        steps: those to apply; none where nothing helps.
        nested_steps: by group, chosen on the cases of all other groups.
        before: mean over the cases as predicted.
        nested: mean over the cases, each after the steps of its group.
        after: mean over the cases after the steps to apply, which were chosen on the same cases.
    """

    target: Target
    name: str
    steps: Steps
    nested_steps: Mapping[str, Steps]
    before: Score
    nested: Score
    after: Score


@dataclass(frozen=True, slots=True)
class CaseScores:
    """The scores of a label or region in a case: as predicted, nested, and with the steps."""

    before: Score
    nested: Score
    after: Score


@dataclass(frozen=True, slots=True)
class Postprocessing:
    """The result of a search.

    Attributes:
        recipe: what is applied.
        outcomes: of all labels or regions.
        model: folder name of the training, or name of the predictions.
        trainings: digest of the validated predictions, by their folder.
        metric: that the steps lower, or raise if higher is better.
        max_dice_loss: highest mean loss that was allowed.
        grid: what the steps were chosen from.
        groups: cases by the name of the group.
        cases: scores by case and label.
        problems: what went wrong, one line each.
    """

    recipe: Recipe
    outcomes: tuple[Outcome, ...]
    model: str
    trainings: Mapping[str, str]
    metric: str
    max_dice_loss: float
    grid: Grid
    groups: Mapping[str, list[str]]
    cases: Mapping[str, Mapping[str, CaseScores]]
    problems: tuple[str, ...]


def nnunet_equivalent(
    target: Target, steps: Steps, connectivity: Connectivity
) -> dict[str, Any] | None:
    """Returns nnU-Net's own function and arguments that do the same, None if there is none.

    nnU-Net knows the largest component alone, with diagonal neighbours, and what it removes becomes
    background.
    """
    same = connectivity == "full" and target.leaves_background
    if not (same and steps == Steps(keep_largest=1)):
        return None
    return {
        "pp_fn": "remove_all_but_largest_component_from_segmentation",
        "pp_fn_kwargs": {"labels_or_regions": target.label},
    }


def write_result(file: Path, result: Postprocessing) -> None:
    """Writes the file in one step, with a digest by which `is_edited` finds edits.

    Raises:
        OSError: it cannot be written.
    """
    recipe, units = result.recipe, result.recipe.units
    content = {
        "written_by": AUTHOR,
        "version": nnunet_topo.__version__,
        "digest": "",
        "dataset": recipe.dataset,
        "model": result.model,
        "trainings": result.trainings,
        "metric": result.metric,
        "max_dice_loss": result.max_dice_loss,
        "connectivity": recipe.connectivity,
        "dimensions": units.space,
        "unit_of_lengths": units.length,
        "unit_of_sizes": units.size,
        "labels": [_outcome_as_json(result, outcome) for outcome in result.outcomes],
        "all_labels": recipe.labels,
        "regions_class_order": recipe.order,
        "ignore_label": recipe.ignore,
        "image_reader_writer": recipe.reader,
        "file_ending": recipe.ending,
        "grid": asdict(result.grid),
        "candidates": len(result.grid.candidates()),
        "groups": result.groups,
        "cases": {
            name: {key: _scores_as_json(result.metric, asdict(of)) for key, of in labels.items()}
            for name, labels in result.cases.items()
        },
        "problems": result.problems,
    }
    content["digest"] = _digest(content)
    write_whole(file, json.dumps(content, indent=2, allow_nan=False) + "\n")


def is_edited(content: Mapping[str, Any]) -> bool:
    """Returns whether the content of the file was changed after it was written."""
    return content.get("digest") != _digest(content)


def _digest(content: Mapping[str, Any]) -> str:
    unsigned = {key: value for key, value in content.items() if key != "digest"}
    return digest(json.dumps(unsigned, sort_keys=True))


def _outcome_as_json(result: Postprocessing, outcome: Outcome) -> dict[str, Any]:
    units, connectivity = result.recipe.units, result.recipe.connectivity
    scores = {name: asdict(getattr(outcome, name)) for name in ("before", "nested", "after")}
    return {
        "label": outcome.target.label,
        "name": outcome.name,
        "steps": outcome.steps.to_json(),
        "in_words": outcome.steps.in_words(units),
        **_scores_as_json(result.metric, scores),
        "nested_steps": {name: of.to_json() for name, of in outcome.nested_steps.items()},
        "nnunet_equivalent": nnunet_equivalent(outcome.target, outcome.steps, connectivity),
    }


def _scores_as_json(metric: str, scores: Mapping[str, dict[str, float]]) -> dict[str, Any]:
    return {
        name: {
            metric: None if isnan(score["error"]) else score["error"],
            "Dice": None if isnan(score["dice"]) else score["dice"],
        }
        for name, score in scores.items()
    }


def read_recipe(file: Path) -> Recipe:
    """Returns what is to be applied.

    Raises:
        ValueError: the file was not written by `postprocess find`, or was edited wrongly.
        OSError: it cannot be read.
    """
    content = read_json(file)
    if content.get("written_by") != AUTHOR:
        raise ValueError(f"{file} was not written by {AUTHOR}")
    try:
        labels = tuple(_as_label(label) for label in content["all_labels"])
        steps = {}
        for entry in content["labels"]:
            label = _as_label(entry["label"])
            if label not in labels:
                raise ValueError(
                    f"{file}: label {label} is not one of {', '.join(map(str, labels))}"
                )
            found = Steps.from_json(entry["steps"], f"{file}: label {label}")
            steps |= {str(label): found} if found else {}
        order = content["regions_class_order"]
        lengths: Any = content["unit_of_lengths"]
        connectivity: Connectivity = "face" if content["connectivity"] == "face" else "full"
        return Recipe(
            content["dataset"],
            labels,
            None if order is None else tuple(order),
            content["ignore_label"],
            steps,
            connectivity,
            Units(lengths, content["dimensions"]),
            content["image_reader_writer"],
            content["file_ending"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is incomplete: {type(error).__name__}: {error}") from None


def _as_label(written: int | list[int]) -> Label:
    return tuple(written) if isinstance(written, list) else int(written)
