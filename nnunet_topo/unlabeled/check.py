"""Whether a training may use the unlabelled cases of a folder."""

from pathlib import Path

from nnunet_topo.unlabeled.case import first_names
from nnunet_topo.unlabeled.record import read_source, unlabeled_cases


def check_unlabeled(folder: Path, labelled: set[str], plan: str) -> list[str]:
    """Returns the unlabelled cases that a training may use.

    Args:
        folder: see `unlabeled_folder`.
        labelled: names of the labelled cases.
        plan: see `digest_of_plan`.

    Raises:
        RuntimeError: there is none, one is labelled, or one was preprocessed for other plans.
    """
    cases = unlabeled_cases(folder)
    command = "nnunet-topo preprocess-unlabeled"
    if not cases:
        raise RuntimeError(
            f"{folder} holds no unlabelled image to train on: `{command} -d ID -i FOLDER -c "
            "CONFIGURATION -p PLANS` makes it from a folder of images"
        )
    leaks = [case for case in cases if case in labelled]
    if leaks:
        raise RuntimeError(
            f"{first_names(leaks)} in {folder}: labelled by now, so they must not be trained on "
            f"without labels; `{command}` removes them"
        )
    others = []
    for case in cases:
        source = read_source(folder, case)
        if source is None or source.plan != plan:
            others.append(case)
    if others:
        raise RuntimeError(
            f"{first_names(others)} in {folder}: preprocessed for other plans than these; "
            f"`{command}` preprocesses them again"
        )
    return cases
