"""The folds of a data set: made whole, and checked before anything is trained on them."""

import codecs
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_topo.files import read_json_value, write_if_missing

FILE = "splits_final.json"
FOLDS = 5  # nnU-Net's default
_SHOWN = 5  # cases in a message
_PATIENCE = 10.0  # seconds for another nnU-Net that is writing the file


def make_splits(file: Path, cases: Callable[[], Iterable[str]]) -> None:
    """Writes nnU-Net's folds, unless there are folds already.

    nnU-Net writes the same content in place, so a second training that starts at the same moment
    may read half of it.

    Args:
        file: splits_final.json.
        cases: returns the names of the preprocessed cases.

    Raises:
        ValueError: nnU-Net could not read the file.
    """
    if not file.is_file():
        splits = generate_crossval_split(sorted(cases()), seed=12345, n_splits=FOLDS)
        write_if_missing(file, json.dumps(splits, indent=4, sort_keys=True))
    _refuse_mark(file)
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            read_json_value(file)
            return
        except ValueError as error:
            if time.monotonic() > deadline:
                raise ValueError(
                    f"{error}. If you did not write it, remove it: the next training makes it again"
                ) from None
            time.sleep(0.1)


def check_folds(preprocessed: Path, data: Path, folds: Sequence[str], *, number: int) -> None:
    """Checks that nnU-Net can train and validate on each fold.

    Args:
        preprocessed: folder of the data set.
        data: folder of a preprocessed configuration.
        folds: their numbers.
        number: of the data set, for the messages.

    Raises:
        ValueError: there are too few cases or folds, or a fold has no cases or unknown ones.
    """
    file = preprocessed / FILE
    cases = set(infer_dataset_class(str(data)).get_identifiers(str(data)))
    splits = _read_splits(file) if file.is_file() else None
    if splits is None and len(cases) < FOLDS:
        example = json.dumps([{"train": ["CASE", "..."], "val": ["CASE"]}])
        raise ValueError(
            f"{data} contains {len(cases)} cases, but nnU-Net's {FOLDS} folds need at least "
            f"{FOLDS}. Write folds of your own to {file}, such as {example}, and choose them with "
            f"-f. Or train on all cases, nnUNetv2_train {number} CONFIGURATION all, which leaves "
            "no cases to compare trainers on"
        )
    known = [str(fold) for fold in range(FOLDS if splits is None else len(splits))]
    unknown = [fold for fold in folds if fold not in known]
    if unknown:
        whose = "" if splits is None else f" in {file}"
        raise ValueError(f"folds are {', '.join(known)}{whose}, got {', '.join(unknown)}")
    if splits is not None:
        for fold in folds:
            _check_fold(splits[int(fold)], f"{file}: fold {fold}", cases, data)


def cases_of_fold(preprocessed: Path, data: Path, fold: str) -> set[str]:
    """Returns the cases on which a fold trains or is validated, see `read_fold`."""
    return set().union(*read_fold(preprocessed, data, fold))


def read_fold(preprocessed: Path, data: Path, fold: str) -> tuple[list[str], list[str]]:
    """Returns the cases on which a fold trains, and those on which it is validated.

    Arguments are those of `check_folds`, which has checked them. If there are no folds yet, they
    are those that nnU-Net will make.
    """
    file = preprocessed / FILE
    if file.is_file():
        chosen = _read_splits(file)[int(fold)]
    else:
        cases = sorted(infer_dataset_class(str(data)).get_identifiers(str(data)))
        chosen = generate_crossval_split(cases, seed=12345, n_splits=FOLDS)[int(fold)]
    return [str(case) for case in chosen["train"]], [str(case) for case in chosen["val"]]


def _refuse_mark(file: Path) -> None:
    """Raises ValueError if a file begins with a byte order mark, as some editors write it."""
    if file.read_bytes().startswith(codecs.BOM_UTF8):
        raise ValueError(
            f"{file} begins with a byte order mark, which nnU-Net does not read; save it as UTF-8 "
            "without BOM"
        )


def _read_splits(file: Path) -> list[Any]:
    _refuse_mark(file)
    splits = read_json_value(file)
    if not isinstance(splits, list) or not splits:
        raise ValueError(f"{file}: wanted a list of folds, got {repr(splits)[:60]}")
    return splits


def _check_fold(fold: Any, place: str, cases: set[str], data: Path) -> None:
    if not isinstance(fold, dict) or not all(
        isinstance(fold.get(k), list) for k in ("train", "val")
    ):
        raise ValueError(
            f'{place}: wanted {{"train": [...], "val": [...]}}, got {json.dumps(fold)[:60]}'
        )
    for part, what in (("train", "training"), ("val", "validation")):
        if not fold[part]:
            raise ValueError(f"{place} has no {what} case, so it cannot be used for a comparison")
    missing = sorted({str(case) for case in (*fold["train"], *fold["val"])} - cases)
    if missing:
        shown = ", ".join(missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise ValueError(f"{place} names cases that are not in {data}: {shown}{more}")
