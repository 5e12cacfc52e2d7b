"""The way from people's files through nnU-Net, item by item; for the package of PYTHONPATH.

Usage: python tests/acceptance/real_files_nnunet.py item_11

Each function makes its files itself and prints a few lines. They run with an older package, too, to
show what it does.
"""

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

FEW = dict.fromkeys(("nnUNet_def_n_proc", "nnUNet_npp", "nnUNet_nps"), "1")
os.environ.update(FEW | {"nnUNet_n_proc_DA": "0"})
sys.path.append(str(Path(__file__).parents[2]))  # for tests.model_folder alone

import numpy as np  # noqa: E402

NAME = "Dataset950_Handmade"
STOCK, OURS = (f"nnUNetTrainer{stem}_1epochs_2iters" for stem in ("Stock", "Wasserstein"))


@contextlib.contextmanager
def _folders() -> Iterator[Path]:
    """Sets nnU-Net's folders, and where it finds the trainers of the package."""
    from nnunet_topo._register import trainers_folder

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("raw", "preprocessed", "results"):
            (folder / name).mkdir()
            os.environ[f"nnUNet_{name}"] = str(folder / name)
        os.environ["nnUNet_extTrainer"] = trainers_folder()  # noqa: SIM112 # nnU-Net spells it so
        yield folder


def _first(*modules: str):
    """Returns the first module of the package that is there: older packages have other names."""
    for module in modules[:-1]:
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(f"nnunet_topo.{module}")
    return importlib.import_module(f"nnunet_topo.{modules[-1]}")


def _ring(size: int = 16, thickness: float = 1.6) -> np.ndarray:
    z, y, x = np.indices((size,) * 3) - (size - 1) / 2
    return (np.abs(np.hypot(y, x) - 5) < thickness) & (np.abs(z) < 2)


def _dataset(folder: Path, labels: dict[str, np.ndarray], names: dict | None = None) -> Path:
    """Writes a data set that nnU-Net's own preprocessing has seen; returns its folder."""
    import SimpleITK as sitk
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from tests.model_folder import plans

    raw, base = folder / "raw" / NAME, folder / "preprocessed" / NAME
    for made in (raw / "imagesTr", raw / "labelsTr", base / "gt_segmentations"):
        made.mkdir(parents=True)
    content = plans((16, 16, 16))
    description = {"channel_names": {"0": "noNorm"}, "file_ending": ".nii.gz"}
    description["labels"] = {"background": 0} | (names or {"ring": 1})
    description["numTraining"] = len(labels)
    (base / "nnUNetPlans.json").write_text(json.dumps(content))
    for place in (raw, base):
        (place / "dataset.json").write_text(json.dumps(description))
    manager = PlansManager(content)
    configuration = manager.get_configuration("3d_fullres")
    preprocessor = DefaultPreprocessor(verbose=False)
    (base / configuration.data_identifier).mkdir()
    rng = np.random.default_rng(0)
    for case, label_map in labels.items():
        image = raw / f"imagesTr/{case}_0000.nii.gz"
        values = (label_map + rng.normal(0, 0.2, label_map.shape)).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(values), image)
        for place in (raw / "labelsTr", base / "gt_segmentations"):
            file = place / f"{case}.nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(label_map.astype(np.uint8)), file)
        preprocessor.run_case_save(
            str(base / configuration.data_identifier / case),
            [str(image)],
            str(file),
            manager,
            configuration,
            description,
        )
    return base


def _rings(number: int) -> dict[str, np.ndarray]:
    return {f"case_{case}": _ring() for case in range(number)}


def _trainer(name: str, fold: int = 0):
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    with _quiet():
        return get_trainer_from_args(
            NAME, "3d_fullres", fold, name, "nnUNetPlans", False, torch.device("cpu")
        )


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


def _call(folder: Path, *arguments: str) -> str:
    """Returns what a command of ours prints, without the temporary folder."""
    from nnunet_topo.cli import main

    with _quiet() as printed:
        try:
            status: object = main(arguments)
        except SystemExit as error:
            status = error.code
    return f"exit status {status}\n{printed.getvalue()}".replace(str(folder), "...")


def _of_error(call, folder: Path | None = None) -> str:
    try:
        found = call()
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return text.replace(str(folder), "...") if folder else text
    return str(found)


# -- D -----------------------------------------------------------------------------------------


def item_11() -> None:
    """Images below 0, clamps, and whole numbers beyond 2**53."""
    from nnunet_topo.topology import persistence_pairs

    image = np.random.default_rng(1).random((5, 6, 4))
    moved = [len(persistence_pairs(image + offset).birth) for offset in (0, -5, -0.5)]
    print(f"bars of an image: {moved[0]}; of the image - 5: {moved[1]}; - 0.5: {moved[2]}")
    print("clamp=nan:", _of_error(lambda: len(persistence_pairs(image, clamp=np.nan).birth)))
    ranks = np.random.default_rng(2).permutation(120).reshape(5, 6, 4)
    expected = len(persistence_pairs(ranks.astype(float)).birth)
    for dtype, offset in ((np.int64, 2**53), (np.uint64, 2**64 - 121), (np.int64, -(2**63))):
        large = np.array([offset + int(r) for r in ranks.ravel()], dtype).reshape(ranks.shape)
        for engine in ("numba", "gudhi"):
            found = _of_error(lambda: len(persistence_pairs(large, engine=engine).birth))  # noqa: B023
            print(f"{np.dtype(dtype)} from {offset} on, {engine}: {found} bars of {expected}")


# -- F -----------------------------------------------------------------------------------------


def item_15() -> None:
    """A checkpoint under the name that nnU-Net's master gives the argument."""
    with _folders() as folder:
        _dataset(folder, _rings(5))
        trainer = _trainer(STOCK)
        file = str(folder / "checkpoint.pth")
        with _quiet():
            trainer.initialize()
            trainer.save_checkpoint(file)
        found = _of_error(lambda: _trainer(STOCK).load_checkpoint(checkpoint=file), folder)
        print("load_checkpoint(checkpoint=FILE):", found.replace("None", "loaded"))


def item_15_loggers() -> None:
    """What a logger such as Weights & Biases is given at the end of a validation."""
    from tests.model_folder import DATASET

    given: dict[str, float] = {}

    class Logger:
        def update_config(self, config): ...
        def log(self, key, value, step): ...
        def log_summary(self, key, value):
            given[key] = value

    with _folders() as folder:
        assert DATASET == NAME
        _dataset(folder, _rings(5))
        trainer = _trainer(STOCK)
        with _quiet():
            trainer.initialize()
            trainer.logger.loggers.append(Logger())
            trainer.perform_actual_validation()
    ours = [key for key in given if "topo_" in key]
    print(f"log_summary: {len(given) - len(ours)} values of nnU-Net's, {len(ours)} of ours")
    print(*sorted(given)[:3], sep="\n")


def item_15_further_metrics() -> None:
    """HD95 and ASSD in a summary.json, as a pull request of nnU-Net's writes them."""
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    with _folders() as folder:
        base = _dataset(folder, _rings(2))
        references, summary = base / "gt_segmentations", folder / "summary.json"
        arguments = (str(references), str(references), str(summary), SimpleITKIO(), ".nii.gz", [1])
        with _quiet():
            compute_metrics_on_folder(*arguments)
        content = json.loads(summary.read_text())
        for metrics in (content["mean"]["1"], content["foreground_mean"]):
            metrics |= {"HD95": 1.5, "ASSD": 0.25}
        summary.write_text(json.dumps(content))
        files = ("-djfile", str(base / "dataset.json"), "-pfile", str(base / "nnUNetPlans.json"))
        command = ("evaluate", str(references), str(references), *files, "-o", str(summary))
        _call(folder, *command, "-np", "1")
        kept = json.loads(summary.read_text())["foreground_mean"]
        print({key: kept.get(key) for key in ("HD95", "ASSD", "topo_betti_error")})


def item_16() -> None:
    """No augmentation workers, which nnU-Net's planner does not survive."""
    with _folders() as folder:
        lines = _call(folder, "doctor").splitlines()
    about = [n for n, line in enumerate(lines) if " nnUNet_n_proc_DA is" in line]
    told = [line.strip() for n in about for line in lines[n : n + 2]]
    print(*(told or ["doctor says nothing of nnUNet_n_proc_DA=0"]), sep="\n")


def item_17() -> None:
    """Fewer cases than nnU-Net makes folds, and folds that cannot be trained."""
    choose_trainings = _first("commands.trainings", "run").choose_trainings

    def chosen(folds: list[str]) -> str:
        trainings = choose_trainings(NAME, "3d_fullres", "nnUNetPlans", [STOCK, OURS], folds)
        return f"{len(trainings)} trainings begin"

    with _folders() as folder, _quiet():
        base = _dataset(folder, _rings(3))
        told = [_of_error(lambda: chosen(["0"]), folder)]
        for splits in (
            [{"train": ["case_0", "case_1"], "val": []}],
            [{"train": ["case_0", "case_1"], "val": ["of_another_data_set"]}],
        ):
            (base / "splits_final.json").write_text(json.dumps(splits))
            told.append(_of_error(lambda: chosen(["0"]), folder))
    print(*told, sep="\n")


def item_18_hint() -> None:
    """Which cause is told of a gradient that is NaN."""
    import torch

    with _folders() as folder:
        _dataset(folder, _rings(5))
        for what in ("an image that holds NaN", "pretrained weights that hold NaN"):
            trainer = _trainer(STOCK)
            with _quiet():
                trainer.initialize()
                batch = next(trainer.get_dataloaders()[0])
                if "image" in what:
                    batch["data"][0, 0, 0] = torch.nan
                else:
                    state = trainer.network.state_dict()
                    next(iter(state.values())).view(-1)[0] = torch.nan
                    trainer.network.load_state_dict(state)
                told = _of_error(lambda: trainer.train_step(batch), folder)  # noqa: B023
            print(f"{what}: {told.partition('infinite values')[2][:150]}")


def item_18_list() -> None:
    """Columns of the list of trainers, and the list for programs."""
    with _folders() as folder:
        rows = [r for r in _call(folder, "trainers", "--list").splitlines() if "nnUNetT" in r[:9]]
        broken = [row for row in rows if "  " not in row]
        print(f"rows without a gap between name and description: {broken or 'none'}")
        told = _call(folder, "trainers", "--json").splitlines()
        if told[0] == "exit status 0":
            found = json.loads("\n".join(told[1:]))["trainers"][-1]
            print({key: found[key] for key in ("name", "base_loss", "weight", "control")})
        else:
            print(f"trainers --json: {told[0]}, {told[-1]}")


def item_19() -> None:
    """What was right before: types of arrays, and folds that overlap."""
    from nnunet_topo.topology import betti_numbers

    mask = np.zeros((4, 5, 6), bool)
    mask[0], mask[-1], mask[:, 0, 0], mask[:, -1, -1] = True, True, True, True
    found = {betti_numbers(mask.astype(t)) for t in ("?", "u1", "<f2", ">f4", ">i2", ">f8")}
    print(f"two plates that touch every border, in six types: {found}")
    with _folders() as folder:
        base = _dataset(folder, {f"a case.{n} (2)": _ring() for n in range(3)})
        fold = {"train": ["a case.0 (2)", "a case.1 (2)"], "val": ["a case.1 (2)"]}
        (base / "splits_final.json").write_text(json.dumps([fold]))
        with _quiet():
            split = _trainer(STOCK).do_split()
        print(f"folds that overlap, names with blanks and dots: {split}")


# -- G -----------------------------------------------------------------------------------------


def item_21() -> None:
    """Unlabelled photographs, whose spacing nnU-Net keeps as whole numbers."""
    from skimage.io import imsave

    from tests.model_folder import plans

    with _folders() as folder:
        raw, base = folder / "raw" / NAME, folder / "preprocessed" / NAME
        new = folder / "new"
        for made in (raw / "imagesTr", base / "gt_segmentations", new):
            made.mkdir(parents=True)
        photograph = np.random.default_rng(0).integers(0, 255, (24, 20), np.uint8)
        imsave(raw / "imagesTr/wall_0000.png", photograph, check_contrast=False)
        imsave(new / "another_0000.png", photograph.T.copy(), check_contrast=False)
        imsave(base / "gt_segmentations/wall.png", photograph // 128, check_contrast=False)
        content = plans((16, 16)) | {"image_reader_writer": "NaturalImage2DIO"}
        (base / "nnUNetPlans.json").write_text(json.dumps(content))
        (base / "dataset_fingerprint.json").write_text('{"spacings": [[999, 1, 1]]}')
        description = {"channel_names": {"0": "noNorm"}, "labels": {"background": 0, "wall": 1}}
        description |= {"numTraining": 1, "file_ending": ".png"}
        (base / "dataset.json").write_text(json.dumps(description))
        command = ("preprocess-unlabeled", "-d", "950", "-i", str(new), "-c", "2d", "-np", "1")
        told = _of_error(lambda: _call(folder, *command), folder)
        print(
            told.splitlines()[0], [line for line in told.splitlines() if "preprocessed now" in line]
        )


def item_24() -> None:
    """Which cases contradict a prior."""
    with contextlib.suppress(ModuleNotFoundError):  # older packages measure augmentation
        _first("priors.training_labels", "nnunet.training_labels")._DRAWS = 10
    labels = _rings(10)
    labels["case_3"][0, 0, 0] = labels["case_8"][15, 15, 15] = True
    with _folders() as folder:
        base = _dataset(folder, labels)
        told = _call(folder, "plan", "-d", "950", "-np", "1").splitlines()
        begins = [n for n, line in enumerate(told) if line.startswith("warning:")]
        print(*told[begins[0] : begins[0] + 4], sep="\n")
        content = json.loads((base / "topology.json").read_text())
        differing = content["statistics"].get("differing", {}).get("full", {}).get("volumes")
        print(f"topology.json names: {differing}")


def item_27_prior() -> None:
    """Refinement with no prior: how many cases are predicted before it says so."""
    import time

    from tests.model_folder import ring, write_image, write_model

    predicted = []
    TrainedModel = _first("refinement.trained_model", "nnunet.trained_model").TrainedModel  # noqa: N806 # a class
    predict = TrainedModel.predict
    TrainedModel.predict = lambda self, files: (predicted.append(files), predict(self, files))[1]
    with _folders() as folder:
        model = write_model(folder / "model", (16, 16))
        for case in range(3):
            write_image(folder / "in", f"case_{case}", ring(0.3))
        content = {"priors": {"full": {"slices": {"ring": "none"}}}}
        (folder / "topology.json").write_text(json.dumps(content))
        where = ("-i", str(folder / "in"), "-o", str(folder / "out"), "-m", str(model))
        prior, began = str(folder / "topology.json"), time.monotonic()
        told = _call(folder, "refine", *where, "--prior", prior, "-device", "cpu").splitlines()
        spent = time.monotonic() - began
    print(f"{told[0]}, {len(predicted)} cases predicted in {spent:.1f} s")
    print(told[-1])


def item_27_misspelt() -> None:
    """The last line of nnU-Net's search for a misspelt trainer."""
    with _folders():
        code = (
            "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as f;"
            "f('nnUNetTrainerWassersteen')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        lines = done.stderr.strip().splitlines()
        meant = [n for n, line in enumerate(lines) if "did you mean" in line]
        print(f"the right spelling stands in line {meant[-1] + 1} of {len(lines)}")


def item_27_warning() -> None:
    """torch's FutureWarning in a command of ours that looks for a trainer."""
    with _folders() as folder:
        _dataset(folder, _rings(5))
        command = ["run", "-d", "950", "-c", "3d_fullres", "-tr", STOCK, "nnUNetTrainerNone"]
        command += ["-device", "cpu", "-o", str(folder / "out")]
        code = "import sys; from nnunet_topo.cli import main; sys.exit(main(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True
        )
        print(f"{done.stderr.count('FutureWarning')} FutureWarning; last line:")
        print(done.stderr.strip().splitlines()[-1])


if __name__ == "__main__":
    globals()[sys.argv[1]]()
