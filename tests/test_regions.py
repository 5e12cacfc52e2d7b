"""The worked example of docs/regions.md, as printed, on drawn tumours."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_topo.topology import betti_numbers

from .documents import blocks
from .test_documents import affordable, in_shell, place, to_run

PAGE = "docs/regions.md"
COMMANDS = f"{PAGE}: From planning to the report"
DATASET = "Dataset005_Tumours"
REGIONS = {"whole_tumor": (1, 2, 3), "tumor_core": (2, 3), "enhancing_tumor": (3,)}
BETTI = {"whole_tumor": [1, 0, 0], "tumor_core": [1, 0, 0], "enhancing_tumor": [1, 0, 1]}
# Brightness of oedema, necrosis and enhancing tumour in each channel.
CONTRASTS = {"FLAIR": (3, 1, 2), "T1": (-1, -2, 0), "T1ce": (0, -2, 4), "T2": (3, 4, 1)}


def tumour(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns four channels and labels, `[z, y, x]`: a rim around necrosis, with oedema around it.

    The rim encloses the necrosis: the enhancing tumour is a hollow ball, the other two are balls.
    """
    rng = np.random.default_rng(seed)
    shape = (24, 28, 30)
    centre = np.array(shape)[:, None, None, None] / 2 + rng.uniform(-1.5, 1.5, (3, 1, 1, 1))
    stretch = rng.uniform(0.9, 1.1, (3, 1, 1, 1))
    distance = np.sqrt((((np.indices(shape) - centre) / stretch) ** 2).sum(0))
    labels = np.zeros(shape, np.uint8)
    for label, radius in ((1, 9), (3, 6.5), (2, 3.5)):
        labels[distance < radius] = label
    channels = np.stack([np.array((0, *c))[labels] for c in CONTRASTS.values()])
    return (channels + rng.normal(0, 0.6, channels.shape)).astype(np.float32), labels


def write_case(name: str, seed: int, images: Path, references: Path) -> None:
    channels, labels = tumour(seed)
    for folder in (images, references):
        folder.mkdir(parents=True, exist_ok=True)
    for number, channel in enumerate(channels):
        sitk.WriteImage(sitk.GetImageFromArray(channel), images / f"{name}_{number:04d}.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(labels), references / f"{name}.nii.gz")


def test_the_drawn_tumours_are_nested_and_their_rim_is_hollow():
    for seed in range(10):
        _, labels = tumour(seed)
        for name, region in REGIONS.items():
            assert [*betti_numbers(np.isin(labels, region))] == BETTI[name]
        assert betti_numbers(labels == 1) == (1, 0, 1)


def described() -> dict:
    """Returns the dataset.json that the page prints."""
    (block,) = [b for b in blocks("json") if place(b) == f"{PAGE}: dataset.json"]
    return json.loads(block.text)


def test_the_page_describes_the_regions_that_are_tested():
    labels = described()["labels"]
    assert {n: v for n, v in labels.items() if n != "background"} == {
        name: list(region) if len(region) > 1 else region[0] for name, region in REGIONS.items()
    }
    assert described()["channel_names"] == {str(i): name for i, name in enumerate(CONTRASTS)}


@pytest.mark.slow
def test_the_regions_go_from_dataset_json_to_the_report_as_printed(tmp_path):
    raw = tmp_path / "nnUNet_raw" / DATASET
    description = described()
    for case in range(description["numTraining"]):
        write_case(f"tumour_{case}", case, raw / "imagesTr", raw / "labelsTr")
    (raw / "dataset.json").write_text(json.dumps(description))
    for name in ("preprocessed", "results"):
        (tmp_path / f"nnUNet_{name}").mkdir()
    for case in (100, 101):
        write_case(f"tumour_{case}", case, tmp_path / "IMAGES", tmp_path / "REFERENCES")
    printed = in_shell([affordable(command) for command in to_run(COMMANDS)], tmp_path, tmp_path)

    plans = json.loads((tmp_path / "nnUNet_preprocessed" / DATASET / "topology.json").read_text())
    found = plans["priors"]["full"]["volumes"]
    assert {name: found[name] for name in REGIONS} == BETTI
    assert re.search(r"topology: term \d+\.\d+", printed)
    summary = json.loads((tmp_path / "PREDICTED/summary.json").read_text())
    assert set(summary["mean"]) == {"(1, 2, 3)", "(2, 3)", "3"}
    assert len(summary["metric_per_case"]) == 2
    for case in summary["metric_per_case"]:
        name = Path(case["prediction_file"]).name
        label_maps = [
            sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / folder / name))
            for folder in ("PREDICTED", "REFERENCES")
        ]
        for key, region in zip(("(1, 2, 3)", "(2, 3)", "3"), REGIONS.values(), strict=True):
            betti = [betti_numbers(np.isin(label_map, region)) for label_map in label_maps]
            errors = [abs(p - r) for p, r in zip(*betti, strict=True)]
            assert [case["metrics"][key][f"topo_betti_error_{k}"] for k in range(3)] == errors
    report = (tmp_path / "comparison_regions/report.html").read_text()
    for name in REGIONS:
        assert name in report
