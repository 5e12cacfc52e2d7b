"""One run: a training by nnUNetv2_train, its post-processing, its metrics."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

from experiments.comparison.arms import ARMS, CONTROL, Run, base
from experiments.comparison.code import UNKNOWN, code_digest
from experiments.comparison.data_sets import DATA_SETS, PLANS, DataSet, prepare, split
from experiments.comparison.repairs import corrected, refined
from experiments.shared import call
from nnunet_topo.locks import hold, release

LOCK = ".comparison.lock"  # nnU-Net's trainers have none, and ours take it later
# nnUNetv2_train in one thread. On a CPU it asks for a thread for each core, and beside other
# programs such threads wait for each other most of the time.
TRAIN = """
import multiprocessing
from nnunetv2.run.run_training import run_training_entry
multiprocessing.cpu_count = lambda: 1
run_training_entry()
"""
PRIMARY = "topo_betti_matching_error"
METRICS = (
    "Dice",
    PRIMARY,
    "topo_betti_error_0",
    "topo_betti_error_1",
    "topo_betti_error_2",
    "topo_cldice",
    "topo_hd95_mm",
)
DIGITS = 5
SMOKE_STEPS = 2  # of a refinement, where only the way is tried
Repair = Callable[..., Any]  # of a model, its data set and a folder; gives a model and problems


class InUseError(Exception):
    """Another process works in the folders of a run."""


def carry_out(run: Run, data: Path, work: Path, smoke: bool) -> dict[str, Any]:
    """Returns the record of a run; of a failed one with the reason.

    Raises:
        InUseError: another process does the same; that is not a failure of the run.
    """
    data_set, arm = DATA_SETS[run.data_set], ARMS[run.arm]
    trainer = arm.trainer(run.seed, data_set.pretrained, smoke)
    record: dict[str, Any] = {
        "data_set": run.data_set,
        "arm": run.arm,
        "seed": run.seed,
        "trainer": trainer,
    }
    place = work / "evaluation" / data_set.name / trainer
    try:
        hold(place, "experiments.comparison", LOCK)
        prepare(data_set, data, smoke)
        folds = [str(fold) for fold in range(len(split(data_set, data, smoke)))]
        start = base(run.seed, smoke)
        code = _train(data_set, start, folds, work) if data_set.pretrained else []
        code += _train(data_set, trainer, folds, work, NNUNET_TOPO_FINETUNE_FROM=start)
        began, measured_by = time.monotonic(), code_digest()
        repairs = _repairs(data_set, run.arm == CONTROL, SMOKE_STEPS if smoke else None)
        record |= _measure(data_set, trainer, folds, place, repairs)
        record["seconds"].append(round(time.monotonic() - began))
        record["code"] = sorted({*code, measured_by})
    except (RuntimeError, ValueError, OSError) as error:
        told = " ".join(str(error).split())
        if " is in use: " in told:
            raise InUseError(told) from error
        record["failed"] = told
    finally:
        release(place, LOCK)
    return record


def _train(
    data_set: DataSet, trainer: str, folds: Sequence[str], work: Path, **environment: str
) -> list[str]:
    """Trains and validates, or does what is left of it; returns the digests of the code."""
    folder = work / "results" / data_set.name / f"{trainer}__{PLANS}__{data_set.configuration}"
    code = []
    for fold in folds:
        log = work / "logs" / data_set.name / f"{trainer}_{fold}.log"
        hold(folder / f"fold_{fold}", "experiments.comparison", LOCK)
        try:
            asked = data_set.number, data_set.configuration, fold, "-tr", trainer, "-p", PLANS
            code += _train_fold(asked, folder / f"fold_{fold}", log, environment)
        finally:
            release(folder / f"fold_{fold}", LOCK)
    return code


def _train_fold(
    asked: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str]
) -> list[str]:
    used = log.with_suffix(".code")
    is_trained = (folder / "checkpoint_final.pth").is_file()
    if not (is_trained and (folder / "validation/summary.json").is_file()):
        earlier = _lines(used) if is_trained else []
        log.parent.mkdir(parents=True, exist_ok=True)
        used.write_text("\n".join([*earlier, code_digest()]))
        call(
            *(sys.executable, "-c", TRAIN, *asked),
            *("-device", "cpu", *(["--val"] if is_trained else [])),
            log=log,
            **environment,
        )
    return _lines(used)


def _lines(file: Path) -> list[str]:
    return file.read_text().split() if file.is_file() else [UNKNOWN]


def _repairs(data_set: DataSet, is_control: bool, steps: int | None) -> dict[str, Repair]:
    """Returns what repairs predictions by a prior; refinement takes too long for all arms."""
    if not data_set.prior:
        return {}
    return {"corrected": corrected} | (
        {"refined": partial(refined, steps=steps)} if is_control else {}
    )


def _measure(
    data_set: DataSet,
    trainer: str,
    folds: Sequence[str],
    output: Path,
    repairs: Mapping[str, Repair],
) -> dict[str, Any]:
    """Returns the metrics of each case, as predicted, post-processed and after each repair.

    The steps of post-processing for a case are chosen on other cases.
    """
    from nnunet_topo.commands.comparison import versions
    from nnunet_topo.commands.comparison_steps import process_models
    from nnunet_topo.evaluation.case import Settings
    from nnunet_topo.evaluation.models import evaluate_model
    from nnunet_topo.evaluation.results import find_trainings
    from nnunet_topo.evaluation.training_record import read_training

    study = find_trainings(data_set.name, data_set.configuration, PLANS, [trainer], folds)
    settings = Settings()  # one connectivity for all arms
    found, notes, problems = process_models(
        study,
        lambda _: output / "steps",
        metric=PRIMARY,
        settings=settings,
        processes=1,
        patient=lambda file: data_set.subject(_case(file)),
    )
    if not found:
        raise ValueError("; ".join(notes))
    names = [key for key in METRICS if not key.endswith(f"_{len(data_set.patch_size)}")]
    record: dict[str, Any] = {"steps": found[0].steps, "metrics": names, "cases": {}}
    models = {"predicted": study.models[0], "processed": found[0].model}
    for name, repair in repairs.items():
        models[name], failed = repair(study.models[0], data_set, output / f"{name}-files")
        problems += failed
    for name, model in models.items():
        evaluated = evaluate_model(study, model, output / name, processes=1, settings=settings)
        problems += evaluated.problems
        for case, metrics in sorted(evaluated.cases.items()):
            record["cases"].setdefault(_case(case), {})[name] = {
                label: [_number(of_label[key]) for key in names]
                for label, of_label in metrics.labels.items()
            }
    if problems:
        raise ValueError("; ".join(problems))
    trained = [read_training(study.models[0].trainings[fold]) for fold in folds]
    curves = [training.curves for training in trained if training is not None]
    assert len(curves) == len(folds)  # or there would be no validation
    record["seconds"] = [round(sum(_seconds(of_fold) for of_fold in curves))]
    record["weight"] = [
        [_number(weight) for weight in of_fold.get("topology_weight", [])] for of_fold in curves
    ]
    record["versions"] = versions()
    return record


def _seconds(curves: Mapping[str, Sequence[float]]) -> float:
    epochs = zip(curves["epoch_start_timestamps"], curves["epoch_end_timestamps"], strict=True)
    return sum(end - start for start, end in epochs)


def _case(file: str) -> str:
    return file.split(".")[0]


def _number(value: float) -> float | None:
    return None if isnan(value) else float(f"{value:.{DIGITS}g}")
