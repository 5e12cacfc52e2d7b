"""Evaluates segmentations: finds the files, computes what has changed, writes summary.json."""

from pathlib import Path

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from tqdm import tqdm

from nnunet_topo.evaluation.case import (
    Case,
    Settings,
    case_digest,
    evaluate_case,
    killed_case,
)
from nnunet_topo.evaluation.journal import Journal
from nnunet_topo.evaluation.label_choice import LabelChoice
from nnunet_topo.evaluation.record import Evaluation
from nnunet_topo.evaluation.segmentations import (
    Segmentations,
    find_segmentations,
    wanted_labels,
)
from nnunet_topo.evaluation.summary import Summary, read_summary
from nnunet_topo.files import pair_files
from nnunet_topo.labels.declared import labels_of_manager
from nnunet_topo.labels.labels import Labels
from nnunet_topo.processes import in_processes
from nnunet_topo.topology import Connectivity


def evaluate_folder(
    references: Path,
    predictions: Path,
    dataset_json: Path | None = None,
    plans: Path | None = None,
    *,
    choice: LabelChoice | None = None,
    labels: Labels | None = None,
    output: Path | None = None,
    processes: int = 1,
    chill: bool = False,
    settings: Settings | None = None,
) -> Evaluation:
    """Evaluates segmentations, with nnU-Net's metrics where there is no summary yet.

    Args:
        references: folder of reference segmentations, or one file.
        predictions: folder of predictions of the same names, or one file.
        dataset_json: nnU-Net's description of the data set; without it the labels are those in the
            files.
        plans: nnU-Net's plans file, which names the reader; without it the file ending decides.
        choice: the user's choice of labels.
        labels: the labels to evaluate, if they have been chosen already.
        output: summary file, default summary.json beside the predictions; it must be named for
            a single file if that one has other cases.
        processes: maximum number.
        chill: references without prediction are not reported.
        settings: how metrics are computed.

    Raises:
        ValueError: a file is not nnU-Net's, or a folder holds no segmentation.
        OSError: a file cannot be read or written.
    """
    beside = (predictions if predictions.is_dir() else predictions.parent) / "summary.json"
    _check_output(output or beside)
    found = find_segmentations(references, predictions, dataset_json, plans)
    if output is None and (references.is_file() or predictions.is_file()):
        _check_cases(beside, found)
    return _evaluate(
        found,
        labels or wanted_labels([found], choice or LabelChoice(), processes=processes),
        (references, predictions),
        output or beside,
        processes=processes,
        chill=chill,
        settings=settings or Settings(),
    )


def evaluate(
    reference_folder: Path,
    prediction_folder: Path,
    output: Path,
    reader: BaseReaderWriter,
    file_ending: str,
    label_manager: LabelManager,
    *,
    processes: int = 1,
    chill: bool = False,
    settings: Settings | None = None,
) -> Evaluation:
    """Evaluates a folder of predictions as `evaluate_folder` does, with nnU-Net's own objects."""
    _check_output(output)
    pairs, problems = pair_files(reference_folder, prediction_folder, [file_ending])
    labels = labels_of_manager(label_manager)
    return _evaluate(
        Segmentations(pairs, lambda _: reader, labels, problems),
        labels,
        (reference_folder, prediction_folder),
        output,
        processes=processes,
        chill=chill,
        settings=settings or Settings(),
    )


def _check_output(output: Path) -> None:
    if output.suffix != ".json":
        raise ValueError(f"the summary must be a .json file, got {output}")


def _check_cases(summary: Path, found: Segmentations) -> None:
    """Refuses one file where a summary has the cases of a folder, which it would lose."""
    if not summary.exists():
        return
    others = {case.name for case in read_summary(summary).cases}
    others -= {pair.prediction.name for pair in found.pairs if pair.prediction}
    if others:
        raise ValueError(
            f"{summary} has other cases than this file ({', '.join(sorted(others)[:3])}); "
            "-o names another file for its metrics"
        )


def _evaluate(
    found: Segmentations,
    labels: Labels,
    places: tuple[Path, Path],
    output: Path,
    *,
    processes: int,
    chill: bool,
    settings: Settings,
) -> Evaluation:
    """Evaluates the cases of two folders or files.

    Results are written to a file beside the summary as they come, so that an interrupted
    evaluation resumes. The summary is replaced in one step at the end. Cases whose files have not
    changed are not computed again.
    """
    problems = list(found.problems)
    pairs: dict[str, tuple[Path, Path]] = {}
    for pair in found.pairs:
        if pair.reference and pair.prediction:
            pairs[pair.prediction.name] = pair.reference, pair.prediction
        elif pair.prediction:
            problems.append(f"{pair.prediction.name}: no reference in {places[0]}")
        elif pair.reference and not chill:
            problems.append(f"{pair.reference.name}: no prediction in {places[1]}")
    unit, other_units = found.unit()
    problems += other_units
    summary = Summary(output, labels, unit)
    problems += summary.limit(pairs.keys())
    with Journal(output.with_name(f"{output.name}.topo-part")) as journal:
        done = {result.name: result for result in journal.read()}
        changed = []
        for name in sorted(pairs.keys() & summary.names(pairs.keys())):
            readers = found.reader(pairs[name][0]), found.reader(pairs[name][1])
            case = Case(name, *pairs[name], summary.labels, labels, readers, settings)
            if name in done and done[name].digest == case_digest(case):
                summary.put(done[name], *pairs[name])
            elif not summary.digest(name) or summary.digest(name) != case_digest(case):
                changed.append(case)
        computed = 0
        for result in tqdm(
            in_processes(evaluate_case, changed, processes, killed=killed_case, heavy=True),
            total=len(changed),
            desc="topology metrics",
            unit="case",
            disable=None,  # without a terminal
        ):
            journal.append(result)
            summary.put(result, *pairs[result.name])
            computed += bool(summary.digest(result.name))
        predictions = {
            pair.prediction.name: pair.prediction for pair in found.pairs if pair.prediction
        }
        evaluation = summary.write(settings, sorted(problems), computed, predictions)
        journal.remove()
    return evaluation


def recorded_connectivity(*summaries: Path) -> Connectivity:
    """Returns the connectivity of the metrics that summaries hold, "full" if there are none.

    Raises:
        ValueError: they hold metrics of both.
    """
    found: set[Connectivity] = set()
    for summary in summaries:
        try:
            recorded = read_summary(summary)
        except (OSError, ValueError):
            continue
        if recorded.evaluated:
            found.add(recorded.connectivity)
    if len(found) > 1:
        files = ", ".join(map(str, summaries))
        raise ValueError(f"the metrics in {files} have both connectivities: give --connectivity")
    return found.pop() if found else "full"
