"""Section 3 of postprocess.sh: planted topological errors, and where and in which files they are.

Usage: python -m tests.acceptance.error_places FOLDER
"""

import csv
import io
import os
import shutil
import sys
import time
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path

import nibabel
import numpy as np

from nnunet_topo.cli import main
from nnunet_topo.topology import unmatched
from nnunet_topo.topology.betti_matching import match_betti_numbers, surviving_loops

from ..evaluation.viewer_formats import read_itk_snap_labels, read_markups, read_slicer_colours
from ..planted_errors import planted
from ..topology.test_betti_matching import draw_pair

PAIRS = 2000
AFFINE = np.array(
    [[-0.68, 0.31, 0.45, 31.25], [0.22, 1.21, -0.52, -17.5], [-0.19, 0.16, 2.31, 203]]
)


def found() -> None:
    """Prints the kind and place of each planted error, in arrays."""

    right = 0
    print("planted                 found               place          voxels  in the right place")
    errors = planted()
    for connectivity in ("full", "face"):
        for error in errors:
            places = unmatched(error.prediction, error.reference, connectivity=connectivity)
            assert len(places) == 1, error
            place = places[0]
            is_right = place.kind == error.kind and bool(error.where[place.voxel])
            right += is_right
            if connectivity == "full":
                planted_as = f"{error.kind} ({error.prediction.ndim}D)"
                print(
                    f"{planted_as:23} {place.kind:19} {place.voxel!s:14} {place.size:6}  "
                    f"{'yes' if is_right else 'NO'}"
                )
    print(f"right kind and place: {right} of {2 * len(errors)}, both connectivities")
    assert right == 2 * len(errors)


def counted() -> None:
    """Prints how many random pairs have as many errors as the metric counts."""

    kinds: Counter[str] = Counter()
    equal = cycles = closed = loops = 0
    for connectivity in ("full", "face"):
        for seed in range(PAIRS):
            p, g = draw_pair(seed)
            places = unmatched(p, g, connectivity=connectivity)
            equal += len(places) == match_betti_numbers(p, g, connectivity=connectivity).error
            kinds.update(place.kind for place in places)
            for place in places:
                if p.ndim == 2 or place.dimension != 1:
                    continue
                loops += 1
                cycles += place.is_cycle
                mask = np.pad(p if place.in_prediction else g, 1)
                drawn = np.zeros_like(mask)
                drawn[tuple(place.voxels.T + 1)] = True
                steps = np.diff(np.vstack([place.voxels, place.voxels[:1]]), axis=0)
                steps = np.abs(steps)
                reach = steps.max(axis=1) if connectivity == "full" else steps.sum(axis=1)
                closed += (
                    bool((reach == 1).all())
                    and not (drawn & ~mask).any()
                    and surviving_loops(drawn, mask, connectivity) > 0
                )
    print(f"as many errors as the Betti matching error: {equal} of {2 * PAIRS} random pairs")
    print(f"  {', '.join(f'{number} {kind}' for kind, number in kinds.items())}")
    print(
        f"loops of volumes with a cycle: {cycles} of {loops}; closed, in the mask, bounds nothing: "
        f"{closed}"
    )
    assert equal == 2 * PAIRS
    assert closed == loops


def files(work: Path) -> None:
    """Prints what the files of planted errors hold, on an oblique grid of unequal spacing."""

    folder = work / "planted"
    shutil.rmtree(folder, ignore_errors=True)
    errors = {}
    affine = np.vstack([AFFINE, [0, 0, 0, 1]])
    for error in planted():
        if error.prediction.ndim == 2:
            continue
        name = error.kind.replace(" ", "_")
        errors[f"{name}.nii.gz"] = error
        for part, mask in (("gt", error.reference), ("pred", error.prediction)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(mask.T.astype(np.uint8), affine)
            nibabel.save(image, folder / part / f"{name}.nii.gz")
    with redirect_stdout(io.StringIO()) as printed:
        assert (
            main(["evaluate", str(folder / "gt"), str(folder / "pred"), "-np", "1", "--report"])
            == 0
        )
    out = folder / "pred" / "summary_errors"
    named = read_itk_snap_labels(out / "errors.label.txt")
    colours = read_slicer_colours(out / "errors.ctbl")
    assert {n: (name.replace(" ", "_"), c) for n, (name, c) in named.items()} == colours
    print("kind in the table    i, j, k        right, anterior, superior mm   kind in the map")
    with (out / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        voxel = tuple(int(row[axis]) for axis in "ijk")
        at = [float(row[f"{side}_mm"]) for side in ("right", "anterior", "superior")]
        label_map = nibabel.load(out / row["case"])
        assert np.array_equal(label_map.affine, nibabel.load(folder / "gt" / row["case"]).affine)
        in_map = named[int(np.asarray(label_map.dataobj)[voxel])][0]
        points = read_markups(out / row["case"].replace(".nii.gz", ".mrk.json"))[0]
        left, posterior, superior = points["controlPoints"][0]["position"]
        assert np.allclose([-left, -posterior, superior], at, atol=1e-3)
        assert np.allclose((affine @ [*voxel, 1])[:3], at, atol=1e-3)
        assert row["kind"] == in_map == errors[row["case"]].kind
        assert errors[row["case"]].where[voxel[::-1]]
        shown = ", ".join(f"{value:.2f}" for value in at)
        print(f"{row['kind']:20} {voxel!s:14} {shown:30} {in_map}")
    assert len(rows) == len(errors)
    print(
        f"labels with names and colours: {len(named)} in ITK-SNAP's format, {len(colours)} in "
        "Slicer's"
    )
    print(*[line for line in printed.getvalue().splitlines() if "largest" in line], sep="\n")


def chase(data: Path, work: Path) -> None:
    """Prints errors and time of the second observer of CHASE_DB1 against the first."""

    source, folder = data / "Dataset101_ChaseDB1", work / "chase"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source / "labels2ndTr", folder, copy_function=shutil.copyfile)
    arguments = ["evaluate", str(source / "labelsTr"), str(folder), "-np", "1", "-djfile"]
    arguments.append(str(source / "dataset.json"))
    assert main(arguments) == 0
    began = time.perf_counter()
    assert main([*arguments, "--error-maps"]) == 0
    print(f"maps of 20 images of 999 x 960: {time.perf_counter() - began:.1f} s on one core")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found()
    counted()
    files(folder)
    chase(Path(os.environ["NNUNET_TOPO_DATA"]), folder)
