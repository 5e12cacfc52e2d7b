"""Topology metrics of a training's own validation: into summary.json, the log and the loggers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2.configuration import default_num_processes

if TYPE_CHECKING:
    from nnunet_topo.evaluation.record import Evaluation
    from nnunet_topo.training.trainer import TopologyTrainerMixin


def add_topology_metrics(trainer: "TopologyTrainerMixin") -> None:
    """Merges topology metrics into the summary.json of nnU-Net's validation, and logs them.

    Whatever fails is logged, and nnU-Net's summary stays.
    """
    # Slow to import, and nnU-Net imports all trainers.
    from nnunet_topo.evaluation.case import Settings
    from nnunet_topo.evaluation.evaluate import evaluate
    from nnunet_topo.evaluation.words import describe

    def tell(line: str) -> None:
        trainer.print_to_log_file(f"topology metrics: {line}")

    folder = Path(str(trainer.output_folder)) / "validation"
    tell("comparing the validation with its references")
    try:
        done = evaluate(
            Path(str(trainer.preprocessed_dataset_folder_base)) / "gt_segmentations",
            folder,
            folder / "summary.json",
            trainer.plans_manager.image_reader_writer_class(),
            trainer.dataset_json["file_ending"],
            trainer.label_manager,
            processes=default_num_processes,
            chill=True,
            settings=Settings(connectivity=trainer.settings.connectivity),
        )
        means = describe(done) if done.evaluated else ["of no case"]
        for line in (*done.problems, *means):
            tell(line)
        if done.evaluated:
            log_means(trainer.logger, done)
    except Exception as error:
        tell(f"none, {type(error).__name__}: {error}")


def log_means(logger: Any, evaluation: "Evaluation") -> None:
    """Gives the means of our metrics to nnU-Net's loggers, such as Weights & Biases.

    They stand beside nnU-Net's own final_val/class_1_dice, named in the same way. A logger without
    summaries, of an older nnU-Net, is left alone.

    Args:
        logger: of nnU-Net's trainer.
        evaluation: of one case or more.
    """
    log_summary = getattr(logger, "log_summary", None)
    if log_summary is None:
        return
    labels = {f"class_{label}": means for label, means in evaluation.means.items()}
    for name, means in (*labels.items(), ("foreground", evaluation.foreground_mean)):
        for key, value in means.items():
            if key.startswith("topo_"):
                log_summary(f"final_val/{name}_{key}", value)
