"""Adds topology metrics to a training's validation: to summary.json, the log and the loggers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2.configuration import default_num_processes

from nnunet_topo.training.context import TrainingContext

if TYPE_CHECKING:
    from nnunet_topo.evaluation.record import Evaluation

UNFINISHED = ".unfinished-validation"
"""Name of a file in the folder of a fold, from the start of its validation to its end."""


def add_topology_metrics(context: TrainingContext, validation: Path, logger: Any) -> None:
    """Adds topology metrics to the summary.json of nnU-Net's validation, and logs them.

    If this fails, the error is logged and nnU-Net's summary does not change.

    Args:
        context: of the training.
        validation: folder of the predictions.
        logger: nnU-Net's.
    """
    # Imported here because it is slow, and nnU-Net imports all trainers when it searches for one.
    from nnunet_topo.evaluation.case import Settings
    from nnunet_topo.evaluation.evaluate import evaluate
    from nnunet_topo.evaluation.words import describe

    def tell(line: str) -> None:
        context.log(f"topology metrics: {line}")

    tell("comparing the validation with its references")
    try:
        done = evaluate(
            context.dataset_folder / "gt_segmentations",
            validation,
            validation / "summary.json",
            context.plans.image_reader_writer_class(),
            context.dataset_json["file_ending"],
            context.label_manager,
            processes=default_num_processes,
            chill=True,
            settings=Settings(connectivity=context.connectivity),
        )
        means = describe(done) if done.evaluated else ["of no case"]
        for line in (*done.problems, *means):
            tell(line)
        if done.evaluated:
            log_means(logger, done)
    except Exception as error:
        tell(f"none, {type(error).__name__}: {error}")


def log_means(logger: Any, evaluation: "Evaluation") -> None:
    """Passes the means of our metrics to nnU-Net's loggers, such as Weights & Biases.

    The names follow nnU-Net's own final_val/class_1_dice. The logger of an older nnU-Net has no
    summaries; then this does nothing.

    Args:
        logger: of nnU-Net's trainer.
        evaluation: of one case or more.
    """
    from nnunet_topo.evaluation.record import PREFIX

    log_summary = getattr(logger, "log_summary", None)
    if log_summary is None:
        return
    classes = {f"class_{label}": means for label, means in evaluation.means.items()}
    for name, means in (*classes.items(), ("foreground", evaluation.foreground_mean)):
        for key, value in means.items():
            if key.startswith(PREFIX):
                log_summary(f"final_val/{name}_{key}", value)
