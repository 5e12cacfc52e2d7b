"""The counts in the labels of a data set, and the priors that follow from them."""

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_topo.dataset import Channels
from nnunet_topo.labels.declared import labels_of_manager
from nnunet_topo.priors.labelled_data import LabelledData
from nnunet_topo.priors.measure import take_fingerprint
from nnunet_topo.priors.plan_words import warn
from nnunet_topo.topology import betti_numbers

from ..shapes import ball, corner_neighbours, ring, shell


class Labels:
    """Label files, and the data set that they form."""

    def __init__(self, folder, **labels):
        self.folder, self.files = folder, {}
        order = list(range(1, len(labels) + 1)) if any(map(np.ndim, labels.values())) else None
        self.manager = LabelManager({"background": 0, **labels}, order)
        self.channels = Channels.of_manager(self.manager)

    def put(self, label_map, dtype=np.uint8):
        name = f"case_{len(self.files)}"
        self.files[name] = self.folder / f"{name}.nii.gz"
        sitk.WriteImage(sitk.GetImageFromArray(label_map.astype(dtype)), self.files[name])

    def measure(self, unions=None, *, transpose=(0, 1, 2)):
        data = LabelledData(
            name="Dataset905_Made",
            files=self.files,
            reader=SimpleITKIO(),
            transpose=transpose,
            channels=self.channels,
            labels=labels_of_manager(self.manager),
            has_volumes=True,
            preprocessed={},
            missing={},
        )
        chosen = self.channels.default_unions() if unions is None else unions
        return take_fingerprint(data, unions=chosen)


@pytest.fixture
def organ(tmp_path):
    return Labels(tmp_path, organ=1)


def raw(taken, name, connectivity="full", objects="volumes"):
    return taken.to_json()["statistics"][connectivity][objects][name]["raw"]


def priors(taken, connectivity="full", objects="volumes"):
    return taken.to_json()["priors"][connectivity][objects]


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
    differing = organ.measure().to_json()["statistics"]["differing"]["full"]
    assert differing["volumes"] == {"organ": {"1 0 1": ["case_8", "case_9"]}}
    hollow = [z for z, slice_ in enumerate(shell()) if betti_numbers(slice_)[1]]
    assert hollow == list(range(hollow[0], hollow[-1] + 1))
    told = f"{hollow[0]}-{hollow[-1]}"
    assert differing["slices"] == {"organ": {"1 1": {"case_8": told, "case_9": told}}}


def test_where_hardly_any_labels_agree_none_is_listed(organ):
    shape, centre = (11, 13, 15), (5, 6, 7)
    for mask in (ball(shape, centre, 4), shell(), ring(shape, 4.0, 1.2)):
        organ.put(mask)
    assert organ.measure().to_json()["statistics"]["differing"]["full"]["volumes"] == {}


def test_both_connectivities_are_measured(organ):
    organ.put(corner_neighbours(3))
    taken = organ.measure()
    assert priors(taken, "full")["organ"] == [1, 0, 0]
    assert priors(taken, "face")["organ"] == [2, 0, 0]
    lines = warn(taken, taken.to_json())
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
    assert taken.to_json()["unions"] == {}


def test_unions_of_classes_are_measured_as_one(tmp_path):
    classes = Labels(tmp_path, rim=1, core=2, foreground=3)
    label_map = shell((11, 13, 15), 4).astype(int)
    label_map[ball((11, 13, 15), (5, 6, 7), 2)] = 2
    classes.put(label_map)
    assert classes.channels.default_unions() == {"all foreground": ["rim", "core", "foreground"]}
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
        "1 that touch ignored voxels may not be whole" in w for w in warn(taken, taken.to_json())
    )


def test_labels_stored_as_float_are_read_and_unknown_values_told(organ):
    organ.put(ball((9, 11, 13), (4, 5, 5), 3), np.float64)
    organ.put(ball((9, 11, 13), (4, 5, 5), 3) + 6 * ball((9, 11, 13), (4, 5, 5), 1))
    organ.put(255 * ball((9, 11, 13), (4, 5, 5), 3))
    organ.put(0.5 * ball((9, 11, 13), (4, 5, 5), 3), np.float32)
    organ.put(np.where(ball((9, 11, 13), (4, 5, 5), 3), 1, np.nan), np.float32)
    taken = organ.measure()
    assert raw(taken, "organ")["objects"] == 2
    told = [problem.partition(":")[2] for problem in taken.problems]
    assert (
        told[0]
        == " the label file holds 7, not among the labels (0, 1); such voxels count as background"
    )
    assert "case_2.nii.gz holds 255 but none of the wanted labels (1): a binary mask" in told[1]
    assert "case_3.nii.gz holds 0.5, between 0 and 1: probabilities" in told[2]
    assert "case_4.nii.gz is not a label map: it holds NaN" in told[3]


def test_labels_written_as_text_have_names_and_a_background_alone_is_refused(tmp_path):
    written = LabelManager({"background": "0", "organ": "12", "vessel": "1"}, None)
    assert Channels.of_manager(written).names == ("vessel", "organ")
    nothing = Labels(tmp_path)
    nothing.put(ball((9, 11, 13), (4, 5, 5), 3))
    with pytest.raises(ValueError, match="has no label besides the background"):
        nothing.measure()
