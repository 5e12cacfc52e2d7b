"""Priors, options and images are checked before anything is predicted."""

import json
import shutil
from dataclasses import asdict

import pytest
import torch

from nnunet_topo.refinement.trained_model import TrainedModel
from nnunet_topo.topology import betti_numbers
from nnunet_topo.training.checkpoints import Origin

from ..model_folder import DATASET, plans, ring
from .folders import HEADER, PATCH, Folders


def test_the_priors_are_those_of_the_model_unless_others_are_named(folders):
    folders.put("gap", ring(0.3))
    shutil.move(folders.topology(ring=[1, 1]), folders.model / "topology.json")
    assert folders.refine() == 0
    assert folders.case("gap")["topology"][0]["wanted"] == ["1", "1"]
    shutil.rmtree(folders.out)
    assert folders.refine("--prior", folders.topology(ring=[1, [0, None]])) == 0
    assert folders.case("gap")["topology"][0]["wanted"] == ["1", ""]
    assert folders.case("gap")["status"] == "kept"


@pytest.mark.parametrize("prior", ["none", [None, None]])
def test_where_no_label_has_a_prior_it_is_said_before_anything_is_predicted(
    folders, capsys, monkeypatch, prior
):
    folders.put("gap", ring(0.3))
    monkeypatch.setattr(TrainedModel, "predict", lambda *_: pytest.fail("something was predicted"))
    file = folders.topology(ring=prior)
    assert folders.refine("--prior", file) == 2
    told = capsys.readouterr().err
    assert f"no label has a prior: in {file} every prior of slices at full" in told
    assert 'priors > full > slices > "ring": [1, 0], or give --per-case-priors' in told
    assert not folders.out.exists()


def test_the_priors_in_a_checkpoint_are_found(folders, capsys):
    folders.put("gap", ring(0.3))
    assert folders.refine() == 2
    printed = capsys.readouterr().err
    assert f"nnunet-topo plan -d {DATASET}" in printed
    assert not folders.out.exists()
    file = folders.model / "fold_0/checkpoint_final.pth"
    prior = {"0": [1, [1, None]], "loss": {"form": "published"}}
    origin = Origin("nnUNetTrainerBettiPrior_face", {"face": True}, {}, prior)
    content = torch.load(file, weights_only=False) | {"nnunet_topo": asdict(origin)}
    torch.save(content, file)
    assert folders.refine() == 0
    assert folders.record()["settings"]["connectivity"] == "face"
    assert folders.record()["settings"]["form"] == "published form of eq. 3"
    assert folders.case("gap")["topology"][0]["wanted"] == ["1", "1-"]
    assert betti_numbers(folders.written("gap")[0], connectivity="face") == (1, 1)


def test_the_form_of_the_loss_is_that_of_the_priors_unless_another_is_named(folders, capsys):
    folders.put("gap", ring(0.3))
    file = folders.topology(ring=[1, 1])
    loss = {"form": "published", "dimension_weights": {"slices": [1, 2]}}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"loss": loss}))
    assert folders.refine("--prior", file) == 0
    assert folders.case("gap")["status"] == "refined"
    told = "published form of eq. 3, dimensions weighted 1.0, 2.0"
    assert folders.record()["settings"]["form"] == told
    assert folders.refine("--prior", file, "--form", "quadratic") == 2
    told = "was written with other settings (form: published form of eq. 3, dimensions weighted"
    assert told in capsys.readouterr().err
    shutil.rmtree(folders.out)
    named = ("--form", "quadratic", "--dimension-weights", "3", "0.5")
    assert folders.refine("--prior", file, *named) == 0
    told = "quadratic form of eq. 3, dimensions weighted 3.0, 0.5"
    assert folders.record()["settings"]["form"] == told


def test_weights_of_another_number_of_dimensions_are_refused_before_anything(folders, capsys):
    folders.put("gap", ring(0.3))
    file = folders.topology(ring=[1, 1])
    assert folders.refine("--prior", file, "--dimension-weights", "1", "1", "1") == 2
    told = "--dimension-weights: wanted 2 numbers from 0, got [1.0, 1.0, 1.0]"
    assert told in capsys.readouterr().err
    assert not folders.out.exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("case,label,betti0\ngap,ring,1", "line 1: wanted the columns case, label, betti0, betti1"),
        (f"{HEADER}\ngap,ring,1,1\ngap,blood,1,1", "line 3, column label: wanted one of ring"),
        (
            f"{HEADER}\ngap,{'x' * 140_000},1,1",
            "line 2: not a CSV file, field larger than field limit",
        ),
        (f"{HEADER}\ngap,ring,one,1", "line 2, column betti0: wanted a number from 0"),
        (f"{HEADER}\ngap,ring,1,2-1", "line 2, column betti1: wanted a number from 0"),
        (f"{HEADER}\ngap,ring,0,1", "line 2, column betti0: without a component"),
        (f"{HEADER}\ngap,ring,1,1\ngap,1,1,0", "line 3: case gap, label 1 appears twice"),
        (f"{HEADER}\ngap,ring,1", "line 2: wanted 4 columns"),
        (f"{HEADER},slice\ngap,ring,1,1,first", "line 2, column slice: wanted a number"),
        (f"{HEADER}\nother,ring,1,1", "names cases that are not in"),
        (HEADER, "got only the header"),
        ("", "wanted the columns"),
    ],
)
def test_a_wrong_csv_is_named_by_line_and_column(folders, capsys, text, told):
    folders.put("gap", ring(0.3))
    folders.csv.write_text(text)
    assert folders.refine() == 2
    assert told in capsys.readouterr().err
    assert not folders.out.exists()


def test_a_csv_of_a_spreadsheet_is_read(folders):
    folders.put("gap", ring(0.3))
    folders.csv.write_bytes(
        f"\ufeff{HEADER};slice\r\ngap;ring;1;1-;\r\n".replace(",", ";").encode()
    )
    assert folders.refine() == 0
    assert folders.case("gap")["topology"][0]["wanted"] == ["1", "1-"]


def test_a_missing_fold_is_named_with_those_that_exist(folders, capsys):
    folders.put("gap", ring(0.3))
    folders.priors("gap,ring,1,1")
    assert folders.refine("-f", 0, 3) == 2
    assert "checkpoint_final.pth of fold 3; it holds that of fold 0" in capsys.readouterr().err
    assert folders.refine("-chk", "checkpoint_best.pth") == 2
    assert "no checkpoint_best.pth of any fold; it holds none" in capsys.readouterr().err


def test_a_model_of_another_architecture_is_named(tmp_path, capsys):
    folders = Folders(tmp_path, folds=("0", "1"))
    folders.put("gap", ring(0.3))
    folders.priors("gap,ring,1,1")
    other = Folders(tmp_path / "other", configurations=plans(PATCH, features=6)["configurations"])
    shutil.copy(other.model / "fold_0/checkpoint_final.pth", folders.model / "fold_1")
    assert folders.refine() == 2
    assert "fold 1 of" in (printed := capsys.readouterr().err)
    assert "holds another network than its plans describe" in printed
    file = folders.model / "fold_0/checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    torch.save(content | {"trainer_name": "nnUNetTrainerOfSomebody"}, file)
    assert folders.refine("-f", 0) == 2
    assert "nnUNetTrainerOfSomebody" in capsys.readouterr().err
    assert not folders.out.exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--weight", "0"), "--weight: wanted a number above 0"),
        (("--steps", "0"), "--steps: wanted at least 1"),
        (("--closing", "0"), "--closing: wanted at least 1 voxel"),
        (("--closing", "2", "--largest-component"), "wanted one of the two"),
        (("--closing", "2", "--save_probabilities"), "change only segmentations"),
    ],
)
def test_options_are_checked(folders, capsys, options, told):
    folders.put("gap", ring(0.3))
    assert folders.refine(*options) == 2
    assert told in capsys.readouterr().err


def test_images_that_are_missing_are_named(tmp_path, capsys):
    folders = Folders(tmp_path, channels=2)
    folders.put("whole", ring(0.9), ring(0.9))
    folders.put("half", ring(0.9))
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 1
    assert (
        "the model takes 2 channels for each case, got 1: half_0000.nii.gz"
        in capsys.readouterr().out
    )
    assert folders.case("whole")["status"] == "kept"
    shutil.rmtree(folders.images)
    folders.images.mkdir()
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 2
    assert "holds no image named as case_0000.nii.gz" in capsys.readouterr().err
