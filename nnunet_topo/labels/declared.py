"""Labels as nnU-Net's dataset.json declares them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_topo.files import read_json
from nnunet_topo.labels.labels import Label, Labels
from nnunet_topo.labels.name_files import labels_by_name

# What nnU-Net raises for labels and plans that it does not understand.
REFUSALS = (RuntimeError, AssertionError, LookupError, TypeError, ValueError, AttributeError)


def labels_of_manager(manager: LabelManager) -> Labels:
    """Returns what nnU-Net evaluates."""
    chosen = manager.foreground_regions if manager.has_regions else manager.foreground_labels
    evaluated = tuple(
        tuple(map(int, c)) if isinstance(c, Iterable) else int(c)
        for c in chosen  # pyright: ignore[reportOptionalIterable] # has_regions says so
    )
    named = labels_by_name(manager.label_dict, "dataset.json: labels")
    return Labels(
        evaluated,
        names_by_key(evaluated, named),
        tuple(map(int, manager.all_labels)),
        manager.ignore_label,
    )


def labels_of_dataset(description: Mapping[str, Any], file: Path, plans: Path | None) -> Labels:
    """Returns what nnU-Net evaluates by a dataset.json.

    An evaluation does not need the background or the order of regions, so both may be missing.

    Raises:
        ValueError: there is no label besides the background, or nnU-Net refuses dataset.json or
            the plans.
        OSError: the plans cannot be read.
    """
    named = labels_by_name(description["labels"], f"{file}: labels")
    background = [name for name, label in named.items() if label in (0, (0,))]
    named = {name: label for name, label in named.items() if name not in background}
    if not named.keys() - {"ignore"}:
        raise ValueError(
            f"{file}: labels has no label besides the background, so there is nothing to evaluate"
        )
    regions = sum(name != "ignore" for name in named)
    labels = {"background": 0} | {
        name: list(label) if isinstance(label, tuple) else label for name, label in named.items()
    }
    wanted = {"labels": labels, "regions_class_order": list(range(1, regions + 1))}
    content = None if plans is None else read_json(plans)
    try:
        if content is None:
            manager = LabelManager(labels, wanted["regions_class_order"])
        else:
            manager = PlansManager(content).get_label_manager({**description, **wanted})
        return labels_of_manager(manager)
    except REFUSALS as e:
        of_plans = "" if plans is None else f" with {plans}"
        reason = " ".join(f"{type(e).__name__} {e}".split())[:300]
        raise ValueError(
            f"nnU-Net does not accept the labels of {file}{of_plans}: {reason}"
        ) from None


def names_by_key(evaluated: Iterable[Label], named: Mapping[str, Label]) -> dict[str, str]:
    """Returns names by key; labels that have several have all of them."""
    names: dict[Label, list[str]] = {}
    for name, label in named.items():
        single = isinstance(label, tuple) and len(label) == 1
        names.setdefault(label, []).append(name)
        if single and isinstance(label, tuple):
            names.setdefault(label[0], []).append(name)
    return {
        str(label): " / ".join(dict.fromkeys(names[label])) for label in evaluated if label in names
    }
