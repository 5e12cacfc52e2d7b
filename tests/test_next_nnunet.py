"""The nnU-Net after 2.8.1, as its master has it, in classes made of nnU-Net's own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder, load_summary_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.logging.nnunet_logger import MetaLogger

from nnunet_topo.cli import main
from nnunet_topo.evaluation.summary import read_summary
from nnunet_topo.training import checkpoints
from nnunet_topo.training.validation import log_means

from .conftest import Recorder

LATER = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.training.settings import Settings
from nnunet_topo.training.trainer import TopologyTrainerMixin


class Later(nnUNetTrainer):
    def load_checkpoint(self, {argument}):
        super().load_checkpoint({argument})


class nnUNetTrainerLater(TopologyTrainerMixin, Later):
    topology_weight = 0.01
    settings = Settings(epochs=1, iters=1, start=0)
    build_topology_term = lambda self: WassersteinLoss(clamp=0.01)
"""


@pytest.fixture
def later(make_trainer, tmp_path, monkeypatch):
    """Returns a function that makes a trainer over nnU-Net's, its argument named as wanted."""
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))

    def write(argument, **options):
        (tmp_path / "nnUNetTrainerLater.py").write_text(LATER.format(argument=argument))
        return make_trainer("nnUNetTrainerLater", fold=4, **options)

    return write


@pytest.mark.parametrize("argument", ["checkpoint", "filename_or_checkpoint"])
def test_a_checkpoint_is_continued_from_whatever_nnunet_calls_the_argument(later, argument):
    trainer = later(argument)
    trainer.initialize()
    trainer.current_epoch = 1
    file = str(Path(trainer.output_folder) / "checkpoint_final.pth")
    trainer.save_checkpoint(file)
    content = torch.load(file, weights_only=False)
    assert content["trainer_name"] == "nnUNetTrainer"
    again = later(argument, resume=True)
    maybe_load_checkpoint(again, continue_training=True, validation_only=False)
    assert again.current_epoch == 2
    for name in ("checkpoint", "filename_or_checkpoint"):
        again = later(argument)
        again.load_checkpoint(**{name: file})
        assert again.current_epoch == 2
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        later(argument).load_checkpoint(file=file)
    content[checkpoints.OWN_KEY]["settings"] = {}  # which master takes as well as a file
    with pytest.raises(RuntimeError, match=r"with settings \{\}, but this is nnUNetTrainerLater"):
        later(argument).load_checkpoint(content)


@pytest.fixture
def validation(tiny_dataset, nnunet_folders, tmp_path):
    """Returns a folder as a validation leaves it, and what `evaluate` takes to add to it."""
    base = Path(nnunet_folders["nnUNet_preprocessed"]) / "Dataset901_TinyRings"
    references = base / "gt_segmentations"
    for case in (0, 1):
        shutil.copy(references / f"tiny_{case}.nii.gz", tmp_path)
    summary = tmp_path / "summary.json"
    compute_metrics_on_folder(
        str(references),
        str(tmp_path),
        str(summary),
        SimpleITKIO(),
        ".nii.gz",
        [1, 2, 3],
        chill=True,
    )
    files = ("-djfile", str(base / "dataset.json"), "-pfile", str(base / "nnUNetPlansTiny.json"))
    return summary, ("evaluate", str(references), str(tmp_path), *files, "--chill", "-np", "1")


def test_further_metrics_of_nnunet_stay_where_they_are(validation):
    summary, evaluate = validation
    content = json.loads(summary.read_text())
    entries = [entry["metrics"][label] for entry in content["metric_per_case"] for label in "123"]
    means = [content["mean"][label] for label in "123"]
    for number, metrics in enumerate((*entries, *means, content["foreground_mean"])):
        metrics |= {"HD95": 1.5 + number, "ASSD": np.nan if number == 2 else 0.1, "RVE": np.inf}
    summary.write_text(json.dumps(content))
    theirs = load_summary_json(str(summary))
    for _ in range(2):
        assert main(evaluate) == 0
        ours = load_summary_json(str(summary))
        for label, metrics in (*theirs["mean"].items(), (None, theirs["foreground_mean"])):
            found = ours["foreground_mean"] if label is None else ours["mean"][label]
            assert {key: found[key] for key in metrics} == pytest.approx(metrics, nan_ok=True)
            assert "topo_betti_error" in found
        for before, after in zip(theirs["metric_per_case"], ours["metric_per_case"], strict=True):
            for label, metrics in before["metrics"].items():
                kept = {key: after["metrics"][label][key] for key in metrics}
                assert kept == pytest.approx(metrics, nan_ok=True)


def test_nnunets_loggers_are_given_our_means_beside_its_own(validation, tmp_path):
    summary, evaluate = validation
    assert main(evaluate) == 0
    logger = MetaLogger(str(tmp_path), resume=False)
    recorder = Recorder()
    logger.loggers.append(recorder)
    log_means(logger, read_summary(summary))
    content = json.loads(summary.read_text())
    assert recorder.summary["final_val/class_1_topo_betti_matching_error"] == 0
    assert recorder.summary["final_val/foreground_topo_cldice"] == 1
    assert len(recorder.summary) == sum(
        key.startswith("topo_")
        for means in (*content["mean"].values(), content["foreground_mean"])
        for key in means
    )
    log_means(logger.local_logger, read_summary(summary))  # has no summaries, as in older versions
