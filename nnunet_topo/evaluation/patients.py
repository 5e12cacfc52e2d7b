"""Which cases are of the same patient. They are alike, so a test must not count each of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_topo.evaluation.segmentations import find_segmentations
from nnunet_topo.evaluation.study import Study
from nnunet_topo.files import case_name
from nnunet_topo.images.readers import known_endings
from nnunet_topo.labels.name_files import read_text, tables_in

OPTION = "--patients"


@dataclass(frozen=True, slots=True)
class Patients:
    """Gives the patient of a case.

    Attributes:
        told: as typed: a regular expression, or a CSV file.
        pattern: found in the name of a case, it names the patient by its group or, without one, by
            all that it matches; None for a CSV file.
        by_case: patients in the CSV file.
    """

    told: str
    pattern: re.Pattern[str] | None
    by_case: Mapping[str, str]

    def __call__(self, file: str) -> str:
        """Returns the patient of a case, which is named as its file, with or without the ending.

        Raises:
            ValueError: nothing says whose case it is.
        """
        case = case_name(Path(file), known_endings())
        if self.pattern is None:
            if case not in self.by_case:
                raise ValueError(f"{OPTION}: {self.told} has no line for the case {case}")
            return self.by_case[case]
        match = self.pattern.search(case)
        patient = match[self.pattern.groups] if match else ""
        if not patient:
            raise ValueError(
                f"{OPTION}: wanted a regular expression that matches a part of each case's name, "
                f"got {self.told}, which matches nothing of {case}"
            )
        return patient


def read_patients(told: str) -> Patients:
    """Returns what gives the patient of a case.

    Args:
        told: a regular expression with at most one group, or the path of a .csv or .tsv file with
            the columns case and patient.

    Raises:
        ValueError: it is neither.
        OSError: the file cannot be read.
    """
    if told.lower().endswith((".csv", ".tsv")):
        return Patients(told, None, _read_table(Path(told)))
    try:
        pattern = re.compile(told)
    except re.error as error:
        raise ValueError(f"{OPTION}: {told!r} is not a regular expression: {error}") from None
    if pattern.groups > 1:
        raise ValueError(
            f"{OPTION}: wanted a regular expression with at most one group, got {told}, which has "
            f"{pattern.groups}; (?:...) is no group"
        )
    return Patients(told, pattern, {})


def _read_table(file: Path) -> dict[str, str]:
    """Returns the patients in a CSV file by case."""
    for heading, *rows in tables_in(read_text(file)):
        columns = [cell.lower() for cell in heading]
        if not {"case", "patient"} <= set(columns):
            continue
        found: dict[str, str] = {}
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(f"{OPTION}: {file}: wanted {len(columns)} cells, got {row}")
            line = dict(zip(columns, row, strict=True))
            case, patient = case_name(Path(line["case"]), known_endings()), line["patient"]
            if not (case and patient):
                raise ValueError(f"{OPTION}: {file}: wanted a case and a patient, got {row}")
            if found.setdefault(case, patient) != patient:
                raise ValueError(f"{OPTION}: {file}: {case} is of {found[case]} and of {patient}")
        return found
    raise ValueError(f"{OPTION}: {file}: wanted the columns case and patient")


def patients_of_study(study: Study, patients: Patients) -> tuple[set[str], set[str]]:
    """Returns all patients of a study, and those with cases in the validation of several folds.

    Raises:
        ValueError: nothing says whose a case is, or there is nothing to evaluate.
        OSError: a file cannot be read.
    """
    folds: dict[str, set[str]] = {}
    for fold, folder in study.models[0].folders.items():
        found = find_segmentations(study.references, folder, study.dataset_json, study.plans)
        for pair in found.pairs:
            if pair.reference and pair.prediction:
                folds.setdefault(patients(pair.name), set()).add(fold)
    return set(folds), {patient for patient, of in folds.items() if len(of) > 1}
