"""Whether a training with a topology term rotates and scales: one decision for all folds."""

import json
import shutil
from pathlib import Path

import pytest
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

from nnunet_topo.cli import main
from nnunet_topo.priors import training_labels
from nnunet_topo.priors.decisions import check_decisions, decide, recorded_decision
from nnunet_topo.priors.topology_json import is_edited, read_topology, signed, write_topology
from nnunet_topo.training import augmentation

NAME = "Dataset901_TinyRings"
TAFL = "nnUNetTrainerTAFL_2epochs_3iters"


@pytest.fixture
def folder(tiny_dataset, nnunet_folders, tmp_path, monkeypatch):
    """Returns the preprocessed folder of a copy of the data set, without topology.json."""
    source = Path(nnunet_folders["nnUNet_preprocessed"]) / NAME
    shutil.copytree(source, tmp_path / NAME, ignore=shutil.ignore_patterns("topology.json*"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.setattr(training_labels, "_DRAWS", 12)
    training_labels.damage_by_augmentation.cache_clear()
    yield tmp_path / NAME
    training_labels.damage_by_augmentation.cache_clear()


@pytest.fixture
def spatial(make_trainer, folder):
    """Returns a function that says whether a trainer rotates and scales, and what it logs."""

    def begin(name=TAFL, fold=0):
        trainer = make_trainer(name, fold=fold)
        trainer.initialize()
        loader, _ = trainer.get_dataloaders()
        loader = getattr(loader, "data_loader", loader)
        (found,) = [t for t in loader.transforms.transforms if isinstance(t, SpatialTransform)]
        assert (found.p_rotation > 0) == (found.p_scaling > 0) == trainer._spatial
        log = Path(trainer.log_file).read_text()  # of all trainings of the same second
        log = log[log.rindex("do_dummy_2d_data_aug") :]
        assert ("compare with a control without them" in log) == (not trainer._spatial)
        return trainer._spatial, log

    return begin


def changed(log):
    """Returns what a log says of how often Betti numbers change."""
    return log.partition("change the Betti numbers of ")[2].partition(" of what")[0]


@pytest.mark.parametrize("tolerated", [-1.0, 1.0])
def test_all_folds_and_the_plan_decide_alike(spatial, folder, monkeypatch, tolerated):
    monkeypatch.setattr("nnunet_topo.priors.decisions.TOLERATED_DAMAGE", tolerated)
    measured = []

    def damage(labels, *rest):
        measured.append(labels.cases)
        return training_labels.damage_by_augmentation(labels, *rest)

    monkeypatch.setattr(augmentation, "damage_by_augmentation", damage)
    (first, log), (second, of_second) = spatial(fold=0), spatial(fold=3)
    assert first == second == (tolerated == 1)
    assert changed(log) == changed(of_second) != ""
    assert "it is measured how often" in log
    assert "it is measured how often" not in of_second
    assert measured == [tuple(f"tiny_{case}" for case in range(6))]  # all, and once
    content = read_topology(folder / "topology.json")
    decisions = content["rotation_and_scaling"]
    assert not is_edited(content)
    assert main(["plan", "-d", "901", "-np", "1", "-c", "3d_fullres"]) == 0
    planned = read_topology(folder / "topology.json")["rotation_and_scaling"]
    assert planned["full"]["3d_fullres"] == decisions["full"]["3d_fullres"]
    third, of_third = spatial(fold=2)
    assert (third, changed(of_third)) == (first, changed(log))


def test_a_decision_that_was_edited_is_respected(spatial, folder):
    spatial()
    file = folder / "topology.json"
    content = read_topology(file)
    decision = content["rotation_and_scaling"]["full"]["3d_fullres"]
    decision["used"] = not decision["used"]
    file.write_text(json.dumps(content))
    used, log = spatial(fold=1)
    assert used == decision["used"]
    assert "topology.json was edited, so both are" in log
    content["rotation_and_scaling"]["full"] = {"3d_fullres": not used}  # in short
    file.write_text(json.dumps(content))
    again, log = spatial(fold=1)
    assert again != used
    assert "topology: topology.json was edited, so rotation and scaling are" in log


def test_a_file_that_was_edited_and_has_no_decision_is_left_as_it_is(spatial, folder):
    file = folder / "topology.json"
    file.write_text(before := json.dumps({"priors": {}, "dataset": NAME}))
    (first, log), (second, of_second) = spatial(fold=0), spatial(fold=1)
    assert (first, changed(log)) == (second, changed(of_second))
    assert "was edited, so the decision is not written there" in log
    assert file.read_text() == before


def test_priors_and_decision_stand_in_one_file_whoever_begins(spatial, folder):
    used, _ = spatial()
    file = folder / "topology.json"
    assert "priors" not in read_topology(file)
    decisions = read_topology(file)["rotation_and_scaling"]
    assert spatial("nnUNetTrainerBettiPrior_2epochs_3iters", fold=1)[0] == used
    content = read_topology(file)
    assert content["rotation_and_scaling"] == decisions
    assert content["priors"]["full"]["volumes"]["ring"] == [1, 1, 0]
    assert not is_edited(content)
    del content["rotation_and_scaling"]
    write_topology(signed(content), file)
    spatial(fold=2)
    assert read_topology(file)["rotation_and_scaling"] == decisions
    assert read_topology(file)["priors"] == content["priors"]


def test_trainers_without_a_term_neither_make_nor_read_a_decision(spatial, folder):
    for name in ("nnUNetTrainerStock_2epochs_3iters", f"{TAFL}_weight0"):
        assert spatial(name)[0]
    assert not (folder / "topology.json").exists()


def test_where_the_file_cannot_be_written_folds_decide_alike(spatial, folder, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(augmentation, "write_topology", full)
    (first, log), (second, of_second) = spatial(fold=0), spatial(fold=1)
    assert (first, changed(log)) == (second, changed(of_second))
    assert "cannot be written: no space left on device" in log


def test_five_percent_are_tolerated_and_what_is_unknown_does_no_damage():
    assert decide(["a", "b"], [0.05, float("nan")]).used
    assert not decide(["a", "b"], [0.0, 0.0501]).used
    assert decide(["a"], [float("nan")]).changed == {"a": None}


@pytest.mark.parametrize(
    ("section", "place"),
    [
        ([], r"x: rotation_and_scaling: wanted an object"),
        ({"full": 1}, r"x: rotation_and_scaling > full: wanted an object"),
        ({"full": {"2d": {}}}, r"full > 2d: wanted .*, got \{\}"),
        ({"full": {"2d": 1}}, r"full > 2d: wanted .*, got 1"),
    ],
)
def test_what_is_no_decision_is_told_with_its_place(section, place):
    with pytest.raises(ValueError, match=place):
        check_decisions({"rotation_and_scaling": section}, "x")
    assert recorded_decision({}, "x", "2d", "full") is None
