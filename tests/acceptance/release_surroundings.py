"""What surrounds nnU-Net, tried with a model of this package; prints a table with versions.

Usage: python -m tests.acceptance.release_surroundings FOLDER STOCK SLICER

FOLDER is empty. STOCK is the Python of an environment with nnU-Net alone. SLICER is a checkout of
SlicerNNUnet, the extension of 3D Slicer. This Python has nnU-Net, this package, MONAI and wandb.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..conftest import tiny_case

DATASET = "Dataset950_Surroundings"
TRAINER = "nnUNetTrainerTAFL_2epochs_4iters_from0_seed1"
MODEL = f"{TRAINER}__nnUNetPlans__2d"
BIN = Path(sys.executable).parent

# The parts of Qt and of 3D Slicer that the extension's parameters import. They need a window.
WITHOUT_WINDOW = """
import json, sys, types
from pathlib import Path
names = ("qt", "slicer", "slicer.parameterNodeWrapper")
qt, slicer, node = (types.ModuleType(name) for name in names)
qt.QSettings = qt.QProcess = qt.QTemporaryDir = type("Q", (), {"ProcessChannelMode": None})
node.parameterPack = lambda cls: cls
node.Choice = node.WithinRange = lambda *_: None
sys.modules |= {"qt": qt, "slicer": slicer, "slicer.parameterNodeWrapper": node}
package = types.ModuleType("SlicerNNUNetLib")
package.__path__ = [f"{sys.argv[1]}/SlicerNNUnet/SlicerNNUNetLib"]
sys.modules["SlicerNNUNetLib"] = package
from SlicerNNUNetLib.Parameter import Parameter
parameter = Parameter(modelPath=Path(sys.argv[2]), folds="0", device="cpu")
assert parameter.isValid() == (True, ""), parameter.isValid()
print(json.dumps([str(a) for a in parameter.asArgList(Path(sys.argv[3]), Path(sys.argv[4]))]))
"""
# How TotalSegmentator and others predict: a predictor from a folder, and arrays.
PREDICTOR = """
import importlib.util, sys
import numpy, torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
assert importlib.util.find_spec("nnunet_topo") is None
predictor = nnUNetPredictor(
    device=torch.device("cpu"), use_mirroring=False, perform_everything_on_device=False
)
predictor.initialize_from_trained_model_folder(sys.argv[1], (0,), "checkpoint_final.pth")
image, properties = SimpleITKIO().read_images([sys.argv[2]])
numpy.save(sys.argv[3], predictor.predict_single_npy_array(image, properties))
"""
RUNNER = """
import json, sys
from monai.apps.nnunet import nnUNetV2Runner
parts = ("raw", "preprocessed", "results")
folders = {f"nnunet_{part}": f"{sys.argv[1]}/{part}" for part in parts}
runner = nnUNetV2Runner(
    folders | {"dataset_name_or_id": 950},
    trainer_class_name=sys.argv[2],
    export_validation_probabilities=False,
)
runner.train_single_model("2d", 0)
"""


def main(folder: Path, stock: Path, slicer: Path) -> int:
    """Tries everything; returns 1 where something failed."""
    prepare(folder)
    environment = environment_of(folder)
    rows, failed = [], 0
    for name, versions, attempt in (
        ("Weights & Biases, offline", ("wandb",), lambda: weights_and_biases(folder, environment)),
        ("model as a zip file, on nnU-Net alone", (), lambda: exported(folder, environment, stock)),
        ("nnUNetPredictor from a folder, on nnU-Net alone", (), lambda: predictor(folder, stock)),
        (f"3D Slicer's extension {commit(slicer)}", (), lambda: in_slicer(folder, stock, slicer)),
        ("MONAI, nnUNetV2Runner", ("monai",), lambda: monai_runner(folder, environment)),
    ):
        try:
            result = attempt()
        except Exception as error:
            failed, result = 1, f"FAILED: {type(error).__name__}: {error}"
        known = [
            f"{package} {metadata.version(package)}" for package in ("nnunetv2", "torch", *versions)
        ]
        rows.append(f"| {name} | {', '.join(known)} | {result} |")
        print(rows[-1], flush=True)
    return failed


def prepare(folder: Path) -> None:
    """Makes a data set of six cases and plans it."""
    raw = folder / "raw" / DATASET
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
    for seed in range(6):
        image, labels = tiny_case(seed)
        for array, place in (
            (image, f"imagesTr/case_{seed}_0000"),
            (labels, f"labelsTr/case_{seed}"),
        ):
            sitk.WriteImage(sitk.GetImageFromArray(array), raw / f"{place}.nii.gz")
    content = {
        "channel_names": {"0": "made"},
        "labels": {"background": 0, "ring": 1, "blob": 2},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(content))
    run(["nnUNetv2_plan_and_preprocess", "-d", "950", "-c", "2d"], environment_of(folder))


def environment_of(folder: Path) -> dict[str, str]:
    """Returns the variables of nnU-Net's folders, with those of this process."""
    parts = ("raw", "preprocessed", "results")
    one_worker = {"nnUNet_n_proc_DA": "1"}  # planning takes no 0
    return {**os.environ, **one_worker, **{f"nnUNet_{part}": str(folder / part) for part in parts}}


def run(command: list[str], environment: dict[str, str]) -> str:
    """Runs a command of this Python's environment, or a path, and returns what it prints."""
    known = BIN / command[0]
    words = [str(known) if known.exists() else command[0], *command[1:]]
    if not Path(words[0]).is_relative_to(BIN):  # what this Python has, STOCK must not have
        environment = {name: v for name, v in environment.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-800:]}")
    return done.stdout


def weights_and_biases(folder: Path, environment: dict[str, str]) -> str:
    """Trains with nnU-Net's logger for Weights & Biases."""
    logged = {"nnUNet_wandb_enabled": "1", "nnUNet_wandb_mode": "offline"}
    command = ["nnUNetv2_train", "950", "2d", "0", "-tr", TRAINER, "-device", "cpu"]
    run(command, environment | logged)
    (file,) = (folder / "results" / DATASET / MODEL / "fold_0").rglob("*.wandb")
    content = file.read_bytes()
    keys = ("topology_term", "topology_weight", "final_val/class_1_topo_betti_matching_error")
    lacking = [key for key in keys if key.encode() not in content]
    if lacking:
        raise ValueError(f"{', '.join(lacking)} not in {file.name}")
    return f"the run has {', '.join(keys)}"


def exported(folder: Path, environment: dict[str, str], stock: Path) -> str:
    """Predicts with the model here, and from its zip file where nnU-Net is alone."""
    model = ["-d", "950", "-c", "2d", "-f", "0", "-tr", TRAINER]
    predict = ["-i", str(images(folder)), *model, "-device", "cpu", "--disable_tta"]
    run(["nnUNetv2_predict", *predict, "-o", str(folder / "here")], environment)
    zipped = str(folder / "model.zip")
    run(["nnUNetv2_export_model_to_zip", *model, "-o", zipped], environment)
    there = environment | {"nnUNet_results": str(folder / "elsewhere")}
    (folder / "elsewhere").mkdir()
    run([str(stock.parent / "nnUNetv2_install_pretrained_model_from_zip"), zipped], there)
    command = [str(stock.parent / "nnUNetv2_predict"), *predict, "-o", str(folder / "there")]
    run(command, there)
    return same(folder, "there", sitk_array)


def predictor(folder: Path, stock: Path) -> str:
    """Predicts arrays with a predictor made from the folder of the model."""
    (folder / "arrays").mkdir()
    for image in sorted(images(folder).iterdir()):
        result = folder / "arrays" / image.name.replace("_0000.nii.gz", ".npy")
        arguments = [str(folder / "results" / DATASET / MODEL), str(image), str(result)]
        run([str(stock), "-I", "-c", PREDICTOR, *arguments], dict(os.environ))
    return same(folder, "arrays", lambda file: np.load(file.with_suffix("").with_suffix(".npy")))


def in_slicer(folder: Path, stock: Path, slicer: Path) -> str:
    """Predicts with the arguments that the extension of 3D Slicer makes for a model folder."""
    model = folder / "elsewhere" / DATASET / MODEL
    out = folder / "slicer"
    words = [
        str(stock),
        "-c",
        WITHOUT_WINDOW,
        str(slicer),
        str(model),
        str(images(folder)),
        str(out),
    ]
    arguments = json.loads(run(words, dict(os.environ)))
    there = environment_of(folder) | {"nnUNet_results": str(folder / "elsewhere")}
    run([str(stock.parent / "nnUNetv2_predict"), *arguments], there)
    return same(folder, "slicer", sitk_array)


def monai_runner(folder: Path, environment: dict[str, str]) -> str:
    """Trains through MONAI's runner, which cannot choose a CPU: a command before nnU-Net's does."""
    shim = folder / "shim" / "nnUNetv2_train"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {BIN / "nnUNetv2_train"} "$@" -device cpu\n')
    shim.chmod(0o755)
    path = os.pathsep.join([str(shim.parent), environment["PATH"]])
    trainer = TRAINER.replace("seed1", "seed2")
    run([sys.executable, "-c", RUNNER, str(folder), trainer], environment | {"PATH": path})
    fold = folder / "results" / DATASET / f"{trainer}__nnUNetPlans__2d" / "fold_0"
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    error = summary["mean"]["1"]["topo_betti_matching_error"]
    return f"trained and validated; Betti matching error of the ring {error:.3g}"


def images(folder: Path) -> Path:
    """Returns the folder of the images."""
    return folder / "raw" / DATASET / "imagesTr"


def sitk_array(file: Path) -> np.ndarray:
    """Returns the label map in a file."""
    return sitk.GetArrayFromImage(sitk.ReadImage(file))


def same(folder: Path, other: str, read: Callable[[Path], np.ndarray]) -> str:
    """Returns that all predictions equal those of nnU-Net's command here.

    Raises:
        ValueError: one does not.
    """
    files = sorted((folder / "here").glob("*.nii.gz"))
    if len(files) != 6:
        raise ValueError(f"wanted 6 predictions, got {len(files)}")
    for file in files:
        if not np.array_equal(sitk_array(file), read(folder / other / file.name)):
            raise ValueError(f"{file.name} differs")
    voxels = sum(int((sitk_array(file) > 0).sum()) for file in files)
    return f"6 of 6 label maps are those of nnUNetv2_predict here, {voxels} voxels of foreground"


def commit(checkout: Path) -> str:
    """Returns the commit of a checkout."""
    done = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "(not here)"


if __name__ == "__main__":
    sys.exit(main(*(Path(argument) for argument in sys.argv[1:])))
