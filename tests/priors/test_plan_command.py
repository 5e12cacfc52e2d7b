"""`nnunet-topo plan`, and what it counts."""

import json
import pickle
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from gudhi import CubicalComplex
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_topo.cli import main
from nnunet_topo.priors import fingerprint
from nnunet_topo.priors.fingerprint import (
    LabelledData,
    default_unions,
    take_fingerprint,
)
from nnunet_topo.priors.plan_words import describe, warn
from nnunet_topo.priors.topology_json import (
    channel_labels,
    channel_names,
    is_edited,
    read_priors,
    read_topology,
)
from nnunet_topo.topology import betti_numbers
from nnunet_topo.topology.betti_range import BettiPrior

from ..model_folder import plans
from ..shapes import ball, corner_neighbours, ring, shell

NAME = "Dataset901_TinyRings"
LABELLED = ("ring", "blob", "never")


@pytest.fixture
def dataset(tiny_dataset, nnunet_folders, tmp_path, monkeypatch):
    """Returns raw and preprocessed folder of a copy of the data set, without topology.json."""
    folders = []
    for kind in ("raw", "preprocessed"):
        folders.append(tmp_path / kind / NAME)
        source = Path(nnunet_folders[f"nnUNet_{kind}"]) / NAME
        shutil.copytree(source, folders[-1], ignore=shutil.ignore_patterns("topology.json*"))
        monkeypatch.setenv(f"nnUNet_{kind}", str(tmp_path / kind))
    monkeypatch.setattr("nnunet_topo.priors.training_labels._DRAWS", 12)
    return tuple(folders)


def plan(*more, configurations=("3d_fullres", "2d")):
    arguments = ["plan", "-d", "901", "-np", "1", *more]
    return main([*arguments, "-c", *configurations] if configurations else arguments)


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
    statistics = read_topology(preprocessed / "topology.json")["statistics"]
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
    volumes = read_topology(preprocessed / "topology.json")["statistics"]["full"]["volumes"]
    assert volumes["ring"]["3d_fullres"]["betti"] == {"1 1 0": 5, "1 0 0": 1}
    assert volumes["ring"]["3d_fullres"]["changed_by_resampling"] == pytest.approx(1 / 6)
    assert volumes["ring"]["raw"]["betti"] == {"1 1 0": 6}
    assert volumes["blob"]["3d_fullres"]["absent"] == 1
    assert volumes["blob"]["3d_fullres"]["changed_by_resampling"] == pytest.approx(1 / 6)
    assert volumes["ring"].keys() == {"raw", "3d_fullres"}
    slices = read_topology(preprocessed / "topology.json")["statistics"]["full"]["slices"]
    assert slices["ring"].keys() == {"raw", "2d"}
    assert slices["ring"]["2d"]["changed_by_resampling"] == 0
    for record in (volumes["ring"]["3d_fullres"], slices["ring"]["2d"]):
        assert 0 <= record["changed_by_augmentation"] <= 1
    assert volumes["never"]["3d_fullres"]["changed_by_augmentation"] is None


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
    slices = read_topology(preprocessed / "topology.json")["statistics"]["full"]["slices"]
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
    assert "changed by resampling 0.0%, by augmentation" in printed
    assert "warning: ring, volumes, full: a prior from 6 volumes alone" in printed
    assert "warning: never, volumes, full: never there" in printed
    assert f"written: {dataset[1] / 'topology.json'}" in printed


def test_what_is_written_a_trainer_reads(dataset):
    assert plan() == 0
    file = dataset[1] / "topology.json"
    labels = LabelManager({"background": 0, "ring": 1, "blob": 2, "never": 3}, None)
    priors = read_priors(file, labels, space=3, connectivity="full")
    assert priors.channels[0] == BettiPrior.of((1, 1, 0))
    assert priors.channels[1] == BettiPrior.of((1, 0, 0))
    assert 2 not in priors.channels
    assert not is_edited(read_topology(file))


def test_without_preprocessed_labels_it_says_so_and_measures_the_raw_ones(dataset, capsys):
    _, preprocessed = dataset
    shutil.rmtree(preprocessed / "nnUNetPlans_3d_fullres")
    assert plan() == 0
    printed = capsys.readouterr().out
    assert "note: 3d_fullres: no preprocessed labels in" in printed
    assert "nnUNetv2_preprocess -d 901 -plans_name nnUNetPlans -c 3d_fullres makes them" in printed
    volumes = read_topology(preprocessed / "topology.json")["statistics"]["full"]["volumes"]
    assert volumes["ring"].keys() == {"raw"}


def edit(file):
    """Gives a topology.json a range, a union and its prior, by hand."""
    text = file.read_text()
    edited = text.replace('"ring": [1, 1, 0]', '"ring": [[1, 2], 1, 0], "rn": [1, 1, null]', 1)
    edited = edited.replace('"unions": {', '"unions": {\n    "rn": ["ring", "never"],', 1)
    assert edited.count("rn") == 2
    file.write_text(edited)
    return file.read_bytes()


def test_the_decision_about_rotation_and_scaling_follows_from_the_labels_of_all_cases(dataset):
    assert plan() == 0
    content = read_topology(dataset[1] / "topology.json")
    for connectivity in ("full", "face"):
        decisions = content["rotation_and_scaling"][connectivity]
        assert decisions.keys() == {"3d_fullres", "2d"}
        for configuration, objects in (("3d_fullres", "volumes"), ("2d", "slices")):
            decision = decisions[configuration]
            records = content["statistics"][connectivity][objects]
            shares = {n: records[n][configuration]["changed_by_augmentation"] for n in LABELLED}
            assert decision["changed"] == shares
            assert decision["used"] == all((share or 0) <= 0.05 for share in shares.values())


def test_a_file_that_was_not_edited_is_replaced(dataset):
    file = dataset[1] / "topology.json"
    assert plan(configurations=("2d",)) == 0
    before = file.read_text()
    assert plan() == 0
    assert file.read_text() != before
    assert "3d_fullres" not in before
    assert not list(file.parent.glob("topology.json.*"))


def test_an_update_keeps_a_decision_that_was_edited(dataset, capsys):
    assert plan() == 0
    file = dataset[1] / "topology.json"
    content = read_topology(file)
    decision = content["rotation_and_scaling"]["full"]["3d_fullres"]
    opposite = not decision["used"]
    decision["used"] = opposite
    file.write_text(json.dumps(content))
    assert plan() == 2
    assert plan("--update") == 0
    again = read_topology(file)["rotation_and_scaling"]
    assert again["full"]["3d_fullres"]["used"] == opposite
    assert is_edited(read_topology(file))
    decision["used"] = "no"
    file.write_text(json.dumps(content))
    assert plan("--update") == 2
    place = "topology.json: rotation_and_scaling > full > 3d_fullres: wanted"
    assert f'{place} {{"used": true}} or {{"used": false}}, got' in capsys.readouterr().err


@pytest.mark.parametrize("edited", ["priors", "no JSON", "of someone else"])
def test_an_edited_file_stays_and_the_ways_out_are_named(dataset, capsys, edited):
    file = dataset[1] / "topology.json"
    assert plan(configurations=("2d",)) == 0
    if edited == "priors":
        before = edit(file)
    else:
        before = b"[1," if edited == "no JSON" else b'{"priors": {}}'
        file.write_bytes(before)
    capsys.readouterr()
    assert plan(configurations=("2d",)) == 2
    assert file.read_bytes() == before
    told = capsys.readouterr().err
    assert f"{file} was edited, and stays as it is. --update keeps" in told
    assert "--overwrite writes all anew" in told
    assert plan("--overwrite", configurations=("2d",)) == 0
    assert not is_edited(read_topology(file))
    kept = file.with_name("topology.json.bak")
    assert kept.read_bytes() == before
    assert f"the former file is kept as {kept}" in capsys.readouterr().out


def test_each_overwritten_file_is_kept(dataset):
    file = dataset[1] / "topology.json"
    for content in (b"1", b"2", b"3"):
        file.write_bytes(content)
        assert plan("--overwrite", configurations=("2d",)) == 0
    kept = [file.with_name(f"topology.json.bak{number}") for number in ("", 1, 2)]
    assert [f.read_bytes() for f in kept] == [b"1", b"2", b"3"]


def test_an_update_keeps_priors_and_unions_measures_them_and_is_still_an_edit(dataset, capsys):
    file = dataset[1] / "topology.json"
    assert plan(configurations=("2d",)) == 0
    edit(file)
    assert plan("--update") == 0
    content = read_topology(file)
    volumes = content["priors"]["full"]["volumes"]
    assert volumes["ring"] == [[1, 2], 1, 0]
    assert volumes["rn"] == [1, 1, None]
    assert volumes["blob"] == [1, 0, 0]
    assert content["priors"]["face"]["volumes"]["rn"] == [1, 1, 0]  # measured: it has none
    assert content["unions"]["rn"] == ["ring", "never"]
    assert content["statistics"]["full"]["volumes"]["rn"]["3d_fullres"]["betti"] == {"1 1 0": 6}
    assert "rn: union of ring, never" in capsys.readouterr().out
    before = file.read_bytes()
    assert plan() == 2
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            '{"priors": {"face": {"slices": {"ring": [1, 1, 0]}}}}',
            "priors > face > slices > ring: wanted 2 numbers",
        ),
        ('{"unions": {"u": ["ring", "vessel"]}}', "unions > u: wanted one of ring, blob, never"),
        ('{"priors": {"face": 1}}', "priors > face: wanted an object"),
        ('{"priors": 1}', "priors: wanted an object"),
        ("{", "wanted a JSON file"),
    ],
)
def test_an_update_of_a_wrong_file_names_the_place_before_it_measures(
    dataset, capsys, monkeypatch, written, message
):
    file = dataset[1] / "topology.json"
    file.write_text(written)
    monkeypatch.setattr(fingerprint, "_measure", None)
    assert plan("--update") == 2
    assert message in capsys.readouterr().err
    assert file.read_text() == written


def test_an_update_adds_what_a_file_lacks(dataset):
    file = dataset[1] / "topology.json"
    file.write_text('{"priors": {"face": {"volumes": {"blob": [2, 0, 0]}}}}')
    assert plan("--update", configurations=("2d",)) == 0
    priors = read_topology(file)["priors"]
    assert priors["face"]["volumes"]["blob"] == [2, 0, 0]
    assert priors["face"]["volumes"]["ring"] == [1, 1, 0]
    assert "foreground" in priors["face"]["volumes"]
    assert priors["full"]["slices"]["blob"] == [1, 0]


def test_a_file_that_is_edited_meanwhile_stays(dataset, capsys, monkeypatch):
    file = dataset[1] / "topology.json"
    measure = fingerprint._measure

    def while_someone_writes(case):
        file.write_text("mine")
        return measure(case)

    monkeypatch.setattr(fingerprint, "_measure", while_someone_writes)
    assert plan(configurations=("2d",)) == 2
    assert file.read_text() == "mine"
    assert "was changed while the labels were measured" in capsys.readouterr().err


def test_unreadable_labels_are_named_and_counted_and_do_not_stop_the_rest(dataset, capsys):
    raw, preprocessed = dataset
    (raw / "labelsTr/tiny_1.nii.gz").write_text("no image")
    (raw / "labelsTr/tiny_2.nii.gz").unlink()
    cut = raw / "labelsTr/tiny_3.nii.gz"
    cut.write_bytes(cut.read_bytes()[:200])
    (preprocessed / "nnUNetPlans_2d/tiny_4_seg.b2nd").write_bytes(b"")
    assert plan(configurations=("2d",)) == 1
    out, err = capsys.readouterr()
    content = read_topology(preprocessed / "topology.json")
    assert content["statistics"]["cases"] == 3
    assert content["statistics"]["unreadable"] == ["tiny_1", "tiny_2", "tiny_3"]
    assert "warning: 3 cases could not be read and did not count: tiny_1, tiny_2, tiny_3" in out
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
    content = read_topology(preprocessed / "topology.json")
    assert content["statistics"]["unreadable"] == ["tiny_1"]
    assert content["priors"]["full"]["volumes"]["ring"] == [1, 1, 0]


def test_a_case_that_was_preprocessed_and_has_no_labels_any_more_is_named(dataset, capsys):
    raw, _ = dataset
    (raw / "labelsTr/tiny_5.nii.gz").unlink()
    (raw / "imagesTr/tiny_5_0000.nii.gz").unlink()
    assert plan(configurations=("2d",)) == 1
    told = capsys.readouterr().err
    assert "tiny_5: not measured, the labels cannot be read: there are preprocessed ones" in told


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

    monkeypatch.setattr(fingerprint, "_measure", interrupted)
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
def test_what_cannot_be_planned_is_told(dataset, capsys, arguments, message):
    assert main(["plan", *arguments]) == 2
    told = capsys.readouterr().err
    assert re.search(message, told), told
    assert not (dataset[1] / "topology.json").exists()


@pytest.mark.slow
def test_several_processes_give_the_same(dataset):
    texts = []
    for processes in ("1", "2"):
        assert plan("-np", processes) == 0
        texts.append((dataset[1] / "topology.json").read_text())
    assert texts[0] == texts[1]


# -- what is counted ---------------------------------------------------------------------------


class Labels:
    """Label files, and the data set that they make."""

    def __init__(self, folder, **labels):
        self.folder, self.files = folder, {}
        order = list(range(1, len(labels) + 1)) if any(map(np.ndim, labels.values())) else None
        self.manager = LabelManager({"background": 0, **labels}, order)

    def put(self, label_map, dtype=np.uint8):
        name = f"case_{len(self.files)}"
        self.files[name] = self.folder / f"{name}.nii.gz"
        sitk.WriteImage(sitk.GetImageFromArray(label_map.astype(dtype)), self.files[name])

    def measure(self, unions=None, *, transpose=(0, 1, 2)):
        data = LabelledData(
            "Dataset905_Made", self.files, SimpleITKIO(), transpose, self.manager, True, {}, {}
        )
        chosen = default_unions(self.manager) if unions is None else unions
        return take_fingerprint(data, unions=chosen)


@pytest.fixture
def organ(tmp_path):
    return Labels(tmp_path, organ=1)


def raw(taken, name, connectivity="full", objects="volumes"):
    return taken.content["statistics"][connectivity][objects][name]["raw"]


def priors(taken, connectivity="full", objects="volumes"):
    return taken.content["priors"][connectivity][objects]


@pytest.mark.parametrize(("wrong", "prior"), [(1, [1, 0, 0]), (2, "none")])
def test_95_percent_of_the_labels_must_agree(organ, wrong, prior):
    for case in range(20):
        label_map = ball((9, 11, 13), (4, 5, 5), 3)
        label_map[1, 1, 11] = case < wrong
        organ.put(label_map)
    taken = organ.measure()
    assert priors(taken)["organ"] == prior
    assert raw(taken, "organ")["agreement"] == 1 - wrong / 20
    assert raw(taken, "organ")["betti"] == {"1 0 0": 20 - wrong, "2 0 0": wrong}


def test_absent_labels_do_not_count_and_are_counted(organ):
    organ.put(ball((9, 11, 13), (4, 5, 5), 3))
    organ.put(np.zeros((9, 11, 13)))
    taken = organ.measure()
    assert priors(taken)["organ"] == [1, 0, 0]
    assert (raw(taken, "organ")["objects"], raw(taken, "organ")["absent"]) == (1, 1)
    slices = raw(taken, "organ", objects="slices")
    assert (slices["objects"], slices["absent"]) == (7, 11)


def test_cases_and_slices_with_other_betti_numbers_than_most_are_listed(organ):
    shape, centre = (11, 13, 15), (5, 6, 7)
    for _ in range(8):
        organ.put(ball(shape, centre, 4))
    organ.put(shell())
    organ.put(shell())
    differing = organ.measure().content["statistics"]["differing"]["full"]
    assert differing["volumes"] == {"organ": {"1 0 1": ["case_8", "case_9"]}}
    hollow = [z for z, slice_ in enumerate(shell()) if betti_numbers(slice_)[1]]
    assert hollow == list(range(hollow[0], hollow[-1] + 1))
    told = f"{hollow[0]}-{hollow[-1]}"
    assert differing["slices"] == {"organ": {"1 1": {"case_8": told, "case_9": told}}}


def test_where_hardly_any_labels_agree_none_is_listed(organ):
    shape, centre = (11, 13, 15), (5, 6, 7)
    for mask in (ball(shape, centre, 4), shell(), ring(shape, 4.0, 1.2)):
        organ.put(mask)
    assert organ.measure().content["statistics"]["differing"]["full"]["volumes"] == {}


def test_both_connectivities_are_measured(organ):
    organ.put(corner_neighbours(3))
    taken = organ.measure()
    assert priors(taken, "full")["organ"] == [1, 0, 0]
    assert priors(taken, "face")["organ"] == [2, 0, 0]
    lines = warn(taken.content)
    assert (
        "organ, volumes: the prior depends on the connectivity, full (1, 0, 0) and face (2, 0, 0)"
        in lines
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [0, -1])
def test_objects_at_the_border_are_counted(organ, axis, side):
    label_map = ball((9, 11, 13), (4, 5, 6), 2)
    organ.put(label_map)
    label_map.swapaxes(0, axis)[side, 4, 4] = True
    organ.put(label_map)
    assert raw(organ.measure(), "organ")["at_border"] == 1
    # The first and the last slice are no border in a slice.
    expected = 0 if axis == 0 else 1
    assert raw(organ.measure(), "organ", objects="slices")["at_border"] == expected


def test_slices_are_those_in_which_nnunet_trains(organ):
    organ.put(ring((13, 17, 19), 5.0, 1.0))
    in_plane = raw(organ.measure(), "organ", objects="slices")["betti"]
    across = raw(organ.measure(transpose=(2, 0, 1)), "organ", objects="slices")["betti"]
    assert "1 1" in in_plane
    assert "1 1" not in across
    assert "2 0" in across


def test_regions_overlap_and_one_that_is_everything_needs_no_union(tmp_path):
    regions = Labels(tmp_path, whole=[1, 2], core=[2])
    label_map = shell((11, 13, 15), 4).astype(int)
    label_map[ball((11, 13, 15), (5, 6, 7), 2)] = 2
    regions.put(label_map)
    taken = regions.measure()
    assert priors(taken) == {"whole": [1, 0, 0], "core": [1, 0, 0]}
    assert taken.content["unions"] == {}


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
    found = read_topology(base / "topology.json")
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


def test_unions_of_classes_are_measured_as_one(tmp_path):
    classes = Labels(tmp_path, rim=1, core=2, foreground=3)
    label_map = shell((11, 13, 15), 4).astype(int)
    label_map[ball((11, 13, 15), (5, 6, 7), 2)] = 2
    classes.put(label_map)
    assert default_unions(classes.manager) == {"all foreground": ["rim", "core", "foreground"]}
    found = priors(classes.measure())
    assert found["rim"] == [1, 0, 1]
    assert found["all foreground"] == [1, 0, 0]
    own = priors(classes.measure({"two": ["core", "foreground"]}))
    assert own.keys() == {"rim", "core", "foreground", "two"}
    assert own["two"] == [1, 0, 0]


def test_labels_beside_ignored_voxels_do_not_count(tmp_path):
    scribbles = Labels(tmp_path, organ=1, ignore=2)
    for case in range(2):
        label_map = ball((9, 11, 13), (4, 5, 5), 2).astype(int)
        label_map[:, :, 11:] = 2
        if case:
            label_map[4, 5, 10] = 1
        scribbles.put(label_map)
    taken = scribbles.measure()
    record = raw(taken, "organ")
    assert (record["objects"], record["beside_ignored"], record["absent"]) == (1, 1, 0)
    assert record["betti"] == {"1 0 0": 1}
    assert any(
        "1 that touch ignored voxels are not known to be whole" in w for w in warn(taken.content)
    )


def test_labels_stored_as_float_are_read_and_unknown_values_told(organ):
    organ.put(ball((9, 11, 13), (4, 5, 5), 3), np.float64)
    organ.put(ball((9, 11, 13), (4, 5, 5), 3) + 6 * ball((9, 11, 13), (4, 5, 5), 1))
    organ.put(255 * ball((9, 11, 13), (4, 5, 5), 3))
    organ.put(0.5 * ball((9, 11, 13), (4, 5, 5), 3), np.float32)
    organ.put(np.where(ball((9, 11, 13), (4, 5, 5), 3), 1, np.nan), np.float32)
    taken = organ.measure()
    assert raw(taken, "organ")["objects"] == 2
    told = [trouble.partition(":")[2] for trouble in taken.troubles]
    assert (
        told[0]
        == " the label file holds 7, not among the labels (0, 1); such voxels count as background"
    )
    assert "case_2.nii.gz holds 255 but no label that is wanted (1): a binary mask" in told[1]
    assert "case_3.nii.gz holds 0.5, between 0 and 1: probabilities" in told[2]
    assert "case_4.nii.gz is not a label map: it holds NaN" in told[3]


def test_labels_written_as_text_have_names_and_a_background_alone_is_refused(tmp_path):
    written = LabelManager({"background": "0", "organ": "12", "vessel": "1"}, None)
    assert channel_names(written) == ("vessel", "organ")
    nothing = Labels(tmp_path)
    nothing.put(ball((9, 11, 13), (4, 5, 5), 3))
    with pytest.raises(ValueError, match="names nothing beside the background"):
        nothing.measure()


def test_names_are_in_the_order_of_the_channels_whatever_the_order_of_the_file():
    shuffled = LabelManager({"c": 3, "background": 0, "a": 1, "ignore": 4, "b": [2]}, None)
    assert channel_names(shuffled) == ("a", "b", "c")
    assert channel_labels(shuffled) == ((1,), (2,), (3,))
    regions = LabelManager({"core": [2, 3], "background": 0, "whole": [1, 2, 3]}, [1, 2])
    assert channel_names(regions) == ("core", "whole")
    assert channel_labels(regions) == ((2, 3), (1, 2, 3))


# -- in words ----------------------------------------------------------------------------------


def described(prior, betti, **more):
    """Returns a topology.json with one label, the same in volumes at both connectivities."""
    number = sum(betti.values())
    record = {"objects": number, "absent": 0, "at_border": 0, "betti": betti} | more
    fill = {"changed_by_resampling": 0.07, "changed_by_augmentation": 0.02}
    sections = {"volumes": {"organ": {"raw": record, "3d_lowres": record | fill}}}
    of_prior = {"volumes": {"organ": prior}}
    return {
        "dataset": "x",
        "unions": {},
        "priors": {"full": of_prior, "face": of_prior},
        "statistics": {"cases": number, "unreadable": [], "full": sections, "face": sections},
    }


def test_contradictions_are_counted():
    warned = warn(described([1, 0, 0], {"1 0 0": 192, "2 0 0": 5, "1 1 0": 3}))
    told = "8 of 200 volumes contradict the prior (1, 0, 0) of nnUNetTrainerBettiPrior"
    assert f"organ, volumes, full: {told}" in warned
    warned = warn(described("none", {"1 0 0": 170, "2 0 0": 30}))
    told = "no prior, because a fixed (1, 0, 0) would contradict 30 of 200 volumes"
    assert f"organ, volumes, full: {told}; nnUNetTrainerBettiPrior has none for it" in warned
    assert f"organ, volumes, face: {told}; nnUNetTrainerBettiPrior_face has none for it" in warned


def test_a_prior_edited_to_a_range_contradicts_less():
    betti = {"1 0 0": 150, "2 0 0": 45, "1 1 0": 5}
    warned = warn(described([[1, None], 0, None], betti))
    assert (
        "organ, volumes, full: 5 of 200 volumes contradict the prior (1 or more, 0, free) of "
        "nnUNetTrainerBettiPrior" in warned
    )
    assert not any("only" in line for line in warned)
    warned = warn(described([1, 0, 0], betti))
    assert (
        "organ, volumes, full: only 150 of 200 preprocessed volumes of 3d_lowres have the prior "
        "(1, 0, 0)" in warned
    )


def test_damage_above_five_percent_is_warned_of():
    warned = warn(described([1, 0, 0], {"1 0 0": 100}))
    assert (
        "organ, volumes, full: resampling to 3d_lowres changes the Betti numbers of 7.0%" in warned
    )
    assert not any("rotation" in line for line in warned)


def test_augmentation_that_damages_labels_is_told_once_for_each_configuration():
    content = described([1, 0, 0], {"1 0 0": 100})
    changed = {"rim": 0.051, "core": 0.05, "vessel": 0.4, "never": None}
    decision = {"used": False, "changed": changed}
    content["rotation_and_scaling"] = {c: {"3d_lowres": decision} for c in ("full", "face")}
    told = [line for line in warn(content) if "rotation" in line]
    assert told == [
        f"3d_lowres, {connectivity}: rotation and scaling change the Betti numbers of rim in 5.1%, "
        f"vessel in 40.0%, so nnUNetTrainerWasserstein{suffix} and all other trainers with a "
        "topology term leave rotation and scaling out, and their control is "
        "nnUNetTrainerStock_nospatial"
        for connectivity, suffix in (("full", ""), ("face", "_face"))
    ]
    decision["used"] = True  # by hand
    assert not any("rotation" in line for line in warn(content))


def test_what_changes_a_training_most_is_told_first():
    content = described("none", {"1 0 0": 90, "2 0 0": 10}, at_border=3)
    for connectivity in ("full", "face"):
        of = content["statistics"][connectivity]
        raw = of["volumes"]["organ"]["raw"]
        slices = {"organ": {"raw": raw | {"betti": {"1 0": 90, "2 0": 10}}}}
        content["statistics"][connectivity] = {"slices": slices, "volumes": of["volumes"]}
        content["priors"][connectivity] = {
            "volumes": {"organ": "none"},
            "slices": {"organ": [1, 0]},
        }
    decision = {"used": False, "changed": {"organ": 0.2}}
    content["rotation_and_scaling"] = {c: {"3d_lowres": decision} for c in ("full", "face")}
    heads = [line.partition(": ")[0] for line in warn(content)]
    assert heads[:2] == ["3d_lowres, full", "organ, volumes, full"]
    assert [head.split(", ")[1:] for head in dict.fromkeys(heads)] == [
        ["full"],
        ["volumes", "full"],
        ["slices", "full"],
        ["face"],
        ["volumes", "face"],
        ["slices", "face"],
    ]


def test_cases_that_contradict_are_named_a_few_on_the_screen_and_all_in_the_file():
    content = described("none", {"1 0 0": 100, "2 0 0": 2, "1 1 0": 98})
    many = [f"case_{n:03d}" for n in range(98)]
    of_organ = {"2 0 0": ["case_a", "case_b"], "1 1 0": many}
    content["statistics"]["differing"] = {"full": {"volumes": {"organ": of_organ}}}
    (told,) = [line for line in warn(content) if line.startswith("organ, volumes, full: no prior")]
    assert told.splitlines()[1:] == [
        "    (2, 0, 0): case_a, case_b",
        "    (1, 1, 0): case_000, case_001, case_002, case_003, case_004 and 93 more, see "
        "topology.json",
    ]
    content["priors"]["full"]["volumes"] = {"organ": [1, [0, 1], 0]}
    (told,) = [line for line in warn(content) if "contradict the prior" in line and "full" in line]
    assert told.splitlines()[1:] == ["    (2, 0, 0): case_a, case_b"]


def test_objects_at_the_border_are_warned_of():
    warned = warn(described([1, 0, 0], {"1 0 0": 100}, at_border=3))
    assert "organ, volumes, full: cut by the border of the image in 3 of 100 volumes" in warned


def test_long_distributions_are_cut_and_the_rest_counted():
    betti = {f"{n} 0 0": 30 - n for n in range(1, 7)}
    (line,) = [line for line in describe(described("none", betti))[:5] if " raw " in line]
    assert "(1, 0, 0) 18.2%, (2, 0, 0) 17.6%, (3, 0, 0) 17.0%, 3 more" in line
