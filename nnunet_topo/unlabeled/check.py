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
        RuntimeError: there are none, one is labelled, or one was preprocessed with other plans.
    """
    cases = unlabeled_cases(folder)
    command = "nnunet-topo preprocess-unlabeled"
    if not cases:
        raise RuntimeError(
            f"{folder} contains no unlabelled images: `{command} -d ID -i FOLDER -c "
            "CONFIGURATION -p PLANS` preprocesses them from a folder of images"
        )
    leaks = [case for case in cases if case in labelled]
    if leaks:
        raise RuntimeError(
            f"{first_names(leaks)} in {folder}: now labelled, so they must not be used as "
            f"unlabelled images; `{command}` removes them"
        )
    others = []
    for case in cases:
        source = read_source(folder, case)
        if source is None or source.plan != plan:
            others.append(case)
    if others:
        raise RuntimeError(
            f"{first_names(others)} in {folder}: preprocessed with other plans than these; "
            f"`{command}` preprocesses them again"
        )
    return cases
