"""References and predictions that belong together, their readers and the labels in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_topo.dataset import read_dataset_json, read_plans_file
from nnunet_topo.evaluation.label_choice import LabelChoice, choose_labels
from nnunet_topo.files import Pair, case_files, pair_files
from nnunet_topo.images.readers import (
    ReadersByEnding,
    choose_readers,
    known_ending,
    known_endings,
    segmentations_with,
)
from nnunet_topo.images.segmentation import Unit, has_spacing, unit_of
from nnunet_topo.labels.declared import labels_of_dataset
from nnunet_topo.labels.labels import Labels


@dataclass(frozen=True, slots=True)
class Segmentations:
    """Cases of two folders or files.

    Attributes:
        pairs: by case; where a reference or a prediction is missing, it is None.
        reader: gives nnU-Net's reader of a file.
        declared: labels of a dataset.json, None without one.
        problems: cases with several possible files.
    """

    pairs: list[Pair]
    reader: Callable[[Path], BaseReaderWriter]
    declared: Labels | None
    problems: list[str]

    def unit(self) -> tuple[Unit, list[str]]:
        """Returns the unit of distances, and a line for each case with another unit."""
        units: dict[str, Unit] = {}
        for pair in self.pairs:
            files = [file for file in (pair.reference, pair.prediction) if file is not None]
            known = any(has_spacing(self.reader(file), file) for file in files)
            units[files[-1].name] = "mm" if known else unit_of(self.reader(files[0]), files[0])
        if units and "mm" not in units.values():
            return next(iter(units.values())), []
        return "mm", [
            f"{name}: its files have no spacing; its distances are in {unit}, those of others in mm"
            for name, unit in units.items()
            if unit != "mm"
        ]


def find_segmentations(
    references: Path, predictions: Path, dataset_json: Path | None, plans: Path | None
) -> Segmentations:
    """Returns the cases of two folders or files.

    Args:
        references: folder, or one file.
        predictions: folder, or one file.
        dataset_json: nnU-Net's, which names labels and the files' ending; None finds these.
        plans: nnU-Net's, which name the reader; None chooses it by the ending.

    Raises:
        ValueError: a file is not nnU-Net's, or a folder holds no segmentation.
        OSError: a file cannot be read.
    """
    if dataset_json is None:
        if plans is not None:
            raise ValueError("the plans do not contain the labels: give dataset.json too")
        pairs, problems = pair_files(references, predictions, known_endings())
        return Segmentations(pairs, ReadersByEnding(_files(pairs)), None, problems)
    description = read_dataset_json(dataset_json)
    plan = None if plans is None else read_plans_file(plans)
    declared = labels_of_dataset(description, dataset_json, plans)
    ending = description["file_ending"]
    pairs, problems = _pairs(references, predictions, ending)
    readers = choose_readers(_files(pairs), description, dataset_json, plan, plans)
    return Segmentations(pairs, readers, declared, problems)


def _pairs(references: Path, predictions: Path, ending: str) -> tuple[list[Pair], list[str]]:
    """Returns pairs of files with the declared ending; predictions may have another one."""
    for place in (references, predictions):
        if not place.exists():
            raise ValueError(f"{place}: there is no such file or folder")
    endings = [ending]
    has_references = references.is_file() or segmentations_with(references, ending)[0]
    if has_references and not segmentations_with(predictions, ending)[0]:
        files = case_files(predictions, "") if predictions.is_dir() else [predictions]
        others = any(map(known_ending, files))
        endings += known_endings() if others else ()
    return pair_files(references, predictions, endings)


def _files(pairs: Sequence[Pair]) -> list[Path]:
    return [file for pair in pairs for file in (pair.reference, pair.prediction) if file]


def wanted_labels(
    found: Sequence[Segmentations], choice: LabelChoice, *, processes: int = 1
) -> Labels:
    """Returns the labels to evaluate, the same for all predictions.

    Args:
        found: cases of each folder of predictions, with the same references.
        choice: the user's choice of labels.
        processes: maximum number.

    Raises:
        ValueError: there is nothing to evaluate, or a label is not known.
    """
    if found[0].declared is None:
        for of_model in found:
            _check_pairs(of_model)
    references = {
        pair.reference: of_model.reader(pair.reference)
        for of_model in found
        for pair in of_model.pairs
        if pair.reference and pair.prediction
    }
    predictions = {
        pair.prediction: of_model.reader(pair.prediction)
        for of_model in found
        for pair in of_model.pairs
        if pair.reference and pair.prediction
    }
    sides = [[(reader, file) for file, reader in of.items()] for of in (references, predictions)]
    return choose_labels(choice, found[0].declared, sides[0], sides[1], processes=processes)


def _check_pairs(found: Segmentations) -> None:
    """Raises ValueError if no prediction has a reference, because then no label can be found."""
    if any(pair.reference and pair.prediction for pair in found.pairs):
        return
    reference = next((p.reference.name for p in found.pairs if p.reference), "none")
    prediction = next((p.prediction.name for p in found.pairs if p.prediction), "none")
    names = f"there are {reference} and {prediction}, for example"
    raise ValueError(
        "; ".join(found.problems[:5]) or f"no prediction has the name of a reference: {names}"
    )
