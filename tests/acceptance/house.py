"""Figures of fixed small cases, with the package of PYTHONPATH or the installed one.

Usage: house.py [FUNCTION]      prints a line for each figure: its name, and a digest of its bits
       house.py --equal FILE FILE    says whether two such outputs are equal, line by line
       house.py --sizes         prints the longest files and the share of each room

With another package each function shows whether its figures are the same, bit for bit.
"""

import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FEW = dict.fromkeys(("nnUNet_def_n_proc", "nnUNet_npp", "nnUNet_nps"), "1")
os.environ.update(FEW | {"nnUNet_n_proc_DA": "0"})

import numpy as np  # noqa: E402

LONGEST, KERNELS = 450, ("topology/_cubical3d.py",)
LARGEST_SHARE = 0.25
STEMS = (
    *("Stock", "Focal", "CrossEntropy", "Dice", "Wasserstein", "TAFL", "TAFLSinkhorn", "TopoLoss"),
    *("ProjectedPooling", "ProjectedPoolingDice", "BettiPrior"),
)
WORDS = ("made", "version", "files", "notes", "troubles", "files_before", "nnunet_topo")


def show(name: str, value: Any) -> None:
    """Prints a digest of numbers, arrays or records, with all bits of their numbers."""
    if isinstance(value, np.ndarray):
        content = f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    elif isinstance(value, bytes):
        content = value
    else:
        content = json.dumps(value, sort_keys=True, default=repr).encode()
    print(f"{name}  {hashlib.blake2b(content, digest_size=8).hexdigest()}")


def masks(space: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a random prediction and a random reference of blobs."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    shape = (14, 17, 19)[:space]
    smooth = [ndimage.gaussian_filter(rng.normal(size=shape), 1.2) for _ in range(2)]
    return smooth[0] > 0.05, smooth[0] + 0.5 * smooth[1] > 0.05


def losses() -> None:
    """Values and gradients of every loss, in 2D and 3D, with a mask and without."""
    import torch

    from nnunet_topo.losses import (
        BettiPriorLoss,
        FocalLoss,
        ProjectedPoolingLoss,
        WassersteinLoss,
    )

    torch.set_num_threads(1)
    for space in (2, 3):
        shape = (12, 13, 14)[:space]
        of_connectivity = [
            (f"{type(loss).__name__} {connectivity}", loss)
            for connectivity in ("full", "face")
            for loss in (
                WassersteinLoss(connectivity=connectivity, clamp=0.01),
                ProjectedPoolingLoss(),
                BettiPriorLoss(
                    {0: (1, 0, 0)[:space], 1: "target"}, connectivity=connectivity, clamp=0.01
                ),
            )
        ]
        for name, loss in [("FocalLoss", FocalLoss()), *of_connectivity]:
            for masked in (False, True):
                generator = torch.Generator().manual_seed(7)
                p = torch.rand((2, 2, *shape), generator=generator, dtype=torch.float64)
                t = (torch.rand((2, 2, *shape), generator=generator) > 0.6).double()
                m = torch.rand((2, 1, *shape), generator=generator) > 0.1 if masked else None
                p.requires_grad_()
                try:
                    value = loss(p, t, m)
                except (TypeError, ValueError, RuntimeError) as error:
                    show(f"{name} {space}D mask {masked}", f"{type(error).__name__}")
                    continue
                (gradient,) = torch.autograd.grad(value, p)
                show(f"{name} {space}D mask {masked} value", value.detach().numpy())
                show(f"{name} {space}D mask {masked} gradient", gradient.numpy())


def topology() -> None:
    """Diagrams, Betti numbers, thinning and distances of random images."""
    from nnunet_topo import topology as t

    for space in (2, 3):
        for connectivity in ("full", "face"):
            images = [np.random.default_rng(seed).random((9, 10, 11)[:space]) for seed in range(2)]
            found = [t.persistence_pairs(image, connectivity=connectivity) for image in images]
            for field in ("birth", "death", "dimension", "birth_index", "death_index"):
                values = getattr(found[0], field, None)
                if values is not None:
                    show(f"persistence_pairs {space}D {connectivity} {field}", np.asarray(values))
            show(f"persistence_pairs {space}D {connectivity}", repr(found[0]))
            mask = masks(space, 3)[0]
            betti = t.betti_numbers(mask, connectivity=connectivity)
            show(f"betti_numbers {space}D {connectivity}", np.asarray(betti))
            thin = t.thin(mask, connectivity=connectivity)
            show(f"thin {space}D {connectivity}", thin)


def metrics() -> None:
    """All metrics of random masks, with spacing and connectivity."""
    from nnunet_topo.metrics import compare_label_maps, compute

    for space in (2, 3):
        for connectivity in ("full", "face"):
            for seed in range(3):
                prediction, reference = masks(space, seed)
                values = compute(
                    prediction,
                    reference,
                    spacing_mm=(2.0, 0.7, 0.5)[-space:],
                    connectivity=connectivity,
                )
                plain = values if isinstance(values, dict) else repr(values)
                show(f"compute {space}D {connectivity} {seed}", plain)
    deep = np.indices((14, 17, 19))[0] > 6
    prediction, reference = (mask * 1 + (mask & deep) for mask in masks(3, 5))
    compared = compare_label_maps(
        prediction, reference, [1, 2, (1, 2)], ignore_label=None, spacing_mm=[1.0, 1.0, 2.0]
    )
    show("compare_label_maps", {str(label): values for label, values in compared.items()})


# -- files ----------------------------------------------------------------------------


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Catches what is printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


def call(*arguments: object) -> None:
    """Runs one of our commands, which must succeed."""
    from nnunet_topo.cli import main

    with quiet() as printed:
        status = main([str(argument) for argument in arguments])
    if status:
        raise RuntimeError(f"{arguments}: exit status {status}\n{printed.getvalue()[-2000:]}")


def without(content: Any, keys: tuple[str, ...]) -> Any:
    """Returns a record without some keys, on all levels."""
    if isinstance(content, dict):
        return {key: without(value, keys) for key, value in content.items() if key not in keys}
    if isinstance(content, list):
        return [without(value, keys) for value in content]
    return content


def comparison() -> None:
    """summary.json, compare.json, compare.csv and compare.tex of two models on ten cases."""
    import SimpleITK as sitk

    from nnunet_topo.commands.comparison import Options

    with tempfile.TemporaryDirectory() as made:
        os.chdir(made)
        rng = np.random.default_rng(0)
        for case in range(10):
            reference = masks(3, case)[1]
            noisy = reference ^ (rng.random(reference.shape) < 0.01)
            drawn = {"gt": reference, "a": masks(3, case)[0], "b": noisy}
            for part, mask in drawn.items():
                Path(part).mkdir(exist_ok=True)
                half = (np.indices(mask.shape)[2] > 9) & mask
                image = sitk.GetImageFromArray((mask * 1 + half).astype(np.uint8))
                image.SetSpacing((0.8, 0.9, 2.0))
                sitk.WriteImage(image, f"{part}/case_{case}.nii.gz")
        call("evaluate", "gt", "a", "-o", "summary.json", "-np", 1)
        summary = json.loads(Path("summary.json").read_text())
        show("summary.json", without(summary, ("version", "troubles", "digest")))
        # A former package has no such option.
        more = ["--no-postprocess"] if hasattr(Options, "postprocess") else []
        call("compare", "--gt", "gt", "--pred", "a=a", "b=b", "-o", "out", "-np", 1, *more)
        record = json.loads(Path("out/compare.json").read_text())
        show("compare.json, figures", without(record, WORDS))
        for name in ("compare.csv", "compare.tex"):
            show(name, Path("out", name).read_bytes())


def _dataset_and_trainers():
    sys.path.append(str(ROOT))  # for tests.model_folder alone
    sys.path.append(str(HERE))
    import real_files_nnunet

    return real_files_nnunet


def plan() -> None:
    """topology.json of a small data set."""
    of = _dataset_and_trainers()
    with of._folders() as folder:
        rng = np.random.default_rng(1)
        labels = {f"case_{n}": of._ring(thickness=rng.uniform(1.2, 2.2)) for n in range(6)}
        with quiet():
            base = of._dataset(folder, labels)
        call("plan", "-d", "950", "-np", "1")
        content = json.loads((base / "topology.json").read_text())
        show("topology.json, without its comment", without(content, ("about", "written_by")))
        call("plan", "-d", "950", "-np", "1")  # takes its own file for not edited
        show("topology.json again", without(content, ("about", "written_by")))


def _plan_and_preprocess(folder: Path) -> None:
    """Writes rings and blobs in noise, and lets nnU-Net plan and preprocess them."""
    import subprocess

    import SimpleITK as sitk

    from tests.conftest import tiny_case
    from tests.small_plans import main as write_small_plans

    raw = folder / "raw" / "Dataset901_TinyRings"
    for case in range(6):
        for part, array in zip(("imagesTr", "labelsTr"), tiny_case(case), strict=True):
            (raw / part).mkdir(parents=True, exist_ok=True)
            ending = "_0000.nii.gz" if part == "imagesTr" else ".nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(array), raw / part / f"tiny_{case}{ending}")
    description = {"channel_names": {"0": "noise"}, "numTraining": 6, "file_ending": ".nii.gz"}
    description["labels"] = {"background": 0, "ring": 1, "blob": 2}
    (raw / "dataset.json").write_text(json.dumps(description))
    executable = str(Path(sys.executable).parent / "nnUNetv2_plan_and_preprocess")
    command = [executable, "-d", "901", "-c", "3d_fullres", "-np", "1", "-npfp", "1"]
    environment = os.environ | {"nnUNet_n_proc_DA": "1"}  # planning takes no 0
    subprocess.run(command, check=True, env=environment, capture_output=True)
    write_small_plans(folder / "preprocessed" / raw.name)


def training() -> None:
    """Weights after two epochs of two iterations with each trainer, and its checkpoint's record."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    of = _dataset_and_trainers()
    torch.set_num_threads(1)
    with of._folders() as folder, quiet():
        _plan_and_preprocess(folder)
        for stem in STEMS:
            start = "_from0" * (stem not in STEMS[:4])
            trainer = get_trainer_from_args(
                "901",
                "3d_fullres",
                0,
                f"nnUNetTrainer{stem}_2epochs_2iters{start}_seed3",
                "nnUNetPlansTiny",
                False,
                torch.device("cpu"),
            )
            trainer.run_training()
            file = Path(trainer.output_folder) / "checkpoint_final.pth"
            content = torch.load(file, map_location="cpu", weights_only=False)
            bits = [value.numpy().tobytes() for value in content["network_weights"].values()]
            record = without(content["nnunet_topo"], ("version", "nnunet_topo"))
            logged = content["logging"]
            found = {
                "weights": b"".join(bits),
                "record": json.loads(json.dumps(record).replace(str(folder), "")),
                "losses of the epochs": [float(loss) for loss in logged["train_losses"]],
                "keys of the log": sorted(logged),
            }
            with contextlib.redirect_stdout(sys.__stdout__):
                for name, value in found.items():
                    show(f"{stem}: {name}", value)


# -- sizes -----------------------------------------------------------------------------------


def sizes() -> int:
    """Prints the longest Python files and the share of each room; returns what is too large."""
    lines = {
        file: len(file.read_text().splitlines())
        for part in ("nnunet_topo", "trainers", "tests", "experiments", "benchmarks", "docs")
        for file in (ROOT / part).rglob("*.py")
    }
    too_long = 0
    for file, number in sorted(lines.items(), key=lambda of: -of[1])[:5]:
        print(f"{number:5d} lines  {file.relative_to(ROOT)}")
    for file, number in lines.items():
        too_long += number > LONGEST and not str(file).endswith(KERNELS)
    print(f"files over {LONGEST} lines, a kernel of the engine aside: {too_long}")
    package = {f: n for f, n in lines.items() if f.is_relative_to(ROOT / "nnunet_topo")}
    total, rooms = sum(package.values()), {}
    for file, number in package.items():
        parts = file.relative_to(ROOT / "nnunet_topo").parts
        room = parts[0] if len(parts) > 1 else "(top)"
        rooms[room] = rooms.get(room, 0) + number
    for room, number in sorted(rooms.items(), key=lambda of: -of[1]):
        print(f"{number:5d} lines  {number / total:5.1%}  {room}")
    too_large = sum(number > LARGEST_SHARE * total for number in rooms.values())
    print(f"rooms over {LARGEST_SHARE:.0%} of {total} lines: {too_large}")
    return int(too_long + too_large > 0)


def equal(before: Path, now: Path) -> int:
    """Prints which figures differ; returns 1 if any does."""
    old, new = (file.read_text().splitlines() for file in (before, now))
    for line in sorted(set(old) ^ set(new)):
        print(f"  {'before' if line in old else 'now   '} {line}")
    same = len(set(old) & set(new))
    print(f"figures: {len(set(old))} before, {len(set(new))} now, equal bit for bit: {same}")
    return int(set(old) != set(new) or not old)


FIGURES = {f.__name__: f for f in (losses, topology, metrics, comparison, plan, training)}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--equal"]:
        sys.exit(equal(Path(sys.argv[2]), Path(sys.argv[3])))
    if sys.argv[1:2] == ["--sizes"]:
        sys.exit(sizes())
    for function in sys.argv[1:] or FIGURES:
        FIGURES[function]()
