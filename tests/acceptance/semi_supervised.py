"""The parts of semi_supervised.sh that make folders and print figures."""

import json
import os
import sys
from pathlib import Path

import numpy as np

DATASET = "Dataset904_FewLabels"
PLANS = "nnUNetPlansFewLabels"
LABELLED, VALIDATION = 10, 20


def raw() -> None:
    """Links 30 cases as a data set, and the images of the other cases in a folder."""
    source = Path(os.environ["NNUNET_TOPO_DATA"]) / "Dataset004_Hippocampus"
    folder = Path(os.environ["nnUNet_raw"]) / DATASET  # noqa: SIM112 # nnU-Net spells it so
    others = folder.parent.parent / "unlabelled"
    for made in (folder / "imagesTr", folder / "labelsTr", others):
        made.mkdir(parents=True, exist_ok=True)
    images = sorted((source / "imagesTr").iterdir())
    for index, image in enumerate(images):
        labelled = index < LABELLED + VALIDATION
        _link(image, (folder / "imagesTr" if labelled else others) / image.name)
        if labelled:
            label = image.name.replace("_0000", "")
            _link(source / "labelsTr" / label, folder / "labelsTr" / label)
    description = json.loads((source / "dataset.json").read_text())
    description["numTraining"] = LABELLED + VALIDATION
    (folder / "dataset.json").write_text(json.dumps(description))
    print(f"{LABELLED + VALIDATION} labelled cases, {len(list(others.iterdir()))} without labels")


def _link(source: Path, link: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(source)


def plans() -> None:
    """Writes plans and the one split: the first ten cases to train, the others to validate."""
    folder = Path(os.environ["nnUNet_preprocessed"]) / DATASET  # noqa: SIM112
    written = json.loads((folder / "nnUNetPlansLean.json").read_text()) | {"plans_name": PLANS}
    # Most objects lie within such a patch, off its border.
    written["configurations"]["3d_fullres"] |= {"patch_size": [32, 40, 32], "batch_size": 2}
    (folder / f"{PLANS}.json").write_text(json.dumps(written, indent=2))
    names = sorted(f.name.removesuffix(".nii.gz") for f in (folder / "gt_segmentations").iterdir())
    split = {"train": names[:LABELLED], "val": names[LABELLED:]}
    (folder / "splits_final.json").write_text(json.dumps([split]))


def trained(results: str, ours: str, control: str, settings: str) -> None:
    """Prints the validation of both trainings, and the share of objects used."""
    import torch

    for name in (ours, control):
        folder = Path(results) / f"{name}_{settings}__{PLANS}__3d_fullres/fold_0"
        means = json.loads((folder / "validation/summary.json").read_text())["mean"]
        for label, metrics in means.items():
            print(
                f"{name}, label {label}: Dice {metrics['Dice']:.4f}, right Betti numbers in "
                f"{100 * metrics['topo_betti_exact']:.0f} %, Betti error "
                f"{metrics['topo_betti_error']:.2f}"
            )
        logging = torch.load(folder / "checkpoint_final.pth", weights_only=False)["logging"]
        if "topology_used" in logging:
            for key in ("topology_used", "topology_term", "topology_weight", "topology_ms"):
                print(f"  {key}: {[round(float(v), 4) for v in logging[key]]}")
        seconds = np.subtract(logging["epoch_end_timestamps"], logging["epoch_start_timestamps"])
        print(f"  seconds per epoch: {[round(float(s), 1) for s in seconds]}")


def wrong_folders(folder: str) -> None:
    """Makes folders of images that must be left out, each beside one that is fine."""
    import SimpleITK as sitk

    raw_folder = Path(os.environ["nnUNet_raw"])  # noqa: SIM112
    images = sorted((raw_folder / DATASET / "imagesTr").iterdir())
    others = sorted((raw_folder.parent / "unlabelled").iterdir())
    made = {name: Path(folder) / name for name in ("leak", "mixed", "empty")}
    for path in made.values():
        path.mkdir(parents=True, exist_ok=True)
    _link(images[3], made["leak"] / images[3].name)
    shifted = sitk.ReadImage(images[12])
    shifted.SetOrigin((9, 9, 9))
    sitk.WriteImage(shifted, made["leak"] / "renamed_0000.nii.gz")
    _link(others[0], made["leak"] / "fine_a_0000.nii.gz")
    image = sitk.ReadImage(others[1])
    for channel in range(2):
        sitk.WriteImage(image, made["mixed"] / f"channels_000{channel}.nii.gz")
    image.SetSpacing((1, 1, 7))
    sitk.WriteImage(image, made["mixed"] / "spacing_0000.nii.gz")
    cut = made["mixed"] / "cut_0000.nii.gz"
    content = others[2].read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    _link(others[3], made["mixed"] / "fine_b_0000.nii.gz")


def same_cases(first: str, second: str) -> None:
    """Compares the cases of two folders, those that both have voxel by voxel."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2 as Blosc2

    names = [set(Blosc2.get_identifiers(folder)) for folder in (first, second)]
    for name in sorted(names[0] & names[1]):
        one, other = (Blosc2(folder).load_case(name)[0][:] for folder in (first, second))
        assert np.array_equal(one, other), name
    assert names[1] <= names[0]
    print(f"{len(names[1])} cases, voxel by voxel those of the call that was not killed")


def history(checkpoint: str) -> None:
    """Prints what a resumed training has logged."""
    import torch

    content = torch.load(checkpoint, weights_only=False)
    used = content["logging"]["topology_used"]
    print(f"trainer_name {content['trainer_name']}; share of objects used in each epoch: {used}")
    assert len(used) == 4
    assert np.isnan(used[0])
    assert np.isfinite(used[1:]).all()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
