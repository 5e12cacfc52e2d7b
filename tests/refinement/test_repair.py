"""Repairs, and that nothing else gets worse."""

import shutil

import numpy as np
import pytest
import torch
from scipy import ndimage

from nnunet_topo.refinement import trained_model
from nnunet_topo.refinement.descent import WeightsDescent
from nnunet_topo.topology import betti_numbers

from ..model_folder import blobs, read, ring
from .folders import HEADER, Folders


def test_a_gap_in_a_ring_is_closed(folders):
    folders.put("gap", ring(0.3))
    assert betti_numbers(read(folders.predicted() / "gap.nii.gz")[0]) == (1, 0)
    folders.priors("gap,ring,1,1")
    assert folders.refine() == 0
    assert betti_numbers(folders.written("gap")[0]) == (1, 1)
    case = folders.case("gap")
    assert case["status"] == "refined"
    (row,) = case["topology"]
    assert (row["before"], row["after"], row["wanted"]) == ([1, 0], [1, 1], ["1", "1"])
    assert (row["error_before"], row["error_after"]) == (1, 0)
    assert 0 < case["voxels_changed"] < 20
    assert 0 < case["steps"] < 100


def test_an_island_is_removed(folders):
    folders.put("island", blobs(0.9, 0.6))
    file = folders.topology(ring=[1, 0])
    assert folders.refine("--prior", file) == 0
    assert betti_numbers(folders.written("island")[0]) == (1, 0)
    assert folders.written("island")[0, 20:23, 4:7].sum() == 0
    assert folders.written("island")[0, 4:13, 5:14].all()


def test_an_absent_class_is_a_prior(folders):
    folders.put("faint", blobs(0.55))
    folders.priors("faint,ring,0,0")
    assert folders.refine() == 0
    assert folders.case("faint")["status"] == "refined"
    assert not folders.written("faint").any()


def test_each_case_may_have_another_topology(folders):
    folders.put("closed", ring(0.3))
    folders.put("open", ring(0.6))
    folders.priors("closed,ring,1,1", "open,1,1,0")
    assert folders.refine() == 0
    assert betti_numbers(folders.written("closed")[0]) == (1, 1)
    assert betti_numbers(folders.written("open")[0]) == (1, 0)


def test_every_case_begins_from_the_trained_weights(folders):
    folders.put("a_gap", ring(0.3))
    folders.put("b_gap", ring(0.3))
    folders.priors("a_gap,ring,1,1", "b_gap,ring,1,1")
    assert folders.refine() == 0
    np.testing.assert_array_equal(folders.written("a_gap"), folders.written("b_gap"))
    assert folders.case("a_gap")["steps"] == folders.case("b_gap")["steps"]


def test_topology_is_judged_where_it_is_written(tmp_path):
    folders = Folders(tmp_path)
    fine = np.kron(ring(0.3), np.ones((2, 2)))
    folders.put("fine", fine, spacing=(1.0, 0.5, 0.5))
    folders.priors("fine,ring,1,1")
    assert folders.refine() == 0
    assert folders.case("fine")["status"] == "refined"
    assert folders.written("fine").shape == (1, 60, 68)
    assert betti_numbers(folders.written("fine")[0]) == (1, 1)
    assert folders.case("fine")["topology"][0]["after"] == [1, 1]


def test_slices_of_a_2d_model_have_topologies_of_their_own(folders):
    folders.put("stack", np.stack([ring(0.3), ring(0.3), ring(0.9), ring(0.55)]))
    folders.priors("stack,ring,1,1,0", "stack,ring,1,0,3", header=f"{HEADER},slice")
    assert folders.refine() == 0
    after = [betti_numbers(slice_) for slice_ in folders.written("stack")]
    assert after == [(1, 1), (1, 0), (1, 1), (1, 0)]
    predicted = read(folders.predicted() / "stack.nii.gz")
    for untouched in (1, 2):
        np.testing.assert_array_equal(folders.written("stack")[untouched], predicted[untouched])
    assert [row["slice"] for row in folders.case("stack")["topology"]] == [0, 3]


def test_slices_with_nothing_in_them_need_no_prior(folders):
    folders.put("stack", np.stack([blobs(0.05), ring(0.3)]))
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 0
    rows = folders.case("stack")["topology"]
    assert [row["note"] for row in rows] == ["not in the prediction", ""]
    assert [row["after"] for row in rows] == [[0, 0], [1, 1]]


# In one window, as large as a batch, and in several.
@pytest.mark.parametrize("patch", [(8, 16, 16), (8, 12, 12)])
def test_a_volume_larger_than_a_patch_is_repaired_as_a_whole(tmp_path, patch):
    folders = Folders(tmp_path, patch=patch, mirrors=False)
    volume = np.full((12, 30, 34), 0.05)
    volume[4:7] = ring(0.3)
    folders.put("ring", volume)
    folders.priors("ring,ring,1,1,0", header=f"{HEADER},betti2")
    assert folders.refine() == 0
    assert betti_numbers(folders.written("ring")) == (1, 1, 0)
    case = folders.case("ring")
    assert case["topology"][0]["before"] == [1, 0, 0]
    assert case["voxels_changed"] < 60


def test_several_folds_are_refined_together(tmp_path):
    folders = Folders(tmp_path, folds=("0", "1"))
    folders.put("gap", ring(0.3))
    folders.put("right", ring(0.9))
    folders.priors("gap,ring,1,1", "right,ring,1,1")
    assert folders.refine() == 0
    assert folders.record()["settings"]["folds"] == ["0", "1"]
    assert folders.case("gap")["status"] == "refined"
    predicted = folders.predicted(folds=("0", "1"))
    assert (folders.out / "right.nii.gz").read_bytes() == (predicted / "right.nii.gz").read_bytes()


def test_regions_and_unions(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    folders = Folders(tmp_path, labels=labels, channels=2)
    core = np.full((30, 34), 0.05)
    core[14:17, 8] = 0.9
    folders.put("gap", ring(0.3), core)
    folders.priors("gap,whole,1,1", "gap,core,1,0")
    assert folders.refine() == 0
    assert betti_numbers(folders.written("gap")[0] > 0) == (1, 1)
    assert folders.case("gap")["status"] == "refined"


def test_a_union_of_classes_has_a_prior(tmp_path):
    labels = {"background": 0, "left": 1, "right": 2}
    folders = Folders(tmp_path, labels=labels, channels=2)
    broken, half = ring(0.3), np.indices((30, 34))[1] < 16
    folders.put("both", np.where(half, broken, 0.05), np.where(half, 0.05, broken))
    folders.priors("both,left+right,1,1")
    assert folders.refine() == 0
    assert betti_numbers(folders.written("both")[0] > 0) == (1, 1)
    assert folders.case("both")["topology"][0]["label"] == "left+right"
    shutil.rmtree(folders.out)
    folders.csv.unlink()
    file = folders.topology(unions={"ring": ["left", "right"]}, ring=[1, 1])
    assert folders.refine("--prior", file) == 0
    assert betti_numbers(folders.written("both")[0] > 0) == (1, 1)


def test_no_label_gets_worse_for_the_sake_of_another(tmp_path, monkeypatch):
    folders = Folders(tmp_path, labels={"background": 0, "left": 1, "right": 2}, channels=2)
    right = blobs(0.05)
    right[24:28, 24:28] = 0.9
    folders.put("both", blobs(0.9, 0.9, 0.9), right)
    folders.priors("both,left,1,0", "both,right,1,0")

    def two_islands_for_one(self, image, logits, *_):
        logits[1, 20:23] = -9  # both of the left label
        logits[2, 2, 30] = 9
        yield logits

    monkeypatch.setattr(WeightsDescent, "changed_logits", two_islands_for_one)
    assert folders.refine() == 0
    case = folders.case("both")
    assert (case["status"], case["voxels_changed"]) == ("kept", 0)
    assert [row["after"] for row in case["topology"]] == [[3, 0], [1, 0]]


def test_a_step_that_would_replace_the_object_is_refused(folders, monkeypatch):
    folders.put("gap", ring(0.3))
    folders.priors("gap,ring,1,1")

    def small_ring_elsewhere(self, image, logits, *_):
        changed = torch.full_like(logits, -9.0)
        changed[0] = 0
        changed[1, 1:4, 1:4] = 9
        changed[1, 2, 2] = -9
        yield changed

    monkeypatch.setattr(WeightsDescent, "changed_logits", small_ring_elsewhere)
    assert folders.refine() == 0
    assert folders.case("gap")["status"] == "kept"
    assert "more than half" in folders.case("gap")["topology"][0]["note"]


@pytest.mark.parametrize(("rows", "status"), [(26, "kept"), (40, "refined")])
def test_half_of_a_label_must_stay(tmp_path, monkeypatch, rows, status):
    """Of a bar of 100 rows and an island, 26 stay: Dice 0.41; or 40: Dice 0.57."""
    folders = Folders(tmp_path, patch=(128, 32))
    bar = np.full((120, 30), 0.05)
    bar[5:105, 5:10] = 0.9
    bar[112, 20] = 0.9
    folders.put("bar", bar)
    folders.priors("bar,ring,1,0")

    def shortened(self, image, logits, *_):
        changed = logits.clone()
        changed[1, 5 + rows :] = -9
        yield changed

    monkeypatch.setattr(WeightsDescent, "changed_logits", shortened)
    assert folders.refine() == 0
    assert folders.case("bar")["status"] == status


def test_of_equal_steps_the_smallest_change_is_kept(folders, monkeypatch):
    image = blobs(0.9, 0.9, 0.9, 0.9)
    folders.put("islands", image)
    folders.priors("islands,ring,1,0")

    def one_island_less_at_a_cost(self, image, logits, *_):
        for extra in (5, 3, 4):
            changed = logits.clone()
            changed[1, 20:23, 4:7] = -9
            changed[1, 13, 5 : 5 + extra] = 9
            yield changed

    monkeypatch.setattr(WeightsDescent, "changed_logits", one_island_less_at_a_cost)
    assert folders.refine() == 0
    assert folders.case("islands")["voxels_changed"] == 9 + 3


def test_a_case_that_cannot_be_repaired_stays_as_predicted(folders):
    image = blobs(0.9)
    image[4:13, 20:29] = 0.9
    folders.put("two", image)
    folders.priors("two,ring,1,0")
    assert folders.refine("--steps", 40) == 0
    predicted = folders.predicted() / "two.nii.gz"
    assert (folders.out / "two.nii.gz").read_bytes() == predicted.read_bytes()
    case = folders.case("two")
    assert (case["status"], case["voxels_changed"]) == ("kept", 0)
    assert case["topology"][0]["after"] == [2, 0]
    assert case["reason"] == "no step improved the topology"


def test_a_prior_that_contradicts_the_image_is_refused(folders, capsys):
    folders.put("disc", ring(0.9, inside=0.9))
    folders.priors("disc,ring,1,1")
    assert folders.refine() == 0
    predicted = folders.predicted() / "disc.nii.gz"
    assert (folders.out / "disc.nii.gz").read_bytes() == predicted.read_bytes()
    case = folders.case("disc")
    assert (case["status"], case["steps"]) == ("refused", 0)
    assert "the prediction shows no trace of what is wanted" in capsys.readouterr().out


def test_a_class_that_is_not_predicted_stays_so(tmp_path):
    folders = Folders(tmp_path, labels={"background": 0, "ring": 1, "never": 2})
    folders.put("gap", ring(0.3))
    assert folders.refine("--prior", folders.topology(ring=[1, 1], never=[1, 0])) == 0
    rows = {row["label"]: row for row in folders.case("gap")["topology"]}
    assert rows["never"]["note"] == "not in the prediction"
    assert rows["never"]["error_after"] is None
    assert rows["ring"]["after"] == [1, 1]
    assert set(np.unique(folders.written("gap"))) == {0, 1}


def island_of_another_label(self, image, logits, *_):
    """Gives the second component of label 1 to label 2, in one step."""
    second = ndimage.label(logits.argmax(0) == 1)[0] == 2
    logits[2, torch.from_numpy(second)] = 9
    yield logits


def test_a_class_without_a_prior_does_not_appear_either(tmp_path, monkeypatch):
    folders = Folders(tmp_path, labels={"background": 0, "ring": 1, "never": 2}, channels=2)
    folders.put("islands", blobs(0.9, 0.9), blobs(0.05))
    folders.priors("islands,ring,1,0")

    monkeypatch.setattr(WeightsDescent, "changed_logits", island_of_another_label)
    assert folders.refine() == 0
    case = folders.case("islands")
    assert (case["status"], case["voxels_changed"]) == ("kept", 0)
    assert set(np.unique(folders.written("islands"))) == {0, 1}


def test_a_label_of_another_slice_does_not_appear(tmp_path, monkeypatch):
    folders = Folders(tmp_path, labels={"background": 0, "ring": 1, "other": 2}, channels=2)
    island, elsewhere = blobs(0.9, 0.9), blobs(0.05)
    folders.put("stack", np.stack([elsewhere, island]), np.stack([blobs(0.9), elsewhere]))
    folders.priors("stack,ring,1,0,1", header=f"{HEADER},slice")

    monkeypatch.setattr(WeightsDescent, "changed_logits", island_of_another_label)
    assert folders.refine() == 0
    assert folders.case("stack")["status"] == "kept"
    assert [set(np.unique(s)) for s in folders.written("stack")] == [{0, 2}, {0, 1}]


@pytest.mark.parametrize(("right", "status"), [(3, "kept"), (5, "refined"), (7, "refined")])
def test_the_last_step_is_looked_at_wherever_the_descent_stops(
    tmp_path, monkeypatch, right, status
):
    """The logits of the case must be resampled: every fifth of the seven steps, and the last."""
    folders = Folders(tmp_path)
    folders.put("fine", np.kron(blobs(0.9, 0.9), np.ones((2, 2))), spacing=(1.0, 0.5, 0.5))
    folders.priors("fine,ring,1,0")

    def island_removed_in_one_step(self, image, logits, *_):
        for step in range(1, 8):
            changed = logits.clone()
            changed[1, 20:23, 4:7] = -9 if step == right else 9
            yield changed

    monkeypatch.setattr(WeightsDescent, "changed_logits", island_removed_in_one_step)
    assert folders.refine() == 0
    case = folders.case("fine")
    assert (case["status"], case["steps"]) == (status, 7 if right == 3 else right)


def test_a_compiled_network_is_refined(folders, monkeypatch):
    """As with nnUNet_compile=1, which nnU-Net's predictor obeys."""
    build = trained_model._build_predictor

    def compiled(*arguments):
        predictor = build(*arguments)
        predictor.network = torch.compile(predictor.network, backend="eager")
        return predictor

    folders.put("gap", ring(0.3))
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 0
    expected = folders.written("gap")
    monkeypatch.setattr(trained_model, "_build_predictor", compiled)
    shutil.rmtree(folders.out)
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 0
    np.testing.assert_array_equal(folders.written("gap"), expected)


def test_an_empty_prediction_is_reported(folders):
    folders.put("empty", blobs(0.05))
    folders.put("other", ring(0.9))
    folders.priors("empty,ring,1,1")
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 0
    assert folders.case("empty")["status"] == "refused"
    assert not folders.written("empty").any()
    folders.csv.unlink()
    shutil.rmtree(folders.out)
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 0
    assert folders.case("empty")["status"] == "kept"
    assert folders.case("empty")["reason"] == "no predicted label has a prior"
