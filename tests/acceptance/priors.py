"""The parts of priors.sh that compare."""

import json
import re
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

DATASETS = ("Dataset004_Hippocampus", "Dataset101_ChaseDB1", "Dataset102_SunnybrookLV")


def _statistics(preprocessed: str, dataset: str) -> dict:
    content = json.loads((Path(preprocessed) / dataset / "topology.json").read_text())
    return content["statistics"]


# -- section 1 ---------------------------------------------------------------------------------


def readme(file: str, preprocessed: str) -> None:
    """Prints each figure of the data's README next to that of topology.json."""
    text = " ".join(Path(file).read_text().split())
    hippocampus = _statistics(preprocessed, DATASETS[0])
    said = re.search(
        r"anterior \(1,0,0\) in (\d+) %, posterior in (\d+) %, union in (\d+) % of cases; at face "
        r"connectivity only (\d+) / (\d+) / (\d+) %. Foreground never touches the border",
        text,
    )
    shares = map(int, said.groups())
    for connectivity in ("full", "face"):
        for name in ("Anterior", "Posterior", "foreground"):
            record = hippocampus[connectivity]["volumes"][name]["raw"]
            share = 100 * record["betti"]["1 0 0"] / record["objects"]
            expected = next(shares)
            print(
                f"Hippocampus, {name}, {connectivity}: (1, 0, 0) in {share:.1f} %, README "
                f"{expected} %, {share - expected:+.1f}; at the border {record['at_border']}"
            )
            # Two shares differ by more than rounding; the comparison with gudhi is exact.
            assert abs(share - expected) <= 2.5
            assert record["at_border"] == 0
    cases = int(re.search(r"(\d+) T1 MRI crops", text).group(1))
    assert hippocampus["cases"] == cases
    spans = {}
    for connectivity in ("full", "face"):
        record = _statistics(preprocessed, DATASETS[1])[connectivity]["slices"]["vessel"]["raw"]
        numbers = np.array([list(map(int, key.split())) for key in record["betti"]])
        spans[connectivity] = [*zip(numbers.min(0).tolist(), numbers.max(0).tolist(), strict=True)]
    expected = [*map(int, re.search(r"beta0 (\d+)-(\d+), beta1 (\d+)-(\d+)", text).groups())]
    print(f"ChaseDB1: (lowest, highest) beta0, beta1: {spans}, README {expected}")
    # Its lowest beta1 is that of face, all else that of full.
    (low0, high0), (_, high1) = spans["full"]
    assert [low0, high0, spans["face"][1][0], high1] == expected
    slices = int(re.search(r"(\d+) short-axis cardiac MR slices", text).group(1))
    found = _statistics(preprocessed, DATASETS[2])["cases"]
    print(f"SunnybrookLV: {found} cases, README {slices}")
    assert found == slices


def agreement(data: str, preprocessed: str) -> None:
    """Prints how many of all labels have the Betti numbers that gudhi counts."""
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    readers = dict(
        zip(DATASETS, (SimpleITKIO(), NaturalImage2DIO(), NaturalImage2DIO()), strict=True)
    )
    for dataset, reader in readers.items():
        folder = Path(preprocessed) / dataset
        turned = json.loads((folder / "nnUNetPlans.json").read_text())["transpose_forward"]
        description = json.loads((Path(data) / dataset / "dataset.json").read_text())
        labels = {n: [v] for n, v in description["labels"].items() if n != "background"}
        if len(labels) > 1:
            labels["foreground"] = [label for (label,) in labels.values()]
        files = sorted((Path(data) / dataset / "labelsTr").iterdir())
        maps = [reader.read_seg(str(file))[0][0].transpose(turned) for file in files]
        parts = {"slices": [part for label_map in maps for part in label_map]}
        if len(maps[0]) > 1:
            parts = {"volumes": maps} | parts
        statistics = _statistics(preprocessed, dataset)
        for connectivity in ("full", "face"):
            for objects, arrays in parts.items():
                for name, values in labels.items():
                    began = time.perf_counter()
                    masks = (np.isin(array, values) for array in arrays)
                    counted = Counter(_by_gudhi(m, connectivity) for m in masks if m.any())
                    record = statistics[connectivity][objects][name]["raw"]
                    equal = counted == record["betti"]
                    print(
                        f"{dataset}, {objects}, {name}, {connectivity}: {counted.total()} labels, "
                        f"{len(counted)} different Betti numbers, "
                        f"{'equal' if equal else f'DIFFERENT: {counted} and {record}'} "
                        f"({time.perf_counter() - began:.0f} s)",
                        flush=True,
                    )
                    assert equal


def _by_gudhi(mask: np.ndarray, connectivity: str) -> str:
    """Returns the Betti numbers of a mask by cubical persistence of a complex of its own."""
    from gudhi import CubicalComplex

    occupied = np.argwhere(mask)
    box = tuple(map(slice, occupied.min(0), occupied.max(0) + 1))
    values = 1 - np.pad(mask[box], 1).astype(float)
    if connectivity == "full":
        cubical = CubicalComplex(top_dimensional_cells=values)
    else:
        cubical = CubicalComplex(vertices=values)
    betti = [0] * mask.ndim
    for dimension, (birth, death) in cubical.persistence():
        betti[dimension] += birth <= 0 < death
    return " ".join(map(str, betti))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
