"""Topology metrics of a training's own validation: into summary.json, the log and the loggers."""

from pathlib import Path
from typing import Any

from nnunetv2.configuration import default_num_processes

from nnunet_topo.files import read_json
from nnunet_topo.training.context import TrainingContext


def add_topology_metrics(context: TrainingContext, validation: Path, logger: Any) -> None:
    """Merges topology metrics into the summary.json of nnU-Net's validation, and logs them.

    Whatever fails is logged, and nnU-Net's summary is not changed.

    Args:
        context: of the training.
        validation: folder of the predictions.
        logger: nnU-Net's.
    """
    from nnunet_topo.evaluation import (
        evaluate as evaluation,  # slow to import, and nnU-Net imports all trainers
    )

    def tell(line: str) -> None:
        context.log(f"topology metrics: {line}")

    tell("comparing the validation with its references")
    try:
        done = evaluation.evaluate(
            context.dataset_folder / "gt_segmentations",
            validation,
            validation / "summary.json",
            context.plans.image_reader_writer_class(),
            context.dataset_json["file_ending"],
            context.label_manager,
            processes=default_num_processes,
            chill=True,
            settings=evaluation.Settings(connectivity=context.connectivity),
        )
        means = evaluation.describe(done.summary) if done.cases else ["of no case"]
        for line in (*done.troubles, *means):
            tell(line)
        if done.cases:
            log_means(logger, done.summary, evaluation.PREFIX)
    except Exception as error:
        tell(f"none, {type(error).__name__}: {error}")


def log_means(logger: Any, summary: Path, prefix: str) -> None:
    """Gives the means of our metrics to nnU-Net's loggers, such as Weights & Biases.

    They stand beside nnU-Net's own final_val/class_1_dice and are named in the same way. An older
    nnU-Net, whose logger has no summaries, gets nothing.

    Args:
        logger: of nnU-Net's trainer.
        summary: summary.json with our metrics.
        prefix: of the names of our metrics.
    """
    log_summary = getattr(logger, "log_summary", None)
    if log_summary is None:
        return
    content = read_json(summary)
    classes = {f"class_{label}": means for label, means in content["mean"].items()}
    for name, means in (*classes.items(), ("foreground", content["foreground_mean"])):
        for key, value in means.items():
            if key.startswith(prefix):
                log_summary(f"final_val/{name}_{key}", value)
