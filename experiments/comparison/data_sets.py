"""The data sets of the comparison: how they are split, and the small nets that train on them."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from experiments.shared import call
from tests.small_plans import shrink

PLANS = "nnUNetPlansComparison"
FEATURES = [16, 32, 64]  # of the stages of each net
WAIT_S = 1.0  # while another process prepares a data set
SMOKE_CASES = 4  # to train and to test, where only the way is tried
SPLITS = "splits_final.json"
Folds = list[dict[str, list[str]]]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set, its split and its net.

    Attributes:
        source: folder of the data.
        name: nnU-Net's, here.
        configuration: nnU-Net's.
        batch_size: samples.
        patch_size: voxels, in nnU-Net's order of axes.
        folds: gives the cases that each fold tests; all others train.
        left_out: number of cases at the end that neither train nor are tested.
        labels: folder of the labels that train.
        pretrained: whether arms start from a trained stock model; otherwise from scratch.
        prior: whether the Betti numbers of a label are known.
        subject: gives what a case was taken from. Its cases are not independent.
    """

    source: str
    name: str
    configuration: str
    batch_size: int
    patch_size: Sequence[int]
    folds: Callable[[Sequence[str]], Sequence[Sequence[str]]]
    left_out: int = 0
    labels: str = "labelsTr"
    pretrained: bool = True
    prior: bool = False
    subject: Callable[[str], str] = field(default=lambda case: case)

    @property
    def number(self) -> str:
        """Returns nnU-Net's number."""
        return str(int(self.name[7:10]))


def _last(count: int) -> Callable[[Sequence[str]], Sequence[Sequence[str]]]:
    return lambda cases: [cases[-count:]]


def _halves_by(
    subject: Callable[[str], str],
) -> Callable[[Sequence[str]], Sequence[Sequence[str]]]:
    """Gives each second subject to the other half; the names of some data sets tell the disease."""

    def halves(cases: Sequence[str]) -> Sequence[Sequence[str]]:
        subjects = sorted({subject(case) for case in cases})
        return [[case for case in cases if subject(case) in subjects[i::2]] for i in (0, 1)]

    return halves


def _fold_of_nnunet(cases: Sequence[str]) -> Sequence[Sequence[str]]:
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    first = generate_crossval_split(cases, seed=12345, n_splits=5)[0]
    return [[str(case) for case in first["val"]]]


def _child(case: str) -> str:
    return case[:-1]  # the last letter is the eye


def _patient(case: str) -> str:
    return case.split("-IM")[0]


_EYES = ("2d", 6, (128, 128))
_MORTAR = ("2d", 6, (128, 128), _last(20))  # the split of the benchmark: 50 train, 20 test
_MORTAR_DATA = "Dataset103_TopoMortar"
DATA_SETS = {
    "ChaseDB1, 4 children": DataSet(
        "Dataset101_ChaseDB1", "Dataset101_ChaseDB1", *_EYES, _last(8), subject=_child
    ),
    "ChaseDB1": DataSet(
        "Dataset101_ChaseDB1",
        "Dataset106_ChaseDB1Halves",
        *_EYES,
        _halves_by(_child),
        subject=_child,
    ),
    "TopoMortar, training images": DataSet(
        *(_MORTAR_DATA, "Dataset107_TopoMortarTraining", *_MORTAR),
        left_out=20,
        pretrained=False,
    ),
    "TopoMortar": DataSet(_MORTAR_DATA, _MORTAR_DATA, *_MORTAR, pretrained=False),
    "TopoMortar, noisy labels": DataSet(
        *(_MORTAR_DATA, "Dataset104_TopoMortarNoisy", *_MORTAR),
        labels="labelsNoisyTr",
        pretrained=False,
    ),
    "TopoMortar, pseudo-labels": DataSet(
        *(_MORTAR_DATA, "Dataset105_TopoMortarPseudo", *_MORTAR),
        labels="labelsPseudoTr",
        pretrained=False,
    ),
    "Hippocampus": DataSet(
        "Dataset004_Hippocampus",
        "Dataset004_Hippocampus",
        "3d_fullres",
        4,
        (24, 32, 24),
        _fold_of_nnunet,
        prior=True,
    ),
    "Sunnybrook": DataSet(
        "Dataset102_SunnybrookLV",
        "Dataset102_SunnybrookLV",
        "2d",
        6,
        (128, 128),
        _halves_by(_patient),
        prior=True,
        subject=_patient,
    ),
}


def prepare(data_set: DataSet, data: Path, smoke: bool) -> None:
    """Links the data set into nnU-Net's raw folder, plans it, and writes plans of a small net.

    Waits while another process does so.

    Raises:
        RuntimeError: nnU-Net cannot plan it, or it was prepared with other folds.
        OSError: it is missing.
    """
    from nnunet_topo.locks import release

    folder = Path(os.environ["nnUNet_preprocessed"])  # noqa: SIM112
    lock = f".{data_set.name}.lock"
    _take(folder, lock)
    try:
        folds, written = split(data_set, data, smoke), folder / data_set.name / SPLITS
        if not written.is_file():
            _prepare(data_set, data, folds, folder / data_set.name)
        elif json.loads(written.read_text()) != folds:
            raise RuntimeError(f"{written} has other folds than {data_set.name} now has")
    finally:
        release(folder, lock)


def _take(folder: Path, lock: str) -> None:
    from nnunet_topo.locks import hold

    while True:
        try:
            return hold(folder, "experiments.comparison", lock)
        except ValueError:  # another process has it
            time.sleep(WAIT_S)


def _prepare(data_set: DataSet, data: Path, folds: Folds, preprocessed: Path) -> None:
    from nnunet_topo.files import write_whole

    _link(data_set, data, folds)
    call(
        "nnUNetv2_plan_and_preprocess",
        *("-d", data_set.number, "-c", data_set.configuration, "-np", "1", "-npfp", "1"),
        log=preprocessed.parent / f"{data_set.name}.log",
        nnUNet_n_proc_DA="1",  # nnU-Net's planning takes no 0
    )
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    plans["plans_name"] = PLANS
    chosen = plans["configurations"][data_set.configuration]
    shrink(chosen, FEATURES)
    norm = f"torch.nn.modules.batchnorm.BatchNorm{len(data_set.patch_size)}d"
    chosen["architecture"]["arch_kwargs"]["norm_op"] = norm
    chosen |= {"batch_size": data_set.batch_size, "patch_size": list(data_set.patch_size)}
    write_whole(preprocessed / f"{PLANS}.json", json.dumps(plans, indent=2))
    if data_set.prior:
        _count_training_labels(data_set, folds)
    write_whole(preprocessed / SPLITS, json.dumps(folds, indent=2))


def _count_training_labels(data_set: DataSet, folds: Folds) -> None:
    """Writes topology.json; a training would count the labels of test cases, too.

    Raises:
        RuntimeError: a label cannot be counted, or folds have other priors: nnU-Net's folds share
            the file.
    """
    from nnunet_topo.dataset import Channels, Dataset
    from nnunet_topo.priors.labelled_data import find_labels
    from nnunet_topo.priors.measure import take_fingerprint
    from nnunet_topo.priors.topology_json import FILE, TopologyJson

    dataset = Dataset(data_set.name)
    manager, description = dataset.read_plans(PLANS)
    data = find_labels(manager, description, [])
    unions = Channels.of_manager(manager.get_label_manager(description)).default_unions()
    found = []
    for fold in folds:
        files = {case: file for case, file in data.files.items() if case in fold["train"]}
        taken = take_fingerprint(replace(data, files=files), unions=unions, processes=1)
        if taken.problems:
            raise RuntimeError(f"{data_set.name}: {'; '.join(taken.problems)}")
        found.append(taken.to_json())
    if any(of_fold["priors"] != found[0]["priors"] for of_fold in found):
        raise RuntimeError(f"{data_set.name}: the training cases of its folds have other priors")
    TopologyJson(dataset.preprocessed / FILE, found[0]).signed(edited=False).write()


def split(data_set: DataSet, data: Path, smoke: bool) -> Folds:
    """Returns the cases that train and those that are tested, of each fold, as nnU-Net has them."""
    ending = _ending(data / data_set.source)
    files = (data / data_set.source / "labelsTr").iterdir()
    cases = sorted(f.name.removesuffix(ending) for f in files if f.name.endswith(ending))
    cases = cases[: len(cases) - data_set.left_out]
    folds = []
    for tested in data_set.folds(cases):
        train, test = [case for case in cases if case not in tested], list(tested)
        if smoke:
            train, test = train[:SMOKE_CASES], test[:SMOKE_CASES]
        folds.append({"train": train, "val": test})
    return folds


def _ending(folder: Path) -> str:
    return json.loads((folder / "dataset.json").read_text())["file_ending"]


def _link(data_set: DataSet, data: Path, folds: Folds) -> None:
    """Tests on clean labels, whatever trains."""
    source, ending = data / data_set.source, _ending(data / data_set.source)
    raw = Path(os.environ["nnUNet_raw"]) / data_set.name  # noqa: SIM112
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    tested = {case for fold in folds for case in fold["val"]}
    cases = tested.union(*(fold["train"] for fold in folds))
    for case in sorted(cases):
        labels = source / ("labelsTr" if case in tested else data_set.labels)
        images = source.glob(f"imagesTr/{case}_[0-9][0-9][0-9][0-9]{ending}")
        for file, folder in [
            *((image, "imagesTr") for image in images),
            (labels / f"{case}{ending}", "labelsTr"),
        ]:
            link = raw / folder / file.name
            if not link.is_symlink():
                link.symlink_to(file.resolve())
    description = json.loads((source / "dataset.json").read_text())
    description["numTraining"] = len(cases)
    (raw / "dataset.json").write_text(json.dumps(description, indent=2))
