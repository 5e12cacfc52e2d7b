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


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set, its split and its net.

    Attributes:
        source: folder of the data.
        name: nnU-Net's, here.
        configuration: nnU-Net's.
        batch_size: samples.
        patch_size: voxels, in nnU-Net's order of axes.
        test: gives the cases that are tested; all others train.
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
    test: Callable[[Sequence[str]], Sequence[str]]
    labels: str = "labelsTr"
    pretrained: bool = True
    prior: bool = False
    subject: Callable[[str], str] = field(default=lambda case: case)

    @property
    def number(self) -> str:
        """Returns nnU-Net's number."""
        return str(int(self.name[7:10]))


def _last(count: int) -> Callable[[Sequence[str]], Sequence[str]]:
    return lambda cases: cases[-count:]


def _fold_of_nnunet(cases: Sequence[str]) -> Sequence[str]:
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    return [str(case) for case in generate_crossval_split(cases, seed=12345, n_splits=5)[0]["val"]]


def _child(case: str) -> str:
    return case[:-1]  # the last letter is the eye


def _patient(case: str) -> str:
    return case.split("-IM")[0]


def _last_patients(cases: Sequence[str]) -> Sequence[str]:
    patients = sorted({_patient(case) for case in cases})[-8:]
    return [case for case in cases if _patient(case) in patients]


_MORTAR = ("2d", 6, (128, 128), _last(20))  # the split of the benchmark: 50 train, 20 test
DATA_SETS = {
    "ChaseDB1": DataSet(
        "Dataset101_ChaseDB1",
        "Dataset101_ChaseDB1",
        "2d",
        6,
        (128, 128),
        _last(8),
        subject=_child,
    ),
    "TopoMortar": DataSet(
        "Dataset103_TopoMortar", "Dataset103_TopoMortar", *_MORTAR, pretrained=False
    ),
    "TopoMortar, noisy labels": DataSet(
        *("Dataset103_TopoMortar", "Dataset104_TopoMortarNoisy", *_MORTAR, "labelsNoisyTr"),
        pretrained=False,
    ),
    "TopoMortar, pseudo-labels": DataSet(
        *("Dataset103_TopoMortar", "Dataset105_TopoMortarPseudo", *_MORTAR, "labelsPseudoTr"),
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
        _last_patients,
        prior=True,
        subject=_patient,
    ),
}


def prepare(data_set: DataSet, data: Path, smoke: bool) -> None:
    """Links the data set into nnU-Net's raw folder, plans it, and writes plans of a small net.

    Waits while another process does so.

    Raises:
        RuntimeError: nnU-Net cannot plan it.
        OSError: it is missing.
    """
    from nnunet_topo.locks import release

    folder = Path(os.environ["nnUNet_preprocessed"])  # noqa: SIM112
    lock = f".{data_set.name}.lock"
    _take(folder, lock)
    try:
        if not (folder / data_set.name / "splits_final.json").is_file():
            _prepare(data_set, data, smoke, folder / data_set.name)
    finally:
        release(folder, lock)


def _take(folder: Path, lock: str) -> None:
    from nnunet_topo.locks import hold

    while True:
        try:
            return hold(folder, "experiments.comparison", lock)
        except ValueError:  # another process has it
            time.sleep(WAIT_S)


def _prepare(data_set: DataSet, data: Path, smoke: bool, preprocessed: Path) -> None:
    from nnunet_topo.files import write_whole

    train, test = split(data_set, data, smoke)
    _link(data_set, data, train, test)
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
        _count_training_labels(data_set, train)
    folds = [{"train": train, "val": test}]
    write_whole(preprocessed / "splits_final.json", json.dumps(folds, indent=2))


def _count_training_labels(data_set: DataSet, train: Sequence[str]) -> None:
    """Writes topology.json; a training would count the labels of test cases, too."""
    from nnunet_topo.dataset import Channels, Dataset
    from nnunet_topo.priors.labelled_data import find_labels
    from nnunet_topo.priors.measure import take_fingerprint
    from nnunet_topo.priors.topology_json import FILE, TopologyJson

    dataset = Dataset(data_set.name)
    manager, description = dataset.read_plans(PLANS)
    data = find_labels(manager, description, [])
    data = replace(data, files={case: file for case, file in data.files.items() if case in train})
    unions = Channels.of_manager(manager.get_label_manager(description)).default_unions()
    taken = take_fingerprint(data, unions=unions, processes=1)
    if taken.problems:
        raise RuntimeError(f"{data_set.name}: {'; '.join(taken.problems)}")
    file = dataset.preprocessed / FILE
    TopologyJson(file, taken.to_json()).signed(edited=False).write()


def split(data_set: DataSet, data: Path, smoke: bool) -> tuple[list[str], list[str]]:
    """Returns the cases that train and those that are tested."""
    ending = _ending(data / data_set.source)
    files = (data / data_set.source / "labelsTr").iterdir()
    cases = sorted(f.name.removesuffix(ending) for f in files if f.name.endswith(ending))
    test = list(data_set.test(cases))
    train = [case for case in cases if case not in test]
    return (train[:SMOKE_CASES], test[:SMOKE_CASES]) if smoke else (train, test)


def _ending(folder: Path) -> str:
    return json.loads((folder / "dataset.json").read_text())["file_ending"]


def _link(data_set: DataSet, data: Path, train: Sequence[str], test: Sequence[str]) -> None:
    """Tests on clean labels, whatever trains."""
    source, ending = data / data_set.source, _ending(data / data_set.source)
    raw = Path(os.environ["nnUNet_raw"]) / data_set.name  # noqa: SIM112
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    for case in (*train, *test):
        labels = source / (data_set.labels if case in train else "labelsTr")
        images = source.glob(f"imagesTr/{case}_[0-9][0-9][0-9][0-9]{ending}")
        for file, folder in [
            *((image, "imagesTr") for image in images),
            (labels / f"{case}{ending}", "labelsTr"),
        ]:
            link = raw / folder / file.name
            if not link.is_symlink():
                link.symlink_to(file.resolve())
    description = json.loads((source / "dataset.json").read_text())
    description["numTraining"] = len(train) + len(test)
    (raw / "dataset.json").write_text(json.dumps(description, indent=2))
