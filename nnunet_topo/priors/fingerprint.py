"""Topology fingerprint of the labels of a data set, as nnU-Net takes one of its images."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from nnunet_topo.files import case_files
from nnunet_topo.images.segmentation import NotALabelMapError, read_segmentation
from nnunet_topo.labels.declared import labels_of_manager
from nnunet_topo.labels.values import describe_unknown_labels, distinct_values, refuse_values
from nnunet_topo.priors import decisions
from nnunet_topo.priors.topology_json import NO_PRIOR, OBJECTS, channel_labels, channel_names
from nnunet_topo.priors.training_labels import (
    TrainingLabels,
    check_one_label_map,
    damage_by_augmentation,
)
from nnunet_topo.processes import in_processes
from nnunet_topo.topology import Connectivity, betti_numbers

RAW = "raw"
AGREEMENT = 0.95  # of the objects, for Betti numbers to count as a prior
CONNECTIVITIES: tuple[Connectivity, ...] = get_args(Connectivity)
LISTED = 0.5  # of the objects, whose Betti numbers must agree for the others to be listed
_ABOUT = (
    "Betti numbers: components, loops or handles, cavities. Edit `priors`: a number each, "
    '[1, 2] for a range, [1, null] for at least 1, null if it is free; "none" for no prior. '
    "`rotation_and_scaling`: whether trainers with a topology term use both. "
    "`statistics` > `differing`: cases whose labels have other Betti numbers than most."
)


@dataclass(frozen=True, slots=True)
class Preprocessed:
    """The preprocessed labels of a configuration.

    Attributes:
        dataset_class: nnU-Net's reader.
        folder: where they lie.
        space: axes of a patch; 2 takes volumes slice by slice.
        rotation: range of the angles in augmentation, as nnU-Net chose it.
        in_slices: whether a volume is augmented slice by slice.
    """

    dataset_class: type
    folder: str
    space: int
    rotation: tuple[float, float]
    in_slices: bool


@dataclass(frozen=True, slots=True)
class LabelledData:
    """All labels of a data set, of every fold.

    Attributes:
        name: of the data set.
        files: label file of each case.
        reader: nnU-Net's.
        transpose: order of the axes in which nnU-Net trains.
        label_manager: nnU-Net's.
        has_volumes: whether there are 3D configurations; without, images are slices.
        preprocessed: by configuration.
        missing: folders of configurations that have not been preprocessed.
    """

    name: str
    files: Mapping[str, Path]
    reader: BaseReaderWriter
    transpose: tuple[int, ...]
    label_manager: LabelManager
    has_volumes: bool
    preprocessed: Mapping[str, Preprocessed]
    missing: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Content of a topology.json, and what went wrong, one line each."""

    content: dict[str, Any]
    troubles: list[str]


@dataclass(frozen=True, slots=True)
class _Object:
    """One label in one volume or slice."""

    betti: Mapping[Connectivity, tuple[int, ...]]
    at_border: bool
    beside_ignored: bool


@dataclass(frozen=True, slots=True)
class _Parts:
    """The volume of a case, or its slices: how many, and each channel's objects by their place."""

    number: int
    objects: list[dict[int, _Object]]


@dataclass(frozen=True, slots=True)
class _Case:
    """What a process must know to measure a case."""

    name: str
    file: Path | None
    data: LabelledData
    classes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class _Measured:
    """What came out of a case, by source (raw or a configuration) and axes."""

    name: str
    parts: dict[tuple[str, int], _Parts] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Damage:
    """How often augmentation changes the Betti numbers of each channel."""

    configuration: str
    connectivity: Connectivity
    shares: tuple[float, ...] = ()
    trouble: str = ""


def find_labels(
    plans: PlansManager, dataset_json: dict[str, Any], configurations: Iterable[str]
) -> LabelledData:
    """Returns where the labels of a data set are: nnU-Net's raw data, else its copies of them.

    Args:
        plans: nnU-Net's, of the data set.
        dataset_json: nnU-Net's description of it.
        configurations: whose preprocessed labels are wanted; each folder is taken once.

    Raises:
        ValueError: there are no labels, or no such configuration.
    """
    name = plans.dataset_name
    folder = Path(str(nnUNet_preprocessed)) / name
    files = _label_files(name, folder, dataset_json)
    preprocessed, missing = {}, {}
    for configuration in configurations:
        if configuration not in plans.available_configurations:
            known = ", ".join(plans.available_configurations)
            raise ValueError(f"{plans.plans_name} has no {configuration}; there are: {known}")
        manager = plans.get_configuration(configuration)
        of_configuration = folder / manager.data_identifier
        if not case_files(of_configuration, ""):
            missing[configuration] = of_configuration
            continue
        if str(of_configuration) in (p.folder for p in preprocessed.values()):
            continue
        stand_in: Any = SimpleNamespace(
            configuration_manager=manager, print_to_log_file=lambda *_: None
        )
        # No trainer is needed to hear what nnU-Net would do.
        rotation, in_slices, _, _ = (
            nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size(stand_in)
        )
        try:
            dataset_class = infer_dataset_class(str(of_configuration))
        except (AssertionError, KeyError) as error:
            raise ValueError(
                f"{of_configuration} holds what nnU-Net does not read: {error}"
            ) from None
        preprocessed[configuration] = Preprocessed(
            dataset_class=dataset_class,
            folder=str(of_configuration),
            space=len(manager.patch_size),
            rotation=tuple(rotation),
            in_slices=in_slices,
        )
    return LabelledData(
        name=name,
        files=files,
        reader=plans.image_reader_writer_class(),
        transpose=tuple(plans.transpose_forward),
        label_manager=plans.get_label_manager(dataset_json),
        has_volumes=any(
            len(plans.get_configuration(c).patch_size) == 3 for c in plans.available_configurations
        ),
        preprocessed=preprocessed,
        missing=missing,
    )


def _label_files(name: str, preprocessed: Path, dataset_json: dict[str, Any]) -> dict[str, Path]:
    ending = dataset_json["file_ending"]
    raw = Path(str(nnUNet_raw)) / name if nnUNet_raw.get() else None
    if raw is not None and "dataset" in dataset_json:
        listed = dataset_json["dataset"].items()
        return {case: raw / os.path.expandvars(entry["label"]) for case, entry in listed}
    if raw is not None and (raw / "labelsTr").is_dir():
        named = [image.name for image in case_files(raw / "imagesTr", ending)]
        cases = {image.removesuffix(ending)[: -len("_0000")] for image in named}
        found = {case: raw / "labelsTr" / f"{case}{ending}" for case in sorted(cases)}
    else:
        copies = case_files(preprocessed / "gt_segmentations", ending)
        found = {file.name.removesuffix(ending): file for file in copies}
    if not found:
        places = " and ".join(
            str(place) for place in (raw, preprocessed / "gt_segmentations") if place is not None
        )
        raise ValueError(f"no labels of {name}: looked for files that end in {ending} in {places}")
    return found


def default_unions(label_manager: LabelManager) -> dict[str, list[str]]:
    """Returns the union of all foreground by its name, nothing where a label is just that."""
    names, classes = channel_names(label_manager), channel_labels(label_manager)
    everything = set().union(*classes)
    if any(set(labels) == everything for labels in classes):
        return {}
    name = "foreground"
    while name in names:
        name = f"all {name}"
    return {name: list(names)}


def take_fingerprint(
    data: LabelledData, *, unions: Mapping[str, Sequence[str]], processes: int = 1
) -> Fingerprint:
    """Returns the Betti numbers of all labels, and the priors that 95 % of the labels agree on.

    A label that touches voxels of the ignore label is not known to be whole, and does not count.

    Args:
        data: where the labels are.
        unions: labels of each union, by its name.
        processes: at most so many.

    Raises:
        ValueError: no label could be read.
    """
    names = channel_names(data.label_manager)
    classes = channel_labels(data.label_manager)
    if not names:
        raise ValueError(f"dataset.json of {data.name} names nothing beside the background")
    united = [sorted(set().union(*(classes[names.index(m)] for m in u))) for u in unions.values()]
    names, classes = (*names, *unions), (*classes, *map(tuple, united))
    cases: dict[str, Path | None] = dict(data.files)
    for preprocessed in data.preprocessed.values():
        for case in preprocessed.dataset_class.get_identifiers(preprocessed.folder):
            if not case.startswith("."):
                cases.setdefault(case, None)
    jobs = [_Case(case, cases[case], data, classes) for case in sorted(cases)]
    measured = sorted(_with_progress(jobs, processes), key=lambda case: case.name)
    troubles = [trouble for case in measured for trouble in case.troubles]
    readable = [case.name for case in measured if any(source == RAW for source, _ in case.parts)]
    if not readable:
        raise ValueError("; ".join(["no label could be read", *troubles[:3]]))
    damage = _measure_damage(data, measured, classes, processes)
    troubles += [d.trouble for d in damage if d.trouble]
    statistics: dict[str, Any] = {
        "cases": len(readable),
        "unreadable": [case.name for case in measured if case.name not in set(readable)],
    }
    priors: dict[str, Any] = {}
    differing: dict[str, Any] = {}
    for connectivity in CONNECTIVITIES:
        shares = {d.configuration: d.shares for d in damage if d.connectivity == connectivity}
        statistics[connectivity], priors[connectivity] = {}, {}
        differing[connectivity] = {}
        for space in (3, 2) if data.has_volumes else (2,):
            of_space = {
                name: _statistics_of(data, measured, channel, space, connectivity, shares)
                for channel, name in enumerate(names)
            }
            statistics[connectivity][OBJECTS[space]] = of_space
            priors[connectivity][OBJECTS[space]] = {
                name: agreed_prior(sources[RAW]) for name, sources in of_space.items()
            }
            of_names = {
                name: _differing(measured, channel, space, connectivity, of_space[name][RAW])
                for channel, name in enumerate(names)
            }
            differing[connectivity][OBJECTS[space]] = {n: d for n, d in of_names.items() if d}
    statistics["differing"] = differing
    content = {
        "about": _ABOUT,
        "dataset": data.name,
        "unions": {name: list(labels) for name, labels in unions.items()},
        "priors": priors,
        decisions.KEY: _decisions(damage, channel_names(data.label_manager)),
        "statistics": statistics,
    }
    if not content[decisions.KEY]:  # nothing is preprocessed
        del content[decisions.KEY]
    return Fingerprint(content, troubles)


def agreed_prior(record: Mapping[str, Any]) -> list[int] | str:
    """Returns the Betti numbers that at least 95 % of the objects of a record have, else "none"."""
    if not record["objects"] or record["agreement"] < AGREEMENT:
        return NO_PRIOR
    return parse_betti(next(iter(record["betti"])))


def parse_betti(key: str) -> list[int]:
    """Returns the Betti numbers that a record counts under a key."""
    return [int(number) for number in key.split()]


# -- one case ----------------------------------------------------------------------------------


def _with_progress(jobs: list[_Case], processes: int) -> Iterator[_Measured]:
    yield from tqdm(
        in_processes(_measure, jobs, processes, killed=_killed),
        total=len(jobs),
        desc="labels",
        unit="case",
        disable=None,  # without a terminal
    )


def _killed(case: _Case) -> _Measured:
    return _Measured(
        case.name, troubles=[f"{case.name}: its process was killed; too little memory?"]
    )


def _measure(case: _Case) -> _Measured:
    """Returns all objects of a case; whatever fails becomes a trouble."""
    measured = _Measured(case.name)
    for source in (RAW, *case.data.preprocessed):
        try:
            label_map, first = _read(case, source, measured.troubles)
            spaces = _spaces(case.data, source)
            measured.parts.update(
                {(source, space): _parts(case, label_map, first, space) for space in spaces}
            )
        except NotALabelMapError as error:
            measured.troubles.append(f"{case.name}: not measured, {error}")
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            what = "labels" if source == RAW else f"preprocessed labels ({source})"
            measured.troubles.append(
                f"{case.name}: not measured, the {what} cannot be read: {reason}"
            )
    return measured


def _spaces(data: LabelledData, source: str) -> tuple[int, ...]:
    if source != RAW:
        return (data.preprocessed[source].space,)
    return (3, 2) if data.has_volumes else (2,)


def _read(case: _Case, source: str, troubles: list[str]) -> tuple[NDArray, int]:
    """Returns a label map `[z, y, x]` as nnU-Net turns it, and the place of its first slice."""
    data = case.data
    if source != RAW:
        preprocessed = data.preprocessed[source]
        dataset = preprocessed.dataset_class(preprocessed.folder, [case.name])
        _, segmentation, _, properties = dataset.load_case(case.name)
        check_one_label_map(segmentation)
        return np.asarray(segmentation[0]), int(properties["bbox_used_for_cropping"][0][0])
    if case.file is None:
        raise ValueError("there are preprocessed ones alone")
    try:
        label_map = read_segmentation(data.reader, case.file).label_map
    except NotALabelMapError as error:
        raise NotALabelMapError(f"{case.file} is not a label map: {error}") from None
    labels, values = labels_of_manager(data.label_manager), distinct_values(label_map)
    photograph = isinstance(data.reader, NaturalImage2DIO)
    refused = refuse_values(values, labels, values, photograph=photograph)
    if refused:
        raise NotALabelMapError(f"{case.file} {refused}")
    ignored = () if labels.ignore is None else (labels.ignore,)
    unknown = describe_unknown_labels(values, (*labels.known, *ignored))
    if unknown:
        troubles.append(f"{case.name}: the label file {unknown}")
    return label_map.transpose(data.transpose), 0


def _parts(case: _Case, label_map: NDArray, first: int, space: int) -> _Parts:
    """Returns all objects of a label map, in whole or slice by slice."""
    ignore_label = case.data.label_manager.ignore_label
    ignored = None if ignore_label is None else label_map == ignore_label
    channels = []
    for labels in case.classes:
        mask = np.isin(label_map, labels)
        if space == 3:
            found = _object(mask, ignored)
            channels.append({} if found is None else {0: found})
            continue
        channels.append({})
        for index, slice_ in enumerate(mask):
            found = _object(slice_, None if ignored is None else ignored[index])
            if found is not None:
                channels[-1][first + index] = found
    return _Parts(1 if space == 3 else len(label_map), channels)


def _object(mask: NDArray[np.bool_], ignored: NDArray[np.bool_] | None) -> _Object | None:
    """Returns what a mask holds, None if it is empty."""
    (box,) = ndimage.find_objects(mask.view(np.uint8), 1)
    if box is None:
        return None
    beside_ignored = False
    if ignored is not None:
        wider = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        corners = np.ones((3,) * mask.ndim, bool)
        beside_ignored = bool(
            (ndimage.binary_dilation(mask[wider], corners) & ignored[wider]).any()
        )
    return _Object(
        betti={c: betti_numbers(mask[box], connectivity=c) for c in CONNECTIVITIES},
        at_border=any(
            side.start == 0 or side.stop == length
            for side, length in zip(box, mask.shape, strict=True)
        ),
        beside_ignored=beside_ignored,
    )


# -- augmentation ------------------------------------------------------------------------------


def _measure_damage(
    data: LabelledData,
    measured: list[_Measured],
    classes: tuple[tuple[int, ...], ...],
    processes: int,
) -> list[_Damage]:
    jobs = []
    for name, preprocessed in data.preprocessed.items():
        readable = [case.name for case in measured if (name, preprocessed.space) in case.parts]
        jobs += [
            (name, preprocessed, tuple(readable), classes, connectivity)
            for connectivity in CONNECTIVITIES
            if readable
        ]
    results = in_processes(_damage, jobs, processes, killed=_killed_damage)
    return list(
        tqdm(results, total=len(jobs), desc="augmentation", unit="configuration", disable=None)
    )


_DamageJob = tuple[str, Preprocessed, tuple[str, ...], tuple[tuple[int, ...], ...], Connectivity]


def _killed_damage(job: _DamageJob) -> _Damage:
    name, *_, connectivity = job
    trouble = f"{name}: the measurement of augmentation was killed; too little memory?"
    return _Damage(name, connectivity, trouble=trouble)


def _damage(job: _DamageJob) -> _Damage:
    name, preprocessed, cases, classes, connectivity = job
    labels = TrainingLabels(
        dataset_class=preprocessed.dataset_class,
        folder=preprocessed.folder,
        cases=cases,
        classes=classes,
        space=preprocessed.space,
        connectivity=connectivity,
    )
    shares = damage_by_augmentation(labels, preprocessed.rotation, preprocessed.in_slices)
    return _Damage(name, connectivity, shares)


def _decisions(damage: list[_Damage], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns for each connectivity and configuration whether trainers rotate and scale."""
    made: dict[str, dict[str, Any]] = {}
    for measured in damage:
        if measured.shares:  # of unions, too, which come last and do not count
            decision = decisions.decide(names, measured.shares[: len(names)])
            plain = decisions.as_plain(decision)
            made.setdefault(measured.connectivity, {})[measured.configuration] = plain
    return made


# -- statistics --------------------------------------------------------------------------------


def _statistics_of(
    data: LabelledData,
    measured: list[_Measured],
    channel: int,
    space: int,
    connectivity: Connectivity,
    damage: Mapping[str, tuple[float, ...]],
) -> dict[str, Any]:
    """Returns a record of a channel for the raw labels and each configuration of as many axes."""
    records: dict[str, Any] = {}
    for source in (RAW, *data.preprocessed):
        if space not in _spaces(data, source):
            continue
        record = _count(data, measured, (source, space), channel, connectivity)
        if source != RAW:
            record |= {
                "changed_by_resampling": _changed(measured, source, space, channel, connectivity),
                "changed_by_augmentation": _defined(damage[source][channel])
                if damage.get(source)
                else None,
            }
        records[source] = record
    return records


def _count(
    data: LabelledData,
    measured: list[_Measured],
    source: tuple[str, int],
    channel: int,
    connectivity: Connectivity,
) -> dict[str, Any]:
    parts = [case.parts[source] for case in measured if source in case.parts]
    objects = [o for of_case in parts for o in of_case.objects[channel].values()]
    counted = [o for o in objects if not o.beside_ignored]
    numbers = Counter(" ".join(map(str, o.betti[connectivity])) for o in counted)
    betti = dict(sorted(numbers.items(), key=lambda item: (-item[1], item[0])))
    record: dict[str, Any] = {
        "objects": len(counted),
        "absent": sum(of_case.number for of_case in parts) - len(objects),
        "at_border": sum(o.at_border for o in counted),
    }
    if data.label_manager.has_ignore_label:
        record["beside_ignored"] = len(objects) - len(counted)
    largest = next(iter(betti.values()), 0)
    return record | {"agreement": largest / len(counted) if counted else None, "betti": betti}


def _differing(
    measured: list[_Measured],
    channel: int,
    space: int,
    connectivity: Connectivity,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the cases of which a raw label has other Betti numbers than most have.

    Nothing where less than half of the objects agree: then no number is the right one.

    Returns:
        By the Betti numbers, as records have them: cases; of slices, cases with their numbers
        counted from 0, such as 12-15, 20.
    """
    if not record["objects"] or record["agreement"] < LISTED:
        return {}
    most = next(iter(record["betti"]))
    slices: dict[str, dict[str, list[int]]] = {key: {} for key in record["betti"] if key != most}
    for case in measured:
        of_case = case.parts.get((RAW, space))
        for index, found in of_case.objects[channel].items() if of_case else ():
            key = " ".join(map(str, found.betti[connectivity]))
            if key != most and not found.beside_ignored:
                slices[key].setdefault(case.name, []).append(index)
    if space == 3:
        return {key: sorted(of_cases) for key, of_cases in slices.items()}
    return {
        key: {case: _ranges(sorted(numbers)) for case, numbers in sorted(of_cases.items())}
        for key, of_cases in slices.items()
    }


def _ranges(numbers: Sequence[int]) -> str:
    """Returns numbers in ascending order as 12-15, 20."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _changed(
    measured: list[_Measured], source: str, space: int, channel: int, connectivity: Connectivity
) -> float | None:
    """Returns how often preprocessed labels have other Betti numbers than the raw ones."""
    changed = pairs = 0
    for case in measured:
        before, after = (case.parts.get((s, space)) for s in (RAW, source))
        if before is None or after is None:
            continue
        for index, raw in before.objects[channel].items():
            resampled = after.objects[channel].get(index)
            pairs += 1
            changed += resampled is None or resampled.betti[connectivity] != raw.betti[connectivity]
    return changed / pairs if pairs else None


def _defined(share: float) -> float | None:
    return None if np.isnan(share) else share
