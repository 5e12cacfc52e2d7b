"""The folder that `nnunet-topo refine` writes."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nnunet_topo.files import digest, write_whole
from nnunet_topo.messages import with_type
from nnunet_topo.own_folder import OwnFolder
from nnunet_topo.refinement.result import CaseResult
from nnunet_topo.refinement.trained_model import TrainedModel

AUTHOR = "nnunet-topo refine"
RECORD = "refinement.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """What all results depend on; the names are keys of the record.

    Attributes:
        model: digest of each checkpoint.
        folds: of the model.
        connectivity: of the foreground.
        prior: Betti numbers by the name of the label, written as in a CSV file.
        control: the simple control, None for a refinement.
        weight: of the topology term, None for a control.
        steps: maximum number, None for a control.
        lr: learning rate, None for a control.
        form: of the topology term, None for a control.
        probabilities: whether probabilities are written.
    """

    model: list[str]
    folds: list[str]
    connectivity: str
    prior: dict[str, list[str]]
    control: str | None
    weight: float | None
    steps: int | None
    lr: float | None
    form: str | None
    probabilities: bool


def open_output(
    output: Path, settings: Settings, cases: Iterable[str], model: TrainedModel
) -> OwnFolder:
    """Returns the folder that is written to, with plans and dataset.json as nnU-Net adds them.

    Args:
        output: made if there is none.
        settings: what all results depend on.
        cases: names of the cases that may be written.
        model: of the plans.

    Raises:
        ValueError: the folder was written with other settings, or other files are in the way.
        OSError: a file cannot be read or written.
    """
    folder = OwnFolder(output, RECORD, AUTHOR, settings=asdict(settings))
    endings = (model.ending, *((".npz", ".pkl") if model.probabilities else ()))
    folder.refuse_others(f"{case}{ending}" for case in cases for ending in endings)
    folder.begin()
    plans = model.predictor.plans_manager.plans
    for name, content in (("plans", plans), ("dataset", model.predictor.dataset_json)):
        if not (output / f"{name}.json").exists():
            write_whole(output / f"{name}.json", json.dumps(content, indent=4))
    return folder


def put_case(
    folder: OwnFolder, case: str, of_inputs: str, result: CaseResult, new: Path
) -> CaseResult:
    """Takes over the files of a case, and records it.

    Args:
        folder: of the results.
        case: its name.
        of_inputs: digest of the inputs of the result.
        result: of the case.
        new: folder that holds the files and is removed; missing if there are none.

    Returns:
        The result, failed if the files cannot be written.

    Raises:
        OSError: the record cannot be written.
    """
    files = sorted(new.iterdir()) if new.is_dir() else []
    try:
        folder.put(case, of_inputs, asdict(result), files)
    except (OSError, ValueError) as error:  # the disk may be full, or a file came since
        result = not_written(result, error)
        folder.put(case, of_inputs, asdict(result))
    shutil.rmtree(new, ignore_errors=True)
    return result


def not_written(result: CaseResult, error: Exception) -> CaseResult:
    """Returns the result of a case whose files cannot be written."""
    reason = f"not written, {with_type(error)}"
    return replace(CaseResult("failed", reason), seconds=result.seconds)


def digest_files(files: Iterable[Path], besides: object = ()) -> str:
    """Returns a digest of the content of files; one that cannot be read counts as empty.

    Args:
        files: in order.
        besides: other values to compare, by their `repr`.
    """
    return digest(repr(besides), *map(_read_if_possible, files))


def _read_if_possible(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
