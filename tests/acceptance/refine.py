"""The parts of priors.sh that refine the predictions of a stock model and print the results."""

import json
import sys
from pathlib import Path

import numpy as np

PLANS = "nnUNetPlansRefine"
FEATURES, BATCH_SIZE, PATCH = [16, 32, 64], 4, [24, 32, 24]
PRIOR = (1, 0, 0)


def plans(preprocessed: str) -> None:
    """Writes plans of a net that a CPU trains in minutes."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from small_plans import shrink

    folder = Path(preprocessed)
    written = json.loads((folder / "nnUNetPlans.json").read_text())
    written["plans_name"] = PLANS
    chosen = written["configurations"]["3d_fullres"]
    shrink(chosen, FEATURES)
    chosen |= {"batch_size": BATCH_SIZE, "patch_size": PATCH}
    norm = "torch.nn.modules.batchnorm.BatchNorm3d"
    chosen["architecture"]["arch_kwargs"]["norm_op"] = norm
    (folder / f"{PLANS}.json").write_text(json.dumps(written, indent=2))


def images(raw: str, preprocessed: str, output: str, number: str = "40") -> None:
    """Links the images of validation cases, and writes a prior for both labels."""
    split = json.loads((Path(preprocessed) / "splits_final.json").read_text())[0]
    folder = Path(output)
    folder.mkdir(exist_ok=True)
    for case in split["val"][: int(number)]:
        link = folder / f"{case}_0000.nii.gz"
        if not link.exists():
            link.symlink_to(Path(raw) / "imagesTr" / link.name)
    labels = json.loads((Path(raw) / "dataset.json").read_text())["labels"]
    prior = {name: PRIOR for name, label in labels.items() if label}
    content = {"priors": {"full": {"volumes": prior}}}
    folder.with_suffix(".json").write_text(json.dumps(content))


def table(raw: str, *folders: str) -> None:
    """Prints topology and Dice of folders of segmentations, the first that of the prediction.

    Only cases in all folders count. Folders with a refinement.json also give time and voxels.
    """
    import SimpleITK as sitk
    from scipy.stats import wilcoxon

    from nnunet_topo.topology import betti_numbers

    description = json.loads((Path(raw) / "dataset.json").read_text())["labels"]
    labels = {name: label for name, label in description.items() if label}
    names = [{file.name for file in Path(folder).glob("*.nii.gz")} for folder in folders]
    cases = sorted(set.intersection(*names))
    print(f"{len(cases)} cases; topology counted at full connectivity, right is {PRIOR}")
    before: dict[str, np.ndarray] = {}
    for folder in (str(Path(raw) / "labelsTr"), *folders):
        wrong, off, dice = [], [], []
        for case in cases:
            mask = sitk.GetArrayFromImage(sitk.ReadImage(str(Path(folder) / case)))
            reference = sitk.GetArrayFromImage(sitk.ReadImage(f"{raw}/labelsTr/{case}"))
            numbers = [
                [betti_numbers(m == label) for label in labels.values()] for m in (mask, reference)
            ]
            wrong.append(np.abs(np.array(numbers[0]) - PRIOR).sum(axis=1))
            off.append(np.abs(np.subtract(*numbers)).sum(axis=1))
            dice.append(
                [
                    2
                    * np.sum((mask == label) & (reference == label))
                    / max(1, np.sum(mask == label) + np.sum(reference == label))
                    for label in labels.values()
                ]
            )
        found = {"wrong": np.array(wrong), "off": np.array(off), "dice": np.array(dice)}
        print(f"\n{'references' if folder.endswith('labelsTr') else Path(folder).name}")
        right = found["wrong"] == 0
        shares = ", ".join(
            f"{name} {share:.1%}" for name, share in zip(labels, right.mean(0), strict=True)
        )
        print(f"  right: {shares}, both {right.all(axis=1).mean():.1%}")
        if folder.endswith("labelsTr"):
            continue
        print(f"  Betti error against the references, mean: {_numbers(found['off'].mean(0), 2)}")
        print(f"  Dice: {_numbers(found['dice'].mean(0), 4)}, mean {found['dice'].mean():.4f}")
        before = before or found
        if before is not found:
            change = found["dice"] - before["dice"]
            for index, name in enumerate((*labels, "mean")):
                of = change[:, index] if index < len(labels) else change.mean(axis=1)
                p = wilcoxon(of).pvalue if np.any(of) else 1.0
                print(
                    f"  Dice, paired difference, {name}: mean {of.mean():+.4f}, median "
                    f"{np.median(of):+.4f}, {np.sum(of > 0)} better, {np.sum(of < 0)} worse, "
                    f"Wilcoxon p {p:.2g}"
                )
            worse = (found["wrong"] > before["wrong"]).any(axis=1).sum()
            print(f"  cases with a label further from {PRIOR} than predicted: {worse}")
        _print_record(Path(folder) / "refinement.json", cases)


def _print_record(file: Path, cases: list[str]) -> None:
    if not file.is_file():
        return
    content = json.loads(file.read_text())
    of_cases = [content["cases"][case.removesuffix(".nii.gz")] for case in cases]
    for what in ("voxels_changed", "steps", "seconds"):
        values = [of[what] for of in of_cases if of["status"] in ("refined", "postprocessed")]
        if values:
            print(
                f"  {what}, of {len(values)} cases that were changed: median "
                f"{np.median(values):.4g}, most {max(values):.4g}"
            )
    seconds = [of["seconds"] for of in of_cases if of["status"] == "kept"]
    if seconds:
        print(f"  seconds, of {len(seconds)} cases that were kept: median {np.median(seconds):.4g}")
    status = [of["status"] for of in of_cases]
    print("  " + ", ".join(f"{status.count(one)} {one}" for one in sorted(set(status))))


def _numbers(values: np.ndarray, digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
