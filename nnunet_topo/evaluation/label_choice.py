"""Which labels are evaluated, and their names: from nnU-Net, the user or the files."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from tqdm import tqdm

from nnunet_topo.images.segmentation import NotALabelMapError, read_segmentation
from nnunet_topo.labels.declared import names_by_key
from nnunet_topo.labels.labels import Label, Labels, parse_groups, parse_labels
from nnunet_topo.labels.name_files import read_label_names
from nnunet_topo.labels.values import (
    MOST_LABELS,
    WHITE,
    describe_fractions,
    describe_grey_levels,
    distinct_values,
)
from nnunet_topo.messages import one_line
from nnunet_topo.processes import in_processes

File = tuple[BaseReaderWriter, Path]


@dataclass(frozen=True, slots=True)
class LabelChoice:
    """A user's choice of labels.

    Attributes:
        labels: values, ranges or names to evaluate, None for all.
        names: file with names.
        groups: each NAME=LABELS, evaluated like a region.
        ignore: value of ignored voxels.
    """

    labels: Sequence[str] | None = None
    names: Path | None = None
    groups: Sequence[str] = ()
    ignore: int | None = None


def choose_labels(
    choice: LabelChoice,
    declared: Labels | None,
    references: Sequence[File],
    predictions: Sequence[File],
    *,
    processes: int = 1,
) -> Labels:
    """Returns the labels to evaluate; without a declaration those in the files.

    Args:
        choice: the user's.
        declared: labels of a dataset.json, None without one.
        references: searched for labels, with their readers.
        predictions: searched too; one without a label of any reference is left out.
        processes: maximum number.

    Raises:
        ValueError: there is nothing to evaluate, or a label is not known.
    """
    named = _named_labels(choice, declared)
    groups = parse_groups(choice.groups, named)
    if choice.names is not None and choice.labels is None:
        regions = {name: label for name, label in named.items() if isinstance(label, tuple)}
        groups = regions | groups
    ignore = _ignored_label(choice, declared, named)
    # What a file calls ignore is no label to evaluate, even if -il ignores another value.
    left_out = {ignore, named.pop("ignore", None)} if declared is None else {ignore}
    known: tuple[int, ...] = ()
    if choice.labels is not None:
        singles = parse_labels(choice.labels, named, "-l")
        if declared is None:
            wanted = _members([*singles, *groups.values()])
            known = _found_beside(references, predictions, wanted, left_out, processes)
    elif declared is not None:
        singles = list(declared.evaluated)
    else:
        known, reason = _found(references, predictions, left_out, processes)
        singles = list(known)
        if not singles and not groups:
            raise ValueError(f"there is no label to evaluate: {reason}")
    evaluated = [label for label in singles if label not in (0, ignore)]
    given: dict[str, str] = {}
    grouped: list[Label] = []
    for name, members in groups.items():
        region: Label = members if len(members) > 1 else next(iter(members))
        given[str(region)] = name
        grouped.append(region)
        if region not in evaluated:
            evaluated.append(region)
    if not evaluated:
        raise ValueError("there is no label to evaluate: -l names none, and there is no --group")
    chosen = Labels(
        tuple(evaluated),
        names_by_key(evaluated, named) | given,
        (
            0,
            *sorted(
                _members(evaluated) | set(known) | set(() if declared is None else declared.known)
            ),
        ),
        ignore,
        is_choice=choice.labels is not None,
        groups=tuple(grouped),
    )
    if declared is not None and choice.labels is None and not groups:
        return replace(
            declared,
            evaluated=chosen.evaluated,
            names=dict(declared.names) | dict(chosen.names),
            ignore=ignore,
        )
    return chosen


def _members(labels: Sequence[Label]) -> set[int]:
    """Returns the values of labels and regions."""
    return {v for label in labels for v in (label if isinstance(label, tuple) else (label,))}


def _named_labels(choice: LabelChoice, declared: Labels | None) -> dict[str, Label]:
    """Returns the labels by name: those of the data set, replaced by those of a file with names."""
    named: dict[str, Label] = {} if choice.names is None else read_label_names(choice.names)
    if declared is None:
        return named
    labels = {str(label): label for label in declared.evaluated}
    return {name: labels[key] for key, name in declared.names.items()} | named


def _ignored_label(
    choice: LabelChoice, declared: Labels | None, named: Mapping[str, Label]
) -> int | None:
    """Returns the value of ignored voxels, the user's before a file's, None if there is none."""
    if choice.ignore is not None:
        return choice.ignore
    ignore = named.get("ignore") if declared is None else declared.ignore
    return ignore if isinstance(ignore, int) else None


# -- labels in the files -----------------------------------------------------------------------


def _found(
    references: Sequence[File],
    predictions: Sequence[File],
    left_out: Set[Label | None],
    processes: int,
) -> tuple[tuple[int, ...], str]:
    """Returns the labels in the files without some, and the reason if there are none.

    Raises:
        ValueError: files that look like images.
    """
    values, reasons = _values_in([*references, *predictions], processes)
    of_references = {v for _, file in references for v in values[file]} - left_out
    found = set(of_references)
    for _, file in predictions:
        of_file = set(values[file]) - left_out
        # A mask of 0 and 255 has no label in common with references of 0 and 1.
        if of_file & of_references or not of_references:
            found |= of_file
    if len(found) > MOST_LABELS:
        raise ValueError(
            f"the files contain {len(found)} different values: are these images instead of "
            "segmentations? -l names the labels to evaluate"
        )
    told = [f"{file} {reason}" for file, reason in reasons.items()]
    return tuple(sorted(found)), next(iter(told), "the files contain only background")


def _found_beside(
    references: Sequence[File],
    predictions: Sequence[File],
    wanted: Set[int],
    left_out: Set[Label | None],
    processes: int,
) -> tuple[int, ...]:
    """Returns the labels of files that hold a wanted one, and those on both sides.

    These are labels even of a file that holds no other one, but 255 on both sides is that of masks
    in black and white.
    """
    values, _ = _values_in([*references, *predictions], processes)
    sides = [{v for _, file in side for v in values[file]} for side in (references, predictions)]
    found = (sides[0] & sides[1]) - {WHITE}
    for of_file in map(set, values.values()):
        if of_file & wanted:
            found |= of_file
    return tuple(sorted(found - left_out))


def _values_in(
    jobs: Sequence[File], processes: int
) -> tuple[dict[Path, tuple[int, ...]], dict[Path, str]]:
    """Returns the labels above 0 in each file, and what is wrong with some of the files."""
    values: dict[Path, tuple[int, ...]] = {}
    reasons: dict[Path, str] = {}
    for file, of_file, reason in tqdm(
        in_processes(_values, jobs, processes, killed=lambda job: (job[1], (), "")),
        total=len(jobs),
        desc="labels in the files",
        unit="file",
        disable=None,  # without a terminal
    ):
        values[file] = of_file
        reasons |= {file: reason} if reason else {}
    return values, reasons


def _values(job: File) -> tuple[Path, tuple[int, ...], str]:
    """Returns the labels above 0 in a file, or what is wrong with it."""
    reader, file = job
    try:
        values = distinct_values(read_segmentation(reader, file).label_map)
    except NotALabelMapError as error:
        return file, (), f"is not a label map: {error}"
    except Exception as error:  # of any reader
        return file, (), f"cannot be read: {one_line(error)}"
    wrong = describe_fractions(values)
    if isinstance(reader, NaturalImage2DIO):
        wrong = wrong or describe_grey_levels(values)
    return file, () if wrong else tuple(int(value) for value in values if value > 0), wrong
