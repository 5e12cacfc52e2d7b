"""The second section of postprocess.sh: exact correction to a known topology.

Usage: python -m tests.acceptance.correct maps [IMAGES VOLUMES TINY]
       python -m tests.acceptance.correct hippocampus MODEL RAW FOLDER [REFINED]
       python -m tests.acceptance.correct sunnybrook DATA [CONTOURS [FOLDS]]

`maps` takes random probability maps. `hippocampus` takes a trained model, the raw data set that it
was trained on and a folder to write to; it predicts the validation cases of fold 0, and
refines the first REFINED of them (default all). `sunnybrook`
trains the small net of the experiment on Sunnybrook; without the outer contours of the ring it
takes the cavity.
"""

import json
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
from scipy import ndimage

PRIORS = {
    2: [(1, 0), (1, 1), (2, 0), (1, 2), (2, 1), (3, 2), (5, 5), (0, 0)],
    3: [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 2, 0), (1, 0, 1), (2, 1, 1)],
}
TINY = {
    (4, 4): [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0)],
    (3, 5): [(1, 0), (1, 1), (2, 0), (1, 2), (2, 1)],
    (2, 2, 4): [(1, 0, 0), (2, 0, 0)],
    (3, 5, 1): [(1, 0, 0), (1, 1, 0)],
}
CONNECTIVITIES = ("full", "face")
SIDE = 128


def random_map(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Returns smooth noise as probabilities, of which a fifth to four fifths are foreground."""
    noise = ndimage.gaussian_filter(random.normal(size=shape), random.uniform(0.7, 2.5))
    return 1 / (1 + np.exp(-2 * (noise / noise.std() + random.normal() * 0.5)))


def exactness(number_2d: int, number_3d: int) -> None:
    """Prints for each prior how many random maps get exactly its Betti numbers."""
    from nnunet_topo.correction.mask import correct_mask
    from nnunet_topo.topology import betti_numbers

    for shape, number in (((32, 35), number_2d), ((15, 17, 16), number_3d)):
        random = np.random.default_rng(0)
        priors = PRIORS[len(shape)]
        of_prior = {prior: [0, 0, 0.0, 0] for prior in priors}
        for index in range(number):
            prior, connectivity = priors[index % len(priors)], CONNECTIVITIES[index // 2 % 2]
            image = random_map(random, shape)
            if index % 5 == 0:
                image = image > 0.5  # a mask alone
            began = time.perf_counter()
            found = correct_mask(image, prior, connectivity=connectivity)
            took = time.perf_counter() - began
            counted = betti_numbers(found.mask, connectivity=connectivity)
            assert found.is_right == (counted == prior), "claimed exact, but is not"
            row = of_prior[prior]
            row[0] += 1
            row[1] += found.is_right
            row[2] += took
            row[3] += found.betti_before == prior
        total = [sum(row[k] for row in of_prior.values()) for k in range(2)]
        print(f"\n{number} random maps of shape {shape}, half at each connectivity, every fifth")
        print(f"as a mask alone: exactly right {total[1]} of {total[0]}")
        for prior, (tried, right, seconds, before) in of_prior.items():
            print(
                f"  {prior}: {right} of {tried} ({right / tried:.1%}), right before {before}, "
                f"{1000 * seconds / tried:.0f} ms each"
            )


def optimum(number: int) -> None:
    """Prints the cost of corrections of tiny images divided by the least of all masks."""
    from nnunet_topo.correction.mask import correct_mask
    from nnunet_topo.topology import betti_numbers

    print("\ncost divided by that of the best of all masks (brute force), images of 15-16 voxels")
    ratios: dict[str, list[float]] = {"too many": [], "something missing": []}
    missed = reachable = 0
    for (shape, priors), connectivity in product(TINY.items(), CONNECTIVITIES):
        random = np.random.default_rng(1)
        voxels = int(np.prod(shape))
        masks = (np.arange(2**voxels)[:, None] >> np.arange(voxels) & 1).astype(bool)
        betti = np.array(
            [betti_numbers(mask.reshape(shape), connectivity=connectivity) for mask in masks]
        )
        for prior in priors:
            right = masks[(betti == prior).all(axis=1)]
            for _ in range(number if len(right) else 0):
                score = random.normal(size=shape) * 2
                cost = ((right != (score.ravel() > 0)) @ np.abs(score.ravel())).min()
                found = correct_mask(1 / (1 + np.exp(-score)), prior, connectivity=connectivity)
                reachable += 1
                missed += not found.is_right
                if found.is_right and cost:
                    short = any(b < w for b, w in zip(found.betti_before, prior, strict=True))
                    ratios["something missing" if short else "too many"].append(found.cost / cost)
    print(f"  reachable priors that were reached: {reachable - missed} of {reachable}")
    for kind, of_kind in ratios.items():
        values = np.array(of_kind)
        print(
            f"  {kind}, {len(values)} images: median {np.median(values):.3f}, 95 % below "
            f"{np.quantile(values, 0.95):.2f}, worst {values.max():.2f}, the optimum itself in "
            f"{(values < 1 + 1e-6).mean():.1%}"
        )
    print("  (what is missing is made where the longest bar says, not where it is cheapest)")


def speed() -> None:
    """Prints the time for 128^3 with three labels of one core's time."""
    from nnunet_topo.correction.label_map import correct_label_map
    from nnunet_topo.correction.structures import Structure
    from nnunet_topo.topology.betti_range import BettiPrior

    random = np.random.default_rng(0)
    place = np.indices((SIDE,) * 3) - SIDE / 2 + 0.5
    radius = np.hypot(place[1], place[2])
    depths = [
        12 - np.hypot(radius - 40, place[0]),
        24 - np.sqrt((place**2).sum(0)),
        np.minimum(10 - np.abs(place[0] - 40), 44 - radius),
    ]
    structures = [
        Structure(str(index + 1), (index + 1,), BettiPrior.of(prior))
        for index, prior in enumerate([(1, 1, 0), (1, 0, 0), (1, 0, 0)])
    ]
    for name, strength in (("as a trained net", 1.5), ("heavy", 3.0)):
        noise = [ndimage.gaussian_filter(random.normal(size=(SIDE,) * 3), 1.5) for _ in depths]
        logits = [np.zeros((SIDE,) * 3)]
        logits += [depth + strength * n / n.std() for depth, n in zip(depths, noise, strict=True)]
        label_map = np.argmax(logits, axis=0).astype(np.int32)
        scores = {
            (label,): logits[label] - np.max(logits[:label] + logits[label + 1 :], axis=0)
            for label in range(4)
        }
        seconds = []
        for _ in range(3):
            began = time.process_time()
            found = correct_label_map(label_map, structures, scores=scores)
            seconds.append(time.process_time() - began)
        told = ", ".join(f"{tuple(s.before)} -> {tuple(s.after)}" for s in found.structures)
        print(f"\n{SIDE}^3 with 3 labels, noise {name}: {told}")
        print(
            f"  {found.voxels_changed} voxels changed, {np.median(seconds):.2f} s of processor time"
        )


def maps(number_2d: str = "2000", number_3d: str = "1000", number_tiny: str = "100") -> None:
    """Prints exactness, costs and times on synthetic maps."""
    exactness(int(number_2d), int(number_3d))
    optimum(int(number_tiny))
    speed()


def hippocampus(model: str, raw: str, folder: str, refined: str = "1000") -> None:
    """Prints what correction and refinement make of the validation cases of a model."""
    work, labels = Path(folder), Path(raw) / "labelsTr"
    images = work / "images"
    images.mkdir(parents=True, exist_ok=True)
    description = json.loads((Path(model) / "dataset.json").read_text())
    names = {label: name for name, label in description["labels"].items() if label}
    for file in (Path(model) / "fold_0/validation").glob("*.nii.gz"):
        link = images / file.name.replace(".nii.gz", "_0000.nii.gz")
        if not link.exists():
            link.symlink_to((Path(raw) / "imagesTr" / link.name).resolve())
    prior = work / "topology.json"
    priors = {name: [1, 0, 0] for name in names.values()}
    prior.write_text(json.dumps({"priors": {"full": {"volumes": priors}}}))
    predicted = work / "predicted"
    _run(
        *("nnUNetv2_predict_from_modelfolder", "-i", images, "-o", predicted, "-m", model),
        *("-f", "0", "-device", "cpu", "--save_probabilities", "--continue_prediction"),
    )
    correct = "nnunet-topo", "correct", "-i", predicted, "--prior", prior
    _run(*correct, "-o", work / "corrected", "--probabilities", shown=True)
    _run(*correct, "-o", work / "corrected_mask", shown=True)
    cases = sorted(file.name for file in predicted.glob("*.nii.gz"))
    few = work / "images_to_refine"
    few.mkdir(exist_ok=True)
    for case in cases[: int(refined)]:
        link = few / case.replace(".nii.gz", "_0000.nii.gz")
        if not link.exists():
            link.symlink_to((images / link.name).resolve())
    refine = "nnunet-topo", "refine", "-i", few, "-m", model, "--prior", prior
    _run(*refine, "-o", work / "refined", "-device", "cpu")
    done = cases[: int(refined)]
    for of, folders in (
        (cases, ("predicted", "corrected", "corrected_mask")),
        (done, ("predicted", "corrected", "refined")),
    ):
        print(f"\nhippocampus, {len(of)} held-out cases, prior (1, 0, 0) for {len(names)} labels")
        for name in folders:
            records = "correction.json", "refinement.json"
            record = next(((work / name / r) for r in records if (work / name / r).is_file()), None)
            of_cases = {} if record is None else json.loads(record.read_text())["cases"]
            seconds = [of_cases[case.removesuffix(".nii.gz")]["seconds"] for case in of if of_cases]
            _table(name, work / name, labels, of, list(names), seconds)


def _run(*command: object, shown: bool = False) -> None:
    """Runs a command, and shows the last lines of what it prints."""
    executable = Path(sys.executable).parent / str(command[0])
    done = subprocess.run(
        [str(executable), *map(str, command[1:])], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command} returned {done.returncode}: {done.stdout}{done.stderr}")
    if shown:
        print(*done.stdout.splitlines()[-5:], sep="\n")


def _table(
    name: str, folder: Path, labels: Path, cases: list[str], values: list[int], seconds: list[float]
) -> None:
    import SimpleITK as sitk

    from nnunet_topo.topology import betti_numbers

    right, dice = [], []
    for case in cases:
        mask, reference = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(place / case))) for place in (folder, labels)
        )
        for value in values:
            right.append(betti_numbers(mask == value) == (1, 0, 0))
            both = np.sum((mask == value) & (reference == value))
            dice.append(2 * both / (np.sum(mask == value) + np.sum(reference == value)))
    timed = f", {np.median(seconds):.2f} s a case (median)" if seconds else ""
    print(f"  {name}: exact {np.mean(right):.1%} of labels, Dice {np.mean(dice):.4f}{timed}")


def sunnybrook(data: str, contours: str = "", folds: str = "4") -> None:
    """Prints what correction and refinement by eq. 5 make of slices of the left ventricle."""
    import torch

    from experiments.semi_supervised_sunnybrook.__main__ import CAVITY, RING, SUPERVISED, reader
    from experiments.semi_supervised_sunnybrook.training import (
        UNet,
        dice_of,
        probabilities,
        train_arm,
    )
    from nnunet_topo.correction.mask import correct_mask
    from nnunet_topo.topology import betti_numbers

    torch.set_num_threads(1)
    structure = RING if contours else CAVITY
    split = reader(Path(data), Path(contours) if contours else None)
    rows: dict[str, list[np.ndarray]] = {}
    for seed in range(int(folds)):
        slices = split(seed, *structure.pairs[0])
        torch.manual_seed(seed)
        network = train_arm("supervised", UNet(), slices, structure.betti, seed, SUPERVISED)
        test = slices["test"]
        p = probabilities(network, test)
        masks = {"predicted": p > 0.5}
        seconds = {"predicted": 0.0}
        for name, images in (("corrected", p), ("corrected_mask", p > 0.5)):
            began = time.perf_counter()
            found = [correct_mask(image, structure.betti).mask for image in images]
            seconds[name] = (time.perf_counter() - began) / len(p)
            masks[name] = np.stack(found)
        began = time.perf_counter()
        masks["refined"] = np.stack(
            [_refined(network, image, structure.betti) for image in test.images]
        )
        seconds["refined"] = (time.perf_counter() - began) / len(p)
        for name, of in masks.items():
            right = [betti_numbers(mask) == structure.betti for mask in of]
            values = np.stack([right, dice_of(of, test), np.full(len(of), seconds[name])])
            rows.setdefault(name, []).append(values)
    number = sum(values.shape[1] for values in rows["predicted"])
    print(f"\nSunnybrook, {number} held-out slices, prior {structure.betti}")
    for name, of in rows.items():
        right, dice, took = np.concatenate(of, axis=1).mean(axis=1)
        print(f"  {name}: exact {right:.1%}, Dice {dice:.4f}, {1000 * took:.0f} ms a slice")


def _refined(network: object, image: object, betti: tuple[int, int]) -> np.ndarray:
    """Returns the mask of a copy of a network that eq. 5 of Clough et al. adapts to one slice."""
    from copy import deepcopy

    import torch
    from torch.nn import functional

    from nnunet_topo.losses import BettiPriorLoss
    from nnunet_topo.topology import betti_numbers

    adapted = deepcopy(network)
    loss = BettiPriorLoss({0: betti}, clamp=0.01)
    optimizer = torch.optim.Adam(adapted.parameters(), lr=1e-4)
    before = None
    for _ in range(50):
        p = torch.sigmoid(adapted(image[None]))
        mask = p[0, 0].detach().numpy() > 0.5
        if betti_numbers(mask) == betti:
            break
        before = p.detach() if before is None else before
        optimizer.zero_grad()
        (functional.mse_loss(p, before) + 0.02 * loss(p)).backward()
        optimizer.step()
    return mask


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
