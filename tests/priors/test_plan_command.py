"""`nnunet-topo plan` on data sets: what it measures, prints and writes."""

import json
import pickle
import re
import shutil
from collections import Counter

import numpy as np
import pytest
import SimpleITK as sitk
from gudhi import CubicalComplex
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_topo.cli import main
from nnunet_topo.dataset import Channels
from nnunet_topo.priors import measure
from nnunet_topo.priors.topology_json import TopologyJson
from nnunet_topo.topology.betti_range import BettiPrior

from ..model_folder import plans
from ..shapes import ball
from .conftest import plan

LABELLED = ("ring", "blob", "never")


def betti_by_gudhi(mask, connectivity):
    """Returns Betti numbers by cubical persistence; of an array of axes in Fortran order."""
    values = 1 - np.pad(mask, 1).astype(float)
    cells = {"full": "top_dimensional_cells", "face": "vertices"}[connectivity]
    complex_ = CubicalComplex(**{cells: values})
    complex_.persistence()
    numbers = complex_.persistent_betti_numbers(0, 0.5)
    return tuple((numbers + [0] * mask.ndim)[: mask.ndim])


def test_the_numbers_of_raw_labels_are_gudhis(dataset):
    raw, preprocessed = dataset
    assert plan() == 0
    statistics = TopologyJson.read(preprocessed / "topology.json").content["statistics"]
    assert statistics["cases"] == 6
    label_maps = [
        sitk.GetArrayFromImage(sitk.ReadImage(file)) for file in (raw / "labelsTr").iterdir()
    ]
    labels = {"ring": (1,), "blob": (2,), "foreground": (1, 2)}
    for connectivity in ("full", "face"):
        for objects, parts in (
            ("volumes", label_maps),
            ("slices", [part for label_map in label_maps for part in label_map]),
        ):
            for name, of_label in labels.items():
                masks = [np.isin(part, of_label) for part in parts]
                there = [mask for mask in masks if mask.any()]
                expected = Counter(
                    " ".join(map(str, betti_by_gudhi(mask, connectivity))) for mask in there
                )
                record = statistics[connectivity][objects][name]["raw"]
                assert record["betti"] == expected
                assert record["objects"] == len(there)
                assert record["absent"] == len(masks) - len(there)
                assert record["agreement"] == max(expected.values()) / len(there)
            never = statistics[connectivity][objects]["never"]["raw"]
            assert (never["objects"], never["agreement"], never["betti"]) == (0, None, {})


def test_preprocessed_labels_are_measured_where_they_differ_from_the_raw_ones(dataset):
    _, preprocessed = dataset
    # A preprocessed ring torn, a blob lost, as resampling may.
    folder = preprocessed / "nnUNetPlans_3d_fullres"
    for case, spoil in (("tiny_1", 1), ("tiny_2", 2)):
        data, segmentation, _, properties = nnUNetDatasetBlosc2(str(folder)).load_case(case)
        data, segmentation = np.asarray(data), np.asarray(segmentation).copy()
        half = segmentation[:, :, :, :11]
        half[half == spoil] = 0
        if spoil == 2:
            segmentation[segmentation == 2] = 0
        for file in folder.glob(f"{case}*"):
            file.unlink()
        blocks = dict.fromkeys(("chunks", "blocks", "chunks_seg", "blocks_seg"), data.shape)
        nnUNetDatasetBlosc2.save_case(data, segmentation, properties, str(folder / case), **blocks)
    assert plan() == 0
    volumes = TopologyJson.read(preprocessed / "topology.json").content["statistics"]["full"][
        "volumes"
    ]
    assert volumes["ring"]["3d_fullres"]["betti"] == {"1 1 0": 5, "1 0 0": 1}
    assert volumes["ring"]["3d_fullres"]["changed_by_resampling"] == pytest.approx(1 / 6)
    assert volumes["ring"]["raw"]["betti"] == {"1 1 0": 6}
    assert volumes["blob"]["3d_fullres"]["absent"] == 1
    assert volumes["blob"]["3d_fullres"]["changed_by_resampling"] == pytest.approx(1 / 6)
    assert volumes["ring"].keys() == {"raw", "3d_fullres"}
    slices = TopologyJson.read(preprocessed / "topology.json").content["statistics"]["full"][
        "slices"
    ]
    assert slices["ring"].keys() == {"raw", "2d"}
    assert slices["ring"]["2d"]["changed_by_resampling"] == 0


def test_slices_are_compared_where_they_were_before_cropping(dataset):
    raw, preprocessed = dataset
    # The images are cropped to their slices from the third on.
    for properties in (preprocessed / "nnUNetPlans_2d").glob("*.pkl"):
        content = pickle.loads(properties.read_bytes())
        assert content["bbox_used_for_cropping"][0][0] == 0
        content["bbox_used_for_cropping"][0][0] = 3
        properties.write_bytes(pickle.dumps(content))
    for file in (raw / "labelsTr").iterdir():
        label_map = sitk.GetArrayFromImage(sitk.ReadImage(file))
        sitk.WriteImage(sitk.GetImageFromArray(np.roll(label_map, 3, axis=0)), file)
    assert plan(configurations=("2d",)) == 0
    slices = TopologyJson.read(preprocessed / "topology.json").content["statistics"]["full"][
        "slices"
    ]
    assert slices["ring"]["2d"]["changed_by_resampling"] == 0


def test_the_table_and_the_priors_are_printed(dataset, capsys):
    assert plan(configurations=("3d_fullres",)) == 0
    printed = capsys.readouterr().out
    assert "Dataset901_TinyRings: labels of 6 cases" in printed
    assert "foreground: union of ring, blob, never" in printed
    assert "volumes, connectivity full (foreground 26 / 8): components, loops or handles" in printed
    assert "slices, connectivity face (foreground 6 / 4): components, loops\n" in printed
    rows = [line.split() for line in printed.splitlines()]
    assert [
        "ring",
        "raw",
        "6",
        "0",
        "0",
        "prior",
        "(1,",
        "1,",
        "0)",
        "(1,",
        "1,",
        "0)",
        "100.0%",
    ] in rows
    assert ["never", "raw", "0", "6", "0", "prior", "none", "-"] in rows
    assert "changed by resampling 0.0%  " in printed
    assert "warning: ring, volumes, full: the prior comes from only 6 volumes" in printed
    assert "warning: never, volumes, full: never there" in printed
    assert f"written: {dataset[1] / 'topology.json'}" in printed


def test_a_trainer_reads_what_is_written(dataset):
    assert plan() == 0
    file = dataset[1] / "topology.json"
    names = {"background": 0, "ring": 1, "blob": 2, "never": 3}
    channels = Channels.of_manager(LabelManager(names, None))
    priors = TopologyJson.read(file).priors(channels, space=3, connectivity="full")
    assert priors.channels[0] == BettiPrior.of((1, 1, 0))
    assert priors.channels[1] == BettiPrior.of((1, 0, 0))
    assert 2 not in priors.channels
    assert not TopologyJson.read(file).is_edited


def test_without_preprocessed_labels_it_says_so_and_measures_the_raw_ones(dataset, capsys):
    _, preprocessed = dataset
    shutil.rmtree(preprocessed / "nnUNetPlans_3d_fullres")
    assert plan() == 0
    printed = capsys.readouterr().out
    assert "note: 3d_fullres: no preprocessed labels in" in printed
    assert "nnUNetv2_preprocess -d 901 -plans_name nnUNetPlans -c 3d_fullres makes them" in printed
    volumes = TopologyJson.read(preprocessed / "topology.json").content["statistics"]["full"][
        "volumes"
    ]
    assert volumes["ring"].keys() == {"raw"}


def test_unreadable_labels_are_named_and_counted_and_do_not_stop_the_rest(dataset, capsys):
    raw, preprocessed = dataset
    (raw / "labelsTr/tiny_1.nii.gz").write_text("no image")
    (raw / "labelsTr/tiny_2.nii.gz").unlink()
    cut = raw / "labelsTr/tiny_3.nii.gz"
    cut.write_bytes(cut.read_bytes()[:200])
    (preprocessed / "nnUNetPlans_2d/tiny_4_seg.b2nd").write_bytes(b"")
    assert plan(configurations=("2d",)) == 1
    out, err = capsys.readouterr()
    content = TopologyJson.read(preprocessed / "topology.json").content
    assert content["statistics"]["cases"] == 3
    assert content["statistics"]["unreadable"] == ["tiny_1", "tiny_2", "tiny_3"]
    assert "warning: 3 cases could not be read or counted: tiny_1, tiny_2, tiny_3" in out
    assert "4 problems:" in err
    for case in ("tiny_1", "tiny_2", "tiny_3"):
        assert f"{case}: not measured, the labels cannot be read: " in err
    assert "tiny_4: not measured, the preprocessed labels (2d) cannot be read: " in err
    slices = content["statistics"]["full"]["slices"]["ring"]
    # Those of tiny_1 to tiny_3 have been preprocessed before.
    assert slices["2d"]["objects"] > slices["raw"]["objects"]


def test_an_image_in_place_of_a_label_map_does_not_count(dataset, capsys):
    raw, preprocessed = dataset
    image = np.random.default_rng(0).integers(-1000, 1000, (22, 26, 30)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(image), raw / "labelsTr/tiny_1.nii.gz")
    assert plan(configurations=("2d",)) == 1
    assert "tiny_1.nii.gz holds 19" in (told := capsys.readouterr().err)
    assert "an image instead of a segmentation?" in told
    content = TopologyJson.read(preprocessed / "topology.json").content
    assert content["statistics"]["unreadable"] == ["tiny_1"]
    assert content["priors"]["full"]["volumes"]["ring"] == [1, 1, 0]


def test_a_case_that_was_preprocessed_and_has_no_labels_any_more_is_named(dataset, capsys):
    raw, preprocessed = dataset
    (raw / "labelsTr/tiny_5.nii.gz").unlink()
    (raw / "imagesTr/tiny_5_0000.nii.gz").unlink()
    (preprocessed / "gt_segmentations/tiny_5.nii.gz").unlink()
    assert plan(configurations=("2d",)) == 1
    told = capsys.readouterr().err
    assert "tiny_5: not measured, the labels cannot be read: only preprocessed labels exist" in told


@pytest.mark.parametrize("kept", [0, 1])
def test_labels_count_without_their_images(dataset, kept, capsys):
    """Images are often removed after preprocessing, to save space."""
    raw, preprocessed = dataset
    assert plan(configurations=("2d",)) == 0
    expected = TopologyJson.read(preprocessed / "topology.json").content
    (preprocessed / "topology.json").unlink()
    for image in sorted((raw / "imagesTr").iterdir())[kept:]:
        image.unlink()
    (raw / "labelsTr/tiny_3.nii.gz").unlink()  # that nnU-Net has copied
    assert plan(configurations=("2d",)) == 0
    assert TopologyJson.read(preprocessed / "topology.json").content == expected
    capsys.readouterr()
    shutil.rmtree(raw / "labelsTr")
    shutil.rmtree(preprocessed / "gt_segmentations")
    assert plan("--overwrite", configurations=("2d",)) == 2
    assert "no labels of Dataset901_TinyRings: looked for files" in capsys.readouterr().err


@pytest.mark.parametrize(
    "listed",
    [
        ["tiny_0"],
        {"tiny_0": {"images": ["imagesTr/tiny_0_0000.nii.gz"]}},
        {"tiny_0": {"images": "imagesTr/tiny_0_0000.nii.gz", "label": "labelsTr/tiny_0.nii.gz"}},
        {"tiny_0": ["imagesTr/tiny_0_0000.nii.gz", "labelsTr/tiny_0.nii.gz"]},
    ],
)
def test_a_list_of_cases_that_is_none_is_named(dataset, listed, capsys):
    file = dataset[1] / "dataset.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"dataset": listed}))
    assert plan(configurations=("2d",)) == 2
    told = capsys.readouterr().err
    assert f"{file}: dataset " in told
    assert "must be" in told
    assert "traceback" not in told


def test_where_nothing_can_be_read_nothing_is_written(dataset, capsys):
    raw, preprocessed = dataset
    for file in (raw / "labelsTr").iterdir():
        file.write_text("no image")
    assert plan(configurations=("2d",)) == 2
    assert "no label could be read" in capsys.readouterr().err
    assert not (preprocessed / "topology.json").exists()


def test_an_interrupted_plan_writes_nothing(dataset, capsys, monkeypatch):
    def interrupted(case):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "count_case", interrupted)
    assert plan() == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err
    assert not list(dataset[1].glob("topology.json*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-d", "999"), "Could not find a dataset with the ID 999"),
        (("-d", "901", "-p", "Other"), "no plans .*Other.json; there are: nnUNetPlans"),
        (("-d", "901", "-c", "3d_tiny"), "nnUNetPlans has no 3d_tiny; there are: 2d, 3d_fullres"),
        (("-d", "901", "--update", "--overwrite"), "give one"),
    ],
)
def test_a_data_set_that_cannot_be_planned_is_reported(dataset, capsys, arguments, message):
    assert main(["plan", *arguments]) == 2
    told = capsys.readouterr().err
    assert re.search(message, told), told
    assert not (dataset[1] / "topology.json").exists()


def test_plans_that_nnunet_does_not_accept_are_named(dataset, capsys):
    file = dataset[1] / "nnUNetPlans.json"
    content = json.loads(file.read_text())
    del content["configurations"]["3d_fullres"]["architecture"]
    file.write_text(json.dumps(content))
    assert plan() == 2
    told = capsys.readouterr().err
    assert f"nnU-Net does not accept 3d_fullres of {file}: KeyError: 'UNet_class_name'" in told


@pytest.mark.slow
def test_several_processes_give_the_same(dataset):
    texts = []
    for processes in ("1", "2"):
        assert plan("-np", processes) == 0
        texts.append((dataset[1] / "topology.json").read_text())
    assert texts[0] == texts[1]


def test_listed_volumes_of_tiff_with_spacing_files_and_nested_regions(
    tmp_path, monkeypatch, capsys
):
    name = "Dataset908_Listed"
    raw, base = tmp_path / "raw" / name, tmp_path / "preprocessed" / name
    for variable, folder in (("raw", raw), ("preprocessed", base)):
        folder.mkdir(parents=True)
        monkeypatch.setenv(f"nnUNet_{variable}", str(folder.parent))
    elsewhere, shape, centre = tmp_path / "of a colleague", (11, 13, 15), (5, 6, 7)
    elsewhere.mkdir()
    listed = {}
    for case in range(4):
        label_map = np.zeros(shape, np.uint8)
        for label, radius in ((1, 5), (2, 4), (3, 2)):
            label_map[ball(shape, centre, radius)] = label
        if case == 2:
            label_map[0, 0, 0] = 1  # at a corner of the image
        file = elsewhere / f"knee.{case} (left).tif"
        Tiff3DIO().write_seg(label_map, str(file), {"spacing": [2, 0.5, 0.5]})
        label = str(file) if case else "$ELSEWHERE/" + file.name
        listed[file.stem] = {"images": [str(file)], "label": label}
    monkeypatch.setenv("ELSEWHERE", str(elsewhere))
    description = {
        "channel_names": {"0": "noNorm"},
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "seed": [3]},
        "regions_class_order": [1, 2, 3],
        "numTraining": 4,
        "file_ending": ".tif",
        "dataset": listed,
    }
    content = plans((16, 16, 16)) | {"image_reader_writer": "Tiff3DIO", "dataset_name": name}
    (base / "nnUNetPlans.json").write_text(json.dumps(content))
    (base / "dataset.json").write_text(json.dumps(description))
    assert main(["plan", "-d", "908", "-np", "1"]) == 0
    found = TopologyJson.read(base / "topology.json").content
    assert found["priors"]["full"]["volumes"] == {
        "whole": "none",
        "core": [1, 0, 0],
        "seed": [1, 0, 0],
    }
    differing = found["statistics"]["differing"]["full"]["volumes"]
    assert differing == {"whole": {"2 0 0": ["knee.2 (left)"]}}
    assert found["statistics"]["full"]["volumes"]["whole"]["raw"]["at_border"] == 4
    told = capsys.readouterr().out.splitlines()
    contradicts = "no prior, because a fixed (1, 0, 0) would contradict 1 of 4 volumes"
    (place,) = [n for n, line in enumerate(told) if f"whole, volumes, full: {contradicts}" in line]
    assert told[place + 1] == "    (2, 0, 0): knee.2 (left)"
    assert "    (2, 0): knee.2 (left) in slice 0" in told
