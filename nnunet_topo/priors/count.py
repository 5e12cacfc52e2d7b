"""Counts the Betti numbers of the labels of one case, in its volume and in each slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_topo.images.segmentation import NotALabelMapError, read_segmentation
from nnunet_topo.labels.values import describe_unknown_labels, distinct_values, refuse_values
from nnunet_topo.messages import one_line
from nnunet_topo.priors.fingerprint import CONNECTIVITIES, RAW, Betti
from nnunet_topo.priors.labelled_data import LabelledData
from nnunet_topo.topology import Connectivity, betti_numbers
from nnunet_topo.topology.masks import foreground_box


@dataclass(frozen=True, slots=True)
class Case:
    """What a process needs to count the labels of a case.

    Attributes:
        name: of the case.
        file: label file, None if there are only preprocessed labels.
        data: the data set.
        members: labels of each class, region and union.
    """

    name: str
    file: Path | None
    data: LabelledData
    members: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class LabelObject:
    """One class, region or union in one volume or slice.

    Attributes:
        betti: Betti numbers at each connectivity.
        at_border: whether it touches the border of the image.
        beside_ignored: whether it touches ignored voxels.
    """

    betti: Mapping[Connectivity, Betti]
    at_border: bool
    beside_ignored: bool


@dataclass(frozen=True, slots=True)
class LabelObjects:
    """The objects in the volume of a case, or in its slices.

    Attributes:
        parts: number of slices, 1 for the volume.
        channels: of each class, region and union, the objects by slice number.
    """

    parts: int
    channels: tuple[Mapping[int, LabelObject], ...]


@dataclass(frozen=True, slots=True)
class CountedCase:
    """The objects of a case.

    Attributes:
        name: of the case.
        objects: by source ("raw" or a configuration) and axes (3 for the volume, 2 for slices).
        problems: what went wrong, one line each.
    """

    name: str
    objects: Mapping[tuple[str, int], LabelObjects]
    problems: tuple[str, ...] = ()


def count_case(case: Case) -> CountedCase:
    """Returns the objects of a case; an error is recorded as a problem."""
    objects: dict[tuple[str, int], LabelObjects] = {}
    problems: list[str] = []
    for source in (RAW, *case.data.preprocessed):
        try:
            label_map, first = _read_labels(case, source, problems)
            for space in counted_spaces(case.data, source):
                objects[source, space] = _count_label_map(case, label_map, first, space)
        except NotALabelMapError as error:
            problems.append(f"{case.name}: not measured, {error}")
        except Exception as error:  # whatever the readers raise
            what = "labels" if source == RAW else f"preprocessed labels ({source})"
            problems.append(
                f"{case.name}: not measured, the {what} cannot be read: {one_line(error)}"
            )
    return CountedCase(case.name, objects, tuple(problems))


def case_of_killed_process(case: Case) -> CountedCase:
    """Returns a case without objects, and the problem that its process was killed."""
    return CountedCase(case.name, {}, (f"{case.name}: its process was killed; too little memory?",))


def counted_spaces(data: LabelledData, source: str) -> tuple[int, ...]:
    """Returns 3 if volumes of a source are counted, and 2 if slices are."""
    if source != RAW:
        return (data.preprocessed[source].space,)
    return (3, 2) if data.has_volumes else (2,)


def _read_labels(case: Case, source: str, problems: list[str]) -> tuple[NDArray, int]:
    """Returns a label map `[z, y, x]` as nnU-Net turns it, and the number of its first slice."""
    data = case.data
    if source != RAW:
        preprocessed = data.preprocessed[source]
        dataset = preprocessed.dataset_class(preprocessed.folder, [case.name])
        _, segmentation, _, properties = dataset.load_case(case.name)
        check_one_label_map(segmentation)
        return np.asarray(segmentation[0]), int(properties["bbox_used_for_cropping"][0][0])
    if case.file is None:
        raise ValueError("only preprocessed labels exist")
    try:
        label_map = read_segmentation(data.reader, case.file).label_map
    except NotALabelMapError as error:
        raise NotALabelMapError(f"{case.file} is not a label map: {error}") from None
    labels, values = data.labels, distinct_values(label_map)
    photograph = isinstance(data.reader, NaturalImage2DIO)
    refused = refuse_values(values, labels, values, photograph=photograph)
    if refused:
        raise NotALabelMapError(f"{case.file} {refused}")
    ignored = () if labels.ignore is None else (labels.ignore,)
    unknown = describe_unknown_labels(values, (*labels.known, *ignored))
    if unknown:
        problems.append(f"{case.name}: the label file {unknown}")
    return label_map.transpose(data.transpose), 0


def _count_label_map(case: Case, label_map: NDArray, first: int, space: int) -> LabelObjects:
    """Returns all objects of a label map, taken as a whole or slice by slice."""
    ignore = case.data.labels.ignore
    ignored = None if ignore is None else label_map == ignore
    channels = []
    for labels in case.members:
        mask = np.isin(label_map, labels)
        if space == 3:
            found = [_count_mask(mask, ignored)]
        else:
            of_slices = [None] * len(mask) if ignored is None else ignored
            found = [_count_mask(*both) for both in zip(mask, of_slices, strict=True)]
        channels.append(_objects_by_slice(found, 0 if space == 3 else first))
    return LabelObjects(1 if space == 3 else len(label_map), tuple(channels))


def _objects_by_slice(found: Sequence[LabelObject | None], first: int) -> dict[int, LabelObject]:
    return {index: one for index, one in enumerate(found, first) if one is not None}


def _count_mask(mask: NDArray[np.bool_], ignored: NDArray[np.bool_] | None) -> LabelObject | None:
    """Returns the object in a mask, None if the mask is empty."""
    box = foreground_box(mask)
    if box[0].stop == 0:
        return None
    beside_ignored = False
    if ignored is not None:
        wider = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        corners = np.ones((3,) * mask.ndim, bool)
        beside_ignored = bool(
            (ndimage.binary_dilation(mask[wider], corners) & ignored[wider]).any()
        )
    return LabelObject(
        betti={c: betti_numbers(mask[box], connectivity=c) for c in CONNECTIVITIES},
        at_border=any(
            side.start == 0 or side.stop == length
            for side, length in zip(box, mask.shape, strict=True)
        ),
        beside_ignored=beside_ignored,
    )


def check_one_label_map(segmentation: NDArray) -> None:
    """Raises ValueError where nnU-Net has preprocessed several channels as the labels of a case."""
    if len(segmentation) > 1:
        raise ValueError(
            f"its preprocessed labels have {len(segmentation)} channels: the label file holds more "
            "than one label map, such as a colour image"
        )
