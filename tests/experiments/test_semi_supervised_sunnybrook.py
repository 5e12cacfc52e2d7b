"""Clough's experiment 2: rings from contours, the split, repairs and record; on drawn slices."""

import importlib
import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from skimage import draw, io

from nnunet_topo.topology import betti_numbers

pytest.importorskip("statsmodels")  # which the experiments compare with
PATIENTS = [f"SC-HF-I-{number:02d}" for number in range(1, 6)]  # the last has no outer contours
SLICES = 4


def part(name: str) -> ModuleType:
    """Returns a module of the experiment."""
    return importlib.import_module(f"experiments.semi_supervised_sunnybrook.{name}")


def write_contour(file, centre, radii):
    """Writes an ellipse as Sunnybrook does: x and y in each line."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    y, x = (c + r * f(angle) for c, r, f in zip(centre, radii, (np.sin, np.cos), strict=True))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{a:.2f} {b:.2f}\n" for a, b in zip(x, y, strict=True)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Returns a data folder of drawn hearts, and a folder of outer contours in two layouts."""
    data, contours = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("contours")
    for kind in ("imagesTr", "labelsTr"):
        (data / "Dataset102_SunnybrookLV" / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, patient in enumerate(PATIENTS, 1):
        for i in range(SLICES):
            name, centre = f"{patient}-IM-0001-{20 * i:04d}", (70 + 3 * i, 110 + number)
            cavity = np.zeros((140, 180), bool)
            cavity[draw.ellipse(*centre, 12, 10, shape=cavity.shape)] = True
            muscle = np.zeros_like(cavity)
            muscle[draw.ellipse(*centre, 26, 16, shape=cavity.shape)] = True
            image = 60.0 + 120 * cavity - 50 * (muscle & ~cavity) + rng.normal(0, 5, cavity.shape)
            folder = data / "Dataset102_SunnybrookLV"
            io.imsave(folder / f"imagesTr/{name}_0000.png", np.uint8(image.clip(0, 255)))
            io.imsave(folder / f"labelsTr/{name}.png", np.uint8(cavity), check_contrast=False)
            file = f"IM-0001-{20 * i:04d}-ocontour-manual.txt"
            if patient == PATIENTS[-1]:
                continue
            if number % 2:  # as in the release; the other half as a course hands it on
                file = contours / patient / "contours-manual/IRCCI-expert" / file
            else:
                file = contours / f"SC-HF-I-{number}/o-contours" / file
            # The first slice of the first patient is open at the base.
            shift = 12 if (number, i) == (1, 0) else 0
            write_contour(file, (centre[0], centre[1] + shift), (26, 16))
    return data, contours


@pytest.fixture(scope="module")
def crops(folders):
    return part("ring").read_rings(folders[0] / "Dataset102_SunnybrookLV", folders[1])


def test_a_ring_lies_between_cavity_and_outer_contour_and_open_ones_are_left_out(crops):
    assert crops.images.shape == crops.rings.shape == (len(PATIENTS) * SLICES, 80, 80)
    ringed = crops.rings.any(axis=(1, 2))
    assert ringed.sum() == 4 * SLICES - 1
    assert not ringed[crops.names == "SC-HF-I-01-IM-0001-0000"]
    assert not ringed[crops.patients == PATIENTS[-1]].any()
    y, x = np.indices((80, 80)) - 40
    inside = (y / 26) ** 2 + (x / 16) ** 2 < 0.9
    wall = inside & ((y / 12) ** 2 + (x / 10) ** 2 > 1.2)
    outside = (y / 26) ** 2 + (x / 16) ** 2 > 1.2
    for ring in crops.rings[ringed]:
        assert betti_numbers(ring) == (1, 1)
        assert ring[wall].all()
        assert not ring[outside].any()
        assert not ring[40, 40]


def test_missing_contours_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold SC-.*ocontour-manual"):
        part("ring").read_outer_contours(tmp_path)


def test_four_seeds_test_each_patient_with_rings_once_and_no_patient_is_in_two_parts(crops):
    tested = []
    for seed in range(4):
        data = part("ring").split_rings(crops, seed, 5, 20)
        patients = {
            name: {group.partition("-IM")[0] for group in slices.groups}
            for name, slices in data.items()
        }
        assert len(patients["test"]) == len(patients["validate"]) == 1
        seen = patients["labelled"] | patients["unlabelled"]
        assert not seen & (patients["test"] | patients["validate"])
        assert patients["test"] != patients["validate"]
        assert PATIENTS[-1] in patients["unlabelled"]
        assert not set(data["labelled"].groups) & set(data["unlabelled"].groups)
        assert [len(data[name].groups) for name in ("labelled", "unlabelled")] == [5, 12 - 5]
        for name in ("labelled", "validate", "test"):
            masks = data[name].masks[:, 0].numpy() > 0
            assert [betti_numbers(mask) for mask in masks] == [(1, 1)] * len(masks)
        tested += patients["test"]
    assert sorted(tested) == PATIENTS[:4]
    with pytest.raises(ValueError, match="9 slices are to be labelled, but 8 have rings"):
        part("ring").split_rings(crops, 0, 9, 20)


def test_the_random_field_closes_a_gap_that_the_image_shows_and_removes_an_island():
    pytest.importorskip("pydensecrf")
    crf = part("crf")
    y, x = np.indices((80, 80)) - 40
    ring = np.abs(np.hypot(y, x) - 15) < 4
    probability = np.where(ring, 0.8, 0.1).astype(np.float32)
    probability[ring & (np.abs(y) < 3) & (x > 0)] = 0.4
    probability[5, 5] = 0.9
    image = np.where(ring, 0.3, 0.8).astype(np.float32)
    repaired = crf.smoothed(probability, image, crf.Potentials(1, 3, 5, 13))
    assert betti_numbers(probability > 0.5) == (2, 0)
    assert betti_numbers(repaired) == (1, 1)
    assert (repaired == ring).mean() > 0.99
    slices = part("slices").Slices(
        torch.from_numpy(image)[None, None],
        torch.from_numpy(ring)[None, None].float(),
        np.array(["a"]),
    )
    best = crf.best_potentials(probability[None], slices)
    assert (crf.all_smoothed(probability[None], slices, best)[0] == ring).mean() > 0.99


@pytest.fixture
def command(folders, monkeypatch, tmp_path, capsys):
    """Returns a function that runs the command, briefly, and returns what it printed."""
    module = part("__main__")
    monkeypatch.setattr(module, "SUPERVISED", 12)
    monkeypatch.setattr(module, "AFTER", 6)
    monkeypatch.setattr(part("training"), "CHECKED", 6)
    few = module.Structure((1, 1), ((5, 20), (5, 60)), "slice", tmp_path / "record.json")
    monkeypatch.setattr(module, "RING", few)

    def run(*arguments):
        options = ["--data", str(folders[0]), "--ring", "--seeds", "1", *arguments]
        monkeypatch.setattr(sys, "argv", ["experiment", *options])
        module.main()
        return capsys.readouterr().out

    return run


def test_the_ring_is_kept_setting_by_setting_and_resumes(
    command, folders, monkeypatch, tmp_path, capsys
):
    module, calls = part("__main__"), []
    run_setting = module.run_setting

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run_setting(*arguments)

    monkeypatch.setattr(module, "run_setting", interrupted)
    contours = ("--contours", str(folders[1]))
    with pytest.raises(KeyboardInterrupt):
        command(*contours)
    capsys.readouterr()
    file = tmp_path / "record.json"
    first = json.loads(file.read_text())
    assert list(first) == ["seed 0, labelled 5, removed 20"]
    arms = first["seed 0, labelled 5, removed 20"]["arms"]
    assert {"supervised", "closing_component", "self", "prior", "prior_component"} <= arms.keys()
    tested = {group for group in arms["prior"]["dice"] if group != "all"}
    assert {group.partition("-IM")[0] for group in tested} == {PATIENTS[0]}
    assert len(tested) == SLICES - 1
    printed = command(*contours)
    assert len(calls) == 3
    assert printed.startswith("seed 0, labelled 5, removed 60: ")
    both = json.loads(file.read_text())
    assert both.items() > first.items()
    assert len(both) == 2
    assert command("--table") == printed.partition("\n")[2]
    with pytest.raises(SystemExit):
        command()
    assert "--ring needs --contours" in capsys.readouterr().err


def test_each_repair_takes_the_masks_of_its_own_arm():
    supervised, prior = np.zeros((2, 1, 40, 40), bool)
    supervised[0, 5:15, 5:15] = True
    supervised[0, 17:20, 5:15] = supervised[0, 30:33, 30:33] = True  # near, and far away
    prior[0, 20:30, 20:30] = prior[0, 3, 3] = True
    arms = part("measures").repaired_arms(supervised, prior)
    assert arms.keys() == {"component", "closing", "closing_component", "prior_component"}
    assert arms["component"].sum() == 100
    assert arms["closing"][0, 15:17, 8:12].all()
    assert arms["closing"][0, 30:33, 30:33].all()
    assert arms["closing_component"][0, 5:20, 8:12].all()
    assert not arms["closing_component"][0, 30:33, 30:33].any()
    assert np.array_equal(np.argwhere(arms["prior_component"][0]).min(axis=0), [20, 20])
    assert arms["prior_component"].sum() == 100
