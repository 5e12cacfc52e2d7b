"""The options of `nnunet-topo refine`, checked before anything is predicted."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path

from nnunetv2.utilities.utils import create_paths_fn, get_identifiers_from_splitted_dataset_folder

from nnunet_topo.dataset import Union
from nnunet_topo.files import case_files
from nnunet_topo.priors.form import KEY, Form, PriorForm, check_weights
from nnunet_topo.priors.topology_json import FILE, NO_PRIOR, OBJECTS, TopologyJson
from nnunet_topo.refinement.descent import Options
from nnunet_topo.refinement.trained_model import TrainedModel
from nnunet_topo.topology.betti_range import BettiPrior
from nnunet_topo.training.checkpoints import read_origin

_SHOWN = 10  # cases in a message


@dataclass(frozen=True, slots=True)
class Request:
    """What to do with each case.

    Attributes:
        folds: of the model, None for all that have the checkpoint.
        checkpoint: its file name.
        prior: a topology.json, None for the model's own.
        case_priors: a CSV file, see `read_case_priors`.
        options: of the descent; its form is replaced by what follows.
        form: of eq. 3, None for that of the priors.
        dimension_weights: factor of each dimension, None for those of the priors.
        largest_component: keep the largest component of each label, and refine nothing.
        closing: close each label with a ball of this radius in voxels, and refine nothing.
        probabilities: write probabilities too, as nnUNetv2_predict does.
        device: cpu, cuda or mps.
    """

    folds: Sequence[str] | None = None
    checkpoint: str = "checkpoint_final.pth"
    prior: Path | None = None
    case_priors: Path | None = None
    options: Options = field(default_factory=Options)
    form: Form | None = None
    dimension_weights: Sequence[float] | None = None
    largest_component: bool = False
    closing: int | None = None
    probabilities: bool = False
    device: str = "cpu"

    @property
    def is_control(self) -> bool:
        """Returns whether a simple control replaces the refinement."""
        return self.largest_component or self.closing is not None

    def check(self) -> None:
        """Checks the options before any file is read.

        Raises:
            ValueError: an option is wrong, or two of them exclude each other.
        """
        options = self.options
        for name, value in (("--weight", options.weight), ("--lr", options.lr)):
            if not (value > 0 and isfinite(value)):
                raise ValueError(f"{name}: wanted a number above 0, got {value}")
        if options.steps < 1:
            raise ValueError(f"--steps: wanted at least 1, got {options.steps}")
        if self.closing is not None and self.closing < 1:
            raise ValueError(f"--closing: wanted at least 1 voxel, got {self.closing}")
        if self.largest_component and self.closing is not None:
            raise ValueError("--largest-component and --closing: wanted one of the two, got both")
        if self.is_control and self.probabilities:
            raise ValueError(
                "--save_probabilities: --largest-component and --closing change only segmentations"
            )


def find_topology(folder: Path, request: Request) -> TopologyJson | None:
    """Returns the topology.json that is named, or that of the model's folder, None without one.

    Raises:
        ValueError: it is not JSON.
        OSError: it cannot be read.
    """
    file = request.prior or folder / FILE
    return None if request.prior is None and not file.is_file() else TopologyJson.read(file)


def find_priors(
    model: TrainedModel, topology: TopologyJson | None, folder: Path, request: Request
) -> dict[Union, BettiPrior]:
    """Returns the priors in a file, or those of the model.

    Args:
        model: the model that predicts.
        topology: the file, None if there is none.
        folder: of the model, for messages.
        request: says whether priors are needed.

    Raises:
        ValueError: there are no priors, neither for all nor for single cases.
        OSError: the checkpoint cannot be read.
    """
    is_needed = request.case_priors is None and not request.is_control
    if topology is None:
        priors = _priors_in_checkpoint(model.checkpoints[0])
        if not priors and is_needed:
            dataset = model.predictor.plans_manager.dataset_name
            raise ValueError(
                f"there is no prior: {folder} holds no {FILE}. `nnunet-topo plan -d {dataset}` "
                "makes one from the labels, beside the plans: name it with --prior. Or give "
                "--per-case-priors"
            )
        return priors
    space, connectivity = model.space, model.connectivity
    found = topology.priors(model.channels, space=space, connectivity=connectivity)
    wanted = [number for betti in found.channels.values() for number in betti]
    if is_needed and all(number.is_free for number in wanted):
        example = json.dumps({model.channels.names[0]: [1] + [0] * (space - 1)})[1:-1]
        raise ValueError(
            f"no label has a prior: in {topology.file} every prior of {OBJECTS[space]} at "
            f'{connectivity} connectivity is "{NO_PRIOR}" or free, because the training labels do '
            f"not agree on one. Write what you know into it, priors > {connectivity} > "
            f"{OBJECTS[space]} > {example}, or give --per-case-priors. --largest-component needs "
            "no prior"
        )
    classes = len(model.channels)
    return {
        (channel,) if channel < classes else found.unions[channel - classes]: betti
        for channel, betti in found.channels.items()
    }


def find_form(model: TrainedModel, topology: TopologyJson | None, request: Request) -> PriorForm:
    """Returns how the loss is computed: as requested, else as the priors or the model have it.

    Args:
        model: the model that predicts.
        topology: the file, None if there is none.
        request: may ask for form and weights.

    Raises:
        ValueError: it is not a form; the message names the place.
        OSError: the checkpoint cannot be read.
    """
    if topology is not None:
        form = topology.form(model.space)
    else:
        origin = read_origin(model.checkpoints[0])
        form = PriorForm(**({} if origin is None else origin.prior.get(KEY, {})))
    if request.form is not None:
        form = replace(form, form=request.form)
    if (weights := request.dimension_weights) is not None:
        checked = check_weights(list(weights), "--dimension-weights", model.space)
        form = replace(form, dimension_weights=checked)
    return form


def _priors_in_checkpoint(checkpoint: Path) -> dict[Union, BettiPrior]:
    """Returns the priors that the model was trained with, none if it had none."""
    origin = read_origin(checkpoint)
    return {
        tuple(map(int, channels.split("+"))): BettiPrior.from_json(prior, str(checkpoint))
        for channels, prior in ({} if origin is None else origin.prior).items()
        if isinstance(prior, list)
    }


def find_cases(images: Path, ending: str) -> dict[str, list[Path]]:
    """Returns the images of each case, found as nnU-Net does.

    Raises:
        ValueError: there are none.
    """
    if not images.is_dir():
        raise ValueError(f"-i: {images} is not a folder")
    files = [file.name for file in case_files(images, ending)]
    cases = {}
    for case in get_identifiers_from_splitted_dataset_folder(str(images), ending):
        found = create_paths_fn(str(images), files, ending, str(case))
        if found:
            cases[str(case)] = [Path(file) for file in found]
    if not cases:
        raise ValueError(f"-i: {images} holds no image named as case_0000{ending}")
    return cases


def note_unknown_cases(
    named: Collection[str], file: Path, cases: Mapping[str, object], images: Path
) -> str:
    """Returns a note about cases that have a prior but no image, "" if there are none.

    Args:
        named: cases that have a prior.
        file: the CSV file that names them.
        cases: cases that have images.
        images: folder of the images.

    Raises:
        ValueError: no case with a prior has images.
    """
    unknown = sorted(set(named) - cases.keys())
    if not unknown:
        return ""
    listed = ", ".join(unknown[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
    note = f"{file} names cases that are not in {images}: {listed}"
    if len(unknown) == len(named):
        raise ValueError(f"{note}; the cases there are {', '.join(list(cases)[:_SHOWN])}")
    return note
