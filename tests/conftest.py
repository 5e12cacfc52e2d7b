"""Shared fixtures: a tiny data set that nnU-Net itself plans, preprocesses and trains on."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
from hypothesis import Phase, settings
from jaxtyping import install_import_hook

from . import small_plans

# Threads that wait without computing leave the cores to other programs. OpenMP reads it when torch
# is loaded, which the lines above have not done.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

install_import_hook(["nnunet_topo.losses", "nnunet_topo.metrics"], "beartype.beartype")

settings.register_profile("shared-machine", deadline=None)
# What a test notices must not depend on luck: the same examples each time.
settings.register_profile(
    "first-failure",
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    derandomize=True,
    database=None,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "shared-machine"))

# Each spawned worker of nnU-Net imports torch: one is enough for tiny cases.
FEW_WORKERS = {
    "nnUNet_def_n_proc": "1",
    "nnUNet_n_proc_DA": "0",
    "nnUNet_npp": "1",
    "nnUNet_nps": "1",
}
os.environ.update(FEW_WORKERS)


def run(*command: str, env: dict[str, str] | None = None, fails: bool = False) -> str:
    """Runs a command of this Python environment and returns what it printed."""
    executable = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [str(executable), *command[1:]],
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, f"{command} returned {done.returncode}:\n{printed}"
    return printed


def tiny_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns image and labels, 22 x 26 x 30: a ring (1) and a blob (2) in noise."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((22, 26, 30)) - rng.uniform(-1, 1, (3, 1, 1, 1))
    labels = np.zeros((22, 26, 30), dtype=np.uint8)
    radius = np.hypot(y - 12, x - 11)
    labels[(np.abs(z - 9) < 2) & (np.abs(radius - 6) < 1.7)] = 1
    labels[(z - 15) ** 2 + (y - 14) ** 2 + (x - 23) ** 2 < 16] = 2
    image = 2.0 * (labels == 1) + 3.5 * (labels == 2) + rng.normal(0, 0.4, labels.shape)
    return image.astype(np.float32), labels


class Recorder:
    """A logger as MetaLogger bundles them, such as nnU-Net's for Weights & Biases."""

    def __init__(self):
        self.summary = {}

    def update_config(self, config):
        pass

    def log(self, key, value, step):
        pass

    def log_summary(self, key, value):
        self.summary[key] = value


@pytest.fixture
def unchecked():
    """Switches off the tests' own shape checks, as they are for a user."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def nnunet_folders(tmp_path_factory) -> dict[str, str]:
    """Sets nnU-Net's environment variables to fresh folders and returns them."""
    fresh = tmp_path_factory.mktemp("nnunet")
    # Preprocessed data of an earlier run may be used again; results never.
    kept = Path(os.environ.get("NNUNET_TOPO_TEST_DATA", fresh))
    folders = {f"nnUNet_{name}": str(kept / name) for name in ("raw", "preprocessed")}
    folders["nnUNet_results"] = str(fresh / "results")
    for folder in folders.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    os.environ.update(folders)
    return folders


@pytest.fixture(scope="session")
def tiny_dataset(nnunet_folders) -> str:
    """Returns the id of a data set of six cases, planned and preprocessed by nnU-Net's command."""
    return make_tiny_dataset(nnunet_folders)


def make_tiny_dataset(nnunet_folders: dict[str, str]) -> str:
    """Makes the data set in nnU-Net's folders, unless it is there, and returns its id."""
    import SimpleITK as sitk

    raw = Path(nnunet_folders["nnUNet_raw"]) / "Dataset901_TinyRings"
    preprocessed = Path(nnunet_folders["nnUNet_preprocessed"]) / raw.name
    if (preprocessed / "nnUNetPlansTiny.json").is_file():
        return "901"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for case in range(6):
        image, labels = tiny_case(case)
        sitk.WriteImage(sitk.GetImageFromArray(image), raw / f"imagesTr/tiny_{case}_0000.nii.gz")
        sitk.WriteImage(sitk.GetImageFromArray(labels), raw / f"labelsTr/tiny_{case}.nii.gz")
    description = {
        "channel_names": {"0": "noise"},
        # No voxel has label 3: a class that never occurs.
        "labels": {"background": 0, "ring": 1, "blob": 2, "never": 3},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    run(
        *("nnUNetv2_plan_and_preprocess", "-d", "901", "-c", "2d", "3d_fullres"),
        *("-np", "1", "1", "-npfp", "1"),
        env={"nnUNet_n_proc_DA": "1"},  # planning takes no 0
    )
    small_plans.main(preprocessed)
    return "901"


@pytest.fixture(scope="session")
def unlabelled_images(nnunet_folders) -> Path:
    """Returns a folder of three images like those of the tiny data set, without labels."""
    return make_unlabelled_images(nnunet_folders)


def make_unlabelled_images(nnunet_folders: dict[str, str]) -> Path:
    """Makes the images beside nnU-Net's raw data, unless they are there."""
    import SimpleITK as sitk

    folder = Path(nnunet_folders["nnUNet_raw"]).parent / "unlabelled"
    folder.mkdir(exist_ok=True)
    for case in range(3):
        file = folder / f"unlabelled_{case}_0000.nii.gz"
        if not file.is_file():
            sitk.WriteImage(sitk.GetImageFromArray(tiny_case(100 + case)[0]), file)
    return folder


@pytest.fixture(scope="session")
def unlabelled(tiny_dataset, nnunet_folders, unlabelled_images) -> Path:
    """Preprocesses unlabelled images for both configurations; returns their folder for 3D."""
    preprocess_unlabelled(unlabelled_images)
    base = Path(nnunet_folders["nnUNet_preprocessed"]) / "Dataset901_TinyRings"
    return base / "nnUNetPlans_3d_fullres_unlabeled"


def preprocess_unlabelled(images: Path) -> None:
    """Preprocesses unlabelled images for both configurations of the tiny data set."""
    from nnunet_topo import cli

    for configuration in ("2d", "3d_fullres"):
        command = ("preprocess-unlabeled", "-d", "901", "-i", str(images))
        assert cli.main([*command, "-c", configuration, "-p", "nnUNetPlansTiny"]) == 0


@pytest.fixture
def make_trainer(tiny_dataset, nnunet_folders):
    """Returns a function that makes a trainer by its name, through nnU-Net's own lookup."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(2)

    def make(name: str, configuration: str = "3d_fullres", *, fold=0, resume: bool = False):
        return get_trainer_from_args(
            tiny_dataset,
            configuration,
            fold,
            name,
            "nnUNetPlansTiny",
            resume,
            device=torch.device("cpu"),
        )

    return make


@pytest.fixture
def started(make_trainer):
    """Returns a function that makes a trainer ready for its first iteration."""

    def start(name, configuration="3d_fullres"):
        trainer = make_trainer(name, configuration)
        trainer.initialize()
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        return trainer

    return start


def wait_until_gone(*processes: int) -> None:
    """Waits until processes have ended, also orphans, which init removes a moment later."""
    deadline = time.monotonic() + 30
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(process, 0)
                assert time.monotonic() < deadline, f"process {process} is still alive"
                time.sleep(0.05)
