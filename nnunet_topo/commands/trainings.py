"""Several trainers on several folds: what there is to train, by nnU-Net's own command."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_topo.dataset import Dataset, read_plans_file
from nnunet_topo.files import case_files, read_json
from nnunet_topo.images.readers import known_ending, probabilities_file
from nnunet_topo.training.checkpoints import FINAL, has_checkpoint
from nnunet_topo.training.checks import check_previous_stage
from nnunet_topo.training.lookup import find_trainer
from nnunet_topo.training.splits import cases_of_fold, check_folds, read_fold
from nnunet_topo.training.starting_weights import find_stock_training
from nnunet_topo.training.validation import UNFINISHED
from nnunet_topo.unlabeled.check import check_unlabeled
from nnunet_topo.unlabeled.record import digest_of_plan, unlabeled_folder
from nnunet_topo.unlabeled.semi_supervised import SemiSupervisedTrainerMixin


@dataclass(frozen=True, slots=True)
class Training:
    """One fold of one trainer.

    Attributes:
        trainer: its name.
        fold: its number.
        folder: nnU-Net's, of checkpoints and validation.
        command: nnUNetv2_train and its arguments.
        starts_from: checkpoint of the finished training whose weights it starts with, None for
            random weights, and where it only has to be resumed.
    """

    trainer: str
    fold: str
    folder: Path
    command: tuple[str, ...]
    starts_from: Path | None = None

    def waits_for(self, others: Sequence["Training"]) -> bool:
        """Returns whether it starts from one of these trainings."""
        return any(self.starts_from == other.folder / FINAL for other in others)

    @property
    def lacks_start(self) -> bool:
        """Returns whether the training that it starts from is not finished."""
        return self.starts_from is not None and not self.starts_from.is_file()

    @property
    def summary(self) -> Path:
        """Returns the file that a validation ends with."""
        return self.folder / "validation" / "summary.json"

    def dice(self) -> float | None:
        """Returns the mean Dice of the validation, None if training or validation is unfinished.

        With --npz, a validation without probabilities is unfinished.

        Raises:
            ValueError: the summary is not one of nnU-Net's.
        """
        if not (self.folder / FINAL).is_file():
            return None
        if (self.folder / UNFINISHED).exists():
            return None
        try:
            content = read_json(self.summary)
        except (OSError, ValueError):  # missing or cut short
            return None
        if "--npz" in self.command and not self._has_probabilities():
            return None
        try:
            return float(content["foreground_mean"]["Dice"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{self.summary} is not an nnU-Net summary: it has no Dice in foreground_mean"
            ) from None

    def _has_probabilities(self) -> bool:
        predictions = filter(known_ending, self.summary.parent.iterdir())
        return all(probabilities_file(prediction).is_file() for prediction in predictions)


def choose_trainings(
    dataset: str,
    configuration: str,
    plans: str,
    trainers: Sequence[str],
    folds: Sequence[str],
    options: Sequence[str] = (),
) -> list[Training]:
    """Returns all trainings, fold by fold, so that trainers can be compared early.

    Those that start from a finished training come last in each fold.

    Args:
        dataset: name or number.
        configuration: such as 3d_fullres.
        plans: such as nnUNetPlans.
        trainers: names, ours or others that nnU-Net finds.
        folds: their numbers.
        options: more arguments for nnUNetv2_train.

    Raises:
        ValueError: nnU-Net would stop, perhaps after days, for example at a misspelt trainer, or
            at a trainer that starts from a training which is neither finished nor among these, or
            where the segmentations of the first stage of a cascade are missing.
    """
    for path in (nnUNet_results, nnUNet_preprocessed):
        if path.get() is None:
            raise ValueError("nnUNet_results and nnUNet_preprocessed must be set, as for nnU-Net")
    name = Dataset.find(dataset).name
    preprocessed = Path(str(nnUNet_preprocessed)) / name
    data = _check_plans(preprocessed, configuration, plans)
    if len(set(trainers)) < 2:
        raise ValueError(f"wanted two trainers to compare, got {', '.join(trainers)}")
    # The fold "all" leaves no case for a validation.
    check_folds(preprocessed, data, folds, number=Dataset(name).number)
    finetuned = [trainer for trainer in trainers if _finetunes(find_trainer(trainer))]
    results = Path(str(nnUNet_results)) / name
    of_plans = ("-p", plans, *options)
    scratch = [trainer for trainer in trainers if trainer not in finetuned]
    trainings = []
    for fold in dict.fromkeys(folds):
        for trainer in dict.fromkeys([*scratch, *finetuned]):
            folder = results / f"{trainer}__{plans}__{configuration}" / f"fold_{fold}"
            command = ("nnUNetv2_train", name, configuration, fold, "-tr", trainer, *of_plans)
            source = None
            if trainer in finetuned and not has_checkpoint(folder):
                source = _source(folder, scratch)
            trainings.append(Training(trainer, fold, folder, command, source))
    unfinished = [training for training in trainings if training.dice() is None]
    _check_inputs(unfinished, preprocessed / f"{plans}.json", configuration, data)
    return trainings


def patients_of_folds(
    dataset: str,
    configuration: str,
    plans: str,
    folds: Sequence[str],
    patients: Callable[[str], str],
) -> tuple[set[str], set[str]]:
    """Returns all patients of some folds, and those on whom one trains and is validated.

    Args:
        dataset: name or number; it and the next three as `choose_trainings` has checked them.
        configuration: such as 3d_fullres.
        plans: such as nnUNetPlans.
        folds: their numbers.
        patients: gives the patient of a case.

    Raises:
        ValueError: a case is of no patient.
    """
    preprocessed = Path(str(nnUNet_preprocessed)) / Dataset.find(dataset).name
    data = _check_plans(preprocessed, configuration, plans)
    known, divided = set(), set()
    for fold in folds:
        train, val = ({patients(case) for case in of} for of in read_fold(preprocessed, data, fold))
        known |= train | val
        divided |= train & val
    return known, divided


def _check_inputs(
    trainings: Sequence[Training], plans: Path, configuration: str, data: Path
) -> None:
    """Checks that trainings have what they need besides labelled cases.

    Args:
        trainings: that are not finished.
        plans: file of the plans.
        configuration: of the trainings.
        data: folder of its preprocessed cases.

    Raises:
        ValueError: unlabelled images, or the segmentations of the first stage of a cascade, are
            missing.
    """
    manager = PlansManager(read_plans_file(plans))
    chosen = manager.get_configuration(configuration)
    previous, name = chosen.previous_stage_name, ""
    try:
        for name in dict.fromkeys(training.trainer for training in trainings):
            if not issubclass(find_trainer(name), SemiSupervisedTrainerMixin):
                continue
            if previous is not None:
                raise ValueError(
                    f"{name}: unlabelled images have no segmentation of a previous stage, which "
                    f"{configuration} needs; train its first stage instead, {previous}"
                )
            labelled = infer_dataset_class(str(data)).get_identifiers(str(data))
            check_unlabeled(unlabeled_folder(data), set(labelled), digest_of_plan(manager, chosen))
        for training in trainings if previous is not None else ():
            name = training.trainer
            first = training.folder.parent.with_name(f"{name}__{manager.plans_name}__{previous}")
            check_previous_stage(
                first / "predicted_next_stage" / configuration,
                cases_of_fold(plans.parent, data, training.fold),
                trainer=name,
                configuration=configuration,
                previous=str(previous),
                fold=training.fold,
            )
    except RuntimeError as error:
        raise ValueError(f"{name}: {error}") from None


def _finetunes(trainer: type) -> bool:
    return getattr(getattr(trainer, "settings", None), "finetune", False)


def _source(folder: Path, planned: Sequence[str]) -> Path:
    try:
        return find_stock_training(folder, planned)
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def _check_plans(preprocessed: Path, configuration: str, plans: str) -> Path:
    """Returns the folder of preprocessed cases.

    Raises:
        ValueError: something is not planned or preprocessed, or plans have another name.
    """
    number, file = Dataset(preprocessed.name).number, preprocessed / f"{plans}.json"
    cure = f"nnUNetv2_plan_and_preprocess -d {number} -c {configuration} makes nnUNetPlans"
    if not file.is_file():
        found = sorted(other.stem for other in preprocessed.glob("*lans*.json"))
        raise ValueError(f"{file} is missing; there are {', '.join(found) or 'no plans'}; {cure}")
    content = read_json(file)
    named = content.get("plans_name"), content.get("dataset_name")
    if named != (plans, preprocessed.name):
        raise ValueError(
            f"{file} calls itself {named[0]} of {named[1]}, so nnU-Net would train into the folder "
            "of those plans; correct plans_name and dataset_name in it"
        )
    known = content.get("configurations", {})
    if configuration not in known:
        raise ValueError(f"{file} has no {configuration}; it has {', '.join(known) or 'none'}")
    try:
        data = preprocessed / PlansManager(content).get_configuration(configuration).data_identifier
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} is not an nnU-Net plans file: {error} is missing") from None
    if not case_files(data, ""):
        raise ValueError(
            f"{data} is missing or empty: nnUNetv2_preprocess -d {number} -c {configuration} "
            f"-plans_name {plans} preprocesses the images"
        )
    return data
